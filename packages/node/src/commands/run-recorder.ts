/** The recording of a run: what is said of it, and what it means for our exit code. */

import { EXIT } from '../cli.ts';
import type { BraidError } from '../errors.ts';
import type { Machine } from '../machine.ts';
import type { MachineRecording } from '../replay/machine-recording.ts';
import type { RunFlags } from './flags.ts';
import { formatBytes, plural } from './quantities.ts';
import type { Ending } from './run.ts';
import { tell } from './say.ts';

export class RunRecorder {
  private readonly recording: MachineRecording;
  private failed = false;

  private constructor(recording: MachineRecording) {
    this.recording = recording;
    recording.ended.catch((error: BraidError) => {
      // At once, while there is something to be done about it. The run goes on.
      this.failed = true;
      tell(`${error.message}`);
    });
  }

  /** Records the machine from here on, if that is asked for. */
  static async of(
    machine: Machine,
    flags: RunFlags,
    image: string | undefined,
    command: readonly string[] | undefined,
  ): Promise<RunRecorder | undefined> {
    const { record, mark = [], keyframeMs } = flags;
    if (record === undefined) return undefined;
    const title = [...(image === undefined ? [] : [image]), ...(command ?? [])].join(' ') || 'braid run';
    const shows = command ? 'programs' : 'console';
    return new RunRecorder(
      await machine.record(record, { title, shows, marks: mark, ...(keyframeMs && { keyframeMs }) }),
    );
  }

  /** Ends the recording with the run. A run that was to be recorded and was not has not succeeded. */
  async end(ran: Ending): Promise<Ending> {
    try {
      const { path, steps, bytes } = await this.recording.stop(ran.reason);
      tell(`recorded ${plural(steps, 'step')} in ${path}, ${formatBytes(bytes)}`);
    } catch (error) {
      if (!this.failed) tell(`${(error as BraidError).message}`);
    }
    return this.failed && ran.code === 0 ? { reason: 'recording', code: EXIT.failed } : ran;
  }
}

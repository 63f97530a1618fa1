/** A machine's recording while somebody makes one. */

import type { Machine } from '@braid/core/machine/machine.ts';
import type { Mark } from '@braid/core/timeline/recording/info.ts';
import { BraidError } from '../errors.ts';
import type { Calls, HostState, RecordOptions } from '../pool/protocol.ts';
import { Recorder } from './recorder.ts';
import type { RunnerHost } from './thread.ts';

/** How a machine's state may be replaced from outside; `host`: by somebody who says what that was. */
type Replacement = Parameters<Recorder['replaced']>[0];

export class Recording {
  private readonly host: Pick<RunnerHost, 'report'>;
  /** Undefined while nobody records. */
  recorder: Recorder | undefined;

  constructor(host: Pick<RunnerHost, 'report'>) {
    this.host = host;
  }

  begin(machine: Machine, options: RecordOptions): undefined {
    if (this.recorder) throw new BraidError('ERR_BRAID_OPTION', 'the machine is being recorded already');
    this.recorder = new Recorder(machine, options, (item) => {
      // Captured blocks are nobody else's, and share arrays.
      const arrays =
        item.kind === 'disk' ? new Set(item.blocks.map(({ content }) => content.buffer as ArrayBuffer)) : [];
      this.host.report({ type: 'recorded', item }, [...arrays]);
    });
  }

  stop(why: string): undefined {
    this.recorder?.stop(why);
    this.recorder = undefined;
  }

  /** Names the moment for the recording; where it is. */
  nameMoment(name: string): bigint {
    if (!this.recorder) throw new BraidError('ERR_BRAID_OPTION', 'the machine is not being recorded');
    this.recorder.mark('host', name);
    return this.recorder.at;
  }

  /** Notes what has happened, for people. */
  mark(kind: Mark['kind'], name: string): void {
    this.recorder?.mark(kind, name);
  }

  /** Has `replace` change the machine's state, which no event says: the recording goes on from what comes of it, unless that is nothing. */
  across<T>(
    kind: Replacement,
    replace: () => T,
    { name = '', changed }: { readonly name?: string; readonly changed?: (result: T) => boolean } = {},
  ): T {
    this.recorder?.markConsole();
    this.recorder?.flush();
    const result = replace();
    if (changed?.(result) ?? true) this.recorder?.replaced(kind, name);
    return result;
  }
}

/** What a machine is called that is recorded. */
export function recordingInfo(
  { options, platform }: Machine,
  { console, time, disks, epoch }: HostState['setup'],
): Calls['recordingInfo'][1] {
  return {
    console,
    time,
    epoch,
    memory: options.memory,
    harts: options.harts,
    seed: options.seed,
    disks: platform.backends.map(({ size, readOnly }, n) => {
      const source = disks[n]!;
      return { size, readOnly, name: 'path' in source ? source.path : `disk ${n}` };
    }),
  };
}

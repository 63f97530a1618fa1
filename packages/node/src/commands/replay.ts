/** `braid replay`: a recording once more, with what its console said, and with its states compared with those that were recorded. */

import { once } from 'node:events';
import { constants } from 'node:os';
import type { BraidError } from '../errors.ts';
import { Replay } from '../replay/replay.ts';
import { destinationOf } from './destination.ts';
import { GuestOutput } from './guest-output.ts';
import { ProgressLine } from './progress-line.ts';
import { momentJson } from './recording-text.ts';
import { passed, progressText, resultText } from './replay-text.ts';
import { QueryFilter } from './terminal-queries.ts';

export interface ReplayFlags {
  readonly to?: string;
  readonly json?: boolean;
}

/** The replay is another run than the one that was recorded. */
const DIVERGED = 1;

export async function replay(path: string, flags: ReplayFlags): Promise<number> {
  using show = new Show(Boolean(flags.json));
  await using recorded = await Replay.open(path, { onConsole: show.output });
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  process.once('SIGINT', interrupt);
  const { signal } = interrupted;
  try {
    const to = flags.to === undefined ? recorded.end.at : await stepOf(recorded, flags.to, signal);
    await recorded.seek({ at: 0n }, { signal });
    const started = performance.now();
    const seconds = () => (performance.now() - started) / 1000;
    const { keyframes } = recorded.recording;
    const onProgress = (at: bigint) =>
      show.progress(() => progressText({ at, to, seconds: seconds(), ...passed(keyframes, at) }));
    await recorded.run({ to: { at: to }, show: true, signal, onProgress });
    const took = seconds();
    show.end();
    tell(recorded, took, flags.json);
    return 0;
  } catch (error) {
    show.end();
    if (signal.aborted) {
      process.stderr.write('braid: interrupted\n');
      return 128 + constants.signals.SIGINT;
    }
    const { code, message } = error as BraidError;
    if (code !== 'ERR_BRAID_DIVERGENCE') throw error;
    if (flags.json) process.stdout.write(`${JSON.stringify({ diverged: true, why: message })}\n`);
    else process.stderr.write(`braid: ${message}\n`);
    return DIVERGED;
  } finally {
    process.off('SIGINT', interrupt);
  }
}

/** The step of the moment that is asked for. */
async function stepOf(recorded: Replay, text: string, signal: AbortSignal): Promise<bigint> {
  const { marks, end } = recorded;
  const destination = destinationOf(text, marks, end.at);
  if ('at' in destination) return destination.at;
  await recorded.seek(destination, { signal });
  return recorded.at;
}

function tell(recorded: Replay, seconds: number, json: boolean | undefined): void {
  const { at, position, time, end } = recorded;
  // The end is no keyframe, and has been compared like one.
  const verified = recorded.verified + (at === end.at && end.hash !== undefined ? 1 : 0);
  const result = { at, position, time, seconds, verified };
  if (!json) {
    process.stderr.write(`braid: ${resultText(result)}\n`);
    return;
  }
  const speed = { hostSeconds: seconds, stepsPerSecond: seconds > 0 ? Number(at) / seconds : 0 };
  const ending = at === end.at ? { exit: end.exit, why: end.why } : {};
  const record = { diverged: false, ...momentJson(result), verified, ...speed, ...ending };
  process.stdout.write(`${JSON.stringify(record)}\n`);
}

/** What is seen while it goes on: the guest's output on stdout, how far it is on stderr, the one not in the other's way. */
class Show implements Disposable {
  private readonly silent: boolean;
  private readonly line = new ProgressLine(process.stderr);
  private readonly guest = new GuestOutput();
  private readonly queries = new QueryFilter();
  private readonly shared = Boolean(process.stdout.isTTY && process.stderr.isTTY);

  constructor(silent: boolean) {
    this.silent = silent;
  }

  /** Settles when there is room for more. */
  readonly output = async (bytes: Uint8Array): Promise<void> => {
    if (this.silent) return;
    if (this.shared) this.line.hide();
    const shown = process.stdout.isTTY ? this.queries.pass(bytes) : bytes;
    if (process.stdout.isTTY) this.guest.note(shown);
    if (!process.stdout.write(shown)) await once(process.stdout, 'drain');
  };

  progress(text: () => string): void {
    // Not in the middle of what the guest writes.
    if (!this.shared || this.guest.atLineStart) this.line.update(text);
  }

  /** The terminal is ours again. */
  end(): void {
    this.line.hide();
    if (process.stdout.isTTY) process.stdout.write(this.guest.undo);
  }

  [Symbol.dispose](): void {
    this.line.hide();
  }
}

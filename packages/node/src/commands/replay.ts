/** `braid replay`: a recording once more, with what its console said, and with its states compared with those that were recorded. */

import { once } from 'node:events';
import { constants } from 'node:os';
import type { BraidError } from '../errors.ts';
import type { ReplayOnlyReport } from '../pool/protocol.ts';
import { Replay } from '../replay/replay.ts';
import { destinationOf } from './destination.ts';
import { GuestOutput } from './guest-output.ts';
import { ProgressLine } from './progress-line.ts';
import { momentJson, stoppedText } from './recording-text.ts';
import { passed, progressText, replayOnlyJson, replayOnlyText, resultText } from './replay-text.ts';
import { messageText, note, printJson, tell } from './say.ts';
import { QueryFilter } from './terminal-queries.ts';

export interface ReplayFlags {
  readonly to?: string;
  readonly replayOnly?: readonly bigint[] | 'all';
  readonly console?: boolean;
  readonly json?: boolean;
}

/** The replay is another run than the one that was recorded. */
const DIVERGED = 1;
const CUT_OFF = 'the recording is cut off here: it was not ended, so what the machine did afterwards is not in it';

export async function replay(path: string, flags: ReplayFlags): Promise<number> {
  using show = new Show(Boolean(flags.json));
  await using recorded = await Replay.open(path, { onConsole: show.onConsole, onProgram: show.program });
  show.console = flags.console ?? recorded.info.shows === 'console';
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
    const extra: ReplayOnlyReport[] = [];
    const onReplayOnly = (run: ReplayOnlyReport) => {
      if (flags.json) extra.push(run);
      else show.replayOnly(run);
    };
    const { replayOnly } = flags;
    const only = replayOnly === undefined ? {} : { replayOnly, onReplayOnly };
    await recorded.run({ to: { at: to }, show: true, signal, onProgress, ...only });
    const took = seconds();
    show.end();
    tellResult(recorded, took, flags.json ? { replayOnly: extra.map(replayOnlyJson) } : undefined);
    return 0;
  } catch (error) {
    show.end();
    if (signal.aborted) {
      tell('interrupted');
      return 128 + constants.signals.SIGINT;
    }
    const { code, message } = error as BraidError;
    if (code !== 'ERR_BRAID_DIVERGENCE') throw error;
    if (flags.json) printJson({ diverged: true, why: message });
    else tell(`${message}`);
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

/** `more`: what else the JSON says; without it text is told. */
function tellResult(recorded: Replay, seconds: number, more: object | undefined): void {
  const { at, position, time, end } = recorded;
  // The end is no keyframe, and has been compared like one.
  const verified = recorded.verified + (at === end.at && end.hash !== undefined ? 1 : 0);
  const result = { at, position, time, seconds, verified };
  if (!more) {
    tell(`${resultText(result)}`);
    const { stopped } = recorded;
    if (at === end.at && stopped) tell(`the recording ends here: ${stoppedText(stopped)}`);
    else if (at === end.at && !recorded.complete) tell(CUT_OFF);
    return;
  }
  const speed = { hostSeconds: seconds, stepsPerSecond: seconds > 0 ? Number(at) / seconds : 0 };
  const ending =
    at === end.at ? { exit: end.exit, why: end.why, complete: recorded.complete, stopped: recorded.stopped } : {};
  const record = { diverged: false, ...momentJson(result), verified, ...speed, ...ending, ...more };
  printJson(record);
}

/** What is seen while it goes on: the guest's output on stdout, how far it is on stderr, the one not in the other's way. */
class Show implements Disposable {
  /** Whether the console is shown; programs that the host had started are, always. */
  console = true;
  private readonly silent: boolean;
  private readonly line = new ProgressLine(process.stderr);
  private readonly guest = new GuestOutput();
  private readonly queries = new QueryFilter();
  private readonly errorQueries = new QueryFilter();
  private readonly shared = Boolean(process.stdout.isTTY && process.stderr.isTTY);

  constructor(silent: boolean) {
    this.silent = silent;
  }

  /** Settles when there is room for more. */
  readonly onConsole = async (bytes: Uint8Array): Promise<void> => {
    if (this.console) await this.output(bytes);
  };

  private readonly output = async (bytes: Uint8Array): Promise<void> => {
    if (this.silent) return;
    if (this.shared) this.line.hide();
    const shown = process.stdout.isTTY ? this.queries.pass(bytes) : bytes;
    if (process.stdout.isTTY) this.guest.note(shown);
    if (!process.stdout.write(shown)) await once(process.stdout, 'drain');
  };

  /** What a program wrote that the host had started: as `run` shows it. */
  readonly program = (stream: 'stdout' | 'stderr', bytes: Uint8Array): void => {
    if (stream === 'stdout') void this.output(bytes);
    else if (!this.silent) {
      this.line.hide();
      const shown = process.stderr.isTTY ? this.errorQueries.pass(bytes) : bytes;
      if (process.stderr.isTTY) this.guest.note(shown);
      process.stderr.write(shown);
    }
  };

  /** What replay-only code wrote, with a line that says whose it is. */
  replayOnly(run: ReplayOnlyReport): void {
    this.line.hide();
    const before = this.shared && !this.guest.atLineStart ? '\n' : '';
    note(`${before}${messageText(replayOnlyText(run))}`);
    for (const { stream, bytes } of run.output) this.program(stream === 'stderr' ? 'stderr' : 'stdout', bytes);
  }

  progress(text: () => string): void {
    // Not in the middle of what the guest writes.
    if (!this.shared || this.guest.atLineStart) this.line.update(text);
  }

  /** The terminal is ours again. */
  end(): void {
    this.line.hide();
    const terminal = [process.stdout, process.stderr].find(({ isTTY }) => isTTY);
    terminal?.write(this.guest.undo);
  }

  [Symbol.dispose](): void {
    this.line.hide();
  }
}

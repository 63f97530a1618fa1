/**
 * A recording, as programs use it: a machine that can be brought to any moment of what was recorded, forwards and backwards.
 *
 * It runs in a thread of its own. A search of the past goes on in the other threads of its pool as well, each with a part of it.
 */

import type { Position } from '@braid/core/machine/log.ts';
import type { Point } from '@braid/core/timeline/points.ts';
import type { Refused } from '@braid/core/timeline/recording/errors.ts';
import type { Mark, RecordingEnd, RecordingInfo } from '@braid/core/timeline/recording/info.ts';
import type { Recording } from '@braid/core/timeline/recording/reader.ts';
import type { Interval, LastWrite, TimelineStop } from '@braid/core/timeline/timeline.ts';
import { checked } from '../check.ts';
import { BraidError } from '../errors.ts';
import type { GdbListener, GdbServeOptions } from '../gdb/listener.ts';
import { serveReplay } from '../gdb/serve.ts';
import { Machine } from '../machine.ts';
import type { DivertOptions } from '../options.ts';
import type { Sink } from '../output.ts';
import { Family } from '../pool/family.ts';
import type { Link, WaitOptions } from '../pool/link.ts';
import { Pool } from '../pool/pool.ts';
import type { ReplayAnswer, ReplayOnlyReport, ReplayOperation, Report, Standing, Target } from '../pool/protocol.ts';
import { History } from './history.ts';
import { type Hooked, type HookOptions, HookTable, type Place } from './hooked.ts';
import { type OpenedRecording, openRecording } from './recording-file.ts';
import { REPLAY_CALLS, STATIC_CALLS } from './replay-calls.ts';

export interface ReplayOptions {
  readonly pool?: Pool;
  /** Hears what the guest says while `run` goes on with `show`. */
  readonly onConsole?: Sink;
  /** Hears what programs of the guest's agent write, such as the command of `braid run`. */
  readonly onProgram?: (stream: 'stdout' | 'stderr', bytes: Uint8Array) => unknown;
}

export interface ReplayWait extends WaitOptions {
  /** Told now and then how far it is: steps since the recording began. */
  readonly onProgress?: (at: bigint) => void;
}

export interface ReplayRun extends ReplayWait {
  readonly points?: readonly Point[];
  readonly to?: Where;
  readonly show?: boolean;
  /** Replay-only code that is run, by its numbers, in diversions: see docs/replay-only.md. */
  readonly replayOnly?: readonly (bigint | number)[] | 'all';
  /** Told of each such run. */
  readonly onReplayOnly?: (run: ReplayOnlyReport) => void;
}

export interface ReplaySteps extends ReplayWait {
  readonly hart?: number;
  readonly count?: number | bigint;
}

export interface LastWriteOptions extends ReplayWait {
  readonly length?: number;
  readonly hart?: number;
  readonly physical?: boolean;
}

/** A moment: a mark, its name, or any `Target`. */
export type Where = Target | Mark | string;

export class Replay implements AsyncDisposable {
  readonly path: string;
  readonly info: RecordingInfo;
  readonly marks: readonly Mark[];
  readonly end: RecordingEnd;
  /** Whether the recording was ended, and not cut off. */
  readonly complete: boolean;
  /** The chunk with which it ends although the file goes on: it is damaged, or refused. What is before it is there. */
  readonly stopped: Refused | undefined;
  private readonly file: OpenedRecording;
  private readonly family: Family;
  private readonly link: Link;
  private readonly history: History;
  private readonly hooks: HookTable;
  private standing: Standing;
  private disposed = false;

  private constructor(path: string, file: OpenedRecording, family: Family, link: Link, standing: Standing) {
    const { info, marks, end, complete, stopped } = file.recording;
    this.path = path;
    this.file = file;
    this.info = info;
    this.marks = marks;
    this.end = end;
    this.complete = complete;
    this.stopped = stopped;
    this.family = family;
    family.joined();
    this.link = link;
    this.standing = standing;
    this.hooks = new HookTable(link);
    this.history = new History(path, family.pool, link);
  }

  /** Opens a recording; the replay stands at its beginning. Throws `BraidError`, with what is wrong with the file and where. */
  static async open(path: string, options: ReplayOptions = {}): Promise<Replay> {
    const file = openRecording(path);
    const pool = options.pool ?? new Pool();
    try {
      const link = pool.link();
      const { onConsole, onProgram } = options;
      link.console.to(onConsole ?? (() => {}), (error) => link.fault(error));
      link.on('overheard', (report) => {
        const { stream, bytes } = report as Extract<Report, { type: 'overheard' }>;
        return onProgram?.(stream, bytes);
      });
      const show = onConsole !== undefined || onProgram !== undefined;
      const standing = await link.call('openReplay', { path, show });
      return new Replay(path, file, new Family(pool, options.pool === undefined), link, standing);
    } catch (error) {
      file.close();
      if (!options.pool) await pool.dispose();
      throw error;
    }
  }

  /** What is in the file. */
  get recording(): Recording {
    return this.file.recording;
  }

  /** Steps since the recording began. */
  get at(): bigint {
    return this.standing.at;
  }

  get position(): Position {
    return this.standing.position;
  }

  /** Guest time since power-on, in ns. */
  get time(): bigint {
    return this.standing.time;
  }

  /** The hart that makes the next step, and where. */
  get next(): { readonly hart: number; readonly pc: bigint } {
    const { hart, pc } = this.standing;
    return { hart, pc };
  }

  /** Keyframes at which the state was found to be as recorded. */
  get verified(): number {
    return this.standing.verified;
  }

  /** Goes to a mark, the first of that name, a moment, a position or a guest time. */
  async seek(where: Where, wait?: ReplayWait): Promise<void> {
    await this.ask({ kind: 'seek', to: this.target(where) }, wait);
  }

  /** Runs on: to a point, to `to`, or to the end. `show`: output is heard. */
  async run(options: ReplayRun = {}): Promise<TimelineStop> {
    const { points = [], to, show = false, replayOnly, onReplayOnly, ...wait } = options;
    let end: bigint | undefined;
    if (to !== undefined) {
      const target = this.target(to);
      if (!('at' in target))
        throw new BraidError('ERR_BRAID_OPTION', 'run goes to a mark or a number of steps; seek goes to others');
      end = target.at;
    }
    const codes = typeof replayOnly === 'string' ? replayOnly : replayOnly?.map(BigInt);
    const stop = onReplayOnly && this.link.on('replay-only', (run) => onReplayOnly(run as ReplayOnlyReport));
    const failed = new AbortController();
    this.hooks.onFailure = () => failed.abort();
    const signal = wait.signal ? AbortSignal.any([wait.signal, failed.signal]) : failed.signal;
    const operation: ReplayOperation = {
      kind: 'run',
      points,
      show,
      ...(end === undefined ? {} : { to: end }),
      ...(codes === undefined ? {} : { replayOnly: codes }),
    };
    try {
      return await this.ask(operation, { ...wait, signal });
    } catch (error) {
      this.hooks.check();
      throw error;
    } finally {
      this.hooks.leave();
      stop?.();
    }
  }

  /**
   * Has a function called whenever `run` comes to a place: an address, a symbol (of `program`, else of the kernel), a system call, a mark of
   * the guest. The replay stands there until it is over; it may read the machine, and call functions of the guest in a diversion. What it
   * throws ends the run. The result takes the hook away.
   */
  on(
    place: Place,
    call: (at: Hooked) => void | Promise<void>,
    options: HookOptions = {},
  ): Promise<() => Promise<void>> {
    return this.hooks.add(place, call, options);
  }

  /** Runs back, to before the last time that a point was come to, or to the beginning. */
  async reverse(points: readonly Point[], wait: ReplayWait = {}): Promise<TimelineStop> {
    const { keyframes } = this.file.recording;
    const bounds = [...keyframes.map(({ at }) => at).filter((at) => at < this.at), this.at];
    const intervals: Interval[] = [];
    for (let n = bounds.length - 1; n > 0; n--) {
      if (bounds[n - 1]! < bounds[n]!) intervals.push({ from: bounds[n - 1]!, to: bounds[n]! });
    }
    const hit = await this.history.last(intervals, points, wait);
    await this.seek({ at: hit?.at ?? 0n }, wait);
    return hit ? { kind: 'hit', hit } : { kind: 'begin' };
  }

  /** Makes steps; of one hart, with `hart`. */
  step(options: ReplaySteps = {}): Promise<TimelineStop> {
    return this.steps('step', options);
  }

  /** Goes to before the last step, or that of a hart. */
  reverseStep(options: ReplaySteps = {}): Promise<TimelineStop> {
    return this.steps('reverse-step', options);
  }

  private steps(kind: 'step' | 'reverse-step', options: ReplaySteps): Promise<TimelineStop> {
    const { hart, count = 1n, ...wait } = options;
    return this.ask({ kind, count: BigInt(count), ...(hart === undefined ? {} : { hart }) }, wait);
  }

  /**
   * Who last wrote to bytes before here, at a virtual address as a hart (the one that is next) sees it now, or a guest-physical one. Goes
   * to before that write.
   */
  async lastWrite(address: bigint, options: LastWriteOptions = {}): Promise<LastWrite> {
    const { length = 1, hart = this.standing.hart, physical = false, ...wait } = options;
    const place = physical ? address : await this.link.call('physical', { hart, address });
    if (place === undefined)
      throw new BraidError('ERR_BRAID_OPTION', `hart ${hart} has no memory at 0x${address.toString(16)}`);
    const page = Number((place >> 12n) - (0x8000_0000n >> 12n));
    const { intervals, before } = await this.link.call('written', { page, at: this.at });
    const point: Point = { kind: 'write', address: place, length, physical: true };
    const here = this.at;
    const hit = await this.history.last(intervals, [point], wait);
    await this.seek({ at: hit?.at ?? here }, wait);
    return hit ? { kind: 'write', hit } : before;
  }

  /** A machine that is what the recorded one was here, and goes its own way from now on. Its disks hold what the recording has of them. */
  async divert(options: DivertOptions = {}): Promise<Machine> {
    return Machine.divert(this.family, this.link, options);
  }

  /** Lets gdb connect; until it leaves, nobody else moves the replay. See docs/gdb.md. */
  gdb(options?: GdbServeOptions): Promise<GdbListener> {
    return serveReplay({ replay: this, link: this.link }, options);
  }

  /** The hash of all that the recording has of the machine: equal in every replay. */
  stateHash(): Promise<string> {
    return this.link.call('stateHash', {});
  }

  private target(where: Where): Target {
    if (typeof where === 'object') return 'kind' in where ? { at: where.at } : where;
    const mark = this.marks.find(({ name, kind }) => name === where || (name === '' && kind === where));
    if (mark) return { at: mark.at };
    const known = [...new Set(this.marks.map(({ name, kind }) => name || kind))].slice(0, 10).join(', ');
    throw new BraidError('ERR_BRAID_OPTION', `the recording has no mark "${where}"; it has ${known || 'none'}`);
  }

  private async ask(operation: ReplayOperation, wait: ReplayWait = {}): Promise<TimelineStop> {
    if (this.hooks.active)
      throw new BraidError(
        'ERR_BRAID_OPTION',
        "a hook's function is called in the middle of a run: the replay stands there",
      );
    const answer = await askReplay(this.link, operation, wait);
    this.standing = answer.standing;
    return answer.stop;
  }

  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    await this.history.dispose();
    await this.link.dispose();
    this.file.close();
    await this.family.left();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

/** An operation of a replay in its thread. What a function of the caller's throws meanwhile ends it. */
async function askReplay(
  link: Link,
  operation: ReplayOperation,
  { onProgress, signal }: ReplayWait = {},
): Promise<ReplayAnswer> {
  const failed = new AbortController();
  const stops = [
    link.on('error', (error) => failed.abort(error)),
    ...(onProgress ? [link.on('progress', (report) => onProgress((report as { at: bigint }).at))] : []),
  ];
  try {
    const answer = await link.call('replay', operation, {
      signal: AbortSignal.any([failed.signal, ...(signal ? [signal] : [])]),
    });
    await link.console.drained();
    failed.signal.throwIfAborted();
    return answer;
  } finally {
    for (const stop of stops) stop();
  }
}

checked<typeof Replay>(Replay, STATIC_CALLS);
checked<Replay>(Replay.prototype, REPLAY_CALLS);

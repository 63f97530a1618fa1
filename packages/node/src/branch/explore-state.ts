/**
 * A machine's state as a search uses it: a fork point, which costs memory only. For a move a clone is made from it, and for
 * as long as somebody asks about the new state that clone stays.
 */

import type { BranchContext, Branched, Explored } from '@braid/core/branch/explore.ts';
import { unlessAborted } from '../abort.ts';
import { BraidError } from '../errors.ts';
import type { ForkPoint } from '../fork-point.ts';
import type { Machine } from '../machine.ts';

/** What is the same for all states of a search. */
export interface Setting<M, R> {
  /** Makes a move in a clone; gives what came of it, also when the clone did not live to its end. */
  make(clone: Machine, move: M, signal: AbortSignal): Promise<{ readonly result: R; readonly error?: unknown }>;
  /** Steps that a move may make. */
  readonly moveSteps: bigint;
  /** Steps that the machine may make in all. */
  readonly maxSteps: bigint;
}

/** How often a move is looked at that may have become too long. */
const WATCH_MS = 20;
/** What has ended with a machine: no failure of the move. */
const ENDS: ReadonlySet<string> = new Set(['ERR_BRAID_EXITED', 'ERR_BRAID_PANIC', 'ERR_BRAID_HALTED']);
/** More steps than any machine makes. */
export const NO_LIMIT: bigint = (1n << 63n) - 1n;

/** A move that failed, and what it had cost. */
export class MoveError extends BraidError {
  readonly steps: bigint;

  constructor(cause: unknown, steps: bigint, why?: string) {
    const { code, message } = cause as Partial<BraidError>;
    const own = typeof code === 'string' && code.startsWith('ERR_BRAID_') ? code : 'ERR_BRAID_MOVE';
    super(own, why ?? message ?? String(cause), { cause });
    this.name = 'MoveError';
    this.steps = steps;
  }
}

export class MachineState<M, R> implements Explored<M, MachineState<M, R>> {
  /** What came of the move that led here. */
  readonly result: R | undefined;
  private readonly setting: Setting<M, R>;
  /** Nothing where a move was cut off: nobody looks at that. */
  private readonly point: ForkPoint | undefined;
  /** Steps that the machine has made up to here. */
  private readonly at: bigint;
  private live: Promise<Machine> | undefined;

  constructor(setting: Setting<M, R>, point: ForkPoint | undefined, at: bigint, result?: R, live?: Machine) {
    this.setting = setting;
    this.point = point;
    this.at = at;
    this.result = result;
    this.live = live && Promise.resolve(live);
  }

  branch(moves: readonly M[], context: BranchContext): Promise<Branched<MachineState<M, R>>>[] {
    return moves.map((move) => this.move(move, context));
  }

  private async move(move: M, { signal, limit }: BranchContext): Promise<Branched<MachineState<M, R>>> {
    const { setting, at } = this;
    const least = (a: bigint, b: bigint | undefined) => (b !== undefined && b < a ? b : a);
    const cap = setting.moveSteps;
    // One more than it may: to have made so many is to have made too many.
    const last = least(at + least(cap, limit()) + 1n, setting.maxSteps);
    const clone = await this.fork(last);
    using watch = new Watch(clone, at, limit, signal);
    try {
      const made = unlessAborted(setting.make(clone, move, watch.signal), watch.signal);
      // A move that does not listen to its signal is not waited for.
      const { result, error } = await made.catch((error) => ({ result: undefined as R, error }));
      const { exit, panic, steps: now } = await clone.stats();
      const steps = now - at;
      const over = limit();
      if (over !== undefined && steps > over) {
        await clone.dispose();
        return { state: new MachineState(setting, undefined, now), steps };
      }
      signal.throwIfAborted();
      if (steps > cap) throw new MoveError(error, cap, `it made more than ${cap} steps; give moveSteps to allow more`);
      const ended = ENDS.has((error as BraidError | undefined)?.code ?? '');
      if (error !== undefined && !ended) throw new MoveError(error, steps);
      const why = panic !== undefined ? `panic: ${panic}` : exit ? exit.kind : ended ? 'halted' : undefined;
      const point = await clone.forkPoint().catch((full) => {
        throw new MoveError(full, steps);
      });
      const state = new MachineState(setting, point, now, result, clone);
      return { state, steps, ...(why === undefined ? {} : { ended: why }) };
    } catch (error) {
      await clone.dispose().catch(() => {}); // it may be gone with its thread
      throw error;
    }
  }

  /** A machine in this state, which is the caller's. */
  fork(maxSteps: bigint = this.setting.maxSteps): Promise<Machine> {
    if (!this.point) throw new BraidError('ERR_BRAID_OPTION', 'the move was cut off: there is no state');
    return this.point.fork({ time: 'virtual', maxSteps });
  }

  /** A machine in this state, to look at until `park`. */
  machine(): Promise<Machine> {
    this.live ??= this.fork();
    return this.live;
  }

  /** Nobody looks at it any more. */
  async park(): Promise<void> {
    const { live } = this;
    this.live = undefined;
    await live?.then((machine) => machine.dispose()).catch(() => {}); // it may be gone with its thread
  }

  async release(): Promise<void> {
    await this.park();
    await this.point?.dispose();
  }
}

/** Ends a move when it has made more steps than can matter, or when nobody waits for it. */
class Watch implements Disposable {
  readonly signal: AbortSignal;
  private readonly controller = new AbortController();
  private readonly timer: NodeJS.Timeout;
  private looking = false;

  constructor(clone: Machine, from: bigint, limit: () => bigint | undefined, signal: AbortSignal) {
    this.signal = AbortSignal.any([signal, this.controller.signal]);
    const look = async () => {
      const most = limit();
      if (most === undefined || this.looking) return;
      this.looking = true;
      try {
        const { steps } = await clone.stats();
        if (steps - from > most) this.controller.abort(new BraidError('ERR_BRAID_MOVE', 'the move was cut off'));
      } catch {
        // The machine is gone, which the move hears of itself.
      } finally {
        this.looking = false;
      }
    };
    this.timer = setInterval(() => void look(), WATCH_MS);
    this.timer.unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
  }
}

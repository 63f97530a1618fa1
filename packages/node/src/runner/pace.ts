/** How the machine's time goes with the host's: the length of a run between two looks at the messages, and wall time. */

import type { Allowance } from '@braid/core/machine/account.ts';
import { comparePositions, type Position } from '@braid/core/machine/log.ts';
import type { Machine } from '@braid/core/machine/machine.ts';

/** Host time of a run, in ms: who asks for a fork waits until one is over. */
const RUN_MS = 2;
const FIRST_RUN = 200_000;
const MAX_RUN = 50_000_000;
/** Where every step is a trap, or misses every table. */
const MIN_RUN = 5_000;
/** Steps that take so many times longer are no noise. */
const SLOWER = 4;
/** What a run may cost besides: output that is held until it is over, and some milliseconds of work for the guest's devices. */
export const RUN_ALLOWANCE: Allowance = { bytes: 256 * 1024, work: 4_000_000 };
/** More than any host makes, so that steps never keep a machine back: corrections bring its clock forward. */
export const PACED_STEPS_PER_NANOSECOND = 8;
/** How far the guest's clock may be ahead before the machine sleeps, in ns. */
const AHEAD = 2_000_000n;
/** A machine that stood still for longer, in ns, goes on from where it stood: nine years. */
const LONGEST = 1n << 58n;
const MAX_TIMER_MS = 2 ** 31 - 1;

/** How many steps take so long. */
export class RunLength {
  steps = FIRST_RUN;

  /** Learns from a run of `made` steps in `spent` ms: at once that steps take longer, and slowly that they take less. */
  learn(made: number, spent: number): void {
    const next = (made * RUN_MS) / Math.max(spent, 0.05);
    const steps = next < this.steps / SLOWER ? next : (this.steps + next) / 2;
    this.steps = Math.round(Math.min(MAX_RUN, Math.max(MIN_RUN, steps)));
  }
}

/**
 * Wall time: guest time goes as the host's does. A machine that stood still is brought forward when it runs again, but for the time
 * that a debugger had it stopped.
 */
export class WallTime {
  #origin: bigint | undefined;
  private running = false;
  /** The host's time at which a debugger stopped the machine. */
  private stoppedAt: bigint | undefined;
  /** Where a correction of time was queued: it enters at the end of that slice. */
  private correctedAt: Position | undefined;

  /** Guest time is another's: that of a machine that ran with such an origin, or in virtual time (none). */
  begin(origin: bigint | undefined): void {
    this.#origin = origin;
    this.running = false;
    this.stoppedAt = undefined;
  }

  /** The machine stands still, perhaps for a debugger. */
  stop(debugged: boolean): void {
    this.running = false;
    if (debugged) this.stoppedAt ??= process.hrtime.bigint();
  }

  /** Before a run: brings the machine's clock forward; false when it is ahead, and the machine has to sleep. */
  keepPace(machine: Machine): boolean {
    const now = process.hrtime.bigint();
    if (!this.running) this.start(machine, now);
    const difference = now - this.#origin! - machine.now;
    if (difference > 0n && !this.correctedAt) {
      this.correctedAt = { ...machine.position, step: 0 };
      machine.input({ kind: 'time', advance: difference });
    }
    return -difference <= AHEAD;
  }

  private start(machine: Machine, now: bigint): void {
    this.running = true;
    if (this.stoppedAt !== undefined && this.#origin !== undefined) this.#origin += now - this.stoppedAt;
    this.stoppedAt = undefined;
    const latest = now - machine.now;
    // A clock that is ahead never waits: the machine came from one that ran in virtual time, or the host's clock was set back.
    if (this.#origin === undefined || this.#origin > latest || latest - this.#origin > LONGEST) this.#origin = latest;
  }

  /** The host's monotonic time (ns; one for all threads) at which guest time was 0. Undefined before the machine runs in wall time. */
  get origin(): bigint | undefined {
    return this.#origin;
  }

  /** For a saved machine: the time of day (ns since 1970) at which guest time was 0. */
  get epoch(): bigint | undefined {
    return this.#origin === undefined ? undefined : this.#origin + sinceBoot();
  }

  set epoch(epoch: bigint | undefined) {
    this.begin(epoch === undefined ? undefined : epoch - sinceBoot());
  }

  /** After a run, which may have ended because every hart waits. */
  ran(machine: Machine, idle: boolean): void {
    const { correctedAt } = this;
    if (correctedAt && (idle || comparePositions({ ...machine.position, step: 0 }, correctedAt) > 0)) {
      this.correctedAt = undefined;
    }
  }

  /**
   * Jumps an idle gap up to guest time `until` if it is short: a timer of ours is good to a millisecond or two, and a disk
   * answers in microseconds of guest time.
   */
  jump(machine: Machine, until: bigint): boolean {
    if (this.left(until) > AHEAD) return false;
    machine.input({ kind: 'time', advance: until - machine.now });
    return true;
  }

  /** Host time in ms until a guest time has come, as a timer takes it. */
  delay(until: bigint): number {
    return Math.min(MAX_TIMER_MS, Math.max(0, Number(this.left(until)) / 1e6));
  }

  /** Host time (ns) until a guest time has come. */
  private left(until: bigint): bigint {
    return this.#origin! + until - process.hrtime.bigint();
  }
}

/** The time of day (ns since 1970) at which the host's monotonic time was 0. */
function sinceBoot(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6)) - process.hrtime.bigint();
}

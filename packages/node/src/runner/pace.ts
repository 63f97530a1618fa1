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

/** Wall time: guest time goes as the host's does while the machine runs, and stands still with it. */
export class WallTime {
  /** Host time (ms) at which guest time was 0. */
  private origin = 0;
  private running = false;
  /** Where a correction of time was queued: it enters at the end of that slice. */
  private correctedAt: Position | undefined;

  /** The machine stands still. */
  stop(): void {
    this.running = false;
  }

  /** Before a run: brings the machine's clock forward; false when it is ahead, and the machine has to sleep. */
  keepPace(machine: Machine): boolean {
    if (!this.running) {
      this.running = true;
      this.origin = performance.now() - Number(machine.now) / 1e6;
      return true;
    }
    const difference = this.hostTime() - machine.now;
    if (difference > 0n && !this.correctedAt) {
      this.correctedAt = { ...machine.position, step: 0 };
      machine.input({ kind: 'time', advance: difference });
    }
    return -difference <= AHEAD;
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
    if (until - this.hostTime() > AHEAD) return false;
    machine.input({ kind: 'time', advance: until - machine.now });
    return true;
  }

  /** Host time in ms until a guest time has come, as a timer takes it. */
  delay(until: bigint): number {
    const ms = this.origin + Number(until) / 1e6 - performance.now();
    return Math.min(MAX_TIMER_MS, Math.max(0, ms));
  }

  /** Guest time by the host's clock. */
  private hostTime(): bigint {
    return BigInt(Math.round((performance.now() - this.origin) * 1e6));
  }
}

/**
 * The `serial` schedule: rounds in hart order, a slice of steps each. Part of the configuration, of the hash and of every
 * recording; the record is all of its state.
 *
 * A slice ends after `slice` steps, or early by `wfi`, `pause`, or when its hart is stopped. A hart that waits has a slice of
 * no steps. At a boundary (`step` = 0) external events enter and reservations break.
 */

import type { Position } from './log.ts';

/**
 * Steps of a slice unless the configuration says otherwise. With several harts a hart that spins wastes what is left of its slice;
 * 50,000 costs 3 % of compute against 200,000, and 20,000 would cost 11 %.
 */
export function defaultSlice(harts: number): number {
  return harts === 1 ? 1_000_000 : 50_000;
}

export interface ScheduleState {
  readonly version: 1;
  readonly round: bigint;
  readonly hart: number;
  readonly step: number;
}

export class Schedule {
  readonly harts: number;
  readonly slice: number;
  round = 0n;
  hart = 0;
  step = 0;

  constructor(harts: number, slice: number) {
    this.harts = harts;
    this.slice = slice;
  }

  get position(): Position {
    return { round: this.round, hart: this.hart, step: this.step };
  }

  get atBoundary(): boolean {
    return this.step === 0;
  }

  /** Steps that the current slice may still make. */
  get left(): number {
    return this.slice - this.step;
  }

  /** The next hart's turn. */
  endSlice(): void {
    this.step = 0;
    this.hart++;
    if (this.hart === this.harts) {
      this.hart = 0;
      this.round++;
    }
  }

  save(): ScheduleState {
    return { version: 1, ...this.position };
  }

  restore(state: ScheduleState): void {
    this.round = state.round;
    this.hart = state.hart;
    this.step = state.step;
  }
}

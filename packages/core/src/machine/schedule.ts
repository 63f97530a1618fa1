/**
 * The `serial` schedule: rounds in hart order, a slice of steps each. Part of the configuration, of the hash and of every
 * recording; the record is all of its state.
 *
 * A slice ends after `slice` steps, or early by `wfi`, by `pause` (see `PauseRule`), or when its hart is stopped. A hart that
 * waits has a slice of no steps. At a boundary (`step` = 0) external events enter and reservations break.
 */

import type { Position } from './log.ts';

/**
 * Steps of a slice unless the configuration says otherwise. With several harts a hart that spins wastes what is left of its slice;
 * 50,000 costs 3 % of compute against 200,000, and 20,000 would cost 11 %.
 */
export function defaultSlice(harts: number): number {
  return harts === 1 ? 1_000_000 : 50_000;
}

/**
 * What the instruction `pause` does: it takes so many steps' worth of guest time, as far as nothing in the machine is due
 * before, and the `spins`th one in a row ends its slice if another hart can run. A hart that is alone goes on.
 *
 * `spins` = 0: every one ends its slice. Machines were like that before there was a rule.
 */
export interface PauseRule {
  readonly steps: number;
  readonly spins: number;
}

/** A tick of mtime; and as long as it takes to give another hart its turn, so that a delay on every hart is no longer than it says. */
export const DEFAULT_PAUSE: PauseRule = { steps: 100, spins: 32 };
export const PAUSE_WITHOUT_RULE: PauseRule = { steps: 0, spins: 0 };
export const MAX_PAUSE: PauseRule = { steps: 10_000, spins: 10_000 };

/** More pauses than a run makes steps. */
const UNCOUNTED = 2 ** 31;

export interface ScheduleState {
  readonly version: 2;
  readonly round: bigint;
  readonly hart: number;
  readonly step: number;
  /** Pauses since the slice began, or since one was found to leave the hart alone: less than `spins`. */
  readonly pauses: number;
}

export class Schedule {
  readonly harts: number;
  readonly slice: number;
  readonly pause: PauseRule;
  round = 0n;
  hart = 0;
  step = 0;
  private pauses = 0;

  constructor(harts: number, slice: number, pause: PauseRule = DEFAULT_PAUSE) {
    this.harts = harts;
    this.slice = slice;
    this.pause = pause;
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

  /** Pauses until the hart has to come back, the last one included. */
  get pausesLeft(): number {
    if (this.pause.spins === 0) return 1;
    return this.harts === 1 ? UNCOUNTED : this.pause.spins - this.pauses;
  }

  /** A run has left so many of them. */
  set pausesLeft(left: number) {
    const counted = this.harts > 1 && this.pause.spins > 0 && left > 0;
    this.pauses = counted ? this.pause.spins - left : 0;
  }

  /** The next hart's turn. */
  endSlice(): void {
    this.step = 0;
    this.pauses = 0;
    this.hart++;
    if (this.hart === this.harts) {
      this.hart = 0;
      this.round++;
    }
  }

  save(): ScheduleState {
    return { version: 2, ...this.position, pauses: this.pauses };
  }

  restore(state: ScheduleState): void {
    this.round = state.round;
    this.hart = state.hart;
    this.step = state.step;
    this.pauses = state.pauses;
  }
}

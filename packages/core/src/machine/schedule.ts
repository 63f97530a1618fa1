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
 * What the instruction `pause` does. It ends the slice if another hart can run; a hart that is alone goes on. Guest time moves by it, as
 * far as nothing in the machine is due before: spin-waits are mostly for a time, or for a hart that has to have its turn.
 */
export interface PauseRule {
  /** Steps' worth of guest time that each takes. */
  readonly steps: number;
  /** A hart that was alone looks for others again after so many. 0: every pause ends its slice, as before there was a rule. */
  readonly spins: number;
  /** Steps' worth of guest time that a turn takes besides when a pause has ended it and the `harts` before it: all of them spin. */
  readonly turn: number;
}

/** A tick of mtime; some microseconds; and as long as the host takes for a turn, so that delays on all harts are in time. */
export const DEFAULT_PAUSE: PauseRule = { steps: 100, spins: 32, turn: 4000 };
export const PAUSE_WITHOUT_RULE: PauseRule = { steps: 0, spins: 0, turn: 0 };
export const MAX_PAUSE: PauseRule = { steps: 10_000, spins: 10_000, turn: 1_000_000 };

/** More pauses than a run makes steps. */
const UNCOUNTED = 2 ** 31;

export interface ScheduleState {
  readonly version: 2;
  readonly round: bigint;
  readonly hart: number;
  readonly step: number;
  /** Pauses that the hart may still make until another one is looked for. */
  readonly pauses: number;
  /** Turns in a row that a pause has ended; `harts` stands for more. */
  readonly spinning: number;
}

export class Schedule {
  readonly harts: number;
  readonly slice: number;
  readonly pause: PauseRule;
  round = 0n;
  hart = 0;
  step = 0;
  private pauses = 1;
  private spinning = 0;

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

  /** Pauses until another hart is looked for, the last one included. */
  get pausesLeft(): number {
    return this.harts === 1 && this.pause.spins > 0 ? UNCOUNTED : this.pauses;
  }

  set pausesLeft(left: number) {
    if (this.harts > 1) this.pauses = left;
  }

  /** The hart whose turn it is has run: whether a pause has ended its turn, and every other one of the round before. */
  endTurn(byPause: boolean): boolean {
    const allSpin = byPause && this.spinning === this.harts;
    this.spinning = byPause ? Math.min(this.harts, this.spinning + 1) : 0;
    this.endSlice();
    return allSpin;
  }

  /** The next hart's turn. */
  endSlice(): void {
    this.step = 0;
    this.pauses = 1;
    this.hart++;
    if (this.hart === this.harts) {
      this.hart = 0;
      this.round++;
    }
  }

  save(): ScheduleState {
    return { version: 2, ...this.position, pauses: this.pauses, spinning: this.spinning };
  }

  restore(state: ScheduleState): void {
    this.round = state.round;
    this.hart = state.hart;
    this.step = state.step;
    this.pauses = state.pauses;
    this.spinning = state.spinning;
  }
}

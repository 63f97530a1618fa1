/**
 * Guest time: nanoseconds since power-on. Steps make it, so many to the nanosecond, and what idle gaps and corrections have added.
 * It never decreases along the serial order of slices.
 */

import { END_OF_TIME } from '../devices/device.ts';

export const NANOSECONDS_PER_TICK = 100n;

export class Clock {
  /** Part of the configuration. */
  readonly stepsPerNanosecond: number;
  private readonly ratio: bigint;
  /** At the last boundary of a run; inside one the engine knows how many steps have been made. */
  now = 0n;
  /** Steps that are not a nanosecond yet. */
  fraction = 0n;
  /** What the guest has set mtime off by, in ticks, modulo 2^64. */
  tickOffset = 0n;

  constructor(stepsPerNanosecond: number) {
    this.stepsPerNanosecond = stepsPerNanosecond;
    this.ratio = BigInt(stepsPerNanosecond);
  }

  get stepsPerTick(): bigint {
    return NANOSECONDS_PER_TICK * this.ratio;
  }

  /** Guest time as steps: what `now` is made of. */
  get steps(): bigint {
    return this.now * this.ratio + this.fraction;
  }

  /** The time so many steps from here. */
  after(steps: number): bigint {
    return this.now + (this.fraction + BigInt(steps)) / this.ratio;
  }

  /** So many steps were made. */
  advance(steps: number): void {
    const all = this.fraction + BigInt(steps);
    this.now += all / this.ratio;
    this.fraction = all % this.ratio;
  }

  /** Steps until a time has come. */
  stepsUntil(time: bigint): bigint {
    return (time - this.now) * this.ratio - this.fraction;
  }

  ticksAt(now: bigint): bigint {
    return BigInt.asUintN(64, now / NANOSECONDS_PER_TICK + this.tickOffset);
  }

  /** When `time` reaches a comparator's value: `now` or before if it has, undefined if it never will. */
  deadline(compare: bigint, now: bigint): bigint | undefined {
    const left = compare - this.ticksAt(now);
    if (left <= 0n) return now;
    const due = (now / NANOSECONDS_PER_TICK + left) * NANOSECONDS_PER_TICK;
    return due < END_OF_TIME ? due : undefined;
  }
}

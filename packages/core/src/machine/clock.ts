/**
 * Guest time: nanoseconds since power-on, one for each step of the machine plus what idle gaps and corrections have added.
 * It never decreases along the serial order of slices.
 */

export const NANOSECONDS_PER_TICK = 100n;

/** A time that will not come: comparators start with it. */
const NEVER = 1n << 62n;

export class Clock {
  /** At the last boundary of a run; inside one the engine knows how many steps have been made. */
  now = 0n;
  /** What the guest has set mtime off by, in ticks, modulo 2^64. */
  tickOffset = 0n;

  ticksAt(now: bigint): bigint {
    return BigInt.asUintN(64, now / NANOSECONDS_PER_TICK + this.tickOffset);
  }

  /** When `time` reaches a comparator's value: `now` or before if it has, undefined if it never will. */
  deadline(compare: bigint, now: bigint): bigint | undefined {
    const left = compare - this.ticksAt(now);
    if (left <= 0n) return now;
    const due = (now / NANOSECONDS_PER_TICK + left) * NANOSECONDS_PER_TICK;
    return due < NEVER ? due : undefined;
  }
}

// What two ways of doing the same thing cost, by runs that were made in pairs, and how sure that is.

import { median } from '../harness.ts';
import { percentile } from '../real/keystroke.ts';

export interface Interval {
  /** The median of the pairs' ratios. */
  readonly ratio: number;
  /** The ends of its confidence interval. */
  readonly low: number;
  readonly high: number;
}

const RESAMPLES = 4000;

/**
 * How many times as much the second run of each pair took, with a confidence interval by the bootstrap: as many pairs are drawn again
 * and again, with repetition, and the medians of these draws spread as the median itself would. The same pairs give the same interval.
 */
export function pairedRatio(base: readonly number[], other: readonly number[], confidence = 0.95): Interval {
  if (base.length !== other.length || base.length < 3) {
    throw new RangeError(`an interval needs at least 3 pairs of runs, not ${base.length} and ${other.length}`);
  }
  const ratios = base.map((value, pair) => other[pair]! / value);
  const random = numbers();
  const medians = Array.from({ length: RESAMPLES }, () =>
    median(ratios.map(() => ratios[Math.floor(random() * ratios.length)]!)),
  );
  const outside = (1 - confidence) / 2;
  return { ratio: median(ratios), low: percentile(medians, outside), high: percentile(medians, 1 - outside) };
}

/** Numbers from 0 to below 1, the same ones each time (xorshift32). */
export function numbers(seed = 1): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

// What leaving something out costs, and how much of that is beyond noise.

import { median } from '../harness.ts';

/**
 * For each pair of runs, by how many percent the one without is slower than the one with it, less half of the spread of
 * the runs with it.
 */
export function gainBeyondNoise(on: readonly number[], off: readonly number[]): number[] {
  const noise = (Math.max(...on) - Math.min(...on)) / 2 / median(on);
  return on.map((seconds, run) => 100 * (off[run]! / seconds - 1 - noise));
}

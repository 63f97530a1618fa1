/**
 * Where a round of a search ends. Its moves are thought of as running side by side, each from its parent's total of steps, in step:
 * when all have come to total H, a move that began at p and makes s steps has made min(s, H - p) of them, or none if H < p.
 */

/** A move of a round. */
export interface Lane {
  /** The total of the node that it starts from. */
  readonly start: bigint;
  /** The steps that it makes; more than are known to matter, if it was cut off. */
  readonly steps: bigint;
}

/** What the lanes have made together at a total of `horizon`. */
function made(lanes: readonly Lane[], horizon: bigint): bigint {
  let sum = 0n;
  for (const { start, steps } of lanes) {
    const reached = horizon - start;
    if (reached > 0n) sum += reached < steps ? reached : steps;
  }
  return sum;
}

/** The highest total at which the lanes have made at most `steps` together; nothing if they never make more. */
export function horizonOf(lanes: readonly Lane[], steps: bigint): bigint | undefined {
  const all = lanes.reduce((sum, lane) => sum + lane.steps, 0n);
  if (all <= steps) return undefined;
  let low = lanes[0]!.start;
  let high = low;
  for (const { start, steps } of lanes) {
    if (start < low) low = start;
    if (start + steps > high) high = start + steps;
  }
  // At `low` nothing is made yet, at `high` too much.
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (made(lanes, middle) <= steps) low = middle;
    else high = middle;
  }
  return low;
}

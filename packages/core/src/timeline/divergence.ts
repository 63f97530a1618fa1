/** What is said of a replay that is not what was recorded. */

import { formatPosition, type Position } from '../machine/log.ts';
import { type Difference, formatDifferences } from './differences.ts';

export interface Divergence {
  /** Steps since the recording began, and the position, up to which states were the same. */
  readonly from: bigint;
  readonly fromPosition: Position;
  /** Where they were found to differ. */
  readonly at: bigint;
  readonly position: Position;
  readonly why: string;
  /** Recorded (a) and replayed (b). */
  readonly differences: readonly Difference[];
}

/** A replay has come to another state than the recorded machine's. */
export class DivergenceError extends Error {
  readonly code = 'ERR_BRAID_DIVERGENCE';
  readonly divergence: Divergence;
  constructor(divergence: Divergence, options?: ErrorOptions) {
    const { from, fromPosition, at, position, why, differences } = divergence;
    super(
      `the replay differs from what was recorded at step ${at} (${formatPosition(position)}): ${why}; it was the same up to ` +
        `step ${from} (${formatPosition(fromPosition)})` +
        (differences.length > 0 ? `. Recorded (A) and replayed (B):\n${formatDifferences(differences)}` : ''),
      options,
    );
    this.name = 'DivergenceError';
    this.divergence = divergence;
  }
}

/** Checkpoints: fork points of a replay, kept while there is room, to come back to. The recording's keyframes are behind them. */

import { type ForkPoint, freeForkPoint } from '../branch/fork-point.ts';
import type { Pool } from '../memory/pool.ts';

export interface Checkpoint {
  readonly at: bigint;
  readonly stretch: number;
  /** Events of the stretch that the machine has had. */
  readonly events: number;
  /** The keyframe that its remote pages and its disks are based on. */
  readonly keyframe: number;
  /** The last keyframe that is not behind it. */
  readonly passed: number;
  readonly point: ForkPoint;
}

const MAX_CHECKPOINTS = 64;

export class Checkpoints {
  private readonly pool: Pool;
  /** Least recently used first. */
  private readonly kept = new Set<Checkpoint>();

  constructor(pool: Pool) {
    this.pool = pool;
  }

  add(checkpoint: Checkpoint): void {
    this.kept.add(checkpoint);
    while (this.kept.size > MAX_CHECKPOINTS) this.drop();
  }

  /** The last one that is not behind a moment. */
  before(at: bigint): Checkpoint | undefined {
    let best: Checkpoint | undefined;
    for (const one of this.kept) if (one.at <= at && (!best || one.at >= best.at)) best = one;
    return best;
  }

  has(at: bigint): boolean {
    for (const one of this.kept) if (one.at === at) return true;
    return false;
  }

  used(checkpoint: Checkpoint): void {
    this.kept.delete(checkpoint);
    this.kept.add(checkpoint);
  }

  /** Gives up the one that has not been used for longest; false when there is none. */
  drop(): boolean {
    for (const one of this.kept) {
      this.kept.delete(one);
      freeForkPoint(this.pool, one.point);
      return true;
    }
    return false;
  }

  clear(): void {
    while (this.drop());
  }

  /** Frames of the maps that they hold. */
  get roots(): readonly number[] {
    return [...this.kept].flatMap(({ point: { ram, disks } }) => [...ram, ...disks.flatMap((disk) => disk ?? [])]);
  }
}

/**
 * A search of a recording's past in all threads of a pool: each replays a part, the latest parts first, until it is known which hit is
 * the last one.
 */

import type { Hit, Point } from '@braid/core/timeline/points.ts';
import type { Interval } from '@braid/core/timeline/timeline.ts';
import type { Link } from '../pool/link.ts';
import type { Pool } from '../pool/pool.ts';
import type { ReplayWait } from './replay.ts';

export class History {
  private readonly path: string;
  private readonly pool: Pool;
  private readonly own: Link;
  private helpers: Promise<readonly Link[]> | undefined;

  /** `own`: the link of a replay that takes part. */
  constructor(path: string, pool: Pool, own: Link) {
    this.path = path;
    this.pool = pool;
    this.own = own;
  }

  /** The last hit of points in parts of the recording, which are given from the last one on. */
  async last(
    intervals: readonly Interval[],
    points: readonly Point[],
    { onProgress, signal }: ReplayWait,
  ): Promise<Hit | undefined> {
    // What is near is found at once, and nobody else has to be asked.
    if (intervals.length === 0) return undefined;
    const over = new AbortController();
    const ended = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
    const found: (Hit | undefined | 'open')[] = intervals.map(() => 'open');
    let next = 0;
    /** How many of the latest parts have been searched without a hit. */
    const searched = () => {
      const open = found.findIndex((hit) => hit !== undefined);
      return open < 0 ? found.length : open;
    };
    const work = async (link: Link): Promise<void> => {
      const beaten = () => found.some((hit, n) => n < next && hit !== undefined && hit !== 'open');
      while (next < intervals.length && !beaten()) {
        const n = next++;
        const { stop } = await link.call(
          'replay',
          { kind: 'last-hit', interval: intervals[n]!, points },
          { signal: ended },
        );
        found[n] = stop.kind === 'hit' ? stop.hit : undefined;
        const first = searched();
        const part = intervals[Math.min(first, intervals.length - 1)]!;
        onProgress?.(part.from);
        // A hit behind which everything is known: what is further back does not matter.
        if (first < found.length && found[first] !== 'open') return over.abort();
      }
    };
    const links = intervals.length > 1 ? [this.own, ...(await this.others())] : [this.own];
    const works = links.map((link) =>
      work(link).catch((error) => {
        if (!over.signal.aborted) {
          over.abort();
          throw error;
        }
      }),
    );
    for (const end of await Promise.allSettled(works)) if (end.status === 'rejected') throw end.reason;
    signal?.throwIfAborted();
    const hit = found[searched()];
    return hit === 'open' ? undefined : hit;
  }

  /** Replays in the pool's other threads, opened when they are first needed. */
  private others(): Promise<readonly Link[]> {
    this.helpers ??= (async () => {
      const links = this.pool.linksBeside(this.own);
      await Promise.all(links.map((link) => link.call('openReplay', { path: this.path, show: false })));
      return links;
    })();
    return this.helpers;
  }

  async dispose(): Promise<void> {
    const links = await this.helpers?.catch(() => []);
    await Promise.all((links ?? []).map((link) => link.dispose()));
  }
}

/**
 * Page contents of a recording in frames of the pool, each once however many keyframes have it: so what does not change between two
 * keyframes keeps its frame, and with it its hash and what was decoded and translated of it.
 */

import type { PageSource } from '../memory/frame-map.ts';
import { FRAME_HASHED, FRAME_HASHES, HASH_BYTES, PAGE } from '../memory/layout.ts';
import type { Pool } from '../memory/pool.ts';

/** What the cache needs of a recording. */
export interface PageContents {
  /** Number of a page's content as of a keyframe; -1 for a page of zeros. */
  version(keyframe: number, page: number): number;
  content(version: number, into: Uint8Array): void;
  pageHash(version: number): Uint8Array | undefined;
}

export class PageCache {
  private readonly pool: Pool;
  private readonly contents: PageContents;
  private readonly limit: number;
  /** By version, the oldest first. One reference to each is ours. */
  private readonly frames = new Map<number, number>();

  /** `limit`: how many frames it may hold. */
  constructor(pool: Pool, contents: PageContents, limit: number) {
    this.pool = pool;
    this.contents = contents;
    this.limit = limit;
  }

  get size(): number {
    return this.frames.size;
  }

  /** The frame of a version, if it is here; not given away. */
  has(version: number): number | undefined {
    return this.frames.get(version);
  }

  /** The frame of a version; a reference to it is the caller's. */
  frame(version: number): number {
    const { pool, contents, frames } = this;
    const known = frames.get(version);
    if (known !== undefined) {
      pool.retain(known);
      return known;
    }
    const frame = pool.allocate(false);
    try {
      contents.content(version, pool.bytes.subarray(frame * PAGE, (frame + 1) * PAGE));
    } catch (error) {
      pool.release(frame);
      throw error;
    }
    const hash = contents.pageHash(version);
    if (hash) {
      pool.bytes.set(hash, FRAME_HASHES + frame * HASH_BYTES);
      pool.bytes[FRAME_HASHED + frame] = 1;
    }
    pool.retain(frame);
    frames.set(version, frame);
    if (frames.size > this.limit) this.drop(frames.size - this.limit);
    return frame;
  }

  /** Where the pages come from that a map has as remote, whose machine goes back to a keyframe. */
  source(keyframe: number): PageSource {
    const { contents } = this;
    return {
      frame: (page) => {
        const version = contents.version(keyframe, page);
        return version < 0 ? this.pool.allocate() : this.frame(version);
      },
      hash: (page) => {
        const version = contents.version(keyframe, page);
        return version < 0 ? undefined : contents.pageHash(version);
      },
    };
  }

  /** The frames that it holds. */
  get held(): readonly number[] {
    return [...this.frames.values()];
  }

  /** Gives up the oldest ones. */
  drop(count: number): void {
    for (const [version, frame] of this.frames) {
      if (count-- <= 0) return;
      this.frames.delete(version);
      this.pool.release(frame);
    }
  }
}

/**
 * Page contents of a recording in frames of the pool, each once however many keyframes have it: so what does not change between two
 * keyframes keeps its frame, and with it its hash and what was decoded and translated of it.
 */

import type { PageSource } from '../memory/frame-map.ts';
import { FRAME_HASHED, FRAME_HASHES, HASH_BYTES, PAGE } from '../memory/layout.ts';
import type { Pool } from '../memory/pool.ts';

/** Frames that have to be free for contents that nobody has asked for. */
const HEAD_ROOM = 4096;

/** What the cache needs of a recording. */
export interface PageContents {
  /** Number of a page's content as of a keyframe; -1 for a page of zeros. */
  version(keyframe: number, page: number): number;
  /** The contents that are best read together with one. */
  together(version: number): { readonly first: number; readonly count: number };
  /** Fills in a page's content. */
  content(version: number, into: Uint8Array): void;
  pageHash(version: number): Uint8Array | undefined;
}

export class PageCache {
  private readonly pool: Pool;
  private readonly contents: PageContents;
  private readonly limit: number;
  /** By version, the oldest first. One reference to each is ours. */
  private readonly frames = new Map<number, number>();
  private readonly page = new Uint8Array(PAGE);

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
    const { pool, frames } = this;
    const frame = frames.get(version) ?? this.load(version);
    pool.retain(frame);
    return frame;
  }

  /** Reads a version, and what is stored with it: a run that needs the one soon needs others of them. */
  private load(wanted: number): number {
    const { contents, frames } = this;
    // First the one that there has to be room for; the others give way when there is none.
    const frame = this.keep(wanted);
    const { first, count } = contents.together(wanted);
    for (let version = first; version < first + count && this.pool.available > HEAD_ROOM; version++) {
      if (!frames.has(version)) this.keep(version);
    }
    if (frames.size > this.limit) {
      // It is to stay, whoever goes.
      frames.delete(wanted);
      this.drop(frames.size + 1 - this.limit);
      frames.set(wanted, frame);
    }
    return frame;
  }

  private keep(version: number): number {
    const { pool, contents, page } = this;
    // First what may be damaged.
    const hash = contents.pageHash(version);
    contents.content(version, page);
    const frame = pool.allocate(false);
    pool.bytes.set(page, frame * PAGE);
    if (hash) {
      pool.bytes.set(hash, FRAME_HASHES + frame * HASH_BYTES);
      pool.bytes[FRAME_HASHED + frame] = 1;
    }
    this.frames.set(version, frame);
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

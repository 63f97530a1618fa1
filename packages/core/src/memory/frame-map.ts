/**
 * A map of pages over the pool, on two levels (see `layout.ts`): a machine's RAM, or what was written to a disk.
 *
 * Maps share leaves, and leaves frames. What is shared is copied by whoever writes it, leaf and frame each when first needed; so a
 * copy of a map costs its leaves' references, and a map costs what it does not share.
 */

import {
  DIRECTORY_PAGES,
  ENTRY_FRAME,
  ENTRY_REMOTE,
  FRAME_HASHED,
  FRAME_RECORD,
  LEAF_PAGES,
  PAGE,
  WATCHED,
} from './layout.ts';
import type { Pool } from './pool.ts';

/** Where the content of remote pages comes from, at their first touch. */
export interface PageSource {
  /** A frame with the content of a page, one reference to which is given away; others may hold it too. */
  frame(page: number): number;
  /** The hash of that content as `FrameHash` keeps it, where it is known without a frame. */
  hash?(page: number): Uint8Array | undefined;
}

/** What has to happen before bytes change from which something was derived. */
export interface Tracer {
  /** `size` bytes at a host address, inside one frame, are about to change. */
  trace(hostAddress: number, size: number): void;
  /** Another frame is about to take the place of this one in the map. */
  replaced(frame: number): void;
  /** Any page may be another frame's from now on, and none may be written unseen. */
  remapped(): void;
}

/** Frame numbers of a map's directories: all of a map that another thread needs. Whoever has them holds one reference to each. */
export type MapRoots = readonly number[];

export class FrameMap {
  readonly pages: number;
  /** Frame numbers of the directories. */
  readonly roots: MapRoots;
  protected readonly pool: Pool;
  /** Where all of the map's remote pages come from; whoever has the map become another one changes it too. */
  source: PageSource | undefined;
  tracer: Tracer | undefined;

  /** A map of absent pages, or with `roots` the one that they hold: the reference to them is the map's then. */
  constructor(
    pool: Pool,
    pages: number,
    { roots, source }: { roots?: MapRoots; source?: PageSource | undefined } = {},
  ) {
    this.pool = pool;
    this.pages = pages;
    this.source = source;
    if (roots) {
      this.roots = roots;
      return;
    }
    const made: number[] = [];
    this.roots = made;
    try {
      for (let n = 0; n < Math.ceil(pages / DIRECTORY_PAGES); n++) made.push(pool.allocate());
    } catch (error) {
      for (const frame of made) pool.release(frame);
      throw error;
    }
  }

  get leaves(): number {
    return Math.ceil(this.pages / LEAF_PAGES);
  }

  private leafWord(leaf: number): number {
    return (this.roots[Math.floor(leaf / 1024)]! * PAGE) / 4 + (leaf % 1024);
  }

  /** Frame of a leaf, or 0 without one. */
  leaf(leaf: number): number {
    return this.pool.words[this.leafWord(leaf)]!;
  }

  private entryWord(page: number): number {
    return (this.leaf(Math.floor(page / LEAF_PAGES)) * PAGE) / 4 + (page % LEAF_PAGES);
  }

  /** The map's entry of a page, as `layout.ts` describes it. */
  entry(page: number): number {
    return this.leaf(Math.floor(page / LEAF_PAGES)) === 0 ? 0 : this.pool.words[this.entryWord(page)]!;
  }

  /** Marks an absent page as one whose content the source has. */
  markRemote(page: number): void {
    this.ownLeaf(page);
    this.pool.words[this.entryWord(page)] = ENTRY_REMOTE;
  }

  /** Gives an absent page a frame, and the map the caller's reference to it. */
  place(page: number, frame: number): void {
    this.ownLeaf(page);
    this.pool.words[this.entryWord(page)] = frame;
  }

  /** Host address of a page's frame, made present; for a write one that nobody shares, and that is not hashed any more. */
  prepare(page: number, write: boolean): number {
    return write ? this.own(page) : this.show(page);
  }

  /** Makes a page present with the frame of another present page; whoever writes either copies it. */
  alias(page: number, like: number): void {
    const { pool } = this;
    const leaf = this.ownLeaf(page);
    const word = this.entryWord(page);
    const frame = this.entry(like) & ENTRY_FRAME;
    const old = pool.words[word]! & ENTRY_FRAME;
    if (old === frame) return;
    pool.retain(frame);
    if (old !== 0) this.tracer?.replaced(old);
    pool.words[word] = frame;
    if (old !== 0) pool.release(old);
    pool.bytes[FRAME_HASHED + leaf] = 0;
  }

  private show(page: number): number {
    const { pool } = this;
    if (this.leaf(Math.floor(page / LEAF_PAGES)) === 0) this.ownLeaf(page);
    const word = this.entryWord(page);
    const entry = pool.words[word]!;
    if (entry & ENTRY_FRAME) return (entry & ENTRY_FRAME) * PAGE;
    const made = this.make(page, entry);
    // Whoever shares the leaf may do the same at this moment.
    const before = Atomics.compareExchange(pool.words, word, entry, made);
    if (before === entry) return made * PAGE;
    pool.release(made);
    return (before & ENTRY_FRAME) * PAGE;
  }

  private own(page: number): number {
    const { pool } = this;
    const leaf = this.ownLeaf(page);
    const word = this.entryWord(page);
    const entry = pool.words[word]!;
    let frame = entry & ENTRY_FRAME;
    if (frame === 0) {
      frame = this.make(page, entry);
      pool.words[word] = frame;
    }
    if (pool.references(frame) > 1) {
      const copy = pool.allocate(false);
      pool.routines.copy(frame, copy);
      const flags = pool.words[pool.recordWord(frame, FRAME_RECORD.flags)]! & WATCHED;
      if (flags) pool.words[pool.recordWord(copy, FRAME_RECORD.flags)] = flags;
      this.tracer?.replaced(frame);
      pool.words[word] = copy;
      pool.release(frame);
      frame = copy;
    }
    pool.bytes[FRAME_HASHED + leaf] = 0;
    pool.bytes[FRAME_HASHED + frame] = 0;
    return frame * PAGE;
  }

  /** A frame for an absent page. */
  private make(page: number, entry: number): number {
    return entry & ENTRY_REMOTE ? this.source!.frame(page) : this.pool.allocate();
  }

  /** A page's leaf, made when there is none, and a copy of one that another map shares. */
  private ownLeaf(page: number): number {
    const { pool } = this;
    const word = this.leafWord(Math.floor(page / LEAF_PAGES));
    const leaf = pool.words[word]!;
    if (leaf !== 0 && pool.references(leaf) === 1) return leaf;
    const own = pool.allocate(leaf === 0);
    if (leaf !== 0) {
      pool.routines.copy(leaf, own);
      pool.routines.retainAll(own);
    }
    pool.words[word] = own;
    if (leaf !== 0) pool.releaseLeaf(leaf);
    return own;
  }

  /** Makes all leaves, so that nobody has to ask whether there is one. */
  protected makeLeaves(): void {
    for (let leaf = 0; leaf < this.leaves; leaf++) this.ownLeaf(leaf * LEAF_PAGES);
  }

  /**
   * Another map of the same pages, sharing every leaf; whoever gets the roots holds it. Nothing may be written through older entries
   * of shadow tables afterwards, which the tracer hears. Cost: a reference for each leaf. Throws `PoolFullError`.
   */
  share(): MapRoots {
    const roots = shareMap(this.pool, this.roots);
    this.tracer?.remapped();
    return roots;
  }

  /**
   * Makes the map what another one of the same pages is, by its roots. Cost: what differs, and a look at each leaf that does.
   * Returns how many frames went.
   */
  become(roots: MapRoots): number {
    const { pool } = this;
    const { words, routines } = pool;
    let changed = 0;
    this.tracer?.remapped();
    for (let n = 0; n < this.leaves; n++) {
      const word = this.leafWord(n);
      const own = words[word]!;
      const other = words[(roots[Math.floor(n / 1024)]! * PAGE) / 4 + (n % 1024)]!;
      if (own === other) continue;
      if (own === 0 || other === 0 || pool.references(own) > 1) {
        if (other !== 0) pool.retain(other);
        words[word] = other;
        if (own !== 0) pool.releaseLeaf(own);
        changed++;
        continue;
      }
      // A leaf of our own stays: it would be made again at the next write.
      for (let at = routines.difference(own, other, 0); at < LEAF_PAGES; at = routines.difference(own, other, at + 1)) {
        const entry = words[(own * PAGE) / 4 + at]!;
        const wanted = words[(other * PAGE) / 4 + at]!;
        if (wanted & ENTRY_FRAME) pool.retain(wanted & ENTRY_FRAME);
        words[(own * PAGE) / 4 + at] = wanted;
        if (entry & ENTRY_FRAME) pool.release(entry & ENTRY_FRAME);
        changed++;
      }
      pool.bytes[FRAME_HASHED + own] = 0;
    }
    return changed;
  }

  /** Pages whose frames are not those of another map of the same pages, by its roots; of all present ones without it. Ascending. */
  *changed(roots?: MapRoots): Generator<number> {
    const { words, routines } = this.pool;
    for (let n = 0; n < this.leaves; n++) {
      const own = this.leaf(n);
      const other = roots ? words[(roots[Math.floor(n / 1024)]! * PAGE) / 4 + (n % 1024)]! : 0;
      if (own === other) continue;
      for (let at = 0; at < LEAF_PAGES; at++) {
        if (own !== 0 && other !== 0) {
          at = routines.difference(own, other, at);
          if (at === LEAF_PAGES) break;
        } else if (words[((own || other) * PAGE) / 4 + at] === 0) continue;
        yield n * LEAF_PAGES + at;
      }
    }
  }

  /** Gives every frame back. */
  free(): void {
    freeMap(this.pool, this.roots);
  }
}

/** `FrameMap.share` for a map that nobody has made a `FrameMap` of. */
export function shareMap(pool: Pool, from: MapRoots): MapRoots {
  const roots: number[] = [];
  try {
    for (const _ of from) roots.push(pool.allocate(false));
  } catch (error) {
    for (const frame of roots) pool.release(frame);
    throw error;
  }
  for (const [n, root] of from.entries()) {
    pool.routines.copy(root, roots[n]!);
    pool.routines.retainAll(root);
  }
  return roots;
}

/** Gives back a map that nobody has made a `FrameMap` of. */
export function freeMap(pool: Pool, roots: MapRoots): void {
  for (const root of roots) {
    for (let n = 0; n < PAGE / 4; n++) {
      const leaf = pool.words[(root * PAGE) / 4 + n]!;
      if (leaf !== 0) pool.releaseLeaf(leaf);
    }
    pool.release(root);
  }
}

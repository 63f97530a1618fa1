/**
 * A machine's RAM: a guest-physical map of two levels over the pool (see `layout.ts`).
 *
 * Pages are absent until they are touched; an absent page is zero, or comes from a `PageSource` at its first touch. Every
 * write from outside the harts goes through `write`, the traced write.
 */

import {
  ENTRY_DIRTY,
  ENTRY_FRAME,
  ENTRY_REMOTE,
  FRAME_RECORD,
  HAS_CODE,
  IS_TABLE,
  LEAF_PAGES,
  PAGE,
  RAM_BASE,
} from './layout.ts';
import type { Pool } from './pool.ts';

/** Where the content of remote pages comes from, at their first touch. */
export interface PageSource {
  /** Fills 4096 zeroed bytes with the content of a guest page. */
  fetch(page: number, into: Uint8Array): void;
}

/** What has to happen before bytes change from which something was derived. */
export interface Tracer {
  /** `size` bytes at a host address, inside one frame, are about to change. */
  trace(hostAddress: number, size: number): void;
  /** The frame of a guest page is about to be replaced. */
  replaced(): void;
}

export class Ram {
  readonly pages: number;
  /** Host address of the directory. */
  readonly directory: number;
  private readonly pool: Pool;
  private readonly source: PageSource | undefined;
  tracer: Tracer | undefined;

  /** `size` in bytes, a multiple of 4 KiB. */
  constructor(pool: Pool, size: number, source?: PageSource) {
    this.pool = pool;
    this.pages = size / PAGE;
    this.source = source;
    this.directory = pool.allocate() * PAGE;
    try {
      for (let leaf = 0; leaf < this.leaves; leaf++) pool.words[(this.directory >>> 2) + leaf] = pool.allocate();
    } catch (error) {
      this.free();
      throw error;
    }
  }

  get leaves(): number {
    return Math.ceil(this.pages / LEAF_PAGES);
  }

  private leafFrame(page: number): number {
    return this.pool.words[(this.directory >>> 2) + Math.floor(page / LEAF_PAGES)]!;
  }

  private entryWord(page: number): number {
    return (this.leafFrame(page) * PAGE) / 4 + (page % LEAF_PAGES);
  }

  /** The map's entry of a guest page, as `layout.ts` describes it. */
  entry(page: number): number {
    return this.pool.words[this.entryWord(page)]!;
  }

  setEntry(page: number, entry: number): void {
    this.pool.words[this.entryWord(page)] = entry;
  }

  /** Marks an absent page as one whose content the source has. */
  markRemote(page: number): void {
    this.setEntry(page, ENTRY_REMOTE);
  }

  /** Host address of a guest page's frame, made present; for a write one that nobody shares, marked dirty. */
  prepare(page: number, write: boolean): number {
    const { pool } = this;
    if (write && pool.references(this.leafFrame(page)) > 1) this.ownLeaf(page);
    const word = this.entryWord(page);
    let entry = pool.words[word]!;
    let frame = entry & ENTRY_FRAME;
    if (frame === 0) {
      frame = pool.allocate();
      if (entry & ENTRY_REMOTE) this.fetch(page, frame);
      entry = frame;
    } else if (write && pool.references(frame) > 1) {
      const copy = pool.allocate();
      pool.bytes.copyWithin(copy * PAGE, frame * PAGE, (frame + 1) * PAGE);
      this.tracer?.replaced();
      pool.release(frame);
      frame = copy;
      entry = frame;
    }
    pool.words[word] = write ? entry | ENTRY_DIRTY : entry;
    return frame * PAGE;
  }

  private fetch(page: number, frame: number): void {
    try {
      this.source!.fetch(page, this.pool.bytes.subarray(frame * PAGE, (frame + 1) * PAGE));
    } catch (error) {
      this.pool.release(frame);
      throw error;
    }
  }

  /** Replaces a leaf that another map shares by a copy. */
  private ownLeaf(page: number): void {
    const { pool } = this;
    const shared = this.leafFrame(page);
    const copy = pool.allocate();
    pool.bytes.copyWithin(copy * PAGE, shared * PAGE, (shared + 1) * PAGE);
    for (let i = 0; i < LEAF_PAGES; i++) {
      const frame = pool.words[(copy * PAGE) / 4 + i]! & ENTRY_FRAME;
      if (frame) pool.retain(frame);
    }
    pool.words[(this.directory >>> 2) + Math.floor(page / LEAF_PAGES)] = copy;
    pool.release(shared);
  }

  /** Whether `[address, address + length)`, guest-physical, lies wholly in RAM. */
  contains(address: number, length: number): boolean {
    return address >= RAM_BASE && length >= 0 && address + length <= RAM_BASE + this.pages * PAGE;
  }

  /** Calls `visit(page, offset, length, done)` for the parts of a range, page by page. */
  private forParts(
    address: number,
    length: number,
    visit: (page: number, offset: number, length: number, done: number) => void,
  ) {
    let done = 0;
    while (done < length) {
      const at = address - RAM_BASE + done;
      const offset = at % PAGE;
      const part = Math.min(PAGE - offset, length - done);
      visit((at - offset) / PAGE, offset, part, done);
      done += part;
    }
  }

  /** Copies guest memory out; absent pages read as what they hold and stay absent where they are zero. */
  read(address: number, into: Uint8Array): boolean {
    if (!this.contains(address, into.length)) return false;
    this.forParts(address, into.length, (page, offset, length, done) => {
      const entry = this.entry(page);
      if ((entry & ENTRY_FRAME) === 0 && !(entry & ENTRY_REMOTE)) {
        into.fill(0, done, done + length);
        return;
      }
      const host = this.prepare(page, false) + offset;
      into.set(this.pool.bytes.subarray(host, host + length), done);
    });
    return true;
  }

  /** The traced write. */
  write(address: number, bytes: Uint8Array): boolean {
    if (!this.contains(address, bytes.length)) return false;
    this.forParts(address, bytes.length, (page, offset, length, done) => {
      const host = this.prepare(page, true) + offset;
      const flags = this.pool.words[this.pool.recordWord(Math.floor(host / PAGE), FRAME_RECORD.flags)]!;
      if (flags & (HAS_CODE | IS_TABLE)) this.tracer?.trace(host, length);
      this.pool.bytes.set(bytes.subarray(done, done + length), host);
    });
    return true;
  }

  /** Gives every frame back. */
  free(): void {
    const { pool } = this;
    for (let leaf = 0; leaf < this.leaves; leaf++) {
      const frame = pool.words[(this.directory >>> 2) + leaf]!;
      if (frame === 0) break;
      if (pool.references(frame) === 1) {
        for (let i = 0; i < LEAF_PAGES; i++) {
          const held = pool.words[(frame * PAGE) / 4 + i]! & ENTRY_FRAME;
          if (held) pool.release(held);
        }
      }
      pool.release(frame);
    }
    pool.release(this.directory / PAGE);
  }
}

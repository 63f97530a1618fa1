/** A worker's code pages: which frames it has decoded instructions of. */

import { AREA, CODE_PAGE, FRAME_RECORD, FRAMES_END, PAGE } from '../memory/layout.ts';
import type { Pool } from '../memory/pool.ts';

/** Pages that a worker never gives back, so that others cannot leave it without. */
const RESERVE = 16;
/** How much of what a worker has goes when room is needed: little, since the rest need not be decoded and translated again. */
const EVICTED = 1 / 8;

export class CodePages {
  private readonly pool: Pool;
  /** Index into `words` of the map from frames to code pages. */
  private readonly map: number;
  private readonly free: number[] = [];
  /** Oldest first. */
  private used: number[] = [];
  private epoch = -1;

  constructor(pool: Pool, area: number) {
    this.pool = pool;
    this.map = (area + AREA.codeMap) >>> 2;
    this.takeReserve();
  }

  private takeReserve(): void {
    this.epoch = this.pool.codeEpoch;
    for (let page = 1; this.free.length < RESERVE && page !== 0; ) {
      page = this.pool.takeCodePage();
      if (page !== 0) this.free.push(page);
    }
  }

  /** False once the pool has taken all code pages away: they are to be dropped before the next run. */
  get valid(): boolean {
    return this.epoch === this.pool.codeEpoch;
  }

  /** The code page of a frame; 0 when it has none. */
  of(frame: number): number {
    return this.pool.words[this.map + frame]!;
  }

  /** Gives a frame an empty code page; 0 when there is no room: then others are to be released. */
  make(frame: number): number {
    const { pool } = this;
    const page = this.free.pop() ?? pool.takeCodePage();
    if (page === 0) return 0;
    const version = pool.words[(page + CODE_PAGE.version) >>> 2]!;
    pool.bytes.fill(0, page, page + CODE_PAGE.size);
    pool.words[(page + CODE_PAGE.frame) >>> 2] = frame;
    pool.words[(page + CODE_PAGE.generation) >>> 2] = pool.words[pool.recordWord(frame, FRAME_RECORD.generation)]!;
    pool.words[(page + CODE_PAGE.version) >>> 2] = version + 1;
    pool.words[this.map + frame] = page;
    this.used.push(page);
    return page;
  }

  /** Picks the pages that go when room is needed: the oldest, but those in use last, which count as the youngest from now on. */
  pickOldest(inUse: ReadonlySet<number>): readonly number[] {
    const order = [...this.used.filter((page) => !inUse.has(page)), ...this.used.filter((page) => inUse.has(page))];
    const picked = order.splice(0, Math.ceil(order.length * EVICTED));
    this.used = order;
    return picked;
  }

  /** Takes pages away from their frames: what was picked. Nothing may refer to them any more, but by an older version. */
  release(pages: readonly number[]): void {
    const { pool, used, free } = this;
    for (const page of pages) {
      pool.words[this.map + pool.words[(page + CODE_PAGE.frame) >>> 2]!] = 0;
      pool.words[(page + CODE_PAGE.version) >>> 2]!++;
    }
    const kept = Math.max(1, RESERVE - used.length - free.length);
    free.push(...pages.slice(0, kept));
    pool.giveCodePages(pages.slice(kept));
  }

  /** Takes every code page away from its frame. Nothing may refer to one any more. */
  drop(): void {
    const all = this.used;
    this.used = [];
    if (this.valid) {
      this.release(all);
      return;
    }
    this.pool.words.fill(0, this.map, this.map + FRAMES_END);
    this.free.length = 0;
    this.takeReserve();
  }
}

/** The frame behind a host address. */
export const frameOf = (hostAddress: number): number => Math.floor(hostAddress / PAGE);

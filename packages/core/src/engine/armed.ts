/**
 * Breakpoints as the engine sees them: places in frames that are *armed*, so that whoever comes there asks the host.
 *
 * A breakpoint is a virtual address; what is decoded belongs to frames. So a place is armed when a page with a breakpoint is
 * entered into a fetch table: setting a breakpoint empties these, and every page passes by again. An armed place has a slot
 * of its own kind, nothing joins it with a neighbour, and no region covers it; all other code is as fast as ever. Places may be
 * armed that no breakpoint is at any more, or only for another mapping or machine: there the host says no.
 */

import { CODE_PAGE } from '../memory/layout.ts';
import type { Pool } from '../memory/pool.ts';
import type { CodePages } from './code-pages.ts';

/** The breakpoints of the machine that is attached. */
export interface HostBreakpoints {
  /** How many there are. */
  readonly size: number;
  /** Offsets of those that lie in a page, by its number. */
  offsetsIn(page: bigint): Iterable<number>;
  /** Whether the run ends before the instruction at an address, which is about to be executed. */
  stopsAt(address: bigint): boolean;
}

export class ArmedPlaces {
  private readonly pool: Pool;
  private readonly code: CodePages;
  /** By frame: offsets. */
  private readonly frames = new Map<number, Set<number>>();

  constructor(pool: Pool, code: CodePages) {
    this.pool = pool;
    this.code = code;
  }

  has(frame: number, offset: number): boolean {
    return this.frames.get(frame)?.has(offset) ?? false;
  }

  /** Arms places of a frame. What was decoded of it goes, if any of them is new. No translated code is under way. */
  arm(frame: number, offsets: Iterable<number>): void {
    for (const offset of offsets) {
      if (this.has(frame, offset)) continue;
      const places = this.frames.get(frame);
      if (places) places.add(offset);
      else this.frames.set(frame, new Set([offset]));
      this.empty(frame);
    }
  }

  /** Disarms everything. Translated code that is under way has to be left. */
  disarm(): void {
    for (const frame of this.frames.keys()) this.empty(frame);
    this.frames.clear();
  }

  /** As `emptyCode` in `library/shadow.ts`. */
  private empty(frame: number): void {
    const { words, bytes } = this.pool;
    const page = this.code.of(frame);
    // Pages that the pool has taken away are not this worker's to write to.
    if (page === 0 || !this.code.valid) return;
    bytes.fill(0, page, page + CODE_PAGE.sentinel);
    words[(page + CODE_PAGE.version) >>> 2]!++;
  }
}

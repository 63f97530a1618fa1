/**
 * A machine's RAM: a map of its guest-physical pages.
 *
 * Pages are absent until they are touched; an absent page is zero, or comes from a `PageSource` at its first touch. Every
 * write from outside the harts goes through `write`, the traced write.
 */

import { FrameMap, type MapRoots, type PageSource } from './frame-map.ts';
import { ENTRY_FRAME, ENTRY_REMOTE, FRAME_RECORD, HAS_CODE, IS_TABLE, PAGE, RAM_BASE } from './layout.ts';
import type { Pool } from './pool.ts';

export class Ram extends FrameMap {
  /** Hear of what `write` is about to change, page by page: guest-physical address and length. */
  readonly onWrite = new Set<(address: number, length: number) => void>();

  /** `size` in bytes, a multiple of 4 KiB. With `roots`: RAM that they hold already. */
  constructor(pool: Pool, size: number, from: { roots?: MapRoots; source?: PageSource | undefined } = {}) {
    super(pool, size / PAGE, from);
    if (from.roots) return;
    try {
      this.makeLeaves();
    } catch (error) {
      this.free();
      throw error;
    }
  }

  /** Host address of the directory. */
  get directory(): number {
    return this.roots[0]! * PAGE;
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
      for (const hear of this.onWrite) hear(address + done, length);
      const flags = this.pool.words[this.pool.recordWord(Math.floor(host / PAGE), FRAME_RECORD.flags)]!;
      if (flags & (HAS_CODE | IS_TABLE)) this.tracer?.trace(host, length);
      this.pool.bytes.set(bytes.subarray(done, done + length), host);
    });
    return true;
  }
}

/**
 * What a recording may cost its reader: bytes that are held as long as it is open, and bytes that are unpacked to open it.
 * Both grow with the file, so that every real recording can be read, and a small made-up one cannot take much. The part of a
 * file up to some byte has the same allowance whatever follows. A writer keeps to the first one too.
 */

import type { Mark } from './info.ts';

/** Bytes that are held for one of each, lists that grow and what V8 adds included. */
export const HELD = { stretch: 512, keyframe: 1024, page: 8, block: 32, written: 12 } as const;

/** Bytes that are held for a mark. */
export function heldOfMark({ name }: Pick<Mark, 'name'>): number {
  return 256 + 2 * name.length;
}

/** Bytes held at most: these, and so many for each byte of the file, and never more than the last. */
const HELD_AT_MOST = { first: 2 ** 27, each: 16, all: 2 ** 31 } as const;
/** Bytes unpacked at most, likewise. */
const UNPACKED_AT_MOST = { first: 2 ** 30, each: 64, all: Number.MAX_SAFE_INTEGER } as const;

const most = ({ first, each, all }: typeof HELD_AT_MOST | typeof UNPACKED_AT_MOST, size: number) =>
  Math.min(all, first + each * size);

export class Allowance {
  private held = 0;
  private unpacked = 0;

  /** Charges bytes that are held; false, and nothing is charged, where `size` bytes of a file do not allow for them. */
  hold(bytes: number, size: number): boolean {
    if (this.held + bytes > most(HELD_AT_MOST, size)) return false;
    this.held += bytes;
    return true;
  }

  /** Charges bytes that a chunk has when it is unpacked, likewise. */
  unpack(bytes: number, size: number): boolean {
    if (this.unpacked + bytes > most(UNPACKED_AT_MOST, size)) return false;
    this.unpacked += bytes;
    return true;
  }
}

/**
 * Contents of pages by what they have other than earlier ones, as chunks of changes hold them:
 *
 *     changes = for each content: base | n | n words of runs       all numbers are words of 32 bits
 *     base    = 0 for a page of zeros, or 1 + the number of an earlier content
 *     run     = index of its first word in the page | how many << 16 | that many words, as the content has them
 *
 * A base may have a base itself: a content has at most `CHAIN` of them behind it, so reading one costs a few chunks and no more.
 */

import { PAGE } from '../../memory/layout.ts';
import type { Pool } from '../../memory/pool.ts';
import { StateError } from '../../state/errors.ts';

/** Contents that one is made from, one after the other, at most. */
export const CHAIN = 4;
/** Contents in a chunk, and the bytes from which on nothing is added to one. */
export const MOST_CONTENTS = 256;
export const FULL = 2 ** 18;
const HEAD = 8;
const WORDS = PAGE / 4;
/** Words of runs of any page, and of those that are worth a base: reading one costs more than they save. */
const ANY = WORDS + 1;
const WORTH = WORDS / 2;
/** Bytes that a chunk may have. */
export const MOST_BYTES = FULL + HEAD + 4 * ANY;

/** What the writer knows of a page: the number of its last content plus 1, or 0 for zeros, and how many bases that has. */
export class PageBases {
  private readonly contents: Uint32Array;
  private readonly depths: Uint8Array;

  constructor(pages: number) {
    this.contents = new Uint32Array(pages);
    this.depths = new Uint8Array(pages);
  }

  /** The base that a page's next content may have, 0 for none. */
  find(page: number): number {
    return this.depths[page]! < CHAIN ? this.contents[page]! : 0;
  }

  /** The page has another content, with or without a base; or is zero, without `content`. */
  set(page: number, content?: number, based = false): void {
    this.contents[page] = content === undefined ? 0 : content + 1;
    this.depths[page] = based ? this.depths[page]! + 1 : 0;
  }
}

/** A chunk of changes that is being filled. */
export class ChangesEncoder {
  private readonly pool: Pool;
  private readonly scratch: number;
  private readonly bytes = new Uint8Array(MOST_BYTES);
  private readonly view = new DataView(this.bytes.buffer);
  private length = 0;
  contents = 0;

  /** `scratch`: host address of 8 KiB that nothing else uses during a call. */
  constructor(pool: Pool, scratch: number) {
    this.pool = pool;
    this.scratch = scratch;
  }

  get full(): boolean {
    return this.length >= FULL || this.contents === MOST_CONTENTS;
  }

  /** Whether a frame is all zeros. */
  isZero(frame: number): boolean {
    return this.pool.routines.changes(0, frame, this.scratch, 1) === 0;
  }

  /** Adds a frame's content. `base`: 0, or what `PageBases` has for the content of frame `before`. Returns whether it has a base. */
  add(frame: number, base: number, before: number): boolean {
    const { pool, scratch, view } = this;
    let words = base === 0 ? -1 : pool.routines.changes(before, frame, scratch, WORTH);
    const based = words >= 0;
    if (!based) words = pool.routines.changes(0, frame, scratch, ANY);
    view.setUint32(this.length, based ? base : 0, true);
    view.setUint32(this.length + 4, words, true);
    this.bytes.set(pool.bytes.subarray(scratch, scratch + 4 * words), this.length + HEAD);
    this.length += HEAD + 4 * words;
    this.contents++;
    return based;
  }

  /** What has been added; valid until `clear`. */
  get encoded(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }

  clear(): void {
    this.length = 0;
    this.contents = 0;
  }
}

export interface PageChange {
  /** 0, or 1 + the number of another content. */
  readonly base: number;
  /** A view. */
  readonly runs: Uint8Array;
}

const viewOf = ({ buffer, byteOffset, byteLength }: Uint8Array) => new DataView(buffer, byteOffset, byteLength);

/** One of the contents of a chunk of changes. Throws `StateError`. */
export function changeAt(chunk: Uint8Array, index: number): PageChange {
  const view = viewOf(chunk);
  for (let at = 0, n = 0; at + HEAD <= chunk.length; n++) {
    const next = at + HEAD + 4 * view.getUint32(at + 4, true);
    if (next > chunk.length) break;
    if (n === index) return { base: view.getUint32(at, true), runs: chunk.subarray(at + HEAD, next) };
    at = next;
  }
  throw new StateError(`content ${index} of the chunk`, 'is cut off');
}

/** Makes a base what the content is. Throws `StateError`, perhaps with some of it done. */
export function applyRuns(runs: Uint8Array, page: Uint8Array): void {
  const view = viewOf(runs);
  for (let at = 0; at < runs.length; ) {
    const head = view.getUint32(at, true);
    const first = head & 0xffff;
    const count = head >>> 16;
    const end = at + 4 + 4 * count;
    if (count === 0 || first + count > WORDS || end > runs.length) {
      throw new StateError(`byte ${at} of the changes`, `${count} words from word ${first} on are not of a page`);
    }
    page.set(runs.subarray(at + 4, end), 4 * first);
    at = end;
  }
}

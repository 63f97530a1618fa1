/**
 * Which content each page has as of each keyframe: for every page a list of the keyframes that name it, ascending, as one number each.
 * Four bytes for each time a page is named, and for each page; a look-up is a binary search in the page's list.
 */

import { ZERO_PAGE } from './keyframe.ts';

export interface NamedPages {
  /** Ascending, with `ZERO_PAGE` for those without content. */
  readonly pages: Uint32Array;
  /** Number of the first one's content; the others' follow. */
  readonly firstContent: number;
  /** How many there are. */
  readonly contents: number;
}

export class PageVersions {
  private readonly pages: number;
  /** Where a page's list begins in `entries`, and behind the last page where it ends. */
  private readonly starts: Uint32Array;
  /** The number of a content, or -1 - k of a keyframe k at which the page became zero. */
  private readonly entries: Int32Array;
  /** For each keyframe the number behind those of its contents. */
  private readonly ends: Uint32Array;

  /** `pages`: of RAM. */
  constructor(pages: number, keyframes: readonly NamedPages[]) {
    this.pages = pages;
    this.starts = new Uint32Array(pages + 1);
    const { starts } = this;
    for (const { pages: named } of keyframes) for (const page of named) starts[(page & ~ZERO_PAGE) + 1]!++;
    for (let page = 0; page < pages; page++) starts[page + 1]! += starts[page]!;
    this.entries = new Int32Array(starts[pages]!);
    this.ends = new Uint32Array(keyframes.length);
    const next = starts.slice();
    for (const [keyframe, { pages: named, firstContent, contents }] of keyframes.entries()) {
      let content = firstContent;
      for (const page of named) {
        this.entries[next[page & ~ZERO_PAGE]!++] = page & ZERO_PAGE ? -1 - keyframe : content++;
      }
      this.ends[keyframe] = firstContent + contents;
    }
  }

  /** The number of a page's content as of a keyframe, or -1 of one that is zero. */
  find(keyframe: number, page: number): number {
    const behind = this.behind(keyframe, page);
    return behind === this.starts[page] ? -1 : Math.max(-1, this.entries[behind - 1]!);
  }

  /** Whether a keyframe names a page. */
  named(keyframe: number, page: number): boolean {
    const before = keyframe === 0 ? this.starts[page]! : this.behind(keyframe - 1, page);
    return before < this.behind(keyframe, page);
  }

  /** Where in a page's list those of the keyframes after this one begin. */
  private behind(keyframe: number, page: number): number {
    const { entries } = this;
    const end = this.ends[keyframe]!;
    let low = this.starts[page]!;
    let high = this.starts[page + 1]!;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const entry = entries[middle]!;
      if (entry < 0 ? -1 - entry <= keyframe : entry < end) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Pages with content as of a keyframe, ascending. */
  present(keyframe: number): Uint32Array {
    const found = new Uint32Array(this.pages);
    let count = 0;
    for (let page = 0; page < this.pages; page++) if (this.find(keyframe, page) >= 0) found[count++] = page;
    return found.slice(0, count);
  }

  /** The keyframe with which a content came. */
  keyframeOf(content: number): number {
    let low = 0;
    let high = this.ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ends[middle]! <= content) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

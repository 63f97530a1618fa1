/**
 * The frame pool: 4 KiB frames of one wasm memory, with a record for each (see `layout.ts`).
 *
 * A frame is free (0 references), or held by maps and others. Frames come zeroed. Allocation takes a free frame if there is one
 * and else the next that was never used, so a pool costs the host what its machines have touched at the same time, at most.
 */

import {
  CODE_PAGE,
  CODE_PAGES,
  CODE_PAGES_END,
  FIRST_FRAME,
  FRAME_RECORD,
  FRAME_RECORDS,
  FRAMES_END,
  PAGE,
  POOL_PAGES,
} from './layout.ts';

/** No frame is left. */
export class PoolFullError extends Error {
  readonly code = 'ERR_BRAID_POOL_FULL';
  constructor(frames: number) {
    super(`the memory pool is full (${frames} frames of 4 KiB): stop a machine, or give the pool fewer of them`);
    this.name = 'PoolFullError';
  }
}

export const POOL_MEMORY = { min: POOL_PAGES, max: POOL_PAGES, shared: true } as const;

export class Pool {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly halves: Uint16Array;
  private nextFrame = FIRST_FRAME;
  private freeFrame = 0;
  private freeCount = 0;
  private readonly limit: number;
  private nextCodePage = CODE_PAGES;
  private readonly codePagesEnd: number;
  /** Called before all code pages go: whoever may refer to one forgets it. An engine adds itself, and stays for good. */
  readonly codeHolders: (() => void)[] = [];

  /**
   * `limit`: how many frames machines may hold together; `codePages`: how many of them may hold code at the same time. By default
   * as many as fit.
   */
  constructor(limit: number = FRAMES_END - FIRST_FRAME, codePages: number = Number.MAX_SAFE_INTEGER) {
    this.limit = Math.min(limit, FRAMES_END - FIRST_FRAME);
    this.codePagesEnd = Math.min(CODE_PAGES + codePages * CODE_PAGE.size, CODE_PAGES_END);
    this.memory = new WebAssembly.Memory({ initial: POOL_PAGES, maximum: POOL_PAGES, shared: true });
    this.bytes = new Uint8Array(this.memory.buffer);
    this.words = new Uint32Array(this.memory.buffer);
    this.halves = new Uint16Array(this.memory.buffer);
  }

  /** Frames in use. */
  get used(): number {
    return this.nextFrame - FIRST_FRAME - this.freeCount;
  }

  /** Index into `words` of a field of a frame's record. */
  recordWord(frame: number, field: number): number {
    return (FRAME_RECORDS + frame * FRAME_RECORD.size + field) >>> 2;
  }

  references(frame: number): number {
    return this.words[this.recordWord(frame, FRAME_RECORD.references)]!;
  }

  /** A zeroed frame with one reference. Throws `PoolFullError`. */
  allocate(): number {
    let frame = this.freeFrame;
    if (frame !== 0) {
      const link = this.recordWord(frame, FRAME_RECORD.code);
      this.freeFrame = this.words[link]!;
      this.words[link] = 0;
      this.freeCount--;
      this.bytes.fill(0, frame * PAGE, (frame + 1) * PAGE);
    } else {
      if (this.nextFrame - FIRST_FRAME >= this.limit) throw new PoolFullError(this.limit);
      frame = this.nextFrame++;
    }
    this.words[this.recordWord(frame, FRAME_RECORD.references)] = 1;
    return frame;
  }

  retain(frame: number): void {
    this.words[this.recordWord(frame, FRAME_RECORD.references)]!++;
  }

  /** Gives up one reference; the last one frees the frame, and with its generation everything that was derived from it. */
  release(frame: number): void {
    const word = this.recordWord(frame, FRAME_RECORD.references);
    if (--this.words[word]! > 0) return;
    const first = this.recordWord(frame, 0);
    const generation = this.words[this.recordWord(frame, FRAME_RECORD.generation)]!;
    const codePage = this.words[this.recordWord(frame, FRAME_RECORD.code)]!;
    if (codePage !== 0) this.freeCodePages.push(codePage);
    this.words.fill(0, first, first + FRAME_RECORD.size / 4);
    this.words[this.recordWord(frame, FRAME_RECORD.generation)] = generation + 1;
    this.words[this.recordWord(frame, FRAME_RECORD.code)] = this.freeFrame;
    this.freeFrame = frame;
    this.freeCount++;
  }

  private readonly freeCodePages: number[] = [];

  /** Room for a code page, emptied; 0 when there is none left. */
  allocateCodePage(frame: number): number {
    let page = this.freeCodePages.pop();
    if (page === undefined) {
      if (this.nextCodePage + CODE_PAGE.size > this.codePagesEnd) return 0;
      page = this.nextCodePage;
      this.nextCodePage += CODE_PAGE.size;
    }
    this.bytes.fill(0, page, page + CODE_PAGE.size);
    this.words[(page + CODE_PAGE.frame) >>> 2] = frame;
    this.words[this.recordWord(frame, FRAME_RECORD.code)] = page;
    return page;
  }

  /** Takes every code page away from its frame, and makes every engine of the pool forget them. */
  dropCodePages(): void {
    for (const forget of this.codeHolders) forget();
    for (let page = CODE_PAGES; page < this.nextCodePage; page += CODE_PAGE.size) {
      const frame = this.words[(page + CODE_PAGE.frame) >>> 2]!;
      const word = this.recordWord(frame, FRAME_RECORD.code);
      if (this.words[word] !== page) continue;
      this.words[word] = 0;
      this.words[this.recordWord(frame, FRAME_RECORD.flags)]! &= ~1;
    }
    this.nextCodePage = CODE_PAGES;
    this.freeCodePages.length = 0;
  }
}

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
  ENTRY_FRAME,
  FIRST_FRAME,
  FRAME_HASHED,
  FRAME_RECORD,
  FRAME_RECORDS,
  FRAMES_END,
  HEADER,
  LEAF_PAGES,
  PAGE,
} from './layout.ts';
import { POOL_MEMORY, type Routines, routines } from './routines.ts';

/** No frame is left, or a worker has found no code page at all. */
export class PoolFullError extends Error {
  readonly code = 'ERR_BRAID_POOL_FULL';
  constructor(count: number, what = 'frames of 4 KiB') {
    super(`the memory pool is full (${count} ${what}): stop a machine, or give the pool fewer of them`);
    this.name = 'PoolFullError';
  }
}

export class Pool {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly halves: Uint16Array;
  readonly routines: Routines;

  /**
   * `limit`: how many frames machines may hold together; `codePages`: how many of them may hold code at the same time. By default
   * as many as fit. With `memory`: another thread's view of a pool that exists already.
   */
  constructor(
    limit: number = FRAMES_END - FIRST_FRAME,
    codePages: number = Number.MAX_SAFE_INTEGER,
    memory?: WebAssembly.Memory,
  ) {
    this.memory =
      memory ?? new WebAssembly.Memory({ initial: POOL_MEMORY.min, maximum: POOL_MEMORY.max, shared: true });
    this.bytes = new Uint8Array(this.memory.buffer);
    this.words = new Uint32Array(this.memory.buffer);
    this.halves = new Uint16Array(this.memory.buffer);
    this.routines = routines(this.memory);
    if (memory) return;
    this.words[HEADER.nextFrame] = FIRST_FRAME;
    this.words[HEADER.endFrame] = Math.min(FIRST_FRAME + limit, FRAMES_END);
    this.words[HEADER.nextCodePage] = CODE_PAGES;
    this.words[HEADER.endCodePage] = Math.min(CODE_PAGES + codePages * CODE_PAGE.size, CODE_PAGES_END);
  }

  /** Frames in use. */
  get used(): number {
    return this.words[HEADER.nextFrame]! - FIRST_FRAME - this.words[HEADER.freeFrames]!;
  }

  /** Index into `words` of a field of a frame's record. */
  recordWord(frame: number, field: number): number {
    return (FRAME_RECORDS + frame * FRAME_RECORD.size + field) >>> 2;
  }

  references(frame: number): number {
    return Atomics.load(this.words, this.recordWord(frame, FRAME_RECORD.references));
  }

  /** Runs a few loads and stores that no other thread may be in the middle of. Never held while a guest runs. */
  private exclusively<T>(change: () => T): T {
    while (Atomics.compareExchange(this.words, HEADER.lock, 0, 1) !== 0);
    try {
      return change();
    } finally {
      Atomics.store(this.words, HEADER.lock, 0);
    }
  }

  /** How many frames machines may hold together. */
  get limit(): number {
    return this.words[HEADER.endFrame]! - FIRST_FRAME;
  }

  /** How many more frames there are. */
  get available(): number {
    return this.words[HEADER.endFrame]! - this.words[HEADER.nextFrame]! + this.words[HEADER.freeFrames]!;
  }

  /** A frame with one reference, zeroed unless all of it is about to be written. Throws `PoolFullError`. */
  allocate(zeroed = true): number {
    const { words } = this;
    const frame = this.exclusively(() => {
      const free = words[HEADER.freeFrame]!;
      if (free !== 0) {
        words[HEADER.freeFrame] = words[this.recordWord(free, FRAME_RECORD.next)]!;
        words[HEADER.freeFrames]!--;
        return free;
      }
      const next = words[HEADER.nextFrame]!;
      if (next >= words[HEADER.endFrame]!) throw new PoolFullError(words[HEADER.endFrame]! - FIRST_FRAME);
      words[HEADER.nextFrame] = next + 1;
      return -next;
    });
    if (frame > 0) {
      words[this.recordWord(frame, FRAME_RECORD.next)] = 0;
      if (zeroed) this.routines.clear(frame);
    }
    const number = Math.abs(frame);
    this.bytes[FRAME_HASHED + number] = 0;
    Atomics.store(words, this.recordWord(number, FRAME_RECORD.references), 1);
    return number;
  }

  /** One more holder. From one to two only the worker that owns the stopped machine may go. */
  retain(frame: number): void {
    Atomics.add(this.words, this.recordWord(frame, FRAME_RECORD.references), 1);
  }

  /** Gives up one reference; the last one frees the frame, and with its generation everything that was derived from it. */
  release(frame: number): void {
    if (this.letGo(frame)) this.free(frame);
  }

  /** Gives up one reference to a leaf; with the last one go those that the leaf holds. */
  releaseLeaf(leaf: number): void {
    if (!this.letGo(leaf)) return;
    const first = (leaf * PAGE) / 4;
    for (let word = first; word < first + LEAF_PAGES; word++) {
      const frame = this.words[word]! & ENTRY_FRAME;
      if (frame !== 0) this.release(frame);
    }
    this.free(leaf);
  }

  /** Whether that was the last reference. */
  private letGo(frame: number): boolean {
    return Atomics.sub(this.words, this.recordWord(frame, FRAME_RECORD.references), 1) === 1;
  }

  private free(frame: number): void {
    const { words } = this;
    const first = this.recordWord(frame, 0);
    const generation = words[this.recordWord(frame, FRAME_RECORD.generation)]!;
    words.fill(0, first, first + FRAME_RECORD.size / 4);
    words[this.recordWord(frame, FRAME_RECORD.generation)] = generation + 1;
    this.exclusively(() => this.putFree(frame));
  }

  private putFree(frame: number): void {
    const { words } = this;
    words[this.recordWord(frame, FRAME_RECORD.next)] = words[HEADER.freeFrame]!;
    words[HEADER.freeFrame] = frame;
    words[HEADER.freeFrames]!++;
  }

  /** How many holders each frame has that was ever used, from the first on, by all who hold any: see `rebuild`. */
  private countReferences(directories: readonly number[], frames: readonly number[]): Uint32Array {
    const { words } = this;
    const counts = new Uint32Array(words[HEADER.nextFrame]! - FIRST_FRAME);
    const count = (frame: number): boolean => counts[frame - FIRST_FRAME]!++ === 0;
    const forEntries = (frame: number, visit: (frame: number) => void): void => {
      for (let i = 0; i < PAGE / 4; i++) {
        const held = words[(frame * PAGE) / 4 + i]! & ENTRY_FRAME;
        if (held !== 0) visit(held);
      }
    };
    for (const frame of frames) count(frame);
    for (const directory of directories) {
      count(directory);
      // A leaf holds its frames once, however many directories hold the leaf.
      forEntries(directory, (leaf) => {
        if (count(leaf)) forEntries(leaf, count);
      });
    }
    return counts;
  }

  /** Compares the counts with those that follow from who holds what; the frames for which they differ. Nobody may change any meanwhile. */
  audit(directories: readonly number[], frames: readonly number[] = []): number[] {
    const wrong: number[] = [];
    this.countReferences(directories, frames).forEach((count, i) => {
      if (this.references(FIRST_FRAME + i) !== count) wrong.push(FIRST_FRAME + i);
    });
    return wrong;
  }

  /**
   * After a thread has died, whatever it was doing: makes counts and the free list anew from what survives. `directories` are those
   * of the maps in use, `frames` what else is held, once for each holder. Nobody else may use the pool meanwhile, and every worker
   * loses its code pages. Cost: a look at every map entry and every frame's record.
   */
  rebuild(directories: readonly number[], frames: readonly number[] = []): void {
    const { words } = this;
    words[HEADER.lock] = 0;
    const counts = this.countReferences(directories, frames);
    words[HEADER.nextCodePage] = CODE_PAGES;
    words[HEADER.freeCodePage] = 0;
    words[HEADER.codeEpoch]!++;
    words[HEADER.freeFrame] = 0;
    words[HEADER.freeFrames] = 0;
    counts.forEach((references, i) => {
      const frame = FIRST_FRAME + i;
      words[this.recordWord(frame, FRAME_RECORD.references)] = references;
      words[this.recordWord(frame, FRAME_RECORD.next)] = 0;
      if (references === 0) this.putFree(frame);
    });
  }

  /** Room for a code page, as its last user left it; 0 when there is none left. */
  takeCodePage(): number {
    const { words } = this;
    return this.exclusively(() => {
      const free = words[HEADER.freeCodePage]!;
      if (free !== 0) {
        words[HEADER.freeCodePage] = words[free >>> 2]!;
        return free;
      }
      const next = words[HEADER.nextCodePage]!;
      if (next + CODE_PAGE.size > words[HEADER.endCodePage]!) return 0;
      words[HEADER.nextCodePage] = next + CODE_PAGE.size;
      return next;
    });
  }

  giveCodePages(pages: Iterable<number>): void {
    const { words } = this;
    this.exclusively(() => {
      for (const page of pages) {
        words[page >>> 2] = words[HEADER.freeCodePage]!;
        words[HEADER.freeCodePage] = page;
      }
    });
  }

  /** Says which code pages a worker may refer to: those that it took since this last changed. */
  get codeEpoch(): number {
    return this.words[HEADER.codeEpoch]!;
  }
}

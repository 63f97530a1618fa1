/**
 * What a recording keeps of the disks: for each block of 4 KiB that the machine reads, what it held then. Nothing that the machine
 * writes is kept, since a replay writes the same.
 *
 * Time is cut into epochs: epoch k goes from keyframe k to the next one. A replay that begins at a keyframe has nothing but the
 * recording, and needs for every block that it reads, or overwrites in part, before it has written it, what the block held at the
 * keyframe. That is what it holds still at that first read: so a block is taken whenever it is read and nobody has taken it since
 * it was last written, unless it was written in the same epoch, when every replay that comes by here has written it too. For each
 * epoch the blocks written in it are noted; `DiskHistory` finds with them which of a block's contents is a keyframe's.
 *
 *        epoch 0        keyframe 1      epoch 1      keyframe 2     epoch 2
 *     read b: taken         |     write b: noted        |      read b: taken
 *     read b                |     read b                |      read b
 *
 * Cost: a byte for each block of the parts of the disk that are used, one look at it a block and call, and one copy of what is
 * taken. Where a range ends within a block that has to be taken, the block is read from the host once more.
 */

import { BLOCK } from '../disk/block-map.ts';
import { MachineError } from './options.ts';
import type { ContentWatch, WrittenBackend } from './written.ts';

/** What a block of a disk held when it was read. */
export interface CapturedBlock {
  readonly disk: number;
  /** Number of the last keyframe before. */
  readonly epoch: number;
  readonly block: number;
  /** 4096 bytes, fewer at the end of the disk. The receiver's to keep; several blocks may share a buffer. */
  readonly content: Uint8Array;
}

/** What is known of a block. */
const UNKNOWN = 0;
/** Taken, and not written since. */
const TAKEN = 1;
/** Written in the current epoch. */
const WRITTEN = 2;

/** Blocks of which the states lie together: 128 MiB of the disk. */
const GROUP = 32768;

class CapturedDisk implements ContentWatch {
  readonly backend: WrittenBackend;
  private readonly take: (block: number, content: Uint8Array) => void;
  private readonly fault: (error: unknown) => void;
  private readonly size: number;
  private readonly groups: (Uint8Array | undefined)[] = [];
  /** The blocks whose state is `WRITTEN`. */
  private written = new Uint32Array(1024);
  private count = 0;

  constructor(
    backend: WrittenBackend,
    take: (block: number, content: Uint8Array) => void,
    fault: (error: unknown) => void,
  ) {
    this.backend = backend;
    this.take = take;
    this.fault = fault;
    this.size = Number(backend.size);
  }

  read(offset: number, content: Uint8Array): void | Promise<void> {
    const end = offset + content.length;
    const last = this.lastWhole(end);
    for (let block = Math.ceil(offset / BLOCK); block < last; block++) {
      if (this.state(block) !== UNKNOWN) continue;
      const first = block;
      while (block + 1 < last && this.state(block + 1) === UNKNOWN) block++;
      const copy = content.slice(first * BLOCK - offset, Math.min((block + 1) * BLOCK, end) - offset);
      for (let one = first; one <= block; one++)
        this.keep(one, copy.subarray((one - first) * BLOCK, (one + 1 - first) * BLOCK));
    }
    return this.fetchEdges(offset, content.length);
  }

  changing(offset: number, length: number): void | Promise<void> {
    return this.fetchEdges(offset, length);
  }

  changed(offset: number, length: number): void {
    if (length === 0) return;
    const last = Math.floor((offset + length - 1) / BLOCK);
    for (let block = Math.floor(offset / BLOCK); block <= last; block++) {
      if (this.state(block) === WRITTEN) continue;
      this.setState(block, WRITTEN);
      if (this.count === this.written.length) {
        const more = new Uint32Array(2 * this.count);
        more.set(this.written);
        this.written = more;
      }
      this.written[this.count++] = block;
    }
  }

  failed(error: unknown): void {
    // The call is made again when there is room.
    if ((error as { code?: unknown } | undefined)?.code !== 'ERR_BRAID_POOL_FULL') this.fault(error);
  }

  broken(error: unknown): void {
    this.fault(error);
  }

  /** Begins an epoch; which blocks were written in the one before, ascending. */
  next(): Uint32Array {
    const blocks = this.written.slice(0, this.count).sort();
    for (const block of blocks) this.setState(block, UNKNOWN);
    this.count = 0;
    return blocks;
  }

  /** The first block that a range up to `end` does not cover to its end. */
  private lastWhole(end: number): number {
    return end === this.size ? Math.ceil(end / BLOCK) : Math.floor(end / BLOCK);
  }

  /** Takes the blocks that a range covers in part: at most the first and the last one. */
  private fetchEdges(offset: number, length: number): void | Promise<void> {
    if (length === 0) return undefined;
    const end = offset + length;
    const first = Math.floor(offset / BLOCK);
    const last = Math.floor((end - 1) / BLOCK);
    const lastInPart = this.lastWhole(end) <= last;
    const firstInPart = offset % BLOCK !== 0 || (first === last && lastInPart);
    const answer = firstInPart ? this.fetch(first) : undefined;
    if (!lastInPart || first === last) return answer;
    return answer === undefined ? this.fetch(last) : answer.then(() => this.fetch(last));
  }

  /** Takes a block by reading it. What cannot be read is not in the recording, and a replay that needs it will say so. */
  private fetch(block: number): void | Promise<void> {
    if (this.state(block) !== UNKNOWN) return undefined;
    const { replaced } = this.backend;
    const content = new Uint8Array(Math.min(BLOCK, this.size - block * BLOCK));
    const got = () => {
      if (this.backend.watch === this && this.backend.replaced === replaced) this.keep(block, content);
    };
    let answer: void | Promise<void>;
    try {
      answer = this.backend.inner.read(block * BLOCK, content);
    } catch {
      return undefined;
    }
    return answer === undefined ? got() : answer.then(got, () => {});
  }

  private keep(block: number, content: Uint8Array): void {
    this.setState(block, TAKEN);
    this.take(block, content);
  }

  private state(block: number): number {
    return this.groups[Math.floor(block / GROUP)]?.[block % GROUP] ?? UNKNOWN;
  }

  private setState(block: number, state: number): void {
    const group = Math.floor(block / GROUP);
    this.groups[group] ??= new Uint8Array(GROUP);
    this.groups[group][block % GROUP] = state;
  }
}

/** Follows a machine's disks (`machine.platform.backends`) from the moment that it is made, which is keyframe 0, until `stop`. */
export class DiskCapture {
  private readonly disks: readonly CapturedDisk[];
  private epoch = 0;

  /**
   * `taken` hears of each block as it is taken, while the machine runs. `failed` hears when what was taken is not enough for a replay: the
   * host could not read or write a disk, so the guest has seen an I/O error; or `taken` has thrown, which the guest does not see. Throws
   * `MachineError` where disks are recorded already, and while one is in the middle of a change.
   */
  constructor(
    backends: readonly WrittenBackend[],
    taken: (block: CapturedBlock) => void,
    failed?: (disk: number, error: unknown) => void,
  ) {
    if (backends.some(({ watch }) => watch))
      throw new MachineError('the disks of the machine are being recorded already');
    if (backends.some(({ busy }) => busy))
      throw new MachineError('a disk is in the middle of a change: wait for its end');
    this.disks = backends.map((backend, disk) => {
      const take = (block: number, content: Uint8Array) => taken({ disk, epoch: this.epoch, block, content });
      const captured = new CapturedDisk(backend, take, (error) => failed?.(disk, error));
      backend.watch = captured;
      return captured;
    });
  }

  /**
   * Whether a disk is in the middle of a change. No keyframe may be taken, nor a recording begun: a replay from there would make the
   * whole request once more, and what the first time needed is not what the second one needs.
   */
  get busy(): boolean {
    return this.disks.some(({ backend }) => backend.busy);
  }

  /** A keyframe is taken here: which blocks of each disk were written since the one before, ascending. */
  nextEpoch(): Uint32Array[] {
    this.epoch++;
    return this.disks.map((disk) => disk.next());
  }

  stop(): void {
    for (const disk of this.disks) if (disk.backend.watch === disk) disk.backend.watch = undefined;
  }
}

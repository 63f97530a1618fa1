/**
 * Which of the contents that a recording has of a disk's block is the one of a keyframe. See `machine/disk-capture.ts` for what is
 * recorded: contents with the epoch in which they were read, before the block was written in that epoch if at all, and for each
 * epoch the blocks written in it.
 *
 * A content of epoch c is what the block held at keyframe k
 *
 *     if c < k and the block was written in none of the epochs c to k - 1, or
 *     if c >= k and the block was written in none of the epochs k to c - 1.
 *
 * Where neither the last content before the keyframe nor the first one after is it, the recorded machine has not asked for what the
 * block held then.
 *
 * Cost: 16 bytes a content and 8 for each block and epoch in which it was written; they are sorted when they are asked for
 * first.
 */

import { DiskError } from '../disk/errors.ts';

/** A growing list of pairs of 32-bit numbers, by the first one and then by the second one once it is sorted. */
class Pairs {
  length = 0;
  /** A little-endian number of 64 bits for each pair: the second one is its low half. */
  private words = new Uint32Array(2048);
  private sorted = true;

  push(first: number, second: number): void {
    if (2 * this.length === this.words.length) {
      const more = new Uint32Array(2 * this.words.length);
      more.set(this.words);
      this.words = more;
    }
    this.words[2 * this.length] = second;
    this.words[2 * this.length + 1] = first;
    this.length++;
    this.sorted = false;
  }

  first(index: number): number {
    return this.words[2 * index + 1]!;
  }

  second(index: number): number {
    return this.words[2 * index]!;
  }

  /** How many pairs come before one with this first number whose second one is `before` no more. */
  search(first: number, before: (second: number) => boolean): number {
    if (!this.sorted) new BigUint64Array(this.words.buffer, 0, this.length).sort();
    this.sorted = true;
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.first(middle);
      if (other < first || (other === first && before(this.second(middle)))) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

interface Disk {
  /** Blocks with the numbers of their contents. */
  readonly blocks: Pairs;
  /** For each content its epoch and its name, in the order of the recording. */
  readonly contents: Pairs;
  /** Blocks with epochs in which they were written. */
  readonly written: Pairs;
}

const U32 = 2 ** 32;

export class DiskHistory {
  private readonly disks: Disk[] = [];

  /** A block's content, read in an epoch; `ref` is the caller's name for it. In the order of the recording: epochs never go back. */
  captured(disk: number, epoch: number, block: number, ref: number): void {
    const { blocks, contents } = this.disk(disk);
    check(block, epoch);
    if (contents.length > 0 && epoch < contents.first(contents.length - 1))
      throw new DiskError(`epoch ${epoch} of a recorded disk comes after a later one`);
    blocks.push(block, contents.length);
    contents.push(epoch, ref);
  }

  /** The blocks that were written in an epoch. */
  written(disk: number, epoch: number, blocks: Uint32Array): void {
    const { written } = this.disk(disk);
    check(0, epoch);
    for (const block of blocks) written.push(block, epoch);
  }

  /** The name of what a block held at a keyframe, or undefined where the recording does not have it. */
  find(disk: number, keyframe: number, block: number): number | undefined {
    const { blocks, contents, written } = this.disk(disk);
    const next = blocks.search(block, (index) => contents.first(index) < keyframe);
    const untouched = (from: number, to: number) => {
      const at = written.search(block, (epoch) => epoch < from);
      return at === written.length || written.first(at) !== block || written.second(at) >= to;
    };
    if (next > 0 && blocks.first(next - 1) === block) {
      const index = blocks.second(next - 1);
      if (untouched(contents.first(index), keyframe)) return contents.second(index);
    }
    if (next < blocks.length && blocks.first(next) === block) {
      const index = blocks.second(next);
      if (untouched(keyframe, contents.first(index))) return contents.second(index);
    }
    return undefined;
  }

  private disk(disk: number): Disk {
    this.disks[disk] ??= { blocks: new Pairs(), contents: new Pairs(), written: new Pairs() };
    return this.disks[disk];
  }
}

function check(block: number, epoch: number): void {
  if (!(block >= 0 && block < U32 && epoch >= 0 && epoch < U32))
    throw new DiskError(`a recorded disk has no block ${block} in epoch ${epoch}`);
}

/**
 * What disks held: each block that the machine read, or wrote in part, with its content at that time.
 *
 *     disk = for each of the block contents since the chunk before: disk | epoch | block      numbers as in bytes.ts
 *
 * `epoch`: index of the keyframe before. Epochs do not go back.
 */

import { PAGE } from '../../memory/layout.ts';
import { type ByteReader, ByteWriter } from './bytes.ts';
import { BATCH } from './chunk.ts';

export interface DiskCaptureItem {
  readonly disk: number;
  /** Index of the keyframe before. */
  readonly epoch: number;
  readonly block: number;
  /** 4096 bytes, or less at the disk's end. */
  readonly content: Uint8Array;
}

/** The contents of two chunks for each batch: blocks, and which they are. */
export function encodeCaptures(captures: readonly DiskCaptureItem[]): { blocks: Uint8Array; disk: Uint8Array }[] {
  const chunks: { blocks: Uint8Array; disk: Uint8Array }[] = [];
  for (let from = 0; from < captures.length; from += BATCH) {
    const batch = captures.slice(from, from + BATCH);
    const blocks = new Uint8Array(batch.length * PAGE);
    const writer = new ByteWriter();
    for (const [i, { disk, epoch, block, content }] of batch.entries()) {
      if (content.length > PAGE) throw new RangeError(`block ${block} has ${content.length} bytes`);
      blocks.set(content, i * PAGE);
      writer.number(disk);
      writer.number(epoch);
      writer.number(block);
    }
    chunks.push({ blocks, disk: writer.take() });
  }
  return chunks;
}

export interface CaptureIndex {
  readonly disk: number;
  readonly epoch: number;
  readonly block: number;
}

/** Throws `StateError`. `disks`: how many blocks each has; `epoch`: that of the capture before. */
export function* decodeCaptures(
  reader: ByteReader,
  disks: readonly number[],
  epoch: number,
  keyframes: number,
): Generator<CaptureIndex> {
  let least = epoch;
  while (reader.left > 0) {
    const disk = reader.number(disks.length - 1);
    const epoch = reader.number(keyframes - 1);
    if (epoch < least) reader.fail(`a block of keyframe ${epoch} comes after one of keyframe ${least}`);
    least = epoch;
    yield { disk, epoch, block: reader.number(disks[disk]! - 1) };
  }
}

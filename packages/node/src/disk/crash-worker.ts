/**
 * A process that is there to be killed: writes an overlay, flushes and commits, and says after each flush which one it was. What it
 * writes follows from the number of the flush (`written`).
 */

import { writeSync } from 'node:fs';
import { OverlayBackend } from '@braid/core/disk/overlay.ts';
import { MemoryBlockMap } from '@braid/core/testing/block-map.ts';
import { Random } from '@braid/core/testing/random.ts';
import { FileBackend } from './file-backend.ts';

export const BLOCKS = 40;
const BLOCK = 4096;

/** What is written between one flush and the next: offsets within the disk, and what each range is filled with. */
export function written(flush: number): { offset: number; length: number; fill: number }[] {
  const random = new Random(flush);
  return Array.from({ length: 1 + random.below(6) }, () => {
    const offset = random.below(BLOCKS * 8) * 512;
    const length = Math.min((1 + random.below(20)) * 512, BLOCKS * BLOCK - offset);
    return { offset, length, fill: random.below(256) };
  });
}

if (process.argv[1] === import.meta.filename) {
  const [, , image, first] = process.argv;
  const file = new FileBackend(image!, false);
  const disk = new OverlayBackend(file, new MemoryBlockMap(), { journal: file, frozen: true });
  for (let flush = Number(first); ; flush++) {
    for (const { offset, length, fill } of written(flush)) disk.write(offset, new Uint8Array(length).fill(fill));
    if (flush % 5 === 4) disk.commit();
    else disk.flush();
    writeSync(1, `${flush}\n`);
  }
}

/**
 * What tells whether a disk still holds what it held when a machine was saved.
 *
 * An image that its machine writes in place is recognised by its time of change, to the nanosecond, and by a sample of its blocks: a
 * look of a few milliseconds however large it is. Any other disk, in memory or with an overlay, is hashed as a whole.
 */

import { createHash } from 'node:crypto';
import type { BlockBackend } from '@braid/core/devices/virtio-block/backend.ts';
import { OverlayBackend } from '@braid/core/disk/overlay.ts';
import { Fields } from '@braid/core/state/check.ts';
import { BraidError } from '../errors.ts';
import { FileBackend } from './file-backend.ts';

const PIECE = 2 ** 20;
/** Blocks of a sample, at equal distances from the first to the last. */
const SAMPLES = 256;
const BLOCK = 4096;

export interface DiskStamp {
  /** Time of the last change in ns since 1970, of an image that is written in place. */
  readonly modified: bigint | undefined;
  /** SHA-256 of the sample, or of the whole content; nothing of a disk that only a recording has. */
  readonly hash: string | undefined;
}

/** A disk's stamp, at a moment when its machine stands still. Costs as much as reading the disk where it is no image in place. */
export function stampDisk(disk: BlockBackend): DiskStamp {
  if (disk instanceof OverlayBackend && disk.partial) return { modified: undefined, hash: undefined };
  const file = imageOf(disk);
  if (file) return { modified: file.stamp(), hash: sample(file) };
  return { modified: undefined, hash: content(disk) };
}

/** Stamps from a record, which may come from anywhere. Throws `StateError`. */
export function restoreStamps(state: unknown): DiskStamp[] {
  return new Fields({ disks: state }, 'saved machine').list('disks', 0, 8, (item, where) => {
    const record = new Fields(item, where);
    const [modified, hash] = [record.record('modified'), record.record('hash')];
    record.end();
    if ((modified !== undefined && typeof modified !== 'bigint') || (hash !== undefined && typeof hash !== 'string'))
      throw new BraidError('ERR_BRAID_STATE', `${where}: it is no stamp of a disk`);
    return { modified, hash };
  });
}

/** Throws `ERR_BRAID_STATE` for a disk, attached to a saved machine as number `n`, that is not known to hold what it held then. */
export function requireSame(then: DiskStamp | undefined, disk: BlockBackend, n: number): void {
  const difference = differenceOf(then, disk);
  if (difference === undefined) return;
  const name = imageOf(disk)?.path ?? 'in memory';
  throw new BraidError(
    'ERR_BRAID_STATE',
    `disk ${n} (${name}): ${difference}; the guest would damage it. Attach the disk as it was when the machine was saved, or insist ` +
      'with acceptChangedDisks',
  );
}

function differenceOf(then: DiskStamp | undefined, disk: BlockBackend): string | undefined {
  if (then?.hash === undefined) return 'nothing tells whether it holds what it held when the machine was saved';
  if (then.modified === undefined) {
    return content(disk) === then.hash ? undefined : 'its content is another one than when the machine was saved';
  }
  const file = imageOf(disk);
  if (!file) return 'it was an image in a file when the machine was saved';
  const modified = file.stamp();
  if (modified !== then.modified) {
    const [was, is] = [then.modified, modified].map((time) => new Date(Number(time / 1_000_000n)).toISOString());
    return `it was last changed at ${is}, and the saved machine knows it as of ${was}`;
  }
  return sample(file) === then.hash ? undefined : 'its content is another one than when the machine was saved';
}

/** The image that a disk is, as it is. */
function imageOf(disk: BlockBackend): FileBackend | undefined {
  const base = disk instanceof OverlayBackend && !disk.frozen ? disk.base : disk;
  return base instanceof FileBackend ? base : undefined;
}

function sample(disk: BlockBackend): string {
  const blocks = Math.ceil(Number(disk.size) / BLOCK);
  const step = Math.max(1, (blocks - 1) / (SAMPLES - 1));
  const hash = createHash('sha256');
  const bytes = new Uint8Array(BLOCK);
  for (let n = 0; n < Math.min(SAMPLES, blocks); n++) {
    const offset = Math.round(n * step) * BLOCK;
    const piece = bytes.subarray(0, Math.min(BLOCK, Number(disk.size) - offset));
    disk.read(offset, piece);
    hash.update(piece);
  }
  return hash.digest('hex');
}

function content(disk: BlockBackend): string {
  const hash = createHash('sha256');
  const bytes = new Uint8Array(PIECE);
  for (let offset = 0; offset < Number(disk.size); offset += PIECE) {
    const piece = bytes.subarray(0, Math.min(PIECE, Number(disk.size) - offset));
    disk.read(offset, piece);
    hash.update(piece);
  }
  return hash.digest('hex');
}

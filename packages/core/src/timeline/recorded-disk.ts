/**
 * A disk as a recording has it: the base of a replay's disk, never written, below the overlay that takes what the replay writes.
 *
 * It holds what was on the disk at a keyframe, as far as the recorded machine has read it later, or overwritten it in part, before
 * it wrote it. That is all that a replay from there asks for. A run that leaves the recording may ask for more: it gets an I/O error,
 * and so does a replay whose recording is not whole, which `missing` hears of.
 */

import type { BlockBackend } from '../devices/virtio-block/backend.ts';
import { BLOCK } from '../disk/block-map.ts';
import { DiskError } from '../disk/errors.ts';
import type { DiskHistory } from './disk-history.ts';

export class RecordedDisk implements BlockBackend {
  readonly size: bigint;
  readonly readOnly: boolean;
  readonly partial = true;
  /**
   * Whose content it holds: the keyframe at which the overlay above was empty, or a later one that the replay has passed. The later it
   * is, the more a run that leaves the recording finds.
   */
  keyframe = 0;
  /** Hears of each block that is asked for and is not there. */
  missing: ((error: DiskError) => void) | undefined;
  private readonly history: DiskHistory;
  private readonly disk: number;
  private readonly content: (ref: number, into: Uint8Array) => void;

  /** `content` fills an array with a block's bytes, as many as the block has within the disk. */
  constructor(
    history: DiskHistory,
    disk: number,
    options: { readonly size: bigint; readonly readOnly: boolean },
    content: (ref: number, into: Uint8Array) => void,
  ) {
    this.history = history;
    this.disk = disk;
    this.size = options.size;
    this.readOnly = options.readOnly;
    this.content = content;
  }

  read(offset: number, into: Uint8Array): void {
    const end = offset + into.length;
    for (let at = offset; at < end; ) {
      const block = Math.floor(at / BLOCK);
      const from = block * BLOCK;
      const to = Math.min(from + BLOCK, Number(this.size));
      const ref = this.history.find(this.disk, this.keyframe, block);
      if (ref === undefined) {
        const error = new DiskError(
          `the recording does not have block ${block} of disk ${this.disk} (bytes ${from} to ${to - 1}): the recorded machine ` +
            `did not read it after keyframe ${this.keyframe} as it was then`,
        );
        this.missing?.(error);
        throw error;
      }
      const upTo = Math.min(to, end);
      const part = into.subarray(at - offset, upTo - offset);
      if (part.length === to - from) {
        this.content(ref, part);
      } else {
        const whole = new Uint8Array(to - from);
        this.content(ref, whole);
        part.set(whole.subarray(at - from, upTo - from));
      }
      at = upTo;
    }
  }

  write(): void {
    throw new DiskError('a recorded disk is not written: what a replay writes goes to an overlay');
  }

  flush(): void {}
}

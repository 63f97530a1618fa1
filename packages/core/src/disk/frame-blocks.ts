/** Overlay blocks in frames of a machine's pool: what forks share until one of them writes. */

import { FrameMap, freeMap, type MapRoots } from '../memory/frame-map.ts';
import { ENTRY_FRAME, PAGE } from '../memory/layout.ts';
import type { Pool } from '../memory/pool.ts';
import { BLOCK, type BlockMap } from './block-map.ts';

export class FrameBlocks implements BlockMap {
  private readonly pool: Pool;
  private readonly blocks: number;
  private map: FrameMap;
  /** The block that was made zero last: the next one may have its frame. */
  private zeroed: number | undefined;

  /** For a disk of `size` bytes; with `roots`, the blocks that they hold. Costs a frame for each 4 GiB of the disk. */
  constructor(pool: Pool, size: bigint, roots?: MapRoots) {
    this.pool = pool;
    this.blocks = Math.ceil(Number(size) / BLOCK);
    this.map = new FrameMap(pool, this.blocks, roots ? { roots } : {});
  }

  get(block: number): Uint8Array | undefined {
    const frame = this.map.entry(block) & ENTRY_FRAME;
    return frame === 0 ? undefined : this.pool.bytes.subarray(frame * PAGE, (frame + 1) * PAGE);
  }

  own(block: number): { bytes: Uint8Array; fresh: boolean } {
    const fresh = (this.map.entry(block) & ENTRY_FRAME) === 0;
    const host = this.map.prepare(block, true);
    return { bytes: this.pool.bytes.subarray(host, host + PAGE), fresh };
  }

  zero(block: number): void {
    const like = this.zeroed;
    if (like !== undefined && like !== block && this.isZero(like)) {
      this.map.alias(block, like);
      return;
    }
    this.own(block).bytes.fill(0);
    this.zeroed = block;
  }

  private isZero(block: number): boolean {
    const first = ((this.map.entry(block) & ENTRY_FRAME) * PAGE) / 4;
    return first !== 0 && this.pool.words.subarray(first, first + PAGE / 4).every((word) => word === 0);
  }

  changed(other?: FrameBlocks): Iterable<number> {
    return this.map.changed(other?.map.roots);
  }

  /** As `changed`, against a map by its roots. */
  changedFrom(roots: MapRoots): Iterable<number> {
    return this.map.changed(roots);
  }

  clear(): void {
    const old = this.map;
    this.map = new FrameMap(this.pool, this.blocks);
    old.free();
  }

  /** The same blocks for another machine; see `FrameMap.share`. */
  share(): MapRoots {
    return this.map.share();
  }

  /** Takes the blocks of another map of the disk, by its roots; which blocks have changed by that. */
  become(roots: MapRoots): number[] {
    const changed = [...this.map.changed(roots)];
    this.map.become(roots);
    return changed;
  }

  get roots(): MapRoots {
    return this.map.roots;
  }

  free(): void {
    freeMap(this.pool, this.map.roots);
  }
}

/** Overlay blocks in plain arrays, for tests. */

import { BLOCK, type BlockMap } from '../disk/block-map.ts';

export class MemoryBlockMap implements BlockMap {
  private blocks: Map<number, Uint8Array>;
  /** Blocks that no other map has. */
  private owned = new Set<number>();
  /** How many blocks can be owned from now on; then there is no room. */
  room: number = Number.MAX_SAFE_INTEGER;

  constructor(blocks: ReadonlyMap<number, Uint8Array> = new Map()) {
    this.blocks = new Map(blocks);
  }

  /** A map of the same content; whoever writes a block first gets a copy. */
  fork(): MemoryBlockMap {
    this.owned.clear();
    return new MemoryBlockMap(this.blocks);
  }

  get(block: number): Uint8Array | undefined {
    return this.blocks.get(block);
  }

  own(block: number): { bytes: Uint8Array; fresh: boolean } {
    const there = this.blocks.get(block);
    if (there && this.owned.has(block)) return { bytes: there, fresh: false };
    if (this.room === 0) throw new Error('no room');
    this.room--;
    const bytes = there?.slice() ?? new Uint8Array(BLOCK);
    this.blocks.set(block, bytes);
    this.owned.add(block);
    return { bytes, fresh: there === undefined };
  }

  zero(block: number): void {
    this.own(block).bytes.fill(0);
  }

  changed(other?: MemoryBlockMap): Iterable<number> {
    const mine = [...this.blocks].filter(([block, bytes]) => other?.blocks.get(block) !== bytes);
    return mine.map(([block]) => block).sort((a, b) => a - b);
  }

  free(): void {
    this.clear();
  }

  clear(): void {
    this.blocks = new Map();
    this.owned.clear();
  }
}

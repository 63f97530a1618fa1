/** Which of the contents that a recording has of a disk's block is the one of a keyframe. */

interface Block {
  /** In the order of the recording. */
  readonly captures: { readonly epoch: number; readonly ref: number }[];
  readonly written: number[];
}

export class DiskHistory {
  private readonly blocks = new Map<string, Block>();

  /** A block's content, read in an epoch; `ref` is the caller's name for it. Epochs never go back. */
  captured(disk: number, epoch: number, block: number, ref: number): void {
    this.block(disk, block).captures.push({ epoch, ref });
  }

  /** The blocks that were written in an epoch. */
  written(disk: number, epoch: number, blocks: Uint32Array): void {
    for (const block of blocks) this.block(disk, block).written.push(epoch);
  }

  /** The name of what a block held at a keyframe, or undefined where the recording does not have it. */
  find(disk: number, keyframe: number, block: number): number | undefined {
    const { captures, written } = this.block(disk, block);
    const untouched = (from: number, to: number) => !written.some((epoch) => epoch >= from && epoch < to);
    const before = captures.findLast(({ epoch }) => epoch < keyframe);
    if (before && untouched(before.epoch, keyframe)) return before.ref;
    const after = captures.find(({ epoch }) => epoch >= keyframe);
    return after && untouched(keyframe, after.epoch) ? after.ref : undefined;
  }

  private block(disk: number, block: number): Block {
    const key = `${disk}:${block}`;
    const found = this.blocks.get(key) ?? { captures: [], written: [] };
    this.blocks.set(key, found);
    return found;
  }
}

/**
 * A three-way merge of a disk: into a machine's own, by blocks of 4 KiB, what another machine has made of a base that both have started
 * from. Nobody may have the disk mounted, or anything of it in memory: that is the caller's to know.
 */

import { BLOCK } from '../disk/block-map.ts';
import type { Machine } from '../machine/machine.ts';
import { MachineError } from '../machine/options.ts';
import { FrameMap, type MapRoots } from '../memory/frame-map.ts';
import { ENTRY_FRAME, PAGE } from '../memory/layout.ts';
import { overlayOf } from './fork-point.ts';
import { equalBytes, judge, type Verdict } from './merge.ts';

export interface MergedDisk {
  /** `conflict`: nothing has been written. */
  readonly verdict: Verdict | 'merged';
  /** Numbers of the blocks that have been written. */
  readonly taken: readonly number[];
  /** Numbers of the blocks that both sides have changed, differently. */
  readonly conflicts: readonly number[];
}

/**
 * `base` and `theirs` are the overlays of the disk at the fork point and of the other side, by their roots. Throws `MachineError` where the disk
 * is not one that forks, `DiskError` while a call is under way, and `PoolFullError`; nothing has changed then.
 */
export function mergeDisk(machine: Machine, disk: number, base: MapRoots, theirs: MapRoots): MergedDisk {
  const backend = machine.platform.backends[disk];
  const overlay = backend && overlayOf(backend.inner, disk);
  if (!overlay) throw new MachineError(`there is no disk ${disk} that can be written`);
  overlay.backend.freeze();
  const { pool } = machine.engine;
  const blocks = Math.ceil(Number(overlay.backend.size) / BLOCK);
  const sides = {
    base: new FrameMap(pool, blocks, { roots: base }),
    theirs: new FrameMap(pool, blocks, { roots: theirs }),
  };
  const below = (block: number) => {
    const bytes = new Uint8Array(BLOCK);
    const length = Math.min(BLOCK, Number(overlay.backend.size) - block * BLOCK);
    if (overlay.backend.readBelow(block * BLOCK, bytes.subarray(0, length)))
      throw new MachineError(`disk ${disk} cannot be merged: its content cannot be read at once`);
    return bytes;
  };
  const contentOf = (map: FrameMap, block: number) => {
    const frame = map.entry(block) & ENTRY_FRAME;
    return frame === 0 ? below(block) : pool.bytes.subarray(frame * PAGE, (frame + 1) * PAGE);
  };
  const seen = new Set<Verdict>();
  const taken: number[] = [];
  const conflicts: number[] = [];
  for (const block of sides.theirs.changed(base)) {
    const ours = overlay.blocks.get(block) ?? below(block);
    const verdict = judge(contentOf(sides.base, block), ours, contentOf(sides.theirs, block), equalBytes);
    seen.add(verdict);
    if (verdict === 'taken') taken.push(block);
    if (verdict === 'conflict') conflicts.push(block);
  }
  if (conflicts.length > 0) return { verdict: 'conflict', taken: [], conflicts };
  const kept = ownChanges(overlay.blocks.changedFrom(base), new Set([...sides.theirs.changed(base)]));
  const before: { readonly block: number; readonly bytes: Uint8Array }[] = [];
  try {
    for (const block of taken) {
      const content = contentOf(sides.theirs, block).slice();
      const old = (overlay.blocks.get(block) ?? below(block)).slice();
      overlay.blocks.own(block).bytes.set(content);
      before.push({ block, bytes: old });
    }
  } catch (error) {
    // These have frames of their own by now.
    for (const { block, bytes } of before) overlay.blocks.own(block).bytes.set(bytes);
    throw error;
  } finally {
    for (const { block } of before) backend.mark(block * BLOCK, BLOCK);
    overlay.backend.remapped();
  }
  const verdict =
    taken.length > 0 ? (kept ? 'merged' : 'taken') : kept ? 'kept' : seen.has('same') ? 'same' : 'unchanged';
  return { verdict, taken, conflicts };
}

/** Whether there is a block that only ours has changed. */
function ownChanges(changed: Iterable<number>, theirs: ReadonlySet<number>): boolean {
  for (const block of changed) if (!theirs.has(block)) return true;
  return false;
}

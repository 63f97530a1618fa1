/**
 * Accesses of a block through one base register that is not written in between, near each other: one look at the table serves
 * them all, when they lie in one page.
 */

import { baseOf } from './loops.ts';
import type { Block, Instruction } from './region.ts';
import { isOutOfLine } from './registers.ts';

export interface Group {
  readonly base: number;
  readonly first: Instruction;
  /** From the first byte of any of them to behind the last, relative to the base. */
  low: number;
  high: number;
  loads: boolean;
  stores: boolean;
  count: number;
}

/** Bytes that a group may span: the further apart, the more often a page ends in between. */
const MAX_SPAN = 512;

const SIZES: Readonly<Record<string, number>> = {
  lb: 1,
  lbu: 1,
  sb: 1,
  lh: 2,
  lhu: 2,
  sh: 2,
  lw: 4,
  lwu: 4,
  sw: 4,
  flw: 4,
  fsw: 4,
};

/** The groups of at least two accesses, by each of their instructions. */
export function findGroups({ instructions }: Block): Map<Instruction, Group> {
  const found = new Map<Instruction, Group>();
  const open = new Map<number, Group>();
  for (const i of instructions) {
    const { o, row, effects } = i;
    const { loads, stores } = baseOf(i);
    if (loads | stores) {
      const low = o.imm;
      const high = low + (SIZES[row.name] ?? 8);
      let group = open.get(o.rs1);
      if (!group || Math.max(group.high, high) - Math.min(group.low, low) > MAX_SPAN) {
        group = { base: o.rs1, first: i, low, high, loads: false, stores: false, count: 0 };
        open.set(o.rs1, group);
      }
      group.low = Math.min(group.low, low);
      group.high = Math.max(group.high, high);
      group.loads ||= loads !== 0;
      group.stores ||= stores !== 0;
      group.count++;
      found.set(i, group);
    }
    if (isOutOfLine(i) || row.extension === 'A') open.clear();
    for (let rest = effects.writes.x; rest; rest &= rest - 1) open.delete(31 - Math.clz32(rest & -rest));
  }
  for (const [i, group] of found) if (group.count < 2) found.delete(i);
  return found;
}

/**
 * What loops say about a region.
 *
 * Which registers a block may hold in locals: inside a loop only those that the loop uses. The others are stored on the way in and
 * loaded on the way out, where they are needed, so that the host's registers are left to the loop.
 *
 * And through which base registers memory is reached step by step, so that the page of the last access is likely to be that of the
 * next: those that the loop changes by constants only.
 */

import type { Instruction } from './region.ts';
import { isOutOfLine, NONE, type Registers, union } from './registers.ts';
import type { Node } from './structure.ts';

const ALL: Registers = { x: ~1, f: ~0 };

/** Blocks of the loop with this header: those that lead back to it. */
function bodyOf(header: Node, sources: readonly (readonly Node[])[]): Set<Node> {
  const body = new Set<Node>([header]);
  const work = sources[header.order]!.filter((source) => source.order >= header.order);
  for (let node = work.pop(); node; node = work.pop()) {
    if (body.has(node)) continue;
    body.add(node);
    work.push(...sources[node.order]!);
  }
  return body;
}

/** Base registers of loads and of stores, a bit each. */
export interface Bases {
  readonly loads: number;
  readonly stores: number;
}

export const NO_BASES: Bases = { loads: 0, stores: 0 };

/** The register through which an instruction reaches memory, as a bit; 0 for none that pages are remembered for. */
export const baseOf = ({ row, o }: Instruction): Bases => {
  const bit = o.rs1 === 0 ? 0 : 1 << o.rs1;
  if (row.format === 'L' || row.format === 'FL') return { loads: bit, stores: 0 };
  return row.format === 'S' || row.format === 'FS' ? { loads: 0, stores: bit } : NO_BASES;
};

/** Registers that get values which have nothing to do with what they held, as bits. */
export const redefined = ({ row, o, effects }: Instruction): number =>
  row.name === 'addi' && o.rd === o.rs1 ? 0 : effects.writes.x;

export interface LoopFacts {
  /** By the nodes' order. */
  readonly held: Registers[];
  /** Bases that keep their pages in every loop around the block. */
  readonly standing: Bases[];
}

export function findLoopFacts(nodes: readonly Node[]): LoopFacts {
  const held: Registers[] = nodes.map(() => ALL);
  const standing: Bases[] = nodes.map(() => NO_BASES);
  if (!nodes.some((node) => node.isLoop)) return { held, standing };
  const sources: Node[][] = nodes.map(() => []);
  for (const node of nodes) for (const way of node.ways) if (way) sources[way.order]!.push(node);
  // Outer loops come first, so the innermost one has the last word on what is held.
  for (const header of nodes) {
    if (!header.isLoop) continue;
    const body = bodyOf(header, sources);
    let own = NONE;
    let loads = 0;
    let stores = 0;
    let lost = 0;
    for (const { block } of body) {
      // What is called may change a mapping.
      if (block.end.kind === 'call') lost = -1;
      for (const i of block.instructions) {
        own = union(own, union(i.effects.reads, i.effects.writes));
        const base = baseOf(i);
        loads |= base.loads;
        stores |= base.stores;
        lost |= isOutOfLine(i) ? -1 : redefined(i);
      }
    }
    for (const node of body) {
      held[node.order] = own;
      const outer = standing[node.order]!;
      standing[node.order] = { loads: outer.loads | (loads & ~lost), stores: outer.stores | (stores & ~lost) };
    }
  }
  return { held, standing };
}

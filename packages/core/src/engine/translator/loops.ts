/**
 * Which registers a block may hold in locals: inside a loop only those that the loop uses. The others are stored on the way in and
 * loaded on the way out, where they are needed, so that the host's registers are left to the loop.
 */

import { NONE, type Registers, union } from './registers.ts';
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

/** By the nodes' order. */
export function heldRegisters(nodes: readonly Node[]): Registers[] {
  if (!nodes.some((node) => node.isLoop)) return nodes.map(() => ALL);
  const sources: Node[][] = nodes.map(() => []);
  for (const node of nodes) for (const way of node.ways) if (way) sources[way.order]!.push(node);
  const held: Registers[] = nodes.map(() => ALL);
  // Outer loops come first, so the innermost one has the last word.
  for (const header of nodes) {
    if (!header.isLoop) continue;
    const body = bodyOf(header, sources);
    let own = NONE;
    for (const { block } of body) {
      for (const { effects } of block.instructions) own = union(own, union(effects.reads, effects.writes));
    }
    for (const node of body) held[node.order] = own;
  }
  return held;
}

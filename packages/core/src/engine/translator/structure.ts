/**
 * The blocks of a region in an order in which they can be written as nested loops and blocks (N. Ramsey, "Beyond Relooper",
 * ICFP 2022): reverse postorder, dominators, loop headers, and places where paths meet.
 *
 * An edge back to a block that does not dominate its source, as in irreducible flow, becomes an exit of the region.
 */

import type { Block, Region } from './region.ts';

export interface Node {
  readonly block: Block;
  /** Position in reverse postorder. */
  order: number;
  /** Where the block's ways lead, in the order of `waysOf`; undefined out of the region. */
  readonly ways: (Node | undefined)[];
  /** Blocks that this one dominates immediately, in reverse postorder. */
  readonly children: Node[];
  dominator: Node;
  isLoop: boolean;
  /** Reached forwards by several ways: has a block end of its own. */
  isMerge: boolean;
}

/** Places where a block may lead without leaving the region's function: for a call, where it comes back. */
function waysOf({ end }: Block): readonly number[] {
  switch (end.kind) {
    case 'next':
    case 'jump':
      return [end.to];
    case 'branch':
      return [end.taken, end.next];
    case 'call':
      return [end.next];
    case 'computed':
      return end.targets;
    case 'return':
      return [];
  }
}

const UNSEEN = -1;

function orderNodes(entry: Node, all: Iterable<Node>): Node[] {
  for (const node of all) node.order = UNSEEN;
  const finished: Node[] = [];
  const visit = (node: Node): void => {
    node.order = 0;
    for (const way of node.ways) if (way && way.order === UNSEEN) visit(way);
    finished.push(node);
  };
  visit(entry);
  finished.reverse();
  for (let i = 0; i < finished.length; i++) finished[i]!.order = i;
  return finished;
}

/** Immediate dominators (Cooper, Harvey and Kennedy, "A simple, fast dominance algorithm"). */
function findDominators(nodes: readonly Node[]): void {
  const entry = nodes[0]!;
  const sources: Node[][] = nodes.map(() => []);
  for (const node of nodes) for (const way of node.ways) if (way) sources[way.order]!.push(node);
  const found: (Node | undefined)[] = nodes.map(() => undefined);
  found[0] = entry;
  const meet = (a: Node, b: Node): Node => {
    let x = a;
    let y = b;
    while (x !== y) {
      while (x.order > y.order) x = found[x.order]!;
      while (y.order > x.order) y = found[y.order]!;
    }
    return x;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const node of nodes) {
      if (node === entry) continue;
      let dominator: Node | undefined;
      for (const source of sources[node.order]!) {
        if (!found[source.order]) continue;
        dominator = dominator ? meet(dominator, source) : source;
      }
      if (found[node.order] !== dominator) {
        found[node.order] = dominator;
        changed = true;
      }
    }
  }
  for (const node of nodes) node.dominator = found[node.order]!;
}

const dominates = (above: Node, below: Node): boolean => {
  let node = below;
  while (node.order > above.order) node = node.dominator;
  return node === above;
};

/** The region's blocks in reverse postorder, the first instruction's first. */
export function structure(region: Region): Node[] {
  const byPlace = new Map<number, Node>();
  for (const block of region.blocks.values()) {
    const node = { block, order: 0, ways: [], children: [], isLoop: false, isMerge: false } as unknown as Node;
    node.dominator = node;
    byPlace.set(block.at, node);
  }
  for (const node of byPlace.values()) for (const to of waysOf(node.block)) node.ways.push(byPlace.get(to));
  const entry = byPlace.get(region.head)!;
  for (;;) {
    const nodes = orderNodes(entry, byPlace.values());
    findDominators(nodes);
    let cut = false;
    for (const node of nodes) {
      node.ways.forEach((way, i) => {
        if (!way || way.order > node.order || dominates(way, node)) return;
        node.ways[i] = undefined;
        cut = true;
      });
    }
    if (cut) continue;
    const arrivals = nodes.map(() => 0);
    for (const node of nodes) {
      for (const way of node.ways) {
        if (!way) continue;
        if (way.order <= node.order) way.isLoop = true;
        else arrivals[way.order]!++;
      }
      if (node !== entry) node.dominator.children.push(node);
    }
    for (const node of nodes) node.isMerge = arrivals[node.order]! > 1;
    return nodes;
  }
}

/** Nodes of a search are reached again: their moves are made again, from the nearest state that is still held. */

import { type Explored, ExploreError } from './explore.ts';
import { formatIndex, type SearchNode, type SearchTree } from './explore-tree.ts';

/**
 * The state of a node, which is the caller's from then on: what the tree holds, or a new one that has made the same moves. It costs
 * the steps of those moves. A node whose move was cut off has no
 * state to come to; one whose move failed fails again.
 */
export async function reopen<M, S extends Explored<M, S>>(
  tree: SearchTree<M, S>,
  node: SearchNode<M, S>,
  signal: AbortSignal,
): Promise<S> {
  const held = tree.take(node);
  if (held) return held;
  if (node.cutOff) throw new ExploreError(`node ${formatIndex(node)} was not reached: ${node.outcome}`);
  const path: SearchNode<M, S>[] = [];
  let from = node;
  while (!from.state) {
    path.unshift(from);
    from = from.parent!;
  }
  let state = from.state;
  for (const next of path) {
    const before = state;
    try {
      const [made] = await Promise.all(before.branch([next.move!], { signal, limit: () => undefined }));
      state = made!.state;
      if (made!.steps !== next.steps) {
        await state.release();
        throw new ExploreError(`node ${formatIndex(next)} took ${next.steps} steps, and ${made!.steps} now`);
      }
    } finally {
      if (before !== from.state) await before.release();
    }
  }
  return state;
}

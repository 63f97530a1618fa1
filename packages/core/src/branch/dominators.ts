/**
 * Dominators and post-dominators of a flow graph whose nodes are 0 .. n-1.
 *
 * The algorithm is the simple version of T. Lengauer and R. E. Tarjan, "A fast algorithm for finding dominators in a
 * flowgraph" (TOPLAS 1, 1979): O(m log n) whatever the graph, so that hostile code costs no more than code of its length. No
 * step recurses. Post-dominators are the dominators of the reversed graph from a virtual exit (J. Ferrante, K. J. Ottenstein,
 * J. D. Warren, "The program dependence graph and its use in optimization", TOPLAS 9, 1987).
 */

/** The successors of each node. */
export type Graph = readonly (readonly number[])[];

/** In place of a node: the root has no dominator, and what the root does not reach has none either. */
export const NONE = -1;

/** The immediate dominator of every node that `root` reaches; `NONE` for `root` and all others. */
export function immediateDominators(graph: Graph, root: number): Int32Array {
  const size = graph.length;
  // Nodes are called by their number in depth-first order from here on: 0 is the root.
  const number = new Int32Array(size).fill(NONE);
  const vertex: number[] = [];
  const parent: number[] = [];
  const path: { node: number; next: number }[] = [];
  const enter = (node: number, from: number) => {
    number[node] = vertex.length;
    vertex.push(node);
    parent.push(from);
    path.push({ node, next: 0 });
  };
  enter(root, NONE);
  while (path.length > 0) {
    const top = path[path.length - 1]!;
    const successor = graph[top.node]![top.next++];
    if (successor === undefined) path.pop();
    else if (number[successor] === NONE) enter(successor, number[top.node]!);
  }

  const count = vertex.length;
  const predecessors: number[][] = Array.from({ length: count }, () => []);
  for (let n = 0; n < count; n++) {
    for (const successor of graph[vertex[n]!]!) predecessors[number[successor]!]!.push(n);
  }
  const semi = Int32Array.from({ length: count }, (_, n) => n);
  const label = Int32Array.from(semi);
  const ancestor = new Int32Array(count).fill(NONE);
  const dominator = new Int32Array(count).fill(NONE);
  const bucket: number[][] = Array.from({ length: count }, () => []);

  /** The node of least semidominator between `n` and the root of its tree in the forest, which is left out. */
  const best = (n: number): number => {
    if (ancestor[n] === NONE) return n;
    const chain: number[] = [];
    for (let at = n; ancestor[ancestor[at]!] !== NONE; at = ancestor[at]!) chain.push(at);
    for (let at = chain.pop(); at !== undefined; at = chain.pop()) {
      const above = ancestor[at]!;
      if (semi[label[above]!]! < semi[label[at]!]!) label[at] = label[above]!;
      ancestor[at] = ancestor[above]!;
    }
    return label[n]!;
  };

  for (let n = count - 1; n > 0; n--) {
    for (const before of predecessors[n]!) semi[n] = Math.min(semi[n]!, semi[best(before)]!);
    bucket[semi[n]!]!.push(n);
    const above = parent[n]!;
    ancestor[n] = above;
    for (const waiting of bucket[above]!) {
      const least = best(waiting);
      dominator[waiting] = semi[least]! < above ? least : above;
    }
    bucket[above] = [];
  }
  const result = new Int32Array(size).fill(NONE);
  for (let n = 1; n < count; n++) {
    if (dominator[n] !== semi[n]) dominator[n] = dominator[dominator[n]!]!;
    result[vertex[n]!] = vertex[dominator[n]!]!;
  }
  return result;
}

/**
 * The immediate post-dominator of every node: the first one that every path from it to an exit passes. A virtual exit follows
 * the nodes `exits`; it is `graph.length` in the result. A path that never comes to an exit (an endless loop, a call that does
 * not return) is no path to the exit and is not counted; for a node that has only such paths the result is `NONE`.
 */
export function immediatePostDominators(graph: Graph, exits: Iterable<number>): Int32Array {
  const exit = graph.length;
  const reversed: number[][] = Array.from({ length: exit + 1 }, () => []);
  for (const node of exits) reversed[exit]!.push(node);
  graph.forEach((successors, node) => {
    for (const successor of successors) reversed[successor]!.push(node);
  });
  return immediateDominators(reversed, exit).subarray(0, exit);
}

/** Answers whether one node is on the way up from another in a tree of immediate (post-)dominators, in constant time. */
export class DominatorTree {
  private readonly first: Int32Array;
  private readonly last: Int32Array;

  constructor(immediate: Int32Array, root: number) {
    const size = Math.max(immediate.length, root + 1);
    const children: number[][] = Array.from({ length: size }, () => []);
    immediate.forEach((above, node) => {
      if (above !== NONE) children[above]!.push(node);
    });
    this.first = new Int32Array(size).fill(NONE);
    this.last = new Int32Array(size).fill(NONE);
    let clock = 0;
    const path = [root];
    this.first[root] = clock++;
    while (path.length > 0) {
      const node = path[path.length - 1]!;
      const child = children[node]!.pop();
      if (child === undefined) this.last[path.pop()!] = clock++;
      else {
        this.first[child] = clock++;
        path.push(child);
      }
    }
  }

  /** Whether `above` (post-)dominates `node`; every node of the tree does so itself. */
  dominates(above: number, node: number): boolean {
    if (this.first[above] === NONE || this.first[node] === NONE) return false;
    return this.first[above]! <= this.first[node]! && this.last[node]! <= this.last[above]!;
  }
}

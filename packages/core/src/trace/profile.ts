/** What a call tree says of each function: pure, and proportional to the tree. */

import type { CallNode, CallTree, Cost } from './call-tree.ts';
import type { TracedFunction } from './function-map.ts';

/** Calls from one function to another. */
export interface CallEdge {
  /** The other function's name; undefined for what called into the program from outside, or before the trace began. */
  readonly name: string | undefined;
  readonly calls: number;
  /** With everything that was called from there. */
  readonly total: Cost;
}

export interface FunctionUse {
  readonly name: string;
  readonly address: bigint;
  readonly calls: number;
  /** The function's own steps. */
  readonly self: Cost;
  /** With everything that it called; what runs within an activation of the same function counts once. */
  readonly total: Cost;
  readonly callers: readonly CallEdge[];
  readonly callees: readonly CallEdge[];
}

export interface FunctionProfile {
  /** Functions that were called, those that cost most themselves first. */
  readonly used: readonly FunctionUse[];
  /** Those that never were, by address. */
  readonly never: readonly TracedFunction[];
  /** Everything that was counted, before the first call too. */
  readonly total: Cost;
  readonly root: CallNode;
  readonly nameOf: (node: CallNode) => string;
  /** What limits the result: for people. */
  readonly notes: readonly string[];
}

interface Sum {
  user: number;
  system: number;
}

interface EdgeSum extends Sum {
  readonly from: number;
  readonly to: number;
  calls: number;
}

const add = (sum: Sum, { user, system }: Cost) => {
  sum.user += user;
  sum.system += system;
};

export const costOf = ({ user, system }: Cost): number => user + system;

/** What each node of a tree costs with all below it. Trees may be deeper than a host's stack. */
export function totalsOf(root: CallNode): Map<CallNode, Cost> {
  const order: CallNode[] = [root];
  for (let n = 0; n < order.length; n++) for (const child of order[n]!.children.values()) order.push(child);
  const totals = new Map<CallNode, Sum>(order.map((node) => [node, { user: node.user, system: node.system }]));
  for (const node of order.reverse()) if (node.parent) add(totals.get(node.parent)!, totals.get(node)!);
  return totals;
}

export function profileOf(
  functions: readonly TracedFunction[],
  tree: CallTree,
  notes: readonly string[],
): FunctionProfile {
  const { root, calls } = tree;
  const totals = totalsOf(root);
  const uses = functions.map(() => ({ self: { user: 0, system: 0 }, total: { user: 0, system: 0 } }));
  const edges = new Map<number, EdgeSum>();
  const active = new Map<number, number>();
  const keyOf = (from: number, to: number) => (from + 1) * functions.length + to;
  const change = (key: number, by: number) => active.set(key, (active.get(key) ?? 0) + by);
  // Functions have keys below zero, edges above.
  const enter = (node: CallNode) => {
    const index = node.function;
    if (!node.parent) return;
    const use = uses[index]!;
    const total = totals.get(node)!;
    add(use.self, node);
    if (!active.get(-1 - index)) add(use.total, total);
    const key = keyOf(node.parent.function, index);
    let edge = edges.get(key);
    if (!edge) {
      edge = { from: node.parent.function, to: index, calls: 0, user: 0, system: 0 };
      edges.set(key, edge);
    }
    edge.calls += node.calls;
    if (!active.get(key)) add(edge, total);
    change(-1 - index, 1);
    change(key, 1);
  };
  const leave = (node: CallNode) => {
    if (!node.parent) return;
    change(-1 - node.function, -1);
    change(keyOf(node.parent.function, node.function), -1);
  };
  const path: { node: CallNode; rest: Iterator<CallNode> }[] = [];
  const push = (node: CallNode) => {
    enter(node);
    path.push({ node, rest: node.children.values() });
  };
  push(root);
  for (let top = path.at(-1); top; top = path.at(-1)) {
    const next = top.rest.next();
    if (next.done) {
      leave(top.node);
      path.pop();
    } else push(next.value);
  }

  const callers = functions.map((): CallEdge[] => []);
  const callees = functions.map((): CallEdge[] => []);
  const byCost = (a: { total: Cost }, b: { total: Cost }) => costOf(b.total) - costOf(a.total);
  for (const { from, to, calls: count, user, system } of edges.values()) {
    const total = { user, system };
    callers[to]!.push({ name: functions[from]?.name, calls: count, total });
    if (from >= 0) callees[from]!.push({ name: functions[to]!.name, calls: count, total });
  }
  const used = functions.flatMap(({ name, address }, n): FunctionUse[] =>
    calls[n] === 0
      ? []
      : [
          {
            name,
            address,
            calls: calls[n]!,
            ...uses[n]!,
            callers: callers[n]!.sort(byCost),
            callees: callees[n]!.sort(byCost),
          },
        ],
  );
  return {
    used: used.sort((a, b) => costOf(b.self) - costOf(a.self)),
    never: functions.filter((_, n) => calls[n] === 0),
    total: totals.get(root)!,
    root,
    nameOf: (node) => functions[node.function]?.name ?? '(outside)',
    notes,
  };
}

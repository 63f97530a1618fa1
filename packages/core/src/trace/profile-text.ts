/** Profiles as tables, as the folded stacks that flame graphs are drawn from, and as records for JSON. */

import { escapeGuestText } from '../text/escape.ts';
import type { CallNode, Cost } from './call-tree.ts';
import { hexOf } from './flags.ts';
import { type CallEdge, costOf, type FunctionProfile, totalsOf } from './profile.ts';

/** Symbols come from files: shown in ASCII, and no longer than a line. */
const shown = (name: string | undefined): string =>
  name === undefined ? '(outside)' : escapeGuestText(name, { limit: 200 });

const percent = (part: number, whole: number): string => (whole === 0 ? '-' : ((100 * part) / whole).toFixed(1));

/** Columns of text, numbers to the right; the last column is text. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const last = widths.length - 1;
  return rows.map((row) => row.map((cell, n) => (n === last ? cell : cell.padStart(widths[n]!))).join('  '));
}

/** How much of the program was ever called, and what never was. */
export function* coverageLines({ used, never }: FunctionProfile): Generator<string> {
  const all = used.length + never.length;
  yield `${used.length} of ${all} functions were called (${percent(used.length, all)} %)`;
  for (const { address, name } of never) yield `never  ${hexOf(address)}  ${shown(name)}`;
}

/** One line a function, as gprof's flat profile: steps of its own, in the program and in the kernel, and with what it called. */
export function* profileLines({ used, total, notes }: FunctionProfile): Generator<string> {
  const whole = costOf(total);
  const head = ['self %', 'self', 'in kernel', 'total', 'total %', 'calls', 'function'];
  const rows = used.map(({ name, calls, self, total: all }) => [
    percent(costOf(self), whole),
    `${self.user}`,
    `${self.system}`,
    `${costOf(all)}`,
    percent(costOf(all), whole),
    `${calls}`,
    shown(name),
  ]);
  yield* table([head, ...rows]);
  yield `${total.user} steps, and ${total.system} in the kernel`;
  for (const note of notes) yield `note: ${note}`;
}

/** The tree of calls, the costliest first; paths that cost less than `minimum` of everything are left out. */
export function* treeLines({ root, nameOf }: FunctionProfile, minimum = 0.01, depth = 64): Generator<string> {
  const totals = totalsOf(root);
  const whole = costOf(totals.get(root)!);
  const width = `${whole}`.length;
  const stack: { node: CallNode; level: number }[] = [{ node: root, level: 0 }];
  for (let top = stack.pop(); top; top = stack.pop()) {
    const { node, level } = top;
    const cost = costOf(totals.get(node)!);
    if (level > 0 && cost < minimum * whole) continue;
    const calls = node.parent ? ` (${node.calls})` : '';
    yield `${percent(cost, whole).padStart(5)} % ${`${cost}`.padStart(width)} ${'  '.repeat(level)}${shown(nameOf(node))}${calls}`;
    if (level >= depth) continue;
    const children = [...node.children.values()].sort((a, b) => costOf(totals.get(a)!) - costOf(totals.get(b)!));
    for (const child of children) stack.push({ node: child, level: level + 1 });
  }
}

/** Whose steps a flame graph shows. */
export type Measure = 'user' | 'system' | 'all';

/** One line a path, `main;work;inner 1234`, as flamegraph.pl and speedscope read them. */
export function* foldedLines({ root, nameOf }: FunctionProfile, measure: Measure = 'all'): Generator<string> {
  const of = (cost: Cost) => (measure === 'all' ? costOf(cost) : cost[measure]);
  const label = (node: CallNode) => shown(nameOf(node)).replaceAll(';', ':').replaceAll(' ', '_');
  const path: string[] = [];
  // Each on the way down; undefined is a step up.
  const stack: (CallNode | undefined)[] = [root];
  while (stack.length > 0) {
    const node = stack.pop();
    if (!node) {
      path.pop();
      continue;
    }
    path.push(label(node));
    if (of(node) > 0) yield `${path.join(';')} ${of(node)}`;
    stack.push(undefined, ...node.children.values());
  }
}

const costRecord = ({ user, system }: Cost) => ({ user, system });
const edgeRecord = ({ name, calls, total }: CallEdge) => ({ name: shown(name), calls, total: costRecord(total) });

/** Records for JSON: one a function, those that were never called too, and a summary at the end. */
export function* profileRecords({ used, never, total, notes }: FunctionProfile): Generator<Record<string, unknown>> {
  for (const { name, address, calls, self, total: all, callers, callees } of used) {
    yield {
      kind: 'function',
      name: shown(name),
      address: hexOf(address),
      calls,
      self: costRecord(self),
      total: costRecord(all),
      callers: callers.map(edgeRecord),
      callees: callees.map(edgeRecord),
    };
  }
  for (const { name, address } of never)
    yield { kind: 'function', name: shown(name), address: hexOf(address), calls: 0 };
  yield { kind: 'summary', used: used.length, never: never.length, total: costRecord(total), notes };
}

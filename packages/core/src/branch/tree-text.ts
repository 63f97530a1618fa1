/** The tree of a search, and how it is getting on, as text for a terminal. Names of moves, and errors, may be the guest's: escaped. */

import { escapeGuestText } from '../text/escape.ts';
import type { Progress } from './explore.ts';
import {
  compareIndex,
  formatIndex,
  messageOf,
  type NodeOutcome,
  type Releasable,
  type SearchNode,
  type SearchTree,
} from './explore-tree.ts';

export interface TreeTextOptions {
  /** Columns of a line: 80 unless given. */
  readonly width?: number;
  /** Lines: 40 unless given, at least 1. What does not fit is counted. */
  readonly limit?: number;
  /** With colours of a terminal. */
  readonly color?: boolean;
}

/** Longer names and errors are cut. */
const NAME = 40;
/** Of a longer index, the end is shown. */
const INDEX = 20;

const STYLES: Record<NodeOutcome, string> = {
  open: '',
  running: '36',
  expanded: '',
  stopped: '32',
  ended: '36',
  failed: '31',
  pruned: '2',
  duplicate: '2',
  'over budget': '33',
};

/** What is drawn of a search: its tree, or that with nodes which are still to come into it. */
export type Drawable<M, S extends Releasable> = Pick<
  SearchTree<M, S>,
  'nodes' | 'root' | 'winner' | 'best' | 'chosen' | 'name'
>;

/** The tree with the nodes of the round that goes on. */
export function drawable<M, S extends Releasable>({ tree, round }: Progress<M, S>): Drawable<M, S> {
  const { nodes, root, winner, best, chosen, name } = tree;
  return { nodes: [...nodes, ...round], root, winner, best, chosen, name };
}

/**
 * The tree in lines. Each node has its index, its move, its score, its steps and how it stands; `*` is the winner, `+` the best, and
 * the line to it is drawn double. Of a tree with more nodes than lines, that path is shown, and then the first nodes in the order of
 * the search; a node under an ancestor that is not its parent hangs on a dotted line.
 */
export function renderTree<M, S extends Releasable>(tree: Drawable<M, S>, options: TreeTextOptions = {}): string[] {
  const { width = 80, limit = 40, color = false } = options;
  const path = new Set<SearchNode<M, S>>();
  for (let node = tree.chosen; node; node = node.parent) path.add(node);
  const view = select(tree, [...path], Math.max(1, limit));
  const lines: string[] = [];
  const add = (lead: string, text: string, style: string) => {
    // Half of the line at least is for the node.
    const most = Math.floor(width / 2);
    const kept = lead.length > most ? `\u2026${lead.slice(lead.length - most + 1)}` : lead;
    const shown = cut(text, width - kept.length);
    lines.push(kept + (color && style ? `\x1b[${style}m${shown}\x1b[0m` : shown));
  };
  const draw = (node: SearchNode<M, S>, lead: string, below: string) => {
    const style = [path.has(node) ? '1' : '', STYLES[node.outcome]].filter((code) => code).join(';');
    add(lead, describe(tree, node), style);
    const { children, hidden } = view.get(node)!;
    children.forEach((child, i) => {
      const last = i === children.length - 1 && hidden.length === 0;
      const skipped = child.parent !== node;
      const line = skipped ? '\u2504' : path.has(child) ? '\u2550' : '\u2500';
      const joint = path.has(child) && !skipped ? (last ? '\u2558' : '\u255e') : last ? '\u2514' : '\u251c';
      draw(child, `${below}${joint}${line} `, `${below}${last ? ' ' : '\u2502'}  `);
    });
    if (hidden.length > 0) add(`${below}\u2514\u2500 `, `\u2026 ${countOutcomes(hidden)}`, '2');
  };
  draw(tree.root, '', '');
  return lines.slice(0, Math.max(1, limit));
}

interface Shown<M, S> {
  /** Nodes that are drawn under it. */
  readonly children: SearchNode<M, S>[];
  /** Nodes under it that are only counted. */
  readonly hidden: SearchNode<M, S>[];
}

/** As many nodes as fit, with a line more for each that has hidden ones under it. */
function select<M, S extends Releasable>(tree: Drawable<M, S>, path: SearchNode<M, S>[], limit: number) {
  const first = new Set([tree.root, ...path, ...tree.nodes.slice(0, limit)]);
  const wanted = [...first];
  for (let count = Math.min(wanted.length, limit); ; count--) {
    const view = new Map<SearchNode<M, S>, Shown<M, S>>();
    for (const node of wanted.slice(0, Math.max(1, count))) view.set(node, { children: [], hidden: [] });
    for (const node of tree.nodes) {
      let above = node.parent;
      while (above && !view.has(above)) above = above.parent;
      if (above) (view.has(node) ? view.get(above)!.children : view.get(above)!.hidden).push(node);
    }
    let lines = 0;
    for (const { hidden } of view.values()) lines += hidden.length > 0 ? 2 : 1;
    if (lines <= limit || count <= 1) {
      for (const { children } of view.values()) children.sort(compareIndex);
      return view;
    }
  }
}

function describe<M, S extends Releasable>(tree: Drawable<M, S>, node: SearchNode<M, S>): string {
  const mark = node === tree.winner ? '* ' : node === tree.best ? '+ ' : '';
  const name = node.move === undefined ? '' : escapeGuestText(tree.name(node.move), { limit: NAME });
  const index = formatIndex(node);
  const short = index.length > INDEX ? `\u2026${index.slice(-INDEX)}` : index;
  const parts = [`${mark}${short}${name && ` ${name}`}`];
  if (node.score !== undefined) parts.push(`score ${formatScore(node.score)}`);
  const made = node.steps > 0n || (node.outcome !== 'open' && node.outcome !== 'running');
  if (node.parent && made) parts.push(`${formatSteps(node.steps)} steps`);
  const why = node.outcome === 'failed' ? messageOf(node.error) : node.ended;
  if (node.outcome !== 'expanded') {
    parts.push(why === undefined ? node.outcome : `${node.outcome}: ${escapeGuestText(why, { limit: NAME })}`);
  }
  return parts.join('  ');
}

/** `37 more: 30 pruned, 7 open`. */
function countOutcomes<M, S>(nodes: SearchNode<M, S>[]): string {
  const counts = new Map<string, number>();
  for (const { outcome } of nodes) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([outcome, count]) => `${count} ${outcome}`);
  return `${nodes.length} more: ${parts.join(', ')}`;
}

/** One line: `12 nodes, 5 live, best 0.83 at 2.1.3, 340 M of 1 G steps`. */
export function formatProgress<M, S extends Releasable>(progress: Progress<M, S>): string {
  const { nodes, live, best, steps, budget } = progress;
  const of = budget.nodes === undefined ? '' : ` of ${budget.nodes + 1}`;
  const parts = [`${nodes}${of} nodes`, `${live} live`];
  if (best) {
    const word = best === progress.tree.winner ? 'winner' : 'best';
    parts.push(`${word}${best.score === undefined ? '' : ` ${formatScore(best.score)}`} at ${formatIndex(best)}`);
  }
  parts.push(`${formatSteps(steps)}${budget.steps === undefined ? '' : ` of ${formatSteps(budget.steps)}`} steps`);
  return parts.join(', ');
}

/** Three digits that count. */
function formatScore(score: number): string {
  return String(Number(score.toPrecision(3)));
}

/** `340 M`: rounded down, two digits or three. */
function formatSteps(steps: bigint): string {
  let [unit, size] = ['', 1n];
  for (const larger of ['k', 'M', 'G', 'T', 'P']) {
    if (steps < size * 1000n) break;
    [unit, size] = [` ${larger}`, size * 1000n];
  }
  const [whole, tenth] = [steps / size, ((steps % size) * 10n) / size];
  return `${whole}${whole < 10n && tenth > 0n ? `.${tenth}` : ''}${unit}`;
}

// What a terminal draws two columns wide, and not at all.
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;
const NONE = /[\p{Mn}\p{Me}]/u;

/** The text in at most so many columns. */
function cut(text: string, columns: number): string {
  let used = 0;
  let kept = '';
  let fits = '';
  for (const character of text) {
    used += NONE.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
    if (used > columns) return `${fits}\u2026`;
    kept += character;
    if (used < columns) fits = kept;
  }
  return kept;
}

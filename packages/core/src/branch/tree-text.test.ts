/** Trees as text: golden files, and what a terminal must never be given. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { FakeHost, type FakeState, type Plan, planned, randomWorld } from '../testing/explored.ts';
import { runs } from '../testing/machines.ts';
import { type ExploreOptions, explore } from './explore.ts';
import type { SearchTree } from './explore-tree.ts';
import { formatProgress, renderTree, type TreeTextOptions } from './tree-text.ts';

type Options = Omit<ExploreOptions<number, FakeState>, 'moves'>;

const NAMES = [
  'left',
  'right',
  'line\nfeed \x1b[31m',
  'wide \u6f22\u5b57\u6f22\u5b57',
  'a name that goes on and on and on until nobody wants to read it',
];

/** Searches a plan, by score and to what its marks say. */
function search(plan: Plan, options: Options): Promise<SearchTree<number, FakeState>> {
  const host = new FakeHost(planned(plan), 1, 0);
  return explore<number, FakeState>(host.root(), {
    moves: ({ state }) => Array(state!.deed.moves).keys(),
    score: ({ state }) => state!.deed.score,
    stop: ({ state }) => state!.deed.stop,
    name: (move) => NAMES[move] ?? `move ${move}`,
    ...options,
  });
}

const SMALL: Plan = [
  0,
  0.1,
  [1_200, 0.5, [340_000_000, 0.25], [20, '0.3.']],
  [999, 0.8333, [17_000, 0.7], [12_345_678, '0.75!'], [5_000_000_000, 0.9]],
  [12, '0?'],
  [77, 0.2],
];

/** 3 levels, the last of them wide. */
const LARGE: Plan = [
  0,
  0,
  ...Array.from(
    { length: 4 },
    (_, i): Plan => [
      10,
      i,
      ...Array.from({ length: 30 }, (_, j): Plan => [10 + j, i === 2 && j === 17 ? 50 : (i * 7 + j) % 11]),
    ],
  ),
];

/** One child after the other. */
const DEEP: Plan = Array.from({ length: 40 }).reduce<Plan>((below, _, i) => [10, 40 - i, below], [10, '41!']);

const TREES: Record<string, [Plan, Options, TreeTextOptions]> = {
  small: [SMALL, { strategy: 'best-first' }, {}],
  narrow: [SMALL, { strategy: 'best-first' }, { width: 36 }],
  beam: [SMALL, { strategy: 'beam', width: 1 }, {}],
  folded: [LARGE, { strategy: 'breadth-first', budget: { steps: 2_000n } }, { limit: 16 }],
  deep: [DEEP, { strategy: 'depth-first' }, { limit: 9, width: 50 }],
};

for (const [name, [plan, options, text]] of Object.entries(TREES)) {
  test(`tree ${name} is drawn as in golden/tree-${name}.txt (BLESS=1 rewrites it)`, async () => {
    const path = new URL(`golden/tree-${name}.txt`, import.meta.url);
    const actual = `${renderTree(await search(plan, options), text).join('\n')}\n`;
    if (process.env.BLESS === '1') writeFileSync(path, actual);
    assert.equal(actual, readFileSync(path, 'utf8'));
  });
}

test('colours tell the path and the outcome, and go no further than the node', async () => {
  const lines = renderTree(await search(SMALL, { strategy: 'best-first' }), { color: true });
  assert.match(lines[0]!, /^\x1b\[1mroot .*\x1b\[0m$/);
  assert.ok(lines.some((line) => /\x1b\[1;32m\* 1\.1 .*stopped\x1b\[0m$/.test(line)));
  assert.ok(lines.some((line) => /\x1b\[31m2 .*failed/.test(line)));
});

test('any tree fits, shows its root and its winner, and counts the rest', async () => {
  const cases = fc.record({
    seed: fc.integer(),
    width: fc.integer({ min: 20, max: 100 }),
    limit: fc.integer({ min: 1, max: 60 }),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ seed, width, limit }) => {
      const host = new FakeHost(randomWorld(seed), 1, 0);
      const tree = await explore<number, FakeState>(host.root(), {
        moves: ({ state }) => Array(state!.deed.moves).keys(),
        stop: ({ state }) => state!.deed.stop,
        strategy: 'breadth-first',
        budget: { nodes: 80 },
        name: () => '\x1b[2J\u202e\n',
      });
      const lines = renderTree(tree, { width, limit });
      assert.ok(lines.length <= limit && lines.every((line) => [...line].length <= width));
      assert.ok(lines.every((line) => !/[\x00-\x1f\u202e]/.test(line)));
      assert.match(lines[0]!, /^root/);
      if (tree.winner && limit >= 4 && width >= 60) assert.ok(lines.some((line) => line.includes('* ')));
      const counted = lines.map((line) => Number(/\u2026 (\d+) more/.exec(line)?.[1] ?? -1));
      if (limit >= 2) {
        const shown = counted.filter((count) => count < 0).length;
        assert.equal(shown + counted.reduce((sum, count) => sum + Math.max(0, count), 0), tree.nodes.length);
      }
    }),
    runs(200),
  );
});

test('progress in a line', async () => {
  const lines: string[] = [];
  const budget = { steps: 1_000_000_000n, nodes: 50 };
  await search(SMALL, {
    strategy: 'best-first',
    budget,
    onProgress: (progress) => lines.push(formatProgress(progress)),
  });
  assert.equal(lines[0], '1 of 51 nodes, 0 live, best 0.1 at root, 0 of 1 G steps');
  assert.equal(lines.at(-1), '8 of 51 nodes, 1 live, winner 0.75 at 1.1, 24 M of 1 G steps');
  const plain: string[] = [];
  const tree = await search([0, 1, [1_050_000, 2]], {
    strategy: 'breadth-first',
    onProgress: (p) => plain.push(formatProgress(p)),
  });
  assert.equal(plain.at(-1), '2 nodes, 1 live, best 2 at 0, 1 M steps');
  assert.equal(tree.best?.score, 2);
});

/** Dominators and post-dominators against their definition: take a node away and look what can still be reached. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DominatorTree, type Graph, immediateDominators, immediatePostDominators, NONE } from './dominators.ts';

const seed = Number(process.env.BRAID_SEED ?? 1) >>> 0;

/** What `from` reaches when `removed` is no longer there. */
function reach(graph: Graph, from: number, removed: number = NONE): Set<number> {
  const seen = new Set<number>();
  const waiting = from === removed ? [] : [from];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    waiting.push(...graph[node]!.filter((next) => next !== removed));
  }
  return seen;
}

/** Every pair (above, node) such that all paths from `root` to `node` pass `above`. */
function dominance(graph: Graph, root: number): boolean[][] {
  const all = reach(graph, root);
  return graph.map((_, above) => {
    const rest = reach(graph, root, above);
    return graph.map((_, node) => all.has(above) && all.has(node) && !rest.has(node));
  });
}

/** The immediate one: it dominates strictly and every other strict dominator dominates it. */
function immediate(pairs: boolean[][], node: number): number {
  const strict = pairs.map((_, above) => above).filter((above) => above !== node && pairs[above]![node]);
  return strict.find((one) => strict.every((other) => pairs[other]![one])) ?? NONE;
}

const graphs = fc.integer({ min: 1, max: 14 }).chain((size) => {
  const node = fc.integer({ min: 0, max: size - 1 });
  return fc.record({
    graph: fc.array(fc.array(node, { maxLength: 3 }), { minLength: size, maxLength: size }),
    exits: fc.uniqueArray(node, { maxLength: 3 }),
  });
});

test('immediate dominators are those of the definition', () => {
  fc.assert(
    fc.property(graphs, ({ graph }) => {
      const pairs = dominance(graph, 0);
      const found = immediateDominators(graph, 0);
      graph.forEach((_, node) => {
        assert.equal(found[node], immediate(pairs, node), `node ${node}`);
      });
      const tree = new DominatorTree(found, 0);
      pairs.forEach((row, above) => {
        row.forEach((expected, node) => {
          assert.equal(tree.dominates(above, node), expected, `${above} over ${node}`);
        });
      });
    }),
    { numRuns: 2000, seed },
  );
});

test('immediate post-dominators are those of the definition, endless loops and dead ends included', () => {
  fc.assert(
    fc.property(graphs, ({ graph, exits }) => {
      const exit = graph.length;
      const whole = [...graph.map((next, node) => (exits.includes(node) ? [...next, exit] : [...next])), []];
      const returns = whole.map((_, node) => reach(whole, node).has(exit));
      /** All paths from `node` to the exit pass `above`, and there is one. */
      const pairs = whole.map((_, above) =>
        whole.map((_, node) => returns[node]! && returns[above]! && !reach(whole, node, above).has(exit)),
      );
      const found = immediatePostDominators(graph, exits);
      graph.forEach((_, node) => {
        assert.equal(found[node], immediate(pairs, node), `node ${node}`);
      });
    }),
    { numRuns: 2000, seed },
  );
});

test('long chains and ladders need neither a deep stack nor quadratic time', () => {
  const size = 200_000;
  const chain = Array.from({ length: size }, (_, n) => (n + 1 < size ? [n + 1] : []));
  const dominators = immediateDominators(chain, 0);
  assert.ok(dominators.every((above, node) => above === node - 1));
  assert.ok(new DominatorTree(dominators, 0).dominates(7, size - 1));
  // Each node goes on, and back to where the first half began: what iterating to a fixed point is slow on.
  const ladder = chain.map((next, n) => [...next, size - 1 - n]);
  const found = immediateDominators(ladder, 0);
  assert.equal(found[1], 0);
  assert.equal(found[size - 1], 0);
});

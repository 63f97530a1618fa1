/** Searches against an oracle that thinks of time as the definition does, step by step; then what users rely on, one by one. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Deed, FakeHost, FakeState, type Plan, planned, randomWorld, type World } from '../testing/explored.ts';
import { runs } from '../testing/machines.ts';
import {
  type Branched,
  type Budget,
  type Explored,
  ExploreError,
  type ExploreOptions,
  explore,
  type Progress,
  type Strategy,
} from './explore.ts';
import {
  compareBest,
  compareFirst,
  compareIndex,
  formatIndex,
  type SearchNode,
  type SearchTree,
} from './explore-tree.ts';
import { reopen } from './reopen.ts';

type Tree = SearchTree<number, FakeState>;
type Options = ExploreOptions<number, FakeState>;

/** What a search asks, in a world of the fake host. */
function questions(host: FakeHost, dedupe: boolean): Pick<Options, 'moves' | 'score' | 'stop' | 'dedupe'> {
  const ask = (about: Deed['failed'], what: (deed: Deed) => unknown) => async (node: SearchNode<number, FakeState>) => {
    const { deed } = node.state!;
    await host.wait();
    if (about && deed.failed === about) throw new Error(`no ${about}`);
    return what(deed);
  };
  return {
    moves: ask('moves', ({ moves }) => Array(moves).keys()),
    score: ask('score', ({ score }) => score),
    stop: ask('stop', ({ stop }) => stop),
    ...(dedupe ? { dedupe: ask(undefined, ({ key }) => key) } : {}),
  } as Pick<Options, 'moves' | 'score' | 'stop' | 'dedupe'>;
}

/** A search as plain text, line by line. */
function summary(tree: Tree): string[] {
  const line = (node: SearchNode<number, FakeState>) =>
    `${formatIndex(node)} ${node.steps} ${node.total} ${node.score} ${node.outcome} ${node.ended} ${node.moves} ` +
    `${node.children.length} ${(node.error as Error | undefined)?.message}`;
  return [...tree.nodes.map(line), `${tree.end} ${tree.steps} ${tree.winner?.index} ${tree.best?.index}`];
}

interface Setting {
  readonly strategy: Strategy;
  readonly width: number | undefined;
  readonly budget: Budget;
  readonly dedupe: boolean;
}

/** The definition, carried out: one round after the other, each of its moves one step after the other. */
function oracle(world: World, { strategy, width, budget, dedupe }: Setting): string[] {
  interface Made {
    index: number[];
    depth: number;
    deed: Deed;
    parent?: Made;
    steps: bigint;
    total: bigint;
    score?: number;
    outcome: string;
    ended?: string;
    error?: string;
    moves?: number;
    children: number;
  }
  const root: Made = { index: [], depth: 0, deed: world([]), steps: 0n, total: 0n, outcome: 'open', children: 0 };
  root.score = root.deed.score;
  const all = [root];
  const seen = new Set([root.deed.key]);
  let spent = 0n;
  let winner: Made | undefined;
  const like = (made: Made) => made as unknown as SearchNode<number, FakeState>;
  if (budget.depth === 0) root.outcome = 'over budget';
  const search = (): string => {
    for (;;) {
      let open = all.filter(({ outcome }) => outcome === 'open');
      if (open.length === 0) return 'exhausted';
      if (budget.nodes !== undefined && all.length > budget.nodes) return 'nodes';
      if (spent === budget.steps) return 'steps';
      if (strategy === 'breadth-first') {
        const depth = Math.min(...open.map(({ depth }) => depth));
        open = open.filter((made) => made.depth === depth).sort((a, b) => compareIndex(a, b));
        open = open.slice(0, width ?? open.length);
      } else {
        open.sort((a, b) => (strategy === 'depth-first' ? compareIndex(a, b) : compareBest(like(a), like(b))));
        if (strategy === 'beam') for (const made of open.slice(width)) made.outcome = 'pruned';
        open = open.slice(0, width ?? 1);
      }
      const made: Made[] = [];
      for (const parent of open) {
        parent.outcome = 'expanded';
        if (parent.deed.failed === 'moves') {
          parent.outcome = 'failed';
          parent.error = 'no moves';
          continue;
        }
        parent.moves = parent.deed.moves;
        for (let place = 0; place < parent.deed.moves; place++) {
          if (budget.nodes !== undefined && all.length + made.length > budget.nodes) break;
          const index = [...parent.index, place];
          const { depth } = parent;
          made.push({
            index,
            depth: depth + 1,
            deed: world(index),
            parent,
            steps: 0n,
            total: parent.total,
            outcome: '',
            children: 0,
          });
          parent.children++;
        }
      }
      const reached = (child: Made, horizon: bigint) => {
        const left = horizon - child.parent!.total;
        return left < 0n ? 0n : left < child.deed.steps ? left : child.deed.steps;
      };
      const inside = (child: Made, horizon: bigint) =>
        child.parent!.total < horizon && child.parent!.total + child.deed.steps <= horizon;
      let horizon = 0n;
      let out = '';
      const end = made.reduce(
        (end, { parent, deed }) => (parent!.total + deed.steps > end ? parent!.total + deed.steps : end),
        0n,
      );
      const stops = ({ deed }: Made) =>
        deed.stop && deed.failed !== 'branch' && deed.failed !== 'stop' && deed.failed !== 'score';
      // The budget first: without it nothing is cut off. Long moves are skipped over where nothing happens.
      const sum = (at: bigint) => made.reduce((sum, child) => sum + reached(child, at), 0n);
      let limit: bigint | undefined;
      if (budget.steps !== undefined && sum(end) > budget.steps - spent) {
        while (sum(horizon + 1n) <= budget.steps - spent) horizon++;
        limit = horizon;
        out = 'over budget';
      }
      for (const child of made) child.total = child.parent!.total + child.deed.steps;
      const winners = made.filter((child) => stops(child) && (limit === undefined || inside(child, limit)));
      winner = winners.sort((a, b) => compareFirst(like(a), like(b)))[0];
      if (winner) {
        limit = winner.total;
        out = 'pruned';
      }
      const fresh: Made[] = [];
      for (const child of made) {
        all.push(child);
        const { failed, ended, score, stop } = child.deed;
        if (child !== winner && limit !== undefined && !inside(child, limit)) {
          child.steps = reached(child, limit);
          child.outcome = out;
        } else {
          child.steps = child.deed.steps;
          if (failed === 'branch') {
            child.outcome = 'failed';
            child.error = `no ${child.index}`;
          } else if (failed === 'stop' || failed === 'score') {
            child.outcome = 'failed';
            child.error = `no ${failed}`;
          } else {
            child.score = score;
            if (ended !== undefined) child.ended = ended;
            child.outcome = stop ? 'stopped' : ended ? 'ended' : 'open';
            if (child.outcome === 'open') fresh.push(child);
          }
        }
        child.total = child.parent!.total + child.steps;
        spent += child.steps;
      }
      for (const child of fresh.sort((a, b) => compareFirst(like(a), like(b)))) {
        if (dedupe && seen.has(child.deed.key)) {
          child.outcome = 'duplicate';
          delete child.score;
        } else {
          seen.add(child.deed.key);
          if (child.depth === budget.depth) child.outcome = 'over budget';
        }
      }
      if (winner) return 'found';
      if (out) return 'steps';
      if (open.some(({ moves = 0, children }) => children < moves)) return 'nodes';
    }
  };
  const end = search();
  const best = all.filter(({ score }) => score !== undefined).sort((a, b) => compareBest(like(a), like(b)))[0];
  return [
    ...all.map(
      ({ index, steps, total, score, outcome, ended, moves, children, error }) =>
        `${index.join('.') || 'root'} ${steps} ${total} ${score} ${outcome} ${ended} ${moves} ${children} ${error}`,
    ),
    `${end} ${spent} ${winner?.index} ${best?.index}`,
  ];
}

const settings: fc.Arbitrary<Setting> = fc
  .record({
    strategy: fc.constantFrom<Strategy>('breadth-first', 'depth-first', 'best-first', 'beam'),
    width: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
    steps: fc.option(fc.bigInt(0n, 150n), { nil: undefined, freq: 2 }),
    nodes: fc.integer({ min: 0, max: 60 }),
    depth: fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined }),
    dedupe: fc.boolean(),
  })
  .map(({ strategy, width, steps, nodes, depth, dedupe }) => ({
    strategy,
    width: width ?? (strategy === 'beam' ? 2 : undefined),
    budget: { nodes, ...(steps === undefined ? {} : { steps }), ...(depth === undefined ? {} : { depth }) },
    dedupe,
  }));

const KEEP = ['winner', 'path', 'all', 'none', undefined] as const;

describe('any search', () => {
  const cases = fc.record({
    seed: fc.integer(),
    timing: fc.integer(),
    parallel: fc.integer({ min: 1, max: 8 }),
    keep: fc.constantFrom(...KEEP),
    setting: settings,
  });

  test('is what the definition says, however many run at once and whenever they are done', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ seed, timing, parallel, keep, setting }) => {
        const { strategy, width, budget, dedupe } = setting;
        const host = new FakeHost(randomWorld(seed), timing);
        const root = host.root();
        const tree = await explore<number, FakeState>(root, {
          ...questions(host, dedupe),
          strategy,
          budget,
          parallel,
          ...(width === undefined ? {} : { width }),
          ...(keep === undefined ? {} : { keep }),
        });
        assert.deepEqual(summary(tree), oracle(randomWorld(seed), setting));
        assert.ok(host.most <= parallel, `${host.most} at once`);

        const held = tree.nodes.filter(({ state, parent }) => state && parent);
        const chosen = tree.winner ?? tree.best;
        const expected = tree.nodes.filter((node) => {
          if (!node.parent) return false;
          if (keep === 'none') return false;
          if (keep === 'all')
            return !node.cutOff && !(node.outcome === 'failed' && node.moves === undefined && !node.state);
          if (keep === 'path') return chosen !== undefined && isAbove(node, chosen);
          return node === chosen;
        });
        assert.deepEqual(held.map(formatIndex), expected.map(formatIndex));
        assert.equal(host.live, held.length + 1);
        assert.ok(held.every(({ state, index }) => !state!.released && String(state!.path) === String(index)));
        await tree[Symbol.asyncDispose]();
        assert.ok(host.live === 1 && !root.released);
      }),
      runs(400),
    );
  });

  test('gives everything back when it is aborted, and says why', async () => {
    await fc.assert(
      fc.asyncProperty(cases, fc.integer({ min: 0, max: 40 }), async (one, turns) => {
        const { seed, timing, parallel, keep, setting } = one;
        const host = new FakeHost(randomWorld(seed), timing);
        const root = host.root();
        const controller = new AbortController();
        const why = new Error('enough');
        let aborted = false;
        const search = explore<number, FakeState>(root, {
          ...questions(host, setting.dedupe),
          strategy: setting.strategy,
          width: setting.width ?? 3,
          parallel,
          keep: keep ?? 'winner',
          budget: { nodes: 60 },
          signal: controller.signal,
        });
        const abort = async () => {
          for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
          aborted = true;
          controller.abort(why);
        };
        const [result] = await Promise.allSettled([search, abort()]);
        if (result.status === 'fulfilled') await result.value[Symbol.asyncDispose]();
        else assert.ok(aborted && result.reason === why);
        assert.ok(host.live === 1 && host.busy === 0 && !root.released);
      }),
      runs(150),
    );
  });

  test('as a race has a winner that was accepted, and holds nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ seed, timing, parallel, setting }) => {
        const host = new FakeHost(randomWorld(seed), timing);
        const tree = await explore<number, FakeState>(host.root(), {
          ...questions(host, setting.dedupe),
          strategy: setting.strategy,
          width: setting.width ?? 3,
          budget: { steps: 2_000_000n, ...setting.budget },
          parallel,
          race: true,
        });
        const stopped = tree.nodes.filter(({ outcome }) => outcome === 'stopped');
        assert.deepEqual(stopped, tree.winner ? [tree.winner] : []);
        assert.equal(tree.end === 'found', tree.winner !== undefined);
        assert.equal(host.live, tree.chosen && tree.chosen !== tree.root ? 2 : 1);
      }),
      runs(150),
    );
  });
});

function isAbove<M, S>(node: SearchNode<M, S>, below: SearchNode<M, S>): boolean {
  return node.index.every((place, i) => below.index[i] === place);
}

/** Searches a plan without any delay. */
function searchPlan(plan: Plan, options: Partial<Options> & { strategy: Strategy }, dedupe = false) {
  const host = new FakeHost(planned(plan), 1, 0);
  return explore<number, FakeState>(host.root(), { ...questions(host, dedupe), ...options });
}

const order = (tree: Tree) => tree.nodes.slice(1).map(formatIndex).join(' ');

//              root
//      0 (5)    1 (9)     2 (7)
//     0.0 0.1   1.0(8)   2.0 2.1(10)
//                |
//              1.0.0
const PLAN: Plan = [0, 1, [10, 5, [10, 2], [10, 3]], [10, 9, [10, 8, [10, 1]]], [10, 7, [10, 6], [10, 10]]];

describe('the order of nodes', () => {
  test('breadth-first: level by level', async () => {
    assert.equal(order(await searchPlan(PLAN, { strategy: 'breadth-first' })), '0 1 2 0.0 0.1 1.0 2.0 2.1 1.0.0');
  });
  test('depth-first: down first', async () => {
    assert.equal(order(await searchPlan(PLAN, { strategy: 'depth-first' })), '0 1 2 0.0 0.1 1.0 1.0.0 2.0 2.1');
  });
  test('best-first: where the score is highest', async () => {
    assert.equal(order(await searchPlan(PLAN, { strategy: 'best-first' })), '0 1 2 1.0 1.0.0 2.0 2.1 0.0 0.1');
  });
  test('best-first, two at a time', async () => {
    assert.equal(
      order(await searchPlan(PLAN, { strategy: 'best-first', width: 2 })),
      '0 1 2 1.0 2.0 2.1 1.0.0 0.0 0.1',
    );
  });
  test('beam: the best of each level, the rest pruned', async () => {
    const tree = await searchPlan(PLAN, { strategy: 'beam', width: 2 });
    assert.equal(order(tree), '0 1 2 1.0 2.0 2.1 1.0.0');
    assert.equal(tree.at('0')?.outcome, 'pruned');
    assert.equal(tree.at([2, 0])?.outcome, 'pruned');
    assert.equal(formatIndex(tree.best!), '2.1');
  });
});

describe('first', () => {
  test('is the one with the fewest steps, and the others are cut off there', async () => {
    const plan: Plan = [0, 0, [900, 1], [40, '1!'], [50, '1!'], [40, '1!'], [30, 1], [40, '1?']];
    for (const parallel of [1, 6]) {
      const tree = await searchPlan(plan, { strategy: 'breadth-first', parallel });
      assert.equal(formatIndex(tree.winner!), '1');
      assert.deepEqual(
        tree.root.children.map(({ outcome, steps, cutOff }) => `${outcome} ${steps} ${cutOff}`),
        [
          'pruned 40 true',
          'stopped 40 false',
          'pruned 40 true',
          'stopped 40 false',
          'open 30 false',
          'failed 40 false',
        ],
      );
      assert.equal(tree.steps, 230n);
    }
  });
  test('counts the steps from the root', async () => {
    const tree = await searchPlan([0, 0, [100, 1, [1, '1!']], [10, 1, [80, '1!']]], { strategy: 'breadth-first' });
    assert.equal(formatIndex(tree.winner!), '1.0');
    // It would begin after the end.
    assert.equal(tree.at('0.0')?.steps, 0n);
  });
  test('in a race is who is done first on the host', async () => {
    const host = new FakeHost(planned([0, 0, [1, '0!'], [2, '0!']]), 1, 0);
    class Slow extends FakeState {
      override branch(
        moves: readonly number[],
        context: Parameters<FakeState['branch']>[1],
      ): Promise<Branched<FakeState>>[] {
        return super.branch(moves, context).map(async (child, move) => {
          for (let i = 0; i < 50 && move === 0; i++) await new Promise((resolve) => setImmediate(resolve));
          return child;
        });
      }
    }
    const options = { ...questions(host, false), strategy: 'breadth-first' as const, parallel: 2 };
    const raced = await explore<number, FakeState>(new Slow(host, []), { ...options, race: true });
    assert.equal(formatIndex(raced.winner!), '1');
    assert.deepEqual([raced.at('0')?.outcome, raced.at('0')?.steps], ['pruned', 0n]);
    assert.deepEqual((raced.toJSON() as { race: boolean; winner: string }).winner, '1');
    assert.equal(formatIndex((await explore<number, FakeState>(new Slow(host, []), options)).winner!), '0');
  });
});

describe('a budget', () => {
  test('of steps is shared by the moves of a round, step by step', async () => {
    const tree = await searchPlan([0, 0, [1_000_000, 1], [10, 2], [1_000_000, 1]], {
      strategy: 'breadth-first',
      budget: { steps: 111n },
    });
    assert.equal(tree.end, 'steps');
    assert.deepEqual(
      tree.root.children.map(({ steps, outcome }) => `${steps} ${outcome}`),
      ['50 over budget', '10 open', '50 over budget'],
    );
    assert.equal(tree.steps, 110n);
  });
  test('of steps does not make each of many endless moves run through all of it', async () => {
    const plan: Plan = [0, 0, ...Array(64).fill([1e12, 1])];
    let made = 0n;
    const host = new FakeHost(planned(plan), 1, 0);
    class Counting extends FakeState {
      override branch(moves: readonly number[], { limit }: Parameters<FakeState['branch']>[1]) {
        return moves.map(async (move) => {
          const steps = limit()! + 1n;
          made += steps;
          return { state: new FakeState(host, [move]), steps };
        });
      }
    }
    const root = new Counting(host, []);
    const tree = await explore<number, FakeState>(root, {
      ...questions(host, false),
      strategy: 'breadth-first',
      budget: { steps: 64_000n },
    });
    assert.ok(tree.root.children.every(({ steps }) => steps === 1000n));
    // 64000 x (1 + 1/2 + 1/3 ...), a little more since the limit is not computed anew each time.
    assert.ok(made < 6n * 64_000n, `${made} steps`);
  });
  test('of nodes and depth', async () => {
    const tree = await searchPlan(PLAN, { strategy: 'breadth-first', budget: { nodes: 4, depth: 2 } });
    assert.equal(order(tree), '0 1 2 0.0');
    assert.deepEqual([tree.end, tree.at('0')?.moves, tree.at('0')?.children.length], ['nodes', 2, 1]);
    assert.equal(tree.at('0.0')?.outcome, 'over budget');
  });
});

test('a state that was seen before is not expanded again', async () => {
  const plan: Plan = [0, 0, [20, 4, [1, 1]], [10, 4, [1, 2]], [10, 4, [1, 3]], [5, 0, [1, 5]]];
  const tree = await searchPlan(plan, { strategy: 'breadth-first' }, true);
  assert.deepEqual(
    tree.root.children.map(({ outcome }) => outcome),
    ['duplicate', 'expanded', 'duplicate', 'duplicate'],
  );
});

test('a machine that is over is looked at and not expanded', async () => {
  const tree = await searchPlan([0, 0, [1, '3.', [1, 9]], [1, 1]], { strategy: 'best-first' });
  assert.equal(order(tree), '0 1');
  assert.deepEqual([tree.at('0')?.outcome, tree.at('0')?.ended, formatIndex(tree.best!)], ['ended', 'off', '0']);
});

test('a root that is what was looked for', async () => {
  const tree = await searchPlan([0, '1!', [1, 1]], { strategy: 'depth-first' });
  assert.ok(tree.winner === tree.root && tree.nodes.length === 1 && tree.end === 'found');
});

test('as many moves as allowed go on at once, and moves of one state are forked together', async () => {
  const host = new FakeHost(planned([0, 0, ...Array(10).fill([1, 1])]), 1, 0);
  const sizes: number[] = [];
  class Watched extends FakeState {
    override branch(moves: readonly number[], context: Parameters<FakeState['branch']>[1]) {
      sizes.push(moves.length);
      return super.branch(moves, context);
    }
  }
  await explore<number, FakeState>(new Watched(host, []), {
    ...questions(host, false),
    strategy: 'breadth-first',
    parallel: 4,
  });
  assert.equal(host.most, 4);
  assert.equal(sizes[0], 4);
});

test('idle workers go on with what may be next, and none of it is seen', async () => {
  const host = new FakeHost(randomWorld(5), 9);
  const plain = { moves: 2, stop: false, failed: undefined, ended: undefined, steps: 1n };
  const { world } = host;
  Object.assign(host, { world: (path: readonly number[]) => ({ ...world(path), ...plain }) });
  const tree = await explore<number, FakeState>(host.root(), {
    ...questions(host, false),
    strategy: 'depth-first',
    parallel: 8,
    budget: { nodes: 12 },
  });
  assert.ok(host.most > 2, `${host.most} at once`);
  assert.equal(tree.nodes.length, 13);
  assert.equal(host.live, 2);
});

describe('errors', () => {
  const strange = (branch: (moves: readonly number[]) => Promise<Branched<FakeState>>[]) => {
    const host = new FakeHost(planned([0, 0, [1, 1], [1, 1]]), 1, 0);
    class Strange extends FakeState {
      override branch(moves: readonly number[]) {
        return branch(moves);
      }
    }
    return {
      host,
      search: explore<number, FakeState>(new Strange(host, []), {
        ...questions(host, false),
        strategy: 'breadth-first',
        parallel: 4,
      }),
    };
  };

  test('a host that throws, or breaks the rules, fails those moves alone', async () => {
    const first = await strange(() => {
      throw new Error('no frames');
    }).search;
    assert.deepEqual(
      first.root.children.map(({ outcome, error }) => `${outcome} ${(error as Error).message}`),
      ['failed no frames', 'failed no frames'],
    );
    const few = strange(() => [Promise.resolve({ state: new FakeState(few.host, [0]), steps: 1n })]);
    assert.ok((await few.search).root.children.every(({ error }) => error instanceof ExploreError));
    assert.equal(few.host.live, 1);
    const odd = strange((moves) => moves.map(async (move) => ({ state: new FakeState(odd.host, [move]), steps: -1n })));
    assert.ok((await odd.search).root.children.every(({ error }) => error instanceof ExploreError));
    assert.equal(odd.host.live, 1);
  });

  test('a score that is no number fails its node', async () => {
    const score = (node: SearchNode<number, FakeState>) => (node.depth > 0 ? Number.NaN : 1);
    const tree = await searchPlan([0, 0, [1, 1]], { strategy: 'breadth-first', score });
    assert.equal(tree.at('0')?.outcome, 'failed');
  });

  test('what is wrong at the root, or with the options, is an error of the search', async () => {
    const bad = () => {
      throw new Error('bad script');
    };
    for (const broken of [{ moves: bad }, { score: bad }, { stop: bad }, { onProgress: bad }]) {
      const host = new FakeHost(planned(PLAN), 1, 0);
      const options = { ...questions(host, false), strategy: 'depth-first' as const, ...broken };
      await assert.rejects(explore<number, FakeState>(host.root(), options), /bad script/);
      assert.equal(host.live, 1);
    }
    for (const options of [
      { strategy: 'sideways' as Strategy },
      { strategy: 'beam' as const },
      { strategy: 'best-first' as const, score: undefined as never },
      { strategy: 'depth-first' as const, width: 0 },
      { strategy: 'depth-first' as const, parallel: 1.5 },
      { strategy: 'depth-first' as const, budget: { nodes: -1 } },
      { strategy: 'depth-first' as const, budget: { steps: -1n } },
    ]) {
      await assert.rejects(searchPlan(PLAN, options), { code: 'ERR_BRAID_EXPLORE' });
    }
  });

  test('a state that cannot be given back is no error', async () => {
    class Stuck implements Explored<number, Stuck> {
      branch(moves: readonly number[]): Promise<Branched<Stuck>>[] {
        return moves.map(async () => ({ state: new Stuck(), steps: 1n }));
      }
      release(): Promise<void> {
        throw new Error('the worker is gone');
      }
    }
    const tree = await explore<number, Stuck>(new Stuck(), {
      moves: () => [1, 2],
      strategy: 'breadth-first',
      budget: { depth: 2 },
    });
    assert.equal(tree.nodes.length, 7);
  });
});

describe('reopen', () => {
  test('comes to a node again, from the root or from what is held', async () => {
    const host = new FakeHost(planned(PLAN), 1, 0);
    const { signal } = new AbortController();
    for (const keep of ['none', 'path', 'all'] as const) {
      const tree = await explore<number, FakeState>(host.root(), {
        ...questions(host, false),
        strategy: 'breadth-first',
        keep,
      });
      const state = await reopen(tree, tree.at('1.0.0')!, signal);
      assert.deepEqual(state.path, [1, 0, 0]);
      await state.release();
      assert.equal((await reopen(tree, tree.root, signal)).path.length, 0);
      await tree[Symbol.asyncDispose]();
      assert.equal(host.live, 1);
      host.live = 0;
    }
  });

  test('refuses what was cut off, and what comes out otherwise', async () => {
    const host = new FakeHost(planned([0, 0, [900, 1], [4, '1!'], [3, 1]]), 1, 0);
    const { signal } = new AbortController();
    const tree = await explore<number, FakeState>(host.root(), {
      ...questions(host, false),
      strategy: 'breadth-first',
    });
    await assert.rejects(reopen(tree, tree.at('0')!, signal), { code: 'ERR_BRAID_EXPLORE' });
    Object.assign(host, { world: planned([0, 0, [900, 1], [4, '1!'], [5, 1]]) });
    await assert.rejects(reopen(tree, tree.at('2')!, signal), /took 3 steps, and 5 now/);
    assert.equal(host.live, 2);
  });
});

test('progress counts up to what the tree has', async () => {
  const all: Progress<number, FakeState>[] = [];
  const tree = await searchPlan(PLAN, { strategy: 'breadth-first', onProgress: (progress) => all.push(progress) });
  const last = all.at(-1)!;
  assert.deepEqual([last.nodes, last.live, last.running, last.steps, last.best], [10, 1, 0, tree.steps, tree.best]);
  assert.deepEqual(
    all.map(({ nodes }) => nodes),
    all.map(({ nodes }) => nodes).toSorted((a, b) => a - b),
  );
});

test('the tree as plain data', async () => {
  const tree = await searchPlan([0, 0, [900, 1], [4, '2!'], [3, '1?'], [2, '1.']], {
    strategy: 'breadth-first',
    name: (move) => `m${move}`,
  });
  const { nodes, ...rest } = JSON.parse(JSON.stringify(tree));
  assert.deepEqual(rest, { strategy: 'breadth-first', end: 'found', steps: '13', winner: '1' });
  assert.deepEqual(nodes.slice(0, 3), [
    { index: 'root', steps: '0', total: '0', score: 0, outcome: 'expanded', moves: 4 },
    { index: '0', move: 'm0', steps: '4', total: '4', outcome: 'pruned' },
    { index: '1', move: 'm1', steps: '4', total: '4', score: 2, outcome: 'stopped' },
  ]);
  assert.equal(nodes[3].error, 'no 2');
  assert.equal(nodes[4].ended, 'off');
  assert.deepEqual(
    [tree.at('7'), tree.at('1.0'), tree.at('x'), tree.at('root')],
    [undefined, undefined, undefined, tree.root],
  );
});

/** Searches over clones of a machine: the same whatever the threads, and what becomes of moves that go wrong. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import {
  type BraidError,
  type Exploration,
  type ExploreOptions,
  explore,
  Machine,
  type Move,
  Pool,
  type PoolOptions,
} from '../index.ts';
import { endlessProgram } from '../testing.ts';

const linux = { skip: guestMissing };
const code = (expected: string) => (error: unknown) => (error as BraidError).code === expected;
const outcomes = (tree: Exploration) =>
  tree.nodes.map(({ index, outcome, steps, score }) => [index.join('.'), outcome, steps, score]);

/** A machine that is up, with a folder of its own. */
async function booted(options: PoolOptions = {}): Promise<{ machine: Machine; pool: Pool } & AsyncDisposable> {
  const pool = new Pool(options);
  const machine = await Machine.create({ seed: 11n, pool });
  await machine.boot();
  await machine.exec(['sh', '-c', 'mkdir /tmp/w; echo 1 >/tmp/w/n']);
  return { machine, pool, [Symbol.asyncDispose]: () => pool.dispose() };
}

const DOUBLE = ['sh', '-c', 'echo $(($(cat n) * 2)) >n; cat n'];
const ADD = ['sh', '-c', 'echo $(($(cat n) + 3)) >n; cat n'];
const BUSY = ['sh', '-c', 'i=0; while [ $i -lt 500 ]; do i=$((i+1)); done; echo $(($(cat n) + 5)) >n; cat n'];

/** Which doublings and additions come to 22? */
const search: ExploreOptions = {
  moves: () => [DOUBLE, ADD, BUSY].map((argv): Move => ({ argv, cwd: '/tmp/w', name: argv === ADD ? '+3' : '' })),
  score: ({ result }) => -Math.abs(22 - Number(result?.stdout ?? 1)),
  stop: ({ result }) => result?.stdout === '22\n',
  dedupe: async ({ machine }) => Buffer.from(await (await machine()).readFile('/tmp/w/n')).toString(),
};

test(
  'the tree is the same on one thread and on two, with every strategy; its states are given back',
  linux,
  async (t) => {
    const strategies = [
      { strategy: 'breadth-first' },
      { strategy: 'depth-first', budget: { depth: 3 } },
      { strategy: 'best-first', width: 2 },
      { strategy: 'beam', width: 2, budget: { steps: 40_000_000n } },
    ] as const;
    const run = async (threads: number, parallel: number) => {
      await using set = await booted({ threads });
      const { machine, pool } = set;
      const before = await machine.stateHash();
      const trees: unknown[] = [];
      for (const how of strategies) {
        const { used } = pool.memory;
        {
          await using tree = await explore(machine, { ...search, ...how, parallel });
          trees.push([how.strategy, tree.end, tree.steps, outcomes(tree), tree.result(tree.winner)?.stdout]);
        }
        assert.equal(pool.memory.used, used, how.strategy);
      }
      assert.equal(await machine.stateHash(), before);
      return trees;
    };
    const [one, two] = [await run(1, 1), await run(2, 4)];
    assert.deepEqual(two, one);
    t.diagnostic(String(one.map((tree) => (tree as unknown[]).slice(0, 3))));
    assert.equal((one[0] as unknown[])[1], 'found');
  },
);

test('a winner some moves away is adopted, and every node opens as a machine', linux, async () => {
  await using set = await booted({ threads: 2 });
  const { machine } = set;
  await using tree = await explore(machine, { ...search, strategy: 'best-first', width: 2 });
  const { winner } = tree;
  assert.ok(winner && winner.depth > 1);
  assert.equal(tree.path(winner).length, winner.depth);
  assert.equal(tree.at(winner.index), winner);
  await using kept = await tree.open(winner);
  // Not kept: its moves are made again.
  assert.equal(winner.parent!.state, undefined);
  await using again = await tree.open(winner.parent!);
  const number = async (of: Machine) => Number((await of.exec(['cat', '/tmp/w/n'])).stdout);
  assert.equal(await number(again), Number(tree.result(winner.parent!)!.stdout));
  const hash = await kept.stateHash();
  await tree.adopt();
  assert.equal(await machine.stateHash(), hash);
  assert.equal(await number(machine), 22);
  assert.match(tree.render({ width: 100 }).join('\n'), /root[\s\S]*\* [\d.]+ /);
});

test('what goes wrong with a move is the outcome of its node', linux, async () => {
  await using set = await booted({ threads: 2 });
  const { machine } = set;
  const moves: Move[] = [
    ['no-such-command'],
    ['sh', '-c', 'while :; do :; done'],
    ['poweroff', '-f'],
    ['sh', '-c', 'echo c >/proc/sysrq-trigger'],
    () => {
      throw new TypeError('a fault of the script');
    },
    7 as unknown as Move,
    async (clone) => (await clone.exec(['echo', 'value'])).stdout,
    { type: 'echo $((6*7))\n', until: /\n42\r/ },
    { type: 'true\n', steps: 50_000 },
    ['cat', '/dev/zero'],
  ];
  await using tree = await explore(machine, {
    moves: ({ node }) => (node.parent ? [] : moves),
    moveSteps: 30_000_000n,
    keep: 'all',
  });
  const { children } = tree.root;
  const about = children.map(({ outcome, error, ended }) => [
    outcome,
    (error as BraidError | undefined)?.code ?? ended,
  ]);
  assert.deepEqual(about, [
    ['failed', 'ERR_BRAID_AGENT'],
    ['failed', 'ERR_BRAID_MAX_STEPS'],
    ['ended', 'poweroff'],
    ['ended', about[3]![1]],
    ['failed', 'ERR_BRAID_MOVE'],
    ['failed', 'ERR_BRAID_OPTION'],
    ['expanded', undefined],
    ['expanded', undefined],
    ['expanded', undefined],
    ['failed', 'ERR_BRAID_OUTPUT_LIMIT'],
  ]);
  assert.match(String(about[3]![1]), /^panic: sysrq/);
  assert.equal(children[1]!.steps, 30_000_000n);
  assert.equal(tree.result(children[6])!.value, 'value\n');
  assert.match(tree.result(children[7])!.console, /42/);
  // At the next slice boundary.
  assert.equal(children[8]!.steps, 50_000n);
  assert.equal((await machine.exec(['echo', 'alive'])).stdout, 'alive\n');
});

test('a move that cannot matter any more is not carried to its end', linux, async () => {
  await using set = await booted({ threads: 2 });
  const forever: Move = ['sh', '-c', 'while :; do :; done'];
  const from = performance.now();
  await using tree = await explore(set.machine, {
    moves: () => [forever, ['true'], forever],
    stop: ({ result }) => result?.exitCode === 0,
    moveSteps: 1n << 40n,
    parallel: 3,
  });
  assert.equal(tree.winner, tree.root.children[1]);
  assert.deepEqual(
    tree.root.children.map(({ outcome, cutOff }) => [outcome, cutOff]),
    [
      ['pruned', true],
      ['stopped', false],
      ['pruned', true],
    ],
  );
  assert.ok(performance.now() - from < 20_000);
});

test('a pool that is full: those that have no room fail, the others are made', linux, async () => {
  await using set = await booted({ threads: 2, memory: 96 * 2 ** 20 });
  const { machine, pool } = set;
  const { used } = pool.memory;
  const fill = (n: number): Move => ['dd', 'if=/dev/urandom', `of=/tmp/w/big`, 'bs=1M', `count=${n}`];
  {
    await using tree = await explore(machine, {
      moves: ({ node }) => (node.parent ? [] : [fill(1), fill(90), fill(1)]),
      keep: 'all',
    });
    const [small, large, other] = tree.root.children;
    assert.equal(small!.outcome, 'expanded');
    assert.equal(large!.outcome, 'failed');
    assert.match((large!.error as BraidError).code, /^ERR_BRAID_/);
    assert.ok(other!.outcome === 'expanded' || other!.outcome === 'failed');
  }
  assert.equal(pool.memory.used, used);
  assert.equal((await machine.exec(['echo', 'alive'])).stdout, 'alive\n');
});

test('moves of one’s own, a limit of the machine, an abort, options that cannot work', async () => {
  const program = { bare: endlessProgram('quiet'), memory: '32M', seed: 3n, maxSteps: 1000n } as const;
  await using machine = await Machine.create(program);
  await machine.step(100n);
  const options = {
    moves: () => [1, 300, 700],
    move: async (clone: Machine, steps: number) => (await clone.step(BigInt(steps))).step,
  };
  await using tree = await explore(machine, { ...options, budget: { depth: 2 }, name: (steps) => `${steps} more` });
  assert.deepEqual(
    tree.nodes.map(({ total, outcome, error }) => [total, outcome, (error as BraidError | undefined)?.code]),
    [
      [0n, 'expanded', undefined],
      [1n, 'expanded', undefined],
      [300n, 'expanded', undefined],
      [700n, 'expanded', undefined],
      [2n, 'over budget', undefined],
      [301n, 'over budget', undefined],
      [701n, 'over budget', undefined],
      [301n, 'over budget', undefined],
      [600n, 'over budget', undefined],
      [900n, 'failed', 'ERR_BRAID_MAX_STEPS'],
      [701n, 'over budget', undefined],
      [900n, 'failed', 'ERR_BRAID_MAX_STEPS'],
      [900n, 'failed', 'ERR_BRAID_MAX_STEPS'],
    ],
  );
  assert.equal(tree.result(tree.at('1.0')), 401);
  assert.match(tree.render().join('\n'), /1\.0 1 more/);
  await assert.rejects(explore(machine, { ...options, moveSteps: 0 }), code('ERR_BRAID_OPTION'));
  await assert.rejects(explore(machine, { ...options, strategy: 'beam', width: 2 }), code('ERR_BRAID_EXPLORE'));
  await assert.rejects(tree.adopt(), code('ERR_BRAID_OPTION'));

  const { used } = machine.pool.memory;
  const controller = new AbortController();
  const endless = explore(machine, {
    ...options,
    signal: controller.signal,
    onProgress: ({ nodes }) => nodes > 5 && controller.abort(new Error('enough')),
  });
  await assert.rejects(endless, { message: 'enough' });
  assert.equal(machine.pool.memory.used, used);
});

test(
  'a machine becomes a clone of a clone: what those in between held back comes first, and programs go on',
  linux,
  async () => {
    await using set = await booted({ threads: 2 });
    const { machine } = set;
    let console = '';
    machine.onConsole((bytes) => {
      console += Buffer.from(bytes).toString();
    });
    const mark = console.length;
    const program = machine.spawn(['sh', '-c', 'read a; echo "one $a"; read b; echo "two $b"; exit 7'], {
      input: 'stream',
    });
    const output = new Response(program.stdout).text();
    const writer = program.stdin.getWriter();
    await writer.write('x\n');
    await machine.pause();
    const say = (of: Machine, text: string) => of.exec(['sh', '-c', `echo ${text} >/dev/console`]);
    const [child] = (await machine.fork(1)) as [Machine];
    await say(child, 'child');
    const point = await child.forkPoint();
    await say(child, 'not-in-the-past');
    // Programs of those in between are nobody's.
    child.spawn(['sh', '-c', 'sleep 1; echo nobody'], {});
    await child.dispose();
    const grandchild = await point.fork();
    await say(grandchild, 'grandchild');
    const [last] = (await grandchild.fork(1)) as [Machine];
    await say(last, 'last');
    const stranger = await Machine.create({ bare: endlessProgram('quiet'), memory: '32M', pool: set.pool });
    await assert.rejects(machine.adopt(stranger), code('ERR_BRAID_OPTION'));
    await assert.rejects(child.adopt(machine), code('ERR_BRAID_OPTION'));
    await assert.rejects(machine.adopt(machine), code('ERR_BRAID_OPTION'));
    assert.equal(console.length, mark);
    await machine.adopt(last);
    await assert.rejects(last.stats(), code('ERR_BRAID_ADOPTED'));
    await machine.run();
    await writer.write('y\n');
    assert.equal((await program.exited).exitCode, 7);
    assert.equal(await output, 'one x\ntwo y\n');
    await machine.pause();
    assert.deepEqual(console.slice(mark).match(/[a-z-]+/g), ['child', 'grandchild', 'last']);
    // One that was forked from a machine that has been adopted since: what that one held has been sent.
    const [next] = (await machine.fork(1)) as [Machine];
    await say(next, 'next');
    const [below] = (await next.fork(1)) as [Machine];
    await machine.adopt(next);
    await say(below, 'below');
    await machine.adopt(below);
    await machine.exec(['true']);
    assert.deepEqual(console.slice(mark).match(/[a-z-]+/g), ['child', 'grandchild', 'last', 'next', 'below']);
    await point.dispose();
  },
);

test("an interactive machine is explored in virtual time, and goes on in its user's", linux, async () => {
  await using set = await booted();
  const { machine } = set;
  await machine.setTime('wall');
  const from = performance.now();
  await using tree = await explore(machine, {
    moves: ({ node }) => (node.parent ? [] : [['sleep', '300']]),
    stop: ({ result }) => result?.exitCode === 0,
  });
  assert.ok(performance.now() - from < 30_000);
  await tree.adopt();
  const slept = performance.now();
  await machine.exec(['sleep', '0.5']);
  assert.ok(performance.now() - slept > 450);
});

// `npm run bench -- explore`: searches over clones of a booted guest, by the library, as programs use it.
//
//   nodes a second      breadth-first, each node a command (`true` in a shell) in a clone of its own; and bytes typed to a program
//                       that runs, as examples/crash does. Each once on one thread and once on two
//   two children        the same work in one child and in two at once, on two threads: work done a second, against one
//   100 children        forks of one machine, all alive, each having run a command: seconds in all, and what each holds of the pool's memory at its start
//
// A row's first run is not counted: it translates what the others find translated.

import crash from '../examples/crash/search.ts';
import { explore, Machine, type Move, Pool } from '../packages/node/src/index.ts';
import { quick, Report } from './harness.ts';

const REPS = quick ? 3 : 5;
const NODES = quick ? 60 : 300;
const CHILDREN = 100;
const FRAME = 4096;
/** A child's work: some 0.3 s. */
const WORK = ['sh', '-c', 'head -c 16000000 /dev/zero | sha256sum'];

/** Samples of what `measure` gives; one more run goes before. */
async function samples(measure: () => Promise<number>): Promise<number[]> {
  const all: number[] = [];
  for (let rep = 0; rep <= REPS; rep++) all.push(await measure());
  return all.slice(1);
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return (performance.now() - from) / 1000;
}

async function booted(pool: Pool): Promise<Machine> {
  pool.warmUp();
  const machine = await Machine.create({ pool, seed: 1n });
  await machine.boot();
  return machine;
}

async function nodesPerSecond(machine: Machine, move: Move): Promise<number> {
  const budget = { nodes: NODES };
  let nodes = 0;
  const time = await seconds(async () => {
    await using tree = await explore(machine, { moves: () => Array(6).fill(move), budget });
    nodes = tree.nodes.length - 1;
    const failed = tree.nodes.find(({ outcome }) => outcome === 'failed');
    if (failed) throw failed.error;
  });
  return nodes / time;
}

using report = new Report(
  'explore',
  'Searches over clones of the default guest; a child is a fork with a command run in it.',
);

for (const threads of [1, 2]) {
  await using pool = new Pool({ threads });
  const machine = await booted(pool);
  const on = threads === 1 ? 'on one thread' : 'on two threads';
  const add = (name: string, results: number[]) =>
    report.add({ name: `${name}, ${on}`, unit: 'nodes/s', better: 'higher', results });
  add('a command a node', await samples(() => nodesPerSecond(machine, ['true'])));
  await crash.setup!(machine);
  add('a typed byte a node', await samples(() => nodesPerSecond(machine, { type: 'a', until: /places|# / })));
}

{
  await using pool = new Pool({ threads: 2 });
  const machine = await booted(pool);
  const run = async (count: number) => {
    const children = (await machine.fork(count)) as Machine[];
    const time = await seconds(() => Promise.all(children.map((child) => child.exec(WORK))));
    await Promise.all(children.map((child) => child.dispose()));
    return time;
  };
  // Both threads have to know the code.
  await run(2);
  const results = await samples(async () => {
    const one = await run(1);
    return (2 * one) / (await run(2));
  });
  report.add({ name: 'two children: work of one', unit: 'x', better: 'higher', results, must: 1.8 });

  const memory: number[] = [];
  const all = await samples(async () => {
    let children: Machine[] = [];
    const { used } = pool.memory;
    const time = await seconds(async () => {
      children = (await machine.fork(CHILDREN)) as Machine[];
      memory.push(((pool.memory.used - used) * FRAME) / CHILDREN / 1024);
      await Promise.all(children.map((child) => child.exec(['true'])));
    });
    await Promise.all(children.map((child) => child.dispose()));
    return time;
  });
  report.add({ name: '100 children, a command in each', unit: 's', better: 'lower', results: all, must: 2 });
  const each = memory.slice(1);
  report.add({ name: 'frames of each at its start', unit: 'KiB', better: 'lower', results: each, must: 1024 });
}

report.print();

/**
 * `braid tour`, which is `npm start`: what Braid is for, on real input. A program with a bug and seven candidates for its repair are put into
 * a machine, all are tried at once in clones of it, and the machine becomes the best of them; on a terminal it is then the user's.
 */

import { availableParallelism } from 'node:os';
import type { ExploreScript } from '../branch/explore.ts';
import { explore } from '../branch/explore.ts';
import { Machine } from '../machine.ts';
import { createOptions, type RunFlags } from './flags.ts';
import { LiveTree } from './live-tree.ts';
import { shell } from './run.ts';
import { print } from './say.ts';

const EXAMPLE = new URL('../../../../examples/repair/search.ts', import.meta.url);
/** Wider lines are hard to read. */
const MOST_COLUMNS = 100;

export async function tour(flags: RunFlags): Promise<number> {
  const started = performance.now();
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(2)} s`;
  const isTerminal = Boolean(process.stdin.isTTY && process.stdout.isTTY);
  const say = (line = '') => print(line);
  const bold = (text: string) => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text);

  // Who gets a shell expects today's date in it.
  const today = isTerminal && flags.epoch === undefined ? { epoch: new Date() } : {};
  await using machine = await Machine.create({ ...createOptions(undefined, flags, 'virtual'), ...today });
  machine.pool.warmUp();
  const [{ default: script }] = await Promise.all([import(EXAMPLE.href) as Promise<Example>, machine.boot()]);
  const { steps } = await machine.stats();
  say(bold(`Linux is up: ${millions(steps)} steps, ${seconds()} (seed ${machine.seed}).`));
  await script.setup!(machine);
  const before = await machine.exec(['sh', 'test.sh', './wrap'], { cwd: '/root/repair' });
  const [passed = 0, all] = [/^ok/gm, /ok/g].map((ok) => before.stdout.match(ok)?.length);
  say();
  say(`/root/repair/wrap breaks text into lines. It has a bug: ${passed} of its ${all} tests pass.`);
  say('Repairs of it are tried at once, each in a clone of this machine:');
  say();

  const live = new LiveTree(process.stdout);
  // All are tried to their end: a picture of what each of them is worth.
  const { stop: _, score, ...search } = script;
  const tests: ExploreScript['score'] = (view) => (view.result ? score!(view) : passed);
  const onProgress = process.stdout.isTTY ? { onProgress: live.update } : {};
  const from = performance.now();
  await using found = await explore(machine, { ...search, score: tests, ...onProgress });
  live[Symbol.dispose]();
  const width = Math.min(MOST_COLUMNS, (process.stdout.columns || 80) - 1);
  for (const line of found.render({ width, color: Boolean(process.stdout.isTTY) })) say(line);
  const took = ((performance.now() - from) / 1000).toFixed(2);
  say();
  say(`${found.nodes.length - 1} clones, ${millions(found.steps)} steps in ${took} s on ${cores()}.`);

  const { best } = found;
  if (!best?.move || found.result(best)?.exitCode !== 0) throw new Error('no candidate passes the tests');
  await found.adopt(best);
  const name = found.name(best.move);
  const same = await machine.exec(['cmp', 'wrap', `candidates/${name}`], { cwd: '/root/repair' });
  if (same.exitCode !== 0) throw new Error('the repair is not there');
  say(bold(`${name} passes all: the machine has become that clone.`));
  if (!isTerminal) {
    say(`${seconds()} in all. State hash ${await machine.stateHash()}: the same with --seed ${machine.seed}.`);
    say('On a terminal, npm start goes on with a shell in that machine.');
    return 0;
  }
  say(`${seconds()} in all. Its shell is yours: try "cd repair; sh test.sh ./wrap".`);
  say('Ctrl-] h for help, Ctrl-] q to leave.');
  say();
  return await shell(machine, flags);
}

interface Example {
  readonly default: ExploreScript;
}

function cores(): string {
  const count = availableParallelism();
  return count === 1 ? 'one core' : `${count} cores`;
}

function millions(steps: bigint): string {
  return `${(Number(steps) / 1e6).toFixed(1)} million`;
}

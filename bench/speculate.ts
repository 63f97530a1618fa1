// `npm run bench -- speculate`: a guest that asks the host, which answers after 200 ms, and works on the answer for 200 ms.
//
// With two guesses the work is done while the host thinks. The peer is the same machine without guesses, in the same run, by turns.
// docs/benchmarks.md says how each figure is taken. --quick takes fewer samples.

import { setTimeout as sleep } from 'node:timers/promises';
import { complete, Machine, Pool, type Program, type Speculated, speculate } from '../packages/node/src/index.ts';
import { median, quick, Report, summarize } from './harness.ts';

const WAIT_MS = 200;
const WORK_MS = 200;
const REPS = quick ? 3 : 9;
const GUESSES = ['left\n', 'right\n'];

/** Asks, and works for so many turns of a loop on each answer; an empty one asks again at once. */
const PROGRAM = `
  printf 'which? '
  while read -r way; do
    if [ -n "$way" ]; then i=0; while [ $i -lt $TURNS ]; do i=$((i+1)); done; fi
    printf "%s which? " "$way"
  done`;

/** A program that waits for its answer, in a machine that stands still. */
async function start(machine: Machine, turns: number): Promise<Program> {
  const program = machine.spawn(['sh', '-c', PROGRAM], { input: 'stream', env: { TURNS: String(turns) } });
  for (const stream of [program.stdout, program.stderr]) void stream.pipeTo(new WritableStream()).catch(() => {});
  program.exited.catch(() => {}); // it never ends
  await complete(machine, { output: { program, pattern: 'which? ' }, hold: true });
  return program;
}

/** One question: milliseconds from the wait to the end of the work on the answer. */
async function ask(
  machine: Machine,
  program: Program,
  answer: string,
  { guesses, wait }: { guesses: readonly string[]; wait: number },
): Promise<{ ms: number; result: Speculated }> {
  const from = performance.now();
  const result = await speculate(machine, {
    on: { program, now: true },
    guesses,
    until: { output: { program, pattern: 'which? ' } },
    hold: true,
    answer: async () => {
      await sleep(wait);
      return answer;
    },
  });
  return { ms: performance.now() - from, result };
}

await using pool = new Pool({ threads: 2 });
await using machine = await Machine.create({ pool, memory: '128M', seed: 1 });
await machine.boot();
await machine.prepareForks();

// How many turns take the time: on warm code.
const TRIAL = 20_000;
const trial = await start(machine, TRIAL);
const none = { guesses: [], wait: 0 };
const trials: number[] = [];
for (let n = 0; n < 6; n++) trials.push((await ask(machine, trial, 'left\n', none)).ms);
const turns = Math.round((TRIAL * WORK_MS) / median(trials.slice(2)));
trial.kill(9);
const program = await start(machine, turns);

using report = new Report('speculate', `waits of ${WAIT_MS} ms, two continuations of ${turns} turns of a shell's loop`);
const both = { guesses: GUESSES, wait: WAIT_MS };
const samples = { guessed: [] as number[], plain: [] as number[], work: [] as number[], missed: [] as number[] };
// The first of each are slower: threads and code are cold.
for (let n = -2; n < REPS; n++) {
  const keep = (to: number[], ms: number) => n >= 0 && to.push(ms);
  const answer = GUESSES[(n + 2) % 2]!;
  const hit = await ask(machine, program, answer, both);
  if (n >= 0 && !hit.result.adopted) throw new Error(`the clone was not adopted: ${hit.result.failure?.message}`);
  keep(samples.guessed, hit.ms);
  keep(samples.plain, (await ask(machine, program, answer, { guesses: [], wait: WAIT_MS })).ms);
  keep(samples.work, (await ask(machine, program, answer, none)).ms);
  keep(samples.missed, (await ask(machine, program, 'else\n', both)).ms);
}
const longer = Math.max(WAIT_MS, median(samples.work));
report.add({ name: 'the work on an answer', unit: 'ms', better: 'lower', results: samples.work });
report.add({
  name: 'wait and work, two guesses, one right',
  unit: 'ms',
  better: 'lower',
  results: { braid: summarize(samples.guessed), 'without guesses': summarize(samples.plain) },
  group: 'wait and work',
});
report.add({
  name: '  over the longer of wait and work',
  unit: 'x',
  better: 'lower',
  results: samples.guessed.map((ms) => ms / longer),
  must: 1.15,
});
report.add({
  name: 'wait and work, two guesses, both wrong',
  unit: 'ms',
  better: 'lower',
  results: { braid: summarize(samples.missed), 'without guesses': summarize(samples.plain) },
});

// What guessing itself costs: answers that make no work, given when the clones have stopped.
const quickly: Record<'hit' | 'miss' | 'none', number[]> = { hit: [], miss: [], none: [] };
for (let n = -2; n < REPS; n++) {
  const measure = async (guesses: readonly string[], to: number[]) => {
    const until = { output: { program, pattern: 'which? ' } };
    const speculation = await speculate(machine, { on: { program, now: true }, guesses, until, hold: true });
    await sleep(30);
    const from = performance.now();
    await speculation.answer('\n');
    if (n >= 0) to.push(performance.now() - from);
  };
  await measure(['\n'], quickly.hit);
  await measure(['x\n'], quickly.miss);
  await measure([], quickly.none);
}
report.add({ name: 'from the answer on, no work, the guess right', unit: 'ms', better: 'lower', results: quickly.hit });
report.add({ name: '  the guess wrong', unit: 'ms', better: 'lower', results: quickly.miss });
report.add({ name: '  no guess', unit: 'ms', better: 'lower', results: quickly.none });
report.print();

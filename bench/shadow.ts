// `npm run bench -- shadow`: what each technique of the shadow tables is worth. Rows of programs/kernel.c run on one machine with
// everything on and, by turns, with each technique off (`Engine.disable`); a ratio above 1 means that the technique pays.
//
// Each technique is to pay on the row that TECHNIQUES names: time without it is at least 5 % longer, beyond half of the spread of
// the time with everything on. Times are CPU time. A run comes after a run of the same that is not timed, because a
// switch drops every table.
//
// Arguments name techniques; without any it is all. --quick runs only the rows that are named for one.

import { DISABLE } from '../packages/core/src/hart/state.ts';
import { Engine, type EngineCounters, Pool } from '../packages/core/src/index.ts';
import { alternate, quick, Report, type Results, summarize } from './harness.ts';
import { compileDynamic } from './lib/dynamic.ts';
import { gainBeyondNoise } from './lib/gain.ts';
import { Scratch } from './lib/guest.ts';
import { type Competitor, type Kernel, KernelGuest } from './lib/kernels.ts';

const REPS = 5;
const MUST_PERCENT = 5;
const WORKERS = 4;

type Technique = keyof typeof DISABLE;

/** Where each technique should pay, and why; said before it was measured. */
const TECHNIQUES: Readonly<Record<Technique, { readonly row: string; readonly because: string }>> = {
  tags: { row: 'context-switch', because: 'a process that gets its turn again finds its tables as it left them' },
  trace: {
    row: 'mmap',
    because: 'Linux fences at every mprotect and munmap, which costs nothing when tables are true anyway',
  },
  batch: {
    row: 'scan',
    because: 'who reads page after page finds the next seven in the same line of page-table entries',
  },
  second: { row: 'update', because: 'a page that has lost its entry to another is found without a walk' },
  lazy: {
    row: 'update-far',
    because: 'a page that is read first is written next, and the table has no room to keep it',
  },
  shootdown: {
    row: 'page-fault x4',
    because: 'each page taken away drops its own entry instead of the tables of four harts',
  },
};

/** Repetitions that take 0.2 to 0.5 seconds. On several harts: x WORKERS. */
const ROWS: Readonly<Record<string, number>> = {
  syscall: 500_000,
  'page-fault': 250,
  'fork-wait': 400,
  'fork-exec': 150,
  pipe: 6000,
  mmap: 5000,
  'context-switch': 4000,
  'exec-dynamic': 60,
  update: 6000,
  'update-far': 1500,
  scan: 40,
  'page-fault x4': 60,
};

const COUNTERS = [
  'misses',
  'recalls',
  'walks',
  'fills',
  'drops',
  'flushes',
  'creations',
] as const satisfies (keyof EngineCounters)[];

interface Run {
  readonly seconds: number;
  /** Counters of the engine per million instructions. */
  readonly counts: Readonly<Record<string, number>>;
}

/** A machine at its prompt, and its engine. */
class Subject {
  private readonly engine = new Engine(new Pool());
  private readonly machine: Competitor;

  constructor(guest: KernelGuest) {
    this.machine = guest.bootBraid(this.engine);
  }

  async run(kernel: Kernel, disabled: number): Promise<Run> {
    this.engine.disable(disabled);
    await this.machine.run(kernel);
    const before = this.engine.counters;
    const { cpuSeconds, instructions } = await this.machine.run(kernel);
    const after = this.engine.counters;
    const count = (name: (typeof COUNTERS)[number]) => Number(after[name] - before[name]) / (instructions! / 1e6);
    return { seconds: cpuSeconds, counts: Object.fromEntries(COUNTERS.map((name) => [name, count(name)])) };
  }
}

async function main(): Promise<void> {
  const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
  const unknown = named.find((name) => !(name in TECHNIQUES));
  if (unknown) throw new Error(`There is no technique "${unknown}": they are ${Object.keys(TECHNIQUES).join(', ')}.`);
  const techniques = (Object.keys(TECHNIQUES) as Technique[]).filter((name) => !named.length || named.includes(name));
  const rows = Object.keys(ROWS).filter((row) => !quick || techniques.some((name) => TECHNIQUES[name].row === row));

  using scratch = new Scratch();
  using report = new Report('shadow', 'Peers are Braid without one technique: a ratio above 1 means that it pays.');
  const files = compileDynamic('kernel', scratch);
  const subjects = new Map<number, Subject>();
  const subjectOf = (harts: number): Subject => {
    const subject = subjects.get(harts) ?? new Subject(new KernelGuest(['kernel'], scratch, { harts, files }));
    subjects.set(harts, subject);
    return subject;
  };

  const times = new Map<string, Results>();
  for (const row of rows) {
    const [name, several] = row.split(' ') as [string, string | undefined];
    const kernel = { program: 'kernel', name, repetitions: ROWS[row]!, ...(several && { workers: WORKERS }) };
    const subject = subjectOf(several ? WORKERS : 1);
    const runs: Record<string, Run[]> = {};
    const measure = (competitor: string, disabled: number) => async () => {
      const run = await subject.run(kernel, disabled);
      (runs[competitor] ??= []).push(run);
      return run.seconds;
    };
    // What becomes hot is translated before anything counts.
    for (let n = 0; n < 3; n++) await subject.run(kernel, 0);
    const without = techniques.map((technique) => [`no ${technique}`, measure(`no ${technique}`, DISABLE[technique])]);
    const results = await alternate(REPS, { braid: measure('braid', 0), ...Object.fromEntries(without) });
    times.set(row, results);
    report.add({ name: row, unit: 's', better: 'lower', results });
    if (!techniques.some((technique) => TECHNIQUES[technique].row === row)) continue;
    for (const counter of COUNTERS) {
      const counts = Object.entries(runs).map(([competitor, all]) => [
        competitor,
        summarize(all.map((run) => run.counts[counter]!)),
      ]);
      const unit = 'per million instructions';
      report.add({ name: `${row}: ${counter}`, unit, better: 'lower', results: Object.fromEntries(counts) });
    }
  }
  for (const technique of techniques) {
    const { row } = TECHNIQUES[technique];
    const { braid, [`no ${technique}`]: off } = times.get(row)!;
    report.add({
      name: `${technique} pays on ${row}, beyond noise`,
      unit: '%',
      better: 'higher',
      results: gainBeyondNoise(braid.samples, off!.samples),
      must: MUST_PERCENT,
    });
  }
  report.print();
}

await main();

// `npm run bench -- interpreter`: guest MIPS of the interpreter on an integer mix inside Linux.
//
// One machine of each competitor boots and stays at its prompt; then each kernel of programs/integer.c runs in turns. A kernel
// prints a marker before and after its work. Braid counts the instructions between them with the machine's own counters; QEMU
// runs the same binary, so its MIPS are the same count over its time.

import { Engine, Pool } from '../packages/core/src/index.ts';
import { geometricMean, quick, Report, type Results, summarize } from './harness.ts';
import { Scratch } from './lib/guest.ts';
import { compareKernel, KernelGuest } from './lib/kernels.ts';

const REPS = 3;
const MUST_MIPS = 300;

/** Repetitions of each kernel that make about 600 million instructions. */
const KERNELS = {
  arithmetic: 140,
  calls: 500,
  strings: 170,
  sort: 130,
  'hash-table': 260,
  sha256: 150,
  crc: 130,
  compression: 270,
  bytecode: 80,
};

async function main(): Promise<void> {
  using scratch = new Scratch();
  using report = new Report('interpreter');
  const guest = new KernelGuest(['integer'], scratch);
  const braid = guest.bootBraid(new Engine(new Pool(), 0, { translate: false }));
  await using qemu = await guest.bootQemu();

  // By competitor and run: the geometric mean over the kernels comes from these.
  const wall: Record<string, number[][]> = {};
  const cpu: Record<string, number[][]> = {};
  for (const [name, full] of Object.entries(KERNELS)) {
    const kernel = { program: 'integer', name, repetitions: quick ? Math.ceil(full / 5) : full };
    const { samples } = await compareKernel(kernel, { braid, qemu }, REPS);
    const instructions = samples.braid!.at(-1)!.instructions!;
    const mips = (seconds: number) => instructions / 1e6 / seconds;
    for (const [competitor, runs] of Object.entries(samples)) {
      (wall[competitor] ??= []).push(runs.map((sample) => mips(sample.wallSeconds)));
      (cpu[competitor] ??= []).push(runs.map((sample) => mips(Math.max(sample.cpuSeconds, 0.01))));
    }
    const results = collect(wall, (kernels) => kernels.at(-1)!);
    report.add({ name, unit: 'MIPS', better: 'higher', results, group: 'integer mix' });
  }
  const mean = (kernels: number[][]) =>
    kernels[0]!.map((_, rep) => geometricMean(kernels.map((samples) => samples[rep]!)));
  const [wallMean, cpuMean] = [collect(wall, mean), collect(cpu, mean)];
  report.add({ name: 'mix (geometric mean)', unit: 'MIPS', better: 'higher', results: wallMean, must: MUST_MIPS });
  report.add({ name: 'mix, of CPU time', unit: 'MIPS', better: 'higher', results: cpuMean });
  report.print();
}

const collect = (all: Record<string, number[][]>, pick: (kernels: number[][]) => number[]) =>
  Object.fromEntries(Object.entries(all).map(([name, kernels]) => [name, summarize(pick(kernels))])) as Results;

await main();

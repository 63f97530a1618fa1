// `npm run bench -- kernel`: what programs ask of Linux's kernel, against QEMU, on one hart and on four.
//
// One machine of each competitor boots and stays at its prompt, and runs the rows of programs/kernel.c by turns: same kernel,
// root and binaries. What is timed is the work between a row's two markers; an eighth of it has run before them. On four
// harts four workers do the row at the same time, and the peer `qemu` is, row by row, the better of QEMU's single- and
// multi-threaded modes, which are both shown.
//
// Outside the groups that have a bound: `exec-dynamic`, the fork-exec of a program with a dynamic linker; and `compute`, where
// four threads only compute, so that the cores of the host decide.
//
// Arguments name the groups or rows to run; without any it is all.

import { quick, Report } from './harness.ts';
import { compileDynamic } from './lib/dynamic.ts';
import { Scratch } from './lib/guest.ts';
import { compareKernel, KernelGuest } from './lib/kernels.ts';

const REPS = 3;
const WORKERS = 4;

interface Group {
  readonly harts: number;
  /** Repetitions of each row, for each worker, that take QEMU 0.3 to 1 seconds. */
  readonly rows: Readonly<Record<string, number>>;
  /** At least how many times as fast as QEMU the group has to be, in the geometric mean. */
  readonly must: number;
}

const GROUPS: Readonly<Record<string, Group>> = {
  '1-hart': {
    harts: 1,
    rows: {
      syscall: 1_000_000,
      'page-fault': 250,
      'fork-wait': 600,
      'fork-exec': 180,
      pipe: 8000,
      mmap: 3000,
      'context-switch': 1800,
      'exec-dynamic': 35,
    },
    must: 1,
  },
  '4-hart': {
    harts: 4,
    rows: {
      syscall: 200_000,
      'page-fault': 50,
      'fork-wait': 15,
      'fork-exec': 6,
      pipe: 1000,
      mmap: 150,
      'context-switch': 100,
      futex: 3000,
      sched: 2000,
      'exec-dynamic': 2,
      compute: 60_000,
    },
    must: 2,
  },
};

/** Rows that count for no group's bound, and the group that they have instead. */
const APART: Readonly<Record<string, { group?: string }>> = { 'exec-dynamic': {}, compute: { group: 'compute' } };

async function main(): Promise<void> {
  const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
  const known = Object.entries(GROUPS).flatMap(([group, { rows }]) => [group, ...Object.keys(rows)]);
  const unknown = named.find((name) => !known.includes(name));
  if (unknown) throw new Error(`There is no group or row "${unknown}": they are ${[...new Set(known)].join(', ')}.`);

  using scratch = new Scratch();
  using report = new Report('kernel', 'On four harts `qemu` is the better of its two modes in each row.');
  for (const [group, { harts, rows, must }] of Object.entries(GROUPS)) {
    const chosen = Object.entries(rows).filter(
      ([name]) => named.length === 0 || named.includes(group) || named.includes(name),
    );
    if (chosen.length === 0) continue;
    report.must(group, 'qemu', must);
    const guest = new KernelGuest(['kernel'], scratch, { harts, files: compileDynamic('kernel', scratch) });
    const braid = guest.bootBraid();
    await using single = await guest.bootQemu(harts === 1 ? 'plain' : 'single');
    await using multi = harts === 1 ? undefined : await guest.bootQemu('multi');
    for (const [name, full] of chosen) {
      const repetitions = quick ? Math.ceil(full / 4) : full;
      const kernel = { program: 'kernel', name, repetitions, ...(harts > 1 && { workers: WORKERS }) };
      const peers = harts === 1 ? { qemu: single } : { 'qemu-single': single, 'qemu-multi': multi };
      const { results } = await compareKernel(kernel, { braid, ...peers }, REPS);
      const modes = [results['qemu-single'], results['qemu-multi']].filter((mode) => mode !== undefined);
      const better = modes.sort((a, b) => a.median - b.median)[0];
      const label = harts === 1 ? name : `${name} x${WORKERS}`;
      report.add({
        name: label,
        unit: 's',
        better: 'lower',
        results: better ? { ...results, qemu: better } : results,
        ...(APART[name] ?? { group }),
      });
    }
  }
  report.print();
}

await main();

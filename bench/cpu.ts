// `npm run bench -- cpu`: programs that only compute, inside Linux on one hart, against QEMU, QEMU's deterministic mode, and
// the host itself.
//
// Warm-up is not in these figures. One machine of each competitor boots and stays at its prompt; each kernel runs once on each
// before the runs that are timed, and once more, shortly, right before each of these: QEMU sizes its TLB by what it used last,
// and would otherwise start with a small one after the others' turns. What is timed is the work between a kernel's two markers.
// All competitors run the same source, the guests the same binary, and must compute the same bits, floating point included.
//
// Arguments name the groups or kernels to run; without any it is all.

import { readFileSync } from 'node:fs';
import { attempt, quick, Report } from './harness.ts';
import { Scratch } from './lib/guest.ts';
import { type Competitor, type Competitors, compareKernel, KernelGuest, nativePrograms } from './lib/kernels.ts';

const REPS = 3;
const NOTE = 'Warm-up is not in the figures: each kernel has run on each machine before the runs that are timed.';

interface Group {
  readonly program: string;
  /** Repetitions of each kernel that take QEMU about a second. */
  readonly kernels: Readonly<Record<string, number>>;
  /** At least how many times as fast as a peer the group has to be, in the geometric mean. */
  readonly musts?: Readonly<Record<string, number>>;
}

const GROUPS: Readonly<Record<string, Group>> = {
  integer: {
    program: 'integer',
    kernels: {
      arithmetic: 650,
      calls: 700,
      strings: 1600,
      sha256: 1300,
      crc: 800,
      compression: 2000,
      sort: 800,
      'hash-table': 1200,
      bytecode: 80,
      chase: 24,
      'chase-small': 600,
      copy: 350,
    },
    musts: { qemu: 1.5, 'qemu-icount': 2 },
  },
  fp: {
    program: 'float',
    kernels: { nbody: 800, matmul: 60, fft: 400, mandelbrot: 24 },
    musts: { qemu: 3 },
  },
  'fp fused': {
    program: 'float',
    kernels: { 'nbody-fma': 500 },
  },
};

/** Whether the host's processor runs what is compiled with fused multiply-add. */
const hostFuses = () => process.arch !== 'x64' || /^flags\s*:.* fma /m.test(readFileSync('/proc/cpuinfo', 'latin1'));

/** One that runs an eighth of the work, not timed, before all of it. */
const warmed = (competitor: Competitor): Competitor => ({
  run: async (kernel) => {
    await competitor.run({ ...kernel, repetitions: Math.ceil(kernel.repetitions / 8) });
    return competitor.run(kernel);
  },
});

async function main(): Promise<void> {
  const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
  const known = Object.entries(GROUPS).flatMap(([group, { kernels }]) => [group, ...Object.keys(kernels)]);
  const unknown = named.find((name) => !known.includes(name));
  if (unknown) throw new Error(`There is no group or kernel "${unknown}": they are ${known.join(', ')}.`);

  using scratch = new Scratch();
  using report = new Report('cpu', NOTE);
  const programs = [...new Set(Object.values(GROUPS).map(({ program }) => program))];
  const guest = new KernelGuest(programs, scratch);
  const braid = guest.bootBraid();
  await using qemu = await guest.bootQemu();
  await using icount = await guest.bootQemu('icount');
  const native = nativePrograms(programs, scratch);

  for (const [group, { program, kernels, musts }] of Object.entries(GROUPS)) {
    for (const [peer, bound] of Object.entries(musts ?? {})) report.must(group, peer, bound);
    for (const [name, full] of Object.entries(kernels)) {
      if (named.length > 0 && !named.includes(group) && !named.includes(name)) continue;
      const competitors: Competitors = {
        braid: warmed(braid),
        qemu: qemu && warmed(qemu),
        'qemu-icount': group === 'integer' && icount ? warmed(icount) : undefined,
        native: group !== 'fp fused' || hostFuses() ? native : undefined,
      };
      const kernel = { program, name, repetitions: quick ? Math.ceil(full / 5) : full };
      for (const [who, competitor] of Object.entries(competitors)) {
        if (who === 'braid') await competitor!.run(kernel);
        else if (competitor) await attempt(who, () => competitor.run(kernel));
      }
      const { results } = await compareKernel(kernel, competitors, REPS);
      report.add({ name, unit: 's', better: 'lower', results, group });
    }
  }
  report.print();
}

await main();

// `npm run bench -- interpreter`: guest MIPS of the interpreter on an integer mix inside Linux.
//
// One machine of each competitor boots and stays at its prompt; then each kernel of programs/integer.c runs in turns. A kernel
// prints a marker before and after its work. Braid counts the instructions between them with the machine's own counters; QEMU
// runs the same binary, so its MIPS are the same count over its time.

import { Engine, Machine, Pool } from '../packages/core/src/index.ts';
import { alternate, findQemu, geometricMean, quick, Report, type Results, summarize, Watched } from './harness.ts';
import {
  compileProgram,
  DEFAULT_APPEND,
  PROMPT,
  qemuArguments,
  readInitramfs,
  readKernel,
  Scratch,
} from './lib/guest.ts';

const REPS = 3;
const MUST_MIPS = 300;
const MEMORY_MIB = 256;

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

/** What one run of a kernel took. */
interface Sample {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  /** What the program computed. */
  readonly value: string;
}

const endOf = (kernel: string) => new RegExp(`</${kernel} ([0-9a-f]{16})>`);

/** Braid's machine, run in this thread. */
class BraidGuest {
  private readonly machine: Machine;
  private output = '';
  private awaited: string | RegExp = PROMPT;

  constructor(kernel: Uint8Array, initrd: Uint8Array) {
    const engine = new Engine(new Pool());
    const boot = { kind: 'linux', kernel, initrd, append: DEFAULT_APPEND } as const;
    this.machine = new Machine(
      engine,
      { boot, memory: MEMORY_MIB << 20, harts: 1, seed: 1n },
      {
        terminal: (bytes) => {
          this.output += Buffer.from(bytes).toString('latin1');
          if (this.output.search(this.awaited) >= 0) this.machine.interrupt();
        },
      },
    );
    this.machine.input({ kind: 'skip-idle', on: true });
    this.until(PROMPT);
  }

  /** Runs until the pattern has appeared, to the end of that slice. What follows it stays for the next call. */
  private until(pattern: string | RegExp): string {
    this.awaited = pattern;
    for (;;) {
      const found = this.output.match(pattern);
      if (found) {
        this.output = this.output.slice(found.index! + found[0].length);
        return found[1] ?? '';
      }
      const { reason } = this.machine.run(50_000_000);
      if (reason === 'idle' || reason === 'exit') throw new Error(`the guest ended (${reason}): ${this.output}`);
    }
  }

  run(kernel: string, repetitions: number): Sample & { instructions: number } {
    const { machine } = this;
    machine.input({ kind: 'port', port: 0, bytes: Buffer.from(`integer ${kernel} ${repetitions}\n`) });
    this.until(`<${kernel}>`);
    const instructions = machine.instructions(0);
    const cpu = process.cpuUsage();
    const start = performance.now();
    const value = this.until(endOf(kernel));
    const wallSeconds = (performance.now() - start) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const counted = Number(machine.instructions(0) - instructions);
    this.until(PROMPT);
    return { wallSeconds, cpuSeconds: (user + system) / 1e6, value, instructions: counted };
  }
}

class QemuGuest implements AsyncDisposable {
  private readonly child: Watched;

  constructor(qemu: string, kernel: string, initrd: string) {
    this.child = new Watched(
      qemu,
      qemuArguments({ kernel, initrd, append: DEFAULT_APPEND, harts: 1, memory: MEMORY_MIB }),
    );
  }

  async boot(): Promise<void> {
    await this.child.until(PROMPT);
  }

  async run(kernel: string, repetitions: number): Promise<Sample> {
    const { child } = this;
    child.send(`integer ${kernel} ${repetitions}\n`);
    const start = await child.until(`<${kernel}>`);
    const { cpuSeconds } = child.usage();
    const end = await child.until(endOf(kernel));
    const cpu = child.usage().cpuSeconds - cpuSeconds;
    await child.until(PROMPT);
    const value = [...child.output.matchAll(new RegExp(endOf(kernel), 'g'))].at(-1)![1]!;
    return { wallSeconds: end - start, cpuSeconds: cpu, value };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child.kill();
  }
}

async function main(): Promise<void> {
  using scratch = new Scratch();
  const report = new Report('interpreter');
  const program = compileProgram('integer', scratch);
  if (!program) throw new Error('This benchmark compiles its program: apt-get install gcc-riscv64-linux-gnu');
  const kernelImage = readKernel();
  const initramfs = readInitramfs({ integer: program });
  const qemu = findQemu();

  const braid = new BraidGuest(kernelImage, initramfs);
  await using peer = qemu
    ? new QemuGuest(qemu, scratch.write('Image', kernelImage), scratch.write('initramfs', initramfs))
    : undefined;
  await peer?.boot();

  // By competitor and run: the geometric mean over the kernels comes from these.
  const wall: Record<string, number[][]> = {};
  const cpu: Record<string, number[][]> = {};
  for (const [kernel, full] of Object.entries(KERNELS)) {
    const repetitions = quick ? Math.ceil(full / 5) : full;
    let instructions = 0;
    const values = new Set<string>();
    const runs: Record<string, Sample[]> = { braid: [], qemu: [] };
    const results = await alternate(REPS, {
      braid: () => {
        const sample = braid.run(kernel, repetitions);
        instructions = sample.instructions;
        values.add(sample.value);
        runs.braid!.push(sample);
        return instructions / 1e6 / sample.wallSeconds;
      },
      qemu:
        peer &&
        (async () => {
          const sample = await peer.run(kernel, repetitions);
          values.add(sample.value);
          runs.qemu!.push(sample);
          return sample.wallSeconds;
        }),
    });
    if (values.size !== 1) throw new Error(`${kernel}: results differ: ${[...values].join(', ')}`);
    const mips = (seconds: number) => instructions / 1e6 / seconds;
    if (results.qemu) results.qemu = summarize(results.qemu.samples.map(mips));
    report.add({ name: kernel, unit: 'MIPS', better: 'higher', results, group: 'integer mix' });
    for (const [competitor, samples] of Object.entries(runs)) {
      if (samples.length === 0) continue;
      (wall[competitor] ??= []).push(samples.map((sample) => mips(sample.wallSeconds)));
      (cpu[competitor] ??= []).push(samples.map((sample) => mips(Math.max(sample.cpuSeconds, 0.01))));
    }
  }
  const mean = (kernels: number[][]) =>
    summarize(kernels[0]!.map((_, rep) => geometricMean(kernels.map((samples) => samples[rep]!))));
  const means = (all: Record<string, number[][]>) =>
    Object.fromEntries(Object.entries(all).map(([name, kernels]) => [name, mean(kernels)])) as Results;
  report.add({ name: 'mix (geometric mean)', unit: 'MIPS', better: 'higher', results: means(wall), must: MUST_MIPS });
  report.add({ name: 'mix, of CPU time', unit: 'MIPS', better: 'higher', results: means(cpu) });
  report.print();
}

await main();

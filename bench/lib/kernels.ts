// The kernels of bench/programs on their competitors: Braid, QEMU, and the host itself.
//
// A guest boots once and stays at its prompt. A kernel is a command there, `PROGRAM KERNEL REPETITIONS`, that prints a marker
// before its work and one after it, with what it computed; the time between the markers is the host's.

import { Engine, Machine, Pool } from '../../packages/core/src/index.ts';
import { alternate, attempt, findQemu, type Results, Watched } from '../harness.ts';
import {
  compileNative,
  compileProgram,
  DEFAULT_APPEND,
  PROMPT,
  qemuArguments,
  readInitramfs,
  readKernel,
  type Scratch,
} from './guest.ts';

const MEMORY_MIB = 256;

/** What QEMU is asked for beside the machine: its deterministic mode, or whether harts have threads of their own. */
const MODES = {
  plain: [],
  icount: ['-icount', 'shift=0,sleep=off'],
  single: ['-accel', 'tcg,thread=single'],
  multi: ['-accel', 'tcg,thread=multi'],
} as const;

export interface Kernel {
  readonly program: string;
  readonly name: string;
  readonly repetitions: number;
  /** How many do the repetitions at the same time, for programs that ask. */
  readonly workers?: number;
}

interface GuestOptions {
  /** 1 when left out. */
  readonly harts?: number;
  /** More files for /bin. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
}

/** What one run of a kernel took. */
export interface Sample {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
  /** What the program computed. */
  readonly value: string;
  /** That the harts retired; only Braid tells. */
  readonly instructions?: number;
}

export interface Competitor {
  run(kernel: Kernel): Sample | Promise<Sample>;
}

export type Competitors = { readonly braid: Competitor } & Readonly<Record<string, Competitor | undefined>>;

const startOf = ({ name }: Kernel) => `<${name}>`;
const endOf = ({ name }: Kernel) => new RegExp(`</${name} ([0-9a-f]{16})>`);
const commandOf = ({ program, name, repetitions, workers }: Kernel) =>
  `${program} ${name} ${repetitions}${workers === undefined ? '' : ` ${workers}`}\n`;

/** The default guest with these programs, for each competitor to boot. */
export class KernelGuest {
  private readonly scratch: Scratch;
  private readonly kernel: Uint8Array;
  private readonly initramfs: Uint8Array;
  private readonly harts: number;

  constructor(programs: readonly string[], scratch: Scratch, { harts = 1, files = {} }: GuestOptions = {}) {
    const compiled = programs.map((name) => {
      const program = compileProgram(name, scratch);
      if (!program) throw new Error('This benchmark compiles its programs: apt-get install gcc-riscv64-linux-gnu');
      return [name, program] as const;
    });
    this.scratch = scratch;
    this.kernel = readKernel();
    this.initramfs = readInitramfs({ ...Object.fromEntries(compiled), ...files });
    this.harts = harts;
  }

  bootBraid(engine: Engine = new Engine(new Pool())): Competitor {
    return new BraidGuest(engine, this.kernel, this.initramfs, this.harts);
  }

  /** Undefined where there is no QEMU, or it does not come up. */
  async bootQemu(mode: keyof typeof MODES = 'plain'): Promise<QemuGuest | undefined> {
    const qemu = findQemu();
    if (!qemu) return undefined;
    const kernel = this.scratch.write('Image', this.kernel);
    const initrd = this.scratch.write('initramfs', this.initramfs);
    const args = qemuArguments({ kernel, initrd, append: DEFAULT_APPEND, harts: this.harts, memory: MEMORY_MIB });
    const guest = new QemuGuest(qemu, [...args, ...MODES[mode]], mode === 'icount');
    const booted = await attempt('qemu', async () => {
      await guest.boot();
      return guest;
    });
    if (!booted) await guest[Symbol.asyncDispose]();
    return booted;
  }
}

/** Braid's machine, run in this thread. */
class BraidGuest implements Competitor {
  private readonly machine: Machine;
  private readonly harts: number;
  private output = '';
  private awaited: string | RegExp = PROMPT;

  constructor(engine: Engine, kernel: Uint8Array, initrd: Uint8Array, harts: number) {
    const boot = { kind: 'linux', kernel, initrd, append: DEFAULT_APPEND } as const;
    this.harts = harts;
    this.machine = new Machine(
      engine,
      { boot, memory: MEMORY_MIB << 20, harts, seed: 1n },
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

  private instructions(): bigint {
    let sum = 0n;
    for (let hart = 0; hart < this.harts; hart++) sum += this.machine.instructions(hart);
    return sum;
  }

  run(kernel: Kernel): Sample {
    const { machine } = this;
    machine.input({ kind: 'port', port: 0, bytes: Buffer.from(commandOf(kernel)) });
    this.until(startOf(kernel));
    const before = this.instructions();
    const cpu = process.cpuUsage();
    const start = performance.now();
    const value = this.until(endOf(kernel));
    const wallSeconds = (performance.now() - start) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const instructions = Number(this.instructions() - before);
    this.until(PROMPT);
    return { wallSeconds, cpuSeconds: (user + system) / 1e6, value, instructions };
  }
}

class QemuGuest implements Competitor, AsyncDisposable {
  private readonly child: Watched;
  private readonly pauses: boolean;

  /** `pauses`: stop it between runs. With icount's sleep=off an idle machine races through its time, on a whole core. */
  constructor(qemu: string, args: readonly string[], pauses: boolean) {
    this.child = new Watched(qemu, args);
    this.pauses = pauses;
  }

  async boot(): Promise<void> {
    await this.child.until(PROMPT);
    if (this.pauses) this.child.pause();
  }

  async run(kernel: Kernel): Promise<Sample> {
    const { child } = this;
    if (this.pauses) child.resume();
    child.send(commandOf(kernel));
    const sample = await watchKernel(child, kernel);
    await child.until(PROMPT);
    if (this.pauses) child.pause();
    return sample;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child.kill();
  }
}

/** The same sources compiled for the host, a process for each run. Undefined where there is no compiler. */
export function nativePrograms(programs: readonly string[], scratch: Scratch): Competitor | undefined {
  const compiled = new Map<string, string>();
  for (const name of programs) {
    const path = compileNative(name, scratch);
    if (!path) return undefined;
    compiled.set(name, path);
  }
  return {
    run: async (kernel) => {
      await using child = new Watched(compiled.get(kernel.program)!, [kernel.name, `${kernel.repetitions}`]);
      return await watchKernel(child, kernel);
    },
  };
}

async function watchKernel(child: Watched, kernel: Kernel): Promise<Sample> {
  const start = await child.until(startOf(kernel), 120);
  const { cpuSeconds } = child.usage();
  const end = await child.until(endOf(kernel), 600);
  const value = [...child.output.matchAll(new RegExp(endOf(kernel), 'g'))].at(-1)![1]!;
  return { wallSeconds: end - start, cpuSeconds: child.usage().cpuSeconds - cpuSeconds, value };
}

/** Runs a kernel on each by turns. The results are seconds. All must have computed the same. */
export async function compareKernel(
  kernel: Kernel,
  competitors: Competitors,
  reps: number,
): Promise<{ results: Results; samples: Record<string, Sample[]> }> {
  const samples: Record<string, Sample[]> = {};
  const measures = Object.entries(competitors).map(([name, competitor]) => [
    name,
    competitor &&
      (async () => {
        const sample = await competitor.run(kernel);
        (samples[name] ??= []).push(sample);
        return sample.wallSeconds;
      }),
  ]);
  const results = await alternate(reps, Object.fromEntries(measures));
  checkValues(kernel, samples);
  return { results, samples };
}

function checkValues({ name }: Kernel, samples: Readonly<Record<string, readonly Sample[]>>): void {
  const values = Object.entries(samples).map(
    ([who, runs]) => [who, [...new Set(runs.map(({ value }) => value))]] as const,
  );
  if (new Set(values.flatMap(([, found]) => found)).size === 1) return;
  throw new Error(`${name}: results differ: ${values.map(([who, found]) => `${who} ${found.join(', ')}`).join('; ')}`);
}

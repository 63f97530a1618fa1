// `npm run bench -- fork`: what it costs to fork a running machine, to come back to a fork point, and to run what was forked.
//
// The first rows run on one engine in this thread, so that they time the fork and nothing else; the last ones are the library's,
// with a thread for each of two cores. Guests are the default one, booted, with bench/programs/fork.c. docs/benchmarks.md says how
// each figure is taken. --quick takes fewer samples and leaves out the largest machine.

import {
  becomeForkPoint,
  Machine as CoreMachine,
  Pool as CorePool,
  Engine,
  type ForkPoint,
  forkPoint,
  freeForkPoint,
  machineFrom,
} from '../packages/core/src/index.ts';
import { BraidError, Machine, Pool } from '../packages/node/src/index.ts';
import { median, quick, Report } from './harness.ts';
import { compileProgram, DEFAULT_APPEND, readInitramfs, readKernel, Scratch } from './lib/guest.ts';

const MIB = 2 ** 20;
const KIB = 1024;
const SLICE_MS = 100;
/** Steps of one run: some tens of microseconds, so that times of 100 ms are met well. */
const PIECE = 50_000;

interface Guest {
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
}

/** A core machine at its prompt, with ways to have commands run. */
class Subject {
  readonly machine: CoreMachine;
  private output = '';

  constructor(engine: Engine, { kernel, initrd }: Guest, memory: number) {
    const boot = { kind: 'linux', kernel, initrd, append: DEFAULT_APPEND.replace('hvc0', 'ttyS0') } as const;
    const options = { boot, memory: memory * MIB, harts: 1, seed: 1n, hints: { mark: 1_000_000 } };
    this.machine = new CoreMachine(engine, options, {
      console: (bytes) => {
        this.output += Buffer.from(bytes).toString('latin1');
      },
    });
    this.machine.input({ kind: 'skip-idle', on: true });
    this.until('# ');
  }

  until(text: string): void {
    while (!this.output.includes(text)) this.machine.run(200_000);
    this.output = '';
  }

  command(line: string, until: string): void {
    this.machine.input({ kind: 'console', bytes: new TextEncoder().encode(`${line}\n`) });
    this.until(until);
  }

  /** Has the guest write to most of its memory. */
  touch(memory: number): void {
    const count = Math.floor(memory * 0.75);
    this.command(
      `mount -t tmpfs -o size=90% none /mnt && dd if=/dev/zero of=/mnt/full bs=1M count=${count}; echo filled-$?`,
      'filled-0',
    );
  }

  /** Runs for so many milliseconds; steps made. */
  runFor(ms: number): number {
    const { machine } = this;
    const before = machine.totalSteps;
    const end = performance.now() + ms;
    while (performance.now() < end) machine.run(PIECE);
    return Number(machine.totalSteps - before);
  }
}

/** How long a parent stands still: the fork itself, and handing what it gives to another thread. */
function pauses(subject: Subject, samples: number): number[] {
  const { machine } = subject;
  const { pool } = machine.engine;
  const { port1, port2 } = new MessageChannel();
  const taken: number[] = [];
  for (let n = 0; n < samples; n++) {
    subject.runFor(2);
    const from = performance.now();
    const point = forkPoint(machine);
    port1.postMessage(point);
    taken.push(performance.now() - from);
    freeForkPoint(pool, point);
  }
  port1.close();
  port2.close();
  return taken;
}

const percentile = (values: readonly number[], part: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))]!;

function benchPause(report: Report, guest: Guest): void {
  const samples = quick ? 60 : 300;
  for (const memory of quick ? [128, 512] : [128, 512, 1024]) {
    const subject = new Subject(new Engine(new CorePool()), guest, memory);
    subject.touch(memory);
    subject.command('fork spin &', '<spin>');
    const rounds = [0, 1, 2].map(() => pauses(subject, samples));
    const name = `pause of the parent, ${memory} MiB`;
    const p50 = rounds.map((round) => percentile(round, 0.5));
    const p99 = rounds.map((round) => percentile(round, 0.99));
    report.add({ name: `${name}, p50`, unit: 'ms', better: 'lower', results: p50, must: 1 });
    report.add({ name: `${name}, p99`, unit: 'ms', better: 'lower', results: p99, must: 5 });
  }
}

/** How much longer a program takes that writes all over its memory, in the 100 ms after a fork. */
function benchSlowdown(report: Report, guest: Guest, mib: number, must?: number): void {
  const subject = new Subject(new Engine(new CorePool()), guest, 256);
  const { machine } = subject;
  subject.command(`fork write ${mib} &`, '<write>');
  subject.runFor(1000);
  const slower: number[] = [];
  for (let n = 0; n < (quick ? 5 : 15); n++) {
    const before = subject.runFor(SLICE_MS);
    const point = forkPoint(machine);
    const after = subject.runFor(SLICE_MS);
    freeForkPoint(machine.engine.pool, point);
    subject.runFor(SLICE_MS);
    slower.push(before / after);
  }
  const bound = must === undefined ? {} : { must };
  report.add({ name: `slowdown after it, writing ${mib} MiB`, unit: 'x', better: 'lower', results: slower, ...bound });
}

/** A function tried with one input after the other. */
function benchReset(report: Report, guest: Guest): void {
  const subject = new Subject(new Engine(new CorePool()), guest, 128);
  const { machine } = subject;
  const toMark = (): string => {
    for (;;) {
      const stop = machine.run(1_000_000);
      if (stop.reason === 'hint' && stop.hint.kind === 'mark') return stop.hint.name;
    }
  };
  machine.input({ kind: 'console', bytes: new TextEncoder().encode('fork target\n') });
  const address = BigInt(`0x${toMark()}`);
  const place = Number(machine.physical(0, address)!);
  const point: ForkPoint = forkPoint(machine);
  const resets: number[] = [];
  const rates: number[] = [];
  const text = new Uint8Array(64);
  for (let round = 0; round < (quick ? 5 : 15); round++) {
    const times: number[] = [];
    const count = 500;
    const from = performance.now();
    for (let n = 0; n < count; n++) {
      for (let i = 0; i < text.length; i++) text[i] = 48 + ((n * 7 + i * round) % 64);
      machine.ram.write(place, text);
      toMark();
      const start = performance.now();
      becomeForkPoint(machine, point);
      times.push((performance.now() - start) * 1000);
    }
    rates.push((1000 * count) / (performance.now() - from));
    resets.push(median(times));
  }
  machine.ram.write(place, text);
  toMark();
  const dirty = [...machine.ram.changed(point.ram)].length;
  report.add({ name: `reset after ${dirty} dirty frames`, unit: 'us', better: 'lower', results: resets, must: 200 });
  report.add({ name: 'fork, run, reset: a small function', unit: '/s', better: 'higher', results: rates, must: 2000 });
}

/** What a child is before it has run. */
function benchChildren(report: Report, guest: Guest): void {
  const subject = new Subject(new Engine(new CorePool()), guest, 128);
  const { machine } = subject;
  const { pool } = machine.engine;
  const sizes: number[] = [];
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    const before = pool.used * 4 * KIB + process.memoryUsage().heapUsed;
    const from = performance.now();
    const children = Array.from({ length: 100 }, () => machineFrom(machine.engine, forkPoint(machine)));
    times.push(performance.now() - from);
    sizes.push((pool.used * 4 * KIB + process.memoryUsage().heapUsed - before) / 100 / KIB);
    for (const child of children) child.free();
  }
  report.add({ name: '100 children: to make them', unit: 'ms', better: 'lower', results: times });
  report.add({ name: '  memory of each, before it runs', unit: 'KiB', better: 'lower', results: sizes, must: 1024 });
}

async function childOf(machine: Machine): Promise<Machine> {
  const [child] = await machine.fork(1);
  if (!child || child instanceof BraidError) throw child ?? new Error('no child');
  return child;
}

/** The library's machines, on two threads. */
async function benchThreads(report: Report, guest: Guest): Promise<void> {
  await using pool = new Pool({ threads: 2 });
  const options = { memory: '128M', seed: 1, pool, kernel: guest.kernel, initrd: guest.initrd } as const;
  const machine = await Machine.create({ ...options, append: DEFAULT_APPEND.replace('hvc0', 'ttyS0') });
  await machine.boot();
  void machine.exec(['fork', 'spin']).catch(() => {}); // ends with the machine
  await machine.step(400_000_000n);
  await machine.pause();
  await machine.prepareForks();
  const reps = quick ? 5 : 15;
  const seconds = async (work: () => Promise<unknown>) => {
    const from = performance.now();
    await work();
    return (performance.now() - from) / 1000;
  };

  // What waking a thread, and this one again, takes of each of the next row's three calls.
  const trips: number[] = [];
  for (let n = 0; n < 20 * reps; n++) trips.push(1e6 * (await seconds(() => machine.stats())));
  report.add({
    name: 'a call to a machine that stands still, and its answer',
    unit: 'us',
    better: 'lower',
    results: trips,
  });

  const starts: number[] = [];
  await machine.run();
  for (let n = 0; n < reps; n++) {
    let child: Machine | undefined;
    starts.push(
      1000 *
        (await seconds(async () => {
          child = await childOf(machine);
          await child.step(1n);
        })),
    );
    await child!.dispose();
  }
  await machine.pause();
  report.add({ name: 'fork to first instruction of the child', unit: 'ms', better: 'lower', results: starts, must: 5 });

  // The parent's speed, and what a child makes of as many steps, the first that it runs.
  const steps = BigInt(Math.round(10 / ((1000 * (await seconds(() => machine.step(20_000_000n)))) / 20_000_000)));
  const warm: number[] = [];
  const both: number[] = [];
  for (let n = 0; n < reps; n++) {
    const children = [await childOf(machine), await childOf(machine)] as const;
    const parent = await seconds(() => machine.step(steps));
    await machine.pause(); // its program would go on
    warm.push(parent / (await seconds(() => children[0].step(steps))));
    const many = steps * 40n;
    await children[1].step(steps);
    const alone = await seconds(() => children[1].step(many));
    const together = await seconds(() => Promise.all(children.map((child) => child.step(many))));
    both.push((2 * alone) / together);
    for (const child of children) await child.dispose();
  }
  report.add({ name: "a child's first 10 ms, parent = 1", unit: 'x', better: 'higher', results: warm, must: 0.8 });
  report.add({ name: 'two children on two cores, one = 1', unit: 'x', better: 'higher', results: both, must: 1.8 });
  await machine.dispose();
}

using scratch = new Scratch();
const program = compileProgram('fork', scratch);
if (!program) throw new Error('This benchmark compiles its program: apt-get install gcc-riscv64-linux-gnu');
const guest: Guest = { kernel: readKernel(), initrd: readInitramfs({ fork: program }) };
using report = new Report('fork');
benchPause(report, guest);
benchSlowdown(report, guest, 32, 1.3);
benchSlowdown(report, guest, 128);
benchReset(report, guest);
benchChildren(report, guest);
await benchThreads(report, guest);
report.print();

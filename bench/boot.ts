// `npm run bench -- boot`: what it costs to start a machine and to have one.
//
// Start to prompt, memory and idle CPU of the default guest; Debian to its login prompt; the disk; and save, restore and hash
// of a machine whose RAM is full. Processes are watched from outside: `braid run` as a user starts it, and QEMU with the same
// kernel, root file system, command line, harts, memory and devices. docs/benchmarks.md says how each figure is taken.
//
// Arguments name the sections to run: start, idle, debian, disk, state. Without any it is all; with --quick all but debian.

import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, openSync, writeSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Engine, Machine, Pool, restoreMachine, saveMachine, stateHash } from '../packages/core/src/index.ts';
import { alternate, attempt, findQemu, quick, Report, summarizeAll, Watched } from './harness.ts';
import {
  compileProgram,
  DEFAULT_APPEND,
  type Guest,
  PROMPT,
  qemuArguments,
  ROOT,
  readInitramfs,
  readKernel,
  Scratch,
} from './lib/guest.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const BRAID = join(ROOT, 'packages', 'node', 'bin', 'braid.mjs');
const DEBIAN_IMAGE = process.env.BRAID_DEBIAN_IMAGE ?? join(tmpdir(), 'braid-assets', 'debian.img');
const LOGIN = 'login: ';
/** What the kernel counts a process's time in. */
const TICK_SECONDS = 0.01;

/** What a benchmark needs of its surroundings. */
interface Context {
  readonly report: Report;
  readonly scratch: Scratch;
  readonly qemu: string | undefined;
  readonly kernel: Uint8Array;
  /** The default guest for QEMU, with one hart. */
  readonly guest: Guest;
}

/** `braid run` with real time, as on a terminal, by the Node that runs this: `npm run bench` takes the pinned one. */
const startBraid = (...args: string[]) => new Watched(process.execPath, [BRAID, 'run', '--time', 'wall', ...args]);

async function benchPrompt({ report, qemu, guest }: Context, harts: number, must: number): Promise<void> {
  const cpu: Record<string, number[]> = { braid: [], qemu: [] };
  const measure = async (competitor: string, start: () => Watched) => {
    await using child = start();
    const seconds = await child.until(PROMPT);
    cpu[competitor]!.push(child.usage().cpuSeconds);
    return seconds;
  };
  const results = await alternate(quick ? 3 : 7, {
    braid: () => measure('braid', () => startBraid('--harts', `${harts}`)),
    qemu: qemu ? () => measure('qemu', () => new Watched(qemu, qemuArguments({ ...guest, harts }))) : undefined,
  });
  const name = `start to prompt, ${harts} ${harts === 1 ? 'hart' : 'harts'}`;
  report.add({ name, unit: 's', better: 'lower', results, group: 'boot', must });
  report.add({ name: `  its CPU time`, unit: 's', better: 'lower', results: summarizeAll(cpu) });
}

/** The default guest standing at its prompt: memory, then CPU time while nobody types. */
async function benchIdle({ report, qemu, guest }: Context): Promise<void> {
  const seconds = quick ? 3 : 10;
  const memory: Record<string, number[]> = { braid: [], qemu: [] };
  const measure = async (competitor: string, start: () => Watched) => {
    await using child = start();
    await child.until(PROMPT);
    await sleep(1500); // the last things that started with it
    const { cpuSeconds, rssBytes } = child.usage();
    memory[competitor]!.push(rssBytes / MIB);
    await sleep(seconds * 1000);
    const spent = Math.max(child.usage().cpuSeconds - cpuSeconds, TICK_SECONDS / 2);
    return (100 * spent) / seconds;
  };
  const results = await alternate(3, {
    braid: () => measure('braid', () => startBraid()),
    qemu: qemu ? () => measure('qemu', () => new Watched(qemu, qemuArguments(guest))) : undefined,
  });
  const memories = summarizeAll(memory);
  report.add({ name: 'resident memory, 256 MiB guest', unit: 'MiB', better: 'lower', results: memories, must: 180 });
  report.add({ name: 'idle at the prompt, of a core', unit: '%', better: 'lower', results, must: 1 });
}

async function benchDebian({ report, scratch, qemu, guest }: Context): Promise<void> {
  if (!existsSync(DEBIAN_IMAGE)) {
    process.stderr.write(
      `No Debian row: there is no ${DEBIAN_IMAGE}.\n` +
        'Build it with "guest/debian/build.sh --complete FILE", and name it in BRAID_DEBIAN_IMAGE.\n',
    );
    return;
  }
  const disk = join(scratch.folder, 'debian.img');
  const append = 'console=ttyS0 quiet root=/dev/vda rw';
  const memory = 1024;
  const measure = async (start: () => Watched) => {
    // Each boot finds the disk as it was made.
    const { status, stderr } = spawnSync('cp', ['--sparse=always', DEBIAN_IMAGE, disk], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`cannot copy ${DEBIAN_IMAGE}: ${stderr}`);
    await using child = start();
    return await child.until(LOGIN, 300);
  };
  const { kernel, initrd } = guest;
  const braid = ['--kernel', kernel, '--initrd', initrd, '--append', append, '--memory', `${memory}M`, '--disk', disk];
  const results = await alternate(3, {
    braid: () => measure(() => startBraid(...braid)),
    qemu: qemu ? () => measure(() => new Watched(qemu, qemuArguments({ ...guest, append, memory, disk }))) : undefined,
  });
  report.add({ name: 'Debian 13 to login prompt', unit: 's', better: 'lower', results, group: 'boot', must: 25 });
}

/** virtio-blk, past the guest's page cache; the host has the whole file in memory. */
async function benchDisk({ report, scratch, qemu, guest }: Context): Promise<void> {
  const program = compileProgram('disk', scratch);
  if (!program) {
    process.stderr.write('No disk rows: their program needs a compiler, apt-get install gcc-riscv64-linux-gnu.\n');
    return;
  }
  const initrd = scratch.write('disk-initramfs', readInitramfs({ disk: program }));
  const mib = quick ? 64 : 256;
  const disks = Object.fromEntries(
    ['braid', 'qemu'].map((name) => {
      const path = join(scratch.folder, `${name}.img`);
      const file = openSync(path, 'w');
      const block = randomBytes(MIB);
      for (let i = 0; i < mib; i++) {
        block[0] = i;
        writeSync(file, block);
      }
      closeSync(file);
      return [name, path];
    }),
  ) as { braid: string; qemu: string };
  await using braid = startBraid('--initrd', initrd, '--disk', disks.braid);
  await using started = qemu ? new Watched(qemu, qemuArguments({ ...guest, initrd, disk: disks.qemu })) : undefined;
  const booted = started && attempt('qemu', () => started.until(PROMPT));
  await braid.until(PROMPT);
  const peer = (await booted) === undefined ? undefined : started;

  const rate = async (child: Watched, mode: string, amount: number) => {
    child.send(`disk /dev/vda ${mode} ${amount}\n`);
    const start = await child.until(`<${mode}>`);
    const end = await child.until(`</${mode} `);
    await child.until(PROMPT);
    return amount / (end - start);
  };
  const row = async (name: string, unit: string, mode: string, amount: number, scale = 1) => {
    const results = await alternate(quick ? 3 : 5, {
      braid: async () => scale * (await rate(braid, mode, amount)),
      qemu: peer && (async () => scale * (await rate(peer, mode, amount))),
    });
    report.add({ name, unit, better: 'higher', results, group: 'disk' });
  };
  await row('virtio-blk sequential read', 'MB/s', 'read', mib, MIB / 1e6);
  await row('virtio-blk sequential write', 'MB/s', 'write', mib, MIB / 1e6);
  await row('virtio-blk random reads, 4 KiB', 'IOPS', 'random', quick ? 2000 : 20_000);
}

/** A machine in this thread, booted, whose guest has then filled most of its RAM with noise. */
function fullMachine(kernel: Uint8Array, memory: number): Machine {
  let output = '';
  const machine = new Machine(
    new Engine(new Pool()),
    {
      boot: { kind: 'linux', kernel, initrd: readInitramfs(), append: DEFAULT_APPEND },
      memory: memory * MIB,
      harts: 1,
      seed: 1n,
    },
    {
      terminal: (bytes) => {
        output += Buffer.from(bytes).toString('latin1');
        if (output.includes(PROMPT)) machine.interrupt();
      },
    },
  );
  const prompt = () => {
    while (!output.includes(PROMPT)) {
      const { reason } = machine.run(50_000_000);
      if (reason === 'idle' || reason === 'exit') throw new Error(`the guest ended (${reason}): ${output}`);
    }
    output = '';
  };
  machine.input({ kind: 'skip-idle', on: true });
  prompt();
  const copies = Math.floor(memory * 0.84) - 32;
  const fill =
    'mount -o remount,size=95% /tmp; head -c 1048576 /dev/urandom >/tmp/noise; i=0; ' +
    `while [ $i -lt ${copies} ]; do cat /tmp/noise; i=$((i+1)); done >/tmp/full; echo "=$?="\n`;
  machine.input({ kind: 'port', port: 0, bytes: Buffer.from(fill) });
  prompt();
  return machine;
}

function milliseconds<T>(work: () => T): [number, T] {
  const start = performance.now();
  const value = work();
  return [performance.now() - start, value];
}

/** The core's own functions, no worker between. The machine is restored into frames that earlier runs have given back. */
function benchState({ report, kernel }: Context, memory: number): void {
  const size = memory >= 1024 ? `${memory / 1024} GiB` : `${memory} MiB`;
  const machine = fullMachine(kernel, memory);
  const { engine, ram } = machine;
  const samples = { saved: [] as number[], restored: [] as number[], hashed: [] as number[], again: [] as number[] };
  let used = 0;
  for (let rep = 0; rep < 3; rep++) {
    const [saveTime, state] = milliseconds(() => saveMachine(machine));
    const [restoreTime, copy] = milliseconds(() => restoreMachine(engine, state));
    const [hashTime, hash] = milliseconds(() => stateHash(copy));
    const [againTime] = milliseconds(() => stateHash(copy));
    if (hash !== stateHash(machine)) throw new Error('a restored machine has another hash');
    copy.free();
    used = state.ram.reduce((sum, piece) => sum + piece.pages.length, 0) / ram.pages;
    samples.saved.push(saveTime);
    samples.restored.push(restoreTime);
    samples.hashed.push(hashTime);
    samples.again.push(againTime);
  }
  machine.free();
  const row = (name: string, results: number[]) =>
    report.add({ name: `${name}, ${size}`, unit: 'ms', better: 'lower', results });
  row('save', samples.saved);
  row('restore', samples.restored);
  row('hash', samples.hashed);
  row('hash again, unchanged', samples.again);
  report.add({ name: `RAM not zero, ${size}`, unit: '%', better: 'higher', results: [100 * used] });
}

async function main(): Promise<void> {
  using scratch = new Scratch();
  const kernel = readKernel();
  const guest: Guest = {
    kernel: scratch.write('Image', kernel),
    initrd: scratch.write('initramfs', readInitramfs()),
    append: DEFAULT_APPEND,
    harts: 1,
    memory: 256,
  };
  using report = new Report('boot');
  const context: Context = { report, scratch, qemu: findQemu(), kernel, guest };
  const sections: Record<string, () => Promise<void> | void> = {
    start: async () => {
      await benchPrompt(context, 1, 1.2);
      await benchPrompt(context, 4, 2);
    },
    idle: () => benchIdle(context),
    debian: () => benchDebian(context),
    disk: () => benchDisk(context),
    state: () => {
      benchState(context, 256);
      if (totalmem() >= 6 * GIB) benchState(context, 1024);
      else
        process.stderr.write(
          'No rows for 1 GiB of RAM: up to three times as much is in use, and this host has less.\n',
        );
    },
  };
  const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
  const unknown = named.find((name) => !(name in sections));
  if (unknown) throw new Error(`There is no section "${unknown}": they are ${Object.keys(sections).join(', ')}.`);
  for (const [name, run] of Object.entries(sections)) {
    if (named.length > 0 ? named.includes(name) : !(quick && name === 'debian')) await run();
  }
  report.print();
}

await main();

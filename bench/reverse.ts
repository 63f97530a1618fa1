// `npm run bench -- reverse`: how fast one gets to the past of a long recording.
//
// bench/programs/reverse.c runs for 100 G instructions and dirties 26 MB in each; the recording is then opened, stepped backwards at its
// end and at random moments, and asked who wrote a word 10 G instructions ago, in a page that is written all the time. Beside it, a shorter
// run of the same program in QEMU with `-icount rr=`, and natively under rr where that runs. docs/benchmarks.md says how each figure is
// taken. --quick records 4 G instructions and looks 1 G back; `--instructions N` gives another number of G.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Machine, Pool, type Program, Replay } from '../packages/node/src/index.ts';
import { attempt, quick, Report, summarizeAll, Watched } from './harness.ts';
import { compileNative, compileProgram, readInitramfs, readKernel, Scratch } from './lib/guest.ts';
import { numbers } from './lib/paired.ts';
import { QemuRecorder } from './lib/qemu-record.ts';
import { replayTimes, Subject } from './lib/recorded.ts';
import { findRr, type Rr } from './lib/rr.ts';
import { percentile } from './real/keystroke.ts';

const G = 1_000_000_000;
const named = process.argv.indexOf('--instructions');
const LENGTH = named < 0 ? (quick ? 4 : 100) : Number(process.argv[named + 1]);
if (!(LENGTH >= 2)) throw new Error('--instructions takes a number of G instructions, at least 2');
const BACK = Math.min(10, Math.floor(LENGTH / 2), quick ? 1 : 10);
/** Whoever wants to go backwards in a second has keyframes taken as often: by default they are as rare as it takes to cost little. */
const KEYFRAME_MS = 500;
const PLACES = quick ? 5 : 20;
const WARM_STEPS = 20;
const REPS = 3;
/** Of the program, when others run it too. */
const ROUNDS = quick ? 16 : 64;
/** Addresses of programs are below. */
const KERNEL = 1n << 62n;
const BYTES_A_WORD = 16 * 400 * 4096;

/** What the program has said so far. */
interface Said {
  /** Where its words are. */
  address: bigint;
  /** How many it has begun to write. */
  words: number;
}

/** Follows what a program prints. */
function listen(program: Program): Said {
  const said: Said = { address: 0n, words: 0 };
  let text = '';
  const hear = new WritableStream<Uint8Array>({
    write: (bytes) => {
      text += Buffer.from(bytes).toString('latin1');
      said.address = BigInt(`0x${/words at ([0-9a-f]+)/.exec(text)?.[1] ?? '0'}`);
      said.words = text.match(/^word /gm)?.length ?? 0;
    },
  });
  void program.stdout.pipeTo(hear).catch(() => {});
  void program.stderr.pipeTo(new WritableStream()).catch(() => {});
  program.exited.catch(() => {}); // it never ends
  return said;
}

const seconds = async (work: () => Promise<unknown>) => {
  const from = performance.now();
  await work();
  return (performance.now() - from) / 1000;
};

interface Context {
  readonly report: Report;
  readonly scratch: Scratch;
  readonly path: string;
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
}

/** Records the long run. */
async function record({ report, path, kernel, initrd }: Context): Promise<Said> {
  await using pool = new Pool({ threads: 1 });
  await using machine = await Machine.create({ pool, memory: '256M', seed: 1, kernel, initrd });
  await machine.boot();
  const recording = await machine.record(path, { overwrite: true, keyframeMs: KEYFRAME_MS });
  const said = listen(machine.spawn(['reverse', '0']));
  const took = await seconds(() => machine.step(BigInt(LENGTH * G)));
  await sleep(100); // the last that it said
  const { bytes, keyframes } = await recording.stop();
  const megabytes = (said.words * BYTES_A_WORD) / 1e6;
  report.add({ name: `recording of ${LENGTH} G steps`, unit: 's', better: 'lower', results: [took] });
  report.add({ name: '  dirtied', unit: 'MB/s', better: 'higher', results: [megabytes / took], must: 50 });
  report.add({ name: '  file', unit: 'MiB', better: 'lower', results: [bytes / 2 ** 20] });
  report.add({ name: '  keyframes', unit: '', better: 'lower', results: [keyframes] });
  return said;
}

/** One step back: at the end of what was just opened, anywhere, and again and again. */
async function stepBack({ report, path }: Context): Promise<void> {
  const opened: number[] = [];
  for (let rep = 0; rep < REPS; rep++) {
    let replay: Replay | undefined;
    opened.push(
      await seconds(async () => {
        replay = await Replay.open(path);
        await replay.seek({ at: replay.end.at });
        await replay.reverseStep();
      }),
    );
    await replay?.dispose();
  }
  report.add({ name: 'open to first reverse-step, at the end', unit: 's', better: 'lower', results: opened, must: 3 });

  await using replay = await Replay.open(path);
  const random = numbers(3);
  const taken = { cold: [] as number[], first: [] as number[], warm: [] as number[] };
  for (let place = 0; place < PLACES; place++) {
    const at = BigInt(1 + Math.floor(random() * (Number(replay.end.at) - 1)));
    const seek = await seconds(() => replay.seek({ at }));
    const first = await seconds(() => replay.reverseStep());
    taken.first.push(first);
    taken.cold.push(seek + first);
    for (let step = 0; step < WARM_STEPS; step++) taken.warm.push(await seconds(() => replay.reverseStep()));
  }
  const row = (name: string, times: readonly number[], part: number, must?: number) => {
    const results = [1000 * percentile(times, part)];
    const bound = must === undefined ? {} : { must };
    report.add({ name: `${name}, p${100 * part}`, unit: 'ms', better: 'lower', results, ...bound });
  };
  row('seek anywhere and reverse-step', taken.cold, 0.5);
  row('seek anywhere and reverse-step', taken.cold, 0.95, 1000);
  row('  the reverse-step alone', taken.first, 0.95);
  row('reverse-step once more', taken.warm, 0.5);
  row('reverse-step once more', taken.warm, 0.95, 300);
}

/** Who wrote a word that has been there for long. */
async function lastWrite({ report, path }: Context, { address, words }: Said): Promise<void> {
  const perWord = (LENGTH * G) / words;
  const word = Math.max(0, words - 1 - Math.ceil((BACK * G) / perWord));
  const times: number[] = [];
  let distance = 0;
  for (let rep = 0; rep < REPS; rep++) {
    await using replay = await Replay.open(path);
    const from = await inProgram(replay);
    let at: bigint | undefined;
    times.push(
      await seconds(async () => {
        const found = await replay.lastWrite(address + BigInt(8 * word), { length: 8 });
        if (found.kind === 'write') at = found.hit.at;
      }),
    );
    if (at === undefined) throw new Error(`nobody is said to have written word ${word}`);
    distance = Number(from - at) / G;
  }
  const name = `who last wrote a word, ${distance.toFixed(1)} G steps back`;
  report.add({ name, unit: 's', better: 'lower', results: times, must: 8 });
}

/** Goes to the last moment, or shortly before, at which a program runs, which is ours; where that is. */
async function inProgram(replay: Replay): Promise<bigint> {
  for (let at = replay.end.at; ; at -= 100_000n) {
    await replay.seek({ at });
    if (replay.next.pc < KERNEL) return at;
    if (replay.end.at - at > 100_000_000n)
      throw new Error('the kernel has run all the time at the end of the recording');
  }
}

/** A shorter run of the program, in everything that can record it. */
async function compare({ report, scratch, path, kernel, initrd }: Context, rr: Rr): Promise<void> {
  const recorded: Record<string, number[]> = { braid: [] };
  const replayed: Record<string, number[]> = { braid: [] };
  {
    await using pool = new Pool({ threads: 1 });
    await using subject = await Subject.boot(pool, { kernel, initrd });
    await subject.plain('rounds'); // so that its code is warm
    for (let rep = 0; rep < REPS; rep++) {
      const plain = await subject.plain('rounds');
      recorded.braid!.push((await subject.recorded('rounds', path)).cpuSeconds / plain.cpuSeconds);
    }
  }
  for (let rep = 0; rep < REPS; rep++) replayed.braid!.push((await replayTimes(path)).warm.cpuSeconds);
  const peer = QemuRecorder.find(scratch, kernel, initrd);
  for (let rep = 0; peer && rep < REPS; rep++) {
    await attempt('qemu', async () => {
      const plain = await peer.run('rounds', 'plain');
      const one = await peer.run('rounds', 'record');
      (recorded.qemu ??= []).push(one.cpuSeconds / plain.cpuSeconds);
      (replayed.qemu ??= []).push((await peer.run('rounds', 'replay')).cpuSeconds);
    });
  }
  const native = compileNative('reverse', scratch);
  for (let rep = 0; native && 'record' in rr && rep < REPS; rep++) {
    await attempt('rr', async () => {
      const plain = await nativeSeconds([native]);
      (recorded.rr ??= []).push((await nativeSeconds([...rr.record(), native])) / plain);
    });
  }
  report.add({
    name: `${ROUNDS} rounds: CPU time, recorded`,
    unit: 'x',
    better: 'lower',
    results: summarizeAll(recorded),
  });
  report.add({ name: '  its replay, CPU time', unit: 's', better: 'lower', results: summarizeAll(replayed) });
}

/** CPU seconds of a native run between its markers. */
async function nativeSeconds(command: readonly string[]): Promise<number> {
  await using child = new Watched(command[0]!, [...command.slice(1), `${ROUNDS}`]);
  await child.until('<reverse>');
  const before = child.usage().cpuSeconds;
  await child.until('</reverse ', 600);
  return child.usage().cpuSeconds - before;
}

using scratch = new Scratch();
const program = compileProgram('reverse', scratch);
if (!program) throw new Error('This benchmark compiles its program: apt-get install gcc-riscv64-linux-gnu');
const rounds = Buffer.from(`#!/bin/sh\necho "<work>"\nreverse ${ROUNDS}\necho "</work>"\n`);
const rr = findRr(scratch);
using report = new Report('reverse', 'refusal' in rr ? rr.refusal : undefined);
const context: Context = {
  report,
  scratch,
  path: join(scratch.folder, 'recording'),
  kernel: readKernel(),
  initrd: readInitramfs({ reverse: program, rounds }),
};
const said = await record(context);
await stepBack(context);
await lastWrite(context, said);
await compare(context, rr);
report.print();

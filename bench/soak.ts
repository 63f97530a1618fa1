// `npm run bench -- soak`: a machine of four harts at work for an hour while it is recorded, then its replay, compared at every keyframe.
//
// Debian at compiling, archiving, sorting and reading its files again and again, paced by real time, so that corrections of the clock come
// in all the while; where there is no Debian image, the default guest at what BusyBox can do of that. --minutes N is for how long. A replay that
// differs is said with where and how, counted, and gone on with at the next keyframe.

import { existsSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BraidError, Machine, Pool, type RecordingStatistics, Replay } from '../packages/node/src/index.ts';
import { quick, Report } from './harness.ts';
import { PROMPT, Scratch } from './lib/guest.ts';
import { copyDisk } from './real/workload.ts';

const MIB = 2 ** 20;
const HARTS = 4;
const IMAGE = process.env.BRAID_BENCH_IMAGE ?? join(tmpdir(), 'braid-assets', 'debian-bench.img');
const DEBIAN_APPEND = 'console=ttyS0 quiet no4lvl root=/dev/vda rw';
/** How often something is typed. */
const TYPING_MS = 5000;

/** Each goes on for ever, all of them at once. What a system does not have it passes over. */
const LOADS: Readonly<Record<string, string>> = {
  compile:
    'n=$((n+1)); for i in $(seq 300); do echo "int f$i(int x) { return x * $n + $i; }"; done >c.c; echo "int main(void) { return f7(1) & 0; }" >>c.c; if command -v gcc >/dev/null; then gcc -O2 -o c c.c && ./c; else md5sum c.c; fi',
  files:
    'dd if=/dev/urandom of=noise bs=64k count=40; tar cf all.tar /etc noise; gzip -f all.tar; sync; gzip -t all.tar.gz; rm -f all.tar.gz noise',
  read: 'echo 3 >/proc/sys/vm/drop_caches; find /usr/bin /bin -type f | head -n 60 | xargs cksum',
  sort: 'seq 30000 | sort -r | sort -n | uniq | tail -n 1',
  processes: 'for i in $(seq 100); do /bin/true | cat | wc -c; done; date; sleep 0.2',
};

const SCRIPT = Object.entries(LOADS)
  .map(([name, work]) => `(mkdir -p /tmp/${name}; cd /tmp/${name}; n=0; while :; do ${work}; done) >/dev/null 2>&1 &`)
  .join('\n');

/** A machine that has come up; how it is given a script. */
async function start(
  scratch: Scratch,
): Promise<{ machine: Machine; name: string; run(script: string): Promise<void> }> {
  if (existsSync(IMAGE)) {
    const disk = copyDisk(IMAGE, join(scratch.folder, 'debian.img'));
    const machine = await Machine.create({
      memory: '1G',
      harts: HARTS,
      seed: 1,
      append: DEBIAN_APPEND,
      disks: [disk],
      time: 'wall',
    });
    machine.onConsole(() => {});
    await machine.runUntil({ pattern: PROMPT });
    return {
      machine,
      name: 'Debian',
      run: async (script) => {
        for (const line of script.split('\n')) {
          await Promise.all([machine.runUntil({ pattern: PROMPT }), machine.type(`${line}\n`)]);
        }
      },
    };
  }
  const machine = await Machine.create({ memory: '512M', harts: HARTS, seed: 1, time: 'wall' });
  machine.onConsole(() => {});
  await machine.boot();
  return {
    machine,
    name: 'the default guest',
    run: async (script) => {
      await machine.exec(['sh', '-c', script]);
    },
  };
}

interface Replayed {
  readonly seconds: number;
  readonly verified: number;
  readonly divergences: number;
}

/** All of a recording, in a part for each processor, whatever is found on the way. */
async function replayAll(path: string): Promise<Replayed> {
  const from = performance.now();
  const parts = availableParallelism();
  const done = await Promise.all(Array.from({ length: parts }, (_, n) => replayPart(path, n, parts)));
  const seconds = (performance.now() - from) / 1000;
  const sum = (of: (part: Omit<Replayed, 'seconds'>) => number) => done.reduce((all, part) => all + of(part), 0);
  return { seconds, verified: sum(({ verified }) => verified), divergences: sum(({ divergences }) => divergences) };
}

/** From a keyframe to the one where the next part begins. */
async function replayPart(path: string, part: number, parts: number): Promise<Omit<Replayed, 'seconds'>> {
  await using pool = new Pool({ threads: 1 });
  await using replay = await Replay.open(path, { pool });
  const { keyframes } = replay.recording;
  const border = (n: number) => keyframes[Math.floor((n * keyframes.length) / parts)]?.at;
  const to = border(part + 1);
  await replay.seek({ at: border(part)! });
  for (let divergences = 0; ; divergences++) {
    try {
      await replay.run(to === undefined ? {} : { to: { at: to } });
      return { verified: replay.verified, divergences };
    } catch (error) {
      if ((error as BraidError).code !== 'ERR_BRAID_DIVERGENCE') throw error;
      process.stderr.write(`${(error as Error).message}\n`);
      const { step } = whereOf(error as Error);
      const next = keyframes.find(({ at }) => at > step);
      if (!next || (to !== undefined && next.at >= to))
        return { verified: replay.verified, divergences: divergences + 1 };
      await replay.seek({ at: next.at });
    }
  }
}

/** Where a replay was found to differ: its message says so. */
function whereOf({ message }: Error): { readonly step: bigint } {
  return { step: BigInt(/at step (\d+)/.exec(message)![1]!) };
}

async function record(path: string, minutes: number, scratch: Scratch) {
  const { machine, name, run } = await start(scratch);
  await using _ = machine;
  const recording = await machine.record(path, { title: `${name}, ${minutes} minutes of work` });
  await run(SCRIPT);
  await machine.run();
  const end = performance.now() + minutes * 60_000;
  while (performance.now() < end) {
    await sleep(Math.min(TYPING_MS, end - performance.now()));
    await machine.type('date\n');
  }
  await machine.pause();
  const statistics: RecordingStatistics = await recording.stop('it has worked long enough');
  return { name, statistics };
}

function minutesOf(args: readonly string[]): number {
  const at = args.indexOf('--minutes');
  const minutes = at < 0 ? (quick ? 1 : 60) : Number(args[at + 1]);
  if (!(minutes > 0)) throw new Error('--minutes is a number of minutes');
  return minutes;
}

async function main(): Promise<void> {
  const minutes = minutesOf(process.argv.slice(2));
  using scratch = new Scratch();
  const path = join(scratch.folder, 'recording');
  const { name, statistics } = await record(path, minutes, scratch);
  const { steps, events, keyframes, bytes, logBytes } = statistics;
  const { seconds, verified, divergences } = await replayAll(path);
  using report = new Report('soak', `${name}, ${HARTS} harts, at work for ${minutes} minutes; one run`);
  const lower = { better: 'lower' } as const;
  report.add({ name: 'divergences', unit: '', ...lower, results: [divergences], must: 0 });
  report.add({ name: 'states compared', unit: '', better: 'higher', results: [verified + 1] });
  report.add({ name: 'keyframes', unit: '', better: 'higher', results: [keyframes] });
  report.add({ name: 'steps', unit: 'G', better: 'higher', results: [Number(steps) / 1e9] });
  report.add({ name: 'events', unit: '', ...lower, results: [events] });
  report.add({ name: 'log', unit: 'MiB', ...lower, results: [logBytes / MIB] });
  report.add({ name: 'file', unit: 'MiB', ...lower, results: [bytes / MIB] });
  report.add({
    name: `replay in ${availableParallelism()} parts, recording = 1`,
    unit: 'x',
    better: 'higher',
    results: [(minutes * 60) / seconds],
  });
  report.print();
}

await main();

// `npm run bench -- record`: what it costs to record a machine, how large the recording is, and how fast it is replayed.
//
// A machine does the same work with and without being recorded, by turns, each time from the same state; what counts is the CPU time of
// the whole process, writer and compressor included. QEMU does the same work with and without its log, `-icount rr=record`. docs/benchmarks.md
// says how each figure is taken. Arguments name the rows to run; without any it is all. --quick does a quarter of the work, in fewer pairs;
// --pairs N says in how many.

import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Machine, Pool, type RecordingStatistics } from '../packages/node/src/index.ts';
import { attempt, findPeer, quick, Report, type RowInput, summarize } from './harness.ts';
import { compileProgram, DEFAULT_APPEND, readInitramfs, readKernel, Scratch } from './lib/guest.ts';
import { pairedRatio } from './lib/paired.ts';
import { QemuRecorder, type RecordSample } from './lib/qemu-record.ts';
import { type Recorded, replayTimes, Subject } from './lib/recorded.ts';
import { copyDisk, prose } from './real/workload.ts';

const pairs = process.argv.indexOf('--pairs');
const PAIRS = pairs > 0 ? Number(process.argv[pairs + 1]) : quick ? 3 : 11;
if (!(PAIRS >= 2)) throw new Error('--pairs takes a number, at least 2');
const PEER_PAIRS = 3;
const MIB = 2 ** 20;
const DEBIAN_IMAGE = process.env.BRAID_DEBIAN_IMAGE ?? join(tmpdir(), 'braid-assets', 'debian.img');

interface Work {
  /** Lines of a shell; `n` is for how much of it there is to be. */
  script(n: (full: number) => number): readonly string[];
  /** By how many percent recording may make it slower. */
  readonly must?: number;
  readonly disk?: boolean;
}

const WORKS: Readonly<Record<string, Work>> = {
  compute: {
    script: (n) => [
      `integer sha256 ${n(1300)}`,
      `integer hash-table ${n(1200)}`,
      `integer compression ${n(2000)}`,
      `float fft ${n(400)}`,
    ],
    must: 3,
  },
  kernel: {
    script: (n) => [
      `kernel syscall ${n(1_000_000)}`,
      `kernel page-fault ${n(500)}`,
      `kernel fork-wait ${n(1200)}`,
      `kernel fork-exec ${n(360)}`,
      `kernel pipe ${n(16_000)}`,
      `kernel mmap ${n(4000)}`,
      `kernel context-switch ${n(3000)}`,
    ],
    must: 3,
  },
  disk: {
    script: (n) => [
      'mount -t ext4 /dev/vda /mnt',
      `for i in $(seq ${n(8)}); do`,
      'tar cf /mnt/copy.tar -C /mnt files && mkdir /mnt/copy && tar xf /mnt/copy.tar -C /mnt/copy',
      'sync; echo 3 >/proc/sys/vm/drop_caches',
      'find /mnt/copy -type f | xargs md5sum >/dev/null; grep -r zebra /mnt/files | wc -l',
      'rm -r /mnt/copy /mnt/copy.tar; sync; done; umount /mnt',
    ],
    must: 10,
    disk: true,
  },
  console: { script: (n) => [`seq 1 ${n(400_000)} >/dev/console`], must: 10 },
  // The worst case: nothing but first reads, of which everything goes to the recording.
  'disk, read once': { script: (n) => [`disk /dev/vda read ${n(128)}`], disk: true },
};

const programOf = (name: string) => `work-${Object.keys(WORKS).indexOf(name)}`;

/** The programs of the works, as files of the guest's /bin. */
function programs(scratch: Scratch): Record<string, Uint8Array> {
  const compiled = ['integer', 'float', 'kernel', 'disk'].map((name) => {
    const program = compileProgram(name, scratch);
    if (!program) throw new Error('This benchmark compiles its programs: apt-get install gcc-riscv64-linux-gnu');
    return [name, program] as const;
  });
  const scripts = Object.entries(WORKS).map(([name, { script }]) => {
    const lines = script((full) => Math.ceil(full / (quick ? 4 : 1)));
    return [
      programOf(name),
      Buffer.from(['#!/bin/sh', 'echo "<work>"', ...lines, 'echo "</work>"', ''].join('\n')),
    ] as const;
  });
  return Object.fromEntries([...compiled, ...scripts]);
}

/** 128 MiB, half of it files: text, and some that nothing makes smaller. Undefined, with a note, where there is no mke2fs. */
function makeDisk(scratch: Scratch): string | undefined {
  const mke2fs = findPeer('mke2fs');
  if (!mke2fs) return undefined;
  const folder = join(scratch.folder, 'root', 'files');
  mkdirSync(folder, { recursive: true });
  for (let n = 0; n < 400; n++) {
    const size = 1024 << (n % 8);
    writeFileSync(join(folder, `file${n}`), n % 4 === 0 ? randomBytes(size) : prose(size));
  }
  const image = join(scratch.folder, 'disk.img');
  const { status, stderr } = spawnSync(mke2fs, ['-q', '-t', 'ext4', '-d', join(folder, '..'), image, '128M'], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`mke2fs: ${stderr}`);
  return image;
}

class Recordings {
  readonly report: Report;
  readonly path: string;
  private readonly scratch: Scratch;
  private readonly kernel: Uint8Array = readKernel();
  private readonly initrd: Uint8Array;
  private readonly peer: QemuRecorder | undefined;
  private image: string | undefined;

  constructor(scratch: Scratch, report: Report) {
    this.report = report;
    this.scratch = scratch;
    this.path = join(scratch.folder, 'recording');
    this.initrd = readInitramfs(programs(scratch));
    this.peer = QemuRecorder.find(scratch, this.kernel, this.initrd);
  }

  async work(name: string): Promise<void> {
    const { disk = false, must } = WORKS[name]!;
    if (disk) this.image ??= makeDisk(this.scratch);
    if (disk && this.image === undefined) return;
    const program = programOf(name);
    const { plain, recorded } = await this.pairs(program, disk);
    const cpu = (samples: readonly { cpuSeconds: number }[]) => samples.map(({ cpuSeconds }) => cpuSeconds);
    const ratios = recorded.map(({ cpuSeconds }, pair) => cpuSeconds / plain[pair]!.cpuSeconds);
    const peer = disk ? undefined : await this.peerRatios(program);
    const results: RowInput['results'] = { braid: summarize(ratios), ...(peer && { qemu: summarize(peer) }) };
    const { report } = this;
    report.add({ name: `${name}: CPU time, recorded`, unit: 'x', better: 'lower', results, group: 'recorded' });
    const { high } = pairedRatio(cpu(plain), cpu(recorded));
    const bound = must === undefined ? {} : { must: 1 + must / 100 };
    report.add({ name: '  upper end of its 95 % interval', unit: 'x', better: 'lower', results: [high], ...bound });
    this.sizes(recorded.map(({ statistics }) => statistics));
    const { cold, warm } = await replayTimes(this.path);
    const { cpuSeconds } = recorded.at(-1)!;
    const speed = (replay: RecordSample) => [cpuSeconds / replay.cpuSeconds];
    const row = { unit: 'x', better: 'higher' } as const;
    report.add({ name: '  replay, speed of recording = 1', ...row, results: speed(warm), must: 1 });
    report.add({ name: '  the first time, code translated anew', ...row, results: speed(cold) });
  }

  /** Log and file of recordings. */
  sizes(all: readonly RecordingStatistics[]): void {
    const log = all.map(({ logBytes, inputBytes, steps }) => (logBytes - inputBytes) / (Number(steps) / 1000));
    const { report } = this;
    report.add({ name: '  log but for input, per 1000 steps', unit: 'B', better: 'lower', results: log, must: 1 });
    report.add({ name: '  file', unit: 'MiB', better: 'lower', results: all.map(({ bytes }) => bytes / MIB) });
  }

  /** Logs of work that nobody times: somebody at a shell, and the boot of a larger system. */
  async logs(): Promise<void> {
    await using pool = new Pool({ threads: 1 });
    await using machine = await Machine.create({ pool, memory: '256M', seed: 1 });
    await machine.boot();
    const recording = await machine.record(this.path, { overwrite: true });
    for (let n = 0; n < (quick ? 50 : 200); n++) await machine.exec(['sh', '-c', 'ls -l /bin | sort -r | wc']);
    const shell = await recording.stop();
    this.report.add({ name: 'shell work: log', unit: 'KiB', better: 'lower', results: [shell.logBytes / 1024] });
    this.sizes([shell]);
    if (quick || !existsSync(DEBIAN_IMAGE)) return;
    const disk = copyDisk(DEBIAN_IMAGE, join(this.scratch.folder, 'debian.img'));
    const append = 'console=ttyS0 quiet root=/dev/vda rw';
    await using debian = await Machine.create({ pool, memory: '1G', seed: 1, append, disks: [disk] });
    const boot = await debian.record(this.path, { overwrite: true });
    await debian.runUntil({ pattern: 'login: ' });
    const statistics = await boot.stop();
    this.report.add({ name: 'Debian boot: log', unit: 'KiB', better: 'lower', results: [statistics.logBytes / 1024] });
    this.sizes([statistics]);
  }

  private async pairs(
    program: string,
    disk: boolean,
  ): Promise<{ plain: readonly { cpuSeconds: number }[]; recorded: readonly Recorded[] }> {
    await using pool = new Pool({ threads: 1 });
    const disks = disk ? [copyDisk(this.image!, join(this.scratch.folder, 'braid-disk.img'))] : [];
    const append = DEFAULT_APPEND.replace('hvc0', 'ttyS0');
    await using subject = await Subject.boot(pool, { kernel: this.kernel, initrd: this.initrd, append, disks });
    const plain = [];
    const recorded = [];
    // The first of each is slower: code is cold.
    for (let n = -1; n < PAIRS; n++) {
      const first = n % 2 === 0 ? await subject.plain(program) : undefined;
      const one = await subject.recorded(program, this.path);
      const other = first ?? (await subject.plain(program));
      if (n < 0) continue;
      plain.push(other);
      recorded.push(one);
    }
    return { plain, recorded };
  }

  private async peerRatios(program: string): Promise<number[] | undefined> {
    const { peer } = this;
    if (!peer) return undefined;
    const ratios: number[] = [];
    for (let n = 0; n < PEER_PAIRS; n++) {
      const ratio = await attempt('qemu', async () => {
        const plain = await peer.run(program, 'plain');
        const recorded = await peer.run(program, 'record');
        return recorded.cpuSeconds / plain.cpuSeconds;
      });
      if (ratio !== undefined) ratios.push(ratio);
    }
    return ratios.length > 0 ? ratios : undefined;
  }
}

async function main(): Promise<void> {
  const given = process.argv.slice(2);
  const named = given.filter((argument, n) => !argument.startsWith('-') && given[n - 1] !== '--pairs');
  const known = [...Object.keys(WORKS), 'logs'];
  const unknown = named.find((name) => !known.includes(name));
  if (unknown) throw new Error(`There is no row "${unknown}": they are ${known.join(', ')}.`);
  using scratch = new Scratch();
  using report = new Report('record', 'x: CPU time recorded, over CPU time not recorded; of the whole process');
  const recordings = new Recordings(scratch, report);
  for (const name of known.filter((name) => named.length === 0 || named.includes(name))) {
    if (name === 'logs') await recordings.logs();
    else await recordings.work(name);
  }
  report.print();
}

await main();

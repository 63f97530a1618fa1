// `npm run bench -- real`: Linux systems at work, against QEMU. Boot and BusyBox in the default guest, programs of Debian 13, and
// what a translator must not cost: stalls, memory, work done again for every process.
//
// Warm-up is in these figures: every repetition is a fresh process of Braid or QEMU that boots, and each row is the first run of
// its programs in that machine. Time is real time, from outside, between markers on the console, and both must print the same.
//
// Arguments name the sections to run: boot, busybox, debian, keystroke, inside. Without any it is all.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { alternate, findQemu, quick, Report, type Results, summarize, summarizeAll, Watched } from './harness.ts';
import {
  DEFAULT_APPEND,
  type Guest,
  PROMPT,
  qemuArguments,
  ROOT,
  readInitramfs,
  readKernel,
  Scratch,
} from './lib/guest.ts';
import type { Inspection } from './real/inspect.ts';
import { keysInBraid, keysInPeer, percentile } from './real/keystroke.ts';
import { available, BUSYBOX, type Command, copyDisk, DEBIAN, makeWorkDisk } from './real/workload.ts';

const REPS = 3;
const MIB = 2 ** 20;
const GROUP = 'real';
const BRAID = join(ROOT, 'packages', 'node', 'bin', 'braid.mjs');
const IMAGE = process.env.BRAID_BENCH_IMAGE ?? join(tmpdir(), 'braid-assets', 'debian-bench.img');
const DEBIAN_APPEND = 'console=ttyS0 quiet no4lvl root=/dev/vda rw';
const KEYS_APPEND = 'console=ttyS0 earlycon=sbi quiet panic=-1 no4lvl';
const NOTE = 'Warm-up is in the figures: each row is the first run of its programs in a machine that has just booted.';

/** What a section needs of its surroundings. */
interface Context {
  readonly report: Report;
  readonly scratch: Scratch;
  readonly qemu: string | undefined;
  /** The default guest. */
  readonly guest: Guest;
}

/** A machine that a process runs. */
interface System extends Guest {
  readonly disks: readonly string[];
  /** What makes it ready at its first prompt. */
  readonly prepare: string;
}

function startBraid({ kernel, initrd, append, memory, disks }: Omit<System, 'prepare'>): Watched {
  const files = ['--kernel', kernel, '--initrd', initrd, ...disks.flatMap((disk) => ['--disk', disk])];
  const args = [BRAID, 'run', '--time', 'wall', ...files, '--append', append, '--memory', `${memory}M`];
  return new Watched(process.execPath, args);
}

function startQemu(qemu: string, { disks, ...guest }: Omit<System, 'prepare'>): Watched {
  const drives = disks.flatMap((disk, n) => [
    ...['-drive', `file=${disk},format=raw,if=none,id=disk${n}`],
    ...['-device', `virtio-blk-device,drive=disk${n}`],
  ]);
  return new Watched(qemu, [...qemuArguments(guest), ...drives]);
}

/** What one run of a row came to. */
interface Sample {
  readonly seconds: number;
  /** The checksum of what the programs printed, or how they failed. */
  readonly value: string;
}

/** Boots a machine, runs every command once, in order. */
async function runAll(child: Watched, prepare: string, commands: readonly Command[]): Promise<Map<string, Sample>> {
  await using machine = child;
  await machine.until(PROMPT, 300);
  machine.send(`${prepare}; echo "<rea""dy>"\n`);
  await machine.until('<ready>', 300);
  const samples = new Map<string, Sample>();
  for (const { id } of commands) {
    machine.send(`sh /mnt/run ${id}\n`);
    const start = await machine.until(`<${id}>`);
    const end = await machine.until(`</${id} `, 600);
    await machine.until(/sum [0-9a-f]{32}/, 120);
    const said = machine.output.slice(machine.output.lastIndexOf(`</${id} `));
    const [, status, failure, sum] = /^<\/\S+ (\d+)>(.*)sum ([0-9a-f]{32})/s.exec(said)!;
    samples.set(id, { seconds: end - start, value: status === '0' ? sum! : `failed (${status}): ${failure!.trim()}` });
    await machine.until(PROMPT);
  }
  return samples;
}

/** Adds the rows of commands that all competitors ended with the same result; the others are a note, and a failure. */
async function benchCommands(
  { report, scratch, qemu }: Context,
  system: System,
  commands: readonly Command[],
): Promise<void> {
  const runs: Record<string, Map<string, Sample>[]> = {};
  const run = (competitor: string, start: (system: System) => Watched) => async () => {
    const disks = system.disks.map((disk, n) => copyDisk(disk, join(scratch.folder, `disk${n}.img`)));
    (runs[competitor] ??= []).push(await runAll(start({ ...system, disks }), system.prepare, commands));
    return 0;
  };
  await alternate(REPS, {
    braid: run('braid', startBraid),
    qemu: qemu ? run('qemu', (system) => startQemu(qemu, system)) : undefined,
  });
  for (const { id, name } of commands) {
    const samples = Object.entries(runs).map(([who, all]) => [who, all.map((run) => run.get(id)!)] as const);
    const values = samples.map(([who, all]) => [who, [...new Set(all.map(({ value }) => value))]] as const);
    if (new Set(values.flatMap(([, all]) => all)).size > 1 || values[0]![1][0]!.startsWith('failed')) {
      const said = values.map(([who, all]) => `${who}: ${all.join(', ')}`).join('\n  ');
      process.stderr.write(`No row "${name}": results differ, or the command failed.\n  ${said}\n`);
      process.exitCode = 1;
      continue;
    }
    const results = Object.fromEntries(
      samples.map(([who, all]) => [who, summarize(all.map(({ seconds }) => seconds))]),
    ) as Results;
    report.add({ name, unit: 's', better: 'lower', results, group: GROUP });
  }
}

async function benchBoot({ report, qemu, guest }: Context): Promise<void> {
  const system = { ...guest, disks: [] };
  const toPrompt = async (start: () => Watched) => {
    await using child = start();
    return await child.until(PROMPT);
  };
  const results = await alternate(quick ? REPS : 5, {
    braid: () => toPrompt(() => startBraid(system)),
    qemu: qemu ? () => toPrompt(() => startQemu(qemu, system)) : undefined,
  });
  report.add({ name: 'boot to prompt', unit: 's', better: 'lower', results, group: GROUP });
}

/** A shell under load, typed at in real time. */
async function benchKeystroke({ report, qemu, guest }: Context): Promise<void> {
  const keys = quick ? 100 : 300;
  const medians: Record<string, number[]> = {};
  const measure = (who: string, type: () => Promise<number[]>) => async () => {
    const samples = await type();
    (medians[who] ??= []).push(percentile(samples, 0.5));
    return percentile(samples, 0.99);
  };
  const args = qemuArguments({ ...guest, append: KEYS_APPEND });
  const results = await alternate(REPS, {
    braid: measure('braid', () => keysInBraid(keys)),
    qemu: qemu ? measure('qemu', () => keysInPeer(qemu, args, keys)) : undefined,
  });
  const half = summarizeAll(medians);
  report.add({ name: 'key to echo under load, p99', unit: 'ms', better: 'lower', results, must: 20 });
  report.add({ name: 'key to echo under load, median', unit: 'ms', better: 'lower', results: half });
}

/** One machine from inside: what its translator costs. */
function benchInside({ report, scratch }: Context, { kernel, initrd, append, disks }: System, ids: string[]): void {
  const inspections: Inspection[] = [];
  for (let rep = 0; rep < (quick ? 1 : REPS); rep++) {
    const copies = disks.map((disk, n) => copyDisk(disk, join(scratch.folder, `disk${n}.img`)));
    const program = join(ROOT, 'bench', 'real', 'inspect.ts');
    const args = [...process.execArgv, program, kernel, initrd, append, ...copies, ...ids];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`the inspected machine failed: ${stderr}`);
    inspections.push(JSON.parse(stdout) as Inspection);
  }
  const row = (name: string, unit: string, must: number | undefined, value: (seen: Inspection) => number) => {
    report.add({ name, unit, better: 'lower', results: inspections.map(value), ...(must !== undefined && { must }) });
  };
  row('worst stall by compilation', 'ms', 20, ({ compilations }) => compilations.longestMs);
  row('compilation, in all', 's', undefined, ({ compilations }) => compilations.totalMs / 1000);
  row('compilation, of a guest instruction', 'us', undefined, ({ compilations, instructions }) =>
    instructions === 0 ? 0 : (1000 * compilations.totalMs) / instructions,
  );
  row('regions made by the 4th to 100th exec', '', 10, ({ newRegions }) => newRegions);
  row('  of code that had been translated before', '', 0, ({ repeatedRegions }) => repeatedRegions);
  row('memory above RAM, 1 GiB guest', 'MiB', 600, (seen) => (seen.peakRssBytes - seen.ramBytes) / MIB);
  row('  resident at its peak', 'MiB', undefined, (seen) => seen.peakRssBytes / MIB);
  row("  the guest's RAM in use", 'MiB', undefined, (seen) => seen.ramBytes / MIB);
}

/** The row that fares worst against a peer has its own bound. */
function addLeastRatio(report: Report): void {
  const ratios = report.rows.flatMap(({ group, ratio }) => (group === GROUP ? Object.values(ratio) : []));
  if (ratios.length === 0) return;
  report.add({ name: 'least ratio of a row', unit: 'x', better: 'higher', results: [Math.min(...ratios)], must: 0.7 });
}

async function main(): Promise<void> {
  using scratch = new Scratch();
  const guest: Guest = {
    kernel: scratch.write('Image', readKernel()),
    initrd: scratch.write('initramfs', readInitramfs()),
    append: DEFAULT_APPEND,
    harts: 1,
    memory: 256,
  };
  using report = new Report(GROUP, NOTE);
  const context: Context = { report, scratch, qemu: findQemu(), guest };
  context.report.must(GROUP, 'qemu', 1);
  const debianCommands = DEBIAN.filter(available);
  const system = (work: string): System => ({
    ...guest,
    disks: [work],
    prepare: 'mount /dev/vda /mnt; sh /mnt/prepare',
  });
  const debian = (work: string): System => ({
    ...guest,
    append: DEBIAN_APPEND,
    memory: 1024,
    disks: [IMAGE, work],
    prepare: 'systemctl is-system-running --wait; mount /dev/vdb /mnt',
  });
  const sections: Record<string, (work: string) => Promise<void> | void> = {
    boot: () => benchBoot(context),
    busybox: (work) => benchCommands(context, system(work), BUSYBOX),
    debian: (work) => benchCommands(context, debian(work), debianCommands),
    keystroke: () => benchKeystroke(context),
    inside: (work) =>
      benchInside(
        context,
        debian(work),
        debianCommands.map(({ id }) => id),
      ),
  };
  const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
  const unknown = named.find((name) => !(name in sections));
  if (unknown) throw new Error(`There is no section "${unknown}": they are ${Object.keys(sections).join(', ')}.`);
  const work = makeWorkDisk(scratch);
  const impossible: Record<string, string> = {
    ...(!work && { busybox: 'there is no mke2fs', debian: 'there is no mke2fs', inside: 'there is no mke2fs' }),
    ...(!existsSync(IMAGE) && { debian: `there is no ${IMAGE}`, inside: `there is no ${IMAGE}` }),
  };
  for (const [name, run] of Object.entries(sections)) {
    if (named.length > 0 && !named.includes(name)) continue;
    if (impossible[name]) {
      const remedy = existsSync(IMAGE)
        ? ''
        : 'Make it with "bench/debian/build.sh FILE", and name it in BRAID_BENCH_IMAGE.\n';
      process.stderr.write(`No rows of "${name}": ${impossible[name]}.\n${remedy}`);
    } else await run(work ?? '');
  }
  addLeastRatio(context.report);
  report.print();
}

await main();

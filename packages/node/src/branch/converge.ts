/**
 * Merging: what another machine has made of a common fork point is brought into one that has gone on itself.
 *
 * Three-way, item by item: a file, a range of a process's memory, a disk. Where both sides have changed the same, the item is a conflict and
 * stays as it is here. What the merged part rests on can be named too (`reads`): if that has changed here, nothing is merged. For
 * each pair of machines it is remembered what has been merged, item by item: that is the base of the next merge.
 */

import { judge, mergeBytes, type Range } from '@braid/core/branch/merge.ts';
import { either, integer, list, optional, record, type Schema } from '@braid/core/check/schema.ts';
import { instance, U64, WAIT } from '../check.ts';
import { BraidError } from '../errors.ts';
import { ForkPoint } from '../fork-point.ts';
import type { Machine } from '../machine.ts';
import type { Link, WaitOptions } from '../pool/link.ts';
import { ABSENT, type FileState, GUEST_PATHS, listFiles, putFile, readContent, script } from './guest-files.ts';
import { MEMORY_RANGE, type MemoryContent, type MemoryRange, readMemory, writeMemory } from './guest-memory.ts';

/** Physical memory: it is compared (`diff`), and never merged. */
export interface PhysicalRange {
  readonly address: bigint;
  readonly length: number;
}

export interface MergeOptions extends WaitOptions {
  /** Where both machines have come from. */
  readonly base: ForkPoint;
  /** Paths of files, and of folders for all the files below them. */
  readonly files?: readonly string[];
  readonly memory?: readonly (MemoryRange | PhysicalRange)[];
  /** Numbers of disks, in the order of `disks` of `Machine.create`, from 0 on. */
  readonly disks?: readonly number[];
  /** What the other machine has read to get at what it gives. */
  readonly reads?: { readonly files?: readonly string[]; readonly memory?: readonly MemoryRange[] };
}

export interface CopyOptions extends WaitOptions {
  readonly files?: readonly string[];
  readonly memory?: readonly MemoryRange[];
}

const PHYSICAL: Schema<PhysicalRange> = record<PhysicalRange>({ address: U64, length: integer(1) });
const RANGES = optional(list(MEMORY_RANGE));

export const FORK_POINT: Schema<ForkPoint> = instance('a ForkPoint', ForkPoint);

export const MERGE_OPTIONS: Schema<MergeOptions> = record<MergeOptions>({
  ...WAIT,
  base: FORK_POINT,
  files: GUEST_PATHS,
  memory: optional(list(either(MEMORY_RANGE, PHYSICAL))),
  disks: optional(list(integer(0, 7))),
  reads: optional(record<NonNullable<MergeOptions['reads']>>({ files: GUEST_PATHS, memory: RANGES })),
});

export const COPY_OPTIONS: Schema<CopyOptions> = record<CopyOptions>({ ...WAIT, files: GUEST_PATHS, memory: RANGES });

/** What became of an item. Besides the first two, nothing of it has changed here. */
export type Outcome =
  /** It is now as the other machine has it. */
  | 'taken'
  /** Both had changed parts of it, and it now has both. */
  | 'merged'
  /** Only this machine had changed it. */
  | 'kept'
  /** Both had changed it to the same. */
  | 'same'
  | 'unchanged'
  /** Both have changed it, differently. */
  | 'conflict'
  /** The other machine has read it, and it has changed here since the base: nothing at all has been merged. */
  | 'stale'
  /** It cannot be merged, and `why` not. */
  | 'refused';

export type MergeItem = (
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'memory'; readonly range: MemoryRange | PhysicalRange; readonly conflicts?: readonly Range[] }
  | { readonly kind: 'disk'; readonly disk: number; readonly blocks?: readonly number[] }
) & { readonly outcome: Outcome; readonly why?: string };

export interface Merged {
  /** All that was asked for, a folder by its files. */
  readonly items: readonly MergeItem[];
  /** Whether none of it is a conflict, stale, or refused. */
  readonly clean: boolean;
}

/** What has been merged between two machines: the base of the next time. */
class Bases {
  readonly files = new Map<string, FileState>();
  readonly memory = new Map<string, MemoryContent>();
  readonly disks = new Map<number, ForkPoint>();

  async dispose(): Promise<void> {
    await Promise.all([...new Set(this.disks.values())].map((point) => point.dispose()));
  }
}

const merges = new WeakMap<Machine, Map<Machine, Bases>>();

function basesOf(one: Machine, other: Machine): Bases {
  const known = merges.get(one)?.get(other);
  if (known) return known;
  const bases = new Bases();
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    const all = merges.get(from) ?? new Map<Machine, Bases>();
    merges.set(from, all.set(to, bases));
  }
  return bases;
}

/** The machine is not what has been merged any more. */
export async function forgetMerges(machine: Machine): Promise<void> {
  const all = merges.get(machine);
  if (!all) return;
  merges.delete(machine);
  for (const [other, bases] of all) {
    merges.get(other)?.delete(machine);
    await bases.dispose();
  }
}

/** The three sides of a merge. Those that are only read are machines of their own, at the base and where the other one stands. */
interface Sides {
  readonly base: Machine;
  readonly theirs: Machine;
  readonly ours: Machine;
  readonly link: Link;
  readonly points: { readonly base: ForkPoint; readonly theirs: ForkPoint };
  readonly known: Bases;
  readonly wait: WaitOptions;
}

export async function merge(
  { machine, link }: { readonly machine: Machine; readonly link: Link },
  other: Machine,
  { base, files = [], memory = [], disks = [], reads = {}, signal }: MergeOptions,
): Promise<Merged> {
  if (other === machine || other.pool !== machine.pool || base.pool !== machine.pool)
    throw new BraidError('ERR_BRAID_OPTION', 'machines that are merged, and their fork point, are of one pool');
  const wait = signal ? { signal } : {};
  const theirs = await other.forkPoint();
  const readers: Machine[] = [];
  let keep = false;
  try {
    for (const point of [base, theirs]) readers.push(await point.fork());
    const sides: Sides = {
      base: readers[0]!,
      theirs: readers[1]!,
      ours: machine,
      link,
      points: { base, theirs },
      known: basesOf(machine, other),
      wait,
    };
    const stale = await staleReads(sides, reads);
    if (stale.length > 0) return resultOf(stale);
    const items = [...(await mergeFiles(sides, files)), ...(await mergeMemory(sides, memory))];
    for (const disk of disks) {
      const item = await mergeOneDisk(sides, disk);
      items.push(item);
      if (settled(item.outcome)) {
        const old = sides.known.disks.get(disk);
        sides.known.disks.set(disk, theirs);
        keep = true;
        if (old && ![...sides.known.disks.values()].includes(old)) await old.dispose();
      }
    }
    return resultOf(items);
  } finally {
    await Promise.all(readers.map((reader) => reader.dispose()));
    if (!keep) await theirs.dispose();
  }
}

const settled = (outcome: Outcome) => outcome !== 'conflict' && outcome !== 'stale' && outcome !== 'refused';

function resultOf(items: readonly MergeItem[]): Merged {
  return { items, clean: items.every(({ outcome }) => settled(outcome)) };
}

function sameFile(a: FileState, b: FileState): boolean {
  return a.kind === 'file' && b.kind === 'file' ? a.hash === b.hash : a.kind === b.kind;
}

/** What the other machine has read and this one has changed since. */
async function staleReads(
  { base, ours, wait }: Sides,
  reads: NonNullable<MergeOptions['reads']>,
): Promise<MergeItem[]> {
  const stale: MergeItem[] = [];
  const [before, now] = [
    await listFiles(base, reads.files ?? [], wait),
    await listFiles(ours, reads.files ?? [], wait),
  ];
  for (const path of new Set([...before.keys(), ...now.keys()])) {
    const same = sameFile(before.get(path) ?? ABSENT, now.get(path) ?? ABSENT);
    if (!same) stale.push({ kind: 'file', path, outcome: 'stale', why: 'it has changed here since it was read there' });
  }
  for (const range of reads.memory ?? []) {
    const was = await readMemory(base, range, wait);
    const is = await readMemory(ours, range, wait).catch(() => undefined);
    if (is?.started !== was.started || Buffer.compare(is.bytes, was.bytes) !== 0)
      stale.push({ kind: 'memory', range, outcome: 'stale', why: 'it has changed here since it was read there' });
  }
  return stale;
}

// --- Files

async function mergeFiles({ base, theirs, ours, known, wait }: Sides, paths: readonly string[]): Promise<MergeItem[]> {
  const [before, there, here] = [
    await listFiles(base, paths, wait),
    await listFiles(theirs, paths, wait),
    await listFiles(ours, paths, wait),
  ];
  const items: MergeItem[] = [];
  for (const path of [...new Set([...before.keys(), ...there.keys(), ...here.keys()])].sort()) {
    const was = known.files.get(path) ?? before.get(path) ?? ABSENT;
    const [their, our] = [there.get(path) ?? ABSENT, here.get(path) ?? ABSENT];
    const item = { kind: 'file', path } as const;
    if ([was, their, our].some(({ kind }) => kind === 'other')) {
      items.push({ ...item, outcome: 'refused', why: 'it is no regular file' });
      continue;
    }
    const verdict = judge(was, our, their, sameFile);
    if (verdict === 'conflict') {
      items.push({ ...item, outcome: verdict, why: 'both machines have changed it' });
      continue;
    }
    if (verdict === 'taken') {
      const content = their.kind === 'file' ? await readContent(theirs, path, wait) : undefined;
      if (!(await putFile(ours, path, content, our.kind === 'file' ? our.hash : 'absent', wait))) {
        items.push({ ...item, outcome: 'conflict', why: 'it was changed while it was being merged' });
        continue;
      }
    }
    known.files.set(path, their);
    items.push({ ...item, outcome: verdict });
  }
  return items;
}

// --- Memory

async function mergeMemory(sides: Sides, ranges: readonly (MemoryRange | PhysicalRange)[]): Promise<MergeItem[]> {
  const items: MergeItem[] = [];
  for (const range of ranges) {
    if (!('pid' in range)) {
      const why =
        'what a frame is for differs from machine to machine: physical memory is compared (diff), never merged';
      items.push({ kind: 'memory', range, outcome: 'refused', why });
      continue;
    }
    try {
      items.push(await mergeRange(sides, range));
    } catch (error) {
      if ((error as Partial<BraidError>).code !== 'ERR_BRAID_MEMORY') throw error;
      items.push({ kind: 'memory', range, outcome: 'refused', why: (error as Error).message });
    }
  }
  return items;
}

async function mergeRange({ base, theirs, ours, known, wait }: Sides, range: MemoryRange): Promise<MergeItem> {
  const key = `${range.pid} ${range.address} ${range.length}`;
  const was = known.memory.get(key) ?? (await readMemory(base, range, wait));
  const [there, here] = [await readMemory(theirs, range, wait), await readMemory(ours, range, wait)];
  const item = { kind: 'memory', range } as const;
  if (was.started !== there.started || was.started !== here.started)
    return { ...item, outcome: 'refused', why: `process ${range.pid} is not the same one everywhere` };
  const { unit = 8 } = range;
  const { verdict, bytes, conflicts } = mergeBytes(was.bytes, here.bytes, there.bytes, {
    unit,
    phase: Number(range.address % BigInt(unit)),
  });
  if (verdict === 'conflict') return { ...item, outcome: verdict, conflicts, why: 'both machines have changed it' };
  if ((verdict === 'taken' || verdict === 'merged') && !(await writeMemory(ours, range, here, bytes, wait)))
    return { ...item, outcome: 'conflict', why: 'it was changed while it was being merged' };
  known.memory.set(key, there);
  return { ...item, outcome: verdict };
}

// --- Disks

/** Says who uses a disk, if anybody does: mounts of any process, swap, what is stacked on it, open files. */
const IN_USE = `
disk=$1
[ -d "/sys/block/$disk" ] || { echo "the guest has no disk $disk"; exit; }
for part in /sys/block/"$disk" /sys/block/"$disk"/"$disk"*; do
  [ -f "$part/dev" ] || continue
  read -r number <"$part/dev"
  name=\${part##*/}
  if cat /proc/[0-9]*/mountinfo 2>/dev/null | cut -d ' ' -f 3 | grep -qxF "$number"; then echo "$name is mounted"; exit; fi
  if grep -qE "^/dev/$name[[:space:]]" /proc/swaps 2>/dev/null; then echo "$name is used for swap"; exit; fi
  for holder in "$part"/holders/*; do [ -e "$holder" ] && { echo "$name is part of \${holder##*/}"; exit; }; done
  for file in /proc/[0-9]*/fd/*; do
    [ "$(readlink "$file" 2>/dev/null)" != "/dev/$name" ] || { echo "$name is open"; exit; }
  done
done
sync`;

async function mergeOneDisk({ theirs, ours, link, points, known, wait }: Sides, disk: number): Promise<MergeItem> {
  const item = { kind: 'disk', disk } as const;
  const name = `vd${'abcdefgh'[disk]}`;
  for (const [machine, whose] of [
    [theirs, 'the other machine'],
    [ours, 'this machine'],
  ] as const) {
    const why = (await script(machine, IN_USE, [name], wait)).trim();
    if (why !== '') return { ...item, outcome: 'refused', why: `in ${whose}: ${why.slice(0, 200)}` };
  }
  const [from, to] = [(known.disks.get(disk) ?? points.base).state.disks[disk], points.theirs.state.disks[disk]];
  if (!from || !to) return { ...item, outcome: 'refused', why: 'it is read-only' };
  const { verdict, taken, conflicts } = await link.call('mergeDisk', { disk, base: from, theirs: to }, wait);
  if (verdict === 'conflict')
    return { ...item, outcome: verdict, blocks: conflicts, why: 'both machines have written these blocks' };
  return { ...item, outcome: verdict, blocks: taken };
}

// --- Copies

export async function copy(
  machine: Machine,
  other: Machine,
  { files = [], memory = [], signal }: CopyOptions,
): Promise<void> {
  const wait = signal ? { signal } : {};
  if (other === machine || other.pool !== machine.pool)
    throw new BraidError('ERR_BRAID_OPTION', 'machines that are copied from are of the same pool');
  await using point = await other.forkPoint();
  await using reader = await point.fork();
  const [there, here] = [await listFiles(reader, files, wait), await listFiles(machine, files, wait)];
  for (const path of [...new Set([...there.keys(), ...here.keys()])].sort()) {
    const [their, our] = [there.get(path) ?? ABSENT, here.get(path) ?? ABSENT];
    if (their.kind === 'other' || our.kind === 'other')
      throw new BraidError('ERR_BRAID_FILE', `${path} in the guest is no regular file`);
    if (!sameFile(their, our))
      await putFile(
        machine,
        path,
        their.kind === 'file' ? await readContent(reader, path, wait) : undefined,
        'any',
        wait,
      );
  }
  for (const range of memory) {
    const [their, our] = [await readMemory(reader, range, wait), await readMemory(machine, range, wait)];
    if (their.started !== our.started || !(await writeMemory(machine, range, our, their.bytes, wait)))
      throw new BraidError('ERR_BRAID_MEMORY', `process ${range.pid} is another one here, or does not stand still`);
  }
}

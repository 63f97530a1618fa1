/** What two machines of one pool, or fork points, differ in. Neither is changed: files are looked at in clones of them. */

import { diffMaps, diffRegisters, type RegisterDifference } from '@braid/core/branch/diff.ts';
import type { Range } from '@braid/core/branch/merge.ts';
import { argument } from '@braid/core/check/calls.ts';
import { either, integer, optional, record } from '@braid/core/check/schema.ts';
import { PAGE, RAM_BASE } from '@braid/core/memory/layout.ts';
import { instance, instanceOf, requireArguments, WAIT } from '../check.ts';
import { BraidError } from '../errors.ts';
import { ForkPoint } from '../fork-point.ts';
import { Machine } from '../machine.ts';
import type { WaitOptions } from '../pool/link.ts';
import { ABSENT, type FileState, GUEST_PATHS, listFiles } from './guest-files.ts';

export interface DiffOptions extends WaitOptions {
  /** Paths of files, and of folders for all the files below them. */
  readonly files?: readonly string[];
  /** Ranges of memory and of disks that are listed, of each; 1000 by default. */
  readonly limit?: number;
}

export interface FileDifference {
  readonly path: string;
  readonly a: FileState;
  readonly b: FileState;
}

export interface Difference {
  readonly registers: readonly RegisterDifference[];
  /** Guest-physical ranges whose bytes differ. */
  readonly memory: readonly { readonly address: bigint; readonly length: number }[];
  /** Ranges by disk, in blocks of 4 KiB. A block that only one of them has written since it was forked differs. */
  readonly disks: readonly (readonly Range[])[];
  /** Of those that were asked for. */
  readonly files: readonly FileDifference[];
  /** Whether there is more of memory or disks than is listed. */
  readonly more: boolean;
}

const SIDE = either(instanceOf<Machine>('a Machine', Machine), instance('a ForkPoint', ForkPoint));
const OPTIONS = record<DiffOptions>({ ...WAIT, files: GUEST_PATHS, limit: optional(integer(0)) });
const ARGUMENTS = [argument('a', SIDE), argument('b', SIDE), argument('options', optional(OPTIONS))] as const;

export async function diff(
  a: Machine | ForkPoint,
  b: Machine | ForkPoint,
  options: DiffOptions = {},
): Promise<Difference> {
  requireArguments(ARGUMENTS, a, b, options);
  const { files = [], limit = 1000, signal } = options;
  if (a.pool !== b.pool) throw new BraidError('ERR_BRAID_OPTION', 'machines that are compared are of one pool');
  await using one = await Side.of(a);
  await using other = await Side.of(b);
  const [x, y] = [one.point.state, other.point.state];
  const [left, right] = [x.record.configuration, y.record.configuration];
  if (left.memory !== right.memory || left.harts !== right.harts || left.disks.length !== right.disks.length)
    throw new BraidError('ERR_BRAID_OPTION', 'machines that are compared have the same memory, harts and disks');
  const pool = a.pool.view;
  const ram = diffMaps(pool, left.memory / PAGE, x.ram, y.ram, { limit });
  const disks = x.disks.map((roots, n) => {
    const theirs = y.disks[n];
    if (!roots || !theirs) return { ranges: [], more: false };
    return diffMaps(pool, Math.ceil(Number(left.disks[n]) / PAGE), roots, theirs, { limit, absentDiffers: true });
  });
  return {
    registers: diffRegisters(x.record.harts, y.record.harts),
    memory: ram.ranges.map(({ at, length }) => ({ address: BigInt(RAM_BASE + at), length })),
    disks: disks.map(({ ranges }) => ranges),
    files: files.length === 0 ? [] : await diffFiles(one.point, other.point, files, signal ? { signal } : {}),
    more: [ram, ...disks].some(({ more }) => more),
  };
}

async function diffFiles(
  a: ForkPoint,
  b: ForkPoint,
  paths: readonly string[],
  wait: WaitOptions,
): Promise<FileDifference[]> {
  const list = async (point: ForkPoint) => {
    await using reader = await point.fork();
    return await listFiles(reader, paths, wait);
  };
  const [one, other] = await Promise.all([list(a), list(b)]);
  return [...new Set([...one.keys(), ...other.keys()])].sort().flatMap((path) => {
    const [x, y] = [one.get(path) ?? ABSENT, other.get(path) ?? ABSENT];
    const same = x.kind === 'file' && y.kind === 'file' ? x.hash === y.hash && x.mode === y.mode : x.kind === y.kind;
    return same ? [] : [{ path, a: x, b: y }];
  });
}

/** The state of a machine for as long as it is looked at, or a fork point that is somebody else's. */
class Side implements AsyncDisposable {
  readonly point: ForkPoint;
  private readonly own: boolean;

  private constructor(point: ForkPoint, own: boolean) {
    this.point = point;
    this.own = own;
  }

  static async of(from: Machine | ForkPoint): Promise<Side> {
    return from instanceof ForkPoint ? new Side(from, false) : new Side(await from.forkPoint(), true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.own) await this.point.dispose();
  }
}

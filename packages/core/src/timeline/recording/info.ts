/** What a recording says about itself: how it was made, its marks and its end. Plain records, checked when they are read. */

import { comparePositions, type Position, U63 } from '../../machine/log.ts';
import type { Exit } from '../../machine/options.ts';
import { MAX_MEMORY, MIN_MEMORY } from '../../machine/options.ts';
import { MAX_HARTS, PAGE } from '../../memory/layout.ts';
import { Fields } from '../../state/check.ts';
import { StateError } from '../../state/errors.ts';
import type { Moment } from './moment.ts';

export interface RecordingInfo {
  /** Version of the build that recorded. */
  readonly braid: string;
  readonly console: 'serial' | 'virtio';
  /** Bytes. */
  readonly memory: number;
  readonly harts: number;
  readonly seed: bigint;
  /** Wall-clock time at power-on that the guest was shown, in ns since 1970. */
  readonly epoch: bigint;
  readonly disks: readonly { readonly size: bigint; readonly readOnly: boolean; readonly name: string }[];
  readonly time: 'virtual' | 'wall';
  /** What was run, for people. */
  readonly title: string;
  /** What whoever recorded it saw: the machine's console, or what programs of the agent wrote. */
  readonly shows: 'console' | 'programs';
}

export const MARK_KINDS = [
  'guest',
  'host',
  'console',
  'panic',
  'exit',
  'adopt',
  'reset',
  'fork',
  'takeover',
  'begin',
  'end',
] as const;

/** A name for a moment. */
export interface Mark extends Moment {
  readonly stretch: number;
  readonly kind: (typeof MARK_KINDS)[number];
  readonly name: string;
}

export interface RecordingEnd extends Moment {
  readonly stretch: number;
  /** The state's hash there, where it was taken. */
  readonly hash: string | undefined;
  /** How the machine ended, if it did. */
  readonly exit: Exit | undefined;
  readonly why: string;
}

const MAX_TEXT = 4096;
export const MAX_DISKS = 8;
/** 2^32 blocks. */
const MAX_DISK = 1n << 44n;
const U64 = (1n << 64n) - 1n;

/** As `restoreInfo` takes it. Throws `StateError` for what that would not take; the others here too. */
export function saveInfo(info: RecordingInfo): unknown {
  const { braid, console, memory, harts, seed, epoch, time, title, shows } = info;
  const disks = info.disks.map(({ size, readOnly, name }) => ({ size, readOnly, name }));
  return checked({ version: 1, braid, console, memory, harts, seed, epoch, disks, time, title, shows }, restoreInfo);
}

/** What cannot be read again is not written. */
function checked(state: unknown, restore: (state: unknown) => unknown): unknown {
  restore(state);
  return state;
}

export function restoreInfo(state: unknown): RecordingInfo {
  const record = new Fields(state, 'start');
  record.version(1);
  const info: RecordingInfo = {
    braid: text(record, 'braid'),
    console: oneOf(record, 'console', ['serial', 'virtio']),
    memory: record.integer('memory', MIN_MEMORY, MAX_MEMORY),
    harts: record.integer('harts', 1, MAX_HARTS),
    seed: record.u64('seed'),
    epoch: record.u64('epoch'),
    disks: record.list('disks', 0, MAX_DISKS, (item, where) => {
      const disk = new Fields(item, where);
      const found = { size: disk.u64('size', MAX_DISK), readOnly: disk.flag('readOnly'), name: text(disk, 'name') };
      disk.end();
      return found;
    }),
    time: oneOf(record, 'time', ['virtual', 'wall']),
    title: text(record, 'title'),
    shows: oneOf(record, 'shows', ['console', 'programs']),
  };
  record.end();
  if (info.memory % PAGE !== 0) throw new StateError('start.memory', 'is no multiple of 4 KiB');
  return info;
}

export function saveMarks(marks: readonly Mark[]): unknown {
  const states = marks.map(({ stretch, kind, name, ...moment }) => ({ ...momentState(moment), stretch, kind, name }));
  return checked({ version: 1, marks: states }, restoreMarks);
}

export function restoreMarks(state: unknown): Mark[] {
  const record = new Fields(state, 'marks');
  record.version(1);
  const marks = record.list('marks', 0, 2 ** 20, (item, where) => {
    const fields = new Fields(item, where);
    const mark: Mark = {
      ...restoreMoment(fields),
      stretch: fields.integer('stretch', 0, 0xffff_ffff),
      kind: oneOf(fields, 'kind', MARK_KINDS),
      name: text(fields, 'name'),
    };
    fields.end();
    return mark;
  });
  record.end();
  return marks;
}

export function saveEnd(end: RecordingEnd): unknown {
  const { stretch, hash, exit, why, ...moment } = end;
  const ended = exit && { kind: exit.kind, code: exit.code };
  return checked({ version: 1, ...momentState(moment), stretch, hash, exit: ended, why }, restoreEnd);
}

export function restoreEnd(state: unknown): RecordingEnd {
  const record = new Fields(state, 'end');
  record.version(1);
  const end: RecordingEnd = {
    ...restoreMoment(record),
    stretch: record.integer('stretch', 0, 0xffff_ffff),
    hash: optionalText(record, 'hash'),
    exit: restoreExit(record.record('exit')),
    why: text(record, 'why'),
  };
  record.end();
  return end;
}

/** In the order of what happened, marks of one moment as they were made. */
export function sortMarks(marks: Mark[]): Mark[] {
  return marks.sort((a, b) =>
    a.at === b.at ? a.stretch - b.stretch || comparePositions(a.position, b.position) : a.at < b.at ? -1 : 1,
  );
}

function momentState({ at, position: { round, hart, step }, time }: Moment): Moment {
  return { at, position: { round, hart, step }, time };
}

function restoreMoment(record: Fields): Moment {
  const at = record.u64('at');
  const time = record.u64('time', U63);
  const fields = new Fields(record.record('position'), `${record.where}.position`);
  const position: Position = {
    round: fields.u64('round', U64),
    hart: fields.integer('hart', 0, MAX_HARTS - 1),
    step: fields.integer('step', 0, 2 ** 30),
  };
  fields.end();
  return { at, position, time };
}

function restoreExit(value: unknown): Exit | undefined {
  if (value === undefined) return undefined;
  const record = new Fields(value, 'end.exit');
  const exit = {
    kind: oneOf(record, 'kind', ['poweroff', 'reboot', 'fail', 'tohost'] as const),
    code: record.integer('code', 0, 0xffff_ffff),
  };
  record.end();
  return exit;
}

function text(record: Fields, name: string): string {
  const value = record.record(name);
  if (typeof value !== 'string' || value.length > MAX_TEXT) {
    throw new StateError(`${record.where}.${name}`, `expected text of at most ${MAX_TEXT} characters`);
  }
  return value;
}

function optionalText(record: Fields, name: string): string | undefined {
  const value = record.record(name);
  if (value === undefined) return undefined;
  if (typeof value === 'string' && value.length <= MAX_TEXT) return value;
  throw new StateError(`${record.where}.${name}`, `expected text of at most ${MAX_TEXT} characters, or nothing`);
}

function oneOf<T extends string>(record: Fields, name: string, values: readonly T[]): T {
  const value = record.record(name);
  const found = values.find((known) => known === value);
  if (found === undefined) throw new StateError(`${record.where}.${name}`, `is none of ${values.join(', ')}`);
  return found;
}

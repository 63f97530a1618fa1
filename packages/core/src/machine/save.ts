/**
 * A machine's state as plain data (I5), and a machine from it.
 *
 * The record holds everything but what is attached from outside: disks and the network stay with the host, which brings them
 * again. Cost: a copy of every page that is not zero.
 */

import { PLIC_VERSION } from '../devices/plic/state.ts';
import type { Engine } from '../engine/engine.ts';
import { type HartState, restoreHart, saveHart } from '../hart/record.ts';
import type { MapRoots } from '../memory/frame-map.ts';
import { ENTRY_FRAME, ENTRY_REMOTE, PAGE, RAM_BASE } from '../memory/layout.ts';
import { Fields, FLAGS } from '../state/check.ts';
import { StateError } from '../state/errors.ts';
import { type HintQuotas, restoreQuotas } from './hints.ts';
import { Machine, type Outputs } from './machine.ts';
import { checkOptions, type Exit, MAX_STEPS_PER_NANOSECOND, type MachineOptions, requireExact } from './options.ts';
import { MAX_PAUSE, PAUSE_WITHOUT_RULE, type PauseRule, type ScheduleState } from './schedule.ts';

/** Pages of RAM that are not zero, in pieces of at most 16 MiB. */
export interface RamPiece {
  /** Guest page numbers, ascending. */
  readonly pages: Uint32Array;
  /** 4096 bytes for each of them. */
  readonly content: Uint8Array;
}

/** A machine's state but for the content of its RAM. */
export interface MachineRecord {
  readonly version: 3;
  readonly configuration: {
    readonly memory: number;
    readonly harts: number;
    readonly slice: number;
    readonly stepsPerNanosecond: number;
    readonly pause: PauseRule;
    readonly seed: bigint;
    readonly sbi: boolean;
    readonly symbols: Readonly<Record<string, number>>;
    /** Sizes in bytes. */
    readonly disks: readonly bigint[];
  };
  readonly clock: { readonly now: bigint; readonly fraction: number; readonly tickOffset: bigint };
  readonly schedule: ScheduleState;
  readonly stopped: readonly boolean[];
  readonly skipIdle: boolean;
  readonly exit: Exit | undefined;
  /** What is left of them. */
  readonly hints: HintQuotas;
  readonly harts: readonly HartState[];
  readonly firmware: unknown;
  readonly devices: Readonly<Record<string, unknown>>;
}

export interface MachineState extends MachineRecord {
  readonly ram: readonly RamPiece[];
}

const PIECE_PAGES = 4096;

export function saveMachine(machine: Machine): MachineState {
  return { ...recordMachine(machine), ram: saveRam(machine) };
}

export function recordMachine(machine: Machine): MachineRecord {
  requireExact(machine.engine);
  const { options, schedule, clock, hartSet, symbols } = machine;
  return {
    version: 3,
    configuration: {
      memory: options.memory,
      harts: options.harts,
      slice: schedule.slice,
      stepsPerNanosecond: clock.stepsPerNanosecond,
      pause: schedule.pause,
      seed: options.seed,
      sbi: machine.monitorSbi,
      symbols: {
        ...(symbols.tohost === undefined ? {} : { tohost: symbols.tohost }),
        ...(symbols.fromhost === undefined ? {} : { fromhost: symbols.fromhost }),
        ...(symbols.signature ? { signatureBegin: symbols.signature.begin, signatureEnd: symbols.signature.end } : {}),
      },
      disks: (options.disks ?? []).map((disk) => disk.backend.size),
    },
    clock: { now: clock.now, fraction: Number(clock.fraction), tickOffset: clock.tickOffset },
    schedule: schedule.save(),
    stopped: [...machine.stopped],
    skipIdle: machine.skipIdle,
    exit: machine.exit,
    hints: machine.hints.quotas,
    harts: Array.from({ length: options.harts }, (_, hart) => saveHart(hartSet.record(hart))),
    firmware: machine.sbi.save(),
    devices: Object.fromEntries([...machine.platform.devices].map(([name, device]) => [name, device.save()])),
  };
}

function saveRam({ ram, engine }: Machine): RamPiece[] {
  const { pool } = engine;
  const pieces: RamPiece[] = [];
  let pages: number[] = [];
  const flush = () => {
    if (pages.length === 0) return;
    const content = new Uint8Array(pages.length * PAGE);
    pages.forEach((page, i) => {
      const host = (ram.entry(page) & ENTRY_FRAME) * PAGE;
      content.set(pool.bytes.subarray(host, host + PAGE), i * PAGE);
    });
    pieces.push({ pages: Uint32Array.from(pages), content });
    pages = [];
  };
  for (let page = 0; page < ram.pages; page++) {
    let entry = ram.entry(page);
    if (entry & ENTRY_REMOTE) {
      ram.prepare(page, false);
      entry = ram.entry(page);
    }
    if ((entry & ENTRY_FRAME) === 0 || isZero(pool.words, ((entry & ENTRY_FRAME) * PAGE) / 4)) continue;
    pages.push(page);
    if (pages.length === PIECE_PAGES) flush();
  }
  flush();
  return pieces;
}

function isZero(words: Uint32Array, from: number): boolean {
  for (let i = from; i < from + PAGE / 4; i++) if (words[i] !== 0) return false;
  return true;
}

/** What a restored machine is attached to: the same disks, in the same order. */
export type Attachments = Pick<MachineOptions, 'disks' | 'net' | 'epoch'>;

/** Makes a machine from a record, which may come from anywhere. Throws `StateError`, and frees what it had taken. */
export function restoreMachine(
  engine: Engine,
  state: unknown,
  attachments: Attachments = {},
  outputs: Outputs = {},
): Machine {
  const record = new Fields(currentRecord(state), 'machine');
  const machine = machineOf(engine, record, attachments, outputs);
  try {
    fillMachine(machine, record);
    restoreRam(
      machine,
      record.list('ram', 0, 1 << 16, (item) => item),
    );
    record.end();
    machine.watchHostInterface();
    return machine;
  } catch (error) {
    machine.free();
    throw error;
  }
}

/** A record that may come from anywhere as this build writes it. Version 2 is of machines without a rule for `pause`. */
export function currentRecord(state: unknown): unknown {
  const record = state as Partial<Record<keyof MachineRecord, unknown>> | undefined;
  if (record?.version !== 2) return state;
  const { configuration, schedule } = record as { configuration: object; schedule?: { version?: unknown } };
  if (schedule?.version !== 1) return state;
  return {
    ...record,
    version: 3,
    configuration: { ...configuration, pause: PAUSE_WITHOUT_RULE },
    schedule: { ...schedule, version: 2, pauses: 1, spinning: 0 },
  };
}

/**
 * Whether a machine goes on as it did for the build that wrote the record: not where a device did otherwise. A saved
 * state may be used all the same, a replay may not.
 */
export function goesOnAsThere(record: unknown): boolean {
  const { devices } = (record ?? {}) as { devices?: { plic?: { version?: unknown } } };
  const version = devices?.plic?.version;
  return typeof version !== 'number' || version >= PLIC_VERSION;
}

/** A machine with the configuration of a record, and RAM that is there already or is to come. */
export function machineOf(
  engine: Engine,
  record: Fields,
  attachments: Attachments,
  outputs: Outputs,
  ram?: MapRoots,
): Machine {
  record.version(3);
  const configuration = new Fields(record.record('configuration'), 'machine.configuration');
  const options: MachineOptions = {
    ...attachments,
    boot: { kind: 'bare', image: new Uint8Array(0) },
    memory: configuration.integer('memory', 0, Number.MAX_SAFE_INTEGER),
    harts: configuration.integer('harts', 1, 8),
    slice: configuration.integer('slice', 1, 2 ** 30),
    stepsPerNanosecond: configuration.integer('stepsPerNanosecond', 1, MAX_STEPS_PER_NANOSECOND),
    pause: restorePause(configuration.record('pause')),
    seed: configuration.u64('seed'),
    hints: restoreQuotas(record.record('hints')),
  };
  const monitorSbi = configuration.flag('sbi');
  const symbols = restoreSymbols(configuration.record('symbols'), options.memory);
  const disks = configuration.list('disks', 0, 8, (item) => item);
  configuration.end();
  try {
    checkOptions(options);
  } catch (error) {
    throw new StateError('machine.configuration', (error as Error).message);
  }
  const attached = (attachments.disks ?? []).map((disk) => disk.backend.size);
  if (attached.length !== disks.length || attached.some((size, n) => size !== disks[n])) {
    throw new StateError(
      'machine.configuration.disks',
      `the machine had disks of [${disks.map(String).join(', ')}] bytes, attached are [${attached.join(', ')}]`,
    );
  }
  return new Machine(engine, options, outputs, {
    kind: 'restore',
    monitorSbi,
    symbols,
    ...(ram === undefined ? {} : { ram }),
  });
}

function restorePause(value: unknown): PauseRule {
  const fields = new Fields(value, 'machine.configuration.pause');
  const steps = fields.integer('steps', 0, MAX_PAUSE.steps);
  const spins = fields.integer('spins', 0, MAX_PAUSE.spins);
  const turn = fields.integer('turn', 0, MAX_PAUSE.turn);
  fields.end();
  return { steps, spins, turn };
}

function restoreSymbols(value: unknown, memory: number): Machine['symbols'] {
  if (typeof value !== 'object' || value === null)
    throw new StateError('machine.configuration.symbols', 'is no record');
  const fields = new Fields(value, 'machine.configuration.symbols');
  const end = RAM_BASE + memory - 8;
  const address = (name: string) => (name in value ? fields.integer(name, RAM_BASE, end) : undefined);
  const tohost = address('tohost');
  const fromhost = address('fromhost');
  const begin = address('signatureBegin');
  const last = address('signatureEnd');
  fields.end();
  return {
    ...(tohost === undefined ? {} : { tohost }),
    ...(fromhost === undefined ? {} : { fromhost }),
    ...(begin === undefined || last === undefined ? {} : { signature: { begin, end: last } }),
  };
}

/** Takes all of a record into a machine but its configuration and its RAM. */
export function fillMachine(machine: Machine, record: Fields): void {
  const { options, clock, schedule, hartSet, platform } = machine;
  const time = new Fields(record.record('clock'), 'machine.clock');
  clock.now = time.u64('now', (1n << 63n) - 1n);
  clock.fraction = BigInt(time.integer('fraction', 0, clock.stepsPerNanosecond - 1));
  clock.tickOffset = time.u64('tickOffset');
  time.end();
  const turn = new Fields(record.record('schedule'), 'machine.schedule');
  turn.version(2);
  schedule.restore({
    version: 2,
    round: turn.u64('round'),
    hart: turn.integer('hart', 0, options.harts - 1),
    step: turn.integer('step', 0, schedule.slice - 1),
    pauses: turn.integer('pauses', 1, Math.max(1, schedule.pause.spins)),
    spinning: turn.integer('spinning', 0, options.harts),
  });
  turn.end();
  record.values('stopped', options.harts, options.harts, FLAGS).forEach((stopped, hart) => {
    machine.stopped[hart] = stopped;
  });
  machine.skipIdle = record.flag('skipIdle');
  machine.exit = restoreExit(record.record('exit'));
  const devices = new Fields(record.record('devices'), 'machine.devices');
  for (const [name, device] of platform.devices) device.restore(devices.record(name));
  devices.end();
  machine.sbi.restore(record.record('firmware'));
  // Last: devices drive their interrupt lines while they are restored, and these are part of the harts' records.
  record
    .list('harts', options.harts, options.harts, (item) => item)
    .forEach((state, hart) => {
      restoreHart(state, `machine.harts[${hart}]`, hartSet.record(hart));
    });
}

function restoreExit(value: unknown): Exit | undefined {
  if (value === undefined) return undefined;
  const record = new Fields(value, 'machine.exit');
  const kind = record.record('kind');
  const code = record.integer('code', 0, 0xffff_ffff);
  record.end();
  if (kind !== 'poweroff' && kind !== 'reboot' && kind !== 'fail' && kind !== 'tohost') {
    throw new StateError('machine.exit.kind', 'is none of poweroff, reboot, fail, tohost');
  }
  return { kind, code };
}

function restoreRam({ ram }: Machine, pieces: readonly unknown[]): void {
  let previous = -1;
  pieces.forEach((piece, n) => {
    const where = `machine.ram[${n}]`;
    const record = new Fields(piece, where);
    const pages = record.record('pages');
    if (!(pages instanceof Uint32Array) || pages.length > PIECE_PAGES) {
      throw new StateError(`${where}.pages`, `expected at most ${PIECE_PAGES} page numbers`);
    }
    // Not through `bytes`, which copies: these are the machine's megabytes, and each page is copied once, below.
    const content = record.record('content');
    if (!(content instanceof Uint8Array) || content.length !== pages.length * PAGE) {
      throw new StateError(`${where}.content`, `expected ${pages.length * PAGE} bytes`);
    }
    record.end();
    pages.forEach((page, i) => {
      if (page <= previous || page >= ram.pages) throw new StateError(`${where}.pages[${i}]`, `cannot be ${page}`);
      previous = page;
      ram.write(RAM_BASE + page * PAGE, content.subarray(i * PAGE, (i + 1) * PAGE));
    });
  });
}

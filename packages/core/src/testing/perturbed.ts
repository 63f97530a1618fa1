/**
 * One comparison for all tests of I2, I3, I4 and I6: a run that is perturbed in every way that a guest must not see, against the same run
 * left alone. At each stop of the perturbed machine its twin goes to the same number of steps in one piece, and all of both is compared:
 * each hart's registers, position, clock, and the state hash.
 */

import assert from 'node:assert/strict';
import { becomeForkPoint, type ForkPoint, forkPoint, freeForkPoint } from '../branch/fork-point.ts';
import { MemoryBackend } from '../devices/virtio-block/backend.ts';
import { FrameBlocks } from '../disk/frame-blocks.ts';
import { OverlayBackend } from '../disk/overlay.ts';
import { type AccessTrace, Engine, type EngineOptions } from '../engine/engine.ts';
import { saveHart } from '../hart/record.ts';
import { stateHash, visibleState } from '../machine/hash.ts';
import type { Interception } from '../machine/interceptions.ts';
import { formatPosition, LogReader } from '../machine/log.ts';
import type { Machine, Outputs } from '../machine/machine.ts';
import type { Stop } from '../machine/options.ts';
import { type Attachments, recordMachine } from '../machine/save.ts';
import { Pool, PoolFullError } from '../memory/pool.ts';
import { type Journal, randomEvent } from './inputs.ts';
import { reborn, runSteps } from './machines.ts';
import { type Mishap, MishapError } from './mishap.ts';
import type { Random } from './random.ts';

/** What is done to a machine between two pieces of its run. */
export const DISTURBANCES = [
  'stop',
  'nothing',
  'drop',
  'shadows',
  'reborn',
  'move',
  'hash',
  'other',
  'fork',
  'reset',
  'input',
] as const;
export type Disturbance = (typeof DISTURBANCES)[number];

/** How a piece is made to end before its steps are made, or what listens meanwhile. */
export const PROVOCATIONS = [
  'none',
  'attention',
  'breakpoint',
  'condition',
  'watchpoint',
  'trace',
  'system-call',
  'replay-only',
  'own',
  'full',
  'time',
  'no-jump',
  'account',
  'throw',
] as const;
export type Provocation = (typeof PROVOCATIONS)[number];

/** Pages of code that a worker may hold, and shadow tables of each kind that a hart may have: from the least that can be had. */
const TINY: readonly { readonly codePages: number; readonly options: EngineOptions }[] = [
  { codePages: 1, options: { translate: false, tables: 1 } },
  { codePages: 2, options: { translate: { hotness: 1, batch: 1 }, tables: 1 } },
  { codePages: 5, options: { translate: { hotness: 2, batch: 3, patience: 2, bytes: 20_000 }, tables: 2 } },
  { codePages: 20, options: { translate: { hotness: 8, batch: 3, patience: 1 }, tables: 3 } },
  { codePages: Number.MAX_SAFE_INTEGER, options: { translate: { hotness: 1, batch: 1, patience: 1 } } },
  { codePages: Number.MAX_SAFE_INTEGER, options: { translate: false } },
];
/** Frames of such a pool: some machines of few pages, and what forks of them have to find free. */
const FRAMES = 9000;
const tiny: Engine[] = [];

/** Engines with the smallest caches, and with early translation, each in a pool of its own; and one to compare with. */
export function perturbedEngines(): readonly Engine[] {
  if (tiny.length === 0)
    for (const { codePages, options } of TINY) tiny.push(new Engine(new Pool(FRAMES, codePages), 0, options));
  return tiny;
}

/** All of a machine that two equal runs have in common at a position. */
export function stateOf(machine: Machine) {
  return {
    steps: machine.totalSteps,
    position: formatPosition(machine.position),
    now: machine.now,
    fraction: machine.clock.fraction,
    exit: machine.exit,
    harts: Array.from({ length: machine.harts }, (_, hart) => saveHart(machine.hartSet.record(hart))),
    hash: stateHash(machine),
  };
}

/** A machine that runs beside another one, in one piece from stop to stop, and is the same there. It is freed by `free`. */
export class Twin {
  private readonly machine: Machine;
  private readonly journal: Journal | undefined;

  /** With a journal, what comes from outside comes from there. */
  constructor(machine: Machine, journal?: Journal) {
    this.machine = machine;
    this.journal = journal;
    journal?.feed(machine);
  }

  /** Fails, with what differs, unless both are the same at the other's position. */
  compare(other: Machine, what = ''): void {
    this.journal?.gather(other);
    runSteps(this.machine, Number(other.totalSteps - this.machine.totalSteps));
    const [found, expected] = [stateOf(other), stateOf(this.machine)];
    if (found.hash === expected.hash && found.steps === expected.steps) return;
    const whole = (state: typeof found, of: Machine) => ({ ...state, ...visibleState(recordMachine(of)) });
    assert.deepEqual(whole(found, other), whole(expected, this.machine), what);
  }

  free(): void {
    this.machine.free();
  }
}

export interface PerturbOptions {
  /** About how many pieces. Default 12. */
  readonly pieces?: number;
  readonly kinds?: readonly Disturbance[];
  readonly provocations?: readonly Provocation[];
  /** A machine that has its turns on the same engine. */
  readonly other?: Machine;
  /** Engines that the machine may move to, of any pool. Default: those of `perturbedEngines`. */
  readonly engines?: readonly Engine[];
  /** Compared with at each stop. */
  readonly twin?: Twin;
  /** What comes from outside comes at random, and is kept here; without one nothing comes. */
  readonly journal?: Journal;
  /** The same machine from its beginning, on no engine of `engines`: compared with now and then, in one piece. */
  readonly anew?: () => Machine;
  readonly outputs?: Mishap;
}

/** Enough for every piece; but an agent's client may wake up for ever. */
const BOUNDED = { bytes: Number.POSITIVE_INFINITY, work: 1e6 };

/**
 * Runs `steps` steps in pieces of random length, has them end in every way, and disturbs the machine between them. Gives the machine back,
 * which may be a new one.
 */
export function disturb(start: Machine, steps: number, choices: Random, options: PerturbOptions = {}): Machine {
  const {
    pieces = 12,
    kinds = DISTURBANCES,
    provocations = PROVOCATIONS,
    other,
    twin,
    journal,
    anew,
    outputs,
  } = options;
  const engines = options.engines ?? perturbedEngines();
  let machine = start;
  const end = machine.totalSteps + BigInt(steps);
  const held: { point: ForkPoint; pool: Pool }[] = [];
  const trail: string[] = [];
  let idles = 0;
  while (machine.totalSteps < end) {
    const left = Number(end - machine.totalSteps);
    // Short pieces are as interesting as long ones.
    const wanted = choices.chance(0.5) ? 1 + choices.below(Math.ceil((2 * steps) / pieces)) : 1 + choices.below(40);
    const piece = Math.min(left, wanted);
    const provocation = choices.pick(provocations);
    const before = machine.totalSteps;
    if (journal) machine.account.allowance = BOUNDED;
    let stop = provoked(machine, piece, provocation, choices, outputs);
    // Not all of the boundary has been done: the rest of it may be an idle gap without an end.
    for (let n = 0; stop.reason === 'attention' && n < 5; n++) {
      if (n === 3 && journal) machine.input({ kind: 'skip-idle', on: false });
      stop = machine.run(0);
    }
    trail.push(`${provocation} ${piece}: ${stop.reason} at ${machine.totalSteps}`);
    const what = () => `after ${trail.slice(-8).join('; ')}`;
    twin?.compare(machine, what());
    if (anew && choices.chance(0.2)) {
      const fresh = new Twin(anew(), journal);
      fresh.compare(machine, `anew, ${what()}`);
      fresh.free();
    }
    const kind = choices.pick(kinds);
    trail.push(kind);
    switch (kind) {
      case 'stop':
        break;
      case 'nothing':
        machine.run(0);
        break;
      case 'drop':
        machine.engine.dropCaches();
        break;
      case 'shadows':
        machine.engine.attach(machine);
        machine.engine.dropShadows();
        break;
      case 'reborn':
        machine = moved(machine, machine.engine, outputs);
        break;
      case 'move':
        machine = moved(machine, choices.pick(engines), outputs);
        break;
      case 'hash':
        stateHash(machine);
        break;
      case 'other':
        if (other) runSteps(other, 1 + choices.below(3000));
        break;
      case 'fork':
        // As a keyframe, or a clone that goes on living: what is written from now on is copied.
        held.push({ point: forkPoint(machine), pool: machine.engine.pool });
        if (held.length > 3) release(held.splice(0, 1));
        break;
      case 'reset':
        goAndComeBack(machine, 1 + choices.below(500));
        break;
      case 'input':
        if (journal) for (let n = choices.below(3); n >= 0; n--) machine.input(randomEvent(choices));
        break;
    }
    if (kind !== 'stop') twin?.compare(machine, what());
    const sleeps =
      stop.reason === 'idle' || (stop.reason === 'attention' && piece > 0 && machine.totalSteps === before);
    if (sleeps && journal && idles++ < 40) {
      // As a host does: the time of a part of the gap, of all of it or more has gone by; or something else comes.
      const until = stop.reason === 'idle' ? stop.until : undefined;
      const gap = until === undefined ? 1000n : until - machine.now;
      if (choices.chance(0.5)) machine.input({ kind: 'time', advance: (gap * BigInt(1 + choices.below(12))) / 8n });
      else machine.input(randomEvent(choices));
      continue;
    }
    if (stop.reason === 'exit' || stop.reason === 'idle' || stop.reason === 'stalled') break;
  }
  release(held);
  return machine;
}

/** A machine that is saved and restored keeps its disks; those that can be written are copied, as their blocks are of a pool. */
function attached({ options: { disks = [], net }, platform }: Machine, { pool }: Engine): Attachments {
  const kept = disks.map((disk, n) => {
    const { inner } = platform.backends[n]!;
    if (inner.readOnly) return disk;
    const content = new Uint8Array(Number(inner.size));
    inner.read(0, content);
    return { ...disk, backend: overlayDisk(content, pool) };
  });
  return { disks: kept, ...(net && { net }) };
}

function moved(machine: Machine, engine: Engine, outputs?: Outputs): Machine {
  return reborn(machine, engine, attached(machine, engine), outputs);
}

/** A disk that can be written and forked. */
export function overlayDisk(content: Uint8Array, pool: Pool): OverlayBackend {
  const base = new MemoryBackend(content);
  return new OverlayBackend(base, new FrameBlocks(pool, base.size), { frozen: true });
}

function release(held: readonly { point: ForkPoint; pool: Pool }[]): void {
  for (const { point, pool } of held) freeForkPoint(pool, point);
}

/** One run of a machine, which ends as the provocation has it, or after so many steps. Nothing of it stays with the machine. */
function provoked(
  machine: Machine,
  steps: number,
  provocation: Provocation,
  choices: Random,
  outputs: Mishap | undefined,
): Stop {
  const { breakpoints, watchpoints, interceptions, traces, hartSet } = machine;
  const hart = choices.below(machine.harts);
  const undo: (() => void)[] = [];
  const breakAt = (condition?: () => boolean) => {
    // Near by, or where a page begins, which is walked to for it.
    const pc = hartSet.get(hart, 'pc');
    const near = pc + 2n * BigInt(choices.below(60));
    const edge = (pc & -4096n) + 4096n * BigInt(choices.below(4)) - 2n * BigInt(choices.below(2));
    const address = BigInt.asUintN(64, choices.chance(0.5) ? near : edge);
    const id = breakpoints.add(condition ? { address, condition } : { address });
    undo.push(() => breakpoints.delete(id));
  };
  const intercept = (interception: Interception) => {
    const id = interceptions.add(interception);
    undo.push(() => interceptions.delete(id));
  };
  switch (provocation) {
    case 'none':
      break;
    case 'attention':
      machine.interrupt();
      break;
    case 'breakpoint':
      for (let n = choices.below(4); n >= 0; n--) breakAt();
      break;
    case 'condition':
      breakAt(() => machine.stepsNow % 7n === 3n && machine.now >= 0n);
      break;
    case 'watchpoint': {
      // Where a register points to, as it is or as physical memory.
      const address = hartSet.getX(hart, choices.between(1, 31)) & 0x7fff_ffff_ffff_ffffn;
      const on = choices.pick(['read', 'write', 'access'] as const);
      const id = watchpoints.add({ address, length: 1 + choices.below(64), on, physical: choices.chance(0.5) });
      undo.push(() => watchpoints.delete(id));
      break;
    }
    case 'trace': {
      const trace: AccessTrace = { touched: () => choices.chance(0.5) };
      traces.add(trace);
      undo.push(() => traces.delete(trace));
      break;
    }
    case 'system-call':
    case 'replay-only':
      intercept(
        choices.chance(0.5) ? { kind: provocation } : { kind: provocation, condition: () => choices.chance(0.3) },
      );
      break;
    case 'own':
      return machine.run(steps, { hart, steps: 1 + choices.below(steps) });
    case 'full':
      return runFull(machine, steps, choices.below(4));
    case 'time':
      machine.timeLimit = machine.now + BigInt(choices.pick([0, 1, 2, 50, 100, 3000]));
      undo.push(() => {
        machine.timeLimit = undefined;
      });
      break;
    case 'no-jump': {
      machine.mayJump = () => choices.chance(0.5);
      const stop = machine.run(steps);
      machine.mayJump = undefined;
      // The gap is a part of the run to whoever may jump it.
      return stop.reason === 'idle' ? machine.run(0) : stop;
    }
    case 'account': {
      const { allowance } = machine.account;
      undo.push(() => {
        machine.account.allowance = allowance;
      });
      machine.account.allowance = { bytes: choices.pick([0, 300, 1e9]), work: choices.pick([0, 500, 20_000]) };
      break;
    }
    case 'throw':
      if (!outputs) break;
      outputs.choices = choices;
      try {
        return machine.run(steps);
      } catch (error) {
        if (!(error instanceof MishapError)) throw error;
        return { reason: 'steps' };
      } finally {
        outputs.choices = undefined;
      }
  }
  const stop = machine.run(steps);
  for (const each of undo) each();
  return stop;
}

/** Runs while a small pool has hardly a frame left; the step for which there was none is the next one. */
function runFull(machine: Machine, steps: number, room: number): Stop {
  const { pool } = machine.engine;
  if (pool.available > FRAMES) return machine.run(steps);
  const ballast: number[] = [];
  while (pool.available > room) ballast.push(pool.allocate());
  let stop: Stop | undefined;
  try {
    stop = machine.run(steps);
  } catch (error) {
    if (!(error instanceof PoolFullError)) throw error;
  } finally {
    for (const frame of ballast) pool.release(frame);
  }
  // What was due there may have been left.
  return stop ?? machine.run(0);
}

/** Runs on, and is then reset to where it was. */
function goAndComeBack(machine: Machine, steps: number): void {
  const point = forkPoint(machine);
  const { following } = machine;
  const events = machine.log.events.slice();
  const waiting = machine.takeInputs();
  machine.follow(following && new LogReader(following.log, following.index));
  machine.run(steps);
  becomeForkPoint(machine, point);
  machine.log.events.push(...events);
  machine.follow(following);
  for (const input of waiting) machine.input(input);
  freeForkPoint(machine.engine.pool, point);
}

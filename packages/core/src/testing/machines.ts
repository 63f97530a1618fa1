/** What tests of whole machines stand on: engines made once a process, seeds, ways to disturb a run, the default guest. */

import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type fc from 'fast-check';
import { Engine, type EngineOptions } from '../engine/engine.ts';
import { stateHash } from '../machine/hash.ts';
import { LogReader } from '../machine/log.ts';
import { Machine, type Outputs } from '../machine/machine.ts';
import type { MachineOptions, Stop } from '../machine/options.ts';
import { type Attachments, restoreMachine, saveMachine } from '../machine/save.ts';
import { Pool } from '../memory/pool.ts';
import { decodeState, encodeState } from '../state/encode.ts';
import { buildProgram, type Recipe } from './programs.ts';
import type { Random } from './random.ts';

/** Where random tests start: `npm test` sets and prints it. */
export const SEED = Number(process.env.BRAID_SEED ?? 1) >>> 0;

/** Parameters of a property with so many runs; fast-check prints seed and path of a failure. */
export function runs<T>(numRuns: number): fc.Parameters<T> {
  return { seed: SEED | 0, numRuns, endOnFailure: true };
}

/** What tests have translated, by BRAID_TRANSLATE. */
const MODES: Record<string, NonNullable<EngineOptions['translate']>> = {
  /** The interpreter does everything. */
  '0': false,
  /** As users have it. */
  '1': true,
  /** Everything at the first arrival: many small regions, cut off at what has not run yet. */
  eager: { hotness: 1, batch: 1, patience: 1 },
  /** After some turns, so that loops are whole; in batches. */
  soon: { hotness: 5, batch: 3, patience: 2 },
};

function engineOptions(): EngineOptions {
  const mode = process.env.BRAID_TRANSLATE || '1';
  const translate = MODES[mode];
  if (translate === undefined) throw new TypeError(`BRAID_TRANSLATE is one of ${Object.keys(MODES).join(', ')}`);
  return { translate };
}

/** Options of every engine that a test makes without an opinion of its own. */
export const ENGINE_OPTIONS = engineOptions();

let pool: Pool | undefined;
const engines: Engine[] = [];

/** An engine of the process's pool; each has its own worker area. */
export function sharedEngine(worker = 0): Engine {
  pool ??= new Pool();
  engines[worker] ??= new Engine(pool, worker, ENGINE_OPTIONS);
  return engines[worker];
}

export const MEMORY = 32 * 2 ** 20;

/** A machine about to run a flat image in M-mode, idle gaps being jumped over. */
export function bareMachine(
  image: Uint8Array,
  options: Partial<MachineOptions> = {},
  outputs: Outputs = {},
  engine = sharedEngine(),
): Machine {
  const machine = new Machine(
    engine,
    { boot: { kind: 'bare', image }, memory: MEMORY, harts: 1, seed: 1n, ...options },
    outputs,
  );
  machine.input({ kind: 'skip-idle', on: true });
  return machine;
}

/** A machine about to run a generated program. */
export function recipeMachine(recipe: Recipe, options: Partial<MachineOptions> = {}, engine = sharedEngine()): Machine {
  const { image } = buildProgram(recipe);
  const { harts, sbi } = recipe;
  if (!sbi) return bareMachine(image, { harts, ...options }, {}, engine);
  return bareMachine(image, { harts, boot: { kind: 'linux', kernel: image }, ...options }, {}, engine);
}

/** The machine after a trip through bytes, on with the log that it followed; the old one is freed. */
export function reborn(
  machine: Machine,
  engine = machine.engine,
  attachments: Attachments = {},
  outputs: Outputs = {},
): Machine {
  const bytes = encodeState(saveMachine(machine));
  const log = machine.following;
  machine.free();
  const restored = restoreMachine(engine, decodeState(bytes), attachments, outputs);
  restored.follow(log && new LogReader(log.log, log.index));
  return restored;
}

/** Runs exactly `steps` steps, or up to the machine's end. */
export function runSteps(machine: Machine, steps: number): Stop {
  const target = machine.totalSteps + BigInt(steps);
  for (;;) {
    const stop = machine.run(Number(target - machine.totalSteps));
    if (stop.reason === 'exit' || stop.reason === 'idle' || stop.reason === 'stalled') return stop;
    if (machine.totalSteps >= target) return stop;
  }
}

/** What `disturb` does between two pieces of a run; nothing of it may be seen by the guest. */
export const DISTURBANCES = ['stop', 'drop', 'reborn', 'move', 'hash', 'other'] as const;

/**
 * Runs `steps` steps in pieces of random length and disturbs the machine between them: drops caches, saves and restores it, on
 * another engine too, hashes it, and lets another machine run on its engine. Gives the machine back, which may be a new one.
 */
export function disturb(
  start: Machine,
  steps: number,
  choices: Random,
  options: {
    pieces?: number;
    kinds?: readonly (typeof DISTURBANCES)[number][];
    other?: Machine;
    engines?: readonly Engine[];
  } = {},
): Machine {
  const { pieces = 12, kinds = DISTURBANCES, other, engines = [start.engine] } = options;
  let machine = start;
  const end = machine.totalSteps + BigInt(steps);
  while (machine.totalSteps < end) {
    const left = Number(end - machine.totalSteps);
    // Short pieces are as interesting as long ones.
    const piece = choices.chance(0.5) ? 1 + choices.below(Math.ceil((2 * steps) / pieces)) : 1 + choices.below(40);
    const stop = runSteps(machine, Math.min(left, piece));
    switch (choices.pick(kinds)) {
      case 'stop':
        break;
      case 'drop':
        machine.engine.dropCaches();
        break;
      case 'reborn':
        machine = reborn(machine);
        break;
      case 'move':
        machine = reborn(machine, choices.pick(engines));
        break;
      case 'hash':
        stateHash(machine);
        break;
      case 'other':
        if (other) runSteps(other, 1 + choices.below(3000));
        break;
    }
    if (stop.reason !== 'steps' && stop.reason !== 'attention' && stop.reason !== 'hint') break;
  }
  return machine;
}

const PREBUILT = new URL('../../../../guest/prebuilt/', import.meta.url);

let guest: { kernel: Uint8Array; initrd: Uint8Array } | undefined;

/** Why there is no default guest, or false. */
export const guestMissing: string | false =
  !existsSync(new URL('Image.gz', PREBUILT)) && 'guest/prebuilt has no kernel: run guest/build.sh';

/** The default guest's kernel, unpacked, and its root file system. */
export function defaultGuest(): { kernel: Uint8Array; initrd: Uint8Array } {
  guest ??= {
    kernel: gunzipSync(readFileSync(new URL('Image.gz', PREBUILT))),
    initrd: readFileSync(new URL('initramfs.cpio.gz', PREBUILT)),
  };
  return guest;
}

export function linuxMachine(
  options: Partial<MachineOptions> = {},
  outputs: Outputs = {},
  engine = sharedEngine(),
): Machine {
  const machine = new Machine(
    engine,
    {
      boot: { kind: 'linux', ...defaultGuest(), append: 'console=ttyS0 quiet' },
      memory: 128 * 2 ** 20,
      harts: 1,
      seed: 7n,
      ...options,
    },
    outputs,
  );
  machine.input({ kind: 'skip-idle', on: true });
  return machine;
}

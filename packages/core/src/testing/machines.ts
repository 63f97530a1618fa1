/** What tests of whole machines stand on: engines made once a process, seeds, ways to disturb a run, the default guest. */

import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type fc from 'fast-check';
import { Engine, type EngineOptions } from '../engine/engine.ts';
import { LogReader } from '../machine/log.ts';
import { Machine, type Outputs } from '../machine/machine.ts';
import type { MachineOptions, Stop } from '../machine/options.ts';
import { type Attachments, restoreMachine, saveMachine } from '../machine/save.ts';
import { Pool } from '../memory/pool.ts';
import { decodeState, encodeState } from '../state/encode.ts';
import { buildProgram, type Recipe } from './programs.ts';

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

/** Runs one program on the interpreter and on engines that translate, and compares them at the same positions. */

import assert from 'node:assert/strict';
import { Engine } from '../../packages/core/src/engine/engine.ts';
import type { TranslationLimits } from '../../packages/core/src/engine/translator/translator.ts';
import { saveHart } from '../../packages/core/src/hart/record.ts';
import { stateHash } from '../../packages/core/src/machine/hash.ts';
import { formatPosition } from '../../packages/core/src/machine/log.ts';
import type { Machine } from '../../packages/core/src/machine/machine.ts';
import { Pool } from '../../packages/core/src/memory/pool.ts';
import { LateService } from '../../packages/core/src/testing/late-service.ts';
import { reborn, runSteps } from '../../packages/core/src/testing/machines.ts';
import type { Random } from '../../packages/core/src/testing/random.ts';

interface Choice extends Partial<TranslationLimits> {
  /** Translations are made elsewhere: they are of the code as it is when asked for, and arrive after so many runs. */
  readonly late?: number;
}

/** From everything at once to what users have; `bytes` so few that regions are given up all the time. */
export const TRANSLATING: readonly Choice[] = [
  { hotness: 1, batch: 1 },
  { hotness: 1, batch: 3, patience: 2 },
  { hotness: 8, batch: 12, patience: 3 },
  { hotness: 24, batch: 1 },
  { hotness: 64, batch: 3, patience: 1 },
  { hotness: 64, batch: 12, patience: 8 },
  { hotness: 20, batch: 1, bytes: 20_000 },
  { hotness: 40, batch: 3, patience: 1, bytes: 60_000 },
  { hotness: 1, batch: 1, late: 1 },
  { hotness: 24, batch: 3, patience: 2, late: 3 },
  { hotness: 8, batch: 1, late: 9 },
  {},
];

let pool: Pool | undefined;
const engines: Engine[] = [];

/** Engines of one pool: the interpreter alone is 0, the others are those of TRANSLATING. */
export function engineOf(n: number): Engine {
  pool ??= new Pool();
  return (engines[n] ??= makeEngine(pool, n));
}

function makeEngine(pool: Pool, n: number): Engine {
  if (n === 0) return new Engine(pool, n, { translate: false });
  const { late, ...translate } = TRANSLATING[n - 1]!;
  return new Engine(pool, n, { translate, ...(late ? { service: new LateService(pool, late) } : {}) });
}

/** What is compared at a stop: all of it in registers, memory and devices by hash. */
function summary(machine: Machine, withHash: boolean) {
  return {
    steps: machine.totalSteps,
    position: formatPosition(machine.position),
    harts: Array.from({ length: machine.harts }, (_, hart) => {
      const { x, f, fields } = saveHart(machine.hartSet.record(hart));
      return { x, f, fields };
    }),
    hash: withHash ? stateHash(machine) : '',
  };
}

/** Positions to stop at, in steps: many of them close together. */
export function stopsOf(choices: Random, steps: number, count: number): number[] {
  const stops = [steps];
  for (let n = 0; n < count; n++) {
    const at = choices.below(steps);
    stops.push(at);
    for (let near = choices.below(3); near > 0; near--) stops.push(Math.min(steps, at + choices.below(12)));
  }
  return [...new Set(stops)].sort((x, y) => x - y).slice(1);
}

/** How a run is disturbed at its stops. */
export interface Disturbances {
  readonly choices: Random;
  /** Engines that the machine may move to. */
  readonly engines: readonly Engine[];
  /** How often caches are dropped, or the machine is saved and restored. */
  readonly often: number;
}

function run(
  start: Machine,
  stops: readonly number[],
  disturb: Disturbances | undefined,
  check: (n: number, found: unknown) => void,
) {
  let machine = start;
  try {
    for (const [n, stop] of stops.entries()) {
      const wanted = stop - Number(machine.totalSteps);
      const end = wanted > 0 ? runSteps(machine, wanted).reason : 'steps';
      check(n, summary(machine, n % 4 === 3 || n === stops.length - 1 || end === 'exit'));
      if (end === 'exit' || end === 'idle') break;
      if (!disturb?.choices.chance(disturb.often)) continue;
      if (disturb.choices.chance(0.5)) machine.engine.dropCaches();
      else machine = reborn(machine, disturb.choices.pick(disturb.engines));
    }
  } finally {
    machine.free();
  }
}

/** What the interpreter alone gives at each stop. */
export function reference(machine: Machine, stops: readonly number[]): unknown[] {
  const found: unknown[] = [];
  run(machine, stops, undefined, (_, summary) => found.push(summary));
  return found;
}

/** Runs a machine likewise; throws, with the stop before which they part, unless everything is the same. */
export function compare(
  machine: Machine,
  stops: readonly number[],
  expected: readonly unknown[],
  disturb: Disturbances | undefined,
  what: string,
): void {
  run(machine, stops, disturb, (n, found) => {
    assert.deepEqual(found, expected[n], `${what}: differs between steps ${n ? stops[n - 1] : 0} and ${stops[n]}`);
  });
}

/** Runs one program on the interpreter and on engines that translate, and compares them at the same positions. */

import assert from 'node:assert/strict';
import { Engine, type EngineOptions } from '../../packages/core/src/engine/engine.ts';
import { saveHart } from '../../packages/core/src/hart/record.ts';
import { stateHash } from '../../packages/core/src/machine/hash.ts';
import { formatPosition } from '../../packages/core/src/machine/log.ts';
import type { Machine } from '../../packages/core/src/machine/machine.ts';
import { Pool } from '../../packages/core/src/memory/pool.ts';
import { reborn, runSteps } from '../../packages/core/src/testing/machines.ts';
import type { Random } from '../../packages/core/src/testing/random.ts';

/** From everything at once to what users have; `bytes` so few that regions are given up all the time. */
export const TRANSLATING: readonly EngineOptions['translate'][] = [
  { hotness: 1, batch: 1 },
  { hotness: 1, batch: 3, patience: 2 },
  { hotness: 2, batch: 12, patience: 3 },
  { hotness: 3, batch: 1 },
  { hotness: 8, batch: 3, patience: 1 },
  { hotness: 8, batch: 12, patience: 8, halfLife: 2000 },
  { hotness: 3, batch: 1, bytes: 20_000 },
  { hotness: 5, batch: 3, patience: 1, bytes: 60_000 },
  true,
];

let pool: Pool | undefined;
const engines: Engine[] = [];

/** Engines of one pool: the interpreter alone is 0, the others are those of TRANSLATING. */
export function engineOf(n: number): Engine {
  pool ??= new Pool();
  // Few shadow tables for the ones that translate: nothing depends on how many there are.
  engines[n] ??= new Engine(pool, n, n === 0 ? { translate: false } : { translate: TRANSLATING[n - 1]!, tables: n });
  return engines[n];
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

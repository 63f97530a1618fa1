/**
 * I2, I3, I4: however a run is cut into pieces, wherever caches are dropped, whenever the machine is saved and restored, whoever
 * else uses the engine: the same hash as in one straight run. On generated programs for 1 to 8 harts.
 *
 * `BRAID_SEED` repeats a failure; fast-check prints the recipe, and `buildProgram` makes the program from it again.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { recipeMachine, runSteps, runs, SEED, sharedEngine } from '../testing/machines.ts';
import { disturb, perturbedEngines, Twin } from '../testing/perturbed.ts';
import { buildProgram, type Recipe, SHARED_PAGE, TASKS } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import { stateHash } from './hash.ts';
import { formatPosition } from './log.ts';
import type { Machine } from './machine.ts';

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 1, max: 8 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(200),
});
/** Slices from absurdly short to longer than the run. */
const slice = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 41, max: 3000 }), fc.constant(200_000));
const choices = fc.integer({ min: 0, max: 0xffff_ffff }).map((seed) => new Random(seed));
const STEPS = 12_000;

interface Summary {
  readonly hash: string;
  readonly position: string;
}

function summary(machine: Machine): Summary {
  return { hash: stateHash(machine), position: formatPosition(machine.position) };
}

/** A schedule, and a clock that goes with it at any speed. */
const scheduled = (slice: number) => ({ slice, stepsPerNanosecond: 1 + (slice % 8) });

function straight(recipe: Recipe, slice: number): Summary {
  const machine = recipeMachine(recipe, scheduled(slice));
  runSteps(machine, STEPS);
  const result = summary(machine);
  machine.free();
  return result;
}

test(`runs in pieces, with caches dropped and saved machines, equal straight runs (seed ${SEED})`, () => {
  fc.assert(
    fc.property(recipe, slice, choices, (recipe, slice, choices) => {
      const expected = straight(recipe, slice);
      const twin = new Twin(recipeMachine(recipe, scheduled(slice)));
      const start = recipeMachine(recipe, scheduled(slice), choices.pick(perturbedEngines()));
      const machine = disturb(start, STEPS, choices, { twin });
      const found = summary(machine);
      machine.free();
      twin.free();
      assert.deepEqual(found, expected);
    }),
    runs(40),
  );
});

test('machines that take turns on one engine equal machines that have it alone', () => {
  fc.assert(
    fc.property(recipe, recipe, slice, choices, (first, second, slice, choices) => {
      const expected = [straight(first, slice), straight(second, slice)];
      const machines = [first, second].map((recipe) => recipeMachine(recipe, scheduled(slice)));
      const left = [STEPS, STEPS];
      while (left[0]! + left[1]! > 0) {
        const n = left[0] === 0 ? 1 : left[1] === 0 ? 0 : choices.below(2);
        const piece = Math.min(left[n]!, 1 + choices.below(choices.chance(0.5) ? 40 : 3000));
        const stop = runSteps(machines[n]!, piece);
        left[n] = stop.reason === 'exit' || stop.reason === 'idle' ? 0 : left[n]! - piece;
        if (choices.chance(0.1)) stateHash(choices.pick(machines));
      }
      const found = machines.map(summary);
      for (const machine of machines) machine.free();
      assert.deepEqual(found, expected);
    }),
    runs(60),
  );
});

test('a machine that moves between two engines of a pool, beside others, equals one that stays', () => {
  const engines = [sharedEngine(0), sharedEngine(1)];
  fc.assert(
    fc.property(recipe, recipe, slice, choices, (first, second, slice, choices) => {
      const expected = straight(first, slice);
      const others = engines.map((engine) => recipeMachine(second, { slice: 777 }, engine));
      let machine = recipeMachine(first, scheduled(slice));
      for (let left = STEPS; left > 0; ) {
        const piece = Math.min(left, 1 + choices.below(4000));
        const target = machine.totalSteps + BigInt(piece);
        machine = disturb(machine, piece, choices, { pieces: 3, engines, other: choices.pick(others) });
        left -= piece;
        if (machine.totalSteps < target) break;
      }
      const found = summary(machine);
      for (const each of [machine, ...others]) each.free();
      assert.deepEqual(found, expected);
    }),
    runs(60),
  );
});

test('the programs do all that they are for, wherever slices end', () => {
  const seen = new Uint8Array(4096);
  const view = new DataView(seen.buffer);
  const whole = recipe.map((recipe) => ({ ...recipe, rounds: 20, tasks: [...TASKS] }));
  fc.assert(
    fc.property(whole, slice, (recipe, slice) => {
      const machine = recipeMachine(recipe, { slice });
      // Twenty times what any of thousands needed: a program that goes astray goes on for ever.
      runSteps(machine, 2_000_000);
      assert.deepEqual(machine.exit, { kind: 'poweroff', code: 0 });
      machine.ram.read(buildProgram(recipe).base + 0x10_0000, seen);
      machine.free();
      assert.equal(view.getBigUint64(SHARED_PAGE.done, true), BigInt(recipe.harts));
      assert.equal(view.getBigUint64(SHARED_PAGE.pair, true), view.getBigUint64(SHARED_PAGE.pair + 8, true));
      assert.equal(view.getBigUint64(SHARED_PAGE.stampErrors, true), 0n);
    }),
    {
      ...runs(30),
      // Once without an end: in code that nobody had written, asleep behind a timer, with every reservation broken.
      examples: [
        [{ harts: 4, sbi: false, seed: 999_267_076, rounds: 60, tasks: [...TASKS] }, 500],
        [{ harts: 6, sbi: false, seed: 3_473_118_427, rounds: 20, tasks: [...TASKS] }, 744],
        [{ harts: 1, sbi: false, seed: 1_078_641_361, rounds: 20, tasks: [...TASKS] }, 1],
      ],
    },
  );
});

test('a pool has as many frames in use after all that as before', () => {
  const { pool } = sharedEngine();
  const before = pool.used;
  const machine = recipeMachine({ harts: 2, sbi: true, seed: 1, rounds: 5 });
  runSteps(machine, 5000);
  stateHash(machine);
  machine.free();
  assert.equal(pool.used, before);
});

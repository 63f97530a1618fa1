/**
 * Two runs that have to be equal (I2, I3, I4, I6): programs that tell the time in every place, and the generated ones of other tests, each
 * run as it is and run on engines with the smallest caches, stopped for every reason, and disturbed in every way. What that is, and what
 * else was tried, is in `docs/determinism-trials.md`.
 *
 * BRAID_SEED repeats a run; BRAID_FUZZ_PROGRAMS makes it longer.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryBackend } from '../packages/core/src/devices/virtio-block/backend.ts';
import type { Engine } from '../packages/core/src/engine/engine.ts';
import { stateHash } from '../packages/core/src/machine/hash.ts';
import type { Machine } from '../packages/core/src/machine/machine.ts';
import { plainMachine } from '../packages/core/src/testing/bare.ts';
import { clockProgram } from '../packages/core/src/testing/clock-program.ts';
import { driverProgram } from '../packages/core/src/testing/driver-program.ts';
import { Journal } from '../packages/core/src/testing/inputs.ts';
import { loopProgram } from '../packages/core/src/testing/loop-program.ts';
import { bareMachine, recipeMachine, runSteps, SEED, sharedEngine } from '../packages/core/src/testing/machines.ts';
import { Mishap } from '../packages/core/src/testing/mishap.ts';
import { modifyingProgram } from '../packages/core/src/testing/modifying-program.ts';
import { disturb, overlayDisk, perturbedEngines, Twin } from '../packages/core/src/testing/perturbed.ts';
import { PrivilegedProgram } from '../packages/core/src/testing/privileged-program.ts';
import { Random } from '../packages/core/src/testing/random.ts';
import { registerProgram } from '../packages/core/src/testing/register-program.ts';
import { WalkProgram } from '../packages/core/src/testing/walk-program.ts';

const PROGRAMS = Number(process.env.BRAID_FUZZ_PROGRAMS ?? 8);
const STEPS = 8000;

type Make = (engine?: Engine) => Machine;
const bare =
  (image: Uint8Array): Make =>
  (engine) =>
    plainMachine(image, {}, engine);

/** By kind: how many for each of PROGRAMS, and how one is made. */
const KINDS: Record<string, readonly [number, (random: Random) => Make]> = {
  clocks: [
    3,
    (random) => {
      const harts = random.pick([1, 1, 2, 5]);
      const mode = random.pick(['M', 'S', 'U'] as const);
      const image = clockProgram({ harts, mode, seed: random.u32(), perPage: random.below(9) });
      const slice = random.pick([29, 500, 20_000]);
      const stepsPerNanosecond = random.pick([1, 3]);
      return (engine) => bareMachine(image, { harts, slice, stepsPerNanosecond, hints: { mark: 100_000 } }, {}, engine);
    },
  ],
  'several harts': [
    1,
    (random) => {
      const recipe = { harts: random.between(1, 8), sbi: random.chance(0.5), seed: random.u32(), rounds: 200 };
      const slice = random.pick([1, 7, 300, 3000]);
      return (engine) => recipeMachine(recipe, { slice }, engine);
    },
  ],
  loops: [
    1,
    (random) => {
      const harts = random.pick([1, 2, 3]);
      const slice = random.pick([37, 1000, 20_000]);
      const image = loopProgram({ harts, paged: random.chance(0.7), seed: random.u32(), turns: 30 });
      return (engine) => bareMachine(image, { harts, slice }, {}, engine);
    },
  ],
  registers: [
    2,
    (random) => {
      const image = registerProgram(random, 600);
      const harts = random.pick([1, 2, 4]);
      const slice = random.pick([31, 700, 20_000]);
      const content = new Uint8Array(1 << 16);
      return (engine) => {
        const backend = new MemoryBackend(content, true);
        return bareMachine(image, { harts, slice, disks: [{ backend }] }, {}, engine);
      };
    },
  ],
  'privileged sequences': [0.5, (random) => bare(new PrivilegedProgram(random, 60).image())],
  'page tables': [0.5, (random) => bare(new WalkProgram(random, 400, false).image())],
  'code that changes': [0.3, (random) => bare(modifyingProgram(random, 300))],
};

for (const [what, [share, make]] of Object.entries(KINDS)) {
  test(`${what}: perturbed as left alone (seed ${SEED})`, () => {
    for (let n = 0; n < Math.ceil(PROGRAMS * share); n++) {
      const seed = SEED * 1000 + n;
      const program = make(new Random(seed));
      const choices = new Random(seed + 1);
      const twin = new Twin(program());
      const machine = disturb(program(choices.pick(perturbedEngines())), STEPS, choices, { twin, pieces: 20 });
      const alone = program();
      runSteps(alone, Number(machine.totalSteps));
      assert.equal(stateHash(machine), stateHash(alone), `seed ${seed}`);
      for (const each of [machine, twin, alone]) each.free();
    }
  });
}

test(`devices and what comes from outside: perturbed as repeated from the journal (seed ${SEED})`, () => {
  for (let n = 0; n < PROGRAMS * 2; n++) {
    const seed = SEED * 1000 + n;
    const random = new Random(seed);
    const harts = random.pick([1, 1, 2, 3, 4, 8]);
    const image = driverProgram(random, { harts, length: random.pick([20, 60, 200]) });
    const slice = random.pick([31, 300, 5000, 50_000]);
    const stepsPerNanosecond = random.pick([1, 1, 8]);
    const content = new Uint8Array(1 << 16);
    const outputs = new Mishap();
    const make = (engine = sharedEngine()) => {
      const disks = [{ backend: overlayDisk(content, engine.pool) }];
      const net = { backend: outputs };
      return bareMachine(image, { harts, slice, stepsPerNanosecond, disks, net }, outputs, engine);
    };
    const choices = new Random(seed + 1);
    const journal = new Journal();
    const twin = new Twin(make(), journal);
    const first = make(choices.pick(perturbedEngines()));
    try {
      disturb(first, STEPS, choices, { twin, journal, anew: make, outputs, pieces: 20 }).free();
    } catch (cause) {
      throw new Error(`seed ${seed}`, { cause });
    }
    twin.free();
  }
});

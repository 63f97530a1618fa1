/**
 * A run is the same however it is cut into pieces, and whatever is dropped from the caches in between (I2, I4): random
 * programs run in one piece, and in random pieces with random drops; registers and memory are the same, and `run(n)` makes
 * exactly n steps. The programs edit page tables without `sfence.vma` and code without `fence.i`.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { saveHart } from '../hart/record.ts';
import { stateHash } from '../machine/hash.ts';
import type { Machine } from '../machine/machine.ts';
import { plainMachine } from '../testing/bare.ts';
import { CALL_OUTS, clockProgram } from '../testing/clock-program.ts';
import { IsaProgram } from '../testing/isa-program.ts';
import { SEED } from '../testing/machines.ts';
import { modifyingProgram } from '../testing/modifying-program.ts';
import { disturb, perturbedEngines, Twin } from '../testing/perturbed.ts';
import { PrivilegedProgram } from '../testing/privileged-program.ts';
import { Random } from '../testing/random.ts';
import { WalkProgram } from '../testing/walk-program.ts';

/** Registers, and what `stateHash` covers; together they say where two runs differ. */
function summary(machine: Machine) {
  const { x, f, fields } = saveHart(machine.hartSet.record(0));
  return { steps: machine.totalSteps, x, f, fields, hash: stateHash(machine) };
}

/** Runs a program to its end in pieces of `piece()` steps; `drop()` says whether to drop the caches before a piece. */
function inPieces(image: Uint8Array, limit: number, piece: () => number, drop: () => boolean) {
  const machine = plainMachine(image);
  try {
    while (machine.totalSteps < limit) {
      if (drop()) machine.engine.dropCaches();
      const wanted = Math.min(piece(), limit - Number(machine.totalSteps));
      const before = machine.totalSteps;
      const stop = machine.run(wanted);
      if (stop.reason === 'exit') break;
      assert.equal(stop.reason, 'steps');
      assert.equal(machine.totalSteps - before, BigInt(wanted));
    }
    return summary(machine);
  } finally {
    machine.free();
  }
}

const LIMIT = 40_000;
const whole = (image: Uint8Array, limit = LIMIT) =>
  inPieces(
    image,
    limit,
    () => limit,
    () => false,
  );

const programs: Record<string, (random: Random) => Uint8Array> = {
  // Nobody jumps over idle gaps here.
  'clocks read everywhere': (random) => {
    const callOuts = CALL_OUTS.filter((callOut) => callOut !== 'wait');
    const mode = random.pick(['M', 'S', 'U'] as const);
    return clockProgram({ harts: 1, mode, seed: random.u32(), perPage: random.below(9), callOuts });
  },
  'unprivileged instructions': (random) => new IsaProgram(random, { blocks: 24, snippets: 60, passes: 2 }).image(),
  'privileged sequences': (random) => new PrivilegedProgram(random, 60).image(),
  'page tables edited without sfence.vma': (random) => new WalkProgram(random, 1200, false).image(),
  'code modified without fence.i': (random) => modifyingProgram(random, 300),
};

for (const [what, make] of Object.entries(programs)) {
  test(`${what}: pieces and dropped caches change nothing`, () => {
    fc.assert(
      fc.property(fc.nat(), fc.constantFrom(3, 40, 700, 9000), fc.constantFrom(0, 0.05, 1), (seed, size, drops) => {
        const image = make(new Random(seed));
        const random = new Random(seed + 1);
        const pieces = inPieces(
          image,
          LIMIT,
          () => random.between(1, size),
          () => random.chance(drops),
        );
        assert.deepEqual(pieces, whole(image));
      }),
      { numRuns: 8, seed: SEED | 0 },
    );
  });

  test(`${what}: the smallest caches, stops of every kind and forks change nothing`, () => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const image = make(new Random(seed));
        const random = new Random(seed + 1);
        const twin = new Twin(plainMachine(image));
        const start = plainMachine(image, {}, random.pick(perturbedEngines()));
        const machine = disturb(start, LIMIT, random, { twin, pieces: 20 });
        machine.free();
        twin.free();
      }),
      { numRuns: 5, seed: SEED | 0 },
    );
  });

  test(`${what}: with cold caches at every step`, () => {
    const image = make(new Random(SEED));
    const limit = 6000;
    assert.deepEqual(
      inPieces(
        image,
        limit,
        () => 1,
        () => true,
      ),
      whole(image, limit),
    );
  });
}

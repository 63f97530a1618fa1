/**
 * Engines agree (I3): random programs on the interpreter, and on translators that take code up early or late, in batches or
 * alone, and give it up for lack of room, with caches dropped and machines moved between them: the same registers and state
 * hashes at the same positions.
 *
 * BRAID_SEED repeats a run; BRAID_FUZZ_PROGRAMS makes it longer.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Engine } from '../packages/core/src/engine/engine.ts';
import type { Machine } from '../packages/core/src/machine/machine.ts';
import { plainMachine } from '../packages/core/src/testing/bare.ts';
import { IsaProgram } from '../packages/core/src/testing/isa-program.ts';
import { LOOP_OPERATIONS, loopProgram } from '../packages/core/src/testing/loop-program.ts';
import { bareMachine, recipeMachine, SEED } from '../packages/core/src/testing/machines.ts';
import { modifyingProgram } from '../packages/core/src/testing/modifying-program.ts';
import { PrivilegedProgram } from '../packages/core/src/testing/privileged-program.ts';
import { Random } from '../packages/core/src/testing/random.ts';
import { WalkProgram } from '../packages/core/src/testing/walk-program.ts';
import { compare, engineOf, reference, stopsOf, TRANSLATING } from './lib/engines.ts';

const PROGRAMS = Number(process.env.BRAID_FUZZ_PROGRAMS ?? 30);

interface Program {
  /** What makes it again. */
  readonly recipe: unknown;
  readonly steps: number;
  /** Of what it is about, a multiple of PROGRAMS that fits into the time. */
  make(engine: Engine): Machine;
}

const bare = (image: Uint8Array, recipe: unknown, steps: number): Program => ({
  recipe,
  steps,
  make: (engine) => plainMachine(image, {}, engine),
});

/** By kind: how many for each of PROGRAMS, and how one is made. */
const KINDS: Record<string, readonly [number, (random: Random) => Program]> = {
  loops: [
    6,
    (random) => {
      const harts = random.chance(0.6) ? 1 : random.between(2, 4);
      const operations = random.chance(0.5)
        ? { operations: Array.from({ length: 1 + random.below(4) }, () => random.pick(LOOP_OPERATIONS)) }
        : {};
      const recipe = { harts, paged: random.chance(0.6), seed: random.u32(), turns: 30, ...operations };
      const slice = random.pick([37, 1000, 20_000]);
      const image = loopProgram(recipe);
      return {
        recipe: { ...recipe, slice },
        steps: 30_000,
        make: (engine) => bareMachine(image, { harts, slice }, {}, engine),
      };
    },
  ],
  'floating point in loops': [
    3,
    (random) => {
      const operations = ['float', 'float', 'float', 'floatState', 'compute'] as const;
      const recipe = {
        harts: 1,
        paged: random.chance(0.3),
        seed: random.u32(),
        turns: 60,
        operations: operations.slice(0, random.pick([3, 5])),
      };
      const image = loopProgram(recipe);
      return { recipe, steps: 25_000, make: (engine) => bareMachine(image, {}, {}, engine) };
    },
  ],
  'several harts': [
    2,
    (random) => {
      const recipe = { harts: random.between(1, 8), sbi: random.chance(0.5), seed: random.u32(), rounds: 200 };
      const slice = random.pick([7, 300, 3000]);
      return {
        recipe: { ...recipe, slice },
        steps: 20_000,
        make: (engine) => recipeMachine(recipe, { slice }, engine),
      };
    },
  ],
  'unprivileged instructions': [
    0.3,
    (random) => bare(new IsaProgram(random, { blocks: 12, snippets: 40, passes: 12 }).image(), {}, 30_000),
  ],
  'privileged sequences': [0.3, (random) => bare(new PrivilegedProgram(random, 60).image(), {}, 20_000)],
  'page tables edited without sfence.vma': [
    0.3,
    (random) => bare(new WalkProgram(random, 1200, false).image(), {}, 20_000),
  ],
  'code modified without fence.i': [0.5, (random) => bare(modifyingProgram(random, 300), {}, 20_000)],
};

for (const [what, [share, make]] of Object.entries(KINDS)) {
  test(`${what}: translated as interpreted`, (t) => {
    let instructions = 0;
    let evicted = 0;
    const count = Math.ceil(PROGRAMS * share);
    for (let n = 0; n < count; n++) {
      const seed = SEED * 1000 + n;
      const program = make(new Random(seed));
      const choices = new Random(seed + 1);
      const stops = stopsOf(choices, program.steps, 12);
      const expected = reference(program.make(engineOf(0)), stops);
      const first = 1 + choices.below(TRANSLATING.length);
      for (const disturbed of [false, true]) {
        const engine = engineOf(first);
        engine.dropCaches();
        const before = { ...engine.translation };
        const others = [engine, engineOf(0), engineOf(1 + choices.below(TRANSLATING.length))];
        const disturbances = disturbed ? { choices, engines: others, often: choices.pick([0.1, 0.5]) } : undefined;
        const text = `seed ${seed}, ${JSON.stringify(program.recipe)}, ${JSON.stringify(TRANSLATING[first - 1])}${disturbed ? ', disturbed' : ''}`;
        compare(program.make(engine), stops, expected, disturbances, text);
        instructions += engine.translation.instructions - before.instructions;
        evicted += engine.translation.evicted - before.evicted;
      }
    }
    t.diagnostic(`${count} programs, ${instructions} instructions translated, ${evicted} regions given up`);
    assert.ok(instructions > 0);
  });
}

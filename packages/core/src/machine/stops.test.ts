/**
 * A stop changes nothing (I4, I6): at a position there is one state, for whatever reason the machine stops there, and a run of no
 * steps makes nothing of it. On generated programs for 1 to 8 harts, with stops of every kind.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { recipeMachine, runs, SEED } from '../testing/machines.ts';
import { buildProgram, type Recipe } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import { stateHash } from './hash.ts';
import type { Machine } from './machine.ts';
import type { Stop } from './options.ts';

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 1, max: 8 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(200),
});

/** Asks for a stop of some kind, somewhere in the next steps. */
function provoke(machine: Machine, recipe: Recipe, choices: Random): void {
  const { base } = buildProgram(recipe);
  const kind = choices.pick(['steps', 'attention', 'breakpoint', 'watchpoint', 'system-call'] as const);
  if (kind === 'attention') machine.interrupt();
  if (kind === 'breakpoint') machine.breakpoints.add({ address: BigInt(base + 2 * choices.below(0x1000)) });
  if (kind === 'watchpoint')
    machine.watchpoints.add({ address: BigInt(base + 0x10_0000 + choices.below(64)), length: 8, on: 'access' });
  if (kind === 'system-call') machine.interceptions.add({ kind });
}

test(`a run of no steps behind any stop changes nothing (seed ${SEED})`, () => {
  const seen: Partial<Record<Stop['reason'], number>> = {};
  fc.assert(
    fc.property(recipe, fc.integer({ min: 1, max: 3000 }), fc.nat(), (recipe, slice, seed) => {
      const choices = new Random(seed);
      const machine = recipeMachine(recipe, { slice });
      for (let n = 0; n < 40; n++) {
        provoke(machine, recipe, choices);
        const stop = machine.run(1 + choices.below(2 * slice));
        seen[stop.reason] = (seen[stop.reason] ?? 0) + 1;
        const [hash, position] = [stateHash(machine), machine.position];
        const again = machine.run(0);
        assert.ok(['steps', 'exit', 'idle'].includes(again.reason), again.reason);
        assert.deepEqual([stateHash(machine), machine.position], [hash, position], `behind ${stop.reason}`);
        if (choices.chance(0.2)) machine.breakpoints.clear();
        if (choices.chance(0.2)) machine.watchpoints.clear();
      }
      machine.free();
    }),
    runs(40),
  );
  for (const reason of ['steps', 'attention', 'breakpoint', 'watchpoint'] as const) assert.ok(seen[reason], reason);
});

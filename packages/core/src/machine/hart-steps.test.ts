/** Steps of one hart, compared with single steps of the machine. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Assembler } from '../testing/assembler.ts';
import { BASE, bench } from '../testing/directed.ts';
import { recipeMachine, runSteps, runs, SEED, sharedEngine } from '../testing/machines.ts';
import { Random } from '../testing/random.ts';
import { beforeStepOf, stepHart } from './hart-steps.ts';
import { stateHash } from './hash.ts';

const recipe = fc.record({
  harts: fc.integer({ min: 1, max: 5 }),
  sbi: fc.boolean(),
  seed: fc.nat(),
  rounds: fc.constant(200),
});
const STEPS = 5000;

test(`a hart makes so many steps, and the machine no more (seed ${SEED})`, (t) => {
  let compared = 0;
  let waited = 0;
  fc.assert(
    fc.property(recipe, fc.constantFrom(1, 7, 100, 3000), fc.nat(), (recipe, slice, seed) => {
      const choices = new Random(seed);
      const single = recipeMachine(recipe, { slice });
      /** Which hart makes each step. */
      const harts: number[] = [];
      while (harts.length < STEPS) {
        const before = Array.from({ length: recipe.harts }, (_, hart) => single.steps(hart));
        runSteps(single, 1);
        const made = before.findIndex((steps, hart) => single.steps(hart) !== steps);
        if (made < 0) break;
        harts.push(made);
      }
      single.free();

      const machine = recipeMachine(recipe, { slice }, sharedEngine(1));
      const reference = recipeMachine(recipe, { slice });
      while (machine.totalSteps < harts.length) {
        const from = Number(machine.totalSteps);
        const hart = choices.below(recipe.harts);
        const count = choices.chance(0.5) ? 1 : choices.between(1, 300);
        const own = harts.flatMap((of, step) => (of === hart && step >= from ? [step] : []));
        const last = own[count - 1];
        const limit = harts.length - from;
        const steps = machine.steps(hart);
        if (choices.chance(0.5)) {
          const before = beforeStepOf(machine, hart, steps + BigInt(count), limit);
          assert.equal(before, last === undefined ? undefined : BigInt(last));
        } else {
          const { reason } = stepHart(machine, hart, count, limit);
          if (last !== undefined) assert.equal(reason, 'steps');
        }
        const end = last === undefined ? harts.length : last + 1;
        assert.equal(machine.totalSteps, BigInt(end));
        assert.equal(machine.steps(hart) - steps, BigInt(last === undefined ? own.length : count));
        compared++;
        if (own[0] !== from) waited++;
        if (choices.chance(0.2) && last !== undefined) {
          runSteps(reference, end - Number(reference.totalSteps));
          assert.deepEqual(machine.position, reference.position);
          assert.equal(stateHash(machine), stateHash(reference));
        }
      }
      machine.free();
      reference.free();
    }),
    runs(40),
  );
  t.diagnostic(`${compared} runs, in ${waited} of them another hart came first`);
  assert.ok(waited > 0);
});

bench(
  'a breakpoint, or somebody who asks for attention, comes between',
  (a: Assembler) => {
    a.label('loop');
    a.op('addi', { rd: 10, rs1: 10, imm: 1 });
    a.jump(0, 'loop');
  },
  (b) => {
    const { machine } = b;
    machine.interrupt();
    assert.deepEqual(stepHart(machine, 1), { reason: 'steps' });
    assert.equal(machine.totalSteps, 101n);
    const id = machine.breakpoints.add({
      address: BigInt(BASE + 4),
      condition: (hart) => hart === 0 && b.x(10) === 60n,
    });
    assert.deepEqual(stepHart(machine, 1, 200), {
      reason: 'breakpoint',
      hart: 0,
      address: BigInt(BASE + 4),
      ids: [id],
    });
    assert.equal(machine.steps(1), 100n);
  },
  { harts: 2, slice: 100 },
);

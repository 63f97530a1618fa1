/**
 * Breakpoints: a run stops exactly before the instruction, whatever engine runs it, and nothing that a guest can see depends on
 * them. What has to be hit is found out by single steps of a machine without any, on the interpreter alone.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Engine } from '../engine/engine.ts';
import { Pool } from '../memory/pool.ts';
import { LOOP_OPERATIONS, loopProgram } from '../testing/loop-program.ts';
import { bareMachine, reborn, recipeMachine, runSteps, runs, SEED } from '../testing/machines.ts';
import { modifyingProgram } from '../testing/modifying-program.ts';
import { TASKS } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import { stateHash } from './hash.ts';
import type { Machine } from './machine.ts';

// Few pages of code for all of them, and few tables for each.
const pool = new Pool(undefined, 60);
const engines = [false, { hotness: 5, batch: 3, patience: 2 }, { hotness: 1, batch: 1, patience: 1 }].map(
  (translate, worker) => new Engine(pool, worker, { translate, tables: 1 + worker }),
);
const [interpreter] = engines as [Engine, Engine, Engine];

interface Executed {
  /** Steps of the machine before it. */
  readonly steps: bigint;
  readonly hart: number;
  readonly pc: bigint;
  readonly satp: bigint;
}

/** Every instruction that is executed in so many steps, or up to the machine's end. */
function executions(machine: Machine, steps: number): Executed[] {
  const { hartSet } = machine;
  const found: Executed[] = [];
  while (machine.totalSteps < steps) {
    // To the next hart that makes a step.
    if (runSteps(machine, 0).reason !== 'steps') break;
    const { hart } = machine.position;
    const pc = hartSet.get(hart, 'pc');
    const satp = hartSet.get(hart, 'privilege') === 3n ? 0n : hartSet.get(hart, 'satp');
    const traps = hartSet.get(hart, 'traps');
    const before = machine.totalSteps;
    if (runSteps(machine, 1).reason === 'stalled') break;
    if (machine.totalSteps === before) break;
    let executed = true;
    if (hartSet.get(hart, 'traps') !== traps) {
      const level = hartSet.get(hart, 'privilege') === 3n ? 'm' : 's';
      const cause = hartSet.get(hart, `${level}cause`);
      // An interrupt; or there is no instruction, unless its second half is on another page.
      const nothing = (cause === 1n || cause === 12n) && hartSet.get(hart, `${level}tval`) === pc;
      executed = cause >> 63n === 0n && !nothing;
    }
    if (executed) found.push({ steps: before, hart, pc, satp });
  }
  return found;
}

interface Subject {
  readonly what: string;
  make(engine: Engine): Machine;
}

const subject = fc.oneof(
  fc
    .record({
      harts: fc.integer({ min: 1, max: 3 }),
      paged: fc.boolean(),
      seed: fc.nat(),
      turns: fc.constant(30),
      operations: fc.subarray([...LOOP_OPERATIONS], { minLength: 1 }),
      slice: fc.constantFrom(37, 1000, 20_000),
    })
    .map(({ slice, ...recipe }): Subject => {
      const image = loopProgram(recipe);
      return {
        what: JSON.stringify({ ...recipe, slice }),
        make: (engine) => bareMachine(image, { harts: recipe.harts, slice }, {}, engine),
      };
    }),
  fc
    .record({
      harts: fc.integer({ min: 1, max: 4 }),
      sbi: fc.boolean(),
      seed: fc.nat(),
      rounds: fc.constant(20),
      tasks: fc.constant([...TASKS]),
      slice: fc.constantFrom(1, 37, 1000),
    })
    .map(({ slice, ...recipe }): Subject => {
      return {
        what: JSON.stringify({ ...recipe, slice }),
        make: (engine) => recipeMachine(recipe, { slice }, engine),
      };
    }),
  fc.nat().map((seed): Subject => {
    const image = modifyingProgram(new Random(seed), 200);
    return { what: `modifying ${seed}`, make: (engine) => bareMachine(image, {}, {}, engine) };
  }),
);

const STEPS = 6000;

test(`every stop is exact, on every engine (seed ${SEED})`, (t) => {
  let hits = 0;
  fc.assert(
    fc.property(subject, fc.nat(), fc.constantFrom(...engines), (subject, seed, engine) => {
      const choices = new Random(seed);
      const traced = subject.make(interpreter);
      const executed = executions(traced, STEPS);
      const end = Number(traced.totalSteps);
      traced.free();

      const wanted = Array.from({ length: 1 + choices.below(6) }, () => {
        const { pc, satp } = choices.pick(executed);
        const every = choices.chance(0.3) ? choices.between(2, 5) : 1;
        return { address: pc, every, ...(choices.chance(0.3) && { satp }) };
      });
      // A condition that holds for each so many steps of the hart's own program counter: a function of the state.
      const holds = (machine: Machine, hart: number, every: number) =>
        every === 1 || (machine.hartSet.getX(hart, 10) & 1n) === BigInt(every & 1);

      const reference = subject.make(interpreter);
      const expected: { steps: bigint; hart: number; address: bigint; matching: number[] }[] = [];
      const check = subject.make(interpreter);
      for (const { steps, hart, pc, satp } of executed) {
        const there = wanted.flatMap((each, n) =>
          each.address === pc && (each.satp === undefined || each.satp === satp) ? [n] : [],
        );
        if (there.length === 0) continue;
        runSteps(check, Number(steps - check.totalSteps));
        const matching = there.filter((n) => holds(check, hart, wanted[n]!.every));
        if (matching.length > 0) expected.push({ steps, hart, address: pc, matching });
      }
      check.free();

      let machine = subject.make(engine);
      let ids: number[] = [];
      const arm = () => {
        const current = machine;
        ids = wanted.map(({ every, ...rest }) =>
          machine.breakpoints.add({ ...rest, condition: (hart) => holds(current, hart, every) }),
        );
      };
      // Hot code is there already when the breakpoints come, or not.
      const late = choices.chance(0.5) ? choices.below(end) : 0;
      runSteps(machine, late);
      arm();
      for (const hit of expected) {
        if (hit.steps < machine.totalSteps) continue;
        const stop = stopOf(machine, end);
        const text = `${subject.what}, at step ${machine.totalSteps}`;
        assert.deepEqual(
          { stop, steps: machine.totalSteps },
          {
            stop: { reason: 'breakpoint', hart: hit.hart, address: hit.address, ids: hit.matching.map((n) => ids[n]!) },
            steps: hit.steps,
          },
          text,
        );
        assert.equal(machine.hartSet.get(hit.hart, 'pc'), hit.address);
        hits++;
        if (choices.chance(0.8)) continue;
        runSteps(reference, Number(hit.steps - reference.totalSteps));
        assert.deepEqual(machine.position, reference.position, text);
        assert.equal(stateHash(machine), stateHash(reference), text);
        if (choices.chance(0.3)) machine.engine.dropCaches();
        if (choices.chance(0.3)) {
          machine = reborn(machine);
          arm();
          // A machine that has not been stopped here stops.
          assert.equal(stopOf(machine, end).reason, 'breakpoint', text);
          assert.equal(machine.totalSteps, hit.steps, text);
        }
      }
      const last = stopOf(machine, end);
      assert.notEqual(last.reason, 'breakpoint');
      runSteps(reference, end - Number(reference.totalSteps));
      assert.equal(machine.totalSteps, reference.totalSteps, subject.what);
      assert.equal(stateHash(machine), stateHash(reference), subject.what);
      machine.free();
      reference.free();
    }),
    runs(60),
  );
  t.diagnostic(`${hits} hits`);
  assert.ok(hits > 0);
});

/** Runs up to a breakpoint, or so many steps in all. */
function stopOf(machine: Machine, end: number) {
  for (;;) {
    const stop = machine.run(end - Number(machine.totalSteps));
    if (stop.reason !== 'attention' && stop.reason !== 'stalled') return stop;
  }
}

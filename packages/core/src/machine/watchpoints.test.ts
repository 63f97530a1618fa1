/**
 * Watchpoints: every access of watched bytes is told, no other one is, a stop is right behind its instruction, whatever engine runs, and
 * nothing that a guest can see depends on them. What has to be hit is found out by single steps of a machine without any.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { becomeForkPoint, forkPoint, freeForkPoint } from '../branch/fork-point.ts';
import { Engine } from '../engine/engine.ts';
import { Pool } from '../memory/pool.ts';
import { accesses, lookUp, type Part, type StepAccesses } from '../testing/access-oracle.ts';
import { LOOP_OPERATIONS, loopProgram } from '../testing/loop-program.ts';
import { bareMachine, reborn, recipeMachine, runSteps, runs, SEED } from '../testing/machines.ts';
import { modifyingProgram } from '../testing/modifying-program.ts';
import { TASKS } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import { WalkProgram } from '../testing/walk-program.ts';
import { stateHash } from './hash.ts';
import type { Machine } from './machine.ts';
import type { WatchHit, Watchpoint } from './watchpoints.ts';

// Few pages of code for all of them, and few tables for each.
const pool = new Pool(undefined, 60);
const engines = [false, { hotness: 5, batch: 3, patience: 2 }, { hotness: 1, batch: 1, patience: 1 }].map(
  (translate, worker) => new Engine(pool, worker, { translate, tables: 1 + worker }),
);
const [interpreter] = engines as [Engine, Engine, Engine];

interface Subject {
  readonly what: string;
  readonly tables: { readonly address: number; readonly length: number };
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
        tables: { address: 0x8000_1000, length: 0x3000 },
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
        tables: { address: recipe.sbi ? 0x8040_0000 : 0x8020_0000, length: 0x1_0000 },
        make: (engine) => recipeMachine(recipe, { slice }, engine),
      };
    }),
  fc.nat().map((seed): Subject => {
    const image = modifyingProgram(new Random(seed), 200);
    const tables = { address: 0x8080_0000, length: 0x1000 };
    return { what: `modifying ${seed}`, tables, make: (engine) => bareMachine(image, {}, {}, engine) };
  }),
  fc.record({ seed: fc.nat(), fences: fc.boolean() }).map(({ seed, fences }): Subject => {
    const image = new WalkProgram(new Random(seed), 300, fences).image();
    const tables = { address: 0x8040_0000, length: 0x1_0000 };
    return { what: `walks ${seed} ${fences}`, tables, make: (engine) => bareMachine(image, {}, {}, engine) };
  }),
);

const STEPS = 6000;

/** Hits as they are compared: by watchpoint, in the order of its accesses. */
type Told = Omit<WatchHit, 'id'> & { readonly n: number };

/** Some of what is accessed, and a little beside it. */
function choose(choices: Random, executed: readonly StepAccesses[]): Watchpoint {
  const walking = executed.filter(({ walks }) => walks.length > 0);
  const atomic = executed.filter(({ parts }) => parts.some(({ access }) => access === 'update'));
  const rare = choices.pick([walking, atomic]);
  const { parts, walks, satp } = choices.pick(rare.length > 0 && choices.chance(0.6) ? rare : executed);
  const { va, pa, length, access } = choices.pick([...parts, ...walks]);
  const on = access === 'update' && choices.chance(0.5) ? 'read' : choices.pick(['write', 'read', 'access'] as const);
  const physical = va === undefined ? choices.chance(0.8) : choices.chance(0.4);
  // A virtual address for what the hardware writes: where nothing is translated, or by chance.
  let address = physical ? pa : (va ?? pa);
  let size = choices.pick([1, 2, 4, 8, 16, 4096]);
  address += BigInt(choices.between(-8, length));
  if (size === 4096 && choices.chance(0.5)) address &= -4096n;
  if (choices.chance(0.05)) size = 3 * 4096;
  address = BigInt.asUintN(64, address);
  if (address + BigInt(size) > 1n << 64n) size = 1;
  return { address, length: size, on, ...(physical ? { physical } : choices.chance(0.2) && { satp }) };
}

/** What a step does to watched memory. */
function hitsOf(machine: Machine, step: StepAccesses, wanted: readonly Watchpoint[]): Told[] {
  const { steps, hart, satp, spaces, parts, walks } = step;
  return wanted.flatMap(({ address, length, on, physical, satp: only }, n) => {
    const found: Told[] = [];
    const look = (at: bigint, part: Part) => {
      if (at >= address + BigInt(length) || at + BigInt(part.length) <= address) return;
      if (on !== 'access' && part.access !== 'update' && part.access !== on) return;
      const last = found.at(-1);
      if (last && part.va !== undefined && last.address + BigInt(last.length) === at)
        found[found.length - 1] = { ...last, length: last.length + part.length };
      else found.push({ n, hart, address: at, length: part.length, access: part.access, steps });
    };
    for (const part of walks) {
      if (physical) look(part.pa, part);
      else {
        for (let page = address & -4096n; page < address + BigInt(length); page += 4096n) {
          const there = spaces.some(
            (space) =>
              (only === undefined || space === only) && (lookUp(machine, space, page) ?? -1n) >> 12n === part.pa >> 12n,
          );
          if (there) look(page + (part.pa & 4095n), part);
        }
      }
    }
    for (const part of parts)
      if (physical || only === undefined || only === satp) look(physical ? part.pa : part.va!, part);
    return found;
  });
}

const byAddress = (a: Told, b: Told) => a.n - b.n || Number(a.address - b.address);

test(`every access of watched memory is told, exactly, on every engine (seed ${SEED})`, (t) => {
  let hits = 0;
  let walked = 0;
  let stops = 0;
  fc.assert(
    fc.property(subject, fc.nat(), fc.nat({ max: 2 }), (subject, seed, mode) => {
      const engine = engines[mode]!;
      const choices = new Random(seed);
      const traced = subject.make(interpreter);
      const executed = accesses(traced, STEPS, subject.tables);
      const end = Number(traced.totalSteps);
      traced.free();
      fc.pre(executed.length > 0);
      const wanted = Array.from({ length: 1 + choices.below(5) }, () => choose(choices, executed));

      // Hits by step.
      const expected: { steps: bigint; told: Told[] }[] = [];
      const check = subject.make(interpreter);
      for (const step of executed) {
        if (step.walks.length > 0) runSteps(check, Number(step.steps - check.totalSteps));
        const told = hitsOf(check, step, wanted);
        if (told.length > 0) expected.push({ steps: step.steps, told });
        walked += told.filter(({ address }) => step.walks.some(({ pa }) => pa === address)).length;
      }
      check.free();

      const reference = subject.make(interpreter);
      let machine = subject.make(engine);
      let ids: number[] = [];
      const told: Told[] = [];
      const every = choices.pick([1, 1, 2, 5]);
      // The run goes on where all of an instruction's hits say so.
      const stopsAt = (steps: bigint) => (steps * 7n) % BigInt(every) === 0n;
      const arm = () => {
        const current = machine;
        ids = wanted.map((watchpoint, n) =>
          machine.watchpoints.add({
            ...watchpoint,
            hit: ({ id, ...hit }) => {
              assert.equal(id, ids[n]);
              assert.equal(current.totalSteps, hit.steps + 1n);
              assert.equal(current.stepsNow, hit.steps);
              told.push({ n, ...hit });
              return stopsAt(hit.steps);
            },
          }),
        );
      };
      // Hot code is there already when the watchpoints come, or not.
      const late = choices.chance(0.5) ? choices.below(end) : 0;
      runSteps(machine, late);
      arm();
      const others = { touched: () => true };
      if (choices.chance(0.3)) machine.traces.add(others);
      for (const { steps, told: wantedHits } of expected) {
        if (steps < late) continue;
        hits += wantedHits.length;
        if (!stopsAt(steps)) continue;
        const stop = stopOf(machine, end);
        const text = `${subject.what}, behind step ${steps}, engine ${mode}`;
        assert.equal(stop.reason, 'watchpoint', text);
        assert.ok(stop.reason === 'watchpoint');
        assert.equal(machine.totalSteps, steps + 1n, text);
        assert.equal(stop.hart, wantedHits[0]!.hart, text);
        assert.deepEqual([...stop.ids].sort(), [...new Set(wantedHits.map(({ n }) => ids[n]!))].sort(), text);
        assert.ok(
          wantedHits.some(({ address, access }) => address === stop.address && access === stop.access),
          text,
        );
        assert.deepEqual(
          told.filter((hit) => hit.steps === steps).sort(byAddress),
          wantedHits.toSorted(byAddress),
          text,
        );
        stops++;
        if (choices.chance(0.8)) continue;
        runSteps(reference, Number(machine.totalSteps - reference.totalSteps));
        assert.deepEqual(machine.position, reference.position, text);
        assert.equal(stateHash(machine), stateHash(reference), text);
        if (choices.chance(0.3)) machine.engine.dropCaches();
        if (choices.chance(0.2)) {
          const point = forkPoint(machine);
          const before = told.length;
          runSteps(machine, choices.below(50));
          told.length = before;
          becomeForkPoint(machine, point);
          machine.input({ kind: 'skip-idle', on: true });
          freeForkPoint(pool, point);
        }
        if (choices.chance(0.2)) {
          machine = reborn(machine);
          arm();
        }
      }
      const last = stopOf(machine, end);
      assert.notEqual(last.reason, 'watchpoint', subject.what);
      assert.deepEqual(
        told.map(({ steps }) => steps).sort(),
        expected.flatMap(({ steps, told }) => (steps < late ? [] : told.map(() => steps))).sort(),
        subject.what,
      );
      runSteps(reference, end - Number(reference.totalSteps));
      assert.equal(machine.totalSteps, reference.totalSteps, subject.what);
      assert.equal(stateHash(machine), stateHash(reference), subject.what);
      machine.free();
      reference.free();
    }),
    runs(50),
  );
  t.diagnostic(`${hits} hits, ${walked} of them the hardware's, ${stops} stops`);
  assert.ok(stops > 0);
});

/** Runs up to a watchpoint, or so many steps in all. */
function stopOf(machine: Machine, end: number) {
  for (;;) {
    const stop = machine.run(end - Number(machine.totalSteps));
    if (stop.reason !== 'attention' && stop.reason !== 'stalled') return stop;
  }
}

/** Guest time: it never decreases from hart to hart, counters are exact, idle gaps end where they should. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from '../testing/assembler.ts';
import { bareMachine, recipeMachine, runSteps, runs, SEED } from '../testing/machines.ts';
import { disturb } from '../testing/perturbed.ts';
import { buildProgram, type Recipe, SHARED_PAGE } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 2, max: 8 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(100_000),
  tasks: fc.constant(['stamp', 'stamp', 'stamp', 'wait', 'pause', 'timer', 'ipi', 'compute'] as const),
});

test(`time stamps passed between harts never decrease (seed ${SEED})`, () => {
  let stamps = 0n;
  fc.assert(
    fc.property(recipe, fc.integer({ min: 1, max: 5000 }), fc.nat(), (recipe, slice, seed) => {
      const choices = new Random(seed);
      let machine = recipeMachine(recipe, { slice, stepsPerNanosecond: choices.pick([1, 3, 8]) });
      for (let turn = 0; turn < 8; turn++) {
        // Corrections from outside only ever add time.
        if (choices.chance(0.4)) machine.input({ kind: 'time', advance: BigInt(choices.below(5000)) });
        const before = machine.now;
        if (choices.chance(0.5)) runSteps(machine, 3000);
        else machine = disturb(machine, 3000, choices, { kinds: ['stop', 'drop', 'reborn'] });
        assert.ok(machine.now >= before);
      }
      const shared = new Uint8Array(4096);
      machine.ram.read(buildProgram(recipe).base + 0x10_0000, shared);
      machine.free();
      const view = new DataView(shared.buffer);
      stamps += view.getBigUint64(SHARED_PAGE.stampCount, true);
      assert.equal(
        view.getBigUint64(SHARED_PAGE.stampErrors, true),
        0n,
        'a time before one that another hart had seen',
      );
    }),
    runs(60),
  );
  assert.ok(stamps > 3000n, `${stamps} stamps`);
});

const [t0, t1, t2, t3, s0] = [5, 6, 7, 28, 8] as const;
const word = (machine: ReturnType<typeof bareMachine>, address: number): bigint => {
  const bytes = new Uint8Array(8);
  assert.ok(machine.ram.read(address, bytes));
  return new DataView(bytes.buffer).getBigUint64(0, true);
};
const RESULT = RAM_BASE + 0x10_0000;

/** Runs a program that ends in a loop of its own. */
function run(build: (a: Assembler) => void, steps = 1000, stepsPerNanosecond = 1) {
  const a = new Assembler(RAM_BASE);
  a.li(s0, RESULT);
  build(a);
  a.label('end');
  a.jump(0, 'end');
  const machine = bareMachine(a.bytes(), { stepsPerNanosecond });
  runSteps(machine, steps);
  const results = Array.from({ length: 16 }, (_, n) => word(machine, RESULT + 8 * n));
  return { machine, results, [Symbol.dispose]: () => machine.free() };
}

test('cycle and instret count every instruction, a trap only as a cycle', () => {
  using outcome = run((a) => {
    a.la(t0, 'handler');
    a.csrw(0x305, t0);
    a.csrr(t0, 0xc00);
    a.csrr(t1, 0xc02);
    a.op('sd', { rs1: s0, rs2: t0 });
    a.op('sd', { rs1: s0, rs2: t1, imm: 8 });
    a.op('ecall');
    a.jump(0, 'end');
    a.label('handler');
    a.csrr(t0, 0xc00);
    a.csrr(t1, 0xc02);
    a.op('sd', { rs1: s0, rs2: t0, imm: 16 });
    a.op('sd', { rs1: s0, rs2: t1, imm: 24 });
  });
  const [cycle0, instret0, cycle1, instret1] = outcome.results as [bigint, bigint, bigint, bigint];
  // csrr, csrr, sd, sd, then the trap: the ecall is a step, and does not retire.
  assert.equal(cycle1 - cycle0, 5n);
  assert.equal(instret1 - instret0, 4n);
  assert.equal(outcome.machine.steps(0) - outcome.machine.instructions(0), 1n);
});

test('a write to minstret and mcycle counts on from there, and inhibition stops them', () => {
  using outcome = run((a) => {
    a.li(t0, 1000);
    a.csrw(0xb02, t0);
    a.csrr(t1, 0xb02);
    a.op('sd', { rs1: s0, rs2: t1 });
    a.csrw(0xb00, t0);
    a.csrr(t1, 0xb00);
    a.op('sd', { rs1: s0, rs2: t1, imm: 8 });
    a.op('addi', { rd: t2, imm: 5 });
    a.csrw(0x320, t2);
    a.csrr(t1, 0xb00);
    a.csrr(t2, 0xb00);
    a.op('sub', { rd: t1, rs1: t2, rs2: t1 });
    a.op('sd', { rs1: s0, rs2: t1, imm: 16 });
    a.csrr(t1, 0xb02);
    a.csrr(t2, 0xb02);
    a.op('sub', { rd: t1, rs1: t2, rs2: t1 });
    a.op('sd', { rs1: s0, rs2: t1, imm: 24 });
  });
  // The write takes the place of the increment of its own instruction.
  assert.deepEqual(outcome.results.slice(0, 4), [1000n, 1000n, 0n, 0n]);
});

test('a timer interrupt comes at the very step at which time reaches the comparator', () => {
  for (const [ticks, ratio] of [
    [1, 1],
    [2, 1],
    [7, 1],
    [3, 8],
    [2, 16],
  ] as const) {
    const program = (a: Assembler) => {
      a.la(t0, 'handler');
      a.csrw(0x305, t0);
      a.li(t3, 0x200_4000);
      a.csrr(t1, 0xc01);
      a.op('addi', { rd: t1, rs1: t1, imm: ticks });
      a.op('sd', { rs1: s0, rs2: t1 });
      a.op('sd', { rs1: t3, rs2: t1 });
      a.li(t0, 0x80);
      a.csrw(0x304, t0);
      a.op('csrrsi', { csr: 0x300, imm: 8 });
      a.label('spin');
      a.jump(0, 'spin');
      a.label('handler');
      a.csrr(t2, 0xb00);
      a.csrr(t1, 0xc01);
      a.op('sd', { rs1: s0, rs2: t1, imm: 8 });
      a.op('sd', { rs1: s0, rs2: t2, imm: 16 });
    };
    using outcome = run(program, 2000 * ratio, ratio);
    const [wanted, seen, cycle] = outcome.results as [bigint, bigint, bigint];
    assert.equal(seen, wanted);
    // 100 ns a tick. At that time the hart traps, and reads the counter in the step behind the trap.
    assert.equal(cycle, wanted * 100n * BigInt(ratio) + 1n);
  }
});

test('wfi ends at the timer, however far away; without one the machine is idle for good', () => {
  using outcome = run((a) => {
    a.li(t3, 0x200_4000);
    a.li(t1, 36_000_000_000);
    a.op('sd', { rs1: t3, rs2: t1 });
    a.li(t0, 0x80);
    a.csrw(0x304, t0);
    a.op('wfi');
    a.csrr(t1, 0xc01);
    a.op('sd', { rs1: s0, rs2: t1 });
    a.csrw(0x304, 0);
    a.op('wfi');
    a.op('sd', { rs1: s0, rs2: t1, imm: 8 });
  });
  assert.equal(outcome.results[0], 36_000_000_000n);
  assert.equal(outcome.results[1], 0n);
  assert.deepEqual(outcome.machine.run(10), { reason: 'idle', until: undefined });
});

test('without skipping, an idle machine stops and says until when, and time stands still', () => {
  const a = new Assembler(RAM_BASE);
  a.li(t3, 0x200_4000);
  a.li(t1, 1234);
  a.op('sd', { rs1: t3, rs2: t1 });
  a.li(t0, 0x80);
  a.csrw(0x304, t0);
  a.op('wfi');
  a.label('end');
  a.jump(0, 'end');
  const machine = bareMachine(a.bytes());
  machine.input({ kind: 'skip-idle', on: false });
  assert.deepEqual(machine.run(100), { reason: 'idle', until: 123_400n });
  const { now, totalSteps } = machine;
  assert.deepEqual(machine.run(100), { reason: 'idle', until: 123_400n });
  assert.equal(machine.now, now);
  machine.input({ kind: 'time', advance: 123_399n - now });
  assert.deepEqual(machine.run(100), { reason: 'idle', until: 123_400n });
  machine.input({ kind: 'time', advance: 1n });
  assert.deepEqual(machine.run(100), { reason: 'steps' });
  assert.equal(machine.totalSteps, totalSteps + 100n);
  machine.free();
});

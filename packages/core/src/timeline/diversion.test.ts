/** Diversions of bare machines, from anywhere: the machine that is left goes on as it would have. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { forkPoint, freeForkPoint, shareForkPoint } from '../branch/fork-point.ts';
import { REPLAY_ONLY } from '../hart/state.ts';
import { HINT_MAGIC } from '../isa/hint.ts';
import { stateHash } from '../machine/hash.ts';
import { formatPosition } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from '../testing/assembler.ts';
import { bareMachine, recipeMachine, runSteps, runs, SEED, sharedEngine } from '../testing/machines.ts';
import type { Recipe } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import { Diversion, DiversionError, type DiversionReason } from './diversion.ts';
import { callFunction, callIn } from './guest-call.ts';
import { record, replay } from './logged-run.ts';
import { ReplayOnly, type ReplayOnlyRun } from './replay-only.ts';

const [sp, t0, t1, s0, s1, a0, a1] = [2, 5, 6, 8, 9, 10, 11] as const;

const summary = (machine: Machine) => ({
  hash: stateHash(machine),
  position: formatPosition(machine.position),
  now: machine.now,
});

function reasonOf(call: () => unknown): DiversionReason {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof DiversionError, `${error}`);
    return error.reason;
  }
  throw new TypeError('it came to an end');
}

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 1, max: 8 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(200),
});

test(`a replay with diversions at random places is the replay without (seed ${SEED})`, () => {
  fc.assert(
    fc.property(recipe, fc.integer({ min: 0, max: 0xffff_ffff }), (recipe, seed) => {
      const choices = new Random(seed);
      const machine = recipeMachine(recipe, { slice: 1 + choices.below(2000) });
      const recording = record(machine);
      runSteps(machine, 10_000);
      const expected = summary(machine);
      const end = machine.totalSteps;
      machine.free();
      const again = replay(sharedEngine(), recording);
      while (again.totalSteps < end) {
        runSteps(again, Math.min(1 + choices.below(4000), Number(end - again.totalSteps)));
        const before = summary(again);
        const diversion = Diversion.of(again, choices.below(recipe.harts), { steps: 1 + choices.below(5000) });
        const reason = reasonOf(() => diversion.run());
        assert.ok(['steps', 'machine-exit', 'waits', 'time'].includes(reason), reason);
        diversion.free();
        assert.deepEqual(summary(again), before);
      }
      assert.deepEqual(summary(again), expected);
      again.free();
    }),
    runs(25),
  );
});

/** Each hart counts in s0, with replay-only code in each turn that makes s1 of it and goes round in `inner`. */
function counting(build: (a: Assembler) => void): { image: Uint8Array; at: (label: string) => bigint } {
  const a = new Assembler(RAM_BASE);
  a.li(t1, HINT_MAGIC);
  a.li(sp, RAM_BASE + 0x10_0008);
  a.label('turn');
  a.op('addi', { rd: s0, rs1: s0, imm: 1 });
  a.li(t0, 0);
  a.li(a0, 5);
  a.op('braid.hint', { rs1: t1, imm: REPLAY_ONLY.begin });
  a.branch('beq', t0, 0, 'skip');
  build(a);
  a.li(a0, 5);
  a.op('braid.hint', { rs1: t1, imm: REPLAY_ONLY.end });
  a.label('skip');
  a.jump(0, 'turn');
  a.label('function');
  a.op('add', { rd: a0, rs1: a0, rs2: a1 });
  a.op('sd', { rs1: sp, rs2: a0, imm: -8 });
  a.op('addi', { rd: a1, rs1: sp });
  a.op('jalr', { rs1: 1 });
  a.label('deeper');
  a.li(t0, 0);
  a.li(a0, 6);
  a.op('braid.hint', { rs1: t1, imm: REPLAY_ONLY.begin });
  a.jump(0, 'deeper');
  const image = a.bytes();
  return { image, at: (label) => a.addressOf(label) };
}

describe('replay-only code without a kernel', () => {
  const follow = (image: Uint8Array, harts: number, options: ConstructorParameters<typeof ReplayOnly>[1]) => {
    const machine = bareMachine(image, { harts, slice: 70 });
    const recording = record(machine);
    runSteps(machine, 3000);
    const expected = summary(machine);
    machine.free();
    const again = replay(sharedEngine(), recording);
    const code = new ReplayOnly(again, options);
    const ran: ReplayOnlyRun[] = [];
    while (again.totalSteps < 3000n) {
      const run = code.serve(again.run(3000 - Number(again.totalSteps)));
      if (run) ran.push(run);
    }
    assert.deepEqual(summary(again), expected);
    code.end();
    assert.equal(again.run(100).reason, 'steps');
    again.free();
    return ran;
  };

  for (const harts of [1, 3]) {
    test(`${harts} harts: each turn's code runs by itself`, () => {
      const { image } = counting((a) => {
        a.op('addi', { rd: s1, rs1: s1, imm: 1 });
        // Another end, and code within the code: neither is its end.
        a.li(a0, 77);
        a.op('braid.hint', { rs1: t1, imm: REPLAY_ONLY.end });
        a.li(a0, 5);
        a.op('braid.hint', { rs1: t1, imm: REPLAY_ONLY.begin });
        a.op('braid.hint', { rs1: t1, imm: REPLAY_ONLY.end });
      });
      const ran = follow(image, harts, { codes: [5n] });
      assert.ok(ran.length > 100);
      for (const { code, error, steps } of ran) {
        assert.equal(code, 5n);
        assert.equal(error, undefined);
        assert.ok(steps >= 7n && steps < 400n, `${steps} steps`);
      }
      assert.equal(new Set(ran.map(({ hart }) => hart)).size, harts);
    });
  }

  test('code that does not end, and code within code without end, are given up', () => {
    const { image } = counting((a) => {
      a.label('inner');
      a.jump(0, 'inner');
    });
    const ran = follow(image, 1, { codes: 'all', steps: 500 });
    assert.ok(ran.length > 100 && ran.every(({ error }) => error?.reason === 'steps'));
    assert.match(
      ran[0]!.error!.message,
      /^replay-only code 5 on hart 0 at 0:0:\d+: it has made 500 steps, as many as it may$/,
    );
    const deeper = counting((a) => a.jump(0, 'deeper'));
    const [first] = follow(deeper.image, 1, { codes: 'all' });
    assert.match(first?.error?.message ?? '', /1000 pieces of code/);
  });

  test('other code is skipped', () => {
    const { image } = counting((a) => a.op('addi', { rd: s1, rs1: s1, imm: 1 }));
    assert.deepEqual(follow(image, 1, { codes: [4n, 6n] }), []);
  });
});

test('calls from a machine and from a fork point', () => {
  const { image, at } = counting((a) => a.op('addi', { rd: s1, rs1: s1, imm: 1 }));
  const machine = bareMachine(image, { harts: 2, slice: 70 });
  runSteps(machine, 333);
  const before = summary(machine);
  for (const hart of [0, 1]) {
    const { result, second, inspected } = callFunction(machine, hart, at('function'), [30n, -5n], {
      inspect: ({ ram }) => {
        const word = new Uint8Array(8);
        ram.read(RAM_BASE + 0x10_0008 - 256 - 8 - 8, word);
        return new DataView(word.buffer).getBigUint64(0, true);
      },
    });
    assert.equal(result, 25n);
    assert.equal(inspected, 25n, 'what it has put on its stack');
    assert.equal(second % 16n, 0n);
  }
  assert.deepEqual(summary(machine), before);

  const point = forkPoint(machine);
  const { engine } = machine;
  runSteps(machine, 100);
  const diversion = new Diversion(engine, shareForkPoint(engine.pool, point), {}, 1);
  assert.equal(callIn(diversion, at('function'), [1n, 2n]).result, 3n);
  diversion.free();
  freeForkPoint(engine.pool, point);
  machine.free();
});

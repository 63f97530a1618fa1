/** `pause`: it takes guest time, ends nothing for a hart that is alone, gives way to others, and is the same however a run is cut. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Engine } from '../engine/engine.ts';
import { saveHart } from '../hart/record.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Pool } from '../memory/pool.ts';
import { Assembler } from '../testing/assembler.ts';
import { CSR } from '../testing/csr.ts';
import { bareMachine, runSteps, runs, sharedEngine } from '../testing/machines.ts';
import { disturb } from '../testing/perturbed.ts';
import { Random } from '../testing/random.ts';
import { stateHash } from './hash.ts';
import type { Machine } from './machine.ts';
import { MachineError, type MachineOptions } from './options.ts';
import { restoreMachine, saveMachine } from './save.ts';
import { DEFAULT_PAUSE, PAUSE_WITHOUT_RULE } from './schedule.ts';

const [t0, t1, t2, s0, s1, s2, s3] = [5, 6, 7, 8, 9, 18, 19] as const;
const MTIMECMP = 0x200_4000;
const MTIME = 0x200_bff8;
const MTIE = 128;

function program(build: (a: Assembler) => void): Uint8Array {
  const a = new Assembler(RAM_BASE);
  build(a);
  return a.bytes();
}

/** Spins for ever. */
const SPIN = program((a) => {
  a.label('spin');
  a.op('pause');
  a.jump(0, 'spin');
});

/** Hart 0 spins; the others go to `rest`. */
const spinning = (rest: (a: Assembler) => void) =>
  program((a) => {
    a.csrr(t0, CSR.mhartid);
    a.branch('bne', t0, 0, 'other');
    a.label('spin');
    a.op('pause');
    a.jump(0, 'spin');
    a.label('other');
    rest(a);
  });

function withMachine<T>(image: Uint8Array, options: Partial<MachineOptions>, use: (machine: Machine) => T): T {
  const machine = bareMachine(image, options);
  try {
    return use(machine);
  } finally {
    machine.free();
  }
}

/** Runs of the engine that a piece of work takes. */
function engineRuns(machine: Machine, work: () => void): number {
  const { engine } = machine;
  let count = 0;
  const run = engine.run.bind(engine);
  engine.run = (budget) => {
    count++;
    return run(budget);
  };
  try {
    work();
  } finally {
    Reflect.deleteProperty(engine, 'run');
  }
  return count;
}

test('the only hart goes on in its slice, and each pause takes guest time', () => {
  withMachine(SPIN, {}, (machine) => {
    assert.equal(
      engineRuns(machine, () => machine.run(100_000)),
      1,
    );
    assert.deepEqual(machine.position, { round: 0n, hart: 0, step: 100_000 });
    assert.equal(machine.now, 100_000n + 50_000n * BigInt(DEFAULT_PAUSE.steps));
  });
});

test('so does the only one that can run, which is looked for after some pauses', () => {
  const image = spinning((a) => {
    a.label('sleep');
    a.op('wfi');
    a.jump(0, 'sleep');
  });
  withMachine(image, { harts: 4, slice: 50_000 }, (machine) => {
    while (machine.schedule.round < 2n) machine.run(1);
    const looks = engineRuns(machine, () => machine.run(20_000));
    assert.deepEqual({ round: machine.position.round, hart: machine.position.hart }, { round: 2n, hart: 0 });
    assert.ok(looks <= 10_000 / DEFAULT_PAUSE.spins + 2, `${looks} runs`);
  });
});

test('where another hart can run a spin-wait gives way to it', () => {
  const image = spinning((a) => {
    a.label('count');
    a.op('addi', { rd: t1, rs1: t1, imm: 1 });
    a.jump(0, 'count');
  });
  withMachine(image, { harts: 2, slice: 1000, pause: { steps: 7, spins: 5, turn: 0 } }, (machine) => {
    while (machine.schedule.round < 10n) machine.run(1);
    // A pause, and the jump before it; two steps lead to the first.
    assert.deepEqual([machine.steps(0), machine.steps(1)], [21n, 10_000n]);
  });
});

test('delays on all harts at once take few turns', () => {
  const image = program((a) => {
    a.label('again');
    a.csrr(t0, CSR.time);
    a.label('wait');
    a.op('pause');
    a.csrr(t1, CSR.time);
    a.op('sub', { rd: t1, rs1: t1, rs2: t0 });
    a.op('sltiu', { rd: t1, rs1: t1, imm: 1000 });
    a.branch('bne', t1, 0, 'wait');
    a.op('addi', { rd: s1, rs1: s1, imm: 1 });
    a.jump(0, 'again');
  });
  withMachine(image, { harts: 4 }, (machine) => {
    const turns = engineRuns(machine, () => {
      while (machine.now < 10_000_000n) machine.run(100);
    });
    for (let hart = 0; hart < 4; hart++) assert.ok(machine.hartSet.getX(hart, s1) >= 80n);
    assert.ok(turns < 10_000, `${turns} turns for 10 ms`);
  });
});

test('without a rule every pause ends its slice and takes a step, as before there was one', () => {
  withMachine(SPIN, { pause: PAUSE_WITHOUT_RULE }, (machine) => {
    machine.run(1000);
    assert.equal(machine.position.round, 500n);
    assert.equal(machine.now, 1000n);
  });
});

test('a pause never leads past a timer, and the interrupt comes at its very time', () => {
  for (const steps of [0, 1, 99, 100, 101, 5000, 10_000]) {
    for (const stepsPerNanosecond of [1, 8]) {
      const image = program((a) => {
        a.la(t0, 'handler');
        a.csrw(CSR.mtvec, t0);
        a.li(t0, MTIMECMP);
        a.li(t1, 777);
        a.op('sd', { rs1: t0, rs2: t1 });
        a.li(t0, MTIE);
        a.csrw(CSR.mie, t0);
        a.op('csrrsi', { csr: CSR.mstatus, imm: 8 });
        a.label('spin');
        a.op('pause');
        a.op('addi', { rd: t2, rs1: t2, imm: 1 });
        a.jump(0, 'spin');
        a.label('handler');
        a.csrr(s0, CSR.time);
        a.label('end');
        a.jump(0, 'end');
      });
      withMachine(image, { pause: { steps, spins: 3, turn: 0 }, stepsPerNanosecond }, (machine) => {
        while (machine.hartSet.getX(0, s0) === 0n) machine.run(100_000);
        assert.equal(machine.hartSet.getX(0, s0), 777n, `${steps} ${stepsPerNanosecond}`);
      });
    }
  }
});

test('a limit of guest time ends a run at the first step that reaches it, and changes nothing', () => {
  withMachine(SPIN, {}, (machine) => {
    machine.timeLimit = 1_000_050n;
    assert.equal(machine.run().reason, 'steps');
    const { now } = machine;
    assert.ok(now >= 1_000_050n && now <= 1_000_050n + BigInt(DEFAULT_PAUSE.steps), `${now}`);
    assert.equal(
      engineRuns(machine, () => assert.equal(machine.run().reason, 'steps')),
      0,
    );
    machine.timeLimit = undefined;
    const steps = Number(machine.totalSteps);
    machine.run(5000);
    withMachine(SPIN, {}, (other) => {
      other.run(steps + 5000);
      assert.equal(stateHash(machine), stateHash(other));
    });
  });
});

test('a rule out of range is refused', () => {
  for (const wrong of [{ steps: -1 }, { steps: 1.5 }, { spins: 1e9 }, { turn: Number.NaN }]) {
    const pause = { ...DEFAULT_PAUSE, ...wrong };
    assert.throws(() => bareMachine(SPIN, { pause }), MachineError);
  }
});

test('a state of version 2 goes on as it was: without a rule', () => {
  withMachine(SPIN, { pause: PAUSE_WITHOUT_RULE }, (machine) => {
    machine.run(501);
    const state = saveMachine(machine);
    const { pause: _, ...configuration } = state.configuration;
    const { pauses: _pauses, spinning: _spinning, ...schedule } = state.schedule;
    const old = { ...state, version: 2, configuration, schedule: { ...schedule, version: 1 } };
    const restored = restoreMachine(sharedEngine(), old);
    assert.equal(stateHash(restored), stateHash(machine));
    for (const each of [machine, restored]) runSteps(each, 777);
    assert.equal(restored.position.round, 639n);
    assert.equal(stateHash(restored), stateHash(machine));
    restored.free();
  });
});

/** What each hart does over and over: spins, looks at the time in every way, and moves its timer about. */
function busyProgram(random: Random): Uint8Array {
  return program((a) => {
    a.la(t0, 'handler');
    a.csrw(CSR.mtvec, t0);
    a.csrr(s2, CSR.mhartid);
    a.li(s3, MTIMECMP);
    a.op('slli', { rd: t0, rs1: s2, imm: 3 });
    a.op('add', { rd: s3, rs1: s3, rs2: t0 });
    a.li(t0, MTIE);
    a.csrw(CSR.mie, t0);
    a.op('csrrsi', { csr: CSR.mstatus, imm: 8 });
    a.label('again');
    for (let n = 0; n < 30; n++) piece(a, random);
    a.jump(0, 'again');
    a.label('handler');
    a.csrr(t0, CSR.time);
    a.op('add', { rd: s1, rs1: s1, rs2: t0 });
    a.op('addi', { rd: t0, rs1: t0, imm: random.between(1, 200) });
    a.op('sd', { rs1: s3, rs2: t0 });
    a.op('mret');
  });
}

function piece(a: Assembler, random: Random): void {
  const again = a.newLabel();
  switch (random.below(7)) {
    case 0:
      a.op('pause');
      return;
    case 1: // A delay.
      a.csrr(t0, CSR.time);
      a.label(again);
      a.op('pause');
      a.csrr(t1, CSR.time);
      a.op('sub', { rd: t1, rs1: t1, rs2: t0 });
      a.op('sltiu', { rd: t1, rs1: t1, imm: random.between(1, 30) });
      a.branch('bne', t1, 0, again);
      return;
    case 2: // So many pauses.
      a.li(t0, random.between(1, 60));
      a.label(again);
      a.op('pause');
      if (random.chance(0.5)) a.op('pause');
      a.op('addi', { rd: t0, rs1: t0, imm: -1 });
      a.branch('bne', t0, 0, again);
      return;
    case 3:
      a.csrr(t0, random.pick([CSR.time, CSR.cycle, CSR.instret]));
      a.op('add', { rd: s1, rs1: s1, rs2: t0 });
      return;
    case 4:
      a.li(t0, MTIME);
      a.op('ld', { rd: t1, rs1: t0 });
      if (random.chance(0.7)) {
        a.op('addi', { rd: t1, rs1: t1, imm: random.between(0, 100) });
        a.op('sd', { rs1: s3, rs2: t1 });
      }
      return;
    case 5:
      a.li(t0, random.between(1, 300));
      a.label(again);
      a.op('add', { rd: s1, rs1: s1, rs2: t0 });
      a.op('addi', { rd: t0, rs1: t0, imm: -1 });
      a.branch('bne', t0, 0, again);
      return;
    default: // Whoever sleeps is woken by its timer.
      a.csrr(t0, CSR.time);
      a.op('addi', { rd: t0, rs1: t0, imm: random.between(1, 50) });
      a.op('sd', { rs1: s3, rs2: t0 });
      a.op('wfi');
  }
}

const pool = new Pool();
const engines = [false, { hotness: 1, batch: 1, patience: 1 }, { hotness: 4, batch: 2, patience: 2 }].map(
  (translate, n) => new Engine(pool, n, { translate }),
);

function summary(machine: Machine) {
  return {
    position: machine.position,
    now: machine.now,
    harts: Array.from({ length: machine.harts }, (_, hart) => saveHart(machine.hartSet.record(hart))),
    hash: stateHash(machine),
  };
}

const busy = fc.record({
  seed: fc.nat(),
  harts: fc.constantFrom(1, 2, 3),
  slice: fc.constantFrom(13, 200, 50_000),
  stepsPerNanosecond: fc.constantFrom(1, 3, 8),
  pause: fc.record({
    steps: fc.constantFrom(0, 1, 50, 100, 3333),
    spins: fc.constantFrom(0, 1, 2, 32),
    turn: fc.constantFrom(0, 2000),
  }),
});

test('however runs are cut, translated and limited, pauses leave the same', () => {
  fc.assert(
    fc.property(busy, fc.nat(), ({ seed, ...options }, cuts) => {
      const image = busyProgram(new Random(seed));
      const steps = 12_000;
      const whole = bareMachine(image, options, {}, engines[0]);
      runSteps(whole, steps);
      const expected = summary(whole);
      whole.free();
      for (const engine of engines) {
        const random = new Random(cuts);
        const start = bareMachine(image, options, {}, engine);
        if (random.chance(0.5)) runSteps(start, random.below(steps));
        const machine = disturb(start, steps - Number(start.totalSteps), random, {
          kinds: ['stop', 'drop', 'reborn', 'hash', 'move'],
          engines,
        });
        assert.deepEqual(summary(machine), expected);
        machine.free();
      }
    }),
    runs(20),
  );
});

test('limits of guest time on the way leave the same', () => {
  fc.assert(
    fc.property(busy, fc.integer({ min: 1, max: 3000 }), ({ seed, ...options }, stride) => {
      const image = busyProgram(new Random(seed));
      const whole = bareMachine(image, options, {}, engines[0]);
      const machine = bareMachine(image, options, {}, engines[2]);
      while (machine.totalSteps < 5000n) {
        const from = machine.now;
        machine.timeLimit = from + BigInt(stride);
        const before = machine.totalSteps;
        const { reason } = machine.run(Number(5000n - before));
        assert.equal(reason, 'steps');
        // The last step alone, or an idle gap before it, leads over the limit.
        if (machine.totalSteps < 5000n) assert.ok(machine.now >= machine.timeLimit);
      }
      runSteps(whole, 5000);
      assert.deepEqual(summary(machine), summary(whole));
      for (const each of [machine, whole]) each.free();
    }),
    runs(40),
  );
});

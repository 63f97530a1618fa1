/** System calls and replay-only code that a host hears of: where the run ends, and that the guest cannot tell. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Engine, type EngineOptions } from '../engine/engine.ts';
import { REPLAY_ONLY } from '../hart/state.ts';
import { HINT_MAGIC } from '../isa/hint.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Pool } from '../memory/pool.ts';
import { Assembler } from '../testing/assembler.ts';
import { CSR } from '../testing/csr.ts';
import { bareMachine, runs } from '../testing/machines.ts';
import { stateHash } from './hash.ts';
import { formatPosition } from './log.ts';
import type { Machine } from './machine.ts';
import { MachineError, type Stop } from './options.ts';

const [t0, t1, t2, s0, a0, a7] = [5, 6, 7, 8, 10, 17] as const;

const ENGINES: Record<string, NonNullable<EngineOptions['translate']>> = {
  interpreter: false,
  'translator, at once': { hotness: 1, batch: 1, patience: 1 },
  'translator, after some turns': { hotness: 5, batch: 3, patience: 2 },
};
const engines = Object.entries(ENGINES).map(
  ([name, translate]) => [name, new Engine(new Pool(), 0, { translate })] as const,
);

/** Every hart goes round in U-mode: replay-only code (skipped) and a system call each turn, which M-mode counts in t2. */
const IMAGE = (() => {
  const a = new Assembler(RAM_BASE);
  a.la(t0, 'handler');
  a.csrw(CSR.mtvec, t0);
  a.li(t0, -1);
  a.csrw(CSR.pmpaddr0, t0);
  a.li(t0, 0x1f);
  a.csrw(CSR.pmpcfg0, t0);
  a.la(t0, 'user');
  a.csrw(CSR.mepc, t0);
  a.csrw(CSR.mstatus, 0);
  a.op('mret');
  a.label('user');
  a.li(t1, HINT_MAGIC);
  a.label('turn');
  a.li(a0, 7);
  a.li(t0, 0);
  a.label('begin');
  a.op('braid.hint', { rs1: t1, imm: REPLAY_ONLY.begin });
  a.branch('beq', t0, 0, 'skip');
  a.op('addi', { rd: s0, rs1: s0, imm: 1 });
  a.label('skip');
  a.label('end');
  a.op('braid.hint', { rs1: t1, imm: REPLAY_ONLY.end });
  a.op('addi', { rd: a7, rs1: a7, imm: 1 });
  a.label('call');
  a.op('ecall');
  a.jump(0, 'turn');
  a.org((a.here + 3n) & ~3n);
  a.label('handler');
  a.csrr(t0, CSR.mepc);
  a.op('addi', { rd: t0, rs1: t0, imm: 4 });
  a.csrw(CSR.mepc, t0);
  a.op('addi', { rd: t2, rs1: t2, imm: 1 });
  a.op('mret');
  return { bytes: a.bytes(), at: (label: string) => a.addressOf(label) };
})();

const summary = (machine: Machine) => ({
  hash: stateHash(machine),
  position: formatPosition(machine.position),
  now: machine.now,
});

/** Runs so many steps; gives the stops that came on the way. */
function pass(machine: Machine, steps: number): Stop[] {
  const stops: Stop[] = [];
  const end = machine.totalSteps + BigInt(steps);
  for (;;) {
    const stop = machine.run(Number(end - machine.totalSteps));
    if (stop.reason === 'steps') return stops;
    stops.push(stop);
  }
}

for (const [name, engine] of engines) {
  describe(name, () => {
    test('a run ends before each of them, once', () => {
      const machine = bareMachine(IMAGE.bytes, {}, {}, engine);
      const { interceptions, hartSet } = machine;
      const code = interceptions.add({ kind: 'replay-only' });
      const call = interceptions.add({ kind: 'system-call' });
      const pc = () => hartSet.get(0, 'pc');
      for (let turn = 1n; turn <= 60n; turn++) {
        const common = { reason: 'replay-only', hart: 0, code: 7n, ids: [code] };
        assert.deepEqual(machine.run(1000), { ...common, phase: 'begin' });
        assert.equal(pc(), IMAGE.at('begin'));
        assert.deepEqual(machine.run(0), { reason: 'steps' });
        assert.deepEqual(machine.run(1), { reason: 'steps' });
        assert.equal(pc(), IMAGE.at('begin') + 4n);
        assert.equal(hartSet.getX(0, t0), 0n);
        assert.deepEqual(machine.run(1000), { ...common, phase: 'end' });
        assert.equal(pc(), IMAGE.at('end'));
        assert.deepEqual(machine.run(1000), { reason: 'system-call', hart: 0, ids: [call] });
        assert.equal(pc(), IMAGE.at('call'));
        assert.equal(hartSet.get(0, 'privilege'), 0n);
        assert.equal(hartSet.getX(0, a7), turn);
        assert.equal(hartSet.getX(0, t2), turn - 1n);
      }
      assert.equal(hartSet.getX(0, s0), 0n, 'the code is skipped');
      assert.ok(interceptions.delete(code) && interceptions.delete(call) && !interceptions.delete(call));
      assert.deepEqual(pass(machine, 1000), []);
      machine.free();
    });

    test('conditions choose, and see where the hart is', () => {
      const machine = bareMachine(IMAGE.bytes, { harts: 2, slice: 100 }, {}, engine);
      const seen = new Set<string>();
      const ids = [
        machine.interceptions.add({
          kind: 'replay-only',
          condition: ({ hart, phase, code }) => {
            seen.add(`${hart} ${phase} ${code} ${machine.hartSet.get(hart, 'pc') === IMAGE.at(phase)}`);
            return false;
          },
        }),
        machine.interceptions.add({ kind: 'system-call', condition: (hart) => machine.hartSet.getX(hart, a7) === 9n }),
      ];
      assert.deepEqual(pass(machine, 2000), [
        { reason: 'system-call', hart: 0, ids: [ids[1]] },
        { reason: 'system-call', hart: 1, ids: [ids[1]] },
      ]);
      assert.deepEqual([...seen].sort(), ['0 begin 7 true', '0 end 7 true', '1 begin 7 true', '1 end 7 true']);
      machine.free();
    });

    test('what a condition throws comes out of run, and the machine goes on from there', () => {
      const machine = bareMachine(IMAGE.bytes, {}, {}, engine);
      let fails = 2;
      machine.interceptions.add({
        kind: 'system-call',
        condition: () => {
          if (fails-- > 0) throw new Error('not now');
          return true;
        },
      });
      for (let n = 0; n < 2; n++) assert.throws(() => machine.run(1000), /not now/);
      assert.equal(machine.run(1000).reason, 'system-call');
      assert.equal(machine.hartSet.getX(0, a7), 1n);
      machine.free();
    });

    test('nothing that the guest can see depends on who listens', () => {
      fc.assert(
        fc.property(
          fc.record({ harts: fc.integer({ min: 1, max: 3 }), slice: fc.integer({ min: 1, max: 300 }) }),
          fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 8 }),
          fc.boolean(),
          fc.boolean(),
          (options, pieces, calls, codes) => {
            const alone = bareMachine(IMAGE.bytes, options, {}, engine);
            const heard = bareMachine(IMAGE.bytes, options, {}, engine);
            if (calls) heard.interceptions.add({ kind: 'system-call' });
            if (codes) heard.interceptions.add({ kind: 'replay-only' });
            for (const steps of pieces) {
              assert.deepEqual(pass(alone, steps), []);
              pass(heard, steps);
              assert.deepEqual(summary(heard), summary(alone));
            }
            alone.free();
            heard.free();
          },
        ),
        runs(20),
      );
    });
  });
}

test('something else cannot be intercepted', () => {
  const machine = bareMachine(IMAGE.bytes);
  assert.throws(() => machine.interceptions.add({ kind: 'return' } as never), MachineError);
  machine.free();
});

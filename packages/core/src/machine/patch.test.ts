/** Answers to hints that bring bytes: where they may go, what else they change, and that a replay finds them again. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { HINT_MAGIC } from '../isa/hint.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';
import { StateError } from '../state/errors.ts';
import { Assembler } from '../testing/assembler.ts';
import { BASE } from '../testing/directed.ts';
import { bareMachine, runs, SEED } from '../testing/machines.ts';
import { ALL, PTE, pte } from '../testing/page-tables.ts';
import { record, replay, restoreLoggedRun, saveLoggedRun } from '../timeline/logged-run.ts';
import { stateHash } from './hash.ts';
import { type Patch, restoreLog } from './log.ts';
import type { Machine } from './machine.ts';
import { canPatch } from './patch.ts';

const [t0, t1, a0, a1] = [5, 6, 10, 11] as const;
const TABLES = 0x8080_0000;
/** Guest-physical pages, in the order of what follows. */
const PHYSICAL = [BASE - RAM_BASE, 0x10_0000, 0x30_0000, 0x20_0000, 0x40_0000, 0x50_0000, 0x60_0000, 0x70_0000].map(
  (at) => RAM_BASE + at,
);
/** Flags of the virtual pages from 0 on: the program, two pages side by side, and pages that may not be written so. */
const FLAGS = [
  ALL | PTE.U,
  ALL | PTE.U,
  ALL | PTE.U,
  (ALL & ~PTE.W) | PTE.U,
  (ALL & ~PTE.D) | PTE.U,
  (ALL & ~PTE.A) | PTE.U,
  ALL,
  (ALL & ~PTE.V) | PTE.U,
];
const WRITABLE = [0, 1, 2];
const PROTECTED = 2;

/** In U-mode under Sv39, one hint before its answer. */
function waiting(): Machine {
  const a = new Assembler(BASE);
  a.op('braid.hint', { rs1: t1, imm: 4 });
  a.label('end');
  a.op('addi', { rd: a0, rs1: a0, imm: 1 });
  a.jump(0, 'end');
  const machine = bareMachine(a.bytes(), { hints: { take: 1 } });
  const put = (address: number, value: bigint) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    machine.ram.write(address, bytes);
  };
  put(TABLES, pte(TABLES + 0x1000, 1n));
  put(TABLES + 0x1000, pte(TABLES + 0x2000, 1n));
  for (const [n, flags] of FLAGS.entries()) put(TABLES + 0x2000 + 8 * n, pte(PHYSICAL[n]!, flags));
  const hart = machine.hartSet.record(0);
  hart.set('pmpaddr0', (1n << 54n) - 1n);
  hart.set('pmpcfg0', 0x1fn);
  hart.set('satp', (8n << 60n) | BigInt(TABLES >>> 12));
  hart.set('privilege', 0n);
  hart.set('pc', 0n);
  hart.setX(t1, HINT_MAGIC);
  hart.setX(a0, 1n);
  hart.setX(a1, 0n);
  return machine;
}

function atHint(machine: Machine): Machine {
  assert.equal(machine.run(10).reason, 'hint');
  return machine;
}

function answer(machine: Machine, writes: readonly Patch[]): bigint {
  machine.input({ kind: 'hint', hart: 0, value: 77n, writes });
  machine.run(0);
  return machine.hartSet.getX(0, t0);
}

function read(machine: Machine, virtual: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let n = 0; n < length; n++)
    machine.ram.read(PHYSICAL[Math.floor((virtual + n) / PAGE)]! + ((virtual + n) % PAGE), bytes.subarray(n, n + 1));
  return bytes;
}

const bytes = (length: number, of = 0x5a) => new Uint8Array(length).fill(of);

describe('an answer with bytes', () => {
  test('writes them across pages, and has its value', () => {
    const machine = atHint(waiting());
    const writes = [
      { address: 0x1ff0n, bytes: bytes(0x20) },
      { address: 0x1ff8n, bytes: bytes(0x10, 1) },
      { address: 0x1000n, bytes: new Uint8Array(0) },
    ];
    assert.equal(answer(machine, writes), 77n);
    const expected = bytes(0x20);
    expected.fill(1, 8, 24);
    assert.deepEqual(read(machine, 0x1ff0, 0x20), expected);
    machine.free();
  });

  test('goes nowhere where the process could not write without its kernel: all of it or nothing', () => {
    const length = FLAGS.length * PAGE;
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(length - 1), length: fc.integer({ min: 1, max: 2 * PAGE }) }), {
          minLength: 1,
          maxLength: 3,
        }),
        (places) => {
          const machine = atHint(waiting());
          const writes = places.map(({ at, length }) => ({ address: BigInt(at), bytes: bytes(length) }));
          const good = places.every(({ at, length }) => {
            for (let page = Math.floor(at / PAGE); page * PAGE < at + length; page++)
              if (!WRITABLE.includes(page)) return false;
            return true;
          });
          const before = stateHash(machine);
          assert.equal(canPatch(machine, 0, writes), good);
          assert.equal(stateHash(machine), before);
          const result = answer(machine, writes);
          assert.equal(result, good ? 77n : 0n);
          if (good)
            for (const { at, length } of places.slice(-1))
              if (at >= PAGE) assert.deepEqual(read(machine, at, length), bytes(length));
          if (!good) {
            const other = refused();
            assert.equal(stateHash(machine), stateHash(other));
            other.free();
          }
          machine.free();
        },
      ),
      runs(60),
    );
  });

  /** What a machine is that got the value 0 and no bytes. */
  function refused(): Machine {
    const machine = atHint(waiting());
    machine.input({ kind: 'hint', hart: 0, value: 0n });
    machine.run(0);
    return machine;
  }

  test('keeps to the protection of physical memory, and to addresses that there are', () => {
    const machine = atHint(waiting());
    const hart = machine.hartSet.record(0);
    hart.set('pmpcfg0', 0x1f1dn);
    hart.set('pmpaddr1', (1n << 54n) - 1n);
    hart.set('pmpaddr0', (BigInt(PHYSICAL[PROTECTED]!) >> 2n) | 0x1ffn);
    assert.equal(canPatch(machine, 0, [{ address: 0x1000n, bytes: bytes(1) }]), true);
    assert.equal(canPatch(machine, 0, [{ address: 0x2000n, bytes: bytes(1) }]), false);
    for (const address of [1n << 38n, (1n << 64n) - 1n, (1n << 64n) - 4096n])
      assert.equal(canPatch(machine, 0, [{ address, bytes: bytes(2) }]), false);
    hart.set('privilege', 3n);
    assert.equal(canPatch(machine, 0, [{ address: BigInt(RAM_BASE), bytes: bytes(2) }]), true);
    for (const address of [0x1000_0000n, BigInt(RAM_BASE + machine.options.memory - 1), 1n << 60n])
      assert.equal(canPatch(machine, 0, [{ address, bytes: bytes(2) }]), false);
    machine.free();
  });

  test('is logged, and a replay comes to the same state', () => {
    const machine = waiting();
    const recording = record(machine);
    atHint(machine);
    answer(machine, [{ address: 0x1ff0n, bytes: bytes(0x20) }]);
    machine.run(100);
    const again = replay(machine.engine, restoreLoggedRun(saveLoggedRun(recording)));
    atHint(again);
    again.run(100);
    assert.equal(stateHash(again), stateHash(machine));
    machine.free();
    again.free();
  });
});

test(`a log with an answer that makes no sense is refused (seed ${SEED})`, () => {
  const log = (writes: unknown) => ({
    version: 1,
    events: [
      { position: { round: 0n, hart: 0, step: 0 }, time: 0n, event: { kind: 'hint', hart: 0, value: 1n, writes } },
    ],
  });
  assert.equal(restoreLog(log([{ address: 5n, bytes: bytes(3) }])).length, 1);
  for (const writes of [
    undefined,
    5,
    {},
    [5],
    [{ address: 5n }],
    [{ address: -1n, bytes: bytes(1) }],
    [{ address: 5n, bytes: 'x' }],
    [{ address: 5n, bytes: bytes(1), more: 1 }],
  ])
    assert.throws(() => restoreLog(log(writes)), StateError);
});

/** Single decisions of small programs, one question each. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { buildElf } from '../boot/testing.ts';
import type { Machine } from '../machine/machine.ts';
import { Assembler } from '../testing/assembler.ts';
import { plainMachine } from '../testing/bare.ts';
import { decisionProgram } from '../testing/decision-program.ts';
import { sharedEngine } from '../testing/machines.ts';
import { PTE } from '../testing/page-tables.ts';
import { DecisionError, decisionOf } from './decision.ts';
import { functionAt } from './flow.ts';
import { type AheadOptions, type DecisionEnd, HostBranch, type HostBranchOptions } from './host-branch.ts';
import { branchPointAt } from './points.ts';
import { ProgramCode } from './program-code.ts';

const BASE = 0x8000_0000n;
const DATA = BASE + 0x4000n;
const STACK = BASE + 0xa000n;
const [RA, SP, T0, S0, S1, A0, S10] = [1, 2, 5, 8, 9, 10, 26] as const;

/** `if (slow()) way();` with S10 at the data, S1 = 7, and a way of `length` turns more. */
function program(slow: (a: Assembler) => void, way: (a: Assembler) => void) {
  const a = new Assembler(BASE);
  a.li(SP, STACK);
  a.li(S10, DATA);
  a.li(S1, 7);
  a.label('again');
  a.jump(RA, 'f');
  a.label('back');
  a.jump(0, 'again');
  a.label('f');
  a.op('addi', { rd: SP, rs1: SP, imm: -16 });
  a.op('sd', { rs2: RA, rs1: SP, imm: 8 });
  a.label('fork');
  a.jump(RA, 'slow');
  a.label('decision');
  a.branch('beq', A0, 0, 'join');
  way(a);
  a.label('join');
  a.op('ld', { rd: RA, rs1: SP, imm: 8 });
  a.op('addi', { rd: SP, rs1: SP, imm: 16 });
  a.op('jalr', { rs1: RA });
  a.label('slow');
  slow(a);
  a.op('addi', { rd: A0, imm: 1 });
  a.op('jalr', { rs1: RA });
  const image = a.bytes();
  const symbols = { f: a.addressOf('f') };
  const code = new ProgramCode(buildElf({ segments: [{ address: BASE, data: image }], symbols }));
  const address = a.addressOf('f');
  const pair = { forkPoint: a.addressOf('fork'), decisionPoint: a.addressOf('decision'), function: { address } };
  const decision = decisionOf(functionAt(code, { address }), branchPointAt(code, pair), code);
  return { machine: () => start(image), decision, join: a.addressOf('join') };
}

function start(image: Uint8Array): Machine {
  const machine = plainMachine(image, {}, sharedEngine());
  machine.hartSet.record(0).set('mstatus', 1n << 13n);
  return machine;
}

/** Goes through as many decisions as there are ends wanted. */
function decideAll(
  { machine: make, decision }: ReturnType<typeof program>,
  count: number,
  options: HostBranchOptions = {},
  ahead: AheadOptions = {},
): { readonly machine: Machine; readonly ends: readonly DecisionEnd[] } {
  const machine = make();
  const branch = new HostBranch(decision, options);
  const ends = Array.from({ length: count }, () => {
    const activation = branch.reach(machine, 1e4);
    assert.ok(!('reason' in activation));
    const end = branch.ahead(machine, activation, { quantum: 100, limit: 1e4, ...ahead }).run();
    assert.ok(!('reason' in end));
    return end;
  });
  return { machine, ends };
}

const u64 = (machine: Machine, address: bigint) => {
  const bytes = new Uint8Array(8);
  machine.ram.read(Number(address), bytes);
  return new DataView(bytes.buffer).getBigUint64(0, true);
};
const reasonOf = (end: DecisionEnd | undefined) => (end?.taken ? 'taken' : end?.refusal.reason);
const nothing = () => {};

test('a byte that the way leaves as it was and the original has changed: refused, and taken over once bytes are told apart', () => {
  const made = program(
    (a) => a.op('sd', { rs2: S1, rs1: S10 }),
    (a) => a.op('sd', { rs2: 0, rs1: S10 }),
  );
  const { machine, ends } = decideAll(made, 2);
  assert.deepEqual(ends[0], {
    outcome: 1,
    taken: false,
    refusal: { reason: 'conflict', address: DATA, pages: [DATA >> 12n] },
  });
  assert.deepEqual(ends[1], { outcome: 1, taken: true, stepsSaved: 2, bytesWritten: 8 });
  assert.equal(u64(machine, DATA), 0n);
  assert.equal(machine.hartSet.get(0, 'pc'), made.join);
  machine.free();
});

test('bytes beside those that the condition changes are taken over once bytes are told apart', () => {
  const made = program(
    (a) => a.op('sd', { rs2: S1, rs1: S10 }),
    (a) => {
      a.op('ld', { rd: T0, rs1: S10, imm: 8 });
      a.op('addi', { rd: T0, rs1: T0, imm: 5 });
      a.op('sd', { rs2: T0, rs1: S10, imm: 8 });
    },
  );
  const { machine, ends } = decideAll(made, 3);
  assert.deepEqual(ends.map(reasonOf), ['stale-read', 'taken', 'taken']);
  assert.ok(!ends[0]!.taken && ends[0]!.refusal.reason === 'stale-read' && !ends[0]!.refusal.exact);
  assert.deepEqual([u64(machine, DATA), u64(machine, DATA + 8n)], [7n, 15n]);
  machine.free();
});

test('a byte that the way reads: refused each time, and exactly so', () => {
  const made = program(
    (a) => {
      a.op('ld', { rd: T0, rs1: S10 });
      a.op('addi', { rd: T0, rs1: T0, imm: 1 });
      a.op('sd', { rs2: T0, rs1: S10 });
    },
    (a) => a.op('ld', { rd: S0, rs1: S10 }),
  );
  const { machine, ends } = decideAll(made, 3, { bytes: 'all' });
  const refusal = { reason: 'stale-read', exact: true, address: DATA, pages: [DATA >> 12n] };
  assert.deepEqual(ends, Array(3).fill({ outcome: 1, taken: false, refusal }));
  machine.run(1);
  assert.equal(machine.hartSet.getX(0, S0), 2n);
  machine.free();
});

test('a register that the way may have given the value that it had', () => {
  // S0 is written on one way through the loop only, with what the clone has there already.
  const made = program(
    (a) => a.op('addi', { rd: S0, imm: 3 }),
    (a) => {
      a.branch('beq', S1, 0, 'past');
      a.op('addi', { rd: S0, imm: 0 });
      a.label('past');
    },
  );
  const { machine, ends } = decideAll(made, 1);
  assert.deepEqual(ends[0], { outcome: 1, taken: false, refusal: { reason: 'registers', registers: [S0] } });
  machine.free();
});

test('a register that each walk of the way writes is taken over', () => {
  const made = program(
    (a) => a.op('addi', { rd: S0, imm: 3 }),
    (a) => a.op('addi', { rd: S0, imm: 0 }),
  );
  const { machine, ends } = decideAll(made, 1);
  assert.equal(reasonOf(ends[0]), 'taken');
  assert.equal(machine.hartSet.getX(0, S0), 0n);
  machine.free();
});

test('floating-point flags of both sides are there', () => {
  const raise = (value: number) => (a: Assembler) => {
    a.li(T0, value);
    a.op('fcvt.d.l', { rd: 1, rs1: T0, rm: 7 });
    a.op('fcvt.d.l', { rd: 2, rs1: 0, rm: 7 });
    a.op('fdiv.d', { rd: 3, rs1: 1, rs2: value === 0 ? 2 : 1, rm: 7 });
    if (value !== 0) a.op('fdiv.d', { rd: 3, rs1: 1, rs2: 2, rm: 7 });
  };
  // Zero by zero is invalid (16); one by zero is a division by zero (8).
  const both = decideAll(program(raise(0), raise(1)), 1);
  assert.equal(reasonOf(both.ends[0]), 'taken');
  assert.equal(both.machine.hartSet.get(0, 'fflags'), 24n);
  both.machine.free();
});

test('the condition can be made by the clone as well', () => {
  const made = program(
    (a) => a.op('addi', { rd: S0, rs1: S0, imm: 3 }),
    (a) => a.op('addi', { rd: S1, rs1: S0, imm: 1 }),
  );
  const skipped = decideAll(made, 1);
  assert.equal(reasonOf(skipped.ends[0]), 'registers');
  skipped.machine.free();
  const { machine, ends } = decideAll(made, 1, { makeCalls: true });
  assert.equal(reasonOf(ends[0]), 'taken');
  assert.equal(machine.hartSet.getX(0, S1), 4n);
  machine.free();
});

test('a clone that is not done in time, or never', () => {
  const long = program(nothing, (a) => {
    a.li(T0, 1000);
    a.label('turn');
    a.op('addi', { rd: T0, rs1: T0, imm: -1 });
    a.branch('bne', T0, 0, 'turn');
  });
  for (const [options, reason] of [
    [{ patience: 100 }, 'unfinished'],
    [{ limit: 500 }, 'limit'],
    [{}, 'taken'],
  ] as const) {
    const { machine, ends } = decideAll(long, 1, {}, options);
    assert.equal(reasonOf(ends[0]), reason);
    machine.free();
  }
});

test('a condition without a call: the original stands at the decision at once', () => {
  const { machine: make, decision } = program(nothing, (a) => a.op('addi', { rd: S0, rs1: S1, imm: 2 }));
  const { machine, ends } = decideAll(
    { machine: make, decision: { ...decision, forkPoint: decision.decisionPoint, calls: [] }, join: 0n },
    3,
  );
  assert.deepEqual(ends.map(reasonOf), ['taken', 'taken', 'taken']);
  machine.free();
});

test('only in the address space that is named', () => {
  const { machine: make, decision } = program(nothing, (a) => a.op('addi', { rd: T0, rs1: S1 }));
  const machine = make();
  assert.deepEqual(new HostBranch(decision, { satp: 1n }).reach(machine, 1000), { reason: 'steps' });
  assert.ok(!('reason' in new HostBranch(decision, { satp: 0n }).reach(machine, 1000)));
  machine.free();
});

test('a branch in a frame that is not known', () => {
  const { decision } = program(nothing, (a) => a.op('addi', { rd: T0, rs1: S1 }));
  const frame = { ...decision.frame, decisionPoint: undefined };
  assert.throws(() => new HostBranch({ ...decision, frame }), DecisionError);
});

describe('pages of the original', () => {
  const entry = (machine: Machine, number: bigint) => {
    const table = Number((machine.hartSet.get(0, 'satp') & 0xfff_ffff_ffffn) << 12n) + 0x2000;
    const address = table + 8 * Number(number);
    return { address, pte: u64(machine, BigInt(address)) };
  };
  const put = (machine: Machine, address: number, value: bigint) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    machine.ram.write(address, bytes);
  };
  /** An original at its decision, whose clone has written the first page of data. */
  const ready = () => {
    for (let seed = 0; ; seed++) {
      const program = decisionProgram({ seed, user: true, specials: false, sharing: 0 });
      const machine = program.machine(sharedEngine());
      const branch = new HostBranch(program.decision, { bytes: 'all' });
      const activation = branch.reach(machine, 1e4);
      assert.ok(!('reason' in activation));
      const ahead = branch.ahead(machine, activation, { limit: 1e4 });
      machine.breakpoints.add({ address: program.point.decisionPoint });
      const stop = machine.run(1e4);
      machine.breakpoints.clear();
      while (ahead.runClones(1e4));
      const number = program.stack.top / 4096n - 6n;
      const wrote = ahead.paths.every(
        ({ end }) => end && !('reason' in end) && end.pages.some((page) => page.number === number && page.after),
      );
      if (stop.reason === 'breakpoint' && wrote) return { machine, ahead, number };
      ahead.free();
      machine.free();
    }
  };
  for (const [what, change, reason] of [
    ['as it was', (pte: bigint) => pte, 'taken'],
    ['read only', (pte: bigint) => pte & ~PTE.W, 'not-writable'],
    ['of the kernel', (pte: bigint) => pte & ~PTE.U, 'unmapped'],
    ['gone', (pte: bigint) => pte & ~PTE.V, 'unmapped'],
    ['elsewhere', (pte: bigint) => pte + (0x100n << 10n), 'mapped-elsewhere'],
    ['clean', (pte: bigint) => pte & ~PTE.D, 'taken'],
  ] as const) {
    test(`${what}: ${reason}`, () => {
      const { machine, ahead, number } = ready();
      const { address, pte } = entry(machine, number);
      put(machine, address, change(pte));
      const end = ahead.run();
      assert.ok(!('reason' in end));
      assert.equal(reasonOf(end), reason);
      // What is written is dirty then, and refused it is as it was.
      assert.equal(u64(machine, BigInt(address)), reason === 'taken' ? pte | PTE.A | PTE.D : change(pte));
      machine.free();
    });
  }
});

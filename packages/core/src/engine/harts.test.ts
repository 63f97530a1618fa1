/** Directed tests of several harts: what one changes the others see at their next instruction, without any fence. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAUSE, MSTATUS } from '../hart/state.ts';
import { type Assembler, encode, rowOf } from '../testing/assembler.ts';
import { BASE, Bench } from '../testing/directed.ts';
import { ALL, pte } from '../testing/page-tables.ts';

const DATA = 0x8100_0000;
const MPP_S = MSTATUS.MPRV | (1n << 11n);
const SLICE = 10;

/** Hart 0 runs `first` over and over; hart 1 runs `second` once, in the second round. */
function two(first: (a: Assembler) => void, second: (a: Assembler) => void): Bench {
  const b = new Bench(
    (a) => {
      a.branch('bne', 10, 0, 'second');
      a.label('first');
      first(a);
      a.jump(0, 'first');
      a.label('second');
      for (let n = 0; n < SLICE; n++) a.op('addi');
      second(a);
      a.label('stop');
      a.jump(0, 'stop');
    },
    { harts: 2, slice: SLICE },
  );
  return b;
}

test('a page-table entry that another hart edits', () => {
  for (const [entry, value] of [
    [1, pte(DATA + 0x1000, ALL)],
    [1, 0n],
  ] as const) {
    const b = two(
      (a) => a.op('ld', { rd: 20, rs1: 21 }),
      (a) => a.op('sd', { rs1: 22, rs2: 23 }),
    );
    b.sv39()
      .map(1, DATA, ALL)
      .setU64(DATA, 1n)
      .setU64(DATA + 0x1000, 2n)
      .set('mstatus', MPP_S);
    b.setX(21, 0x1000).setX(22, b.entry(entry), 1).setX(23, value, 1);
    // Both harts' first rounds; then hart 0's again, hart 1's store, and hart 0's next load.
    b.run(2 * SLICE);
    assert.equal(b.x(20), 1n);
    b.run(2 * SLICE).run(3);
    if (value !== 0n) assert.equal(b.x(20), 2n);
    else assert.equal(b.get('mcause'), BigInt(CAUSE.loadPage));
    b.free();
  }
});

test('an entry of a higher level, in use by both', () => {
  const b = two(
    (a) => a.op('ld', { rd: 20, rs1: 21 }),
    (a) => a.op('sd', { rs1: 22, rs2: 23 }),
  );
  b.sv39()
    .map(1, DATA, ALL)
    .setU64(DATA, 1n)
    .setU64(DATA + 0x1000, 2n)
    .set('mstatus', MPP_S);
  b.setU64(0x8080_3008, pte(DATA + 0x1000, ALL));
  b.setX(21, 0x1000).setX(22, 0x8080_1000, 1).setX(23, pte(0x8080_3000, 1n), 1);
  b.run(4 * SLICE + 3);
  assert.equal(b.x(20), 2n);
  b.free();
});

test('code that another hart overwrites', () => {
  const addi = (imm: number) => encode(rowOf('addi'), { rd: 20, imm });
  const b = two(
    (a) => a.word(addi(1)),
    (a) => a.op('sw', { rs1: 22, rs2: 23 }),
  );
  b.setX(22, BASE + 4, 1)
    .setX(23, addi(2), 1)
    .run(2 * SLICE);
  assert.equal(b.x(20), 1n);
  b.run(2 * SLICE + 3);
  assert.equal(b.x(20), 2n);
  b.free();
});

test('time never goes back from hart to hart, and each hart counts its own instructions', () => {
  const b = new Bench(
    (a) => {
      a.label('again');
      // One list of time stamps for all: t5 is its end, in memory.
      a.op('ld', { rd: 6, rs1: 5 });
      a.csrr(7, 0xc01);
      a.op('sd', { rs1: 6, rs2: 7 });
      a.op('addi', { rd: 6, rs1: 6, imm: 8 });
      a.op('sd', { rs1: 5, rs2: 6 });
      a.jump(0, 'again');
    },
    { harts: 4, slice: 66 },
  );
  b.setU64(DATA, BigInt(DATA + 8));
  for (let hart = 0; hart < 4; hart++) b.setX(5, DATA, hart);
  b.run(66 * 4 * 20);
  const end = Number(b.u64(DATA));
  assert.equal(end, DATA + 8 + 8 * 11 * 4 * 20);
  for (let at = DATA + 16; at < end; at += 8) assert.ok(b.u64(at) >= b.u64(at - 8));
  for (let hart = 0; hart < 4; hart++) assert.equal(b.machine.instructions(hart), 66n * 20n);
  b.free();
});

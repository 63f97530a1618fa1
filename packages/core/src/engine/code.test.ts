/** Directed tests of fetching: code that changes under the hart, and instructions across pages. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAUSE, MENVCFG } from '../hart/state.ts';
import { Pool } from '../memory/pool.ts';
import { encode, rowOf } from '../testing/assembler.ts';
import { BASE, Bench, bench } from '../testing/directed.ts';
import { ALL, PTE, pte } from '../testing/page-tables.ts';
import { Engine } from './engine.ts';

const A0 = 10;
const A1 = 11;
const CODE = 0x8100_0000;
const addi = (imm: number, rd = A0, rs1 = A0) => encode(rowOf('addi'), { rd, rs1, imm });
const words = (...list: number[]) => new Uint8Array(Uint32Array.from(list).buffer);
const halves = (...list: number[]) => new Uint8Array(Uint16Array.from(list).buffer);

test('a store to the next instruction, and to the one after, is executed at once, with fence.i and without', () => {
  for (const fence of ['fence.i', 'addi']) {
    for (const distance of [4, 8]) {
      for (const warm of [false, true]) {
        const b = new Bench((a) => {
          a.op('sw', { rs1: 12, rs2: 13, imm: 0 });
          for (let at = 4; at < distance; at += 4) a.op(fence);
          a.word(addi(1));
          a.op('addi', { rd: A1, rs1: A1, imm: 1 });
        });
        if (warm) {
          // Everything decoded and run once, the store elsewhere.
          b.setX(12, CODE)
            .run(2 + distance / 4)
            .enter(3, BASE)
            .setX(A0, 0)
            .setX(A1, 0);
        }
        b.setX(12, BASE + distance)
          .setX(13, addi(100))
          .setX(A1, 0)
          .run(2 + distance / 4);
        assert.deepEqual([b.x(A0), b.x(A1)], [100n, 1n], `${fence} ${distance} ${warm}`);
        b.free();
      }
    }
  }
});

bench(
  'a store to part of an instruction that has run changes it',
  (a) => {
    a.label('again');
    a.word(addi(1));
    a.op('sb', { rs1: 12, rs2: 13, imm: 3 });
    a.jump(0, 'again');
  },
  (b) => {
    // The top byte of the immediate: 1 becomes 1 + 16 * 0x20.
    b.setX(12, BASE).setX(13, 0x20).run(4);
    assert.equal(b.x(A0), 1n + 0x201n);
  },
);

test('caches may be dropped before there is a machine', () => {
  const engine = new Engine(new Pool());
  engine.dropCaches();
  engine.dropShadows();
});

test('stores of the host are seen too', () => {
  const b = new Bench((a) => {
    a.label('again');
    a.word(addi(1));
    a.jump(0, 'again');
  });
  b.run(4)
    .write(BASE, words(addi(50)))
    .run(2);
  assert.equal(b.x(A0), 52n);
  b.write(BASE + 3, Uint8Array.of(0)).run(2);
  assert.equal(b.x(A0), 52n + BigInt(50 & 15));
  b.free();
});

bench(
  'code seen through two mappings is one code',
  (a) => a.op('ecall'),
  (b) => {
    b.sv39().map(1, CODE, ALL).map(2, CODE, ALL);
    b.write(CODE, words(addi(1), encode(rowOf('sw'), { rs1: 12, rs2: 13 }), addi(2)))
      .setX(12, 0x2008)
      .setX(13, addi(70));
    b.enter(1, 0x1000).run(3);
    assert.equal(b.x(A0), 71n);
    b.enter(1, 0x2000).run(3);
    assert.equal(b.x(A0), 142n);
  },
);

bench(
  'a page that is mapped elsewhere while it runs goes on there, without sfence.vma',
  (a) => a.op('ecall'),
  (b) => {
    b.sv39().map(1, CODE, ALL).map(0x80, 0x8080_2000, ALL);
    const code = (imm: number) => words(addi(imm), encode(rowOf('sd'), { rs1: 12, rs2: 13 }), addi(imm));
    b.write(CODE, code(1)).write(CODE + 0x1000, code(20));
    b.setX(12, 0x80008)
      .setX(13, pte(CODE + 0x1000, ALL))
      .enter(1, 0x1000)
      .run(3);
    assert.equal(b.x(A0), 21n);
  },
);

/** `addi a0, a0, 5` with its halves in two pages, then `addi a0, a0, 100`. */
function straddling(second: bigint): Bench {
  const b = new Bench((a) => a.op('ecall'))
    .sv39()
    .map(1, CODE, ALL)
    .map(2, CODE + 0x2000, second);
  const bits = addi(5);
  b.write(CODE + 0xffe, halves(bits & 0xffff))
    .write(CODE + 0x2000, halves(bits >>> 16))
    .write(CODE + 0x2002, words(addi(100)));
  return b.enter(1, 0x1ffe);
}

test('an instruction across two pages: its halves change, its second page goes away', () => {
  const b = straddling(ALL).run(2);
  assert.equal(b.x(A0), 105n);
  // The second half, then the first.
  b.write(CODE + 0x2000, halves(addi(7) >>> 16))
    .enter(1, 0x1ffe)
    .run(1);
  assert.equal(b.x(A0), 112n);
  b.write(CODE + 0xffe, halves(addi(0, A1, A0) & 0xffff))
    .enter(1, 0x1ffe)
    .run(1);
  assert.equal(b.x(A1), 119n);
  // Elsewhere, where another second half is.
  b.write(CODE + 0x3000, halves(addi(9) >>> 16))
    .map(2, CODE + 0x3000, ALL)
    .enter(1, 0x1ffe)
    .run(1);
  assert.equal(b.x(A1), 121n);
  b.map(2, CODE, 0n).enter(1, 0x1ffe).run(1);
  assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.fetchPage), epc: 0x1ffen, tval: 0x2000n });
  b.free();
});

test('the fault of a second page has the address of the second part, and changes nothing', () => {
  for (const [flags, cause] of [
    [0n, CAUSE.fetchPage],
    [ALL & ~PTE.X, CAUSE.fetchPage],
    [ALL | PTE.U, CAUSE.fetchPage],
    [ALL & ~PTE.A, CAUSE.fetchPage],
  ] as const) {
    const b = straddling(flags).set('menvcfg', 0n).run(1);
    assert.deepEqual(b.trap(), { cause: BigInt(cause), epc: 0x1ffen, tval: 0x2000n });
    assert.equal(b.x(A0), 0n);
    b.free();
  }
  const gone = straddling(ALL).map(2, 0x4000_0000, ALL).run(1);
  assert.deepEqual(gone.trap(), { cause: BigInt(CAUSE.fetchAccess), epc: 0x1ffen, tval: 0x2000n });
  gone.free();
  const updated = straddling(ALL & ~PTE.A)
    .set('menvcfg', MENVCFG.ADUE)
    .run(1);
  assert.equal(updated.x(A0), 5n);
  assert.equal(updated.u64(updated.entry(2)) & PTE.A, PTE.A);
  updated.free();
});

test('a two-byte instruction at the end of a page does not need the next one', () => {
  const b = straddling(0n)
    .write(CODE + 0xffe, halves(0x0505))
    .run(1);
  assert.deepEqual([b.x(A0), b.trap()], [1n, undefined]);
  b.run(1);
  assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.fetchPage), epc: 0x2000n, tval: 0x2000n });
  b.free();
});

test('illegal instructions give their bits, across pages too, and the first half of one that is too long', () => {
  for (const bits of [0xffff_ffff, 0x0000_000b, 0x3020_00f3]) {
    const b = straddling(ALL)
      .write(CODE + 0xffe, halves(bits & 0xffff))
      .write(CODE + 0x2000, halves(bits >>> 16))
      .run(1);
    assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.illegal), epc: 0x1ffen, tval: BigInt(bits >>> 0) });
    b.free();
  }
  for (const bits of [0, 0x8000, 0x9c41, 0x6101]) {
    const b = straddling(ALL)
      .write(CODE + 0xffe, halves(bits))
      .run(1);
    if (bits === 0x6101) assert.equal(b.trap()?.cause, BigInt(CAUSE.illegal));
    else assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.illegal), epc: 0x1ffen, tval: BigInt(bits) });
    b.free();
  }
});

test('jumps to nowhere leave the link and fault at the target', () => {
  for (const target of [0n, 0x4000_0000n, 0x8200_0000n, (1n << 64n) - 2n, 1n << 63n]) {
    const b = new Bench((a) => a.op('jalr', { rd: 1, rs1: A0, imm: 1 })).setX(A0, target).run(2);
    assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.fetchAccess), epc: target, tval: target });
    assert.equal(b.x(1), BigInt(BASE + 4));
    b.free();
  }
  const b = new Bench((a) => a.op('ecall'))
    .sv39()
    .enter(1, 1n << 38n)
    .run(1);
  assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.fetchPage), epc: 1n << 38n, tval: 1n << 38n });
  b.free();
});

test('straight lines run on from page to page, up to the end of RAM', () => {
  const b = new Bench((a) => a.op('ecall'));
  const nops = new Uint8Array(0x2000);
  for (let at = 0; at < nops.length; at += 4) nops.set(words(addi(1)), at);
  b.write(0x81ff_e000, nops).enter(3, 0x81ff_e000).run(2049);
  assert.equal(b.x(A0), 2048n);
  assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.fetchAccess), epc: 0x8200_0000n, tval: 0x8200_0000n });
  b.free();
});

/** Directed tests of memory access: page crossings, faults and their order, translation, what follows an edited entry. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAUSE, MENVCFG, MSTATUS } from '../hart/state.ts';
import { BASE, Bench, bench } from '../testing/directed.ts';
import { ALL, PTE, pte } from '../testing/page-tables.ts';

const A0 = 10;
const A1 = 11;
const DATA = 0x8100_0000;
const S = 1;
const MPP_S = MSTATUS.MPRV | (1n << 11n);

/** One instruction on a0 (address) and a1. */
const one = (name: string) => (a: { op(name: string, fields: object): void }) =>
  a.op(name, { rd: A1, rs1: A0, rs2: A1 });

/** A bench that accesses memory from M-mode with S-mode's eyes, pages 1 and 2 mapped to DATA and DATA + 2 pages. */
function translated(name: string, flags: bigint = ALL, second: bigint = ALL): Bench {
  return new Bench(one(name))
    .sv39()
    .map(1, DATA, flags)
    .map(2, DATA + 0x2000, second)
    .set('mstatus', MPP_S);
}

function caught(b: Bench, cause: number, tval: bigint | number): void {
  assert.deepEqual(b.trap(), { cause: BigInt(cause), epc: BigInt(BASE), tval: BigInt.asUintN(64, BigInt(tval)) });
}

const SIZES = { lb: 1, lbu: 1, lh: 2, lhu: 2, lw: 4, lwu: 4, ld: 8 } as const;

test('loads across a page boundary take their bytes from two frames', () => {
  for (const [name, size] of Object.entries(SIZES)) {
    for (let offset = 0x1000 - size + 1; offset < 0x1000; offset++) {
      const b = translated(name);
      const bytes = Uint8Array.from({ length: size }, (_, i) => 0xf1 - 16 * i);
      const first = 0x1000 - offset;
      b.write(DATA + offset, bytes.subarray(0, first)).write(DATA + 0x2000, bytes.subarray(first));
      b.setX(A0, 0x1000 + offset).run(1);
      const raw = bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
      const value = name.endsWith('u') ? raw : BigInt.asUintN(64, BigInt.asIntN(8 * size, raw));
      assert.equal(b.x(A1), value, `${name} at ${offset.toString(16)}`);
      b.free();
    }
  }
});

test('stores across a page boundary put their bytes into two frames, or none when the second page faults', () => {
  for (const [name, size] of Object.entries({ sh: 2, sw: 4, sd: 8 })) {
    for (let offset = 0x1000 - size + 1; offset < 0x1000; offset++) {
      for (const second of [ALL, ALL & ~PTE.W]) {
        const b = translated(name, ALL, second);
        b.setX(A0, 0x1000 + offset)
          .setX(A1, 0x8877_6655_4433_2211n)
          .run(1);
        const stored = [...b.read(DATA + offset, 0x1000 - offset), ...b.read(DATA + 0x2000, size - (0x1000 - offset))];
        const wanted = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88].slice(0, size);
        if (second === ALL) assert.deepEqual(stored, wanted, name);
        else {
          caught(b, CAUSE.storePage, 0x2000);
          assert.deepEqual(stored, wanted.fill(0), name);
        }
        b.free();
      }
    }
  }
});

test('the first page of a crossing access faults first', () => {
  const b = translated('ld', PTE.V, PTE.V).setX(A0, 0x1ffd).run(1);
  caught(b, CAUSE.loadPage, 0x1ffd);
  b.free();
});

test('addresses at the ends of the address space', () => {
  for (const [name, cause] of [
    ['lb', CAUSE.loadAccess],
    ['ld', CAUSE.loadAccess],
    ['sb', CAUSE.storeAccess],
  ] as const) {
    for (const address of [-1n, -8n, 0n, (1n << 63n) - 1n, 1n << 63n, 0x7fff_ffffn, 1n << 32n, 1n << 44n, 1n << 56n]) {
      const b = new Bench((a) => {
        // A device access first, whose value is a device's address: what it leaves behind would show.
        a.op('sd', { rs1: 6, rs2: 7 });
        a.op(name, { rd: A1, rs1: A0, rs2: A1 });
      });
      b.setX(6, 0x0200_4000).setX(7, 0x1000_0005).setX(A0, address).setX(A1, 7).run(2);
      assert.equal(b.x(A1), 7n);
      const trap = b.trap();
      assert.deepEqual([trap?.cause, trap?.epc], [BigInt(cause), BigInt(BASE + 4)], `${name} ${address.toString(16)}`);
      if (!(name === 'ld' && address === 0x7fff_ffffn)) assert.equal(trap?.tval, BigInt.asUintN(64, address));
      b.free();
    }
  }
});

bench(
  'RAM ends where it ends',
  (a) => {
    a.op('ld', { rd: A1, rs1: A0, imm: -8 });
    a.op('ld', { rd: A1, rs1: A0, imm: -7 });
  },
  (b) => {
    b.setX(A0, 0x8200_0000).run(1);
    assert.equal(b.trap(), undefined);
    b.run(1);
    assert.equal(b.trap()?.cause, BigInt(CAUSE.loadAccess));
    assert.equal(b.trap()?.tval, 0x8200_0000n);
  },
);

test('Svade: a clear accessed or dirty flag is a page fault, and stays clear', () => {
  const cases = [
    ['lb', ALL & ~PTE.A, CAUSE.loadPage],
    ['sb', ALL & ~PTE.A, CAUSE.storePage],
    ['sb', ALL & ~PTE.D, CAUSE.storePage],
    ['amoadd.w', ALL & ~PTE.D, CAUSE.storePage],
    ['lb', ALL & ~PTE.D, undefined],
    ['lr.w', ALL & ~PTE.D, undefined],
    ['sb', ALL, undefined],
  ] as const;
  for (const [name, flags, cause] of cases) {
    const b = translated(name, flags).set('menvcfg', 0n).setX(A0, 0x1010).run(1);
    if (cause === undefined) assert.equal(b.trap(), undefined, name);
    else caught(b, cause, 0x1010);
    assert.equal(b.u64(b.entry(1)), pte(DATA, flags), name);
    b.free();
  }
  const b = new Bench((a) => a.op('ecall'))
    .sv39()
    .map(1, BASE, ALL & ~PTE.A)
    .set('menvcfg', 0n)
    .enter(S, 0x1000)
    .run(1);
  assert.equal(b.trap()?.cause, BigInt(CAUSE.fetchPage));
  b.free();
});

test('Svadu: hardware sets the flags that an access needs, and only when it succeeds', () => {
  const none = PTE.V | PTE.R | PTE.W | PTE.X;
  const cases = [
    ['lb', none, none | PTE.A],
    ['sb', none, none | PTE.A | PTE.D],
    ['sb', none | PTE.A, none | PTE.A | PTE.D],
    ['amoadd.w', none, none | PTE.A | PTE.D],
    ['lr.w', none, none | PTE.A],
    ['sb', none & ~PTE.W, none & ~PTE.W],
    ['lb', none | PTE.U, none | PTE.U],
  ] as const;
  for (const [name, before, after] of cases) {
    const b = translated(name, before).set('menvcfg', MENVCFG.ADUE).setX(A0, 0x1010).run(1);
    assert.equal(b.u64(b.entry(1)), pte(DATA, after), name);
    b.free();
  }
});

test('Svadu is on after reset: systems that set no flags and never heard of menvcfg work', () => {
  const b = translated('sb', ALL & ~PTE.A & ~PTE.D)
    .setX(A0, 0x1010)
    .run(1);
  assert.equal(b.trap(), undefined);
  assert.equal(b.u64(b.entry(1)), pte(DATA, ALL));
  b.free();
});

test('Svadu: the update itself is checked by physical memory protection', () => {
  const b = translated('sb', ALL & ~PTE.D).set('menvcfg', MENVCFG.ADUE);
  // The page of last-level tables can be read and not written; then everything.
  b.set('pmpaddr0', BigInt((0x8080_2000 >>> 2) | 0x1ff))
    .set('pmpaddr1', (1n << 54n) - 1n)
    .set('pmpcfg0', 0x1f19n);
  b.setX(A0, 0x1010).run(1);
  caught(b, CAUSE.storeAccess, 0x1010);
  b.free();
});

test('a page table where there is no memory, or none that may be read, is an access fault of the access', () => {
  for (const [name, cause] of [
    ['ld', CAUSE.loadAccess],
    ['sd', CAUSE.storeAccess],
    ['amoor.d', CAUSE.storeAccess],
  ] as const) {
    const nowhere = translated(name).setU64(0x8080_1000, pte(0x4000_0000, PTE.V)).setX(A0, 0x1010).run(1);
    caught(nowhere, cause, 0x1010);
    nowhere.free();
    const denied = translated(name);
    denied
      .set('pmpaddr0', BigInt((0x8080_1000 >>> 2) | 0x1ff))
      .set('pmpaddr1', (1n << 54n) - 1n)
      .set('pmpcfg0', 0x1f18n);
    denied.setX(A0, 0x1010).run(1);
    caught(denied, cause, 0x1010);
    denied.free();
  }
});

test('alignment comes before translation for atomics, and AMOs fault as stores', () => {
  const cases = [
    ['amoadd.w', 0x4001, CAUSE.storeMisaligned],
    ['amoadd.d', 0x4004, CAUSE.storeMisaligned],
    ['sc.d', 0x4004, CAUSE.storeMisaligned],
    ['lr.w', 0x4002, CAUSE.loadMisaligned],
    ['amoadd.w', 0x4000, CAUSE.storePage],
    ['sc.w', 0x4000, CAUSE.storePage],
    ['lr.w', 0x4000, CAUSE.loadPage],
  ] as const;
  for (const [name, address, cause] of cases) {
    const b = translated(name).setX(A0, address).run(1);
    caught(b, cause, address);
    b.free();
  }
  for (const [name, cause] of [
    ['amoswap.d', CAUSE.storeAccess],
    ['lr.d', CAUSE.loadAccess],
  ] as const) {
    for (const address of [0x4000_0000, 0x1000_0000]) {
      const b = new Bench(one(name)).setX(A0, address).run(1);
      caught(b, cause, address);
      b.free();
    }
  }
});

bench(
  'an edited entry counts at once, without sfence.vma',
  (a) => {
    a.op('ld', { rd: A1, rs1: A0 });
    a.op('sd', { rs1: 12, rs2: 13 });
    a.op('ld', { rd: 14, rs1: A0 });
    a.op('sd', { rs1: 12 });
    a.op('ld', { rd: 15, rs1: A0 });
  },
  (b) => {
    b.sv39().map(1, DATA, ALL).map(0x80, 0x8080_2000, ALL).set('mstatus', MPP_S);
    b.setU64(DATA + 8, 1n).setU64(DATA + 0x1008, 2n);
    b.setX(A0, 0x1008)
      .setX(12, 0x80008)
      .setX(13, pte(DATA + 0x1000, ALL))
      .run(5);
    assert.deepEqual([b.x(A1), b.x(14)], [1n, 2n]);
    assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.loadPage), epc: BigInt(BASE + 16), tval: 0x1008n });
  },
);

bench(
  'so do an edit of a higher level, of the code that runs, and a partial one',
  (a) => {
    a.op('ld', { rd: A1, rs1: A0 });
    a.op('sd', { rs1: 12, rs2: 13 });
    a.op('ld', { rd: 14, rs1: A0 });
    a.op('sb', { rs1: 16, rs2: 17, imm: 1 });
    a.op('ld', { rd: 15, rs1: A0 });
  },
  (b) => {
    b.sv39().map(1, DATA, ALL).map(0x80, 0x8080_1000, ALL).map(0x81, 0x8080_3000, ALL).set('mstatus', MPP_S);
    b.setU64(0x8080_3008, pte(DATA + 0x1000, ALL));
    b.setU64(DATA, 1n)
      .setU64(DATA + 0x1000, 2n)
      .setU64(DATA + 0x3000, 3n);
    // The new table lacks the pages of the tables themselves, so the last store is in M-mode.
    b.setX(A0, 0x1000).setX(12, 0x80000).setX(13, pte(0x8080_3000, PTE.V)).run(3);
    assert.deepEqual([b.x(A1), b.x(14)], [1n, 2n]);
    b.set('mstatus', 0)
      .setX(16, 0x8080_3008)
      .setX(17, Number((pte(DATA + 0x3000, ALL) >> 8n) & 255n))
      .run(1);
    b.set('mstatus', MPP_S).run(1);
    assert.equal(b.x(15), 3n);
  },
);

test('MPRV, SUM and MXR decide about data and not about fetches', () => {
  const cases = [
    [MSTATUS.MPRV, ALL, 'lb', false],
    [MSTATUS.MPRV, ALL | PTE.U, 'lb', true],
    [MPP_S, ALL | PTE.U, 'lb', false],
    [MPP_S | MSTATUS.SUM, ALL | PTE.U, 'lb', true],
    [MPP_S | MSTATUS.SUM, ALL | PTE.U, 'sb', true],
    [MPP_S, PTE.V | PTE.X | PTE.A, 'lb', false],
    [MPP_S | MSTATUS.MXR, PTE.V | PTE.X | PTE.A, 'lb', true],
    [MPP_S | MSTATUS.MXR, PTE.V | PTE.X | PTE.A | PTE.D, 'sb', false],
    [MSTATUS.MPRV | (3n << 11n), PTE.V, 'lb', false],
  ] as const;
  for (const [status, flags, name, good] of cases) {
    const b = translated(name, flags).set('mstatus', status).setX(A0, 0x1010).run(1);
    // With MPP = M the address is physical, where nothing is.
    const cause = status & (2n << 11n) ? CAUSE.loadAccess : name === 'lb' ? CAUSE.loadPage : CAUSE.storePage;
    if (good) assert.equal(b.trap(), undefined);
    else caught(b, cause, 0x1010);
    b.free();
  }
  // S-mode never runs user code, SUM or not.
  const b = new Bench((a) => a.op('ecall'))
    .sv39()
    .map(1, BASE, ALL | PTE.U)
    .set('mstatus', MSTATUS.SUM)
    .enter(S, 0x1000)
    .run(1);
  assert.equal(b.trap()?.cause, BigInt(CAUSE.fetchPage));
  b.free();
});

test('Sv48 and its superpages; a misaligned one is a page fault', () => {
  const root = 0x8090_0000;
  for (let level = 3; level >= 1; level--) {
    for (const wrong of [0, 0x1000]) {
      const b = new Bench(one('ld'))
        .open()
        .set('satp', (9n << 60n) | BigInt(root >>> 12))
        .set('mstatus', MPP_S);
      let table = root;
      for (let n = 3; n > level; n--, table += 0x1000) b.setU64(table, pte(table + 0x1000, PTE.V));
      // From virtual address 0 on; 512 GiB can only begin at physical 0.
      const physical = level === 1 ? DATA : level === 2 ? 0x8000_0000 : 0;
      b.setU64(table, pte(physical + wrong, ALL));
      const va = level === 1 ? 0x1f_f008 : level === 2 ? DATA - 0x8000_0000 + 8 : DATA + 8;
      b.setU64(level === 1 ? DATA + 0x1f_f008 : DATA + 8, 99n)
        .setX(A0, va)
        .run(1);
      if (wrong) caught(b, CAUSE.loadPage, va);
      else assert.equal(b.x(A1), 99n, `level ${level}`);
      b.free();
    }
  }
});

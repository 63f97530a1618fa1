/** Physical memory protection: its registers, its matching against the specification word by word, and its use by a hart. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CSR } from '../testing/csr.ts';
import { BASE, Bench, bench } from '../testing/directed.ts';
import { SEED } from '../testing/machines.ts';
import { PMP_ENTRIES, type ProtectionRegisters, pageRights, writeAddress, writeConfig } from './protection.ts';
import { CAUSE, type HartField, MSTATUS } from './state.ts';

const [R, W, X, TOR, NA4, NAPOT, LOCK] = [1, 2, 4, 0x08, 0x10, 0x18, 0x80];
const GRAIN = 10n;
const DATA = 0x8100_0000;

function registers(entries: readonly (readonly [config: number, address: bigint])[] = []): ProtectionRegisters {
  const made = { config: new Uint8Array(PMP_ENTRIES), address: new BigUint64Array(PMP_ENTRIES) };
  for (const [i, [config, address]] of entries.entries()) {
    made.config[i] = config;
    made.address[i] = address;
  }
  return made;
}

/** What an address register reads as: ones below the grain in NAPOT, zeros in OFF and TOR. */
function readAddress(r: ProtectionRegisters, i: number): bigint {
  const value = r.address[i]!;
  return (r.config[i]! & NAPOT) === NAPOT ? value | 511n : (value >> GRAIN) << GRAIN;
}

/** Section 3.7.1 for one aligned 4-byte word; `word` is its address / 4. */
function matches(r: ProtectionRegisters, i: number, word: bigint): boolean {
  const grained = (value: bigint) => (value >> GRAIN) << GRAIN;
  const mode = r.config[i]! & NAPOT;
  if (mode === TOR) return word >= (i === 0 ? 0n : grained(r.address[i - 1]!)) && word < grained(r.address[i]!);
  if (mode !== NAPOT) return false;
  const value = readAddress(r, i);
  let ones = 0n;
  while ((value >> ones) & 1n) ones++;
  // Ones up to the top: everything.
  const size = 1n << (ones + 1n);
  return word / size === value / size;
}

const entry = fc.tuple(
  fc
    .constantFrom(0, R, R | W, X, R | X, R | W | X)
    .chain((rights) =>
      fc.constantFrom(0, TOR, NAPOT).chain((mode) => fc.constantFrom(0, LOCK).map((lock) => rights | mode | lock)),
    ),
  fc.oneof(
    fc.bigInt(0n, 0x2200_0000n),
    fc.bigInt(0n, 54n).map((n) => (1n << n) - 1n),
    fc.tuple(fc.bigInt(0x8000n, 0x8200n), fc.bigInt(0n, 20n)).map(([page, n]) => (page << 14n) | ((1n << n) - 1n)),
  ),
);

test('the rights of a page are those of each of its words', () => {
  fc.assert(
    fc.property(
      fc.array(entry, { maxLength: PMP_ENTRIES }),
      fc.bigInt(0n, 0x90000n),
      fc.boolean(),
      (list, page, machine) => {
        const r = registers(list);
        const found = pageRights(r, page, machine);
        for (const word of [0n, 1n, 511n, 1023n]) {
          const i = r.config.findIndex((_, n) => matches(r, n, (page << GRAIN) + word));
          const none = machine ? R | W | X : 0;
          const expected = i < 0 ? none : machine && !(r.config[i]! & LOCK) ? R | W | X : r.config[i]! & (R | W | X);
          assert.equal(found, expected);
        }
      },
    ),
    { numRuns: 3000, seed: SEED | 0 },
  );
});

/** Puts registers into the only hart of a machine. */
function give(b: Bench, { config, address }: ProtectionRegisters): void {
  const view = new DataView(config.buffer);
  b.set('pmpcfg0', view.getBigUint64(0, true)).set('pmpcfg2', view.getBigUint64(8, true));
  for (const [n, value] of address.entries()) b.set(`pmpaddr${n}` as HartField, value);
  b.machine.engine.dropShadows();
}

bench(
  'what a hart may do to a page is what the rights say, in each mode',
  (a) => {
    a.op('ld', { rd: 11, rs1: 10 });
    a.op('sd', { rs1: 10, rs2: 11 });
  },
  (b) => {
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: PMP_ENTRIES }),
        fc.integer({ min: 0x80000, max: 0x80800 }),
        fc.constantFrom(0, 1, 3),
        fc.boolean(),
        (list, page, privilege, store) => {
          const r = registers(list);
          give(b, r);
          const pc = BASE + (store ? 4 : 0);
          const fetch = pageRights(r, BigInt(BASE >>> 12), true) & X;
          const right = pageRights(r, BigInt(page), privilege === 3) & (store ? W : R);
          const address = BigInt(page) << 12n;
          b.setX(10, address + 0x100n)
            .set('mstatus', MSTATUS.MPRV | (BigInt(privilege) << 11n))
            .enter(3, pc)
            .run(1);
          const cause = fetch ? (store ? CAUSE.storeAccess : CAUSE.loadAccess) : CAUSE.fetchAccess;
          const tval = fetch ? address + 0x100n : BigInt(pc);
          assert.deepEqual(
            b.trap(),
            fetch && right ? undefined : { cause: BigInt(cause), epc: BigInt(pc), tval },
            `${[...r.config]} ${[...r.address]}`,
          );
        },
      ),
      { numRuns: 1500, seed: SEED | 0 },
    );
  },
);

bench(
  'the grain shows in what addresses read as',
  (a) => {
    for (let n = 0; n < PMP_ENTRIES; n++) a.op('csrrs', { rd: 10 + n, csr: CSR.pmpaddr0 + n });
  },
  (b) => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: PMP_ENTRIES }), (list) => {
        // The code may run, whatever the others say.
        const r = registers(list.map(([config, address]) => [config & ~LOCK, address]));
        give(b, r);
        b.enter(3, BASE).run(PMP_ENTRIES);
        for (let n = 0; n < PMP_ENTRIES; n++) assert.equal(b.x(10 + n), readAddress(r, n));
      }),
      { numRuns: 300, seed: SEED | 0 },
    );
  },
);

test('an address register has 54 bits', () => {
  const r = registers();
  writeAddress(r, 0, (1n << 64n) - 1n);
  assert.equal(r.address[0], (1n << 54n) - 1n);
});

test('what cannot be chosen is not: NA4, write without read, reserved bits', () => {
  const r = registers();
  writeConfig(r, 0, BigInt(NA4 | R));
  assert.equal(r.config[0], R);
  writeConfig(r, 0, BigInt(TOR | R));
  writeConfig(r, 0, BigInt(NA4 | R | X));
  assert.equal(r.config[0], TOR | R | X);
  writeConfig(r, 0, BigInt(TOR | W | X));
  assert.equal(r.config[0]! & W, 0);
  writeConfig(r, 0, 0x60n);
  assert.equal(r.config[0], 0);
});

test('a locked entry keeps its registers, and the address below it in TOR mode', () => {
  const r = registers();
  writeAddress(r, 0, 0x1000n);
  writeAddress(r, 1, 0x2000n);
  writeConfig(r, 0, BigInt((LOCK | TOR | R) << 8));
  writeConfig(r, 0, 0xffffn);
  assert.deepEqual([...r.config.subarray(0, 2)], [0xff & ~0x60, LOCK | TOR | R]);
  writeAddress(r, 0, 0n);
  writeAddress(r, 1, 0n);
  assert.deepEqual([...r.address.subarray(0, 2)], [0x1000n, 0x2000n]);
  const napot = registers();
  writeConfig(napot, 0, BigInt((LOCK | NAPOT | R) << 8));
  writeAddress(napot, 0, 0x1000n);
  assert.equal(napot.address[0], 0x1000n);
});

const page = (address: number) => BigInt((address >>> 2) | 0x1ff);

test('M-mode is bound by locked entries only, S- and U-mode by all, and by none at all they may nothing', () => {
  const cases = [
    [3, 0, 'sd', true],
    [3, NAPOT | R, 'sd', true],
    [3, NAPOT | R | LOCK, 'sd', false],
    [3, NAPOT | R | LOCK, 'ld', true],
    [3, NAPOT | R | LOCK, 'amoadd.d', false],
    [1, NAPOT | R, 'ld', true],
    [1, NAPOT | R, 'sd', false],
    [0, NAPOT | R | W, 'sd', true],
    [0, NAPOT | X, 'ld', false],
  ] as const;
  for (const [privilege, config, name, good] of cases) {
    const b = new Bench((a) => a.op(name, { rd: 11, rs1: 10, rs2: 11 })).set('pmpaddr0', page(DATA));
    // Everything else is open, by the last entry.
    b.set('pmpaddr15', (1n << 54n) - 1n)
      .set('pmpcfg2', BigInt(NAPOT | R | W | X) << 56n)
      .set('pmpcfg0', config);
    b.setX(10, DATA + 8)
      .enter(privilege, BASE)
      .run(1);
    const cause = BigInt(name === 'ld' ? CAUSE.loadAccess : CAUSE.storeAccess);
    const wanted = good ? undefined : { cause, epc: BigInt(BASE), tval: BigInt(DATA + 8) };
    assert.deepEqual(b.trap(), wanted, `${privilege} ${config} ${name}`);
    b.free();
  }
  const closed = new Bench((a) => a.op('addi')).enter(1, BASE).run(1);
  assert.deepEqual(closed.trap(), { cause: BigInt(CAUSE.fetchAccess), epc: BigInt(BASE), tval: BigInt(BASE) });
  closed.free();
});

bench(
  'a change of protection counts at once, for pages and code in use',
  (a) => {
    a.op('ld', { rd: 11, rs1: 10 });
    a.csrw(CSR.pmpcfg0, 5);
    a.op('ld', { rd: 12, rs1: 10 });
    a.op('addi');
  },
  (b) => {
    b.open()
      .set('pmpaddr1', page(DATA))
      .set('mstatus', MSTATUS.MPRV | (1n << 11n))
      .setX(10, DATA)
      .setX(5, NAPOT << 8)
      .run(3);
    assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.loadAccess), epc: BigInt(BASE + 8), tval: BigInt(DATA) });
  },
);

bench(
  'locking the page that runs stops M-mode there at once',
  (a) => {
    a.csrw(CSR.pmpcfg0, 5);
    a.op('addi');
  },
  (b) => {
    b.set('pmpaddr0', page(BASE))
      .setX(5, NAPOT | R | LOCK)
      .run(2);
    assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.fetchAccess), epc: BigInt(BASE + 4), tval: BigInt(BASE + 4) });
  },
);

bench(
  'an access across two pages needs both',
  (a) => a.op('ld', { rd: 11, rs1: 10 }),
  (b) => {
    b.set('pmpaddr0', page(DATA + 0x1000))
      .set('pmpaddr1', (1n << 54n) - 1n)
      .set('pmpcfg0', 0x1f00 | NAPOT | X);
    b.setX(10, DATA + 0xffc)
      .enter(1, BASE)
      .run(1);
    assert.deepEqual(b.trap(), { cause: BigInt(CAUSE.loadAccess), epc: BigInt(BASE), tval: BigInt(DATA + 0x1000) });
  },
);

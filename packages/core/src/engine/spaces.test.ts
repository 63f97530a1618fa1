/**
 * Several address spaces that share tables, whose entries change at every level without a fence: what shadow tables hold,
 * copied from one space to another or dropped in part, is what a walk from the root finds.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAUSE, MSTATUS } from '../hart/state.ts';
import { Assembler } from '../testing/assembler.ts';
import { BASE, Bench } from '../testing/directed.ts';
import { SEED } from '../testing/machines.ts';
import { ALL, PTE, pte } from '../testing/page-tables.ts';
import { Random } from '../testing/random.ts';

/** More than a hart has tables for. */
const ROOTS = 20;
/** Tables of each level below the roots, at most. */
const MOST_TABLES = 16;
const TABLES = 0x8080_0000;
const DATA = 0x8120_0000;
const DATA_PAGES = 8;
const UPPER = [256, 511];
const LOWER = [0, 1];

const ACCESSES = {
  load: { at: BASE, right: PTE.R, fault: CAUSE.loadPage },
  store: { at: BASE + 4, right: PTE.W, fault: CAUSE.storePage },
  fetch: { at: BASE + 8, right: PTE.X, fault: CAUSE.fetchPage },
} as const;

class Spaces {
  readonly bench: Bench;
  private readonly random: Random;
  private readonly levels: number;
  private readonly perLevel: number;
  /** The one in use, or changed last. */
  private root = 0;
  private va = 0n;

  constructor(random: Random) {
    const a = new Assembler(BASE);
    a.op('ld', { rd: 11, rs1: 10 });
    a.op('sd', { rs1: 10, rs2: 12 });
    a.op('mret');
    this.bench = new Bench((program) => {
      for (const word of new Uint32Array(a.bytes().buffer)) program.word(word);
    }).open();
    this.random = random;
    this.levels = random.pick([3, 4]);
    this.perLevel = random.pick([2, MOST_TABLES]);
    for (let page = 0; page < DATA_PAGES; page++) {
      const code = new Assembler(0);
      code.op('addi', { rd: 13, imm: page + 1 });
      this.bench.write(DATA + page * 4096, code.bytes());
    }
    const top = this.levels - 1;
    for (let level = 0; level < top; level++) {
      for (let n = 0; n < this.perLevel; n++) for (const index of LOWER) this.write(level, n, index, this.entry(level));
    }
    for (let root = 0; root < ROOTS; root++) for (const index of LOWER) this.write(top, root, index, this.entry(top));
    this.alike();
  }

  private table(level: number, n: number): number {
    return TABLES + (level * MOST_TABLES + n) * 4096;
  }

  /** A store of the guest itself, in M-mode. */
  private write(level: number, n: number, index: number, value: bigint): void {
    const address = this.table(level, n) + 8 * index;
    this.bench.set('mstatus', 0n).enter(3, ACCESSES.store.at).setX(10, address).setX(12, value).run(1);
    assert.equal(this.bench.u64(address), value);
  }

  private entry(level: number): bigint {
    const { random } = this;
    if (random.chance(0.1)) return 0n;
    if (level > 0 && random.chance(0.95)) return pte(this.table(level - 1, random.below(this.perLevel)), PTE.V);
    if (level > 1) return 0n;
    const leaf = ALL & ~random.pick([0n, 0n, 0n, PTE.W, PTE.X]);
    return pte(DATA + (level === 0 ? 4096 * random.below(DATA_PAGES) : 0), random.chance(0.1) ? leaf | PTE.U : leaf);
  }

  /** Gives all roots one upper half. */
  private alike(): void {
    for (const index of UPPER) {
      const value = this.entry(this.levels - 1);
      for (let root = 0; root < ROOTS; root++) this.write(this.levels - 1, root, index, value);
    }
  }

  change(): void {
    const { random } = this;
    if (random.chance(0.1)) return this.alike();
    if (random.chance(0.5)) return this.changeBefore();
    const level = random.chance(0.5) ? this.levels - 1 : random.below(this.levels - 1);
    const root = level === this.levels - 1;
    const index = random.pick(root && random.chance(0.7) ? UPPER : LOWER);
    const table = random.below(root ? ROOTS : this.perLevel);
    this.write(level, table, index, this.entry(level));
    if (root) this.root = table;
  }

  /** Changes one of the entries that lead to the last address. */
  private changeBefore(): void {
    let n = this.root;
    const last = this.random.below(this.levels);
    for (let level = this.levels - 1; ; level--) {
      const index = Number((this.va >> BigInt(12 + 9 * level)) & 511n);
      const entry = this.bench.u64(this.table(level, n) + 8 * index);
      if (level === last || (entry & (PTE.V | PTE.R)) !== PTE.V) return this.write(level, n, index, this.entry(level));
      n = (Number((entry >> 10n) << 12n) - this.table(level - 1, 0)) / 4096;
    }
  }

  /** The leaf entry, and what it translates to. */
  private walk(root: number, va: bigint): { leaf: bigint; physical: number } | undefined {
    let table = this.table(this.levels - 1, root);
    for (let level = this.levels - 1; level >= 0; level--) {
      const shift = BigInt(12 + 9 * level);
      const entry = this.bench.u64(table + Number((va >> shift) & 511n) * 8);
      if ((entry & PTE.V) === 0n) return undefined;
      const address = Number((entry >> 10n) << 12n);
      if ((entry & PTE.R) !== 0n) return { leaf: entry, physical: address + Number(va & ((1n << shift) - 1n)) };
      table = address;
    }
    return undefined;
  }

  private address(): bigint {
    const { random } = this;
    const top = random.pick([...UPPER, ...LOWER]);
    let va = BigInt(top) << BigInt(12 + 9 * (this.levels - 1));
    for (let level = 0; level < this.levels - 1; level++) {
      va |= BigInt(random.pick(LOWER)) << BigInt(12 + 9 * level);
    }
    return BigInt.asUintN(64, BigInt.asIntN(12 + 9 * this.levels, va));
  }

  /** One access, often to the address of the last one, in the same space or another. */
  access(): 'done' | 'fault' {
    const { random, bench } = this;
    if (random.chance(0.5)) this.root = random.below(ROOTS);
    if (random.chance(0.3)) this.va = this.address();
    const { root } = this;
    let { va } = this;
    const kind = random.pick(['load', 'load', 'store', 'fetch'] as const);
    const { at, right, fault } = ACCESSES[kind];
    // Stores leave the instruction alone.
    if (kind === 'store') va += 8n;
    const sum = random.chance(0.3);
    const value = random.u64();
    const found = this.walk(root, va);
    const user = found !== undefined && (found.leaf & PTE.U) !== 0n;
    const allowed = found && (found.leaf & right) !== 0n && !(user && (kind === 'fetch' || !sum));
    const old = found && bench.u64(found.physical);
    const status = (1n << 11n) | (sum ? MSTATUS.SUM : 0n) | (kind === 'fetch' ? 0n : MSTATUS.MPRV);
    bench.set('satp', (this.levels === 4 ? 9n << 60n : 8n << 60n) | BigInt(this.table(this.levels - 1, root) >>> 12));
    bench.enter(3, at).set('mstatus', status).set('mepc', va).setX(10, va).setX(12, value).setX(13, 0);
    bench.run(kind === 'fetch' ? 2 : 1);
    const what = `${kind} 0x${va.toString(16)} in space ${root}`;
    const trap = bench.trap();
    if (!allowed) {
      assert.deepEqual([trap?.cause, trap?.tval], [BigInt(fault), va], what);
      return 'fault';
    }
    assert.equal(trap, undefined, what);
    if (kind === 'load') assert.equal(bench.x(11), old, what);
    else if (kind === 'store') assert.equal(bench.u64(found.physical), value, what);
    else assert.equal(bench.x(13), BigInt((found.physical - DATA) / 4096 + 1), what);
    return 'done';
  }
}

test(`spaces that share their upper half (seed ${SEED})`, () => {
  const random = new Random(SEED);
  const seen = { done: 0, fault: 0 };
  for (let n = 0; n < 100; n++) {
    const spaces = new Spaces(random);
    for (let i = 0; i < 250; i++) {
      if (random.chance(0.2)) spaces.change();
      seen[spaces.access()]++;
    }
    spaces.bench.free();
  }
  assert.ok(seen.done > 1000 && seen.fault > 100, JSON.stringify(seen));
});

test('two addresses whose low halves are alike, of one page', () => {
  const b = new Bench((a) => {
    a.op('ld', { rd: 11, rs1: 10 });
    a.op('sd', { rs1: 10, rs2: 12 });
  }).sv39();
  const [root, middle, last] = [TABLES, TABLES + 0x3000, TABLES + 0x4000];
  b.setU64(root + 8 * 256, pte(middle, PTE.V)).setU64(middle, pte(last, PTE.V));
  b.map(0, DATA, ALL).setU64(last, pte(DATA, ALL & ~PTE.W));
  b.setU64(DATA, 1n);
  const access = (at: number, va: bigint, value: bigint) => {
    b.set('mstatus', MSTATUS.MPRV | (1n << 11n))
      .enter(3, at)
      .setX(10, va)
      .setX(12, value)
      .run(1);
    return b.x(11);
  };
  access(ACCESSES.store.at, 0n, 1n);
  assert.equal(access(ACCESSES.load.at, 0xffff_ffc0_0000_0000n, 0n), 1n);
  b.map(0, DATA + 4096, ALL);
  access(ACCESSES.store.at, 0n, 2n);
  assert.deepEqual([b.u64(DATA), b.u64(DATA + 4096)], [1n, 2n]);
  b.free();
});

/**
 * Translation against the specification's algorithm (privileged, 4.3.2), written here a second time, on random entries: with
 * accessed and dirty flags updated by hardware and by fault, which no QEMU of Debian 12 can be asked about.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CAUSE, MENVCFG, MSTATUS } from '../hart/state.ts';
import { Assembler } from '../testing/assembler.ts';
import { BASE, Bench } from '../testing/directed.ts';
import { SEED } from '../testing/machines.ts';
import { PTE } from '../testing/page-tables.ts';
import { Random } from '../testing/random.ts';

const TABLES = 0x8080_0000;
const DATA = 0x8120_0000;
const DATA_PAGES = 8;

type Access = 'load' | 'store' | 'fetch';
const FAULTS = {
  load: { page: CAUSE.loadPage, access: CAUSE.loadAccess },
  store: { page: CAUSE.storePage, access: CAUSE.storeAccess },
  fetch: { page: CAUSE.fetchPage, access: CAUSE.fetchAccess },
} as const;

interface Setting {
  readonly levels: number;
  readonly privilege: 0 | 1;
  readonly sum: boolean;
  readonly mxr: boolean;
  readonly hardware: boolean;
}

type Result = { physical: bigint; update?: [address: number, pte: bigint] } | { fault: 'page' | 'access' };

/** Steps 1 to 10 of the algorithm. */
function translate(entry: (address: bigint) => bigint | undefined, s: Setting, va: bigint, access: Access): Result {
  const bits = 12 + 9 * s.levels;
  if (BigInt.asUintN(64, BigInt.asIntN(bits, va)) !== va) return { fault: 'page' };
  let table = BigInt(TABLES);
  for (let i = s.levels - 1; ; i--) {
    if (i < 0) return { fault: 'page' };
    const vpn = (va >> BigInt(12 + 9 * i)) & 511n;
    const address = table + vpn * 8n;
    const pte = entry(address);
    if (pte === undefined) return { fault: 'access' };
    const [v, r, w, x, u, a, d] = [PTE.V, PTE.R, PTE.W, PTE.X, PTE.U, PTE.A, PTE.D].map((bit) => (pte & bit) !== 0n);
    if (!v || (!r && w) || pte >> 54n !== 0n) return { fault: 'page' };
    const ppn = pte >> 10n;
    if (!r && !x) {
      if (u || a || d) return { fault: 'page' };
      table = ppn << 12n;
      continue;
    }
    const right = access === 'load' ? r || (s.mxr && x) : access === 'store' ? w : x;
    const mode = s.privilege === 0 ? u : !u || (s.sum && access !== 'fetch');
    if (!right || !mode) return { fault: 'page' };
    const low = (1n << BigInt(9 * i)) - 1n;
    if ((ppn & low) !== 0n) return { fault: 'page' };
    const physical = (((ppn & ~low) | ((va >> 12n) & low)) << 12n) | (va & 4095n);
    if (a && (d || access !== 'store')) return { physical };
    if (!s.hardware) return { fault: 'page' };
    return { physical, update: [Number(address), pte | PTE.A | (access === 'store' ? PTE.D : 0n)] };
  }
}

/** One table for each level from TABLES on; indices 0 to 7 of each are in use. */
function entryAt(random: Random, levels: number, level: number): bigint {
  const next = BigInt(TABLES + (levels - level) * 0x1000) >> 12n;
  const pointer = level > 0 ? random.chance(0.8) : random.chance(0.05);
  let flags = random.chance(0.95) ? PTE.V : 0n;
  if (pointer) {
    if (random.chance(0.04)) flags |= random.pick([PTE.A, PTE.D, PTE.U]);
    return ((random.chance(0.03) ? 0x4_0000n : next) << 10n) | flags;
  }
  flags |= BigInt(random.below(8)) << 1n;
  for (const bit of [PTE.U, PTE.A, PTE.A | PTE.D, PTE.D]) if (random.chance(0.4)) flags |= bit;
  const ppn =
    level === 0
      ? BigInt(DATA >>> 12) + BigInt(random.below(DATA_PAGES))
      : level === 1
        ? BigInt(DATA >>> 12) + (random.chance(0.2) ? 1n << BigInt(random.below(9)) : 0n)
        : BigInt(random.below(2) << (9 * level)) + (random.chance(0.3) ? 1n << BigInt(random.below(9 * level)) : 0n);
  return (ppn << 10n) | flags | (random.chance(0.03) ? 1n << BigInt(random.between(54, 63)) : 0n);
}

test(`random entries, as the specification's algorithm says (seed ${SEED})`, () => {
  const random = new Random(SEED);
  const seen = new Map<string, number>();
  for (let n = 0; n < 60; n++) {
    const levels = random.pick([3, 4]);
    const a = new Assembler(BASE);
    a.op('ld', { rd: 11, rs1: 10 });
    a.op('sd', { rs1: 10, rs2: 12 });
    a.op('mret');
    const b = new Bench((program) => {
      for (const word of new Uint32Array(a.bytes().buffer)) program.word(word);
    }).open();
    for (let level = 0; level < levels; level++) {
      for (let index = 0; index < 8; index++) {
        b.setU64(TABLES + (levels - 1 - level) * 0x1000 + 8 * index, entryAt(random, levels, level));
      }
    }
    const inRam = (address: bigint) => address >= 0x8000_0000n && address < 0x8200_0000n;
    const entry = (address: bigint) => (inRam(address) ? b.u64(address) : undefined);
    b.set('satp', (levels === 4 ? 9n << 60n : 8n << 60n) | BigInt(TABLES >>> 12));
    for (let i = 0; i < 150; i++) {
      const s: Setting = {
        levels,
        privilege: random.pick([0, 1] as const),
        sum: random.chance(0.5),
        mxr: random.chance(0.5),
        hardware: random.chance(0.5),
      };
      const access = random.pick(['load', 'store', 'fetch'] as const);
      let va = BigInt(8 * random.below(512));
      for (let level = 0; level < levels; level++) va |= BigInt(random.below(8)) << BigInt(12 + 9 * level);
      if (random.chance(0.03)) va ^= 1n << BigInt(random.between(12 + 9 * levels - 1, 63));
      const result = translate(entry, s, va, access);
      // A superpage may reach the tables, or this program; nobody wants to store there, or to run what is there.
      if ('physical' in result && inRam(result.physical) && result.physical < BigInt(DATA)) continue;
      if (random.chance(0.2)) {
        const level = random.below(levels);
        b.setU64(TABLES + (levels - 1 - level) * 0x1000 + 8 * random.below(8), entryAt(random, levels, level));
        continue;
      }

      const value = random.u64();
      const status = (s.sum ? MSTATUS.SUM : 0n) | (s.mxr ? MSTATUS.MXR : 0n) | (BigInt(s.privilege) << 11n);
      b.set('mstatus', access === 'fetch' ? status : status | MSTATUS.MPRV).set(
        'menvcfg',
        s.hardware ? MENVCFG.ADUE : 0n,
      );
      b.enter(3, BASE + { load: 0, store: 4, fetch: 8 }[access])
        .set('mepc', va)
        .setX(10, va)
        .setX(12, value);
      const memory = 'physical' in result ? entry(result.physical & ~7n) : undefined;
      // A fetch: what is in the page is not an instruction, and says so; or it is, and a step goes by.
      b.run(access === 'fetch' ? 2 : 1);

      const what = `${access} 0x${va.toString(16)} ${JSON.stringify(s)}`;
      const fault = 'fault' in result ? result.fault : inRam(result.physical) ? undefined : 'access';
      seen.set(`${access} ${fault ?? 'done'}`, (seen.get(`${access} ${fault ?? 'done'}`) ?? 0) + 1);
      const trap = b.trap();
      if (fault !== undefined) {
        assert.deepEqual([trap?.cause, trap?.tval], [BigInt(FAULTS[access][fault]), va], what);
      } else {
        // An instruction may trap for what it is, not for where it is.
        if (access === 'fetch') assert.ok(trap === undefined || ![1n, 12n].includes(trap.cause), what);
        else assert.equal(trap, undefined, what);
        if (access === 'load') assert.equal(b.x(11), memory, what);
        if (access === 'store' && 'physical' in result) assert.equal(b.u64(result.physical), value, what);
      }
      if ('update' in result && result.update) assert.equal(b.u64(result.update[0]), result.update[1], what);
    }
    b.free();
  }
  for (const access of ['load', 'store', 'fetch']) {
    for (const how of ['page', 'access', 'done'])
      assert.ok((seen.get(`${access} ${how}`) ?? 0) > 3, `${access} ${how}`);
  }
});

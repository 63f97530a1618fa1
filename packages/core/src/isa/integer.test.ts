/**
 * The semantics of the integer rows: each is compiled to a function of its operands and compared with a model in
 * bigints, written from the specification and sharing nothing with the rows.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Expr, i32, i64, type Local, Module } from '../wasm/index.ts';
import { type Row, rows, type Semantics } from './index.ts';

const s64 = (v: bigint) => BigInt.asIntN(64, v);
const u64 = (v: bigint) => BigInt.asUintN(64, v);
const s32 = (v: bigint) => BigInt.asIntN(32, v);
const u32 = (v: bigint) => BigInt.asUintN(32, v);
const bits = (v: bigint, width: number) => [...BigInt.asUintN(width, v).toString(2).padStart(width, '0')];
const count = (list: string[], bit: string) => BigInt(list.filter((b) => b === bit).length);
const leading = (list: string[]) => BigInt(list.indexOf('1') < 0 ? list.length : list.indexOf('1'));
const bytes = (v: bigint, each: (b: number, n: number) => [value: number, place: number]) => {
  let out = 0n;
  for (let n = 0; n < 8; n++) {
    const [value, place] = each(Number((u64(v) >> BigInt(8 * n)) & 0xffn), n);
    out |= BigInt(value) << BigInt(8 * place);
  }
  return out;
};
const rotateLeft = (v: bigint, by: bigint, width: number) => {
  const x = BigInt.asUintN(width, v);
  return (x << by) | (x >> (BigInt(width) - by));
};

/** a and b are rs1 and rs2 (or the immediate) as signed numbers; the result is taken modulo 2^64. */
type Model = (a: bigint, b: bigint) => bigint;

const ARITHMETIC: Record<string, Model> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  sll: (a, b) => a << (b & 63n),
  slt: (a, b) => (a < b ? 1n : 0n),
  sltu: (a, b) => (u64(a) < u64(b) ? 1n : 0n),
  xor: (a, b) => a ^ b,
  srl: (a, b) => u64(a) >> (b & 63n),
  sra: (a, b) => a >> (b & 63n),
  or: (a, b) => a | b,
  and: (a, b) => a & b,
  addw: (a, b) => s32(a + b),
  subw: (a, b) => s32(a - b),
  sllw: (a, b) => s32(a << (b & 31n)),
  srlw: (a, b) => s32(u32(a) >> (b & 31n)),
  sraw: (a, b) => s32(s32(a) >> (b & 31n)),
  mul: (a, b) => a * b,
  mulh: (a, b) => (a * b) >> 64n,
  mulhsu: (a, b) => (a * u64(b)) >> 64n,
  mulhu: (a, b) => (u64(a) * u64(b)) >> 64n,
  mulw: (a, b) => s32(a * b),
  // Division of bigints truncates as RISC-V's does, and the overflowing quotient wraps to the dividend.
  div: (a, b) => (b === 0n ? -1n : a / b),
  divu: (a, b) => (b === 0n ? -1n : u64(a) / u64(b)),
  rem: (a, b) => (b === 0n ? a : a % b),
  remu: (a, b) => (b === 0n ? a : u64(a) % u64(b)),
  divw: (a, b) => (u32(b) === 0n ? -1n : s32(s32(a) / s32(b))),
  divuw: (a, b) => (u32(b) === 0n ? -1n : s32(u32(a) / u32(b))),
  remw: (a, b) => (u32(b) === 0n ? s32(a) : s32(s32(a) % s32(b))),
  remuw: (a, b) => (u32(b) === 0n ? s32(a) : s32(u32(a) % u32(b))),
  'add.uw': (a, b) => u32(a) + b,
  sh1add: (a, b) => a * 2n + b,
  sh2add: (a, b) => a * 4n + b,
  sh3add: (a, b) => a * 8n + b,
  'sh1add.uw': (a, b) => u32(a) * 2n + b,
  'sh2add.uw': (a, b) => u32(a) * 4n + b,
  'sh3add.uw': (a, b) => u32(a) * 8n + b,
  'slli.uw': (a, b) => u32(a) << b,
  andn: (a, b) => a & ~b,
  orn: (a, b) => a | ~b,
  xnor: (a, b) => ~(a ^ b),
  clz: (a) => leading(bits(a, 64)),
  ctz: (a) => leading(bits(a, 64).reverse()),
  cpop: (a) => count(bits(a, 64), '1'),
  clzw: (a) => leading(bits(a, 32)),
  ctzw: (a) => leading(bits(a, 32).reverse()),
  cpopw: (a) => count(bits(a, 32), '1'),
  max: (a, b) => (a > b ? a : b),
  maxu: (a, b) => (u64(a) > u64(b) ? a : b),
  min: (a, b) => (a < b ? a : b),
  minu: (a, b) => (u64(a) < u64(b) ? a : b),
  'sext.b': (a) => BigInt.asIntN(8, a),
  'sext.h': (a) => BigInt.asIntN(16, a),
  'zext.h': (a) => BigInt.asUintN(16, a),
  rol: (a, b) => rotateLeft(a, b & 63n, 64),
  ror: (a, b) => rotateLeft(a, -b & 63n, 64),
  rolw: (a, b) => s32(rotateLeft(a, b & 31n, 32)),
  rorw: (a, b) => s32(rotateLeft(a, -b & 31n, 32)),
  'orc.b': (a) => bytes(a, (byte, n) => [byte ? 255 : 0, n]),
  rev8: (a) => bytes(a, (byte, n) => [byte, 7 - n]),
  bclr: (a, b) => a & ~(1n << (b & 63n)),
  bext: (a, b) => (u64(a) >> (b & 63n)) & 1n,
  binv: (a, b) => a ^ (1n << (b & 63n)),
  bset: (a, b) => a | (1n << (b & 63n)),
  'czero.eqz': (a, b) => (b === 0n ? 0n : a),
  'czero.nez': (a, b) => (b !== 0n ? 0n : a),
};

/** The forms with an immediate do what the ones with a register do. */
const IMMEDIATE: Record<string, string> = {
  addi: 'add',
  slti: 'slt',
  sltiu: 'sltu',
  xori: 'xor',
  ori: 'or',
  andi: 'and',
  slli: 'sll',
  srli: 'srl',
  srai: 'sra',
  addiw: 'addw',
  slliw: 'sllw',
  srliw: 'srlw',
  sraiw: 'sraw',
  rori: 'ror',
  roriw: 'rorw',
  bclri: 'bclr',
  bexti: 'bext',
  binvi: 'binv',
  bseti: 'bset',
};

const BRANCHES: Record<string, (a: bigint, b: bigint) => boolean> = {
  beq: (a, b) => a === b,
  bne: (a, b) => a !== b,
  blt: (a, b) => a < b,
  bge: (a, b) => a >= b,
  bltu: (a, b) => u64(a) < u64(b),
  bgeu: (a, b) => u64(a) >= u64(b),
};

/** New value of the memory, from the old one and rs2, both of the width in question. */
const ATOMICS: Record<string, (old: bigint, b: bigint, width: number) => bigint> = {
  amoswap: (_, b) => b,
  amoadd: (a, b) => a + b,
  amoxor: (a, b) => a ^ b,
  amoand: (a, b) => a & b,
  amoor: (a, b) => a | b,
  amomin: (a, b) => (a < b ? a : b),
  amomax: (a, b) => (a > b ? a : b),
  amominu: (a, b, width) => (BigInt.asUintN(width, a) < BigInt.asUintN(width, b) ? a : b),
  amomaxu: (a, b, width) => (BigInt.asUintN(width, a) > BigInt.asUintN(width, b) ? a : b),
};

const PC = 0xffff_ffff_8000_1234n;
/** The parameters of each function: rs1, rs2 and the immediate. The immediate is a constant if `imm` is given. */
type Compiled = (a: bigint, b: bigint, imm: bigint) => bigint;

function compile(list: readonly Row[], imm?: bigint): Record<string, Compiled> {
  const module = new Module();
  for (const row of list) {
    const ref = module.function(row.name, ['i64', 'i64', 'i64'], ['i64'], (f, a, b, parameter) => {
      const result: Local = f.local('i64');
      const immediate: Expr = imm === undefined ? parameter : i64.const(imm);
      const set = (value: Expr) => f.set(result, value);
      const semantics: Partial<Semantics> = {
        f,
        rs1: () => a,
        rs2: () => b,
        rs1w: () => i32.wrap(a),
        rs2w: () => i32.wrap(b),
        imm: () => immediate,
        immw: () => i32.wrap(immediate),
        pc: () => i64.const(PC),
        rd: set,
        rdw: (value) => set(i64.extendS(value)),
        branch: (condition) => set(i64.extendS(condition)),
        amo: (_, update) => set(update(a)),
        jumpTo: set,
      };
      row.execute(semantics as Semantics);
      f.return(result);
    });
    module.export(row.name, ref);
  }
  return new WebAssembly.Instance(new WebAssembly.Module(module.encode())).exports as Record<string, Compiled>;
}

const EDGES = [
  0n,
  1n,
  -1n,
  2n,
  31n,
  32n,
  63n,
  64n,
  0x80n,
  0x8000n,
  0xffffn,
  2n ** 31n,
  -(2n ** 31n),
  2n ** 31n - 1n,
].concat([2n ** 32n, 2n ** 32n - 1n, 2n ** 63n - 1n, -(2n ** 63n), 0x0100_0080_00ff_8001n, -0x0123_4567_89ab_cdefn]);

const seed = Number(process.env.BRAID_SEED ?? 1);

/** Every pair of edges, and random pairs of random lengths. */
function* pairs(): Generator<[bigint, bigint]> {
  for (const a of EDGES) for (const b of EDGES) yield [a, b];
  let state = BigInt(seed) | 1n;
  const next = () => {
    state = u64(state * 6364136223846793005n + 1442695040888963407n);
    return state >> 11n;
  };
  const value = () => s64((next() ^ (next() << 32n)) >> (next() % 64n));
  for (let n = 0; n < 500; n++) yield [value(), value()];
}

/** The values that the immediate of a row can have, from any number. */
function immediateOf(row: Row, b: bigint): bigint | undefined {
  if (row.format === 'SH') return b & 63n;
  if (row.format === 'SHW') return b & 31n;
  return row.format === 'I' ? BigInt.asIntN(12, b) : undefined;
}

const pure = rows.filter((row) => row.pure && row.extension !== 'F' && row.extension !== 'D' && row.format !== 'U');

test(`arithmetic rows, seed ${seed}`, () => {
  const compiled = compile(pure);
  for (const row of pure) {
    const model = ARITHMETIC[IMMEDIATE[row.name] ?? row.name];
    assert.ok(model, `no model of ${row.name}`);
    for (const [a, b] of pairs()) {
      const imm = immediateOf(row, b);
      const expected = s64(model(a, imm ?? b));
      // Whichever of rs2 and the immediate a row does not have is another number, so that it must not use it.
      const got = imm === undefined ? compiled[row.name]!(a, b, 99n) : compiled[row.name]!(a, ~b, imm);
      assert.equal(got, expected, `${row.name} ${a}, ${imm ?? b}`);
    }
  }
});

test('arithmetic rows with constant immediates', () => {
  const list = pure.filter((row) => immediateOf(row, 0n) !== undefined);
  for (const edge of [0n, 1n, 31n, 63n, -1n, 2047n, -2048n]) {
    for (const row of list) {
      const imm = immediateOf(row, edge)!;
      const compiled = compile([row], imm)[row.name]!;
      for (const a of EDGES)
        assert.equal(compiled(a, 99n, 99n), s64(ARITHMETIC[IMMEDIATE[row.name] ?? row.name]!(a, imm)));
    }
  }
});

test('lui, auipc and the target of jalr', () => {
  const compiled = compile(rows.filter((row) => ['lui', 'auipc', 'jalr'].includes(row.name)));
  assert.equal(compiled.lui!(1n, 2n, -0x80000000n), -0x80000000n);
  assert.equal(compiled.auipc!(1n, 2n, 0x7ffff000n), s64(PC + 0x7ffff000n));
  assert.equal(compiled.jalr!(0x1001n, 2n, -4n), 0xffcn);
});

test(`branch rows, seed ${seed}`, () => {
  const list = rows.filter((row) => row.format === 'B');
  const compiled = compile(list);
  for (const { name } of list) {
    for (const [a, b] of pairs()) assert.equal(compiled[name]!(a, b, 8n), BRANCHES[name]!(a, b) ? 1n : 0n, name);
  }
});

test(`atomic rows, seed ${seed}`, () => {
  const list = rows.filter((row) => row.name.startsWith('amo'));
  assert.equal(list.length, 18);
  const compiled = compile(list);
  for (const { name } of list) {
    const [stem, suffix] = name.split('.');
    const width = suffix === 'w' ? 32 : 64;
    for (const [x, y] of pairs()) {
      const old = BigInt.asIntN(width, x);
      const expected = BigInt.asIntN(width, ATOMICS[stem!]!(old, BigInt.asIntN(width, y), width));
      assert.equal(BigInt.asIntN(width, compiled[name]!(old, y, 0n)), expected, `${name} ${old}, ${y}`);
    }
  }
});

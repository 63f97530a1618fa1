/** Encodings, and that an expression means the same folded and executed. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { runs } from '../testing/machines.ts';
import { Bytes, type Expr, f32, f64, i32, i64, select } from './expr.ts';
import { type Local, Module } from './module.ts';

const encode = (write: (out: Bytes) => void): number[] => {
  const out = new Bytes();
  write(out);
  return [...out.view()];
};

/** Reads LEB128, apart from the writer. */
function leb(bytes: readonly number[], signed: boolean): bigint {
  let value = 0n;
  let shift = 0n;
  for (const byte of bytes) {
    value |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
  }
  return signed && bytes.at(-1)! & 0x40 ? value - (1n << shift) : value;
}

describe('LEB128', () => {
  test('the values at which the length changes', () => {
    const lengths: [bigint, number, number, number][] = [
      // value, bytes as u32, as s32, as s64
      [0n, 1, 1, 1],
      [63n, 1, 1, 1],
      [64n, 1, 2, 2],
      [127n, 1, 2, 2],
      [128n, 2, 2, 2],
      [8191n, 2, 2, 2],
      [8192n, 2, 3, 3],
      [16_383n, 2, 3, 3],
      [16_384n, 3, 3, 3],
      [0x7fff_ffffn, 5, 5, 5],
      [0xffff_ffffn, 5, 1, 5],
      [-1n, 5, 1, 1],
      [-64n, 5, 1, 1],
      [-65n, 5, 2, 2],
      [-0x8000_0000n, 5, 5, 5],
    ];
    for (const [value, u32, s32, s64] of lengths) {
      assert.equal(encode((out) => out.u32(Number(value))).length, u32, `u32 ${value}`);
      assert.equal(encode((out) => out.s32(Number(value))).length, s32, `s32 ${value}`);
      assert.equal(encode((out) => out.s64(value)).length, s64, `s64 ${value}`);
    }
    assert.equal(encode((out) => out.s64((1n << 63n) - 1n)).length, 10);
    assert.equal(encode((out) => out.s64(-(1n << 63n))).length, 10);
  });

  test('what is written is read again, in as few bytes as possible', () => {
    const near = fc
      .integer({ min: 0, max: 63 })
      .chain((bit) => fc.bigInt({ min: -3n, max: 3n }).map((d) => (1n << BigInt(bit)) + d));
    fc.assert(
      fc.property(
        fc.oneof(
          near,
          near.map((v) => -v),
          fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
        ),
        (value) => {
          const s64 = BigInt.asIntN(64, value);
          const bytes = encode((out) => out.s64(s64));
          assert.equal(leb(bytes, true), s64);
          if (bytes.length > 1) assert.notEqual(leb(bytes.slice(0, -1), true), s64);
          const s32 = Number(BigInt.asIntN(32, value));
          assert.equal(
            leb(
              encode((out) => out.s32(s32)),
              true,
            ),
            BigInt(s32),
          );
          const u32 = Number(BigInt.asUintN(32, value));
          assert.equal(
            leb(
              encode((out) => out.u32(u32)),
              false,
            ),
            BigInt(u32),
          );
        },
      ),
      runs(2000),
    );
  });

  test('names are UTF-8 behind their length', () => {
    assert.deepEqual(
      encode((out) => out.name('aé')),
      [3, 0x61, 0xc3, 0xa9],
    );
  });

  test('a buffer grows', () => {
    const out = new Bytes();
    for (let n = 0; n < 1000; n++) out.byte(n & 255);
    out.bytes(new Uint8Array(100_000).fill(7));
    assert.equal(out.length, 101_000);
    assert.equal(out.view()[999], 999 & 255);
    assert.equal(out.view()[100_999], 7);
  });
});

type Binary = (a: Expr | bigint, b: Expr | bigint) => Expr;
type Unary = (a: Expr | bigint) => Expr;
const BINARY = [
  ...['eq', 'ne', 'ltS', 'ltU', 'gtS', 'gtU', 'leS', 'leU', 'geS', 'geU'],
  ...['add', 'sub', 'mul', 'and', 'or', 'xor', 'shl', 'shrS', 'shrU', 'rotl', 'rotr'],
] as const;
const UNARY = ['eqz', 'clz', 'ctz', 'popcnt', 'extend8S', 'extend16S'] as const;

describe('folding', () => {
  /** For each operation: as a function of its operands, with the right one constant, and with the left one constant. */
  const wide = fc.oneof(
    fc.constantFrom(0n, 1n, -1n, 31n, 32n, 63n, 64n, 0x7fff_ffffn, 0x8000_0000n, (1n << 63n) - 1n, -(1n << 63n)),
    fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  );
  const samples = fc.sample(fc.tuple(wide, wide), { seed: runs(1).seed!, numRuns: 60 });

  for (const [type, ops] of [
    ['i32', i32],
    ['i64', i64],
  ] as const) {
    const bits = type === 'i32' ? 32 : 64;
    const operation = (name: string) => (ops as unknown as Record<string, unknown>)[name];
    const arg = (value: bigint) => (type === 'i32' ? Number(BigInt.asIntN(32, value)) : BigInt.asIntN(64, value));

    test(`${type}: an operation on constants is what executing it gives`, () => {
      const module = new Module();
      type Call = {
        name: string;
        expected: (f: WebAssembly.Exports) => unknown;
        found: (f: WebAssembly.Exports) => unknown;
      };
      const calls: Call[] = [];
      const make = (name: string, params: number, result: Expr['type'], body: (...p: Local[]) => Expr) => {
        const ref = module.function(name, Array(params).fill(type), [result], (f, ...p) => f.return(body(...p)));
        module.export(name, ref);
      };
      const run = (f: WebAssembly.Exports, name: string, ...args: bigint[]) =>
        (f[name] as (...a: unknown[]) => unknown)(...args.map(arg));
      for (const name of BINARY) {
        const op = operation(name) as Binary;
        make(name, 2, op(ops.const(0), ops.const(0)).type, (a, b) => op(a, b));
        for (const [n, [a, b]] of samples.entries()) {
          const [x, y] = [BigInt.asIntN(bits, a), BigInt.asIntN(bits, b)];
          const folded = op(ops.const(x), ops.const(y));
          for (const [way, expr] of [
            ['folded', (): Expr => folded],
            ['right', (p: Local): Expr => op(p, ops.const(y))],
            ['left', (p: Local): Expr => op(ops.const(x), p)],
          ] as const) {
            const key = `${name} ${way} ${n}`;
            make(key, 1, folded.type, expr);
            calls.push({
              name: `${key}: ${x}, ${y}`,
              expected: (f) => run(f, name, x, y),
              found: (f) => run(f, key, way === 'left' ? y : x),
            });
          }
        }
      }
      for (const name of UNARY) {
        const op = operation(name) as Unary;
        make(name, 1, op(ops.const(0)).type, (a) => op(a));
        for (const [n, [a]] of samples.entries()) {
          const x = BigInt.asIntN(bits, a);
          make(`${name} ${n}`, 0, op(ops.const(x)).type, () => op(ops.const(x)));
          calls.push({ name: `${name} ${x}`, expected: (f) => run(f, name, x), found: (f) => run(f, `${name} ${n}`) });
        }
      }
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
      for (const { name, expected, found } of calls) assert.equal(found(exports), expected(exports), name);
    });
  }

  test('changes of width', () => {
    const module = new Module();
    const unary: [string, 'i32' | 'i64', 'i32' | 'i64', (a: Expr) => Expr][] = [
      ['wrap', 'i64', 'i32', i32.wrap],
      ['extendS', 'i32', 'i64', i64.extendS],
      ['extendU', 'i32', 'i64', i64.extendU],
      ['extend32S', 'i64', 'i64', i64.extend32S],
    ];
    for (const [name, from, to, op] of unary) {
      module.export(
        name,
        module.function(name, [from], [to], (f, a) => f.return(op(a))),
      );
    }
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
    for (const [name, from, , op] of unary) {
      for (const [value] of samples) {
        const x = BigInt.asIntN(from === 'i32' ? 32 : 64, value);
        const call = exports[name] as (a: unknown) => number | bigint;
        const folded = op((from === 'i32' ? i32 : i64).const(x)).constant;
        assert.equal(folded, BigInt(call(from === 'i32' ? Number(x) : x)), `${name} ${x}`);
      }
    }
  });

  test('what can trap or is not exact is not folded', () => {
    assert.equal(i64.divS(i64.const(1), i64.const(0)).constant, undefined);
    assert.equal(i32.remU(i32.const(1), i32.const(0)).constant, undefined);
    assert.equal(i64.load(i32.const(0)).constant, undefined);
  });

  test('an operand that changes nothing is left out', () => {
    const module = new Module();
    module.function('f', ['i64'], ['i64'], (_, x) => {
      for (const op of [i64.add, i64.sub, i64.or, i64.xor, i64.shl, i64.shrS, i64.shrU]) assert.equal(op(x, 0), x);
    });
    const [yes, no] = [i64.const(1), i64.const(2)];
    assert.equal(select(1, yes, no), yes);
    assert.equal(select(0, yes, no), no);
  });

  test('types that do not match are refused while the tree is built', () => {
    assert.throws(() => i64.add(i32.const(1), 2), TypeError);
    assert.throws(() => select(i64.const(1), i32.const(1), i32.const(2)), TypeError);
    assert.throws(() => select(1, i32.const(1), i64.const(2)), TypeError);
    assert.throws(() => f64.add(f32.reinterpret(i32.const(0)), f64.reinterpret(i64.const(0))), TypeError);
  });
});

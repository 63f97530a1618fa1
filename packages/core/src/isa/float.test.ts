/**
 * What the rows of F and D add to the softfloat library: boxing, moves, signs, the order of checks, encodings. Each row is
 * compiled to a function of its operands' raw patterns.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawFrom, instantiate, operandsOf, operations, randomBits } from '../softfloat/harness.ts';
import { addSoftfloat } from '../softfloat/index.ts';
import { type Expr, i32, i64, type Local, Module } from '../wasm/index.ts';
import { d } from './d.ts';
import { f } from './f.ts';
import type { Row, Semantics } from './row.ts';

const BOX = 0xffffffff00000000n;
const NAN32 = 0x7fc00000n;

/** Where the compiled rows leave what they do, and the one cell of guest memory. */
const FLAGS = 0;
const RESULT = 8;
const CELL = 16;

interface Compiled {
  readonly run: (operands: bigint[], rm: number, cell?: bigint) => { result: bigint; flags: number; cell: bigint };
  /** What the row asked for, in order. */
  readonly steps: readonly string[];
}

const PARAMS = ['i64', 'i64', 'i64', 'i64', 'i32'] as const;
const all = [...f, ...d];
const compiled = compile();

function compile(): Map<string, Compiled> {
  const module = new Module();
  module.importMemory('env', 'memory', { min: 1, max: 1, shared: false });
  const flags = () => i32.load(FLAGS);
  const library = addSoftfloat(module, {
    flags,
    raise: (fn, more) => fn.store(4, i32.const(FLAGS), i32.or(flags(), more)),
  });
  const steps = new Map<string, string[]>();
  for (const row of all) {
    const list: string[] = [];
    steps.set(row.name, list);
    const ref = module.function(row.name, PARAMS, [], (fn, x1, f1, f2, f3, rm) => {
      const single = (v: Local): Expr => {
        const out = fn.let(i32.const(NAN32));
        fn.if(i64.eq(i64.shrU(v, 32), 0xffffffffn), () => fn.set(out, i32.wrap(v)));
        return out;
      };
      const say = <T>(what: string, value: T): T => {
        list.push(what);
        return value;
      };
      const result = (v: Expr) => fn.store(8, i32.const(RESULT), v);
      const known: Partial<Semantics> = {
        f: fn,
        rs1: () => say('operand', x1),
        rs1w: () => say('operand', i32.wrap(x1)),
        imm: () => i64.const(0),
        rd: (v) => say('rd', result(v)),
        rdw: (v) => say('rd', result(i64.extendS(v))),
        fs1: () => say('operand', f1),
        fs2: () => say('operand', f2),
        fs3: () => say('operand', f3),
        fs1s: () => say('operand', single(f1)),
        fs2s: () => say('operand', single(f2)),
        fs3s: () => say('operand', single(f3)),
        fd: (v) => say('fd', result(v)),
        fds: (v) => say('fd', result(i64.or(i64.extendU(v), BOX))),
        needFloat: () => say('needFloat', undefined),
        roundingMode: () => say('roundingMode', rm),
        soft: (name, ...args) => say('soft', fn.call(library[name]!, ...args)),
        load: (size) => say('load', fn.let(size === 8 ? i64.load(CELL) : i64.load32U(CELL))),
        store: (size, _, v) => say('store', fn.store(size, i32.const(CELL), v)),
      };
      row.execute(known as Semantics);
    });
    module.export(row.name, ref);
  }
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), { env: { memory } });
  const view = new DataView(memory.buffer);
  return new Map(
    all.map((row) => [
      row.name,
      {
        steps: steps.get(row.name)!,
        run: ([x1 = 0n, f1 = 0n, f2 = 0n, f3 = 0n], rm, cell = 0n) => {
          view.setUint32(FLAGS, 0, true);
          view.setBigUint64(RESULT, 0n, true);
          view.setBigUint64(CELL, cell, true);
          (exports[row.name] as (...args: unknown[]) => void)(x1, f1, f2, f3, rm);
          return {
            result: view.getBigUint64(RESULT, true),
            flags: view.getUint32(FLAGS, true),
            cell: view.getBigUint64(CELL, true),
          };
        },
      },
    ]),
  );
}

const run = (name: string, operands: bigint[], rm = 0, cell?: bigint) => compiled.get(name)!.run(operands, rm, cell);
const hasMode = (row: Row) => /M$|FR4/.test(row.format);

test('every instruction is there once', () => {
  assert.equal(new Set(all.map((row) => row.name)).size, all.length);
  assert.equal(f.length, 30);
  assert.equal(d.length, 32);
});

test('the state is checked first, then the rounding mode, then operands', () => {
  for (const row of all) {
    const { steps } = compiled.get(row.name)!;
    assert.equal(steps[0], 'needFloat', row.name);
    assert.equal(steps.indexOf('roundingMode'), hasMode(row) ? 1 : -1, row.name);
    const last = steps.at(-1)!;
    assert.ok(['rd', 'fd', 'store'].includes(last), `${row.name} ends with ${last}`);
  }
});

test('the rm field is free exactly where there is a rounding mode', () => {
  for (const row of all) {
    assert.equal((row.mask >>> 12) & 7, hasMode(row) ? 0 : 7, row.name);
    assert.equal((row.match & ~row.mask) >>> 0, 0, row.name);
  }
  for (const x of all) {
    for (const y of all) {
      if (x !== y) assert.notEqual((x.match ^ y.match) & x.mask & y.mask, 0, `${x.name} and ${y.name}`);
    }
  }
});

const ROWS: Record<string, string> = {
  Add: 'fadd',
  Sub: 'fsub',
  Mul: 'fmul',
  Div: 'fdiv',
  Sqrt: 'fsqrt',
  MulAdd: 'fmadd',
  Min: 'fmin',
  Max: 'fmax',
  Eq: 'feq',
  Lt: 'flt',
  Le: 'fle',
  Classify: 'fclass',
};
const LETTERS: Record<string, string> = { F32: 's', F64: 'd', I32: 'w', U32: 'wu', I64: 'l', U64: 'lu' };

function rowName(operation: string): string {
  const [from, to] = operation.toUpperCase().split('TO');
  if (to) return `fcvt.${LETTERS[to]}.${LETTERS[from!]}`;
  return `${ROWS[operation.slice(3)]}.${LETTERS[operation.slice(0, 3).toUpperCase()]}`;
}

test('operands and results are where they belong', () => {
  const softfloat = instantiate();
  const draw = drawFrom(randomBits(Number(process.env.BRAID_SEED ?? 1)));
  for (const operation of operations) {
    for (let n = 0; n < 200; n++) {
      const mode = n % 5;
      const args = operandsOf(operation, draw);
      // Every fourth single is not boxed, and so is a NaN whatever its low bits.
      const raw = args.map((arg, i) => {
        const type = operation.operands[i]!;
        if (!('bias' in type)) return BigInt.asIntN(type.width, arg);
        if (type.width === 64) return arg;
        if (draw(4)) return arg | BOX;
        args[i] = NAN32;
        return arg | (BOX ^ (1n << BigInt(32 + draw(32))));
      });
      const expected = softfloat.run(operation.name, operation.rounds ? [...args, BigInt(mode)] : args);
      const { width } = operation.result;
      const single = 'bias' in operation.result;
      const extended = single ? expected.value | BOX : BigInt.asUintN(64, BigInt.asIntN(32, expected.value));
      const integer = !('bias' in operation.operands[0]!);
      const actual = run(rowName(operation.name), integer ? [raw[0]!] : [0n, ...raw], mode);
      assert.equal(actual.result, width === 32 ? extended : expected.value, `${rowName(operation.name)} ${raw}`);
      assert.equal(actual.flags, expected.flags, rowName(operation.name));
    }
  }
});

test('the four fused forms', () => {
  const number = (v: number) => {
    const view = new DataView(new ArrayBuffer(8));
    view.setFloat64(0, v);
    return view.getBigUint64(0);
  };
  const single = (v: number) => {
    const view = new DataView(new ArrayBuffer(4));
    view.setFloat32(0, v);
    return BigInt(view.getUint32(0)) | BOX;
  };
  const forms: [string, number][] = [
    ['fmadd', 23],
    ['fmsub', 7],
    ['fnmsub', -7],
    ['fnmadd', -23],
  ];
  for (const [name, value] of forms) {
    assert.equal(run(`${name}.d`, [0n, number(3), number(5), number(8)]).result, number(value), name);
    assert.equal(run(`${name}.s`, [0n, single(3), single(5), single(8)]).result, single(value), name);
  }
});

test('raw moves keep every bit, boxed or not', () => {
  const raw = 0x123456789abcdef0n;
  assert.equal(run('fmv.x.w', [0n, raw]).result, 0xffffffff9abcdef0n);
  assert.equal(run('fmv.x.d', [0n, raw]).result, raw);
  assert.equal(run('fmv.w.x', [raw]).result, 0xffffffff9abcdef0n);
  assert.equal(run('fmv.d.x', [raw]).result, raw);
  assert.equal(run('fsw', [0n, 0n, raw], 0, 0n).cell, 0x9abcdef0n);
  assert.equal(run('fsd', [0n, 0n, raw], 0, 0n).cell, raw);
  assert.equal(run('flw', [0n], 0, raw).result, 0xffffffff9abcdef0n);
  assert.equal(run('fld', [0n], 0, raw).result, raw);
});

test('sign injection', () => {
  const signaling = 0x7ff0000000000001n;
  const minus = 1n << 63n;
  assert.deepEqual(run('fsgnj.d', [0n, signaling, minus]), { result: signaling | minus, flags: 0, cell: 0n });
  assert.equal(run('fsgnjn.d', [0n, signaling, minus]).result, signaling);
  assert.equal(run('fsgnjx.d', [0n, signaling | minus, minus]).result, signaling);
  const single = 0x7f800001n;
  assert.equal(run('fsgnj.s', [0n, single | BOX, 0x80000000n | BOX]).result, single | 0x80000000n | BOX);
  assert.equal(run('fsgnjn.s', [0n, single | BOX, BOX]).result, single | 0x80000000n | BOX);
  assert.equal(run('fsgnjx.s', [0n, single | 0x80000000n | BOX, 0x80000000n | BOX]).result, single | BOX);
  // Not boxed: the canonical NaN, with its sign bit clear.
  assert.equal(run('fsgnj.s', [0n, single, 0x80000000n]).result, NAN32 | BOX);
  assert.equal(run('fsgnjn.s', [0n, 1n | BOX, 0x80000000n]).result, 0x80000001n | BOX);
});

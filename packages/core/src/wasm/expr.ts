/**
 * WebAssembly expressions as small trees.
 *
 * An `Expr` is a value that has not been computed yet: it is written into a function's body where it is used, so an
 * expression used twice is computed twice (pin it with `Fn.let`). Constants fold while the tree is built, which is what
 * makes the same instruction semantics cheap in a translator, where every operand but the registers is constant.
 *
 * Source of opcodes: WebAssembly Core Specification, binary format 5.4.
 */

export type ValType = 'i32' | 'i64' | 'f32' | 'f64';

export const VALTYPE: Record<ValType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c };

/** A growing byte buffer with the encodings of the binary format. */
export class Bytes {
  private buffer = new Uint8Array(256);
  private capacity = 256;
  length = 0;

  private reserve(n: number): void {
    if (this.length + n <= this.capacity) return;
    this.capacity = Math.max(this.capacity * 2, this.length + n);
    const bigger = new Uint8Array(this.capacity);
    bigger.set(this.view());
    this.buffer = bigger;
  }

  byte(value: number): void {
    if (this.length === this.capacity) this.reserve(1);
    this.buffer[this.length++] = value;
  }

  bytes(values: Uint8Array | readonly number[]): void {
    this.reserve(values.length);
    this.buffer.set(values, this.length);
    this.length += values.length;
  }

  /** An opcode of one byte, or of two with the prefix in the high one. */
  opcode(value: number): void {
    if (value > 0xff) this.byte(value >>> 8);
    this.byte(value & 0xff);
  }

  /** Unsigned LEB128 of a 32-bit value. */
  u32(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  /** Signed LEB128 of a 32-bit value. */
  s32(value: number): void {
    let rest = value | 0;
    while (rest < -0x40 || rest > 0x3f) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>= 7;
    }
    this.byte(rest & 0x7f);
  }

  /** Signed LEB128 of a 64-bit value. */
  s64(value: bigint): void {
    let rest = BigInt.asIntN(64, value);
    while (rest < -0x80000000n || rest > 0x7fffffffn) {
      this.byte(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    this.s32(Number(rest));
  }

  name(text: string): void {
    const encoded = new TextEncoder().encode(text);
    this.u32(encoded.length);
    this.bytes(encoded);
  }

  /** Appends `body` behind its length, as sections and function bodies are. */
  sized(body: Bytes): void {
    this.u32(body.length);
    this.bytes(body.view());
  }

  view(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }
}

/** What an expression is, which says how it is written: one class, and no closure for each, because there are so many. */
const CONSTANT = 0;
/** `opcode n`: a local or global. */
const VARIABLE = 1;
/** `a opcode`. */
const UNARY = 2;
/** `a b opcode`. */
const BINARY = 3;
/** `a opcode align n`: n is the offset. */
const LOAD = 4;
/** `a b opcode align n`. */
const MODIFY = 5;
/** Written by `custom`. */
const CUSTOM = 6;

const WRAP = 0xa7;

/** The exponent of an access's alignment stands in its opcode above these bits. */
const ALIGN_SHIFT = 16;
const OPCODE_MASK = (1 << ALIGN_SHIFT) - 1;

export class Expr {
  readonly type: ValType;
  readonly kind: number;
  readonly opcode: number;
  /** An index, an offset, or the constant when it fits into 32 bits. */
  readonly n: number;
  readonly a: Expr | undefined;
  readonly b: Expr | undefined;
  /** A constant that needs 64 bits. */
  readonly wide: bigint | undefined;
  readonly custom: ((out: Bytes) => void) | undefined;

  constructor(
    type: ValType,
    kind: number,
    opcode: number,
    n: number,
    a?: Expr,
    b?: Expr,
    wide?: bigint,
    custom?: (out: Bytes) => void,
  ) {
    this.type = type;
    this.kind = kind;
    this.opcode = opcode;
    this.n = n;
    this.a = a;
    this.b = b;
    this.wide = wide;
    this.custom = custom;
  }

  /** The value, when it is a constant integer: i32 as a signed number in bigint form, i64 as a signed bigint. */
  get constant(): bigint | undefined {
    return this.kind === CONSTANT ? (this.wide ?? BigInt(this.n)) : undefined;
  }

  get isConstant(): boolean {
    return this.kind === CONSTANT;
  }

  /** It is the constant 0. */
  get isZero(): boolean {
    return this.kind === CONSTANT && this.n === 0 && this.wide === undefined;
  }

  write(out: Bytes): void {
    switch (this.kind) {
      case CONSTANT:
        out.byte(this.opcode);
        if (this.wide === undefined) out.s32(this.n);
        else out.s64(this.wide);
        return;
      case VARIABLE:
        out.byte(this.opcode);
        out.u32(this.n);
        return;
      case UNARY:
        this.a!.write(out);
        out.opcode(this.opcode);
        return;
      case BINARY:
        this.a!.write(out);
        this.b!.write(out);
        out.byte(this.opcode);
        return;
      case LOAD:
      case MODIFY:
        this.a!.write(out);
        if (this.kind === MODIFY) this.b!.write(out);
        out.opcode(this.opcode & OPCODE_MASK);
        out.byte(this.opcode >>> ALIGN_SHIFT);
        out.u32(this.n);
        return;
      default:
        this.custom!(out);
    }
  }
}

/** A local or global, read by `opcode`. */
export class Variable extends Expr {
  constructor(type: ValType, opcode: number, index: number) {
    super(type, VARIABLE, opcode, index);
  }
}

/** An expression that writes itself. */
export const custom = (type: ValType, write: (out: Bytes) => void): Expr =>
  new Expr(type, CUSTOM, 0, 0, undefined, undefined, undefined, write);

type Int = Expr | number | bigint;
type Fold1 = (a: bigint) => bigint;
type Fold2 = (a: bigint, b: bigint) => bigint;
/** A fold of numbers that fit into 32 bits, to a result that is exact. */
type Quick = (a: number, b: number) => number;

const constant = (type: IntType, n: number, wide: bigint | undefined): Expr =>
  new Expr(type, CONSTANT, type === 'i32' ? 0x41 : 0x42, n, undefined, undefined, wide);

function constI32(value: number | bigint): Expr {
  if (typeof value === 'number' && (value | 0) === value) return constant('i32', value | 0, undefined);
  return constant('i32', Number(BigInt.asIntN(32, BigInt(value))), undefined);
}

function constI64(value: number | bigint): Expr {
  if (typeof value === 'number' && (value | 0) === value) return constant('i64', value | 0, undefined);
  const v = BigInt.asIntN(64, BigInt(value));
  const fits = BigInt.asIntN(32, v) === v;
  return fits ? constant('i64', Number(v), undefined) : constant('i64', 0, v);
}

const make = { i32: constI32, i64: constI64 };
type IntType = 'i32' | 'i64';

function lift(type: ValType, value: Int): Expr {
  if (typeof value === 'object') {
    if (value.type !== type) throw new TypeError(`expected ${type}, got ${value.type}`);
    return value;
  }
  return type === 'i64' ? constI64(value) : constI32(value);
}

function fold2(result: IntType, x: Expr, y: Expr, fold: Fold2, quick: Quick | undefined): Expr {
  if (quick && x.wide === undefined && y.wide === undefined) return make[result](quick(x.n, y.n));
  return make[result](fold(x.constant!, y.constant!));
}

function binary(type: IntType, result: IntType, opcode: number, fold?: Fold2, quick?: Quick) {
  return (a: Int, b: Int): Expr => {
    const x = lift(type, a);
    const y = lift(type, b);
    if (fold && x.isConstant && y.isConstant) return fold2(result, x, y, fold, quick);
    return new Expr(result, BINARY, opcode, 0, x, y);
  };
}

/** `binary`, for operations where a constant 0 on the right changes nothing; nor does one on the left where they `commute`. */
function binaryZero(type: IntType, opcode: number, fold: Fold2, quick?: Quick, commute = false) {
  return (a: Int, b: Int): Expr => {
    const x = lift(type, a);
    const y = lift(type, b);
    if (y.isConstant) {
      if (y.isZero) return x;
      if (x.isConstant) return fold2(type, x, y, fold, quick);
    }
    if (commute && x.isZero) return y;
    return new Expr(type, BINARY, opcode, 0, x, y);
  };
}

function unary(type: ValType, result: ValType, opcode: number, fold?: Fold1) {
  return (a: Int): Expr => {
    const x = lift(type, a);
    if (fold && x.isConstant) return make[result as IntType](fold(x.constant!));
    return new Expr(result, UNARY, opcode, 0, x);
  };
}

function floatBinary(type: ValType, result: ValType, opcode: number) {
  return (a: Expr, b: Expr): Expr => new Expr(result, BINARY, opcode, 0, lift(type, a), lift(type, b));
}

function load(result: ValType, opcode: number, align: number) {
  const access = opcode | (align << ALIGN_SHIFT);
  return (address: Int, offset = 0): Expr => new Expr(result, LOAD, access, offset, lift('i32', address));
}

function atomicRmw(type: IntType, opcode: number, align: number) {
  const access = opcode | (align << ALIGN_SHIFT);
  return (address: Int, value: Int, offset = 0): Expr =>
    new Expr(type, MODIFY, access, offset, lift('i32', address), lift(type, value));
}

function integer(type: IntType, base: { eqz: number; eq: number; clz: number; add: number; shl: number }) {
  const bits = type === 'i32' ? 32 : 64;
  const signed = (v: bigint) => BigInt.asIntN(bits, v);
  const unsigned = (v: bigint) => BigInt.asUintN(bits, v);
  const mask = BigInt(bits - 1);
  const bool = (v: boolean) => (v ? 1n : 0n);
  const compare = (n: number, fold: (a: bigint, b: bigint) => boolean) =>
    binary(type, 'i32', base.eq + n, (a, b) => bool(fold(a, b)));
  return {
    const: make[type],
    eqz: unary(type, 'i32', base.eqz, (a) => bool(a === 0n)),
    eq: compare(0, (a, b) => a === b),
    ne: compare(1, (a, b) => a !== b),
    ltS: compare(2, (a, b) => a < b),
    ltU: compare(3, (a, b) => unsigned(a) < unsigned(b)),
    gtS: compare(4, (a, b) => a > b),
    gtU: compare(5, (a, b) => unsigned(a) > unsigned(b)),
    leS: compare(6, (a, b) => a <= b),
    leU: compare(7, (a, b) => unsigned(a) <= unsigned(b)),
    geS: compare(8, (a, b) => a >= b),
    geU: compare(9, (a, b) => unsigned(a) >= unsigned(b)),
    clz: unary(type, type, base.clz),
    ctz: unary(type, type, base.clz + 1),
    popcnt: unary(type, type, base.clz + 2),
    add: binaryZero(
      type,
      base.add,
      (a, b) => signed(a + b),
      (a, b) => a + b,
      true,
    ),
    sub: binaryZero(
      type,
      base.add + 1,
      (a, b) => signed(a - b),
      (a, b) => a - b,
    ),
    mul: binary(type, type, base.add + 2, (a, b) => signed(a * b)),
    divS: binary(type, type, base.add + 3),
    divU: binary(type, type, base.add + 4),
    remS: binary(type, type, base.add + 5),
    remU: binary(type, type, base.add + 6),
    and: binary(type, type, base.add + 7, (a, b) => a & b),
    or: binaryZero(type, base.add + 8, (a, b) => a | b, undefined, true),
    xor: binaryZero(type, base.add + 9, (a, b) => a ^ b, undefined, true),
    shl: binaryZero(type, base.shl, (a, b) => signed(a << (b & mask))),
    shrS: binaryZero(type, base.shl + 1, (a, b) => a >> (b & mask)),
    shrU: binaryZero(type, base.shl + 2, (a, b) => signed(unsigned(a) >> (b & mask))),
    rotl: binary(type, type, base.shl + 3),
    rotr: binary(type, type, base.shl + 4),
  };
}

export const i32 = {
  ...integer('i32', { eqz: 0x45, eq: 0x46, clz: 0x67, add: 0x6a, shl: 0x74 }),
  load: load('i32', 0x28, 2),
  load8S: load('i32', 0x2c, 0),
  load8U: load('i32', 0x2d, 0),
  load16S: load('i32', 0x2e, 1),
  load16U: load('i32', 0x2f, 1),
  wrap: unary('i64', 'i32', WRAP, (a) => BigInt.asIntN(32, a)),
  extend8S: unary('i32', 'i32', 0xc0, (a) => BigInt.asIntN(8, a)),
  extend16S: unary('i32', 'i32', 0xc1, (a) => BigInt.asIntN(16, a)),
  reinterpret: reinterpretation('f32', 'i32', 0xbc, 0xbe),
  atomicLoad: load('i32', 0xfe10, 2),
  atomicAdd: atomicRmw('i32', 0xfe1e, 2),
  atomicAnd: atomicRmw('i32', 0xfe2c, 2),
  atomicOr: atomicRmw('i32', 0xfe33, 2),
};

const I64_LOAD = 0x29 | (3 << ALIGN_SHIFT);
const F64_LOAD = 0x2b | (3 << ALIGN_SHIFT);

/** The same bits as another type; there and back again is nothing, and what has just been loaded is loaded as that type. */
function reinterpretation(from: ValType, to: ValType, opcode: number, inverse: number) {
  const plain = unary(from, to, opcode);
  return (a: Int): Expr => {
    const x = lift(from, a);
    if (x.kind === UNARY && x.opcode === inverse) return x.a!;
    if (to === 'f64' && x.kind === LOAD && x.opcode === I64_LOAD) return new Expr(to, LOAD, F64_LOAD, x.n, x.a);
    return plain(x);
  };
}

/** What `value` reinterprets, if it does nothing else. */
export function reinterpreted(value: Expr): Expr | undefined {
  return value.kind === UNARY && value.opcode >= 0xbc && value.opcode <= 0xbf ? value.a : undefined;
}

const extendSigned = unary('i32', 'i64', 0xac, (a) => a);

export const i64 = {
  ...integer('i64', { eqz: 0x50, eq: 0x51, clz: 0x79, add: 0x7c, shl: 0x86 }),
  load: load('i64', 0x29, 3),
  load8S: load('i64', 0x30, 0),
  load8U: load('i64', 0x31, 0),
  load16S: load('i64', 0x32, 1),
  load16U: load('i64', 0x33, 1),
  load32S: load('i64', 0x34, 2),
  load32U: load('i64', 0x35, 2),
  /** Sign-extends an i32. */
  extendS: (a: Int): Expr => {
    const x = lift('i32', a);
    return x.kind === UNARY && x.opcode === WRAP ? new Expr('i64', UNARY, 0xc4, 0, x.a) : extendSigned(x);
  },
  /** Zero-extends an i32. */
  extendU: unary('i32', 'i64', 0xad, (a) => BigInt.asUintN(32, a)),
  extend8S: unary('i64', 'i64', 0xc2, (a) => BigInt.asIntN(8, a)),
  extend16S: unary('i64', 'i64', 0xc3, (a) => BigInt.asIntN(16, a)),
  extend32S: unary('i64', 'i64', 0xc4, (a) => BigInt.asIntN(32, a)),
  reinterpret: reinterpretation('f64', 'i64', 0xbd, 0xbf),
  /** Saturating float to integer (a NaN gives 0). */
  truncSatF32S: unary('f32', 'i64', 0xfc04),
  truncSatF32U: unary('f32', 'i64', 0xfc05),
  truncSatF64S: unary('f64', 'i64', 0xfc06),
  truncSatF64U: unary('f64', 'i64', 0xfc07),
};

function float(type: 'f32' | 'f64', eq: number, abs: number, add: number) {
  return {
    eq: floatBinary(type, 'i32', eq),
    ne: floatBinary(type, 'i32', eq + 1),
    lt: floatBinary(type, 'i32', eq + 2),
    gt: floatBinary(type, 'i32', eq + 3),
    le: floatBinary(type, 'i32', eq + 4),
    ge: floatBinary(type, 'i32', eq + 5),
    abs: unary(type, type, abs),
    neg: unary(type, type, abs + 1),
    ceil: unary(type, type, abs + 2),
    floor: unary(type, type, abs + 3),
    trunc: unary(type, type, abs + 4),
    nearest: unary(type, type, abs + 5),
    sqrt: unary(type, type, abs + 6),
    add: floatBinary(type, type, add),
    sub: floatBinary(type, type, add + 1),
    mul: floatBinary(type, type, add + 2),
    div: floatBinary(type, type, add + 3),
    min: floatBinary(type, type, add + 4),
    max: floatBinary(type, type, add + 5),
  };
}

export const f32 = {
  ...float('f32', 0x5b, 0x8b, 0x92),
  /** The float whose bits are the i32. */
  reinterpret: reinterpretation('i32', 'f32', 0xbe, 0xbc),
  convertI32S: unary('i32', 'f32', 0xb2),
  convertI32U: unary('i32', 'f32', 0xb3),
  convertI64S: unary('i64', 'f32', 0xb4),
  convertI64U: unary('i64', 'f32', 0xb5),
  demote: unary('f64', 'f32', 0xb6),
};

export const f64 = {
  ...float('f64', 0x61, 0x99, 0xa0),
  /** The double whose bits are the i64. */
  reinterpret: reinterpretation('i64', 'f64', 0xbf, 0xbd),
  convertI32S: unary('i32', 'f64', 0xb7),
  convertI32U: unary('i32', 'f64', 0xb8),
  convertI64S: unary('i64', 'f64', 0xb9),
  convertI64U: unary('i64', 'f64', 0xba),
  promote: unary('f32', 'f64', 0xbb),
};

function fused(type: 'f32' | 'f64', splat: number, madd: number, extract: number) {
  return (a: Expr, b: Expr, c: Expr): Expr => {
    for (const operand of [a, b, c]) lift(type, operand);
    return custom(type, (out) => {
      for (const operand of [a, b, c]) {
        operand.write(out);
        out.bytes([0xfd, splat]);
      }
      out.bytes([0xfd, madd, 0x02, 0xfd, extract, 0x00]);
    });
  };
}

/** `a * b + c`, rounded once or twice as the host likes: its relaxed SIMD is the only way there. */
export const relaxedMulAdd = { f32: fused('f32', 0x13, 0x85, 0x1f), f64: fused('f64', 0x14, 0x87, 0x21) };

/** `condition ? yes : no`; both arms are computed. */
export function select(condition: Int, yes: Expr, no: Expr): Expr {
  const c = lift('i32', condition);
  if (yes.type !== no.type) throw new TypeError(`select of ${yes.type} and ${no.type}`);
  if (c.isConstant) return c.isZero ? no : yes;
  return custom(yes.type, (out) => {
    yes.write(out);
    no.write(out);
    c.write(out);
    out.byte(0x1b);
  });
}

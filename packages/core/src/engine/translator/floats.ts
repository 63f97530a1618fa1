/**
 * Floating point on the host's own operations, where that is exact to the flag.
 *
 * An operation stands for one of the softfloat library while NX has accrued and the mode is to nearest even, since an inexact
 * result then leaves no trace, and its result is far from where other flags begin: no NaN, no infinity, nothing subnormal or
 * near it. Everything else is the library's.
 */

import { type Expr, f32, f64, i32, i64, type Local, Module, relaxedMulAdd } from '../../wasm/index.ts';

/** A result and whether it stands. */
export interface Attempt {
  /** Bits, as the library gives them. */
  readonly result: Expr;
  /**
   * Given the pinned result: holds when it is what the library would give, with the same flags. One comparison with the limit
   * answers whether NX has accrued in the right mode, too.
   */
  readonly stands: (result: Expr, limit: FloatLimit) => Expr;
}

/** While NX has accrued and the mode is to nearest even; else both are 0. */
export interface FloatLimit {
  /** LIMIT. */
  readonly exponent: Local;
  /** The number with that exponent, as binary64. */
  readonly magnitude: Local;
}

/** Below it an exponent, as `exponent` gives it, is that of a number some way from infinity. */
export const LIMIT = 0x7e0;

export interface FloatHost {
  /** The host's relaxed multiply-add rounds once. */
  readonly fusedMulAdd: boolean;
}

type Operation = (args: readonly Expr[], host: FloatHost) => Attempt | undefined;

const RTZ = 1n;

interface Width {
  readonly float: typeof f32 | typeof f64;
  readonly bits: typeof i32 | typeof i64;
  /** In units of binary64's; for binary32 of eight of them. */
  readonly exponent: (bits: Expr) => Expr;
  readonly two: number;
  readonly mulAdd: (a: Expr, b: Expr, c: Expr) => Expr;
}

const WIDTHS: Record<'f32' | 'f64', Width> = {
  f32: {
    float: f32,
    bits: i32,
    exponent: (bits) => i32.and(i32.shrU(bits, 20), 0x7f8),
    two: 16,
    mulAdd: relaxedMulAdd.f32,
  },
  f64: {
    float: f64,
    bits: i64,
    exponent: (bits) => i32.and(i32.wrap(i64.shrU(bits, 52)), 0x7ff),
    two: 2,
    mulAdd: relaxedMulAdd.f64,
  },
};

/** `constant` as a float of the width: its bits reinterpreted. */
const constant = (bits: typeof i32 | typeof i64, float: typeof f32 | typeof f64, value: number): Expr => {
  const view = new DataView(new ArrayBuffer(8));
  if (bits === i64) view.setFloat64(0, value);
  else view.setFloat32(0, value);
  return float.reinterpret(bits === i64 ? i64.const(view.getBigInt64(0)) : i32.const(view.getInt32(0)));
};

const always = (): Expr => i32.const(1);
const near = (_: Expr, limit: FloatLimit): Expr => limit.exponent;

function operationsOf(name: 'f32' | 'f64'): Record<string, Operation> {
  const { float, bits, exponent, two, mulAdd } = WIDTHS[name];
  const number = (x: Expr): Expr => float.reinterpret(x);
  const toBits = (x: Expr): Expr => bits.reinterpret(x);
  /** Below infinity: sums and roots can only be inexact otherwise. */
  const finite = (result: Expr, { exponent: limit, magnitude }: FloatLimit) =>
    name === 'f64' ? f64.lt(f64.abs(number(result)), magnitude) : i32.ltU(exponent(result), limit);
  /** The smallest normal number may be a tiny result rounded up. */
  const middle = (result: Expr, limit: FloatLimit) => i32.ltU(i32.sub(exponent(result), two), limit.exponent);
  /** To nearest even, by name or as the dynamic mode. */
  const nearest = (rm: Expr): boolean => rm.constant === undefined || rm.constant === 0n;

  const binary =
    (operation: (a: Expr, b: Expr) => Expr, stands: Attempt['stands']): Operation =>
    ([a, b, rm]) =>
      nearest(rm!) ? { result: toBits(operation(number(a!), number(b!))), stands } : undefined;
  const ordered = (a: Expr, b: Expr) => i32.and(float.eq(number(a), number(a)), float.eq(number(b), number(b)));
  const compare =
    (operation: (a: Expr, b: Expr) => Expr): Operation =>
    ([a, b]) => ({ result: operation(number(a!), number(b!)), stands: () => ordered(a!, b!) });
  const extremum =
    (operation: (a: Expr, b: Expr) => Expr): Operation =>
    ([a, b]) => ({
      result: toBits(operation(number(a!), number(b!))),
      stands: () => ordered(a!, b!),
    });
  /** To an integer, for operands strictly between two bounds that are not rounded themselves. */
  const toInteger =
    (convert: (x: Expr) => Expr, low: number, high: number): Operation =>
    ([a, rm]) => {
      const truncates = rm!.constant === RTZ;
      if (!truncates && !nearest(rm!)) return undefined;
      const x = number(a!);
      const whole = truncates ? float.trunc(x) : float.nearest(x);
      return {
        result: convert(whole),
        stands: (_, limit) =>
          i32.and(
            i32.ne(limit.exponent, 0),
            i32.and(float.ge(whole, constant(bits, float, low)), float.lt(whole, constant(bits, float, high))),
          ),
      };
    };
  const truncate = name === 'f64' ? [i64.truncSatF64S, i64.truncSatF64U] : [i64.truncSatF32S, i64.truncSatF32U];
  return {
    Add: binary(float.add, finite),
    Sub: binary(float.sub, finite),
    Mul: binary(float.mul, middle),
    Div: binary(float.div, middle),
    Sqrt: ([a, rm]) => (nearest(rm!) ? { result: toBits(float.sqrt(number(a!))), stands: finite } : undefined),
    MulAdd: ([a, b, c, rm], host) =>
      host.fusedMulAdd && nearest(rm!)
        ? { result: toBits(mulAdd(number(a!), number(b!), number(c!))), stands: middle }
        : undefined,
    Eq: compare(float.eq),
    Lt: compare(float.lt),
    Le: compare(float.le),
    Min: extremum(float.min),
    Max: extremum(float.max),
    ToI32: toInteger((x) => i32.wrap(truncate[0]!(x)), -(2 ** 31), 2 ** 31),
    ToU32: toInteger((x) => i32.wrap(truncate[0]!(x)), 0, 2 ** 32),
    ToI64: toInteger(truncate[0]!, -(2 ** 63), 2 ** 63),
    ToU64: toInteger(truncate[1]!, 0, 2 ** 64),
  };
}

const fromLong =
  (convert: (a: Expr) => Expr): Operation =>
  ([a, rm]) =>
    rm!.constant === undefined || rm!.constant === 0n ? { result: convert(a!), stands: near } : undefined;
const exactly =
  (convert: (a: Expr) => Expr): Operation =>
  ([a]) => ({ result: convert(a!), stands: always });

const prefixed = (name: 'f32' | 'f64') =>
  Object.entries(operationsOf(name)).map(([operation, make]) => [name + operation, make] as const);

/** By the names of the softfloat library. */
const OPERATIONS = new Map<string, Operation>([
  ...prefixed('f32'),
  ...prefixed('f64'),
  ['i32ToF64', exactly((a) => i64.reinterpret(f64.convertI32S(a)))],
  ['u32ToF64', exactly((a) => i64.reinterpret(f64.convertI32U(a)))],
  ['i64ToF64', fromLong((a) => i64.reinterpret(f64.convertI64S(a)))],
  ['u64ToF64', fromLong((a) => i64.reinterpret(f64.convertI64U(a)))],
  ['i32ToF32', fromLong((a) => i32.reinterpret(f32.convertI32S(a)))],
  ['u32ToF32', fromLong((a) => i32.reinterpret(f32.convertI32U(a)))],
  ['i64ToF32', fromLong((a) => i32.reinterpret(f32.convertI64S(a)))],
  ['u64ToF32', fromLong((a) => i32.reinterpret(f32.convertI64U(a)))],
  [
    'f64ToF32',
    ([a, rm]) =>
      rm!.constant === undefined || rm!.constant === 0n
        ? {
            result: i32.reinterpret(f32.demote(f64.reinterpret(a!))),
            stands: (result, limit) => i32.ltU(i32.sub(WIDTHS.f32.exponent(result), WIDTHS.f32.two), limit.exponent),
          }
        : undefined,
  ],
  [
    'f32ToF64',
    ([a]) => ({
      result: i64.reinterpret(f64.promote(f32.reinterpret(a!))),
      stands: () => f32.eq(f32.reinterpret(a!), f32.reinterpret(a!)),
    }),
  ],
]);

/** The host's way to do a function of the softfloat library; `args` are pinned, rm not constant means the dynamic mode. */
export function attempt(name: string, args: readonly Expr[], host: FloatHost): Attempt | undefined {
  return OPERATIONS.get(name)?.(args, host);
}

/** Finds out whether the host's relaxed multiply-add rounds once, on an operand whose product needs 106 bits. */
export function probeFloatHost(): FloatHost {
  const x = 1 + 1 / 2 ** 30;
  const square = x * x;
  const low = 1 / 2 ** 60;
  const module = new Module();
  const number = (value: number) => constant(i64, f64, value);
  const probe = module.function('probe', ['i64'], ['i64'], (f, bits) => {
    const a = f64.reinterpret(bits);
    f.return(i64.reinterpret(relaxedMulAdd.f64(a, a, number(-square))));
  });
  module.export('probe', probe);
  const view = new DataView(new ArrayBuffer(8));
  const bitsOf = (value: number): bigint => {
    view.setFloat64(0, value);
    return view.getBigInt64(0);
  };
  try {
    const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
    const result = (instance.exports.probe as (bits: bigint) => bigint)(bitsOf(x));
    return { fusedMulAdd: result === bitsOf(low) };
  } catch {
    // A host without relaxed SIMD.
    return { fusedMulAdd: false };
  }
}

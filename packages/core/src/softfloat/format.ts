/**
 * The two binary interchange formats, and what the files of this folder share.
 *
 * ```text
 * binary64   63 sign | 62..52 exponent, bias 1023 | 51..0 fraction      an i64
 * binary32   31 sign | 30..23 exponent, bias  127 | 22..0 fraction      an i32
 * ```
 *
 * Source: IEEE 754-2019, 3.4; RISC-V unprivileged specification, chapters "F" and "D".
 */

import {
  type Expr,
  type Fn,
  type FunctionRef,
  f32,
  f64,
  i32,
  i64,
  type Local,
  type Module,
  select,
} from '../wasm/index.ts';

/** Exception flags as they lie in `fflags`. */
export const NX = 1;
export const UF = 2;
export const OF = 4;
export const DZ = 8;
export const NV = 16;

/** Rounding modes as they lie in `frm`. */
export const RNE = 0;
export const RTZ = 1;
export const RDN = 2;
export const RUP = 3;
export const RMM = 4;

export interface Format {
  readonly name: 'f32' | 'f64';
  readonly bits: 'i32' | 'i64';
  /** Integer operations on the bit pattern, and the machine's own operations on the number. */
  readonly word: typeof i32 | typeof i64;
  readonly float: typeof f32 | typeof f64;
  readonly width: number;
  /** Width of the fraction field. */
  readonly fraction: number;
  readonly bias: number;
  readonly sign: bigint;
  readonly infinity: bigint;
  readonly quiet: bigint;
  /** The canonical NaN, the only one that an operation produces. */
  readonly nan: bigint;
}

function format(
  name: Format['name'],
  bits: Format['bits'],
  word: Format['word'],
  float: Format['float'],
  width: number,
  fraction: number,
): Format {
  const infinity = (1n << BigInt(width - 1)) - (1n << BigInt(fraction));
  const quiet = 1n << BigInt(fraction - 1);
  const bias = (1 << (width - fraction - 2)) - 1;
  return {
    name,
    bits,
    word,
    float,
    width,
    fraction,
    bias,
    sign: 1n << BigInt(width - 1),
    infinity,
    quiet,
    nan: infinity | quiet,
  };
}

export const F32 = format('f32', 'i32', i32, f32, 32, 23);
export const F64 = format('f64', 'i64', i64, f64, 64, 52);

/** Where the library is being written to, and how it reaches the accrued flags. */
export interface Target {
  readonly module: Module;
  /** ORs an i32 of flags, never 0 at run time, into the accrued flags, and marks the floating-point state dirty. */
  readonly raise: (f: Fn, flags: Expr) => void;
  /** Reads the accrued flags as i32. */
  readonly flags: () => Expr;
}

/** Functions by name, filled file by file: later files call what earlier ones have added. */
export type Library = Record<string, FunctionRef>;

export function raise(target: Target, f: Fn, flags: number): void {
  target.raise(f, i32.const(flags));
}

/**
 * Holds when the machine's own operation, which rounds to nearest even, needs no look at its exactness: that is the mode
 * and an inexact result would leave no trace, as NX has accrued already. Programs that compute spend their lives here.
 */
export function nearestUnwatched(target: Target, rm: Expr): Expr {
  return i32.and(target.flags(), i32.eqz(rm));
}

export function isNan(format: Format, x: Expr): Expr {
  return format.float.ne(x, x);
}

/**
 * With the quiet bit flipped, a signaling NaN becomes a quiet one with more fraction bits set; a quiet NaN, an infinity and
 * a finite number all stay at or below the canonical NaN.
 */
export function isSignaling(format: Format, bits: Expr): Expr {
  const { word } = format;
  return word.gtU(word.shl(word.xor(bits, format.quiet), 1), BigInt.asIntN(format.width, format.nan << 1n));
}

/** The number 2^n, or -2^n, within the normal range. */
export function power(format: Format, n: number, negative = false): Expr {
  const bits = (BigInt(n + format.bias) << BigInt(format.fraction)) | (negative ? format.sign : 0n);
  return format.float.reinterpret(format.word.const(bits));
}

/** The biased exponent field, as i32. */
export function exponent(format: Format, bits: Expr): Expr {
  return format === F64 ? i32.and(i32.wrap(i64.shrU(bits, 52)), 0x7ff) : i32.and(i32.shrU(bits, 23), 0xff);
}

/**
 * Holds when a result that was rounded to nearest is so well inside the normal range that no mode would round it out of
 * it: no special operand was involved, and NX is the only flag that the operation can raise.
 */
export function isInside(format: Format, bits: Expr): Expr {
  return i32.ltU(i32.sub(exponent(format, bits), 2), format.bias * 2 - 2);
}

/**
 * A finite binary64 as significand and exponent: |x| = m / 2^63 * 2^(e - 1023), with bit 63 of m set unless x is zero.
 */
export function unpack(f: Fn, bits: Expr): { e: Local; m: Local } {
  const e = f.let(exponent(F64, bits));
  const m = f.let(i64.shl(bits, 11));
  f.if(
    e,
    () => f.set(m, i64.or(m, -(1n << 63n))),
    () => {
      const zeros = f.let(i64.clz(m));
      f.set(m, i64.shl(m, zeros));
      f.set(e, i32.sub(1, i32.wrap(zeros)));
    },
  );
  return { e, m };
}

/** The 53-bit significand of a normal binary64, as an integer. */
export function significand(bits: Expr): Expr {
  return i64.or(i64.and(bits, (1n << 52n) - 1n), 1n << 52n);
}

/**
 * The sign of a sum that is exactly zero, from the signs of its addends (IEEE 754-2019, 6.3): unless both agree it is
 * positive, but negative when rounding down.
 */
export function zeroSum(format: Format, a: Expr, b: Expr, rm: Expr): Expr {
  const { word } = format;
  return word.and(select(i32.eq(rm, RDN), word.or(a, b), word.and(a, b)), format.sign);
}

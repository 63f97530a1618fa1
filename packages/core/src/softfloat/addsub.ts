/**
 * Addition and subtraction.
 *
 * The machine adds to nearest even; the error of that sum is a number of the format itself and six more additions find it
 * exactly (the TwoSum of Møller and Knuth, TAOCP volume 2, 4.2.2). It tells whether the sum was exact and where the true
 * value lies, which is all that flags and other modes need: a sum is never tiny and inexact at once.
 */

import { type Expr, type Fn, f32, f64, i32, i64, type Local } from '../wasm/index.ts';
import { F32, F64, isNan, type Library, NX, nearestUnwatched, power, raise, type Target, zeroSum } from './format.ts';

export const ZERO = f64.reinterpret(i64.const(0));

/** The error x + y - s of the rounded sum s; no operation on the way may overflow. */
export function sumError(f: Fn, x: Expr, y: Expr, s: Expr, float: typeof f32 | typeof f64 = f64): Local {
  const part = f.let(float.sub(s, x));
  return f.let(float.add(float.sub(x, float.sub(s, part)), float.sub(y, part)));
}

/** The double next to s, outward or inward, on the side of a true value s + error. */
export function towards(s: Expr, error: Expr): Expr {
  return i64.add(s, outward(s, error));
}

/** 1 if adding `error` moves s away from zero, -1 otherwise. */
function outward(s: Expr, error: Expr): Expr {
  return i64.or(i64.shrS(i64.xor(i64.reinterpret(error), s), 63), 1);
}

/** Returns the sum (also as bits s) as what the mode makes of the true value, sum + error. It is not 0 and not huge. */
export function returnSum(target: Target, library: Library, f: Fn, sum: Local, s: Local, error: Local, rm: Expr): void {
  f.if(f64.eq(error, ZERO), () => f.return(s));
  raise(target, f, NX);
  const step = f64.sub(f64.reinterpret(i64.add(s, 1)), sum);
  const tie = f64.eq(f64.add(error, error), step);
  f.return(f.call(library.f64Nudge!, s, outward(s, error), tie, rm));
}

function addF64(target: Target, library: Library, name: string, negate: boolean): void {
  library[name] = target.module.function(name, ['i64', 'i64', 'i32'], ['i64'], (f, a, b, rm) => {
    if (negate) f.set(b, i64.xor(b, F64.sign));
    const x = f.let(f64.reinterpret(a));
    const y = f.let(f64.reinterpret(b));
    const limit = power(F64, 1022);
    f.if(i32.and(f64.lt(f64.abs(x), limit), f64.lt(f64.abs(y), limit)), () => {
      const sum = f.let(f64.add(x, y));
      const s = f.let(i64.reinterpret(sum));
      f.if(nearestUnwatched(target, rm), () => f.return(s));
      f.if(f64.eq(sum, ZERO), () => f.return(zeroSum(F64, a, b, rm)));
      returnSum(target, library, f, sum, s, sumError(f, x, y, sum), rm);
    });
    // Huge, infinite or not a number: multiply by 1 on the way.
    f.return(f.call(library.f64MulAdd!, a, i64.reinterpret(power(F64, 0)), b, rm));
  });
}

/**
 * `f32Sum(x, y, rm)`: the sum of two doubles, not a NaN, rounded to binary32 once. Each is a binary32 or the exact product of
 * two. The sum in binary64 is rounded to odd (if inexact, to the neighbour whose last bit is 1), after which a second
 * rounding to a format at least 2 bits shorter is as good as one (Boldo and Melquiond, "Emulation of FMA and correctly
 * rounded sums", 2008).
 */
export function addSum(target: Target, library: Library): void {
  library.f32Sum = target.module.function('f32Sum', ['f64', 'f64', 'i32'], ['i32'], (f, x, y, rm) => {
    const sum = f.let(f64.add(x, y));
    f.if(f64.eq(sum, ZERO), () => {
      const high = (v: Expr) => i32.wrap(i64.shrU(i64.reinterpret(v), 32));
      f.return(zeroSum(F32, high(x), high(y), rm));
    });
    // For an infinite sum this is a NaN, which is on neither side of 0.
    const error = f.let(sumError(f, x, y, sum));
    f.if(i32.or(f64.lt(error, ZERO), f64.gt(error, ZERO)), () => {
      const s = f.let(i64.reinterpret(sum));
      f.if(i32.eqz(i32.and(i32.wrap(s), 1)), () => f.set(sum, f64.reinterpret(towards(s, error))));
    });
    f.return(f.call(library.f32Narrow!, sum, rm));
  });
}

function addF32(target: Target, library: Library, name: string, negate: boolean): void {
  library[name] = target.module.function(name, ['i32', 'i32', 'i32'], ['i32'], (f, a, b, rm) => {
    if (negate) f.set(b, i32.xor(b, F32.sign));
    const x = f.let(f32.reinterpret(a));
    const y = f.let(f32.reinterpret(b));
    const limit = power(F32, 126);
    f.if(i32.and(f32.lt(f32.abs(x), limit), f32.lt(f32.abs(y), limit)), () => {
      const sum = f.let(f32.add(x, y));
      const s = f.let(i32.reinterpret(sum));
      f.if(nearestUnwatched(target, rm), () => f.return(s));
      f.if(i32.eqz(rm), () => {
        f.if(f32.ne(sumError(f, x, y, sum, f32), f32.reinterpret(i32.const(0))), () => raise(target, f, NX));
        f.return(s);
      });
    });
    f.if(isNan(F32, f32.add(x, y)), () => f.return(f.call(library.f32Invalid!, a, b)));
    f.return(f.call(library.f32Sum!, f64.promote(x), f64.promote(y), rm));
  });
}

export function addAddSub(target: Target, library: Library): void {
  addF64(target, library, 'f64Add', false);
  addF64(target, library, 'f64Sub', true);
  addSum(target, library);
  addF32(target, library, 'f32Add', false);
  addF32(target, library, 'f32Sub', true);
}

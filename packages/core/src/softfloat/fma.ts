/**
 * Fused multiplication and addition: a * b + c with one rounding (IEEE 754-2019, 5.4.1).
 *
 * binary32: the product of two is a double, exactly; the rest is `f32Sum`.
 *
 * binary64, in the middle of the range: the product is s1 + e1 and the sum of s1 and c is s2 + e2, all doubles, exactly. Left is
 * s2 + (e1 + e2). Where e1 + e2 is not a double it is rounded to odd. That only happens if e2 is not 0, so that s1 and c have
 * not cancelled (a difference of numbers within a factor of 2 is exact) and |s2| is at least |s1| / 2; then |e1 + e2| is at
 * most 1.5 units in the last place of s2, and its own last bit some 50 places lower: no rounding, and no question about
 * a tie, can go wrong.
 *
 * binary64, in general: both addends are unsigned 128-bit integers in two halves, the larger exponent's unshifted, the other one shifted
 * right with a sticky last bit. Their leading bits are at 126 or below, so a sum fits:
 *
 * ```text
 * product   126 | 125 ............ 21 | 0      105 or 106 bits, then zeros
 * addend    126 ........ 74 |              0    53 bits, then zeros
 * ```
 *
 * A shift loses bits only if it is longer than the 20 zeros below the product. Then the leading bits are so far apart that a
 * subtraction cancels one bit at most, and as the unshifted addend is even, the sticky bit tells the truth.
 *
 * `f64MulAdd` also serves what the quick paths of addition and multiplication leave over.
 */

import { type Expr, type Fn, f32, f64, i32, i64, type Local, select } from '../wasm/index.ts';
import { returnSum, sumError, towards, ZERO } from './addsub.ts';
import {
  exponent,
  F64,
  isNan,
  type Library,
  nearestUnwatched,
  power,
  significand,
  type Target,
  unpack,
  zeroSum,
} from './format.ts';

/** Returns the result if the operands are harmless: no special ones, no overflow, and e1 not below the least subnormal. */
function quick(target: Target, library: Library, f: Fn, [a, b, c, rm]: [Local, Local, Local, Local]): void {
  const z = f64.reinterpret(c);
  const product = f.let(f64.mul(f64.reinterpret(a), f64.reinterpret(b)));
  const p = f.let(i64.reinterpret(product));
  const ea = f.let(exponent(F64, a));
  const eb = f.let(exponent(F64, b));
  const normal = i32.and(i32.ne(ea, 0), i32.ne(eb, 0));
  const middle = i32.ltU(i32.sub(exponent(F64, p), 128), 1900 - 128);
  f.if(i32.and(i32.and(normal, middle), f64.lt(f64.abs(z), power(F64, 1022))), () => {
    const e1 = productError(f, a, b, p, i32.add(ea, eb));
    const sum = f.let(f64.add(product, z));
    const e2 = sumError(f, product, z, sum);
    const rest = f.let(f64.add(e1, e2));
    const lost = sumError(f, e1, e2, rest);
    f.if(f64.ne(lost, ZERO), () => {
      const bits = f.let(i64.reinterpret(rest));
      f.if(i64.eqz(i64.and(bits, 1)), () => f.set(rest, f64.reinterpret(towards(bits, lost))));
    });
    const result = f.let(f64.add(sum, rest));
    const s = f.let(i64.reinterpret(result));
    f.if(f64.eq(result, ZERO), () => f.return(zeroSum(F64, p, c, rm)));
    f.if(nearestUnwatched(target, rm), () => f.return(s));
    // |sum| is at least |rest|, so that three operations give the error.
    returnSum(target, library, f, result, s, f.let(f64.sub(rest, f64.sub(result, sum))), rm);
  });
}

/** The error a * b - p of a rounded product, where ea + eb is `exponents`. The integer it comes from: see muldiv.ts. */
function productError(f: Fn, a: Expr, b: Expr, p: Expr, exponents: Expr): Local {
  const unit = F64.bias + F64.fraction;
  const sum = f.let(exponents);
  const shift = i64.extendU(i32.add(i32.sub(exponent(F64, p), sum), unit));
  const difference = i64.sub(i64.mul(significand(a), significand(b)), i64.shl(significand(p), shift));
  const scale = i64.shl(i64.extendU(i32.sub(sum, 2 * unit - F64.bias)), F64.fraction);
  const signed = i64.or(scale, i64.and(p, F64.sign));
  return f.let(f64.mul(f64.convertI64S(difference), f64.reinterpret(signed)));
}

function addF64(target: Target, library: Library): void {
  library.f64MulAdd = target.module.function('f64MulAdd', ['i64', 'i64', 'i64', 'i32'], ['i64'], (f, a, b, c, rm) => {
    quick(target, library, f, [a, b, c, rm]);

    const top = 0x7ff;
    const isTop = (v: Local) => i32.eq(exponent(F64, v), top);
    f.if(i32.or(i32.or(isTop(a), isTop(b)), isTop(c)), () => {
      const z = f64.reinterpret(c);
      // With finite factors the product must not get a chance to overflow.
      f.if(i32.eqz(i32.or(i32.or(isTop(a), isTop(b)), isNan(F64, z))), () => f.return(c));
      const result = f.let(f64.add(f64.mul(f64.reinterpret(a), f64.reinterpret(b)), z));
      f.if(isNan(F64, result), () => f.return(f.call(library.f64InvalidMulAdd!, a, b, c)));
      f.return(i64.reinterpret(result));
    });

    const x = unpack(f, a);
    const y = unpack(f, b);
    const z = unpack(f, c);
    const productSign = f.let(i64.xor(a, b));
    f.if(i32.or(i64.eqz(x.m), i64.eqz(y.m)), () => {
      f.if(i64.ne(z.m, 0), () => f.return(c));
      f.return(zeroSum(F64, productSign, c, rm));
    });

    // The larger addend: 128 bits hi, lo of value (hi, lo) / 2^127 * 2^(e - bias). First the product, of halves:
    // x.m / 2 is x1, x0 and y.m is y1, y0.
    const x1 = f.let(i64.shrU(x.m, 33));
    const x0 = f.let(i64.and(i64.shrU(x.m, 1), 0xffffffffn));
    const y1 = f.let(i64.shrU(y.m, 32));
    const y0 = f.let(i64.and(y.m, 0xffffffffn));
    const low = f.let(i64.mul(x0, y0));
    const cross = f.let(i64.add(i64.mul(x1, y0), i64.shrU(low, 32)));
    const other = f.let(i64.add(i64.mul(x0, y1), i64.and(cross, 0xffffffffn)));
    const hi = f.let(i64.add(i64.add(i64.mul(x1, y1), i64.shrU(cross, 32)), i64.shrU(other, 32)));
    const lo = f.let(i64.or(i64.shl(other, 32), i64.and(low, 0xffffffffn)));
    const e = f.let(i32.sub(i32.add(x.e, y.e), F64.bias - 2));
    const sign = f.let(i32.wrap(i64.shrU(productSign, 63)));

    // Then the addend, as the smaller one; if it is the larger, the two change places. A zero fits everywhere.
    const hi2 = f.let(i64.shrU(z.m, 1));
    const lo2 = f.let(i64.const(0));
    const distance = f.let(select(i64.eqz(z.m), i32.const(0), i32.sub(i32.sub(e, 1), z.e)));
    const subtract = f.let(i64.ltS(i64.xor(productSign, c), 0));
    f.if(i32.ltS(distance, 0), () => {
      f.set(e, i32.sub(e, distance));
      f.set(distance, i32.sub(0, distance));
      f.set(sign, i32.xor(sign, subtract));
      f.set(low, hi);
      f.set(hi, hi2);
      f.set(hi2, low);
      f.set(lo2, lo);
      f.set(lo, i64.const(0));
    });

    const sticky = f.let(i32.const(0));
    const fallOff = () => {
      f.set(sticky, i32.or(sticky, i64.ne(lo2, 0)));
      f.set(lo2, hi2);
      f.set(hi2, i64.const(0));
    };
    f.if(i32.geU(distance, 64), () => {
      fallOff();
      f.if(i32.geU(distance, 128), () => {
        fallOff();
        f.set(sticky, i32.or(sticky, i64.ne(lo2, 0)));
        f.set(lo2, i64.const(0));
        f.set(distance, i32.const(0));
      });
    });
    const shift = f.let(i64.and(i64.extendU(distance), 63));
    f.if(i64.ne(shift, 0), () => {
      const back = i64.sub(0, shift);
      f.set(sticky, i32.or(sticky, i64.ne(i64.shl(lo2, back), 0)));
      f.set(lo2, i64.or(i64.shrU(lo2, shift), i64.shl(hi2, back)));
      f.set(hi2, i64.shrU(hi2, shift));
    });
    f.set(lo2, i64.or(lo2, i64.extendU(sticky)));

    f.if(
      subtract,
      () => {
        f.set(hi, i64.sub(i64.sub(hi, hi2), i64.extendU(i64.ltU(lo, lo2))));
        f.set(lo, i64.sub(lo, lo2));
        f.if(i64.ltS(hi, 0), () => {
          f.set(sign, i32.xor(sign, 1));
          f.set(hi, i64.sub(i64.sub(0, hi), i64.extendU(i64.ne(lo, 0))));
          f.set(lo, i64.sub(0, lo));
        });
        f.if(i64.eqz(i64.or(hi, lo)), () => f.return(zeroSum(F64, productSign, c, rm)));
      },
      () => {
        f.set(lo, i64.add(lo, lo2));
        f.set(hi, i64.add(i64.add(hi, hi2), i64.extendU(i64.ltU(lo, lo2))));
      },
    );

    // The leading 64 bits, the rest sticky.
    f.if(i64.eqz(hi), () => {
      f.set(hi, lo);
      f.set(lo, i64.const(0));
      f.set(e, i32.sub(e, 64));
    });
    const zeros = f.let(i64.clz(hi));
    const joined = i64.or(i64.shl(hi, zeros), i64.shrU(i64.shrU(lo, 1), i64.sub(63, zeros)));
    const m = i64.or(joined, i64.extendU(i64.ne(i64.shl(lo, zeros), 0)));
    f.return(f.call(library.f64Round!, sign, i32.sub(e, i32.wrap(zeros)), m, rm));
  });
}

function addF32(target: Target, library: Library): void {
  library.f32MulAdd = target.module.function('f32MulAdd', ['i32', 'i32', 'i32', 'i32'], ['i32'], (f, a, b, c, rm) => {
    const wide = (bits: Local) => f64.promote(f32.reinterpret(bits));
    const product = f.let(f64.mul(wide(a), wide(b)));
    const z = f.let(wide(c));
    f.if(isNan(F64, f64.add(product, z)), () => f.return(f.call(library.f32InvalidMulAdd!, a, b, c)));
    f.return(f.call(library.f32Sum!, product, z, rm));
  });
}

export function addMulAdd(target: Target, library: Library): void {
  addF64(target, library);
  addF32(target, library);
}

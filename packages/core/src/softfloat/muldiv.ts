/**
 * Multiplication and division.
 *
 * binary64: the machine's result s is the true one rounded to nearest, so the integer that separates them, between the
 * significands, is small: |ma * mb - ms * 2^k| or |ma * 2^k - ms * mb| is below 2^53. Both terms have more than 64 bits, but
 * their difference modulo 2^64 is already the difference. One or two 64-bit multiplications so give the exact remainder, and
 * with it NX and every rounding mode.
 *
 * binary32: a product of two is exact in binary64. A quotient is not, but two 24-bit integers can have a quotient that lies
 * within 2^-49 (relative) of a 25-bit number only if it is that number: otherwise |ma * 2^j - k * mb| is at least 1.
 * Rounding to 53 bits thus never moves a quotient onto or across a boundary of the final rounding.
 */

import { type Expr, type Fn, f32, f64, i32, i64, type Local } from '../wasm/index.ts';
import {
  DZ,
  exponent,
  F32,
  F64,
  isInside,
  isNan,
  type Library,
  NX,
  nearestUnwatched,
  raise,
  significand,
  type Target,
  unpack,
} from './format.ts';

function addMulF64(target: Target, library: Library): void {
  library.f64Mul = target.module.function('f64Mul', ['i64', 'i64', 'i32'], ['i64'], (f, a, b, rm) => {
    const s = f.let(i64.reinterpret(f64.mul(f64.reinterpret(a), f64.reinterpret(b))));
    f.if(isInside(F64, s), () => {
      f.if(nearestUnwatched(target, rm), () => f.return(s));
      const ea = f.let(exponent(F64, a));
      const eb = f.let(exponent(F64, b));
      f.if(i32.and(i32.ne(ea, 0), i32.ne(eb, 0)), () => {
        // 52 or 53: the product of significands has 105 or 106 bits.
        const shift = f.let(i64.extendU(i32.add(i32.sub(exponent(F64, s), i32.add(ea, eb)), F64.bias + F64.fraction)));
        const product = i64.mul(significand(a), significand(b));
        const difference = f.let(i64.sub(product, i64.shl(significand(s), shift)));
        f.if(i64.eqz(difference), () => f.return(s));
        raise(target, f, NX);
        const tie = i64.eq(i64.shl(difference, 1), i64.shl(i64.const(1), shift));
        f.return(f.call(library.f64Nudge!, s, difference, tie, rm));
      });
    });
    // A zero of the product's sign is what can be added to any product without changing it.
    const zero = i64.and(i64.xor(a, b), F64.sign);
    f.return(f.call(library.f64MulAdd!, a, b, zero, rm));
  });
}

/** ma * 2^shift - ms * mb, for significands and a quotient rounded to nearest. */
function quotientRemainder(f: Fn, ma: Expr, mb: Expr, s: Expr, shift: Expr): Local {
  return f.let(i64.sub(i64.shl(ma, shift), i64.mul(significand(s), mb)));
}

function addDivF64(target: Target, library: Library): void {
  library.f64Div = target.module.function('f64Div', ['i64', 'i64', 'i32'], ['i64'], (f, a, b, rm) => {
    const quotient = f.let(f64.div(f64.reinterpret(a), f64.reinterpret(b)));
    const s = f.let(i64.reinterpret(quotient));
    f.if(isInside(F64, s), () => {
      f.if(nearestUnwatched(target, rm), () => f.return(s));
      const ea = f.let(exponent(F64, a));
      const eb = f.let(exponent(F64, b));
      f.if(i32.and(i32.ne(ea, 0), i32.ne(eb, 0)), () => {
        const shift = i32.sub(i32.add(i32.sub(ea, eb), F64.bias + F64.fraction), exponent(F64, s));
        const rest = quotientRemainder(f, significand(a), significand(b), s, i64.extendU(shift));
        f.if(i64.eqz(rest), () => f.return(s));
        raise(target, f, NX);
        // Half-way cases do not exist: they would need a divisor that divides a power of 2 times more.
        f.return(f.call(library.f64Nudge!, s, rest, i32.const(0), rm));
      });
    });
    f.if(isNan(F64, quotient), () => f.return(f.call(library.f64Invalid!, a, b)));
    // Zero and infinite operands have exact results; only a finite number divided by zero is remarkable.
    const special = (bits: Expr) => i64.geU(i64.sub(i64.shl(bits, 1), 1), (F64.infinity << 1n) - 1n);
    f.if(i32.or(special(a), special(b)), () => {
      const finite = i32.ne(exponent(F64, a), 0x7ff);
      f.if(i32.and(finite, i64.eqz(i64.shl(b, 1))), () => raise(target, f, DZ));
      f.return(s);
    });
    // Divide the significands alone, and give the result back its exponent in the rounding.
    const x = unpack(f, a);
    const y = unpack(f, b);
    const scaled = (m: Expr) => f64.reinterpret(i64.or(i64.shrU(i64.shl(m, 1), 12), BigInt(F64.bias) << 52n));
    const q = f.let(i64.reinterpret(f64.div(scaled(x.m), scaled(y.m))));
    const below = i64.sub(F64.bias + F64.fraction, i64.shrU(q, 52));
    const rest = quotientRemainder(f, i64.shrU(x.m, 11), i64.shrU(y.m, 11), q, below);
    const side = i64.sub(i64.extendU(i64.gtS(rest, 0)), i64.extendU(i64.ltS(rest, 0)));
    const m = i64.add(i64.shl(significand(q), 11), side);
    const e = i32.add(i32.sub(x.e, y.e), i32.wrap(i64.shrU(q, 52)));
    const sign = i32.wrap(i64.shrU(i64.xor(a, b), 63));
    f.return(f.call(library.f64Round!, sign, e, m, rm));
  });
}

function addF32(target: Target, library: Library, name: string, divide: boolean): void {
  const operation = divide ? 'div' : 'mul';
  library[name] = target.module.function(name, ['i32', 'i32', 'i32'], ['i32'], (f, a, b, rm) => {
    const x = f32.reinterpret(a);
    const y = f32.reinterpret(b);
    f.if(nearestUnwatched(target, rm), () => {
      const s = f.let(i32.reinterpret(f32[operation](x, y)));
      f.if(isInside(F32, s), () => f.return(s));
    });
    const result = f.let(f64[operation](f64.promote(x), f64.promote(y)));
    f.if(isNan(F64, result), () => f.return(f.call(library.f32Invalid!, a, b)));
    if (divide) {
      const byZero = i32.eqz(i32.shl(b, 1));
      f.if(i32.and(byZero, i32.ne(exponent(F32, a), 0xff)), () => raise(target, f, DZ));
    }
    f.return(f.call(library.f32Narrow!, result, rm));
  });
}

export function addMulDiv(target: Target, library: Library): void {
  addMulF64(target, library);
  addDivF64(target, library);
  addF32(target, library, 'f32Mul', false);
  addF32(target, library, 'f32Div', true);
}

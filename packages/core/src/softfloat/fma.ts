/**
 * Fused multiplication and addition: a * b + c with one rounding (IEEE 754-2019, 5.4.1).
 *
 * binary32: the product of two is a double, exactly; the rest is `f32Sum`.
 *
 * binary64: both addends are unsigned 128-bit integers in two halves, the larger exponent's unshifted, the other one shifted
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

import { f32, f64, i32, i64, type Local, select } from '../wasm/index.ts';
import { exponent, F64, isNan, type Library, type Target, unpack, zeroSum } from './format.ts';

function addF64(target: Target, library: Library): void {
  library.f64MulAdd = target.module.function('f64MulAdd', ['i64', 'i64', 'i64', 'i32'], ['i64'], (f, a, b, c, rm) => {
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

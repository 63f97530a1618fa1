/**
 * Square roots. They are never subnormal, too large, or half-way between two numbers, so the machine's own result and the
 * sign of the exact remainder say everything.
 *
 * binary64: with the operand's significand scaled to an integer X of 105 or 106 bits and the root's significand r, |X - r * r|
 * is at most r, so that the remainder modulo 2^64 is the remainder. binary32: the root of a 24-bit number that is not a 25-bit
 * number itself is at least 2^-50 (relative) away from all of them, so rounding to 53 bits first does no harm.
 */

import { f32, f64, i32, i64 } from '../wasm/index.ts';
import {
  exponent,
  F64,
  isNan,
  type Library,
  NX,
  nearestUnwatched,
  raise,
  significand,
  type Target,
  unpack,
} from './format.ts';

function addF64(target: Target, library: Library): void {
  library.f64Sqrt = target.module.function('f64Sqrt', ['i64', 'i32'], ['i64'], (f, a, rm) => {
    const root = f.let(f64.sqrt(f64.reinterpret(a)));
    const s = f.let(i64.reinterpret(root));
    f.if(isNan(F64, root), () => f.return(f.call(library.f64Invalid!, a, a)));
    // The roots of zeros and infinity are themselves, exactly.
    const special = i32.or(i64.eqz(i64.shl(a, 1)), i32.eq(exponent(F64, a), 0x7ff));
    f.if(i32.or(nearestUnwatched(target, rm), special), () => f.return(s));
    const { e, m } = unpack(f, a);
    // The bias is odd: an odd exponent field is an even power of 2.
    const shift = i64.sub(53, i64.extendU(i32.and(e, 1)));
    const r = f.let(significand(s));
    const rest = f.let(i64.sub(i64.shl(i64.shrU(m, 11), shift), i64.mul(r, r)));
    f.if(i64.eqz(rest), () => f.return(s));
    raise(target, f, NX);
    f.return(f.call(library.f64Nudge!, s, rest, i32.const(0), rm));
  });
}

function addF32(target: Target, library: Library): void {
  library.f32Sqrt = target.module.function('f32Sqrt', ['i32', 'i32'], ['i32'], (f, a, rm) => {
    const root = f.let(f64.sqrt(f64.promote(f32.reinterpret(a))));
    f.if(isNan(F64, root), () => f.return(f.call(library.f32Invalid!, a, a)));
    f.return(f.call(library.f32Narrow!, root, rm));
  });
}

export function addSqrt(target: Target, library: Library): void {
  addF64(target, library);
  addF32(target, library);
}

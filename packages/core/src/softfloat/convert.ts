/**
 * Conversions: to and from integers, and between the formats (RISC-V chapters "F" and "D", "Conversion and Move
 * Instructions").
 *
 * An integer that does not fit gives the nearest one that does, a NaN the largest one, both with NV and without NX.
 */

import { type Expr, f32, f64, i32, i64, select } from '../wasm/index.ts';
import {
  F32,
  F64,
  isNan,
  isSignaling,
  type Library,
  NV,
  NX,
  nearestUnwatched,
  power,
  RDN,
  RNE,
  RTZ,
  RUP,
  raise,
  type Target,
} from './format.ts';

/** `f64Integral(x, rm)`: the integer, still as a number, that x rounds to. Infinities and NaNs pass. */
function addIntegral(target: Target, library: Library): void {
  library.f64Integral = target.module.function('f64Integral', ['f64', 'i32'], ['f64'], (f, x, rm) => {
    f.if(i32.eq(rm, RTZ), () => f.return(f64.trunc(x)));
    f.if(i32.eq(rm, RNE), () => f.return(f64.nearest(x)));
    f.if(i32.eq(rm, RDN), () => f.return(f64.floor(x)));
    f.if(i32.eq(rm, RUP), () => f.return(f64.ceil(x)));
    // What truncation drops is exact.
    const whole = f.let(f64.trunc(x));
    const far = f64.ge(f64.abs(f64.sub(x, whole)), power(F64, -1));
    const unit = select(f64.lt(x, whole), power(F64, 0, true), power(F64, 0));
    f.if(far, () => f.return(f64.add(whole, unit)));
    f.return(whole);
  });
}

function addToInteger(target: Target, library: Library, bits: 32 | 64, signed: boolean): void {
  const type = bits === 32 ? 'i32' : 'i64';
  const word = bits === 32 ? i32 : i64;
  const suffix = `${signed ? 'I' : 'U'}${bits}`;
  const low = signed ? power(F64, bits - 1, true) : f64.reinterpret(i64.const(0));
  const high = power(F64, signed ? bits - 1 : bits);
  const least = signed ? -(1n << BigInt(bits - 1)) : 0n;
  const most = signed ? (1n << BigInt(bits - 1)) - 1n : -1n;

  const name = `f64To${suffix}`;
  const convert = target.module.function(name, ['i64', 'i32'], [type], (f, a, rm) => {
    const x = f.let(f64.reinterpret(a));
    const whole = f.let(f.call(library.f64Integral!, x, rm));
    f.if(i32.and(f64.ge(whole, low), f64.lt(whole, high)), () => {
      f.if(f64.ne(whole, x), () => raise(target, f, NX));
      const integer = bits === 64 && !signed ? i64.truncSatF64U(whole) : i64.truncSatF64S(whole);
      f.return(bits === 32 ? i32.wrap(integer) : integer);
    });
    raise(target, f, NV);
    f.return(select(f64.lt(whole, low), word.const(least), word.const(most)));
  });
  library[name] = convert;

  const short = `f32To${suffix}`;
  library[short] = target.module.function(short, ['i32', 'i32'], [type], (f, a, rm) => {
    f.return(f.call(convert, i64.reinterpret(f64.promote(f32.reinterpret(a))), rm));
  });
}

/** A 32-bit integer is a double. */
function addFromWord(target: Target, library: Library, signed: boolean): void {
  const prefix = signed ? 'i32' : 'u32';
  const convert = (a: Expr) => (signed ? f64.convertI32S(a) : f64.convertI32U(a));
  library[`${prefix}ToF64`] = target.module.function(`${prefix}ToF64`, ['i32'], ['i64'], (f, a) => {
    f.return(i64.reinterpret(convert(a)));
  });
  library[`${prefix}ToF32`] = target.module.function(`${prefix}ToF32`, ['i32', 'i32'], ['i32'], (f, a, rm) => {
    f.return(f.call(library.f32Narrow!, convert(a), rm));
  });
}

/** So is a shorter 64-bit one; others are rounded from the integer itself. */
function addFromDouble(target: Target, library: Library, signed: boolean): void {
  const prefix = signed ? 'i64' : 'u64';
  const convert = (a: Expr) => (signed ? f64.convertI64S(a) : f64.convertI64U(a));
  const reach = 1n << 53n;
  const isShort = (a: Expr) => i64.ltU(signed ? i64.add(a, reach) : a, signed ? reach * 2n : reach);
  for (const format of [F64, F32]) {
    const name = `${prefix}To${format === F64 ? 'F64' : 'F32'}`;
    library[name] = target.module.function(name, ['i64', 'i32'], [format.bits], (f, a, rm) => {
      if (format === F64) {
        f.if(i32.or(isShort(a), nearestUnwatched(target, rm)), () => f.return(i64.reinterpret(convert(a))));
      } else {
        f.if(isShort(a), () => f.return(f.call(library.f32Narrow!, convert(a), rm)));
      }
      const negative = signed ? i64.ltS(a, 0) : i32.const(0);
      const magnitude = signed ? select(i64.ltS(a, 0), i64.sub(0, a), a) : a;
      f.return(f.call(library[`${format.name}Round`]!, negative, i32.const(format.bias + 63), magnitude, rm));
    });
  }
}

function addBetween(target: Target, library: Library): void {
  library.f64ToF32 = target.module.function('f64ToF32', ['i64', 'i32'], ['i32'], (f, a, rm) => {
    const x = f.let(f64.reinterpret(a));
    f.if(isNan(F64, x), () => {
      f.if(isSignaling(F64, a), () => raise(target, f, NV));
      f.return(i32.const(F32.nan));
    });
    f.return(f.call(library.f32Narrow!, x, rm));
  });
  library.f32ToF64 = target.module.function('f32ToF64', ['i32'], ['i64'], (f, a) => {
    const x = f.let(f32.reinterpret(a));
    f.if(isNan(F32, x), () => {
      f.if(isSignaling(F32, a), () => raise(target, f, NV));
      f.return(i64.const(F64.nan));
    });
    f.return(i64.reinterpret(f64.promote(x)));
  });
}

export function addConversions(target: Target, library: Library): void {
  addIntegral(target, library);
  for (const bits of [32, 64] as const) {
    for (const signed of [true, false]) addToInteger(target, library, bits, signed);
  }
  for (const signed of [true, false]) {
    addFromWord(target, library, signed);
    addFromDouble(target, library, signed);
  }
  addBetween(target, library);
}

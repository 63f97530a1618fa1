/**
 * The end of every exact computation: one rounding, with its flags.
 *
 * Two ways lead there. `f64Round` and `f32Round` take a significand of any length up to 64 bits and do everything: subnormal
 * results, overflow, all modes. `f64Nudge` starts from what the machine rounded to nearest, in the middle of the range, and
 * knows on which side of the true value that is.
 */

import { f32, f64, i32, i64, select } from '../wasm/index.ts';
import {
  exponent,
  F32,
  F64,
  type Format,
  isInside,
  type Library,
  NX,
  OF,
  RMM,
  RNE,
  raise,
  type Target,
} from './format.ts';

/**
 * `Round(sign, e, m, rm)`: the number ±m / 2^63 * 2^(e - bias), m not 0. Bit 0 of m, when it is
 * set, may stand for anything between 0 and 2 of its units ("sticky"), as long as the result does not keep it.
 *
 * Tininess is detected after rounding: a result is tiny if, rounded as though the exponent were unbounded, it would still lie
 * below the smallest normal number (IEEE 754-2019, 7.5; RISC-V chapter "F", "Subnormal Arithmetic").
 */
function addRound(target: Target, library: Library, format: Format): void {
  const { fraction, width } = format;
  const extra = 63 - fraction;
  const half = 1n << BigInt(extra - 1);
  const rest = (1n << BigInt(extra)) - 1n;

  const round = target.module.declare(`${format.name}Round`, ['i32', 'i32', 'i64', 'i32'], [format.bits]);
  library[round.name] = round;
  target.module.define(round, (f, sign, e, m, rm) => {
    const zeros = f.let(i64.clz(m));
    f.set(m, i64.shl(m, zeros));
    f.set(e, i32.sub(e, i32.wrap(zeros)));

    // What to add to the discarded bits so that they carry exactly when the magnitude is rounded up; to nearest even adds
    // the last kept bit too. rm + sign is 3 when a directed mode leads away from zero, and for no other mode.
    const away = i32.eq(i32.add(rm, sign), 3);
    const step = f.let(
      select(
        i32.eqz(rm),
        i64.const(half - 1n),
        select(i32.eq(rm, RMM), i64.const(half), select(away, i64.const(rest), i64.const(0))),
      ),
    );
    const kept = () => i64.shrU(m, extra);
    const carry = () => {
      const even = i64.and(i64.extendU(i32.eqz(rm)), kept());
      return i64.shrU(i64.add(i64.add(i64.and(m, rest), step), even), extra);
    };

    const tiny = f.let(i32.const(0));
    f.if(i32.leS(e, 0), () => {
      const reaches = i64.eq(i64.add(kept(), carry()), 1n << BigInt(fraction + 1));
      f.set(tiny, i32.eqz(i32.and(i32.eqz(e), reaches)));
      const shift = f.let(i64.extendU(i32.sub(1, e)));
      const lost = i64.ne(i64.shl(m, i64.sub(0, shift)), 0);
      f.set(m, select(i64.ltU(shift, 64), i64.or(i64.shrU(m, shift), i64.extendU(lost)), i64.const(1)));
      f.set(e, i32.const(1));
    });

    // The hidden bit of a normal significand, or a carry out of it, adds 1 to the exponent below it. Exponents stay below
    // 4096, so the sum is a correct unsigned number even where it is far too large.
    const result = f.let(i64.add(i64.add(i64.shl(i64.extendU(i32.sub(e, 1)), fraction), kept()), carry()));
    f.if(
      i64.geU(result, format.infinity),
      () => {
        raise(target, f, OF | NX);
        f.set(result, i64.sub(format.infinity, i64.extendU(i64.eqz(step))));
      },
      () => f.if(i64.ne(i64.and(m, rest), 0), () => target.raise(f, i32.or(NX, i32.shl(tiny, 1)))),
    );
    const signed = i64.or(result, i64.shl(i64.extendU(sign), width - 1));
    f.return(format === F64 ? signed : i32.wrap(signed));
  });
}

/**
 * `f64Nudge(s, difference, tie, rm)`: corrects a result that was rounded to nearest even for the mode that was asked for.
 * The sign of `difference` (i64, not 0) tells whether the true magnitude is above or below that of s; `tie` whether it is
 * exactly half-way to the next one. One step of magnitude is one step of the bit pattern.
 */
function addNudge(target: Target, library: Library): void {
  library.f64Nudge = target.module.function(
    'f64Nudge',
    ['i64', 'i64', 'i32', 'i32'],
    ['i64'],
    (f, s, difference, tie, rm) => {
      f.if(i32.eq(rm, RNE), () => f.return(s));
      const away = i32.eq(i32.add(rm, i64.ltS(s, 0)), 3);
      const nearest = f.let(i32.eq(rm, RMM));
      f.if(select(nearest, tie, away), () => f.return(i64.add(s, i64.extendU(i64.gtS(difference, 0)))));
      f.if(nearest, () => f.return(s));
      f.return(i64.sub(s, i64.extendU(i64.ltS(difference, 0))));
    },
  );
}

/** `f32Narrow(x, rm)`: a number (not a NaN) given as f64 rounds to binary32. */
function addNarrow(target: Target, library: Library): void {
  library.f32Narrow = target.module.function('f32Narrow', ['f64', 'i32'], ['i32'], (f, x, rm) => {
    const near = f.let(f32.demote(x));
    const result = f.let(i32.reinterpret(near));
    f.if(f64.eq(f64.promote(near), x), () => f.return(result));
    f.if(i32.and(i32.eqz(rm), isInside(F32, result)), () => {
      raise(target, f, NX);
      f.return(result);
    });
    const bits = f.let(i64.reinterpret(x));
    // A binary64 that is itself subnormal needs no care: all that counts is that it is not 0.
    const m = i64.or(i64.shl(bits, 11), -(1n << 63n));
    const e = i32.sub(exponent(F64, bits), F64.bias - F32.bias);
    f.return(f.call(library.f32Round!, i32.wrap(i64.shrU(bits, 63)), e, m, rm));
  });
}

export function addRounding(target: Target, library: Library): void {
  addRound(target, library, F64);
  addRound(target, library, F32);
  addNudge(target, library);
  addNarrow(target, library);
}

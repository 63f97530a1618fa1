/**
 * IEEE 754 arithmetic as RISC-V has it, written into a WebAssembly module.
 *
 * WebAssembly computes exactly as the standard says, but only rounding to nearest even, without exception flags, and with NaNs
 * whose bits are its own choice. These functions take and give bit patterns (binary32 as i32, binary64 as i64), know five
 * rounding modes and five flags, and give one NaN. Most start from the machine's own result and derive the rest from it; where
 * that is impossible they compute with integers.
 *
 * Speed: a call costs little more than the machine's operation while NX has accrued and the mode is to nearest even, and some
 * nanoseconds otherwise. Operands and results at the edges of the range of binary64, and binary32 in directed modes, go
 * through integers, which takes about ten.
 *
 * | functions                                                  | parameters  | result               |
 * | ---------------------------------------------------------- | ----------- | -------------------- |
 * | f64Add f64Sub f64Mul f64Div                                | a, b, rm    | i64                  |
 * | f64Sqrt                                                    | a, rm       | i64                  |
 * | f64MulAdd                                                  | a, b, c, rm | i64                  |
 * | f64Min f64Max                                              | a, b        | i64                  |
 * | f64Eq f64Lt f64Le                                          | a, b        | i32, 0 or 1          |
 * | f64Classify                                                | a           | i32                  |
 * | f64ToF32                                                   | a, rm       | i32                  |
 * | f64ToI32 f64ToU32 f64ToI64 f64ToU64                        | a, rm       | i32, i32, i64, i64   |
 * | i64ToF64 u64ToF64                                          | a, rm       | i64                  |
 * | i32ToF64 u32ToF64 (always exact)                           | a           | i64                  |
 *
 * and the same with f32, where `f32ToF64` is exact and has no rm while `i32ToF32` and `u32ToF32` have one. rm is 0 to 4:
 * to nearest even, to zero, down, up, to nearest with ties away from zero.
 */

import type { Expr, Fn, FunctionRef, Module } from '../wasm/index.ts';
import { addAddSub, addSum } from './addsub.ts';
import { addComparisons } from './compare.ts';
import { addConversions } from './convert.ts';
import { addMulAdd } from './fma.ts';
import type { Library, Target } from './format.ts';
import { addMulDiv } from './muldiv.ts';
import { addNaNs } from './nan.ts';
import { addRounding } from './round.ts';
import { addSqrt } from './sqrt.ts';

export interface SoftfloatOptions {
  /**
   * ORs an i32 of flags (NX 1, UF 2, OF 4, DZ 8, NV 16) into the accrued ones. It is called when an operation signals, with
   * flags that are never 0 at run time; they may have accrued already. It also marks the floating-point state dirty, since
   * fcsr is part of that state: whether an operation signals depends on its operands alone, so a comparison or a conversion
   * to an integer dirties the state in the same cases on every engine.
   */
  readonly raise: (f: Fn, flags: Expr) => void;
  /** Reads the accrued flags as i32. */
  readonly flags: () => Expr;
}

export function addSoftfloat(module: Module, options: SoftfloatOptions): Record<string, FunctionRef> {
  const target: Target = { module, ...options };
  const library: Library = {};
  addNaNs(target, library);
  addRounding(target, library);
  addSum(target, library);
  addMulAdd(target, library);
  addAddSub(target, library);
  addMulDiv(target, library);
  addSqrt(target, library);
  addConversions(target, library);
  addComparisons(target, library);
  return library;
}

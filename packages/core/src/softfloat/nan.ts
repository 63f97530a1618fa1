/**
 * What invalid operations and NaN operands give: always the canonical NaN, and NV for a signaling NaN or when a NaN comes
 * from operands that are none (IEEE 754-2019, 6.2 and 7.2; RISC-V chapter "F", "NaN Generation and Propagation").
 */

import { type Expr, i32 } from '../wasm/index.ts';
import { F32, F64, type Format, isNan, isSignaling, type Library, NV, raise, type Target } from './format.ts';

/** `Invalid(a, b)`: the result of an operation on a and b whose result is a NaN. */
function addInvalid(target: Target, library: Library, format: Format): void {
  const { bits, float, word } = format;
  const name = `${format.name}Invalid`;
  library[name] = target.module.function(name, [bits, bits], [bits], (f, a, b) => {
    const number = (v: Expr) => i32.eqz(isNan(format, float.reinterpret(v)));
    const signaling = i32.or(isSignaling(format, a), isSignaling(format, b));
    f.if(i32.or(signaling, i32.and(number(a), number(b))), () => raise(target, f, NV));
    f.return(word.const(format.nan));
  });
}

/**
 * `InvalidMulAdd(a, b, c)`: the result of a * b + c when that is a NaN. Infinity times zero is invalid even if c is a quiet
 * NaN (RISC-V decides what IEEE 754-2019, 7.2 c leaves open).
 */
function addInvalidMulAdd(target: Target, library: Library, format: Format): void {
  const { bits, float, word } = format;
  const name = `${format.name}InvalidMulAdd`;
  library[name] = target.module.function(name, [bits, bits, bits], [bits], (f, a, b, c) => {
    const x = float.reinterpret(a);
    const y = float.reinterpret(b);
    const z = float.reinterpret(c);
    const signaling = i32.or(i32.or(isSignaling(format, a), isSignaling(format, b)), isSignaling(format, c));
    const factors = i32.and(float.eq(x, x), float.eq(y, y));
    const product = isNan(format, float.mul(x, y));
    f.if(i32.or(signaling, i32.and(factors, i32.or(product, float.eq(z, z)))), () => raise(target, f, NV));
    f.return(word.const(format.nan));
  });
}

export function addNaNs(target: Target, library: Library): void {
  for (const format of [F32, F64]) {
    addInvalid(target, library, format);
    addInvalidMulAdd(target, library, format);
  }
}

/**
 * Comparisons, minimum and maximum, and classification (IEEE 754-2019, 5.11, 9.6 and 5.7.2; RISC-V chapter "F",
 * "Floating-Point Compare Instructions" and "Floating-Point Classify Instruction").
 */

import { type Expr, i32, select } from '../wasm/index.ts';
import { F32, F64, type Format, isNan, isSignaling, type Library, NV, raise, type Target } from './format.ts';

function addCompare(target: Target, library: Library, format: Format): void {
  const { bits, float } = format;
  for (const relation of ['eq', 'lt', 'le'] as const) {
    const name = `${format.name}${relation[0]!.toUpperCase()}${relation[1]}`;
    library[name] = target.module.function(name, [bits, bits], ['i32'], (f, a, b) => {
      const x = float.reinterpret(a);
      const y = float.reinterpret(b);
      // Equality asks quietly; the others are invalid for every NaN.
      const invalid =
        relation === 'eq'
          ? i32.or(isSignaling(format, a), isSignaling(format, b))
          : i32.or(isNan(format, x), isNan(format, y));
      f.if(invalid, () => raise(target, f, NV));
      f.return(float[relation](x, y));
    });
  }
}

/** minimumNumber and maximumNumber: a number wins over a NaN, -0 is less than +0. */
function addExtremum(target: Target, library: Library, format: Format, minimum: boolean): void {
  const { bits, float, word } = format;
  const name = `${format.name}${minimum ? 'Min' : 'Max'}`;
  library[name] = target.module.function(name, [bits, bits], [bits], (f, a, b) => {
    const x = f.let(float.reinterpret(a));
    const y = f.let(float.reinterpret(b));
    f.if(minimum ? float.lt(x, y) : float.gt(x, y), () => f.return(a));
    f.if(minimum ? float.gt(x, y) : float.lt(x, y), () => f.return(b));
    // Equal numbers have equal bits but for the sign of zeros.
    f.if(float.eq(x, y), () => f.return(minimum ? word.or(a, b) : word.and(a, b)));
    f.if(i32.or(isSignaling(format, a), isSignaling(format, b)), () => raise(target, f, NV));
    const quiet = select(float.eq(y, y), b, word.const(format.nan));
    f.return(select(float.eq(x, x), a, quiet));
  });
}

/**
 * `Classify(a)`: one bit of ten. 0 -infinity, 1 negative normal, 2 negative subnormal, 3 -0, 4 +0, 5 positive subnormal,
 * 6 positive normal, 7 +infinity, 8 signaling NaN, 9 quiet NaN.
 */
function addClassify(target: Target, library: Library, format: Format): void {
  const { bits, float, word } = format;
  const name = `${format.name}Classify`;
  library[name] = target.module.function(name, [bits], ['i32'], (f, a) => {
    f.if(isNan(format, float.reinterpret(a)), () => {
      f.return(select(isSignaling(format, a), i32.const(1 << 8), i32.const(1 << 9)));
    });
    const magnitude = f.let(word.and(a, format.sign - 1n));
    const atLeast = (limit: bigint): Expr => word.geU(magnitude, limit);
    const normal = 1n << BigInt(format.fraction);
    const size = f.let(i32.add(i32.add(atLeast(1n), atLeast(normal)), atLeast(format.infinity)));
    f.return(i32.shl(i32.const(1), select(word.ltS(a, 0), i32.sub(3, size), i32.add(4, size))));
  });
}

export function addComparisons(target: Target, library: Library): void {
  for (const format of [F32, F64]) {
    addCompare(target, library, format);
    addExtremum(target, library, format, true);
    addExtremum(target, library, format, false);
    addClassify(target, library, format);
  }
}

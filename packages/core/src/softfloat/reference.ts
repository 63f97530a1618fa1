/**
 * For tests: floating-point arithmetic over exact rational numbers of bigints, as slow and as plain as the standard's own
 * definition: compute as if with unlimited precision and range, then round once (IEEE 754-2019, 4.3).
 */

import { DZ, type Format, NV, NX, OF, RDN, RMM, RNE, RUP, UF } from './format.ts';
import type { IntegerType, Operation, Outcome } from './harness.ts';

/** (-1)^negative * p / q, with p >= 0 and q > 0; the sign counts for zeros too. */
interface Rational {
  readonly kind: 'number';
  readonly negative: boolean;
  readonly p: bigint;
  readonly q: bigint;
}

type Value =
  | Rational
  | { readonly kind: 'infinity'; readonly negative: boolean }
  | { readonly kind: 'nan'; readonly signaling: boolean };

type Type = Format | IntegerType;

const number = (negative: boolean, p: bigint, q = 1n): Rational => ({ kind: 'number', negative, p, q });
const pow2 = (n: number): Rational => (n >= 0 ? number(false, 1n << BigInt(n)) : number(false, 1n, 1n << BigInt(-n)));
const times = (a: Rational, b: Rational) => number(a.negative !== b.negative, a.p * b.p, a.q * b.q);
const signedP = (a: Rational) => (a.negative ? -a.p : a.p);
const isZero = (v: Value) => v.kind === 'number' && v.p === 0n;
const flip = (v: Value): Value => (v.kind === 'nan' ? v : { ...v, negative: !v.negative });

export function decode(type: Type, bits: bigint): Value {
  if (!('bias' in type)) {
    const value = type.signed ? BigInt.asIntN(type.width, bits) : BigInt.asUintN(type.width, bits);
    return number(value < 0n, value < 0n ? -value : value);
  }
  const negative = bits >> BigInt(type.width - 1) === 1n;
  const exponent = Number((bits >> BigInt(type.fraction)) & BigInt(type.bias * 2 + 1));
  const fraction = bits & ((1n << BigInt(type.fraction)) - 1n);
  if (exponent === type.bias * 2 + 1) {
    if (fraction === 0n) return { kind: 'infinity', negative };
    return { kind: 'nan', signaling: fraction >> BigInt(type.fraction - 1) === 0n };
  }
  const significand = exponent === 0 ? fraction : fraction | (1n << BigInt(type.fraction));
  return times(number(negative, significand), pow2(Math.max(exponent, 1) - type.bias - type.fraction));
}

/** Rounds a magnitude to a multiple of 2^quantum: how many of them, and whether that is exact. */
function roundTo(value: Rational, quantum: number, rm: number): { n: bigint; exact: boolean } {
  const { p, q } = times(value, pow2(-quantum));
  const n = p / q;
  const rest = p % q;
  const half = 2n * rest - q;
  const up = {
    [RNE]: half > 0n || (half === 0n && n % 2n === 1n),
    [RDN]: value.negative,
    [RUP]: !value.negative,
    [RMM]: half >= 0n,
  }[rm];
  return { n: rest !== 0n && up ? n + 1n : n, exact: rest === 0n };
}

/** The binary logarithm of p / q, rounded down. */
function logarithm({ p, q }: Rational): number {
  const guess = p.toString(2).length - q.toString(2).length;
  const { p: power, q: under } = pow2(guess);
  return p * under >= power * q ? guess : guess - 1;
}

function encode(format: Format, value: Rational, rm: number): Outcome {
  const sign = value.negative ? format.sign : 0n;
  if (value.p === 0n) return { value: sign, flags: 0 };
  const least = 1 - format.bias;
  const exponent = logarithm(value);
  const quantum = Math.max(exponent, least) - format.fraction;
  const { n, exact } = roundTo(value, quantum, rm);
  const bits = (BigInt(quantum - (least - format.fraction)) << BigInt(format.fraction)) + n;
  if (bits >= format.infinity) {
    const away = rm === RNE || rm === RMM || rm === (value.negative ? RDN : RUP);
    return { value: sign | (away ? format.infinity : format.infinity - 1n), flags: OF | NX };
  }
  if (exact) return { value: sign | bits, flags: 0 };
  // Tiny after rounding: as though there were no least exponent.
  const unbounded = roundTo(value, exponent - format.fraction, rm).n;
  const { p, q } = times(number(false, unbounded), pow2(exponent - format.fraction - least));
  return { value: sign | bits, flags: p < q ? UF | NX : NX };
}

function toInteger(type: IntegerType, value: Value, rm: number): Outcome {
  const least = type.signed ? -(1n << BigInt(type.width - 1)) : 0n;
  const most = (1n << BigInt(type.signed ? type.width - 1 : type.width)) - 1n;
  const pattern = (v: bigint, flags: number): Outcome => ({ value: BigInt.asUintN(type.width, v), flags });
  if (value.kind === 'nan') return pattern(most, NV);
  if (value.kind === 'infinity') return pattern(value.negative ? least : most, NV);
  const { n, exact } = roundTo(value, 0, rm);
  const whole = value.negative ? -n : n;
  if (whole < least || whole > most) return pattern(whole < least ? least : most, NV);
  return pattern(whole, exact ? 0 : NX);
}

function sum(a: Value, b: Value, rm: number): Value | undefined {
  if (a.kind === 'infinity') {
    return b.kind === 'infinity' && a.negative !== b.negative ? undefined : a;
  }
  if (b.kind === 'infinity') return b;
  if (a.kind === 'nan' || b.kind === 'nan') return undefined;
  const p = signedP(a) * b.q + signedP(b) * a.q;
  const zeroSign = a.negative === b.negative ? a.negative : rm === RDN;
  return number(p === 0n ? zeroSign : p < 0n, p < 0n ? -p : p, a.q * b.q);
}

function product(a: Value, b: Value): Value | undefined {
  if (a.kind === 'nan' || b.kind === 'nan') return undefined;
  const negative = a.negative !== b.negative;
  if (a.kind === 'number' && b.kind === 'number') return times(a, b);
  return isZero(a) || isZero(b) ? undefined : { kind: 'infinity', negative };
}

/** The root of v, or for an irrational one a number in the same gap between any two that have 200 bits or fewer. */
function root(v: Rational): Rational {
  const shift = 800n;
  const radicand = (v.p * v.q) << (2n * shift);
  let guess = 1n << BigInt((radicand.toString(2).length >> 1) + 1);
  for (;;) {
    const next = (guess + radicand / guess) >> 1n;
    if (next >= guess) break;
    guess = next;
  }
  const sticky = guess * guess === radicand ? 0n : 1n;
  return number(v.negative, 2n * guess + sticky, v.q << (shift + 1n));
}

/** Arithmetic on operands without NaNs; undefined for an invalid operation. */
function arithmetic(kind: string, v: readonly Value[], rm: number): { value: Value | undefined; flags: number } {
  const [a, b, c] = v as [Value, Value, Value];
  const exact = (value: Value | undefined) => ({ value, flags: 0 });
  if (a.kind === 'nan') throw new TypeError('a NaN operand');
  switch (kind) {
    case 'Add':
      return exact(sum(a, b, rm));
    case 'Sub':
      return exact(sum(a, flip(b), rm));
    case 'Mul':
      return exact(product(a, b));
    case 'Div': {
      if (b.kind === 'nan' || (a.kind === 'infinity' && b.kind === 'infinity')) return exact(undefined);
      const negative = a.negative !== b.negative;
      if (a.kind === 'infinity') return exact({ kind: 'infinity', negative });
      if (b.kind === 'infinity') return exact(number(negative, 0n));
      if (b.p !== 0n) return exact(number(negative, a.p * b.q, a.q * b.p));
      return a.p === 0n ? exact(undefined) : { value: { kind: 'infinity', negative }, flags: DZ };
    }
    case 'Sqrt':
      if (isZero(a)) return exact(a);
      if (a.negative) return exact(undefined);
      return exact(a.kind === 'infinity' ? a : root(a));
    case 'MulAdd': {
      const ab = product(a, b);
      return exact(ab && sum(ab, c, rm));
    }
    default:
      throw new TypeError(kind);
  }
}

/** -1, 0 or 1, of operands that are not NaNs. */
function order(a: Value, b: Value): number {
  const size = (v: Value): Rational => {
    if (v.kind === 'number') return v;
    if (v.kind === 'nan') throw new TypeError('a NaN operand');
    return number(v.negative, 1n << 5000n);
  };
  const [x, y] = [size(a), size(b)];
  const difference = signedP(x) * y.q - signedP(y) * x.q;
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

function classify(format: Format, bits: bigint, v: Value): number {
  if (v.kind === 'nan') return v.signaling ? 8 : 9;
  const normal = (bits & (format.sign - 1n)) >= 1n << BigInt(format.fraction);
  const size = v.kind === 'infinity' ? 3 : isZero(v) ? 0 : normal ? 2 : 1;
  return v.negative ? 3 - size : 4 + size;
}

/** What `operation` gives for operand patterns (and the rounding mode behind them). */
export function reference(operation: Operation, args: readonly bigint[]): Outcome {
  const { operands, result } = operation;
  const rm = operation.rounds ? Number(args[operands.length]) : RNE;
  const values = operands.map((type, i) => decode(type, args[i]!));
  const signaling = values.some((v) => v.kind === 'nan' && v.signaling) ? NV : 0;
  const nans = values.filter((v) => v.kind === 'nan').length;
  const kind = operation.name.slice(3);
  const [a, b] = values as [Value, Value];

  if (kind === 'Classify') return { value: 1n << BigInt(classify(operands[0] as Format, args[0]!, a)), flags: 0 };
  if (kind === 'Eq' || kind === 'Lt' || kind === 'Le') {
    if (nans) return { value: 0n, flags: kind === 'Eq' ? signaling : NV };
    const compared = order(a, b);
    const holds = { Eq: compared === 0, Lt: compared < 0, Le: compared <= 0 }[kind];
    return { value: holds ? 1n : 0n, flags: 0 };
  }
  if (!('bias' in result)) return toInteger(result, a, rm);
  if (kind === 'Min' || kind === 'Max') {
    if (nans === 2) return { value: result.nan, flags: signaling };
    if (nans === 1) return { value: args[a.kind === 'nan' ? 1 : 0]!, flags: signaling };
    if (a.kind === 'nan' || b.kind === 'nan') throw new TypeError('a NaN operand');
    const less = order(a, b) < 0 || (order(a, b) === 0 && a.negative);
    return { value: args[less === (kind === 'Min') ? 0 : 1]!, flags: 0 };
  }

  const finish = (v: Value | undefined, flags: number): Outcome => {
    if (!v || v.kind === 'nan') return { value: result.nan, flags: NV };
    if (v.kind === 'infinity') return { value: (v.negative ? result.sign : 0n) | result.infinity, flags };
    return encode(result, v, rm);
  };
  const conversion = kind.startsWith('To');
  if (nans) {
    const unboundedTimesZero = kind === 'MulAdd' && a.kind !== 'nan' && b.kind !== 'nan' && !product(a, b);
    return { value: result.nan, flags: unboundedTimesZero ? NV : signaling };
  }
  if (conversion) return finish(a, 0);
  const { value, flags } = arithmetic(kind, values, rm);
  return finish(value, flags);
}

/** For tests: the library in a module of its own, and sources of interesting operands. */

import { i32, Module } from '../wasm/index.ts';
import { F32, F64, type Format } from './format.ts';
import { addSoftfloat } from './index.ts';

export interface Outcome {
  /** The result as an unsigned pattern of its type. */
  readonly value: bigint;
  readonly flags: number;
}

export interface Softfloat {
  readonly size: number;
  readonly names: readonly string[];
  /** Calls a function with patterns (and the rounding mode last, if it has one), starting from the accrued flags given. */
  run(name: string, args: readonly bigint[], accrued?: number): Outcome;
  /** The plain wasm function, and the accrued flags, for measurements. */
  readonly exports: Record<string, (...args: never[]) => bigint | number>;
  readonly flags: Int32Array;
}

export function instantiate(): Softfloat {
  const module = new Module();
  module.importMemory('env', 'memory', { min: 1, max: 1, shared: false });
  const flags = () => i32.load(0);
  const library = addSoftfloat(module, { flags, raise: (f, more) => f.store(4, i32.const(0), i32.or(flags(), more)) });
  for (const [name, ref] of Object.entries(library)) module.export(name, ref);
  const bytes = module.encode();

  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  const accruedFlags = new Int32Array(memory.buffer, 0, 1);
  return {
    size: bytes.length,
    names: Object.keys(library),
    exports: exports as Softfloat['exports'],
    flags: accruedFlags,
    run(name, args, accrued = 0) {
      const ref = library[name]!;
      accruedFlags[0] = accrued;
      const call = exports[name] as (...args: unknown[]) => bigint | number;
      const result = call(...args.map((arg, i) => (ref.params[i] === 'i64' ? arg : Number(BigInt.asIntN(32, arg)))));
      const value = BigInt.asUintN(ref.results[0] === 'i64' ? 64 : 32, BigInt(result));
      return { value, flags: accruedFlags[0] };
    },
  };
}

/** What a function of the library takes and gives, in words: the one list that tests go through. */
export interface Operation {
  readonly name: string;
  readonly operands: readonly (Format | IntegerType)[];
  readonly result: Format | IntegerType;
  readonly rounds: boolean;
}

export interface IntegerType {
  readonly name: 'i32' | 'u32' | 'i64' | 'u64' | 'bool' | 'class';
  readonly width: number;
  readonly signed: boolean;
}

const integerType = (name: IntegerType['name'], width: number, signed = false): IntegerType => ({
  name,
  width,
  signed,
});
const INTEGERS = [
  integerType('i32', 32, true),
  integerType('u32', 32),
  integerType('i64', 64, true),
  integerType('u64', 64),
];

export const operations: readonly Operation[] = [F32, F64].flatMap((format): Operation[] => {
  const other = format === F32 ? F64 : F32;
  const own = (name: string, arity: number, result: Operation['result'], rounds: boolean): Operation => ({
    name: `${format.name}${name}`,
    operands: new Array(arity).fill(format),
    result,
    rounds,
  });
  const upper = (name: string) => name[0]!.toUpperCase() + name.slice(1);
  return [
    ...['Add', 'Sub', 'Mul', 'Div'].map((name) => own(name, 2, format, true)),
    own('Sqrt', 1, format, true),
    own('MulAdd', 3, format, true),
    ...['Min', 'Max'].map((name) => own(name, 2, format, false)),
    ...['Eq', 'Lt', 'Le'].map((name) => own(name, 2, integerType('bool', 32), false)),
    own('Classify', 1, integerType('class', 32), false),
    own(`To${upper(other.name)}`, 1, other, format === F64),
    ...INTEGERS.map((type) => own(`To${upper(type.name)}`, 1, type, true)),
    ...INTEGERS.map((type) => ({
      name: `${type.name}To${upper(format.name)}`,
      operands: [type],
      result: format,
      rounds: format === F32 || type.width === 64,
    })),
  ];
});

/** A small deterministic generator (xorshift) of 64-bit numbers. */
export function randomBits(seed: number): () => bigint {
  let state = BigInt.asUintN(64, BigInt(seed) * 0x9e3779b97f4a7c15n) | 1n;
  return () => {
    state ^= BigInt.asUintN(64, state << 13n);
    state ^= state >> 7n;
    state ^= BigInt.asUintN(64, state << 17n);
    return state;
  };
}

/** An integer from 0 up to `below`. */
export type Draw = (below: number) => number;

export function drawFrom(next: () => bigint): Draw {
  return (below) => Number((next() >> 20n) % BigInt(below));
}

/** Runs of equal bits: what rounding and carrying stumble over. */
function fraction(draw: Draw, bits: number): bigint {
  const wide = (n: number) => {
    let value = 0n;
    for (let i = 0; i < n; i += 16) value = (value << 16n) | BigInt(draw(1 << 16));
    return value;
  };
  const all = (1n << BigInt(bits)) - 1n;
  const at = () => 1n << BigInt(draw(bits));
  switch (draw(8)) {
    case 0:
      return 0n;
    case 1:
      return all;
    case 2:
      return at();
    case 3:
      return all ^ (at() - 1n);
    case 4:
      return (at() | at()) & all;
    case 5:
      return (at() - 1n) ^ at();
    case 6:
      return (wide(bits) << BigInt(draw(bits))) & all;
    default:
      return wide(bits) & all;
  }
}

/** Zeros, the ends of the subnormal and of the normal range, 1, infinities, quiet and signaling NaNs; of either sign. */
function special(draw: Draw, format: Format): bigint {
  const { infinity, quiet, nan } = format;
  const normal = 1n << BigInt(format.fraction);
  const one = BigInt(format.bias) << BigInt(format.fraction);
  const list = [
    0n,
    0n,
    1n,
    normal - 1n,
    normal,
    one,
    infinity - 1n,
    infinity,
    infinity,
    infinity | 1n,
    quiet - 1n + infinity,
    nan,
  ];
  return list[draw(list.length)]! | (draw(2) ? format.sign : 0n);
}

/** A pattern of the format; near the exponent of `like`, if given, so that sums cancel and products land on boundaries. */
function floatPattern(draw: Draw, format: Format, like?: bigint): bigint {
  const { width, bias } = format;
  const top = bias * 2 + 1;
  const place = BigInt(format.fraction);
  if (draw(12) === 0) return special(draw, format);
  const near = (centre: number, spread: number) => Math.min(top, Math.max(0, centre + draw(2 * spread + 1) - spread));
  const known = like === undefined ? bias : Number((like >> place) & BigInt(top));
  let exponent: number;
  switch (draw(10)) {
    case 0:
      exponent = 0;
      break;
    case 1:
      exponent = draw(4) ? near(0, 3) : top;
      break;
    case 2:
      exponent = near(top, 3);
      break;
    case 3:
      exponent = near(bias, 3);
      break;
    case 4:
      exponent = near(bias, format.fraction + 15);
      break;
    case 5:
      exponent = near(known, 2);
      break;
    case 6:
      exponent = near(known, format.fraction + 3);
      break;
    case 7:
      // So that a product or quotient ends at the edge of the subnormal or of the largest numbers.
      exponent = near([bias - known, bias * 3 - known, known - bias, known + bias][draw(4)]!, 3);
      break;
    default:
      exponent = draw(top + 1);
  }
  let bits = fraction(draw, format.fraction);
  if (like !== undefined && draw(4) === 0) bits = (like & ((1n << place) - 1n)) ^ (draw(2) ? BigInt(draw(8)) : 0n);
  return (BigInt(draw(2)) << BigInt(width - 1)) | (BigInt(exponent) << place) | bits;
}

function integerPattern(draw: Draw, width: number): bigint {
  const length = 1 + draw(width);
  const value = fraction(draw, length) | (1n << BigInt(length - 1));
  return BigInt.asUintN(width, draw(8) === 0 ? BigInt(draw(3)) : draw(2) ? value : -value);
}

/** Operands for an operation. */
export function operandsOf(operation: Operation, draw: Draw): bigint[] {
  const args: bigint[] = [];
  for (const type of operation.operands) {
    if ('bias' in type) {
      // An addend is drawn near the product that it meets.
      const like =
        args.length === 2 && draw(3) ? nearProduct(type, args[0]!, args[1]!) : args[draw(Math.max(1, args.length))];
      args.push(floatPattern(draw, type, like));
    } else {
      args.push(integerPattern(draw, type.width));
    }
  }
  return args;
}

function nearProduct(format: Format, a: bigint, b: bigint): bigint {
  const place = BigInt(format.fraction);
  const top = format.bias * 2 + 1;
  const exponent = (v: bigint) => Number((v >> place) & BigInt(top));
  const sum = Math.min(top - 1, Math.max(0, exponent(a) + exponent(b) - format.bias));
  const low = (a * b) & ((1n << place) - 1n);
  return (BigInt(sum) << place) | low;
}

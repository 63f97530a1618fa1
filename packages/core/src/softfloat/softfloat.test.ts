/** The library against the definition of its operations, and cases that are known to go wrong. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DZ, F32, F64, type Format, NV, NX, OF, RDN, RMM, RNE, RTZ, RUP, UF } from './format.ts';
import { instantiate, type Operation, operandsOf, operations } from './harness.ts';
import { reference } from './reference.ts';

const softfloat = instantiate();
const seed = Number(process.env.BRAID_SEED ?? 1);
const MODES = [RNE, RTZ, RDN, RUP, RMM];
const RUNS = 1500;

const show = (values: readonly bigint[]) => values.map((v) => `0x${v.toString(16)}`).join(', ');

/** All modes and both states of NX must give what the reference gives. */
function check(operation: Operation, operands: readonly bigint[]): void {
  for (const mode of operation.rounds ? MODES : [RNE]) {
    const args = operation.rounds ? [...operands, BigInt(mode)] : operands;
    const expected = reference(operation, args);
    for (const accrued of [0, NX]) {
      const actual = softfloat.run(operation.name, args, accrued);
      const call = `${operation.name}(${show(args)}) from flags ${accrued}`;
      assert.deepEqual(actual, { value: expected.value, flags: expected.flags | accrued }, call);
    }
  }
}

/** Operands as the bulk tests draw them, with fast-check choosing every step so that it can shrink. */
const operandsFor = (operation: Operation) =>
  fc.array(fc.nat(), { minLength: 80, maxLength: 80, size: 'max' }).map((numbers) => {
    let at = 0;
    return operandsOf(operation, (below) => numbers[at++ % numbers.length]! % below);
  });

for (const operation of operations) {
  test(`${operation.name} is the exact result, rounded once`, () => {
    fc.assert(
      fc.property(operandsFor(operation), (operands) => check(operation, operands)),
      { seed, numRuns: RUNS },
    );
  });
}

/** Every pair, or triple, of the numbers at the edges of a format. */
for (const format of [F32, F64]) {
  const edges = edgesOf(format);
  test(`${format.name}: edges with edges`, () => {
    for (const operation of operations) {
      if (operation.operands[0] !== format) continue;
      const arity = operation.operands.length;
      for (const a of edges) {
        if (arity === 1) check(operation, [a]);
        for (const b of arity >= 2 ? edges : []) {
          if (arity === 2) check(operation, [a, b]);
          // A third of the table: c of either sign, around each kind of number.
          for (const c of arity === 3 ? edges.filter((_, i) => i % 3 === 0) : []) check(operation, [a, b, c]);
        }
      }
    }
  });
}

function edgesOf({ fraction, bias, infinity, quiet, nan, sign }: Format): bigint[] {
  const place = BigInt(fraction);
  const one = BigInt(bias) << place;
  const positive = [
    0n,
    1n,
    (1n << place) - 1n,
    1n << place,
    one - 1n,
    one,
    one + 1n,
    one + (1n << (place - 1n)),
    infinity - 1n,
    infinity,
    infinity | 1n,
    nan,
    nan | (quiet - 1n),
  ];
  return positive.flatMap((v) => [v, v | sign]);
}

/** Patterns of numbers, through the machine's own formats. */
function bits(format: Format, value: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  if (format === F64) view.setFloat64(0, value);
  else view.setFloat32(0, value);
  return format === F64 ? view.getBigUint64(0) : BigInt(view.getUint32(0));
}

const directed: [what: string, name: string, args: bigint[], value: bigint, flags: number][] = [
  ['opposite zeros add to +0', 'f64Add', [0n, F64.sign, 0n], 0n, 0],
  ['and to -0 rounding down', 'f64Add', [0n, F64.sign, BigInt(RDN)], F64.sign, 0],
  ['x - x rounding down', 'f32Sub', [bits(F32, 3), bits(F32, 3), BigInt(RDN)], F32.sign, 0],
  ['x - x of the largest', 'f64Sub', [F64.infinity - 1n, F64.infinity - 1n, BigInt(RDN)], F64.sign, 0],
  ['-0 + -0', 'f64Add', [F64.sign, F64.sign, BigInt(RUP)], F64.sign, 0],
  ['infinity - infinity', 'f64Sub', [F64.infinity, F64.infinity, 0n], F64.nan, NV],
  ['overflow to nearest', 'f64Add', [F64.infinity - 1n, F64.infinity - 1n, BigInt(RNE)], F64.infinity, OF | NX],
  ['overflow to zero', 'f64Add', [F64.infinity - 1n, F64.infinity - 1n, BigInt(RTZ)], F64.infinity - 1n, OF | NX],
  ['the largest and half a step', 'f64Add', [F64.infinity - 1n, 0x7c90000000000000n, 0n], F64.infinity, OF | NX],
  ['the largest and less', 'f64Add', [F64.infinity - 1n, 0x7c8fffffffffffffn, 0n], F64.infinity - 1n, NX],
  ['ties away', 'f64Add', [bits(F64, 1), bits(F64, 2 ** -53), BigInt(RMM)], bits(F64, 1 + 2 ** -52), NX],
  ['ties to even', 'f64Add', [bits(F64, 1), bits(F64, 2 ** -53), BigInt(RNE)], bits(F64, 1), NX],
  // Both results are the smallest normal number. With an unbounded exponent 24 bits would do for the first value, which so
  // stays below; the second would be rounded up to that number.
  ['tiny after rounding', 'f64ToF32', [bits(F64, 2 ** -126 * (1 - 2 ** -24)), 0n], bits(F32, 2 ** -126), UF | NX],
  ['no longer tiny after rounding', 'f64ToF32', [bits(F64, 2 ** -126 * (1 - 2 ** -25)), 0n], bits(F32, 2 ** -126), NX],
  [
    'tiny after rounding',
    'f64Mul',
    [bits(F64, 1 - 2 ** -53), bits(F64, 2 ** -1022), 0n],
    bits(F64, 2 ** -1022),
    UF | NX,
  ],
  ['and to zero', 'f64MulAdd', [1n << 52n, bits(F64, 1 - 2 ** -53), 0n, BigInt(RTZ)], (1n << 52n) - 1n, UF | NX],
  ['subnormal, exact', 'f64Mul', [1n << 52n, bits(F64, 0.5), 0n], 1n << 51n, 0],
  ['vanishing', 'f64Mul', [1n, 1n, BigInt(RUP)], 1n, UF | NX],
  ['a subnormal quotient', 'f64Div', [1n << 52n, bits(F64, 3), 0n], ((1n << 52n) + 1n) / 3n, UF | NX],
  ['1 / 0', 'f64Div', [bits(F64, 1), 0n, 0n], F64.infinity, DZ],
  ['0 / 0', 'f64Div', [0n, 0n, 0n], F64.nan, NV],
  ['infinity / 0', 'f64Div', [F64.infinity, F64.sign, 0n], F64.infinity | F64.sign, 0],
  ['root of -0', 'f64Sqrt', [F64.sign, 0n], F64.sign, 0],
  ['root of -1', 'f32Sqrt', [bits(F32, -1), 0n], F32.nan, NV],
  ['root of a quiet NaN', 'f64Sqrt', [F64.nan | 5n, 0n], F64.nan, 0],
  ['infinity * 0 + NaN', 'f64MulAdd', [F64.infinity, 0n, F64.nan, 0n], F64.nan, NV],
  ['infinity * 0 + NaN', 'f32MulAdd', [0n, F32.infinity, F32.nan, 0n], F32.nan, NV],
  [
    'too large a product and -infinity',
    'f64MulAdd',
    [bits(F64, 1e300), bits(F64, 1e300), F64.infinity | F64.sign, 0n],
    F64.infinity | F64.sign,
    0,
  ],
  [
    'too large a product, taken back',
    'f64MulAdd',
    [bits(F64, 2 ** 600), bits(F64, 2 ** 424), bits(F64, -(2 ** 1023)), 0n],
    bits(F64, 2 ** 1023),
    0,
  ],
  [
    'fused, not twice rounded',
    'f64MulAdd',
    [bits(F64, 1 + 2 ** -52), bits(F64, 1 - 2 ** -52), bits(F64, -1), 0n],
    bits(F64, -(2 ** -104)),
    0,
  ],
  // The product is half a step less 2^-157, which the sum of the two errors cannot hold: rounding it to nearest makes a tie.
  [
    'below a tie, by less than a double can tell',
    'f64MulAdd',
    [bits(F64, 2 ** -53 * (1 + 2 ** -52)), bits(F64, 1 - 2 ** -52), bits(F64, 1 + 2 ** -52), BigInt(RNE)],
    bits(F64, 1 + 2 ** -52),
    NX,
  ],
  [
    'the same for ties away, from the other side',
    'f64MulAdd',
    [bits(F64, -(2 ** -53) * (1 + 2 ** -52)), bits(F64, 1 - 2 ** -52), bits(F64, -1 - 2 ** -51), BigInt(RMM)],
    bits(F64, -1 - 2 ** -51),
    NX,
  ],
  [
    'a double would round this twice',
    'f32MulAdd',
    [bits(F32, 1 + 2 ** -12), bits(F32, 1 + 2 ** -12), bits(F32, 2 ** -80), 0n],
    bits(F32, 1 + 2 ** -11 + 2 ** -23),
    NX,
  ],
  ['minimum of zeros', 'f64Min', [0n, F64.sign], F64.sign, 0],
  ['maximum of zeros', 'f32Max', [F32.sign, 0n], 0n, 0],
  ['a number wins', 'f32Min', [F32.nan, bits(F32, 7)], bits(F32, 7), 0],
  ['over a signaling NaN too', 'f64Max', [bits(F64, 7), F64.infinity | 1n], bits(F64, 7), NV],
  ['two NaNs', 'f64Min', [F64.nan | 1n, F64.nan | 2n], F64.nan, 0],
  ['equality is quiet', 'f64Eq', [F64.nan, F64.nan], 0n, 0],
  ['order is not', 'f64Le', [F64.nan, 0n], 0n, NV],
  ['-0.5 to unsigned', 'f64ToU32', [bits(F64, -0.5), BigInt(RNE)], 0n, NX],
  ['-0.5 to unsigned, down', 'f64ToU64', [bits(F64, -0.5), BigInt(RDN)], 0n, NV],
  ['2^31 - 0.5, up', 'f64ToI32', [bits(F64, 2 ** 31 - 0.5), BigInt(RUP)], 0x7fffffffn, NV],
  ['2^31 - 0.5, down', 'f64ToI32', [bits(F64, 2 ** 31 - 0.5), BigInt(RDN)], 0x7fffffffn, NX],
  ['-2^63', 'f32ToI64', [bits(F32, -(2 ** 63)), 0n], 1n << 63n, 0],
  ['NaN to unsigned', 'f32ToU64', [F32.nan | F32.sign, 0n], (1n << 64n) - 1n, NV],
  ['2^64 - 1 up', 'u64ToF32', [(1n << 64n) - 1n, BigInt(RTZ)], bits(F32, 2 ** 64 - 2 ** 40), NX],
  ['a payload does not survive', 'f32ToF64', [F32.nan | F32.sign | 3n], F64.nan, 0],
  ['nor a signal', 'f64ToF32', [F64.infinity | 1n, 0n], F32.nan, NV],
];

for (const [what, name, args, value, flags] of directed) {
  test(`${name}: ${what}`, () => {
    assert.deepEqual(softfloat.run(name, args), { value, flags });
    const operation = operations.find((o) => o.name === name)!;
    assert.deepEqual(reference(operation, args), { value, flags }, 'the reference itself');
  });
}

test('flags accrue', () => {
  softfloat.run('f64Div', [bits(F64, 1), 0n, 0n], NV | UF);
  assert.equal(softfloat.flags[0], NV | UF | DZ);
});

test('the library stays small, as every start compiles it', () => {
  assert.ok(softfloat.size < 25_000, `${softfloat.size} bytes`);
});

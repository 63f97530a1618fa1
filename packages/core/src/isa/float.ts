/**
 * The rows that F and D have in common, written once for a format (unprivileged specification, chapters "F" and "D").
 *
 * Every row starts with `needFloat`, and rows with an rm field evaluate the mode before anything else, even where the result is
 * always exact: a reserved mode is an illegal instruction there too.
 */

import { type Expr, i32, i64 } from '../wasm/index.ts';
import { type Extension, encoding, type Format, type Row, rowsOf, type Semantics, type Size } from './row.ts';

/** What the two formats differ in. */
export interface FloatFormat {
  readonly extension: Extension;
  /** The fmt field: bits 26..25 of every encoding but loads and stores, where it is the low bit of funct3. */
  readonly fmt: 0 | 1;
  /** At the end of names: `fadd.s`. */
  readonly suffix: 's' | 'd';
  /** Loads and stores: `flw`. */
  readonly width: 'w' | 'd';
  /** In the names of the softfloat library. */
  readonly soft: 'f32' | 'f64';
  readonly size: Size;
  /** Arithmetic on the integers of the format's width, and their sign bit. */
  readonly bits: Pick<typeof i64, 'and' | 'or' | 'xor'>;
  readonly sign: bigint;
  /** Every integer of 32 bits has its place in the format: rm decides nothing but whether the instruction is legal. */
  readonly holdsWords: boolean;

  fs1(s: Semantics): Expr;
  fs2(s: Semantics): Expr;
  fs3(s: Semantics): Expr;
  fd(s: Semantics, value: Expr): void;
  /** The value of `size` bytes in a loaded i64. */
  loaded(value: Expr): Expr;
}

export const single: FloatFormat = {
  extension: 'F',
  fmt: 0,
  suffix: 's',
  width: 'w',
  soft: 'f32',
  size: 4,
  bits: i32,
  sign: 1n << 31n,
  holdsWords: false,
  fs1: (s) => s.fs1s(),
  fs2: (s) => s.fs2s(),
  fs3: (s) => s.fs3s(),
  fd: (s, value) => s.fds(value),
  loaded: (value) => i32.wrap(value),
};

export const double: FloatFormat = {
  extension: 'D',
  fmt: 1,
  suffix: 'd',
  width: 'd',
  soft: 'f64',
  size: 8,
  bits: i64,
  sign: 1n << 63n,
  holdsWords: true,
  fs1: (s) => s.fs1(),
  fs2: (s) => s.fs2(),
  fs3: (s) => s.fs3(),
  fd: (s, value) => s.fd(value),
  loaded: (value) => value,
};

type Bits = ReturnType<typeof encoding>;

/** OP-FP with a fixed funct3, or with rm in its place; `rs2` selects among conversions. */
export const op = (format: FloatFormat, funct5: number, fields: { funct3?: number; rs2?: number } = {}): Bits =>
  encoding({ opcode: 0x53, funct7: (funct5 << 2) | format.fmt, ...fields });

/** A row of a format's extension. */
export const float = (
  { extension }: FloatFormat,
  name: string,
  operands: Format,
  bits: Bits,
  execute: (s: Semantics) => void,
): Row =>
  rowsOf(extension)(name, operands, bits, (s) => {
    s.needFloat();
    execute(s);
  });

/** A row whose encoding has an rm field. */
export const rounded = (
  format: FloatFormat,
  name: string,
  operands: Format,
  bits: Bits,
  execute: (s: Semantics, rm: Expr) => void,
): Row => float(format, name, operands, bits, (s) => execute(s, s.roundingMode()));

/** A row whose rm field decides nothing but whether the instruction is legal. */
export const exact = (
  format: FloatFormat,
  name: string,
  operands: Format,
  bits: Bits,
  execute: (s: Semantics) => void,
): Row =>
  rounded(format, name, operands, bits, (s, rm) => {
    s.f.drop(rm);
    execute(s);
  });

/** Loads, stores, arithmetic and comparisons. */
export function arithmeticRows(format: FloatFormat): readonly Row[] {
  const { fmt, suffix, width, soft, size, bits, sign, fs1, fs2, fs3, fd } = format;

  const binary = (stem: string, funct5: number, name: string): Row =>
    rounded(format, `${stem}.${suffix}`, 'FRM', op(format, funct5), (s, rm) =>
      fd(s, s.soft(soft + name, fs1(s), fs2(s), rm)),
    );

  /** a * b + c with signs flipped first, which is exact: -(a * b) is (-a) * b. */
  const fused = (stem: string, opcode: number, negateProduct: boolean, negateAddend: boolean): Row =>
    rounded(format, `${stem}.${suffix}`, 'FR4', encoding({ opcode, funct2: fmt }), (s, rm) => {
      const a = negateProduct ? bits.xor(fs1(s), sign) : fs1(s);
      const c = negateAddend ? bits.xor(fs3(s), sign) : fs3(s);
      fd(s, s.soft(`${soft}MulAdd`, a, fs2(s), c, rm));
    });

  const signOf = (stem: string, funct3: number, bit: (a: Expr, b: Expr) => Expr): Row =>
    float(format, `${stem}.${suffix}`, 'FR', op(format, 0x04, { funct3 }), (s) => {
      const a = s.f.let(fs1(s));
      fd(s, bits.or(bits.and(a, sign - 1n), bits.and(bit(a, fs2(s)), sign)));
    });

  const extremum = (stem: string, funct3: number, name: string): Row =>
    float(format, `${stem}.${suffix}`, 'FR', op(format, 0x05, { funct3 }), (s) =>
      fd(s, s.soft(soft + name, fs1(s), fs2(s))),
    );

  const compare = (stem: string, funct3: number, name: string): Row =>
    float(format, `${stem}.${suffix}`, 'FC', op(format, 0x14, { funct3 }), (s) =>
      s.rdw(s.soft(soft + name, fs1(s), fs2(s))),
    );

  return [
    float(format, `fl${width}`, 'FL', encoding({ opcode: 0x07, funct3: 2 | fmt }), (s) => {
      fd(s, format.loaded(s.load(size, false, i64.add(s.rs1(), s.imm()))));
    }),
    float(format, `fs${width}`, 'FS', encoding({ opcode: 0x27, funct3: 2 | fmt }), (s) => {
      s.store(size, i64.add(s.rs1(), s.imm()), s.fs2());
    }),

    fused('fmadd', 0x43, false, false),
    fused('fmsub', 0x47, false, true),
    fused('fnmsub', 0x4b, true, false),
    fused('fnmadd', 0x4f, true, true),

    binary('fadd', 0x00, 'Add'),
    binary('fsub', 0x01, 'Sub'),
    binary('fmul', 0x02, 'Mul'),
    binary('fdiv', 0x03, 'Div'),
    rounded(format, `fsqrt.${suffix}`, 'FR1M', op(format, 0x0b, { rs2: 0 }), (s, rm) =>
      fd(s, s.soft(`${soft}Sqrt`, fs1(s), rm)),
    ),

    signOf('fsgnj', 0, (_, b) => b),
    signOf('fsgnjn', 1, (_, b) => bits.xor(b, -1)),
    signOf('fsgnjx', 2, (a, b) => bits.xor(a, b)),
    extremum('fmin', 0, 'Min'),
    extremum('fmax', 1, 'Max'),
    compare('fle', 0, 'Le'),
    compare('flt', 1, 'Lt'),
    compare('feq', 2, 'Eq'),
    float(format, `fclass.${suffix}`, 'FX', op(format, 0x1c, { funct3: 1, rs2: 0 }), (s) =>
      s.rdw(s.soft(`${soft}Classify`, fs1(s))),
    ),
  ];
}

/** Conversions to and from integers. */
export function conversionRows(format: FloatFormat): readonly Row[] {
  const { suffix, soft, holdsWords, fs1, fd } = format;
  const upper = soft.toUpperCase();

  const to = (integer: string, rs2: number, name: string, rd: (s: Semantics, value: Expr) => void): Row =>
    rounded(format, `fcvt.${integer}.${suffix}`, 'FXM', op(format, 0x18, { rs2 }), (s, rm) =>
      rd(s, s.soft(`${soft}To${name}`, fs1(s), rm)),
    );

  const fromWord = (integer: string, rs2: number, name: string): Row => {
    const parts = [format, `fcvt.${suffix}.${integer}`, 'XFM', op(format, 0x1a, { rs2 })] as const;
    const library = `${name}To${upper}`;
    if (holdsWords) return exact(...parts, (s) => fd(s, s.soft(library, s.rs1w())));
    return rounded(...parts, (s, rm) => fd(s, s.soft(library, s.rs1w(), rm)));
  };

  const fromLong = (integer: string, rs2: number, name: string): Row =>
    rounded(format, `fcvt.${suffix}.${integer}`, 'XFM', op(format, 0x1a, { rs2 }), (s, rm) =>
      fd(s, s.soft(`${name}To${upper}`, s.rs1(), rm)),
    );

  return [
    to('w', 0, 'I32', (s, value) => s.rdw(value)),
    to('wu', 1, 'U32', (s, value) => s.rdw(value)),
    to('l', 2, 'I64', (s, value) => s.rd(value)),
    to('lu', 3, 'U64', (s, value) => s.rd(value)),
    fromWord('w', 0, 'i32'),
    fromWord('wu', 1, 'u32'),
    fromLong('l', 2, 'i64'),
    fromLong('lu', 3, 'u64'),
  ];
}

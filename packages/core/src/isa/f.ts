/**
 * The F extension: single-precision floating point (unprivileged specification, chapter "F").
 *
 * Every row starts with `needFloat`, and rows with an rm field evaluate the mode before anything else, even where the result is
 * always exact: a reserved mode is an illegal instruction there too. An operand that is not NaN-boxed counts as the canonical
 * NaN, except for `fsw` and `fmv.x.w`, which move the low bits whatever they are (chapter "D", "NaN Boxing of Narrower
 * Values").
 */

import { type Expr, i32, i64 } from '../wasm/index.ts';
import { encoding, type Format, type Row, rowsOf, type Semantics } from './row.ts';

const row = rowsOf('F');
const SIGN = 0x80000000;

/** OP-FP with a fixed funct3, or with rm in its place; `rs2` selects among conversions. */
const op = (funct7: number, fields: { funct3?: number; rs2?: number } = {}) =>
  encoding({ opcode: 0x53, funct7, ...fields });

const float = (
  name: string,
  format: Format,
  bits: { readonly match: number; readonly mask: number },
  execute: (s: Semantics) => void,
): Row =>
  row(name, format, bits, (s) => {
    s.needFloat();
    execute(s);
  });

/** A row whose encoding has an rm field. */
const rounded = (
  name: string,
  format: Format,
  bits: { readonly match: number; readonly mask: number },
  execute: (s: Semantics, rm: Expr) => void,
): Row => float(name, format, bits, (s) => execute(s, s.roundingMode()));

const binary = (name: string, funct7: number, soft: string): Row =>
  rounded(name, 'FRM', op(funct7), (s, rm) => s.fds(s.soft(soft, s.fs1s(), s.fs2s(), rm)));

/** a * b + c with signs flipped first, which is exact: -(a * b) is (-a) * b. */
const fused = (name: string, opcode: number, negateProduct: boolean, negateAddend: boolean): Row =>
  rounded(name, 'FR4', encoding({ opcode, funct2: 0 }), (s, rm) => {
    const a = negateProduct ? i32.xor(s.fs1s(), SIGN) : s.fs1s();
    const c = negateAddend ? i32.xor(s.fs3s(), SIGN) : s.fs3s();
    s.fds(s.soft('f32MulAdd', a, s.fs2s(), c, rm));
  });

const sign = (name: string, funct3: number, bit: (a: Expr, b: Expr) => Expr): Row =>
  float(name, 'FR', op(0x10, { funct3 }), (s) => {
    const a = s.f.let(s.fs1s());
    s.fds(i32.or(i32.and(a, SIGN - 1), i32.and(bit(a, s.fs2s()), SIGN)));
  });

const extremum = (name: string, funct3: number, soft: string): Row =>
  float(name, 'FR', op(0x14, { funct3 }), (s) => s.fds(s.soft(soft, s.fs1s(), s.fs2s())));

const compare = (name: string, funct3: number, soft: string): Row =>
  float(name, 'FC', op(0x50, { funct3 }), (s) => s.rdw(s.soft(soft, s.fs1s(), s.fs2s())));

export const f: readonly Row[] = [
  float('flw', 'FL', encoding({ opcode: 0x07, funct3: 2 }), (s) => {
    s.fds(i32.wrap(s.load(4, false, i64.add(s.rs1(), s.imm()))));
  }),
  float('fsw', 'FS', encoding({ opcode: 0x27, funct3: 2 }), (s) => {
    s.store(4, i64.add(s.rs1(), s.imm()), s.fs2());
  }),

  fused('fmadd.s', 0x43, false, false),
  fused('fmsub.s', 0x47, false, true),
  fused('fnmsub.s', 0x4b, true, false),
  fused('fnmadd.s', 0x4f, true, true),

  binary('fadd.s', 0x00, 'f32Add'),
  binary('fsub.s', 0x04, 'f32Sub'),
  binary('fmul.s', 0x08, 'f32Mul'),
  binary('fdiv.s', 0x0c, 'f32Div'),
  rounded('fsqrt.s', 'FR1M', op(0x2c, { rs2: 0 }), (s, rm) => s.fds(s.soft('f32Sqrt', s.fs1s(), rm))),

  sign('fsgnj.s', 0, (_, b) => b),
  sign('fsgnjn.s', 1, (_, b) => i32.xor(b, -1)),
  sign('fsgnjx.s', 2, (a, b) => i32.xor(a, b)),
  extremum('fmin.s', 0, 'f32Min'),
  extremum('fmax.s', 1, 'f32Max'),
  compare('fle.s', 0, 'f32Le'),
  compare('flt.s', 1, 'f32Lt'),
  compare('feq.s', 2, 'f32Eq'),
  float('fclass.s', 'FX', op(0x70, { funct3: 1, rs2: 0 }), (s) => s.rdw(s.soft('f32Classify', s.fs1s()))),

  rounded('fcvt.w.s', 'FXM', op(0x60, { rs2: 0 }), (s, rm) => s.rdw(s.soft('f32ToI32', s.fs1s(), rm))),
  rounded('fcvt.wu.s', 'FXM', op(0x60, { rs2: 1 }), (s, rm) => s.rdw(s.soft('f32ToU32', s.fs1s(), rm))),
  rounded('fcvt.l.s', 'FXM', op(0x60, { rs2: 2 }), (s, rm) => s.rd(s.soft('f32ToI64', s.fs1s(), rm))),
  rounded('fcvt.lu.s', 'FXM', op(0x60, { rs2: 3 }), (s, rm) => s.rd(s.soft('f32ToU64', s.fs1s(), rm))),
  rounded('fcvt.s.w', 'XFM', op(0x68, { rs2: 0 }), (s, rm) => s.fds(s.soft('i32ToF32', s.rs1w(), rm))),
  rounded('fcvt.s.wu', 'XFM', op(0x68, { rs2: 1 }), (s, rm) => s.fds(s.soft('u32ToF32', s.rs1w(), rm))),
  rounded('fcvt.s.l', 'XFM', op(0x68, { rs2: 2 }), (s, rm) => s.fds(s.soft('i64ToF32', s.rs1(), rm))),
  rounded('fcvt.s.lu', 'XFM', op(0x68, { rs2: 3 }), (s, rm) => s.fds(s.soft('u64ToF32', s.rs1(), rm))),

  float('fmv.x.w', 'FX', op(0x70, { funct3: 0, rs2: 0 }), (s) => s.rdw(i32.wrap(s.fs1()))),
  float('fmv.w.x', 'XF', op(0x78, { funct3: 0, rs2: 0 }), (s) => s.fds(s.rs1w())),
];

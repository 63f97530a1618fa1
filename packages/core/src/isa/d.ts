/**
 * The D extension: double-precision floating point (unprivileged specification, chapter "D").
 *
 * As in F, every row starts with `needFloat` and an rm field is always looked at: conversions that are exact whatever the mode
 * (`fcvt.d.s`, `fcvt.d.w`, `fcvt.d.wu`) have one, and a reserved mode in it is an illegal instruction.
 */

import { type Expr, i64 } from '../wasm/index.ts';
import { encoding, type Format, type Row, rowsOf, type Semantics } from './row.ts';

const row = rowsOf('D');
const SIGN = 1n << 63n;

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

/** A row whose rm field decides nothing but whether the instruction is legal. */
const exact = (name: string, format: Format, rs2: number, funct7: number, execute: (s: Semantics) => void): Row =>
  rounded(name, format, op(funct7, { rs2 }), (s, rm) => {
    s.f.drop(rm);
    execute(s);
  });

const binary = (name: string, funct7: number, soft: string): Row =>
  rounded(name, 'FRM', op(funct7), (s, rm) => s.fd(s.soft(soft, s.fs1(), s.fs2(), rm)));

/** a * b + c with signs flipped first, which is exact: -(a * b) is (-a) * b. */
const fused = (name: string, opcode: number, negateProduct: boolean, negateAddend: boolean): Row =>
  rounded(name, 'FR4', encoding({ opcode, funct2: 1 }), (s, rm) => {
    const a = negateProduct ? i64.xor(s.fs1(), SIGN) : s.fs1();
    const c = negateAddend ? i64.xor(s.fs3(), SIGN) : s.fs3();
    s.fd(s.soft('f64MulAdd', a, s.fs2(), c, rm));
  });

const sign = (name: string, funct3: number, bit: (a: Expr, b: Expr) => Expr): Row =>
  float(name, 'FR', op(0x11, { funct3 }), (s) => {
    const a = s.f.let(s.fs1());
    s.fd(i64.or(i64.and(a, SIGN - 1n), i64.and(bit(a, s.fs2()), SIGN)));
  });

const extremum = (name: string, funct3: number, soft: string): Row =>
  float(name, 'FR', op(0x15, { funct3 }), (s) => s.fd(s.soft(soft, s.fs1(), s.fs2())));

const compare = (name: string, funct3: number, soft: string): Row =>
  float(name, 'FC', op(0x51, { funct3 }), (s) => s.rdw(s.soft(soft, s.fs1(), s.fs2())));

export const d: readonly Row[] = [
  float('fld', 'FL', encoding({ opcode: 0x07, funct3: 3 }), (s) => {
    s.fd(s.load(8, false, i64.add(s.rs1(), s.imm())));
  }),
  float('fsd', 'FS', encoding({ opcode: 0x27, funct3: 3 }), (s) => {
    s.store(8, i64.add(s.rs1(), s.imm()), s.fs2());
  }),

  fused('fmadd.d', 0x43, false, false),
  fused('fmsub.d', 0x47, false, true),
  fused('fnmsub.d', 0x4b, true, false),
  fused('fnmadd.d', 0x4f, true, true),

  binary('fadd.d', 0x01, 'f64Add'),
  binary('fsub.d', 0x05, 'f64Sub'),
  binary('fmul.d', 0x09, 'f64Mul'),
  binary('fdiv.d', 0x0d, 'f64Div'),
  rounded('fsqrt.d', 'FR1M', op(0x2d, { rs2: 0 }), (s, rm) => s.fd(s.soft('f64Sqrt', s.fs1(), rm))),

  sign('fsgnj.d', 0, (_, b) => b),
  sign('fsgnjn.d', 1, (_, b) => i64.xor(b, -1)),
  sign('fsgnjx.d', 2, (a, b) => i64.xor(a, b)),
  extremum('fmin.d', 0, 'f64Min'),
  extremum('fmax.d', 1, 'f64Max'),
  compare('fle.d', 0, 'f64Le'),
  compare('flt.d', 1, 'f64Lt'),
  compare('feq.d', 2, 'f64Eq'),
  float('fclass.d', 'FX', op(0x71, { funct3: 1, rs2: 0 }), (s) => s.rdw(s.soft('f64Classify', s.fs1()))),

  rounded('fcvt.s.d', 'FR1M', op(0x20, { rs2: 1 }), (s, rm) => s.fds(s.soft('f64ToF32', s.fs1(), rm))),
  exact('fcvt.d.s', 'FR1M', 0, 0x21, (s) => s.fd(s.soft('f32ToF64', s.fs1s()))),

  rounded('fcvt.w.d', 'FXM', op(0x61, { rs2: 0 }), (s, rm) => s.rdw(s.soft('f64ToI32', s.fs1(), rm))),
  rounded('fcvt.wu.d', 'FXM', op(0x61, { rs2: 1 }), (s, rm) => s.rdw(s.soft('f64ToU32', s.fs1(), rm))),
  rounded('fcvt.l.d', 'FXM', op(0x61, { rs2: 2 }), (s, rm) => s.rd(s.soft('f64ToI64', s.fs1(), rm))),
  rounded('fcvt.lu.d', 'FXM', op(0x61, { rs2: 3 }), (s, rm) => s.rd(s.soft('f64ToU64', s.fs1(), rm))),
  exact('fcvt.d.w', 'XFM', 0, 0x69, (s) => s.fd(s.soft('i32ToF64', s.rs1w()))),
  exact('fcvt.d.wu', 'XFM', 1, 0x69, (s) => s.fd(s.soft('u32ToF64', s.rs1w()))),
  rounded('fcvt.d.l', 'XFM', op(0x69, { rs2: 2 }), (s, rm) => s.fd(s.soft('i64ToF64', s.rs1(), rm))),
  rounded('fcvt.d.lu', 'XFM', op(0x69, { rs2: 3 }), (s, rm) => s.fd(s.soft('u64ToF64', s.rs1(), rm))),

  float('fmv.x.d', 'FX', op(0x71, { funct3: 0, rs2: 0 }), (s) => s.rd(s.fs1())),
  float('fmv.d.x', 'XF', op(0x79, { funct3: 0, rs2: 0 }), (s) => s.fd(s.rs1())),
];

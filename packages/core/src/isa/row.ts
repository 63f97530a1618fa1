/**
 * What one row of the instruction table says: encoding, operands, printer and semantics.
 *
 * Semantics are written once against `Semantics`, an abstract emitter: the interpreter implements it with operands that are
 * read from a decoded slot at run time, a translator with operands that are constants. Rows never know which.
 */

import type { Expr, Fn } from '../wasm/index.ts';

/**
 * Operand formats: which fields an encoding has, and so how it decodes and prints.
 *
 * | format  | operands                      | example           |
 * | ------- | ----------------------------- | ----------------- |
 * | R       | rd, rs1, rs2                  | add               |
 * | R1      | rd, rs1                       | clz               |
 * | I       | rd, rs1, imm                  | addi              |
 * | SH      | rd, rs1, shamt (6 bits)       | slli              |
 * | SHW     | rd, rs1, shamt (5 bits)       | slliw             |
 * | L       | rd, imm(rs1)                  | ld                |
 * | S       | rs2, imm(rs1)                 | sd                |
 * | B       | rs1, rs2, pc + imm            | beq               |
 * | U       | rd, imm (already shifted)     | lui               |
 * | J       | rd, pc + imm                  | jal               |
 * | A       | rd, rs2, (rs1)                | amoadd.d          |
 * | AL      | rd, (rs1)                     | lr.d              |
 * | CSR     | rd, csr, rs1                  | csrrw             |
 * | CSRI    | rd, csr, uimm                 | csrrwi            |
 * | N       | none                          | ecall             |
 * | F2      | rs1, rs2                      | sfence.vma        |
 * | CB      | (rs1)                         | cbo.zero          |
 * | FL, FS  | fd, imm(rs1); fs2, imm(rs1)   | fld, fsd          |
 * | FR      | fd, fs1, fs2                  | fsgnj.d           |
 * | FRM     | fd, fs1, fs2, rm              | fadd.d            |
 * | FR1M    | fd, fs1, rm                   | fsqrt.d           |
 * | FR4     | fd, fs1, fs2, fs3, rm         | fmadd.d           |
 * | FC      | rd, fs1, fs2                  | feq.d             |
 * | FX, FXM | rd, fs1 (, rm)                | fmv.x.d, fcvt.l.d |
 * | XF, XFM | fd, rs1 (, rm)                | fmv.d.x, fcvt.d.l |
 */
export type Format =
  | 'R'
  | 'R1'
  | 'I'
  | 'SH'
  | 'SHW'
  | 'L'
  | 'S'
  | 'B'
  | 'U'
  | 'J'
  | 'A'
  | 'AL'
  | 'CSR'
  | 'CSRI'
  | 'N'
  | 'F2'
  | 'CB'
  | 'FL'
  | 'FS'
  | 'FR'
  | 'FRM'
  | 'FR1M'
  | 'FR4'
  | 'FC'
  | 'FX'
  | 'FXM'
  | 'XF'
  | 'XFM';

export type Extension =
  | 'I'
  | 'M'
  | 'A'
  | 'F'
  | 'D'
  | 'Zicsr'
  | 'Zifencei'
  | 'Zihintpause'
  | 'Zba'
  | 'Zbb'
  | 'Zbs'
  | 'Zicond'
  | 'Zicbom'
  | 'Zicboz'
  | 'Privileged'
  | 'Xbraidhint';

export interface Row {
  readonly name: string;
  readonly extension: Extension;
  readonly format: Format;
  /** An encoding belongs to the row when `(bits & mask) === match`; no two rows overlap unless one mask contains the other. */
  readonly match: number;
  readonly mask: number;
  /** The only effect is the value of rd, so that with rd = x0 nothing is left of it. */
  readonly pure: boolean;
  /** Common enough in integer code to have a place in the interpreter's main function. */
  readonly hot: boolean;
  readonly execute: (s: Semantics) => void;
}

/** Sizes of a memory access in bytes. */
export type Size = 1 | 2 | 4 | 8;

/**
 * The abstract emitter. Operand getters give expressions of type i64 (registers as 64-bit patterns, floating-point registers
 * too, immediates sign-extended) unless they say otherwise.
 *
 * Order matters: operands are read where their expression is used, so a row that writes memory, calls or writes `rd` before
 * it uses an operand again pins it with `f.let`. A row writes its destination last, after everything that can trap.
 */
export interface Semantics {
  /** The function being written, for `let`, `if`, `block` and loops. */
  readonly f: Fn;

  rs1(): Expr;
  rs2(): Expr;
  /** The low 32 bits, as i32. */
  rs1w(): Expr;
  rs2w(): Expr;
  imm(): Expr;
  /** The immediate as i32: shift amounts, and operands of the W forms. */
  immw(): Expr;
  /** Address of this instruction, and of the next one. */
  pc(): Expr;
  next(): Expr;
  rd(value: Expr): void;
  /** Sign-extends an i32 into rd. */
  rdw(value: Expr): void;

  /** Floating-point operands as raw 64-bit patterns. Each use first needs `needFloat`. */
  fs1(): Expr;
  fs2(): Expr;
  fs3(): Expr;
  /** Single-precision operands: the low 32 bits as i32 if properly NaN-boxed, the canonical NaN otherwise. */
  fs1s(): Expr;
  fs2s(): Expr;
  fs3s(): Expr;
  /** Writes a 64-bit pattern and marks the floating-point state dirty. */
  fd(value: Expr): void;
  /** Writes an i32 single, NaN-boxed, and marks the state dirty. */
  fds(value: Expr): void;
  /** Traps as an illegal instruction when mstatus.FS is off. */
  needFloat(): void;
  /** The rounding mode as i32 0..4, dynamic mode resolved; traps as illegal on a reserved one. */
  roundingMode(): Expr;
  /** Sets accrued exception flags (i32, bits as in fflags: NX 1, UF 2, OF 4, DZ 8, NV 16). */
  raise(flags: Expr): void;
  /** Calls a function of the softfloat library; an unknown name is an error when the module is generated. */
  soft(name: string, ...args: Expr[]): Expr;

  /** Reads memory at a guest virtual address; the value is extended to i64 by `signed`. Traps leave the instruction. */
  load(size: Size, signed: boolean, address: Expr): Expr;
  /** Writes the low bytes of an i64. */
  store(size: Size, address: Expr, value: Expr): void;
  /** Atomic read-modify-write of 4 or 8 aligned bytes: `rd` gets the old value (sign-extended), memory gets `update(old)`. */
  amo(size: 4 | 8, update: (old: Expr) => Expr): void;
  loadReserved(size: 4 | 8): void;
  storeConditional(size: 4 | 8): void;

  /** Takes the branch to pc + imm when `condition` (i32) holds. */
  branch(condition: Expr): void;
  /** Goes to pc + imm. */
  jump(): void;
  /** Goes to an address (bit 0 already cleared), after writing `link` to rd if the row has one. */
  jumpTo(target: Expr): void;

  /** Leaves the instruction with an exception; `tval` is an i64. */
  trap(cause: number, tval: Expr): void;
  illegal(): void;
  /** Privileged and rare operations, in the hart's run-time library: takes the instruction's operands itself. */
  system(operation: SystemOperation): void;
}

export type SystemOperation =
  | 'ecall'
  | 'ebreak'
  | 'mret'
  | 'sret'
  | 'wfi'
  | 'pause'
  | 'sfence.vma'
  | 'hint'
  | 'fence'
  | 'fence.i'
  | 'csrrw'
  | 'csrrs'
  | 'csrrc'
  | 'csrrwi'
  | 'csrrsi'
  | 'csrrci'
  | 'cbo.inval'
  | 'cbo.clean'
  | 'cbo.flush'
  | 'cbo.zero';

type Options = Partial<Pick<Row, 'pure' | 'hot'>>;

/** Makes the rows of one extension. */
export function rowsOf(extension: Extension, defaults: Options = {}) {
  return (
    name: string,
    format: Format,
    encoding: { readonly match: number; readonly mask: number },
    execute: (s: Semantics) => void,
    options: Options = {},
  ): Row => ({
    name,
    extension,
    format,
    match: encoding.match >>> 0,
    mask: encoding.mask >>> 0,
    pure: options.pure ?? defaults.pure ?? false,
    hot: options.hot ?? defaults.hot ?? false,
    execute,
  });
}

/** Fixed fields of an encoding, by what the field is called in the specification. */
export function encoding(fields: {
  opcode: number;
  funct3?: number;
  funct7?: number;
  /** Bits 31..26, for 64-bit shifts. */
  funct6?: number;
  /** Bits 31..27, for atomics. */
  funct5?: number;
  /** Bits 26..25, the format field of FMA. */
  funct2?: number;
  rs2?: number;
  rs1?: number;
  rd?: number;
  /** Bits 31..20. */
  funct12?: number;
}): { match: number; mask: number } {
  let match = 0;
  let mask = 0;
  const put = (value: number | undefined, shift: number, bits: number): void => {
    if (value === undefined) return;
    match |= value << shift;
    mask |= ((1 << bits) - 1) << shift;
  };
  put(fields.opcode, 0, 7);
  put(fields.rd, 7, 5);
  put(fields.funct3, 12, 3);
  put(fields.rs1, 15, 5);
  put(fields.rs2, 20, 5);
  put(fields.funct2, 25, 2);
  put(fields.funct7, 25, 7);
  put(fields.funct6, 26, 6);
  put(fields.funct5, 27, 5);
  put(fields.funct12, 20, 12);
  return { match: match >>> 0, mask: mask >>> 0 };
}

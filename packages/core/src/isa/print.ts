/**
 * The disassembler, from the instruction table. It prints what GNU objdump prints: canonical instructions with ABI
 * register names, or the usual aliases when they are asked for.
 *
 * Compressed instructions print as the 32-bit instruction that they abbreviate.
 */

import { expand } from './compressed.ts';
import { csrName } from './csr-names.ts';
import { decode, type Operands, operands } from './index.ts';
import type { Format, Row } from './row.ts';

const X = 'zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6'.split(
  ' ',
);
const F = (
  'ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 ' +
  'fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11'
).split(' ');
const ROUNDING = ['rne', 'rtz', 'rdn', 'rup', 'rmm', 'unknown', 'unknown', 'dyn'];

/**
 * How operands are written: a letter stands for an operand, the rest for itself.
 *
 * | letter  | operand                                      |
 * | ------- | -------------------------------------------- |
 * | d s t   | rd, rs1, rs2                                 |
 * | D S T R | fd, fs1, fs2, fs3                            |
 * | i x     | the immediate, decimal and hexadecimal       |
 * | u       | the upper immediate, without its 12 low bits |
 * | p       | pc + immediate                               |
 * | c       | a CSR                                        |
 * | m       | a comma and the rounding mode if not dynamic |
 * | e       | a comma and the rounding mode if not 0       |
 * | P Q     | predecessor and successor set of a fence     |
 */
const SYNTAX: Record<Format, string> = {
  R: 'd,s,t',
  R1: 'd,s',
  I: 'd,s,i',
  SH: 'd,s,x',
  SHW: 'd,s,x',
  L: 'd,i(s)',
  S: 't,i(s)',
  B: 's,t,p',
  U: 'd,u',
  J: 'd,p',
  A: 'd,t,(s)',
  AL: 'd,(s)',
  CSR: 'd,c,s',
  CSRI: 'd,c,i',
  N: '',
  F2: 's,t',
  CB: '(s)',
  FL: 'D,i(s)',
  FS: 'T,i(s)',
  FR: 'D,S,T',
  FRM: 'D,S,Tm',
  FR1M: 'D,Sm',
  FR4: 'D,S,T,Rm',
  FC: 'd,S,T',
  FX: 'd,S',
  FXM: 'd,Sm',
  XF: 'D,s',
  XFM: 'D,sm',
};

/** Rows that are not written as their format is: exact conversions have a rounding mode, and it is 0 by convention. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  jalr: 'd,i(s)',
  fence: 'P,Q',
  'fcvt.d.w': 'D,se',
  'fcvt.d.wu': 'D,se',
  'fcvt.d.s': 'D,Se',
};

/** The syntax of a row's operands. */
export function syntaxOf(row: Row): string {
  return EXCEPTIONS[row.name] ?? SYNTAX[row.format];
}

/** [row, operands that must have these values, alias, its syntax]; the first that fits is taken. */
type Alias = readonly [row: string, when: Partial<Operands>, name: string, syntax: string];

const ALIASES: readonly Alias[] = [
  ['addi', { rd: 0, rs1: 0, imm: 0 }, 'nop', ''],
  ['addi', { rs1: 0 }, 'li', 'd,i'],
  ['addi', { imm: 0 }, 'mv', 'd,s'],
  ['addiw', { imm: 0 }, 'sext.w', 'd,s'],
  ['add', { rs1: 0 }, 'mv', 'd,t'],
  ['xori', { imm: -1 }, 'not', 'd,s'],
  ['andi', { imm: 255 }, 'zext.b', 'd,s'],
  ['sub', { rs1: 0 }, 'neg', 'd,t'],
  ['subw', { rs1: 0 }, 'negw', 'd,t'],
  ['add.uw', { rs2: 0 }, 'zext.w', 'd,s'],
  ['sltiu', { imm: 1 }, 'seqz', 'd,s'],
  ['sltu', { rs1: 0 }, 'snez', 'd,t'],
  ['slt', { rs2: 0 }, 'sltz', 'd,s'],
  ['slt', { rs1: 0 }, 'sgtz', 'd,t'],
  ['beq', { rs2: 0 }, 'beqz', 's,p'],
  ['bne', { rs2: 0 }, 'bnez', 's,p'],
  ['bge', { rs1: 0 }, 'blez', 't,p'],
  ['bge', { rs2: 0 }, 'bgez', 's,p'],
  ['blt', { rs2: 0 }, 'bltz', 's,p'],
  ['blt', { rs1: 0 }, 'bgtz', 't,p'],
  ['jal', { rd: 0 }, 'j', 'p'],
  ['jal', { rd: 1 }, 'jal', 'p'],
  ['jalr', { rd: 0, rs1: 1, imm: 0 }, 'ret', ''],
  ['jalr', { rd: 0, imm: 0 }, 'jr', 's'],
  ['jalr', { rd: 0 }, 'jr', 'i(s)'],
  ['jalr', { rd: 1, imm: 0 }, 'jalr', 's'],
  ['jalr', { rd: 1 }, 'jalr', 'i(s)'],
  ['csrrw', { rd: 0, rs1: 0, csr: 0xc00 }, 'unimp', ''],
  ['csrrs', { rs1: 0, csr: 0xc00 }, 'rdcycle', 'd'],
  ['csrrs', { rs1: 0, csr: 0xc01 }, 'rdtime', 'd'],
  ['csrrs', { rs1: 0, csr: 0xc02 }, 'rdinstret', 'd'],
  ['csrrs', { rs1: 0 }, 'csrr', 'd,c'],
  ['csrrw', { rd: 0 }, 'csrw', 'c,s'],
  ['csrrs', { rd: 0 }, 'csrs', 'c,s'],
  ['csrrc', { rd: 0 }, 'csrc', 'c,s'],
  ['csrrwi', { rd: 0 }, 'csrwi', 'c,i'],
  ['csrrsi', { rd: 0 }, 'csrsi', 'c,i'],
  ['csrrci', { rd: 0 }, 'csrci', 'c,i'],
  ['sfence.vma', { rs1: 0, rs2: 0 }, 'sfence.vma', ''],
  ['sfence.vma', { rs2: 0 }, 'sfence.vma', 's'],
];

/** Sign injection from a register into itself. */
const FLOAT_ALIASES: Readonly<Record<string, string>> = { fsgnj: 'fmv', fsgnjn: 'fneg', fsgnjx: 'fabs' };

interface Text {
  readonly name: string;
  readonly syntax: string;
}

function aliasOf(row: Row, o: Operands, bits: number): Text | undefined {
  for (const [name, when, alias, syntax] of ALIASES) {
    if (name !== row.name) continue;
    const wanted = Object.entries(when) as [keyof Operands, number][];
    if (wanted.every(([key, value]) => o[key] === value)) return { name: alias, syntax };
  }
  if (row.name === 'fence' && ((bits >>> 20) & 0xff) === 0xff) return { name: 'fence', syntax: '' };
  const [stem, suffix] = row.name.split('.');
  if (FLOAT_ALIASES[stem!] && o.rs1 === o.rs2) return { name: `${FLOAT_ALIASES[stem!]}.${suffix}`, syntax: 'D,S' };
  return undefined;
}

function nameOf(row: Row, bits: number): string {
  if (row.extension === 'Xbraidhint') return 'slti';
  if (row.format !== 'A' && row.format !== 'AL') return row.name;
  return row.name + ['', '.rl', '.aq', '.aqrl'][(bits >>> 25) & 3];
}

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

function fenceSet(flags: number): string {
  const letters = ['i', 'o', 'r', 'w'].filter((_, n) => flags & (8 >> n));
  return letters.join('') || 'unknown';
}

function target(pc: bigint | undefined, offset: number): string {
  if (pc !== undefined) return hex(BigInt.asUintN(64, pc + BigInt(offset)));
  return offset < 0 ? `.${offset}` : `.+${offset}`;
}

function operand(letter: string, o: Operands, bits: number, pc: bigint | undefined): string {
  switch (letter) {
    case 'd':
      return X[o.rd]!;
    case 's':
      return X[o.rs1]!;
    case 't':
      return X[o.rs2]!;
    case 'D':
      return F[o.rd]!;
    case 'S':
      return F[o.rs1]!;
    case 'T':
      return F[o.rs2]!;
    case 'R':
      return F[o.rs3]!;
    case 'i':
      return `${o.imm}`;
    case 'x':
      return hex(o.imm);
    case 'u':
      return hex(o.imm >>> 12);
    case 'p':
      return target(pc, o.imm);
    case 'c':
      return csrName(o.csr);
    case 'm':
      return o.rm === 7 ? '' : `,${ROUNDING[o.rm]}`;
    case 'e':
      return o.rm === 0 ? '' : `,${ROUNDING[o.rm]}`;
    case 'P':
      return fenceSet((bits >>> 24) & 15);
    case 'Q':
      return fenceSet((bits >>> 20) & 15);
    default:
      throw new TypeError(`no operand is written ${letter}`);
  }
}

export interface PrintOptions {
  /** `mv a0,a1` for `addi a0,a1,0`, and so on. */
  readonly aliases?: boolean;
}

/**
 * Prints one instruction. `bits` is a 32-bit encoding, or a 16-bit one (what lies above its 16 bits is not looked at);
 * targets of branches are absolute if `pc` is given and relative (`.+16`) if not. What is no instruction prints as
 * data.
 */
export function disassemble(bits: number, pc?: bigint, options: PrintOptions = {}): string {
  const compressed = (bits & 3) !== 3;
  const full = compressed ? expand(bits & 0xffff) : bits;
  const row = decode(full);
  if (!row) {
    return compressed
      ? `.2byte 0x${(bits & 0xffff).toString(16).padStart(4, '0')}`
      : `.4byte 0x${(bits >>> 0).toString(16).padStart(8, '0')}`;
  }
  const o = operands(row, full);
  const text = (options.aliases && aliasOf(row, o, full)) || { name: nameOf(row, full), syntax: syntaxOf(row) };
  const written = text.syntax.replace(/[A-Za-z]/g, (letter) => operand(letter, o, full, pc));
  return written === '' ? text.name : `${text.name} ${written}`;
}

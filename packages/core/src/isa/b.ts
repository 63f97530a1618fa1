/** Bit manipulation: Zba, Zbb and Zbs (unprivileged specification, chapter "B"). */

import { type Expr, i32, i64, select } from '../wasm/index.ts';
import { encoding, type Row, rowsOf } from './row.ts';

const OP = 0x33;
const OP_32 = 0x3b;
const OP_IMM = 0x13;
const OP_IMM_32 = 0x1b;

// Address arithmetic is what compilers use of these everywhere.
const zba = rowsOf('Zba', { pure: true, hot: true });
const zbb = rowsOf('Zbb', { pure: true });
const zbs = rowsOf('Zbs', { pure: true });

const shiftAdd = (shift: number): Row[] => [
  zba(`sh${shift}add`, 'R', encoding({ opcode: OP, funct3: shift * 2, funct7: 0x10 }), (s) =>
    s.rd(i64.add(i64.shl(s.rs1(), shift), s.rs2())),
  ),
  zba(`sh${shift}add.uw`, 'R', encoding({ opcode: OP_32, funct3: shift * 2, funct7: 0x10 }), (s) =>
    s.rd(i64.add(i64.shl(i64.extendU(s.rs1w()), shift), s.rs2())),
  ),
];

const op = (name: string, funct3: number, funct7: number, operation: (a: Expr, b: Expr) => Expr): Row =>
  zbb(name, 'R', encoding({ opcode: OP, funct3, funct7 }), (s) => s.rd(operation(s.rs1(), s.rs2())));

const not = (value: Expr): Expr => i64.xor(value, -1);

/** Minimum and maximum: the first operand if `first` holds. */
const choose = (name: string, funct3: number, first: (a: Expr, b: Expr) => Expr): Row =>
  zbb(name, 'R', encoding({ opcode: OP, funct3, funct7: 0x05 }), (s) => {
    const a = s.f.let(s.rs1());
    const b = s.f.let(s.rs2());
    s.rd(select(first(a, b), a, b));
  });

const unary = (name: string, funct3: number, funct12: number, operation: (a: Expr) => Expr): Row =>
  zbb(name, 'R1', encoding({ opcode: OP_IMM, funct3, funct12 }), (s) => s.rd(operation(s.rs1())));

const unaryW = (name: string, funct12: number, operation: (a: Expr) => Expr): Row =>
  zbb(name, 'R1', encoding({ opcode: OP_IMM_32, funct3: 1, funct12 }), (s) => s.rdw(operation(s.rs1w())));

const single = (operation: (value: Expr, bit: Expr) => Expr, name: string, funct3: number, funct7: number): Row[] => {
  const bit = (index: Expr): Expr => i64.shl(i64.const(1), index);
  return [
    zbs(name, 'R', encoding({ opcode: OP, funct3, funct7 }), (s) => s.rd(operation(s.rs1(), bit(s.rs2())))),
    zbs(`${name}i`, 'SH', encoding({ opcode: OP_IMM, funct3, funct6: funct7 >> 1 }), (s) =>
      s.rd(operation(s.rs1(), bit(s.imm()))),
    ),
  ];
};

export const b: readonly Row[] = [
  zba('add.uw', 'R', encoding({ opcode: OP_32, funct3: 0, funct7: 0x04 }), (s) =>
    s.rd(i64.add(i64.extendU(s.rs1w()), s.rs2())),
  ),
  ...shiftAdd(1),
  ...shiftAdd(2),
  ...shiftAdd(3),
  zba('slli.uw', 'SH', encoding({ opcode: OP_IMM_32, funct3: 1, funct6: 0x02 }), (s) =>
    s.rd(i64.shl(i64.extendU(s.rs1w()), s.imm())),
  ),

  op('andn', 7, 0x20, (x, y) => i64.and(x, not(y))),
  op('orn', 6, 0x20, (x, y) => i64.or(x, not(y))),
  op('xnor', 4, 0x20, (x, y) => not(i64.xor(x, y))),
  unary('clz', 1, 0x600, i64.clz),
  unary('ctz', 1, 0x601, i64.ctz),
  unary('cpop', 1, 0x602, i64.popcnt),
  unaryW('clzw', 0x600, i32.clz),
  unaryW('ctzw', 0x601, i32.ctz),
  unaryW('cpopw', 0x602, i32.popcnt),
  choose('max', 6, i64.gtS),
  choose('maxu', 7, i64.gtU),
  choose('min', 4, i64.ltS),
  choose('minu', 5, i64.ltU),
  unary('sext.b', 1, 0x604, i64.extend8S),
  unary('sext.h', 1, 0x605, i64.extend16S),
  zbb('zext.h', 'R1', encoding({ opcode: OP_32, funct3: 4, funct7: 0x04, rs2: 0 }), (s) =>
    s.rd(i64.and(s.rs1(), 0xffff)),
  ),
  op('rol', 1, 0x30, i64.rotl),
  op('ror', 5, 0x30, i64.rotr),
  zbb('rori', 'SH', encoding({ opcode: OP_IMM, funct3: 5, funct6: 0x18 }), (s) => s.rd(i64.rotr(s.rs1(), s.imm()))),
  zbb('rolw', 'R', encoding({ opcode: OP_32, funct3: 1, funct7: 0x30 }), (s) => s.rdw(i32.rotl(s.rs1w(), s.rs2w()))),
  zbb('rorw', 'R', encoding({ opcode: OP_32, funct3: 5, funct7: 0x30 }), (s) => s.rdw(i32.rotr(s.rs1w(), s.rs2w()))),
  zbb('roriw', 'SHW', encoding({ opcode: OP_IMM_32, funct3: 5, funct7: 0x30 }), (s) =>
    s.rdw(i32.rotr(s.rs1w(), s.immw())),
  ),
  zbb('orc.b', 'R1', encoding({ opcode: OP_IMM, funct3: 5, funct12: 0x287 }), (s) => {
    const x = s.f.let(s.rs1());
    const low = 0x7f7f7f7f7f7f7f7fn;
    // Bit 7 of each byte that is not 0: set in the byte itself, or carried into by its other bits.
    const top = i64.and(i64.or(i64.add(i64.and(x, low), low), x), ~low);
    s.rd(i64.mul(i64.shrU(top, 7), 0xff));
  }),
  zbb('rev8', 'R1', encoding({ opcode: OP_IMM, funct3: 5, funct12: 0x6b8 }), (s) => {
    const swap = (x: Expr, shift: number, mask: bigint): Expr => {
      const v = s.f.let(x);
      return i64.or(i64.and(i64.shrU(v, shift), mask), i64.shl(i64.and(v, mask), shift));
    };
    const pairs = swap(s.rs1(), 8, 0x00ff00ff00ff00ffn);
    s.rd(i64.rotl(swap(pairs, 16, 0x0000ffff0000ffffn), 32));
  }),

  ...single((value, bit) => i64.and(value, not(bit)), 'bclr', 1, 0x24),
  zbs('bext', 'R', encoding({ opcode: OP, funct3: 5, funct7: 0x24 }), (s) =>
    s.rd(i64.and(i64.shrU(s.rs1(), s.rs2()), 1)),
  ),
  zbs('bexti', 'SH', encoding({ opcode: OP_IMM, funct3: 5, funct6: 0x12 }), (s) =>
    s.rd(i64.and(i64.shrU(s.rs1(), s.imm()), 1)),
  ),
  ...single(i64.xor, 'binv', 1, 0x34),
  ...single(i64.or, 'bset', 1, 0x14),
];

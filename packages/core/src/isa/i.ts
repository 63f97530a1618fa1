/**
 * The RV64I base (unprivileged specification, chapters "RV32I" and "RV64I") without its fences and environment calls,
 * which are in `system.ts`.
 *
 * Register shifts need no masking: wasm takes a shift amount modulo the width of its operands, as RISC-V does.
 */

import { type Expr, i32, i64 } from '../wasm/index.ts';
import { encoding, type Row, rowsOf, type Semantics, type Size } from './row.ts';

const row = rowsOf('I', { hot: true });
const alu = rowsOf('I', { pure: true, hot: true });

const branch = (name: string, funct3: number, condition: (a: Expr, b: Expr) => Expr): Row =>
  row(name, 'B', encoding({ opcode: 0x63, funct3 }), (s) => s.branch(condition(s.rs1(), s.rs2())));

const address = (s: Semantics): Expr => i64.add(s.rs1(), s.imm());

const load = (name: string, funct3: number, size: Size, signed: boolean): Row =>
  row(name, 'L', encoding({ opcode: 0x03, funct3 }), (s) => s.rd(s.load(size, signed, address(s))));

const store = (name: string, funct3: number, size: Size): Row =>
  row(name, 'S', encoding({ opcode: 0x23, funct3 }), (s) => s.store(size, address(s), s.rs2()));

const opImm = (name: string, funct3: number, operation: (a: Expr, b: Expr) => Expr): Row =>
  alu(name, 'I', encoding({ opcode: 0x13, funct3 }), (s) => s.rd(operation(s.rs1(), s.imm())));

const opShift = (name: string, funct3: number, funct6: number, operation: (a: Expr, b: Expr) => Expr): Row =>
  alu(name, 'SH', encoding({ opcode: 0x13, funct3, funct6 }), (s) => s.rd(operation(s.rs1(), s.imm())));

const op = (name: string, funct3: number, funct7: number, operation: (a: Expr, b: Expr) => Expr): Row =>
  alu(name, 'R', encoding({ opcode: 0x33, funct3, funct7 }), (s) => s.rd(operation(s.rs1(), s.rs2())));

const opShiftW = (name: string, funct3: number, funct7: number, operation: (a: Expr, b: Expr) => Expr): Row =>
  alu(name, 'SHW', encoding({ opcode: 0x1b, funct3, funct7 }), (s) => s.rdw(operation(s.rs1w(), s.immw())));

const opW = (name: string, funct3: number, funct7: number, operation: (a: Expr, b: Expr) => Expr): Row =>
  alu(name, 'R', encoding({ opcode: 0x3b, funct3, funct7 }), (s) => s.rdw(operation(s.rs1w(), s.rs2w())));

const setLessS = (a: Expr, b: Expr): Expr => i64.extendU(i64.ltS(a, b));
const setLessU = (a: Expr, b: Expr): Expr => i64.extendU(i64.ltU(a, b));

export const i: readonly Row[] = [
  alu('lui', 'U', encoding({ opcode: 0x37 }), (s) => s.rd(s.imm())),
  alu('auipc', 'U', encoding({ opcode: 0x17 }), (s) => s.rd(i64.add(s.pc(), s.imm()))),
  row('jal', 'J', encoding({ opcode: 0x6f }), (s) => {
    s.rd(s.next());
    s.jump();
  }),
  row('jalr', 'I', encoding({ opcode: 0x67, funct3: 0 }), (s) => {
    // Pinned, because the link may overwrite the register that holds the target.
    s.jumpTo(s.f.let(i64.and(address(s), -2)));
  }),
  branch('beq', 0, i64.eq),
  branch('bne', 1, i64.ne),
  branch('blt', 4, i64.ltS),
  branch('bge', 5, i64.geS),
  branch('bltu', 6, i64.ltU),
  branch('bgeu', 7, i64.geU),
  load('lb', 0, 1, true),
  load('lh', 1, 2, true),
  load('lw', 2, 4, true),
  load('ld', 3, 8, true),
  load('lbu', 4, 1, false),
  load('lhu', 5, 2, false),
  load('lwu', 6, 4, false),
  store('sb', 0, 1),
  store('sh', 1, 2),
  store('sw', 2, 4),
  store('sd', 3, 8),
  opImm('addi', 0, i64.add),
  opImm('slti', 2, setLessS),
  opImm('sltiu', 3, setLessU),
  opImm('xori', 4, i64.xor),
  opImm('ori', 6, i64.or),
  opImm('andi', 7, i64.and),
  opShift('slli', 1, 0x00, i64.shl),
  opShift('srli', 5, 0x00, i64.shrU),
  opShift('srai', 5, 0x10, i64.shrS),
  op('add', 0, 0x00, i64.add),
  op('sub', 0, 0x20, i64.sub),
  op('sll', 1, 0x00, i64.shl),
  op('slt', 2, 0x00, setLessS),
  op('sltu', 3, 0x00, setLessU),
  op('xor', 4, 0x00, i64.xor),
  op('srl', 5, 0x00, i64.shrU),
  op('sra', 5, 0x20, i64.shrS),
  op('or', 6, 0x00, i64.or),
  op('and', 7, 0x00, i64.and),
  alu('addiw', 'I', encoding({ opcode: 0x1b, funct3: 0 }), (s) => s.rdw(i32.add(s.rs1w(), s.immw()))),
  opShiftW('slliw', 1, 0x00, i32.shl),
  opShiftW('srliw', 5, 0x00, i32.shrU),
  opShiftW('sraiw', 5, 0x20, i32.shrS),
  opW('addw', 0, 0x00, i32.add),
  opW('subw', 0, 0x20, i32.sub),
  opW('sllw', 1, 0x00, i32.shl),
  opW('srlw', 5, 0x00, i32.shrU),
  opW('sraw', 5, 0x20, i32.shrS),
];

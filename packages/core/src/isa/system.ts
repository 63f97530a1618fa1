/**
 * Everything that the hart's run-time library does: fences, environment calls, CSR access, privileged instructions,
 * and cache block management.
 *
 * Sources: unprivileged specification, chapters "RV32I", "Zifencei", "Zicsr", "Zihintpause" and "CMO"; privileged
 * specification, chapters "Machine-Level ISA" and "Supervisor-Level ISA".
 *
 * Zicbop has no rows: a prefetch is `ori` with rd = x0, of which nothing is left.
 */

import { type Extension, encoding, type Format, type Row, rowsOf, type SystemOperation } from './row.ts';

const MISC_MEM = 0x0f;
const SYSTEM = 0x73;

const row = (
  extension: Extension,
  name: string,
  format: Format,
  fields: Parameters<typeof encoding>[0],
  operation = name as SystemOperation,
): Row => rowsOf(extension)(name, format, encoding(fields), (s) => s.system(operation));

const csr = (name: SystemOperation, format: Format, funct3: number): Row =>
  row('Zicsr', name, format, { opcode: SYSTEM, funct3 });

const cbo = (extension: Extension, name: SystemOperation, funct12: number): Row =>
  row(extension, name, 'CB', { opcode: MISC_MEM, funct3: 2, rd: 0, funct12 });

/** No operands: every bit of the encoding is fixed. */
const exact = (extension: Extension, name: SystemOperation, funct12: number): Row =>
  row(extension, name, 'N', { opcode: SYSTEM, rd: 0, funct3: 0, rs1: 0, funct12 });

export const system: readonly Row[] = [
  // The fields rd, rs1 and (with one exception) fm are reserved for finer fences and must be ignored.
  row('I', 'fence', 'N', { opcode: MISC_MEM, funct3: 0 }),
  row('I', 'fence.tso', 'N', { opcode: MISC_MEM, funct3: 0, funct12: 0x833 }, 'fence'),
  row('Zihintpause', 'pause', 'N', { opcode: MISC_MEM, rd: 0, funct3: 0, rs1: 0, funct12: 0x010 }),
  row('Zifencei', 'fence.i', 'N', { opcode: MISC_MEM, funct3: 1 }),
  exact('I', 'ecall', 0x000),
  exact('I', 'ebreak', 0x001),
  csr('csrrw', 'CSR', 1),
  csr('csrrs', 'CSR', 2),
  csr('csrrc', 'CSR', 3),
  csr('csrrwi', 'CSRI', 5),
  csr('csrrsi', 'CSRI', 6),
  csr('csrrci', 'CSRI', 7),
  exact('Privileged', 'sret', 0x102),
  exact('Privileged', 'mret', 0x302),
  exact('Privileged', 'wfi', 0x105),
  row('Privileged', 'sfence.vma', 'F2', { opcode: SYSTEM, rd: 0, funct3: 0, funct7: 0x09 }),
  cbo('Zicbom', 'cbo.inval', 0),
  cbo('Zicbom', 'cbo.clean', 1),
  cbo('Zicbom', 'cbo.flush', 2),
  cbo('Zicboz', 'cbo.zero', 4),
];

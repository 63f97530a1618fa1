/** The instruction table as a whole: every row, and the way from an encoding to its row and operands. */

import { a } from './a.ts';
import { b } from './b.ts';
import { d } from './d.ts';
import { f } from './f.ts';
import { hint } from './hint.ts';
import { i } from './i.ts';
import { m } from './m.ts';
import type { Row } from './row.ts';
import { system } from './system.ts';
import { zicond } from './zicond.ts';

export { expand } from './compressed.ts';
export type { Extension, Format, Row, Semantics, Size, SystemOperation } from './row.ts';

export const rows: readonly Row[] = [...i, ...m, ...a, ...f, ...d, ...system, ...b, ...zicond, ...hint];

/** The fields that nearly all rows fix: funct7, funct3 and the opcode without its low bits, which are always 11. */
const KEY_MASK = 0xfe00707f;
const BUCKETS = 1 << 15;

const ones = (value: number): number => {
  let count = 0;
  for (let rest = value >>> 0; rest; rest &= rest - 1) count++;
  return count;
};

/** Rows that a key leaves possible, most specific first; made when the first instruction with the key is decoded. */
const buckets: (readonly Row[] | undefined)[] = new Array(BUCKETS).fill(undefined);
const bySpecificity = [...rows].sort((x, y) => ones(y.mask) - ones(x.mask));

/** The row of a 32-bit encoding (`expand` a compressed one first), or undefined when it is illegal. */
export function decode(bits: number): Row | undefined {
  if ((bits & 3) !== 3) return undefined;
  const key = ((bits >>> 25) << 8) | (((bits >>> 12) & 7) << 5) | ((bits >>> 2) & 31);
  let bucket = buckets[key];
  if (!bucket) {
    bucket = bySpecificity.filter((row) => ((bits ^ row.match) & row.mask & KEY_MASK) === 0);
    buckets[key] = bucket;
  }
  for (let n = 0; n < bucket.length; n++) {
    const row = bucket[n]!;
    if (((bits ^ row.match) & row.mask) === 0) return row;
  }
  return undefined;
}

/** The length in bytes of the instruction that starts with these 16 bits; longer encodings than 4 are not defined. */
export function lengthOf(bits16: number): 2 | 4 {
  return (bits16 & 3) === 3 ? 4 : 2;
}

/** What an encoding carries besides its row. A field that the row's format does not have is 0. */
export interface Operands {
  rd: number;
  rs1: number;
  rs2: number;
  rs3: number;
  /** Signed; U immediates already shifted; shift amounts and CSRI immediates unsigned. */
  imm: number;
  csr: number;
  /** The rounding mode field as it stands: 7 is dynamic, 5 and 6 are reserved. */
  rm: number;
}

const immI = (bits: number): number => bits >> 20;
const immS = (bits: number): number => ((bits >> 25) << 5) | ((bits >>> 7) & 31);
const immB = (bits: number): number =>
  ((bits >> 31) << 12) | (((bits >>> 7) & 1) << 11) | (((bits >>> 25) & 63) << 5) | (((bits >>> 8) & 15) << 1);
const immU = (bits: number): number => bits & 0xfffff000;
const immJ = (bits: number): number =>
  ((bits >> 31) << 20) | (((bits >>> 12) & 0xff) << 12) | (((bits >>> 20) & 1) << 11) | (((bits >>> 21) & 0x3ff) << 1);

/** Takes the operands out of an encoding of the row. */
export function operands(row: Row, bits: number): Operands {
  const o: Operands = { rd: 0, rs1: 0, rs2: 0, rs3: 0, imm: 0, csr: 0, rm: 0 };
  const rd = (bits >>> 7) & 31;
  const rm = (bits >>> 12) & 7;
  const rs1 = (bits >>> 15) & 31;
  const rs2 = (bits >>> 20) & 31;
  switch (row.format) {
    case 'R':
    case 'A':
    case 'FR':
    case 'FC':
      o.rd = rd;
      o.rs1 = rs1;
      o.rs2 = rs2;
      break;
    case 'R1':
    case 'AL':
    case 'FX':
    case 'XF':
      o.rd = rd;
      o.rs1 = rs1;
      break;
    case 'I':
    case 'L':
    case 'FL':
      o.rd = rd;
      o.rs1 = rs1;
      o.imm = immI(bits);
      break;
    case 'SH':
      o.rd = rd;
      o.rs1 = rs1;
      o.imm = (bits >>> 20) & 63;
      break;
    case 'SHW':
      o.rd = rd;
      o.rs1 = rs1;
      o.imm = rs2;
      break;
    case 'S':
    case 'FS':
      o.rs1 = rs1;
      o.rs2 = rs2;
      o.imm = immS(bits);
      break;
    case 'B':
      o.rs1 = rs1;
      o.rs2 = rs2;
      o.imm = immB(bits);
      break;
    case 'U':
      o.rd = rd;
      o.imm = immU(bits);
      break;
    case 'J':
      o.rd = rd;
      o.imm = immJ(bits);
      break;
    case 'CSR':
      o.rd = rd;
      o.rs1 = rs1;
      o.csr = bits >>> 20;
      break;
    case 'CSRI':
      o.rd = rd;
      o.imm = rs1;
      o.csr = bits >>> 20;
      break;
    case 'N':
      break;
    case 'F2':
      o.rs1 = rs1;
      o.rs2 = rs2;
      break;
    case 'CB':
      o.rs1 = rs1;
      break;
    case 'FRM':
      o.rd = rd;
      o.rs1 = rs1;
      o.rs2 = rs2;
      o.rm = rm;
      break;
    case 'FR1M':
    case 'FXM':
    case 'XFM':
      o.rd = rd;
      o.rs1 = rs1;
      o.rm = rm;
      break;
    case 'FR4':
      o.rd = rd;
      o.rs1 = rs1;
      o.rs2 = rs2;
      o.rs3 = bits >>> 27;
      o.rm = rm;
      break;
  }
  return o;
}

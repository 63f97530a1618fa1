/**
 * Single instructions of a program as its analysis sees them: what they read and write, and where they lead.
 *
 * What is a call and what a return follows the convention on link registers (unprivileged specification, "Unconditional
 * Jumps": x1 and x5 are link registers) and the psABI's far calls (`auipc` and `jalr`).
 */

import { decode, expand, lengthOf, type Operands, operands, type Row } from '../isa/index.ts';
import type { ProgramCode } from './program-code.ts';

export interface Instruction {
  readonly address: bigint;
  /** The address behind it. */
  readonly next: bigint;
  readonly row: Row;
  readonly operands: Operands;
}

export const RA = 1;
export const SP = 2;
export const S0 = 8;
export const A0 = 10;
export const A1 = 11;
export const A7 = 17;
const T0 = 5;
/** Floating-point register n is called `FLOAT + n`. */
export const FLOAT = 32;

/** The instruction at an address, or undefined where there is none that this machine knows. */
export function instructionAt(code: ProgramCode, address: bigint): Instruction | undefined {
  const low = code.half(address);
  if (low === undefined) return undefined;
  const length = lengthOf(low);
  const high = length === 4 ? code.half(address + 2n) : 0;
  if (high === undefined) return undefined;
  const bits = length === 4 ? ((high << 16) | low) >>> 0 : expand(low);
  const row = decode(bits);
  return row && { address, next: address + BigInt(length), row, operands: operands(row, bits) };
}

/** The register that an instruction writes, if it is not x0. */
export function written({ row, operands: { rd } }: Instruction): number | undefined {
  switch (row.format) {
    case 'S':
    case 'B':
    case 'N':
    case 'F2':
    case 'CB':
    case 'FS':
      return undefined;
    case 'FL':
    case 'FR':
    case 'FRM':
    case 'FR1M':
    case 'FR4':
    case 'XF':
    case 'XFM':
      return FLOAT + rd;
    default:
      return rd === 0 ? undefined : rd;
  }
}

/** The registers that an instruction's result or decision is computed from. */
export function sources({ row, operands: { rs1, rs2, rs3 } }: Instruction): number[] {
  const registers = (() => {
    switch (row.format) {
      case 'R':
      case 'S':
      case 'B':
      case 'A':
      case 'F2':
        return [rs1, rs2];
      case 'U':
      case 'J':
      case 'CSRI':
      case 'N':
        return [];
      case 'FS':
        return [rs1, FLOAT + rs2];
      case 'FR':
      case 'FRM':
      case 'FC':
        return [FLOAT + rs1, FLOAT + rs2];
      case 'FR1M':
      case 'FX':
      case 'FXM':
        return [FLOAT + rs1];
      case 'FR4':
        return [FLOAT + rs1, FLOAT + rs2, FLOAT + rs3];
      default:
        return [rs1];
    }
  })();
  return registers.filter((register) => register !== 0);
}

/** Whether a call may leave another value in a register: what the psABI does not let the callee preserve. */
export function isClobberedByCall(register: number): boolean {
  const number = register % FLOAT;
  if (register >= FLOAT) return number < 8 || (number >= 10 && number < 18) || number >= 28;
  return number === RA || (number >= T0 && number < 8) || (number >= A0 && number < 18) || number >= 28;
}

/** Whether a function's result may be in a register. */
export function isResult(register: number): boolean {
  return register % FLOAT === A0 || register % FLOAT === A1;
}

/** Where an instruction leads when it does not simply go on to the next one. */
export type Control =
  | { readonly kind: 'branch' | 'jump'; readonly target: bigint }
  /** `target` is undefined when it is computed; `standard` when the link is in ra, so that the callee keeps to the psABI. */
  | { readonly kind: 'call'; readonly target: bigint | undefined; readonly standard: boolean }
  | { readonly kind: 'indirect'; readonly register: number; readonly offset: number }
  | { readonly kind: 'return' };

/** `previous` is the instruction before it in the text, which has the upper part of a far target. */
export function controlOf(instruction: Instruction, previous: Instruction | undefined): Control | undefined {
  const { address, row, operands: o } = instruction;
  if (row.format === 'B') return { kind: 'branch', target: wrap(address + BigInt(o.imm)) };
  switch (row.name) {
    case 'jal': {
      const target = wrap(address + BigInt(o.imm));
      return o.rd === 0 ? { kind: 'jump', target } : { kind: 'call', target, standard: o.rd === RA };
    }
    case 'jalr': {
      const near =
        o.rs1 !== 0 && previous?.row.name === 'auipc' && previous.operands.rd === o.rs1 ? previous : undefined;
      const target = near && wrap(near.address + BigInt(near.operands.imm) + BigInt(o.imm)) & ~1n;
      if (o.rd !== 0) return { kind: 'call', target, standard: o.rd === RA };
      if (target !== undefined) return { kind: 'jump', target };
      if ((o.rs1 === RA || o.rs1 === T0) && o.imm === 0) return { kind: 'return' };
      return { kind: 'indirect', register: o.rs1, offset: o.imm };
    }
    case 'mret':
    case 'sret':
      return { kind: 'return' };
    default:
      return undefined;
  }
}

export function wrap(address: bigint): bigint {
  return BigInt.asUintN(64, address);
}

/** A conditional branch in a machine's memory, and which way it goes. */

import { decode, expand, lengthOf, operands } from '../isa/index.ts';
import type { Machine } from '../machine/machine.ts';
import { hex } from './analysis-error.ts';
import { DecisionError } from './decision.ts';
import type { Instruction } from './instructions.ts';

type Branch = Pick<Instruction, 'row' | 'operands'>;

/** The conditional branch at a hart's address. Throws `DecisionError` where there is none. */
export function instructionOf(machine: Machine, hart: number, address: bigint): Branch {
  const low = halfAt(machine, hart, address);
  const length = low === undefined ? 0 : lengthOf(low);
  const high = length === 4 ? halfAt(machine, hart, address + 2n) : 0;
  const bits = low === undefined || high === undefined ? 0 : length === 4 ? ((high << 16) | low) >>> 0 : expand(low);
  const row = decode(bits);
  if (row?.format !== 'B') throw new DecisionError(`the machine has no conditional branch at ${hex(address)}`);
  return { row, operands: operands(row, bits) };
}

function halfAt(machine: Machine, hart: number, address: bigint): number | undefined {
  const physical = machine.physical(hart, address);
  const bytes = new Uint8Array(2);
  if (physical === undefined || physical >= 1n << 52n || !machine.ram.read(Number(physical), bytes)) return undefined;
  return bytes[0]! | (bytes[1]! << 8);
}

export function isTaken({ row, operands: { rs1, rs2 } }: Branch, x: (n: number) => bigint): boolean {
  const [a, b] = [x(rs1), x(rs2)];
  const signed = (value: bigint) => BigInt.asIntN(64, value);
  switch (row.name) {
    case 'beq':
      return a === b;
    case 'bne':
      return a !== b;
    case 'blt':
      return signed(a) < signed(b);
    case 'bge':
      return signed(a) >= signed(b);
    case 'bltu':
      return a < b;
    default:
      return a >= b;
  }
}

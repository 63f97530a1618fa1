/**
 * The edges of user mode, where a hart comes from a program into a kernel and where it goes back: the trap vector's first instruction
 * and the `sret` of the way back. All registers are the program's at both, and `sscratch` is what the kernel keeps there for it.
 */

import { MSTATUS } from '../hart/state.ts';
import type { Harts } from './harts.ts';

/** A program as a hart's registers tell it at an edge. What is left out is not compared. */
export interface UserProgram {
  /** The value of `sscratch`: under Linux the address of the task. */
  readonly scratch?: bigint;
  /** The value of `satp`, but for the number of the address space. */
  readonly tables?: bigint;
}

/** How far behind the vector a kernel's way back is looked for. */
export const EDGE_REACH = 4096;
const SRET = 0x10200073;
const SPACE_NUMBER = 0xffffn << 44n;

/** What of `satp` names the page tables: mode and root. */
export function tablesOf(satp: bigint): bigint {
  return satp & ~SPACE_NUMBER;
}

/** Addresses of the `sret`s in code. */
export function returnsIn(code: Uint8Array, address: bigint): bigint[] {
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  const returns: bigint[] = [];
  for (let at = 0; at + 4 <= code.length; at += 2) {
    if (view.getUint32(at, true) === SRET) returns.push(address + BigInt(at));
  }
  return returns;
}

/** Whether a hart that stands at an edge has come from user mode, or goes there. */
export function isUserEdge(harts: Harts, hart: number): boolean {
  return (harts.get(hart, 'mstatus') & MSTATUS.SPP) === 0n;
}

/** A breakpoint's condition: a hart stands at an edge of a program. */
export function isEdgeOf(harts: Harts, { scratch, tables }: UserProgram): (hart: number) => boolean {
  return (hart) =>
    isUserEdge(harts, hart) &&
    (scratch === undefined || harts.get(hart, 'sscratch') === scratch) &&
    (tables === undefined || tablesOf(harts.get(hart, 'satp')) === tables);
}

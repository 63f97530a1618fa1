/**
 * Bytes put into a process's memory from outside, where the process that a hart runs could write them itself and its kernel would not
 * notice: to pages that its page tables let it write and that are dirty already. A page that is shared until somebody writes it, such as
 * the kernel's page of zeros, is none of these.
 */

import { pageRights } from '../hart/protection.ts';
import { PRIVILEGE } from '../hart/state.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';
import { hartView, pagesOf, translate } from './guest-memory.ts';
import type { Patch } from './log.ts';
import type { Machine } from './machine.ts';

const WRITE = 2;

/** Writes all of the patches, in their order, or nothing; which of it. Throws `PoolFullError`, and has written nothing then. */
export function patchMemory(machine: Machine, hart: number, patches: readonly Patch[]): boolean {
  const pieces = piecesOf(machine, hart, patches);
  if (!pieces) return false;
  const { ram } = machine;
  for (const { at } of pieces) ram.prepare(Math.floor((at - RAM_BASE) / PAGE), true);
  for (const { at, bytes } of pieces) ram.write(at, bytes);
  return true;
}

/** Whether all of the patches could be written. */
export function canPatch(machine: Machine, hart: number, patches: readonly Patch[]): boolean {
  return piecesOf(machine, hart, patches) !== undefined;
}

interface Piece {
  /** Guest-physical. */
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** The patches by guest-physical addresses, each piece within a page; undefined when one of them cannot be written. */
function piecesOf(machine: Machine, hart: number, patches: readonly Patch[]): Piece[] | undefined {
  const { hartSet, ram } = machine;
  const record = hartSet.record(hart);
  const inMachineMode = Number(record.get('privilege')) === PRIVILEGE.machine;
  const protection = record.protection();
  const view = hartView(machine, hart);
  const pieces: Piece[] = [];
  for (const { address, bytes } of patches) {
    if (address + BigInt(bytes.length) > 1n << 64n) return undefined;
    let done = 0;
    for (const { address: virtual, part } of pagesOf(address, bytes.length)) {
      const physical = translate(ram, view, virtual, true);
      if (physical === undefined || physical >= 1n << 52n || !ram.contains(Number(physical), part)) return undefined;
      if (!(pageRights(protection, physical >> 12n, inMachineMode) & WRITE)) return undefined;
      pieces.push({ at: Number(physical), bytes: bytes.subarray(done, done + part) });
      done += part;
    }
  }
  return pieces;
}

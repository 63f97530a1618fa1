/**
 * A guest's memory at virtual addresses, as somebody outside reads it: through the guest's page tables, without any side effect on it.
 * Nothing is filled, marked or raised, and no accessed flag is set.
 */

import { MSTATUS, PRIVILEGE } from '../hart/state.ts';
import { walk } from '../hart/walk.ts';
import { PAGE } from '../memory/layout.ts';
import type { Ram } from '../memory/ram.ts';
import type { Machine } from './machine.ts';

/** Page tables, and the rights of whoever looks through them. */
export interface View {
  readonly satp: bigint;
  readonly privilege: bigint;
  readonly mstatus: bigint;
}

/** What a hart's own loads find now. */
export function hartView({ hartSet }: Pick<Machine, 'hartSet'>, hart: number): View {
  return {
    satp: hartSet.get(hart, 'satp'),
    privilege: hartSet.get(hart, 'privilege'),
    mstatus: hartSet.get(hart, 'mstatus'),
  };
}

/** All that these tables map, whoever may read it there; without translation all of the memory. */
export function wholeView(satp: bigint): View {
  return { satp, privilege: BigInt(PRIVILEGE.supervisor), mstatus: MSTATUS.SUM | MSTATUS.MXR };
}

const scratch = new Uint8Array(8);
const scratchView = new DataView(scratch.buffer);

/** The eight bytes at a guest-physical address; undefined where they are not all in RAM. */
export function readWord(ram: Ram, physical: bigint): bigint | undefined {
  if (physical >= 1n << 52n || !ram.read(Number(physical), scratch)) return undefined;
  return scratchView.getBigUint64(0, true);
}

/**
 * The guest-physical address behind a virtual one; undefined where a load would fault, or a `store` would fault or change an entry of the
 * page tables.
 */
export function translate(ram: Ram, view: View, address: bigint, store = false): bigint | undefined {
  return walk({ get: (field) => view[field], word: (at) => readWord(ram, at) }, address, store);
}

/** A range of virtual memory, in pieces that are each within a page; `address` is where one begins. */
export function* pagesOf(
  address: bigint,
  length: number,
): Generator<{ readonly address: bigint; readonly part: number }> {
  for (let done = 0; done < length; ) {
    const at = BigInt.asUintN(64, address + BigInt(done));
    const part = partOf(at, length - done);
    yield { address: at, part };
    done += part;
  }
}

/** How much of so many bytes is on the page of the first. */
function partOf(address: bigint, length: number): number {
  return Math.min(length, PAGE - Number(address & BigInt(PAGE - 1)));
}

/** Copies memory out: how many bytes are there before the first one that is not mapped, or not to RAM. */
export function copyOut(
  ram: Ram,
  address: bigint,
  into: Uint8Array,
  physicalOf: (address: bigint) => bigint | undefined,
): number {
  let done = 0;
  while (done < into.length) {
    const at = BigInt.asUintN(64, address + BigInt(done));
    const part = partOf(at, into.length - done);
    const physical = physicalOf(at);
    if (physical === undefined || physical >= 1n << 52n) break;
    if (!ram.read(Number(physical), into.subarray(done, done + part))) break;
    done += part;
  }
  return done;
}

/** What is at an address as a hart could load it now, up to the first byte that it could not. */
export function readGuest(machine: Machine, hart: number, address: bigint, length: number): Uint8Array {
  return readVirtual(machine.ram, hartView(machine, hart), address, length);
}

/** What is at an address in a view, up to the first byte that is not there. */
export function readVirtual(ram: Ram, view: View, address: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  return bytes.subarray(
    0,
    copyOut(ram, address, bytes, (at) => translate(ram, view, at)),
  );
}

/** Threads of the guest's programs as a host tells them apart: from outside. */

import { PRIVILEGE } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';

/** The bits of `satp` that number an address space: the kernel may give it another number while it is used. */
const ASID = 0xffffn << 44n;
const [SP, TP] = [2, 4];

/** A thread of user mode: its page tables, and its thread pointer. Without translation it is all that a hart does. */
export interface GuestThread {
  readonly root: bigint;
  readonly tp: bigint;
  readonly hart: number;
}

/** What the page tables in use are known by; 0 where nothing is translated. */
export function rootOf({ hartSet }: Machine, hart: number): bigint {
  return hartSet.get(hart, 'privilege') === BigInt(PRIVILEGE.machine) ? 0n : hartSet.get(hart, 'satp') & ~ASID;
}

/** The thread that a hart runs; also at the kernel's first instruction after a trap out of it. */
export function threadOf(machine: Machine, hart: number): GuestThread {
  return { root: rootOf(machine, hart), tp: machine.hartSet.getX(hart, TP), hart };
}

export function isThreadOf(machine: Machine, hart: number, thread: GuestThread): boolean {
  const { root, tp } = thread;
  return rootOf(machine, hart) === root && (root === 0n ? hart === thread.hart : machine.hartSet.getX(hart, TP) === tp);
}

/** Its stack pointer. */
export function stackOf(machine: Machine, hart: number): bigint {
  return machine.hartSet.getX(hart, SP);
}

/**
 * What the analyses of this folder have in common: they listen to a machine that somebody else runs forwards, and change
 * nothing that the guest can see.
 */

import { readVirtual, wholeView } from '../machine/guest-memory.ts';
import type { Machine } from '../machine/machine.ts';

export interface Analysis {
  /** Listens from now on. The machine stands still. */
  begin(machine: Machine): void;
  /** Listens no longer, if it did. The machine stands still. */
  end(machine: Machine): void;
}

/** What is known of a task of the guest's kernel. */
export interface TaskIdentity {
  /** The thread's own number. */
  readonly pid: number;
  /** The process's: that of its first thread. */
  readonly tgid: number;
  /** The name, of at most 15 bytes; not escaped. */
  readonly comm: string;
}

/** Tells who a task is by the address of its `task_struct`, in kernel memory as a hart sees it. */
export type TaskReader = (task: bigint, hart: number) => TaskIdentity | undefined;

/** Addresses of the kernel's symbols. */
export interface SymbolAddresses {
  address(name: string): bigint | undefined;
}

/** A moment of a run. */
export interface Moment {
  /** Steps that all harts had made. */
  readonly at: bigint;
  /** Guest time in ns. */
  readonly time: bigint;
}

/** The moment of the instruction that a callback of the machine hears about. */
export function momentInside(machine: Machine): Moment {
  return { at: machine.stepsNow, time: machine.now };
}

/** Reads a guest's virtual memory without side effects, whatever the hart's present rights. */
export class GuestMemory {
  private readonly machine: Machine;

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** What is there, up to the first byte that is not mapped. */
  read(hart: number, address: bigint, length: number): Uint8Array {
    const { ram, hartSet } = this.machine;
    return readVirtual(ram, wholeView(hartSet.get(hart, 'satp')), address, length);
  }

  /** The 8 bytes at an address. */
  u64(hart: number, address: bigint): bigint | undefined {
    const bytes = this.read(hart, address, 8);
    return bytes.length < 8 ? undefined : new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  }
}

/**
 * What one thread of a guest reads and writes of its memory, by pages; by bytes where that is asked for, which costs a call of the host
 * at each access there.
 *
 * The machine's shadow tables are emptied when a log begins, so that each page is heard of when it is first touched. Accesses of
 * anybody else, the kernel and devices included, are kept apart by guest-physical page.
 */

import { type AccessKind, type AccessTrace, addressOf } from '../engine/engine.ts';
import { PRIVILEGE } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';

/** Marks of a byte: its value from outside was read; it was written. */
export const READ = 1;
export const WRITTEN = 2;

/** Who is listened to: what runs with these. */
export interface Space {
  readonly privilege: bigint;
  /** 0 where nothing is translated. */
  readonly satp: bigint;
  /** The only hart, where nothing is translated. */
  readonly hart: number;
}

export interface TouchedPage {
  /** Guest-physical page. */
  readonly page: number;
  /** Of any byte of it, nobody knows which. */
  read: boolean;
  written: boolean;
  /** Marks by byte. */
  bytes: Uint8Array | undefined;
}

export class AccessLog implements AccessTrace {
  /** By virtual page number. */
  readonly pages = new Map<bigint, TouchedPage>();
  /** Guest-physical pages that somebody else has written. */
  readonly foreign = new Set<number>();
  /** A device was accessed. */
  device = false;
  /** A virtual page was another physical one later. */
  remapped = false;
  private readonly machine: Machine;
  private readonly space: Space;
  private readonly byBytes: (page: bigint) => boolean;

  /** Listens from now on, until `end`. `byBytes` names virtual pages whose bytes are told apart. */
  constructor(machine: Machine, space: Space, byBytes: (page: bigint) => boolean) {
    this.machine = machine;
    this.space = space;
    this.byBytes = byBytes;
    machine.ram.onWrite.add(this.hearWrite);
    machine.traces.add(this);
  }

  end(): void {
    this.machine.ram.onWrite.delete(this.hearWrite);
    this.machine.traces.delete(this);
  }

  private readonly hearWrite = (address: number): void => {
    this.foreign.add(Math.floor((address - RAM_BASE) / PAGE));
  };

  touched(low: number, high: number, page: number, access: AccessKind, size: number): boolean {
    if (access === 'walk') return true;
    const writes = access === 'write' || access === 'update';
    if (!this.isOwn) {
      if (writes && page >= 0) this.foreign.add(page);
      return true;
    }
    if (page < 0) {
      this.device = true;
      return true;
    }
    const number = addressOf(low, high) >> 12n;
    let touched = this.pages.get(number);
    if (!touched) {
      touched = { page, read: false, written: false, bytes: undefined };
      this.pages.set(number, touched);
    }
    if (touched.page !== page) this.remapped = true;
    if (access === 'fetch') {
      touched.read = true;
      return true;
    }
    if (size > 0 && this.byBytes(number)) {
      touched.bytes ??= new Uint8Array(PAGE);
      const at = low & (PAGE - 1);
      for (let n = at; n < at + size; n++) {
        if (access !== 'write' && touched.bytes[n] === 0) touched.bytes[n] = READ;
        if (writes) touched.bytes[n]! |= WRITTEN;
      }
      return false;
    }
    if (writes) touched.written = true;
    if (access !== 'write') touched.read = true;
    return true;
  }

  private get isOwn(): boolean {
    const { machine, space } = this;
    const { engine } = machine;
    const privilege = engine.get('privilege');
    if (privilege !== space.privilege) return false;
    if (privilege === BigInt(PRIVILEGE.machine)) return machine.schedule.hart === space.hart;
    return engine.get('satp') === space.satp;
  }
}

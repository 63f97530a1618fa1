/**
 * The supervisor binary interface, in the monitor (RISC-V SBI Specification 2.0).
 *
 * When an operating system starts directly in S-mode, its `ecall`s come here. A call takes its extension from a7, its function
 * from a6 and its arguments from a0-a5; it returns an error in a0 and a value in a1 and leaves every other register alone
 * (chapter 3). Offered are Base, TIME, IPI, RFENCE, HSM, SRST, DBCN and the legacy calls 0 to 8.
 *
 * Arguments come from the guest and may be anything. A call costs time that does not depend on them: fences and interrupts go
 * to at most all harts, console transfers are cut to a few KiB.
 */

import type { DmaMemory } from '../devices/device.ts';
import type { Exit } from '../machine/options.ts';
import { Fields } from '../state/check.ts';
import { StateError } from '../state/errors.ts';

/** What a remote fence covers; no range is the whole address space, no ASID all of them. */
export interface FenceScope {
  /** Virtual addresses; `start + size` does not wrap. */
  readonly range?: { readonly start: bigint; readonly size: bigint };
  readonly asid?: number;
}

/** What the machine does for SBI. Harts are indices from 0, numbers of guest registers are 64-bit unsigned. */
export interface SbiHost {
  /** How many harts there are. */
  readonly harts: number;
  readonly memory: DmaMemory;
  /** x0 to x31. */
  getRegister(hart: number, register: number): bigint;
  setRegister(hart: number, register: number, value: bigint): void;
  /** Sets SSIP of a hart. */
  setSoftwareInterrupt(hart: number): void;
  /** Clears SSIP of a hart; whether it was set. */
  clearSoftwareInterrupt(hart: number): boolean;
  /** Has STIP of a hart pending from `time >= ticks` on and not before: writes stimecmp. */
  setTimer(hart: number, ticks: bigint): void;
  /** As `sfence.vma` on that hart. */
  flushAddressSpace(hart: number, scope: FenceScope): void;
  /** As `fence.i` on that hart. */
  flushInstructions(hart: number): void;
  /**
   * Has a hart enter S-mode at `pc` with satp = 0, sstatus.SIE = 0, a0 its own number and a1 `opaque` (specification, table
   * "HSM Hart Start Register State"). Also called for the calling hart, by `resume`.
   */
  startHart(hart: number, pc: bigint, opaque: bigint): void;
  /** Takes the hart out of the schedule until `startHart`. */
  stopHart(hart: number): void;
  /** Has the hart wait as by `wfi`. When it wakes up, before its next step, the machine calls `Sbi.resume`. */
  suspendHart(hart: number): void;
  /** The machine is over; `call` returns, and no hart makes another step. */
  finish(exit: Exit): void;
  consoleWrite(bytes: Uint8Array): void;
  /** At most `max` bytes of what has been typed; an empty array when there are none. */
  consoleRead(max: number): Uint8Array;
  /**
   * The 64-bit number at a virtual address as the hart's S-mode would load it, or undefined where that would fault. Legacy calls
   * pass hart masks in memory.
   */
  loadVirtual(hart: number, address: bigint): bigint | undefined;
}

/** `resume` is where a suspended hart goes on when its registers were not kept. */
type HartState =
  | { readonly is: 'started' | 'stopped' }
  | { readonly is: 'suspended'; readonly resume?: { readonly pc: bigint; readonly opaque: bigint } };

/** The saved record, version 1. */
export interface SbiState {
  readonly version: 1;
  readonly harts: readonly {
    /** 0 started, 1 stopped, 2 suspended with its registers kept, 3 suspended without. */
    readonly state: number;
    readonly pc: bigint;
    readonly opaque: bigint;
  }[];
}

/** The values of mvendorid, marchid and mimpid that the harts have. */
export interface MachineIds {
  readonly vendor: bigint;
  readonly architecture: bigint;
  readonly implementation: bigint;
}

// Table "Standard SBI Errors".
const SUCCESS = 0;
const FAILED = -1;
const NOT_SUPPORTED = -2;
const INVALID_PARAM = -3;
const INVALID_ADDRESS = -5;
const ALREADY_AVAILABLE = -6;

// Extension numbers: the letters of their names.
const BASE = 0x10n;
const TIME = 0x54494d45n;
const IPI = 0x735049n;
const RFENCE = 0x52464e43n;
const HSM = 0x48534dn;
const SRST = 0x53525354n;
const DBCN = 0x4442434en;
const LEGACY_LAST = 8n;
const OFFERED: ReadonlySet<bigint> = new Set([BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN]);

const SPECIFICATION_VERSION = 0x0200_0000n; // major in bits 30:24, minor below
/** Nobody has registered it: "braid" in ASCII, far from the small numbers that are given out one after another. */
const IMPLEMENTATION_ID = 0x62_7261_6964n;
const IMPLEMENTATION_VERSION = 1n;

const MAX = (1n << 64n) - 1n;
const A0 = 10;
const A6 = 16;
const A7 = 17;
/** The most that one call moves between console and memory; callers go on where a call stopped. */
const CONSOLE_CHUNK = 4096;
const STATES = ['started', 'stopped', 'suspended', 'suspended'] as const;

/** An error number (0 is success without a value), or success with a value. */
type Result = number | bigint;
/** The call does not return to its caller: it has stopped, been suspended elsewhere, or the machine is over. */
const GONE = Symbol('gone');

export class Sbi {
  readonly #host: SbiHost;
  readonly #ids: MachineIds;
  #harts: HartState[] = [];

  constructor(host: SbiHost, ids: MachineIds = { vendor: 0n, architecture: 0n, implementation: 0n }) {
    this.#host = host;
    this.#ids = ids;
    this.reset();
  }

  /** As at power-on: hart 0 is started, the others wait for `hart_start`. */
  reset(): void {
    this.#harts = Array.from({ length: this.#host.harts }, (_, hart) => ({ is: hart === 0 ? 'started' : 'stopped' }));
  }

  /** Executes the call of a hart that has done `ecall` in S-mode. The caller has moved its pc past the instruction. */
  call(hart: number): void {
    const extension = this.#register(hart, A7);
    if (extension <= LEGACY_LAST) {
      const result = this.#legacy(hart, Number(extension));
      // Legacy calls change a0 alone (chapter 5).
      if (result !== GONE) this.#host.setRegister(hart, A0, BigInt.asUintN(64, BigInt(result)));
      return;
    }
    const result = this.#standard(hart, extension, this.#register(hart, A6));
    if (result === GONE) return;
    const value = typeof result === 'bigint' ? result : undefined;
    this.#host.setRegister(hart, A0, value === undefined ? BigInt.asUintN(64, BigInt(result)) : 0n);
    this.#host.setRegister(hart, A0 + 1, value === undefined ? 0n : BigInt.asUintN(64, value));
  }

  /** Whether a hart takes part in the schedule (it may be waiting). */
  running(hart: number): boolean {
    return this.#harts[hart]!.is !== 'stopped';
  }

  /**
   * A hart has woken up. One that had called `hart_suspend` is started again, at its resume address if it gave one. For any other
   * hart nothing happens.
   */
  resume(hart: number): void {
    const state = this.#harts[hart]!;
    if (state.is !== 'suspended') return;
    this.#harts[hart] = { is: 'started' };
    if (state.resume !== undefined) this.#host.startHart(hart, state.resume.pc, state.resume.opaque);
  }

  save(): SbiState {
    const harts = this.#harts.map((hart) => {
      if (hart.is !== 'suspended') return { state: STATES.indexOf(hart.is), pc: 0n, opaque: 0n };
      return { state: hart.resume === undefined ? 2 : 3, pc: 0n, opaque: 0n, ...hart.resume };
    });
    return { version: 1, harts };
  }

  /** Takes what `save` made; throws `StateError` for anything else, and is then unchanged. */
  restore(state: unknown): void {
    const fields = new Fields(state, 'sbi');
    fields.version(1);
    const count = this.#host.harts;
    const harts = fields.list('harts', count, count, (item, where): HartState => {
      const record = new Fields(item, where);
      const kind = record.integer('state', 0, 3);
      const resume = { pc: record.u64('pc'), opaque: record.u64('opaque') };
      record.end();
      if (kind === 3 ? !this.#executable(resume.pc) : resume.pc !== 0n || resume.opaque !== 0n) {
        throw new StateError(`${where}.pc`, 'no hart in this state resumes there');
      }
      const is = STATES[kind]!;
      return is !== 'suspended' ? { is } : kind === 3 ? { is, resume } : { is };
    });
    fields.end();
    this.#harts = harts;
  }

  #standard(hart: number, extension: bigint, fn: bigint): Result | typeof GONE {
    const argument = (n: number) => this.#register(hart, A0 + n);
    switch (extension) {
      case BASE:
        return this.#base(fn, argument(0));
      case TIME:
        if (fn !== 0n) return NOT_SUPPORTED;
        this.#host.setTimer(hart, argument(0));
        return SUCCESS;
      case IPI:
        if (fn !== 0n) return NOT_SUPPORTED;
        return this.#interrupt(this.#select(argument(0), argument(1)));
      case RFENCE:
        return this.#fence(fn, argument);
      case HSM:
        return this.#hsm(hart, fn, argument);
      case SRST:
        if (fn !== 0n) return NOT_SUPPORTED;
        return this.#finish(argument(0) & 0xffff_ffffn, argument(1) & 0xffff_ffffn);
      case DBCN:
        return this.#console(fn, argument);
      default:
        return NOT_SUPPORTED;
    }
  }

  /** Chapter 4. */
  #base(fn: bigint, argument: bigint): Result {
    switch (fn) {
      case 0n:
        return SPECIFICATION_VERSION;
      case 1n:
        return IMPLEMENTATION_ID;
      case 2n:
        return IMPLEMENTATION_VERSION;
      case 3n:
        return argument <= LEGACY_LAST || OFFERED.has(argument) ? 1n : 0n;
      case 4n:
        return this.#ids.vendor;
      case 5n:
        return this.#ids.architecture;
      case 6n:
        return this.#ids.implementation;
      default:
        return NOT_SUPPORTED;
    }
  }

  /** Chapter 3, "Hart list parameter": the harts of a mask, or undefined when one of them does not exist. */
  #select(mask: bigint, base: bigint): number[] | undefined {
    const { harts } = this.#host;
    const all = Array.from({ length: harts }, (_, hart) => hart);
    if (base === MAX) return all;
    if (mask === 0n) return [];
    if (base >= BigInt(harts) || mask >> (BigInt(harts) - base) !== 0n) return undefined;
    return all.filter((hart) => BigInt(hart) >= base && ((mask >> (BigInt(hart) - base)) & 1n) === 1n);
  }

  /** Chapter 7. A stopped hart starts without pending interrupts, so it gets none. */
  #interrupt(harts: readonly number[] | undefined): Result {
    if (harts === undefined) return INVALID_PARAM;
    for (const hart of harts) if (this.running(hart)) this.#host.setSoftwareInterrupt(hart);
    return SUCCESS;
  }

  /** Chapter 8. The functions of the hypervisor extension, 3 to 6, are not offered. */
  #fence(fn: bigint, argument: (n: number) => bigint): Result {
    if (fn > 2n) return NOT_SUPPORTED;
    const harts = this.#select(argument(0), argument(1));
    if (harts === undefined) return INVALID_PARAM;
    if (fn === 0n) {
      for (const hart of harts) this.#host.flushInstructions(hart);
      return SUCCESS;
    }
    const asid = fn === 2n ? argument(4) : undefined;
    if (asid !== undefined && asid > 0xffffn) return INVALID_PARAM;
    return this.#flush(harts, argument(2), argument(3), asid);
  }

  #flush(harts: readonly number[], start: bigint, size: bigint, asid: bigint | undefined): Result {
    const whole = (start === 0n && size === 0n) || size === MAX;
    if (!whole && start + size > 1n << 64n) return INVALID_ADDRESS;
    const scope: FenceScope = {
      ...(whole ? {} : { range: { start, size } }),
      ...(asid === undefined ? {} : { asid: Number(asid) }),
    };
    for (const hart of harts) this.#host.flushAddressSpace(hart, scope);
    return SUCCESS;
  }

  /** Chapter 9. */
  #hsm(caller: number, fn: bigint, argument: (n: number) => bigint): Result | typeof GONE {
    switch (fn) {
      case 0n: {
        const target = argument(0);
        if (target >= BigInt(this.#host.harts)) return INVALID_PARAM;
        if (!this.#executable(argument(1))) return INVALID_ADDRESS;
        const hart = Number(target);
        const { is } = this.#harts[hart]!;
        if (is !== 'stopped') return is === 'started' ? ALREADY_AVAILABLE : INVALID_PARAM;
        this.#harts[hart] = { is: 'started' };
        this.#host.startHart(hart, argument(1), argument(2));
        return SUCCESS;
      }
      case 1n:
        this.#harts[caller] = { is: 'stopped' };
        this.#host.stopHart(caller);
        return GONE;
      case 2n: {
        const target = argument(0);
        if (target >= BigInt(this.#host.harts)) return INVALID_PARAM;
        return { started: 0n, stopped: 1n, suspended: 4n }[this.#harts[Number(target)]!.is];
      }
      case 3n:
        return this.#suspend(caller, argument(0) & 0xffff_ffffn, argument(1), argument(2));
      default:
        return NOT_SUPPORTED;
    }
  }

  #suspend(hart: number, type: bigint, pc: bigint, opaque: bigint): Result | typeof GONE {
    const retentive = type === 0n;
    if (!retentive && type !== 0x8000_0000n) return INVALID_PARAM; // reserved, or a platform's own: there are none
    if (!retentive && !this.#executable(pc)) return INVALID_ADDRESS;
    this.#harts[hart] = retentive ? { is: 'suspended' } : { is: 'suspended', resume: { pc, opaque } };
    this.#host.suspendHart(hart);
    // A retentive suspension returns like any call, once the hart wakes up.
    return retentive ? SUCCESS : GONE;
  }

  /** Chapter 10. */
  #finish(type: bigint, reason: bigint): Result | typeof GONE {
    if (type > 2n || reason > 1n) return INVALID_PARAM; // reserved, or a platform's own: there are none
    const failed = reason === 1n;
    const kind = type !== 0n ? 'reboot' : failed ? 'fail' : 'poweroff';
    this.#host.finish({ kind, code: failed ? 1 : 0 });
    return GONE;
  }

  /** Chapter 12. */
  #console(fn: bigint, argument: (n: number) => bigint): Result {
    if (fn === 2n) {
      this.#host.consoleWrite(Uint8Array.of(Number(argument(0) & 0xffn)));
      return SUCCESS;
    }
    if (fn > 2n) return NOT_SUPPORTED;
    const length = argument(0);
    const address = argument(1);
    if (argument(2) !== 0n || !this.#contains(address, length)) return INVALID_PARAM;
    const chunk = Math.min(Number(length), CONSOLE_CHUNK);
    if (chunk === 0) return 0n;
    if (fn === 0n) {
      const bytes = new Uint8Array(chunk);
      if (!this.#host.memory.read(Number(address), bytes)) return FAILED;
      this.#host.consoleWrite(bytes);
      return BigInt(chunk);
    }
    const bytes = this.#host.consoleRead(chunk);
    if (bytes.length > 0 && !this.#host.memory.write(Number(address), bytes)) return FAILED;
    return BigInt(bytes.length);
  }

  /** Chapter 5. The result is the new a0. */
  #legacy(hart: number, extension: number): Result | typeof GONE {
    const argument = (n: number) => this.#register(hart, A0 + n);
    switch (extension) {
      case 0:
        this.#host.setTimer(hart, argument(0));
        return SUCCESS;
      case 1:
        this.#host.consoleWrite(Uint8Array.of(Number(argument(0) & 0xffn)));
        return SUCCESS;
      case 2:
        return this.#host.consoleRead(1)[0] ?? -1;
      case 3:
        return this.#host.clearSoftwareInterrupt(hart) ? 1 : 0;
      case 8:
        this.#host.finish({ kind: 'poweroff', code: 0 });
        return GONE;
      default: {
        // A null pointer stands for all harts; bits of harts that do not exist are ignored.
        const address = argument(0);
        const mask = address === 0n ? MAX : this.#host.loadVirtual(hart, address);
        if (mask === undefined) return INVALID_ADDRESS;
        const harts = this.#select(mask & ((1n << BigInt(this.#host.harts)) - 1n), 0n)!;
        if (extension === 4) return this.#interrupt(harts);
        if (extension === 5) {
          for (const target of harts) this.#host.flushInstructions(target);
          return SUCCESS;
        }
        return this.#flush(harts, argument(1), argument(2), extension === 7 ? argument(3) & 0xffffn : undefined);
      }
    }
  }

  #register(hart: number, register: number): bigint {
    return BigInt.asUintN(64, this.#host.getRegister(hart, register));
  }

  /** Whether S-mode can start there: in RAM, and aligned as instructions are. */
  #executable(pc: bigint): boolean {
    return pc % 2n === 0n && this.#contains(pc, 2n);
  }

  #contains(address: bigint, length: bigint): boolean {
    if (address + length > BigInt(Number.MAX_SAFE_INTEGER)) return false;
    return this.#host.memory.contains(Number(address), Number(length));
  }
}

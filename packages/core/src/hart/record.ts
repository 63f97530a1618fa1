/** A hart's state outside the window: the same bytes, with accessors, and as a plain record (I5). */

import { Fields, U64S } from '../state/check.ts';
import { StateError } from '../state/errors.ts';
import type { ProtectionRegisters } from './protection.ts';
import { F, FIELDS, type HartField, MENVCFG, MSTATUS, OFFSET, PRIVILEGE, STATE_BYTES, X } from './state.ts';

export class HartRecord {
  readonly bytes = new Uint8Array(STATE_BYTES);
  private readonly view = new DataView(this.bytes.buffer);

  get(field: HartField): bigint {
    return this.view.getBigUint64(OFFSET[field], true);
  }

  set(field: HartField, value: bigint): void {
    this.view.setBigUint64(OFFSET[field], value, true);
  }

  getX(n: number): bigint {
    return this.view.getBigUint64(X + 8 * n, true);
  }

  setX(n: number, value: bigint): void {
    if (n !== 0) this.view.setBigUint64(X + 8 * n, value, true);
  }

  getF(n: number): bigint {
    return this.view.getBigUint64(F + 8 * n, true);
  }

  setF(n: number, value: bigint): void {
    this.view.setBigUint64(F + 8 * n, value, true);
  }

  /** Its registers of physical memory protection. */
  protection(): ProtectionRegisters {
    const config = this.bytes.slice(OFFSET.pmpcfg0, OFFSET.pmpcfg0 + 16);
    config.set(this.bytes.subarray(OFFSET.pmpcfg2, OFFSET.pmpcfg2 + 8), 8);
    return { config, address: BigUint64Array.from({ length: 16 }, (_, n) => this.get(`pmpaddr${n}` as HartField)) };
  }

  /**
   * The state after reset (privileged specification 3.4), in M-mode. It leaves menvcfg open: hardware sets accessed and dirty
   * flags from the start, as on QEMU, because small systems without a firmware neither set them nor ask for it.
   */
  reset(): void {
    this.bytes.fill(0);
    this.set('privilege', BigInt(PRIVILEGE.machine));
    this.set('stimecmp', (1n << 64n) - 1n);
    this.set('menvcfg', MENVCFG.ADUE);
  }

  /** As a firmware leaves a hart to its operating system: S-mode, everything delegated that the monitor does not serve. */
  enterSupervisor(): void {
    this.set('privilege', BigInt(PRIVILEGE.supervisor));
    this.set('medeleg', 0xb1ffn);
    this.set('mideleg', 0x222n);
    this.set('mie', 0n);
    this.set('mcounteren', 7n);
    this.set('scounteren', 7n);
    this.set('menvcfg', MENVCFG.STCE | MENVCFG.ADUE | MENVCFG.CBZE | MENVCFG.CBCFE | MENVCFG.CBIE);
    this.set('mstatus', MSTATUS.FS & (1n << 13n));
    this.set('satp', 0n);
    // One entry that grants everything: S-mode may reach nothing without one.
    this.set('pmpaddr0', (1n << 54n) - 1n);
    this.set('pmpcfg0', 0x1fn);
  }
}

/** Version 1: registers and CSRs by name, unsigned. */
export interface HartState {
  readonly version: 1;
  readonly x: readonly bigint[];
  readonly f: readonly bigint[];
  readonly fields: Readonly<Record<HartField, bigint>>;
}

export function saveHart(record: HartRecord): HartState {
  const x: bigint[] = [];
  const f: bigint[] = [];
  for (let n = 0; n < 32; n++) {
    x.push(record.getX(n));
    f.push(record.getF(n));
  }
  const fields: Partial<Record<HartField, bigint>> = {};
  for (const name of FIELDS) fields[name] = record.get(name);
  return { version: 1, x, f, fields: fields as Record<HartField, bigint> };
}

const WRITABLE_STATUS =
  MSTATUS.SIE |
  MSTATUS.MIE |
  MSTATUS.SPIE |
  MSTATUS.MPIE |
  MSTATUS.SPP |
  MSTATUS.MPP |
  MSTATUS.FS |
  MSTATUS.MPRV |
  MSTATUS.SUM |
  MSTATUS.MXR |
  MSTATUS.TVM |
  MSTATUS.TW |
  MSTATUS.TSR;

/** What a field of a record may hold: bits, or a list of values. Fields that are left out may hold anything. */
const LEGAL: Partial<Record<HartField, bigint | ((value: bigint) => boolean)>> = {
  pc: ~1n,
  privilege: (v) => v === 0n || v === 1n || v === 3n,
  mstatus: (v) => (v & ~WRITABLE_STATUS) === 0n && (v & MSTATUS.MPP) !== 2n << 11n,
  mip: 0xaaan,
  seipLine: 0x200n,
  mie: 0xaaan,
  mideleg: 0x222n,
  medeleg: 0xb3ffn,
  mtvec: ~2n,
  stvec: ~2n,
  mepc: ~1n,
  sepc: ~1n,
  mcounteren: 0xffff_ffffn,
  scounteren: 0xffff_ffffn,
  mcountinhibit: 5n,
  satp: (v) => [0n, 8n, 9n].includes(v >> 60n),
  fflags: 31n,
  frm: 7n,
  waiting: 1n,
};

/** Takes a record from outside into `into`. Throws `StateError`. */
export function restoreHart(state: unknown, where: string, into: HartRecord): void {
  const record = new Fields(state, where);
  record.version(1);
  record.values('x', 32, 32, U64S).forEach((value, n) => {
    into.setX(n, value);
  });
  record.values('f', 32, 32, U64S).forEach((value, n) => {
    into.setF(n, value);
  });
  const fields = new Fields(record.record('fields'), `${where}.fields`);
  for (const name of FIELDS) {
    const value = fields.u64(name);
    const legal = LEGAL[name];
    const good = legal === undefined || (typeof legal === 'bigint' ? (value & ~legal) === 0n : legal(value));
    if (!good) throw new StateError(`${where}.fields.${name}`, `cannot be 0x${value.toString(16)}`);
    into.set(name, value);
  }
  fields.end();
  record.end();
}

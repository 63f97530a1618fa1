/** A machine for one directed test: a small program, registers to look at, traps that are noted. */

import { type TestContext, test } from 'node:test';
import type { HartField } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';
import { Assembler } from './assembler.ts';
import { plainMachine } from './bare.ts';

export const BASE = 0x8000_0000;
/** Where `Bench.trap` looks; far from any program. */
const HANDLER = 0x80f0_0000;

export const CSR = {
  fcsr: 0x003,
  sstatus: 0x100,
  sie: 0x104,
  stvec: 0x105,
  senvcfg: 0x10a,
  sepc: 0x141,
  scause: 0x142,
  stval: 0x143,
  sip: 0x144,
  stimecmp: 0x14d,
  satp: 0x180,
  mstatus: 0x300,
  medeleg: 0x302,
  mideleg: 0x303,
  mie: 0x304,
  mtvec: 0x305,
  mcounteren: 0x306,
  menvcfg: 0x30a,
  mcountinhibit: 0x320,
  mscratch: 0x340,
  mepc: 0x341,
  mcause: 0x342,
  mtval: 0x343,
  mip: 0x344,
  pmpcfg0: 0x3a0,
  pmpaddr0: 0x3b0,
  mcycle: 0xb00,
  minstret: 0xb02,
  cycle: 0xc00,
  time: 0xc01,
  instret: 0xc02,
} as const;

export interface Trap {
  readonly cause: bigint;
  readonly epc: bigint;
  readonly tval: bigint;
}

export class Bench {
  readonly machine: Machine;

  constructor(build: (a: Assembler) => void, options: { harts?: number; slice?: number } = {}) {
    const a = new Assembler(BASE);
    build(a);
    this.machine = plainMachine(a.bytes(), options);
    for (let hart = 0; hart < this.machine.harts; hart++)
      this.machine.hartSet.record(hart).set('mtvec', BigInt(HANDLER));
    // The handler: jump to itself.
    this.write(HANDLER, Uint8Array.of(0x6f, 0, 0, 0));
  }

  /** Makes exactly so many steps. */
  run(steps: number): this {
    this.machine.run(steps);
    return this;
  }

  x(n: number, hart = 0): bigint {
    return this.machine.hartSet.getX(hart, n);
  }

  setX(n: number, value: bigint | number, hart = 0): this {
    this.machine.hartSet.record(hart).setX(n, BigInt.asUintN(64, BigInt(value)));
    return this;
  }

  get(field: HartField, hart = 0): bigint {
    return this.machine.hartSet.get(hart, field);
  }

  set(field: HartField, value: bigint | number, hart = 0): this {
    this.machine.hartSet.record(hart).set(field, BigInt(value));
    return this;
  }

  /** The trap that M-mode got, if its handler was reached. */
  trap(): Trap | undefined {
    if (this.get('pc') !== BigInt(HANDLER) || this.get('privilege') !== 3n) return undefined;
    return { cause: this.get('mcause'), epc: this.get('mepc'), tval: this.get('mtval') };
  }

  write(address: number | bigint, bytes: Uint8Array): this {
    if (!this.machine.ram.write(Number(address), bytes)) throw new RangeError(`0x${address.toString(16)}`);
    return this;
  }

  read(address: number | bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    if (!this.machine.ram.read(Number(address), bytes)) throw new RangeError(`0x${address.toString(16)}`);
    return bytes;
  }

  u64(address: number | bigint): bigint {
    return new DataView(this.read(address, 8).buffer).getBigUint64(0, true);
  }

  setU64(address: number | bigint, value: bigint): this {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    return this.write(address, bytes);
  }

  /** Grants all of memory to S- and U-mode. */
  open(): this {
    return this.set('pmpaddr0', (1n << 54n) - 1n).set('pmpcfg0', 0x1fn);
  }

  /**
   * Sv39 with three tables from 0x8080_0000 on, whose last one maps the 2 MiB from virtual address 0 on: `map` sets its
   * entries. Code in M-mode is not translated.
   */
  sv39(): this {
    const tables = 0x8080_0000;
    this.setU64(tables, pte(tables + 0x1000, 1n)).setU64(tables + 0x1000, pte(tables + 0x2000, 1n));
    return this.open().set('satp', (8n << 60n) | BigInt(tables >>> 12));
  }

  map(page: number, physical: number, flags: bigint): this {
    return this.setU64(this.entry(page), pte(physical, flags));
  }

  /** Address of the last-level entry of a page that `sv39` maps. */
  entry(page: number): number {
    return 0x8080_2000 + 8 * page;
  }

  /** S- or U-mode at an address. */
  enter(privilege: 0 | 1 | 3, pc: number | bigint): this {
    return this.set('privilege', privilege).set('pc', pc);
  }

  free(): void {
    this.machine.free();
  }
}

export const PTE = { V: 1n, R: 2n, W: 4n, X: 8n, U: 16n, G: 32n, A: 64n, D: 128n } as const;
/** Everything that an entry can grant to S-mode, or with U to U-mode. */
export const ALL = PTE.V | PTE.R | PTE.W | PTE.X | PTE.A | PTE.D;

export function pte(physical: number | bigint, flags: bigint): bigint {
  return ((BigInt(physical) >> 12n) << 10n) | flags;
}

/** A test that gives its machine back. */
export function bench(
  what: string,
  build: (a: Assembler) => void,
  check: (b: Bench, t: TestContext) => void,
  options: { harts?: number; slice?: number } = {},
): void {
  test(what, (t) => {
    const b = new Bench(build, options);
    try {
      check(b, t);
    } finally {
      b.free();
    }
  });
}

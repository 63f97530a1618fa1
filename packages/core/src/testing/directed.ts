/** A machine for one directed test: a small program, registers to look at, traps that are noted. */

import { type TestContext, test } from 'node:test';
import type { HartField } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';
import { Assembler } from './assembler.ts';
import { plainMachine } from './bare.ts';
import { pte } from './page-tables.ts';

export const BASE = 0x8000_0000;
/** Where `Bench.trap` looks; far from any program. */
const HANDLER = 0x80f0_0000;

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

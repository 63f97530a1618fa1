/** The harts of a machine: their records, and the one of them that is in the engine's window. */

import type { Engine } from '../engine/engine.ts';
import { HartRecord } from '../hart/record.ts';
import { type HartField, IRQ, MENVCFG } from '../hart/state.ts';

export class Harts {
  readonly count: number;
  private readonly engine: Engine;
  private readonly records: readonly HartRecord[];
  private loaded = -1;

  constructor(engine: Engine, count: number) {
    this.engine = engine;
    this.count = count;
    this.records = Array.from({ length: count }, () => {
      const record = new HartRecord();
      record.reset();
      return record;
    });
  }

  /** The hart in the window, or -1. */
  get current(): number {
    return this.loaded;
  }

  /** Brings a hart into the window. */
  load(hart: number): void {
    if (this.loaded === hart) return;
    this.unload();
    this.engine.load(hart, this.records[hart]!.bytes);
    this.loaded = hart;
  }

  /** Brings the window's state back into the records, so that the window is free. */
  unload(): void {
    if (this.loaded >= 0) this.engine.store(this.records[this.loaded]!.bytes);
    this.loaded = -1;
  }

  /** A hart's record; the window's hart is brought back first. */
  record(hart: number): HartRecord {
    if (hart === this.loaded) this.unload();
    return this.records[hart]!;
  }

  get(hart: number, field: HartField): bigint {
    return hart === this.loaded ? this.engine.get(field) : this.records[hart]!.get(field);
  }

  /** Changes that select other shadow tables (privilege, satp, mstatus) go through `record` instead. */
  set(hart: number, field: HartField, value: bigint): void {
    if (hart === this.loaded) this.engine.set(field, value);
    else this.records[hart]!.set(field, value);
  }

  getX(hart: number, n: number): bigint {
    return hart === this.loaded ? this.engine.getX(n) : this.records[hart]!.getX(n);
  }

  setX(hart: number, n: number, value: bigint): void {
    if (hart === this.loaded) this.engine.setX(n, value);
    else this.records[hart]!.setX(n, value);
  }

  /** Sets or clears bits of mip. A running hart looks at once. */
  setPending(hart: number, bits: bigint, level: boolean): void {
    const before = this.get(hart, 'mip');
    const after = level ? before | bits : before & ~bits;
    if (after === before) return;
    this.set(hart, 'mip', after);
    if (hart === this.loaded) this.engine.attention();
  }

  setSupervisorExternal(hart: number, level: boolean): void {
    const after = level ? IRQ.SEI : 0n;
    if (this.get(hart, 'seipLine') === after) return;
    this.set(hart, 'seipLine', after);
    if (hart === this.loaded) this.engine.attention();
  }

  /** Whether a hart that waits would go on. */
  pending(hart: number): boolean {
    return ((this.get(hart, 'mip') | this.get(hart, 'seipLine')) & this.get(hart, 'mie')) !== 0n;
  }

  /** The supervisor timer's comparator, if the hart's S-mode has one (Sstc). */
  supervisorCompare(hart: number): bigint | undefined {
    return (this.get(hart, 'menvcfg') & MENVCFG.STCE) === 0n ? undefined : this.get(hart, 'stimecmp');
  }

  /** STIP follows the comparator: set it or clear it for the present `ticks`. */
  updateTimer(hart: number, ticks: bigint): void {
    const compare = this.supervisorCompare(hart);
    if (compare !== undefined) this.setPending(hart, IRQ.STI, ticks >= compare);
  }
}

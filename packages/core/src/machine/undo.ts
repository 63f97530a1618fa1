/**
 * Work of devices and of the firmware that is done whole or not at all. It changes devices, guest memory, interrupt
 * lines, and what the host hears. When the pool has no frame for the rest of it, all of that is taken back, and the
 * work is done again when there is room.
 *
 * While the pool has room for whatever one piece of work may write, this costs nothing. Below that it costs a record of
 * the devices each time, and a copy of what is written.
 */

import type { Device } from '../devices/device.ts';
import type { HartField } from '../hart/state.ts';
import { PAGE } from '../memory/layout.ts';
import type { Machine } from './machine.ts';

/** Frames that one piece of work may need: a page for each descriptor that a virtio device serves, and more. */
const ROOM = 20_000;
/** What devices change of harts. */
const LINES = ['mip', 'seipLine', 'reservation'] as const satisfies readonly HartField[];

interface Work {
  /** Guest memory as it was, in the order in which it was written. */
  readonly written: { readonly address: number; readonly bytes: Uint8Array }[];
  /** What the host is told when all is done. */
  readonly told: (() => void)[];
}

export class Undo {
  private readonly machine: Machine;
  private work: Work | undefined;

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** Whether work may fail for want of frames: else there is no need for `whole`. */
  get needed(): boolean {
    return this.machine.engine.pool.available < ROOM;
  }

  /** Does work in which some devices and the interrupt controller take part. If it throws, nothing has happened. */
  whole<T>(devices: readonly Device[], work: () => T): T {
    if (!this.needed || this.work) return work();
    const { hartSet, harts, platform } = this.machine;
    const changed = [...devices, platform.plic];
    const records = changed.map((device) => device.save());
    const lines = Array.from({ length: harts }, (_, hart) => LINES.map((field) => hartSet.get(hart, field)));
    const { reader } = platform.uart;
    const under: Work = { written: [], told: [] };
    this.work = under;
    let done: T;
    try {
      done = work();
    } catch (error) {
      this.work = undefined;
      for (const { address, bytes } of under.written.reverse()) this.machine.ram.write(address, bytes);
      for (const [n, device] of changed.entries()) device.restore(records[n]);
      for (const [hart, values] of lines.entries())
        for (const [n, field] of LINES.entries()) hartSet.set(hart, field, values[n]!);
      platform.uart.reader = reader;
      throw error;
    }
    this.work = undefined;
    for (const tell of under.told) tell();
    return done;
  }

  /** Writes to guest memory, page by page, so that each page that has been written can be again. */
  write(address: number, bytes: Uint8Array): boolean {
    const { ram } = this.machine;
    if (!this.work) return ram.write(address, bytes);
    if (!ram.contains(address, bytes.length)) return false;
    for (let from = 0; from < bytes.length; ) {
      const part = bytes.subarray(from, from + PAGE - ((address + from) % PAGE));
      const before = new Uint8Array(part.length);
      ram.read(address + from, before);
      ram.write(address + from, part);
      this.work.written.push({ address: address + from, bytes: before });
      from += part.length;
    }
    return true;
  }

  /** Tells the host something: when the work under way is done, if there is one. */
  tell(call: () => void): void {
    if (this.work) this.work.told.push(call);
    else call();
  }
}

/** A virtio-mmio slot without a device: it says that it is one, with device id 0 (OASIS virtio 1.2, 4.2.2.2). */

import type { Device } from '../device.ts';

const REGISTERS: ReadonlyMap<number, number> = new Map([
  [0x000, 0x74726976],
  [0x004, 2],
]);

export class EmptySlot implements Device<undefined> {
  read(offset: number, size: number): number {
    return size === 4 ? (REGISTERS.get(offset) ?? 0) : 0;
  }
  write(): void {}
  deadline(): undefined {}
  advance(): undefined {}
  reset(): void {}
  save(): undefined {}
  restore(): void {}
}

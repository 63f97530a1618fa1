/** The bus: which device answers at a guest-physical address. */

import type { AccessSize, Device } from '../devices/device.ts';

export interface Window {
  readonly base: number;
  readonly size: number;
  readonly device: Device;
}

export class Bus {
  private readonly windows: readonly Window[];
  /** The window of the last access: the next one is likely to be there as well. */
  private last: Window | undefined;
  /** The words of the last read. */
  low = 0;
  high = 0;

  /** Windows do not overlap. */
  constructor(windows: readonly Window[]) {
    this.windows = [...windows].sort((a, b) => a.base - b.base);
  }

  /** The window that holds the whole aligned access, or undefined. */
  private find(address: number, size: number): Window | undefined {
    if (address % size !== 0) return undefined;
    const { last } = this;
    if (last && address >= last.base && address + size <= last.base + last.size) return last;
    for (const window of this.windows) {
      if (address < window.base) return undefined;
      if (address + size > window.base + window.size) continue;
      this.last = window;
      return window;
    }
    return undefined;
  }

  /** The device that answers there, if there is one. */
  devicesAt(address: number, size: number): readonly Device[] {
    const window = this.find(address, size);
    return window ? [window.device] : [];
  }

  /** Reads `size` bytes to `low` and `high`; false when no device answers. */
  read(address: number, size: number): boolean {
    const window = this.find(address, size);
    if (!window) return false;
    const { base, device } = window;
    const offset = address - base;
    this.low = device.read(offset, size < 8 ? (size as AccessSize) : 4) >>> 0;
    this.high = size < 8 ? 0 : device.read(offset + 4, 4) >>> 0;
    return true;
  }

  /** Whether the device is due at another time than before; undefined when no device answers. */
  write(address: number, size: number, low: number, high: number): boolean | undefined {
    const window = this.find(address, size);
    if (!window) return undefined;
    const { base, device } = window;
    const offset = address - base;
    const due = device.deadline();
    if (size === 8) {
      device.write(offset, 4, low);
      device.write(offset + 4, 4, high);
    } else {
      device.write(offset, size as AccessSize, size === 4 ? low : low & ((1 << (8 * size)) - 1));
    }
    return device.deadline() !== due;
  }
}

/** The bus: which device answers at a guest-physical address. */

import type { AccessSize, Device } from '../devices/device.ts';

export interface Window {
  readonly base: number;
  readonly size: number;
  readonly device: Device;
}

export class Bus {
  private readonly windows: readonly Window[];

  /** Windows do not overlap. */
  constructor(windows: readonly Window[]) {
    this.windows = [...windows].sort((a, b) => a.base - b.base);
  }

  /** The window that holds the whole aligned access, or undefined. */
  find(address: number, size: number): Window | undefined {
    if (address % size !== 0) return undefined;
    for (const window of this.windows) {
      if (address < window.base) return undefined;
      if (address + size <= window.base + window.size) return window;
    }
    return undefined;
  }

  /** Reads `size` bytes as low and high word; undefined when nobody answers. */
  read(address: number, size: number): readonly [number, number] | undefined {
    const window = this.find(address, size);
    if (!window) return undefined;
    const offset = address - window.base;
    if (size < 8) return [window.device.read(offset, size as AccessSize) >>> 0, 0];
    return [window.device.read(offset, 4) >>> 0, window.device.read(offset + 4, 4) >>> 0];
  }

  write(address: number, size: number, low: number, high: number): boolean {
    const window = this.find(address, size);
    if (!window) return false;
    const offset = address - window.base;
    if (size === 8) {
      window.device.write(offset, 4, low);
      window.device.write(offset + 4, 4, high);
    } else {
      window.device.write(offset, size as AccessSize, size === 4 ? low : low & ((1 << (8 * size)) - 1));
    }
    return true;
  }
}

/** What tests of devices stand on: guest memory in an array, a clock that tests move, an interrupt line that they look at. */

import { type Device, type DeviceContext, type DmaMemory, StateError } from './device.ts';

/** Guest memory at `base`, with a count of accesses that tried to leave it. */
export class TestMemory implements DmaMemory {
  readonly base: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(length: number, base = 0x8000_0000) {
    this.base = base;
    this.bytes = new Uint8Array(length);
    this.view = new DataView(this.bytes.buffer);
  }

  contains(address: number, length: number): boolean {
    return address >= this.base && length >= 0 && address + length <= this.base + this.bytes.length;
  }

  read(address: number, into: Uint8Array): boolean {
    if (!this.contains(address, into.length)) return false;
    const at = address - this.base;
    into.set(this.bytes.subarray(at, at + into.length));
    return true;
  }

  write(address: number, bytes: Uint8Array): boolean {
    if (!this.contains(address, bytes.length)) return false;
    this.bytes.set(bytes, address - this.base);
    return true;
  }
}

/** A device context whose time and interrupt line tests see and move. */
export class TestContext implements DeviceContext {
  readonly memory: TestMemory;
  time = 0n;
  line = false;
  /** How often the line went from low to high. */
  rises = 0;

  constructor(memory = new TestMemory(0)) {
    this.memory = memory;
  }

  now(): bigint {
    return this.time;
  }

  interrupt(level: boolean): void {
    if (level && !this.line) this.rises += 1;
    this.line = level;
  }
}

/** Reads a 32-bit register. */
export function read32(device: Device, offset: number): number {
  return device.read(offset, 4);
}

/** Writes a 32-bit register. */
export function write32(device: Device, offset: number, value: number): void {
  device.write(offset, 4, value >>> 0);
}

/** Whether two records hold the same. */
export function same(a: unknown, b: unknown): boolean {
  if (typeof a !== 'object' || a === null || typeof b !== 'object' || b === null) return Object.is(a, b);
  if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
  const before = new Map(Object.entries(a));
  const after = Object.entries(b);
  return (
    before.size === after.length && after.every(([name, value]) => before.has(name) && same(before.get(name), value))
  );
}

/** Saves `from`, sends the record through a structured clone as a host would, and restores it into `into`. */
export function transplant(from: Device, into: Device): void {
  const record = from.save();
  into.restore(structuredClone(record));
  if (!same(into.save(), record)) throw new Error('a restored device saves something else');
}

/**
 * Damages a good record of `device` in every place where it can be damaged; throws unless each is refused by a `StateError` and
 * the device keeps its state. Fields where all values of one type are good still refuse other types.
 */
export function assertStrict(device: Device): void {
  const good = device.save();
  const refused = (record: unknown, what: string) => {
    let complaint: unknown;
    try {
      device.restore(record);
    } catch (error) {
      complaint = error;
    }
    if (!(complaint instanceof StateError)) throw new Error(`a record with ${what}: ${complaint ?? 'accepted'}`);
    if (!same(device.save(), good)) throw new Error(`a refused record with ${what} changed the device`);
  };
  for (const nothing of [undefined, null, 7, 'state', [], new Uint8Array(4), {}])
    refused(nothing, `${nothing} as a whole`);
  const damage = (path: readonly string[], value: unknown) => {
    const put = (replacement: unknown, what: string) => {
      const copy = structuredClone(good) as Record<string, unknown>;
      let holder = copy;
      for (const step of path.slice(0, -1)) holder = holder[step] as Record<string, unknown>;
      holder[path.at(-1) as string] = replacement;
      refused(copy, `${path.join('.')} = ${what}`);
    };
    const wrongs = [undefined, null, 'text', Number.NaN, 0.5, -1, 1e300, -1n, 1n << 70n, { a: 1 }, new Map()];
    for (const wrong of wrongs) put(wrong, `${wrong}`);
    if (typeof value === 'boolean') put(1, '1');
    if (value instanceof Uint8Array) {
      put([...value], 'an array of numbers');
    } else if (Array.isArray(value)) {
      put(new Array(100_000).fill(value[0]), 'too many items');
      for (const [index, item] of value.entries()) damage([...path, `${index}`], item);
    } else if (typeof value === 'object' && value !== null) {
      put({ ...value, stowaway: 1 }, 'an unknown field');
      for (const [name, item] of Object.entries(value)) {
        put(Object.fromEntries(Object.entries(value).filter(([other]) => other !== name)), `no ${name}`);
        damage([...path, name], item);
      }
    }
  };
  refused({ ...(good as object), stowaway: 1 }, 'an unknown field');
  for (const [name, value] of Object.entries(good as object)) damage([name], value);
}

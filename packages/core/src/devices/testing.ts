/** What tests of devices stand on: guest memory in an array, a clock that tests move, an interrupt line that they look at. */

import { StateError } from '../state/errors.ts';
import type { Device, DeviceContext, DmaMemory } from './device.ts';

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
  /** Units of work so far. */
  work = 0;

  constructor(memory = new TestMemory(0)) {
    this.memory = memory;
  }

  now(): bigint {
    return this.time;
  }

  /** How often the device reported its line's level. */
  reports = 0;

  interrupt(level: boolean): void {
    this.reports += 1;
    if (level && !this.line) this.rises += 1;
    this.line = level;
  }

  worked(units: number): void {
    this.work += units;
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
  if (a instanceof Uint8Array && b instanceof Uint8Array) {
    return a.length === b.length && a.every((byte, index) => byte === b[index]);
  }
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

/** A buffer of a chain: bytes for the device to read, or room (in bytes) for it to write. */
export type TestBuffer = Uint8Array | number;

interface TestQueue {
  readonly base: number;
  readonly size: number;
  nextDescriptor: number;
  seenUsed: number;
}

/** Bytes of memory that a `TestDriver` lays its queues out in; buffers come after. */
const QUEUE_STRIDE = 0x3000;
const AVAILABLE = 0x1000;
const USED = 0x2000;

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** A small virtio driver for tests: queues at the start of memory, buffers after them, no care for running out of either. */
export class TestDriver {
  readonly device: Device;
  readonly memory: TestMemory;
  readonly queues: TestQueue[] = [];
  #heap: number;

  constructor(device: Device, memory: TestMemory, sizes: readonly number[]) {
    this.device = device;
    this.memory = memory;
    for (const [index, size] of sizes.entries()) {
      this.queues.push({ base: memory.base + QUEUE_STRIDE * index, size, nextDescriptor: 0, seenUsed: 0 });
    }
    this.#heap = memory.base + QUEUE_STRIDE * sizes.length;
  }

  /** The features that the device offers. */
  offered(): bigint {
    write32(this.device, 0x14, 0);
    const low = BigInt(read32(this.device, 0x10));
    write32(this.device, 0x14, 1);
    return (BigInt(read32(this.device, 0x10)) << 32n) | low;
  }

  /** Resets the device, agrees on features and sets queues up, as section 3.1 of the specification says, up to DRIVER_OK. */
  start(features: bigint = this.offered(), upTo = 0x0f): void {
    const { device } = this;
    write32(device, 0x70, 0);
    write32(device, 0x70, 3);
    write32(device, 0x24, 0);
    write32(device, 0x20, Number(features & 0xffff_ffffn));
    write32(device, 0x24, 1);
    write32(device, 0x20, Number(features >> 32n));
    write32(device, 0x70, 0x0b);
    for (const index of this.queues.keys()) this.setUp(index);
    if (upTo === 0x0f) write32(device, 0x70, 0x0f);
  }

  /** Clears a queue's memory and makes the queue ready. */
  setUp(index: number): void {
    const { device } = this;
    const queue = this.queues[index] as TestQueue;
    queue.nextDescriptor = 0;
    queue.seenUsed = 0;
    this.memory.write(queue.base, new Uint8Array(QUEUE_STRIDE));
    write32(device, 0x30, index);
    write32(device, 0x38, queue.size);
    for (const [register, offset] of [
      [0x80, 0],
      [0x90, AVAILABLE],
      [0xa0, USED],
    ] as const) {
      write32(device, register, queue.base + offset);
      write32(device, register + 4, 0);
    }
    write32(device, 0x44, 1);
  }

  /** Puts bytes, or room for them, somewhere in memory; returns the address. */
  place(buffer: TestBuffer): number {
    const length = typeof buffer === 'number' ? buffer : buffer.length;
    const address = this.#heap;
    this.#heap += (length + 15) & ~15;
    const bytes = typeof buffer === 'number' ? new Uint8Array(length) : buffer;
    if (!this.memory.write(address, bytes)) throw new Error('the test needs more memory');
    return address;
  }

  /** Writes one descriptor. */
  describe(table: number, index: number, address: number, length: number, flags: number, next = 0): void {
    const at = table - this.memory.base + 16 * index;
    const { view } = this.memory;
    view.setBigUint64(at, BigInt(address), true);
    view.setUint32(at + 8, length, true);
    view.setUint16(at + 12, flags, true);
    view.setUint16(at + 14, next, true);
  }

  /** Makes a chain of buffers available; returns its head and the addresses of its buffers. */
  add(index: number, buffers: readonly TestBuffer[], indirect = false): { head: number; addresses: number[] } {
    const queue = this.queues[index] as TestQueue;
    const addresses = buffers.map((buffer) => this.place(buffer));
    const take = () => {
      const descriptor = queue.nextDescriptor;
      queue.nextDescriptor = (queue.nextDescriptor + 1) % queue.size;
      return descriptor;
    };
    const head = take();
    const table = indirect ? this.place(16 * buffers.length) : queue.base;
    if (indirect) this.describe(queue.base, head, table, 16 * buffers.length, INDIRECT);
    let at = indirect ? 0 : head;
    for (const [number, buffer] of buffers.entries()) {
      const last = number === buffers.length - 1;
      const next = last ? 0 : indirect ? at + 1 : take();
      const room = typeof buffer === 'number';
      const flags = (room ? WRITE : 0) | (last ? 0 : NEXT);
      this.describe(table, at, addresses[number] as number, room ? buffer : buffer.length, flags, next);
      at = next;
    }
    this.offer(index, head);
    return { head, addresses };
  }

  /** Appends a head to the available ring. */
  offer(index: number, head: number): void {
    const queue = this.queues[index] as TestQueue;
    const ring = queue.base - this.memory.base + AVAILABLE;
    const at = this.memory.view.getUint16(ring + 2, true);
    this.memory.view.setUint16(ring + 4 + 2 * (at % queue.size), head, true);
    this.memory.view.setUint16(ring + 2, at + 1, true);
  }

  kick(index: number): void {
    write32(this.device, 0x50, index);
  }

  /** What the device has given back since the last call. */
  used(index: number): { head: number; length: number }[] {
    const queue = this.queues[index] as TestQueue;
    const ring = queue.base - this.memory.base + USED;
    const entries = [];
    while (queue.seenUsed !== this.memory.view.getUint16(ring + 2, true)) {
      const at = ring + 4 + 8 * (queue.seenUsed % queue.size);
      entries.push({ head: this.memory.view.getUint32(at, true), length: this.memory.view.getUint32(at + 4, true) });
      queue.seenUsed = (queue.seenUsed + 1) & 0xffff;
    }
    return entries;
  }

  /** Fields of the rings by name, to read and to write. */
  ring(index: number): { flags: number; usedEvent: number; availEvent: number; availableIndex: number } {
    const { base, size } = this.queues[index] as TestQueue;
    const { view } = this.memory;
    const start = base - this.memory.base;
    const fields = {
      flags: start + AVAILABLE,
      availableIndex: start + AVAILABLE + 2,
      usedEvent: start + AVAILABLE + 4 + 2 * size,
      availEvent: start + USED + 4 + 8 * size,
    };
    const ring = {};
    for (const [name, at] of Object.entries(fields)) {
      Object.defineProperty(ring, name, {
        get: () => view.getUint16(at, true),
        set: (value: number) => view.setUint16(at, value, true),
      });
    }
    return ring as ReturnType<TestDriver['ring']>;
  }

  /** Copies memory at an address that `place` or `add` gave. */
  bytes(address: number, length: number): Uint8Array {
    const at = address - this.memory.base;
    return this.memory.bytes.slice(at, at + length);
  }

  get status(): number {
    return read32(this.device, 0x70);
  }

  /** Reads and acknowledges the interrupt status. */
  acknowledge(): number {
    const causes = read32(this.device, 0x60);
    write32(this.device, 0x64, causes);
    return causes;
  }
}

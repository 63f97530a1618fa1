/**
 * A split virtqueue as the device sees it (OASIS virtio 1.2, section 2.7).
 *
 *   descriptor table, 16 bytes an entry     available ring (driver area)    used ring (device area)
 *   +0   address                            +0        flags                 +0        flags
 *   +8   length                             +2        index                 +2        index
 *   +12  flags                              +4        ring of heads         +4        ring of {head u32, length u32}
 *   +14  next                               +4+2*size used_event            +4+8*size avail_event
 *
 * Everything in those areas may be garbage: the driver is not trusted. Whatever breaks a rule ends in a `DriverError`, which the
 * transport turns into DEVICE_NEEDS_RESET. Nothing outside RAM is touched, and the walk of one chain is bounded.
 */

import type { DmaMemory } from '../device.ts';
import type { QueueState } from './state.ts';

const DESCRIPTOR_SIZE = 16;

/** Descriptor flags. */
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** Available ring flag: the driver polls and wants no interrupts. */
const NO_INTERRUPT = 1;

/** The driver broke a rule of the specification; the message says which. */
export class DriverError extends Error {}

/** A piece of RAM that a descriptor refers to. */
export interface Segment {
  readonly address: number;
  readonly length: number;
}

/** Buffers that the driver made available together. */
export interface Chain {
  /** Index of the first descriptor, by which the driver knows the chain. */
  readonly head: number;
  /** What the device may read, in order, and the sum of its lengths. */
  readonly readable: readonly Segment[];
  readonly readableLength: number;
  /** What the device may write. */
  readonly writable: readonly Segment[];
  readonly writableLength: number;
  /** How many descriptors it was made of. */
  readonly descriptors: number;
}

/** What is being read or written at the moment; nothing is kept there. */
const ENTRY = new Uint8Array(DESCRIPTOR_SIZE);
const VIEW = new DataView(ENTRY.buffer);

/** Why a queue cannot work with its present size and addresses, or undefined when it can. */
export function queueFault(
  memory: DmaMemory,
  maximum: number,
  { size, descriptors, driver, device }: QueueState,
): string | undefined {
  // Section 2.7: a power of two; section 2.7.5 and following give alignments.
  if (size === 0 || (size & (size - 1)) !== 0 || size > maximum) return `a queue of ${size} entries`;
  const misplaced = (address: bigint, alignment: bigint, length: number) =>
    address % alignment !== 0n || !memory.contains(Number(address), length);
  if (misplaced(descriptors, 16n, DESCRIPTOR_SIZE * size))
    return 'a descriptor table that is misaligned or outside RAM';
  if (misplaced(driver, 2n, 6 + 2 * size)) return 'an available ring that is misaligned or outside RAM';
  if (misplaced(device, 4n, 6 + 8 * size)) return 'a used ring that is misaligned or outside RAM';
  return undefined;
}

export class Virtqueue {
  /** The largest size that the driver may choose; also the most descriptors of a chain with an indirect table. */
  readonly maximum: number;
  readonly state: QueueState;
  readonly #memory: DmaMemory;
  /** Something was taken or given back since the last `settle`; false whenever the machine can be saved. */
  #touched = false;

  /** `state` is the part of the device's state that belongs to this queue; it is changed in place. */
  constructor(memory: DmaMemory, maximum: number, state: QueueState) {
    this.#memory = memory;
    this.maximum = maximum;
    this.state = state;
  }

  /** Whether the driver has made chains available that were not taken. */
  get waits(): boolean {
    const { ready, driver, nextAvailable } = this.state;
    return ready && this.#read16(Number(driver) + 2) !== nextAvailable;
  }

  /** Takes the next chain, or undefined when the driver has made none available (or the queue does not work). */
  pop(indirect: boolean): Chain | undefined {
    const { state } = this;
    if (!state.ready) return undefined;
    const driver = Number(state.driver);
    const waiting = (this.#read16(driver + 2) - state.nextAvailable) & 0xffff;
    if (waiting === 0) return undefined;
    // No more chains than entries can be under way. This also bounds what a device has to remember.
    if (waiting + state.outstanding > state.size)
      throw new DriverError('more chains available than the queue has entries');
    const head = this.#read16(driver + 4 + 2 * (state.nextAvailable % state.size));
    const chain = this.#walk(head, indirect);
    state.nextAvailable = (state.nextAvailable + 1) & 0xffff;
    state.outstanding += 1;
    this.#touched = true;
    return chain;
  }

  /** Gives a chain back; `written` is how many bytes of its writable part, from its start, the device has written. */
  push(head: number, written: number): void {
    const { state } = this;
    const device = Number(state.device);
    VIEW.setUint32(0, head, true);
    VIEW.setUint32(4, written, true);
    this.#write(device + 4 + 8 * (state.nextUsed % state.size), ENTRY.subarray(0, 8));
    state.nextUsed = (state.nextUsed + 1) & 0xffff;
    state.outstanding -= 1;
    // The index after the entry: a driver that polls sees complete entries only.
    this.#write16(device + 2, state.nextUsed);
    this.#touched = true;
  }

  /** After a batch: tells the driver where the device stands; true when the driver wants an interrupt for it. */
  settle(eventIndex: boolean): boolean {
    if (!this.#touched) return false;
    this.#touched = false;
    const { state } = this;
    const driver = Number(state.driver);
    const before = state.signalled;
    state.signalled = state.nextUsed;
    if (!eventIndex) return before !== state.nextUsed && (this.#read16(driver) & NO_INTERRUPT) === 0;
    // Section 2.7.10: notify me of the next chain; and section 2.7.7: interrupt if the used index passed used_event.
    this.#write16(Number(state.device) + 4 + 8 * state.size, state.nextAvailable);
    const wanted = this.#read16(driver + 4 + 2 * state.size);
    return ((state.nextUsed - wanted - 1) & 0xffff) < ((state.nextUsed - before) & 0xffff);
  }

  /** Has the pages of the used ring written to: where the host has no room for one, this throws and nothing else has happened. */
  makeRoom(): void {
    const { ready, device, size } = this.state;
    if (!ready) return;
    const used = new Uint8Array(6 + 8 * size);
    if (this.#memory.read(Number(device), used)) this.#memory.write(Number(device), used);
  }

  /** Back to a queue that is not set up. */
  reset(): void {
    this.#touched = false;
    Object.assign(this.state, initialQueue());
  }

  /** Follows a chain from its head, through at most one indirect table at its end (section 2.7.5.3). */
  #walk(head: number, indirectAllowed: boolean): Chain {
    const readable: Segment[] = [];
    const writable: Segment[] = [];
    let readableLength = 0;
    let writableLength = 0;
    let table = Number(this.state.descriptors);
    let entries = this.state.size;
    let inIndirect = false;
    let index = head;
    for (let count = 1; ; count++) {
      if (index >= entries) throw new DriverError(`descriptor ${index} of a table of ${entries}`);
      // More descriptors than there can be: a loop. Drivers may use longer indirect tables than a ring that they made small.
      if (count > (inIndirect ? this.maximum + 1 : this.state.size)) throw new DriverError('a chain that does not end');
      if (!this.#memory.read(table + DESCRIPTOR_SIZE * index, ENTRY)) {
        throw new DriverError('a descriptor outside RAM');
      }
      const address = VIEW.getUint32(0, true) + 2 ** 32 * VIEW.getUint32(4, true);
      const length = VIEW.getUint32(8, true);
      const flags = VIEW.getUint16(12, true);
      const next = VIEW.getUint16(14, true);
      if ((flags & INDIRECT) !== 0) {
        if (!indirectAllowed) throw new DriverError('an indirect descriptor without the feature');
        if (inIndirect) throw new DriverError('an indirect table inside an indirect table');
        if ((flags & NEXT) !== 0) throw new DriverError('an indirect descriptor that is not the last');
        if (length === 0 || length % DESCRIPTOR_SIZE !== 0)
          throw new DriverError(`an indirect table of ${length} bytes`);
        if (!this.#memory.contains(address, length)) throw new DriverError('an indirect table outside RAM');
        table = address;
        entries = length / DESCRIPTOR_SIZE;
        index = 0;
        inIndirect = true;
        continue;
      }
      if (length > 0 && !this.#memory.contains(address, length)) throw new DriverError('a buffer outside RAM');
      if ((flags & WRITE) !== 0) {
        if (length > 0) writable.push({ address, length });
        writableLength += length;
      } else {
        if (writable.length > 0) throw new DriverError('a readable buffer after a writable one');
        if (length > 0) readable.push({ address, length });
        readableLength += length;
      }
      // Section 2.7.4: no chain is longer than 2^32 bytes in total.
      if (readableLength + writableLength > 2 ** 32 - 1) throw new DriverError('a chain of more than 4 GiB');
      if ((flags & NEXT) === 0) {
        return { head, readable, readableLength, writable, writableLength, descriptors: count };
      }
      index = next;
    }
  }

  #read16(address: number): number {
    const bytes = ENTRY.subarray(0, 2);
    if (!this.#memory.read(address, bytes)) throw new DriverError('a queue outside RAM');
    return VIEW.getUint16(0, true);
  }

  #write16(address: number, value: number): void {
    VIEW.setUint16(0, value, true);
    this.#write(address, ENTRY.subarray(0, 2));
  }

  #write(address: number, bytes: Uint8Array): void {
    if (!this.#memory.write(address, bytes)) throw new DriverError('a queue outside RAM');
  }
}

/** The part of `segments` that begins `from` bytes in and is at most `length` bytes long. */
export function slice(segments: readonly Segment[], from: number, length: number): Segment[] {
  const part: Segment[] = [];
  let skip = from;
  let left = length;
  for (const segment of segments) {
    const taken = Math.min(segment.length - skip, left);
    if (taken > 0) {
      part.push({ address: segment.address + skip, length: taken });
      left -= taken;
    }
    skip = Math.max(0, skip - segment.length);
  }
  return part;
}

/** The sum of the lengths. */
export function lengthOf(segments: readonly Segment[]): number {
  return segments.reduce((sum, { length }) => sum + length, 0);
}

/** Copies all of `segments` out of RAM. Their lengths must have been bounded before. */
export function gather(memory: DmaMemory, segments: readonly Segment[]): Uint8Array {
  const bytes = new Uint8Array(lengthOf(segments));
  let at = 0;
  for (const { address, length } of segments) {
    if (!memory.read(address, bytes.subarray(at, at + length))) throw new DriverError('a buffer outside RAM');
    at += length;
  }
  return bytes;
}

/** Copies `bytes` into RAM, into `segments` one after the other; returns how many bytes there was room for. */
export function scatter(memory: DmaMemory, segments: readonly Segment[], bytes: Uint8Array): number {
  let at = 0;
  for (const { address, length } of segments) {
    const piece = bytes.subarray(at, at + length);
    if (piece.length === 0) break;
    if (!memory.write(address, piece)) throw new DriverError('a buffer outside RAM');
    at += piece.length;
  }
  return at;
}

/** A queue that is not set up. */
export function initialQueue(): QueueState {
  return {
    size: 0,
    ready: false,
    descriptors: 0n,
    driver: 0n,
    device: 0n,
    nextAvailable: 0,
    nextUsed: 0,
    signalled: 0,
    outstanding: 0,
  };
}

/**
 * What every device is made of.
 *
 * A device lives in a folder of its own with three files: `device.ts` (behaviour), `state.ts` (a plain, versioned record, its
 * initial value and the check of a record from outside) and `device.test.ts`. A device knows its registers, guest memory, one
 * interrupt line and guest time; it never sees the host's clock.
 */

/** Guest-physical memory as a device reaches it by DMA. Addresses and lengths are integers of guest-physical bytes. */
export interface DmaMemory {
  /** Whether `[address, address + length)` lies wholly in RAM. */
  contains(address: number, length: number): boolean;
  /** Fills `into` from RAM; false, and nothing read, when any byte lies outside RAM. */
  read(address: number, into: Uint8Array): boolean;
  /** Writes through the machine's traced write; false, and nothing written, when any byte lies outside RAM. */
  write(address: number, bytes: Uint8Array): boolean;
}

/** What the machine gives to a device. */
export interface DeviceContext {
  readonly memory: DmaMemory;
  /** Guest time in nanoseconds since power-on; never decreases. */
  now(): bigint;
  /**
   * Reports the level of the device's interrupt line. Each report of a high level can make a request, so a device
   * reports where it looks at its causes anew, and nowhere else (docs/devices.md).
   */
  interrupt(level: boolean): void;
  /** The host has done so many units of work for the guest, about a nanosecond each. */
  worked(units: number): void;
}

/**
 * Deadlines from here on (18 years of guest time) are none: "never" is written as a time that will not come. Guest time as steps, up
 * to 16 a nanosecond, has 64 bits in the engine, so a machine may run as long again behind the last deadline.
 */
export const END_OF_TIME = 1n << 59n;

/** Sizes of a register access in bytes; the bus splits wider ones, low half first. */
export type AccessSize = 1 | 2 | 4;

/** A device on the bus. `State` is plain data: numbers, bigints, strings, booleans, Uint8Array, arrays and records of those. */
export interface Device<State = unknown> {
  /** Reads a register at a byte offset into the device's window; an unsigned 32-bit number. Unknown registers read 0. */
  read(offset: number, size: AccessSize): number;
  /** Writes a register; writes to unknown ones are ignored. */
  write(offset: number, size: AccessSize, value: number): void;
  /** Guest time of the next thing that the device does by itself, if any. No read of a register changes it, and no other device. */
  deadline(): bigint | undefined;
  /**
   * Does everything that is due at guest time `now`. A promise means that the host's data is late: the machine stands still,
   * unseen by the guest, until it settles, and calls `advance` again.
   */
  advance(now: bigint): Promise<void> | undefined;
  /** Back to the state after power-on. */
  reset(): void;
  save(): State;
  /** Takes a record that `save` made; throws `StateError` for one that it cannot have made. */
  restore(state: unknown): void;
}

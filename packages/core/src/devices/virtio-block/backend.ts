/** What a virtual disk stands on. */

/**
 * The content of a disk. A method may answer at once or through a promise; one that throws or rejects makes the guest see an I/O
 * error, unless the error's code is `ERR_BRAID_POOL_FULL`: then the machine stands still, and the call is made again. The device calls one method at a time and waits for its end, at guest times that do not depend on the host.
 */
export interface BlockBackend {
  /** Bytes. The guest sees whole sectors of 512 bytes; it never changes. */
  readonly size: bigint;
  /** Whether the guest is told that it may not write. */
  readonly readOnly: boolean;
  /** Whether it has only a part of the disk, which is what the guest will ask for: nobody else is to read it. */
  readonly partial?: boolean;
  /** Fills `into` from `offset`; both are within the disk. */
  read(offset: number, into: Uint8Array): void | Promise<void>;
  /** Writes at `offset`. The array stays as it is until the answer, and is not to be kept afterwards. */
  write(offset: number, bytes: Uint8Array): void | Promise<void>;
  /** Makes all that was written durable. */
  flush(): void | Promise<void>;
  /** The range is not needed any more. It must read as zeroes afterwards, so that all backends give the guest the same disk. */
  discard?(offset: number, length: number): void | Promise<void>;
  /** Makes the range read as zeroes; without it zeroes are written. */
  zero?(offset: number, length: number): void | Promise<void>;
  /** The range will be read soon: time to fetch what is far away. Only a hint. */
  prefetch?(offset: number, length: number): void;
  /** The machine is gone: gives back what the disk holds of the machine's pool. */
  release?(): void;
}

/** A disk in an array. */
export class MemoryBackend implements BlockBackend {
  readonly bytes: Uint8Array;
  readonly readOnly: boolean;

  /** The disk is `bytes` itself, not a copy. */
  constructor(bytes: Uint8Array, readOnly = false) {
    this.bytes = bytes;
    this.readOnly = readOnly;
  }

  get size(): bigint {
    return BigInt(this.bytes.length);
  }

  read(offset: number, into: Uint8Array): void {
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  write(offset: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, offset);
  }

  flush(): void {}

  zero(offset: number, length: number): void {
    this.bytes.fill(0, offset, offset + length);
  }
}

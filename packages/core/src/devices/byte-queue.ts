/** A bounded first-in first-out queue of bytes. Memory grows with what is queued, up to the capacity. */
export class ByteQueue {
  readonly capacity: number;
  #ring = new Uint8Array(64);
  #first = 0;
  #length = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get length(): number {
    return this.#length;
  }

  /** How many more bytes would be accepted. */
  get room(): number {
    return this.capacity - this.#length;
  }

  /** Appends as many of `bytes` as there is room for; returns how many that were. */
  push(bytes: Uint8Array): number {
    const accepted = Math.min(bytes.length, this.room);
    if (accepted === 0) return 0;
    this.#grow(this.#length + accepted);
    const at = (this.#first + this.#length) % this.#ring.length;
    const untilWrap = Math.min(accepted, this.#ring.length - at);
    this.#ring.set(bytes.subarray(0, untilWrap), at);
    this.#ring.set(bytes.subarray(untilWrap, accepted), 0);
    this.#length += accepted;
    return accepted;
  }

  /** Appends one byte; false when there is no room. */
  pushByte(byte: number): boolean {
    if (this.room === 0) return false;
    this.#grow(this.#length + 1);
    this.#ring[(this.#first + this.#length) % this.#ring.length] = byte;
    this.#length += 1;
    return true;
  }

  /** Removes and returns the first byte, or undefined when the queue is empty. */
  shift(): number | undefined {
    if (this.#length === 0) return undefined;
    const byte = this.#ring[this.#first];
    this.drop(1);
    return byte;
  }

  /** A copy of the first `count` bytes, or of all when there are fewer; they stay. */
  peek(count: number = this.#length): Uint8Array {
    const bytes = new Uint8Array(Math.min(count, this.#length));
    const untilWrap = Math.min(bytes.length, this.#ring.length - this.#first);
    bytes.set(this.#ring.subarray(this.#first, this.#first + untilWrap));
    bytes.set(this.#ring.subarray(0, bytes.length - untilWrap), untilWrap);
    return bytes;
  }

  /** Removes the first `count` bytes, or all when there are fewer. */
  drop(count: number): void {
    const dropped = Math.min(count, this.#length);
    this.#first = (this.#first + dropped) % this.#ring.length;
    this.#length -= dropped;
  }

  clear(): void {
    this.#first = 0;
    this.#length = 0;
  }

  /** Replaces the contents by `bytes`, which must fit. */
  load(bytes: Uint8Array): void {
    this.clear();
    this.push(bytes);
  }

  #grow(length: number): void {
    if (length <= this.#ring.length) return;
    let size = this.#ring.length;
    while (size < length) size *= 2;
    const ring = new Uint8Array(size);
    ring.set(this.peek());
    this.#ring = ring;
    this.#first = 0;
  }
}

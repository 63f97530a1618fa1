/**
 * Numbers as few bytes: seven bits each, the lowest first, the top bit set in all but the last (LEB128). The reader takes bytes from
 * outside: it is bounded and throws `StateError`.
 */

import { StateError } from '../../state/errors.ts';

const MAX_U64 = (1n << 64n) - 1n;

export class ByteWriter {
  private bytes = new Uint8Array(512);
  length = 0;

  private room(count: number): number {
    const at = this.length;
    if (at + count > this.bytes.length) {
      const bigger = new Uint8Array(Math.max(2 * this.bytes.length, at + count));
      bigger.set(this.bytes.subarray(0, at));
      this.bytes = bigger;
    }
    this.length += count;
    return at;
  }

  u8(value: number): void {
    const at = this.room(1);
    this.bytes[at] = value;
  }

  /** A whole number from 0 to 2^53 - 1. */
  number(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no number of a recording`);
    let left = value;
    while (left >= 0x80) {
      this.u8((left % 0x80) | 0x80);
      left = Math.floor(left / 0x80);
    }
    this.u8(left);
  }

  /** A whole number from 0 to 2^64 - 1. */
  wide(value: bigint): void {
    if (value < 0n || value > MAX_U64) throw new RangeError(`${value} is no number of 64 bits`);
    let left = value;
    for (; left > 0x1f_ffff_ffff_ffffn; left >>= 7n) this.u8(Number(left & 0x7fn) | 0x80);
    this.number(Number(left));
  }

  raw(bytes: Uint8Array): void {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  /** Bytes with their length before them. */
  sized(bytes: Uint8Array): void {
    this.number(bytes.length);
    this.raw(bytes);
  }

  /** Numbers that ascend, as the gaps between them. */
  ascending(values: Uint32Array): void {
    this.number(values.length);
    let next = 0;
    for (const value of values) {
      if (value < next) throw new RangeError(`${value} is not above the number before it`);
      this.number(value - next);
      next = value + 1;
    }
  }

  /** All of it, and an empty writer again. */
  take(): Uint8Array {
    const taken = this.bytes.slice(0, this.length);
    this.length = 0;
    return taken;
  }
}

export class ByteReader {
  private readonly bytes: Uint8Array;
  private at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get left(): number {
    return this.bytes.length - this.at;
  }

  fail(why: string): never {
    throw new StateError(`byte ${this.at} of the content`, why);
  }

  u8(): number {
    if (this.at === this.bytes.length) this.fail('the content ends early');
    return this.bytes[this.at++]!;
  }

  number(maximum = Number.MAX_SAFE_INTEGER): number {
    let value = 0;
    for (let scale = 1; ; scale *= 0x80) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (value > maximum) this.fail(`a number is larger than ${maximum}`);
      if (byte < 0x80) return value;
      if (scale > Number.MAX_SAFE_INTEGER / 0x80) this.fail('a number has too many bytes');
    }
  }

  wide(maximum = MAX_U64): bigint {
    let low = 0;
    let scale = 1;
    for (let count = 0; count < 7; count++) {
      const byte = this.u8();
      low += (byte & 0x7f) * scale;
      scale *= 0x80;
      if (byte < 0x80) return this.within(BigInt(low), maximum);
    }
    let value = BigInt(low);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return this.within(value, maximum);
    }
    return this.fail('a number has too many bytes');
  }

  private within(value: bigint, maximum: bigint): bigint {
    if (value > maximum) this.fail(`a number is larger than ${maximum}`);
    return value;
  }

  /** A view. */
  raw(count: number): Uint8Array {
    if (count > this.left) this.fail(`${count} bytes are named, ${this.left} are there`);
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  /** A view. */
  sized(maximum: number): Uint8Array {
    return this.raw(this.number(maximum));
  }

  /** Numbers that ascend, all below `limit`. */
  ascending(limit: number): Uint32Array {
    // Each has a byte at least.
    const values = new Uint32Array(this.number(Math.min(limit, this.left)));
    let next = 0;
    for (let i = 0; i < values.length; i++) {
      const value = next + this.number(limit - 1 - next);
      values[i] = value;
      next = value + 1;
    }
    return values;
  }

  end(): void {
    if (this.left !== 0) this.fail(`${this.left} bytes are left over`);
  }
}

/**
 * Packets of gdb's remote serial protocol, as bytes and back.
 *
 * ```text
 * $payload#cc     cc: the sum of the payload's bytes modulo 256, in hex
 * + -             the last packet has arrived whole, or has not
 * 0x03            interrupt
 *
 * in a payload    } x     the byte x ^ 0x20, for $ # } *
 *                 x * n   x, and n - 29 times more
 * ```
 *
 * Source: "Overview" of the appendix "gdb Remote Serial Protocol" in the manual of gdb.
 */

/** Bytes of a packet's payload, as `qSupported` says it. */
export const MAX_PACKET = 0x4000;

const DOLLAR = 0x24;
const HASH = 0x23;
const STAR = 0x2a;
const ESCAPE = 0x7d;
const PLUS = 0x2b;
const MINUS = 0x2d;
const INTERRUPT = 0x03;
const RUN_BASE = 29;
/** Fewer repeats than these are not worth a run. */
const MIN_REPEATS = 3;
const MAX_REPEATS = 126 - RUN_BASE;

/** What has come in. A packet's payload is as sent, its runs expanded; `unescapeBytes` gives binary data back. */
export type Incoming =
  | { readonly kind: 'packet'; readonly payload: Uint8Array }
  /** A packet that is damaged or longer than allowed. */
  | { readonly kind: 'bad' }
  | { readonly kind: 'ack' }
  | { readonly kind: 'nack' }
  | { readonly kind: 'interrupt' };

/** What has no content is one object however often it comes. */
const ACK: Incoming = { kind: 'ack' };
const NACK: Incoming = { kind: 'nack' };
const BAD: Incoming = { kind: 'bad' };
const INTERRUPTED: Incoming = { kind: 'interrupt' };

/** Takes the byte stream apart. Bytes between packets that mean nothing are passed over. */
export class PacketReader {
  private readonly buffer = new Uint8Array(MAX_PACKET);
  private length = 0;
  private sum = 0;
  private tooLong = false;
  private state: 'between' | 'payload' | 'high' | 'low' = 'between';
  private high = -1;

  push(bytes: Uint8Array): Incoming[] {
    const found: Incoming[] = [];
    for (const byte of bytes) {
      const item = this.take(byte);
      if (item) found.push(item);
    }
    return found;
  }

  private take(byte: number): Incoming | undefined {
    switch (this.state) {
      case 'between':
        return this.between(byte);
      case 'payload':
        return this.inPayload(byte);
      case 'high':
        this.high = digit(byte);
        this.state = 'low';
        return undefined;
      case 'low':
        this.state = 'between';
        return this.finish(this.high * 16 + digit(byte), digit(byte) >= 0 && this.high >= 0);
    }
  }

  private between(byte: number): Incoming | undefined {
    if (byte === PLUS) return ACK;
    if (byte === MINUS) return NACK;
    if (byte === INTERRUPT) return INTERRUPTED;
    if (byte === DOLLAR) this.begin();
    return undefined;
  }

  private begin(): void {
    this.state = 'payload';
    this.length = 0;
    this.sum = 0;
    this.tooLong = false;
  }

  private inPayload(byte: number): Incoming | undefined {
    if (byte === HASH) {
      this.state = 'high';
      return undefined;
    }
    if (byte === DOLLAR) {
      // The end of the one before is lost.
      this.begin();
      return BAD;
    }
    this.sum = (this.sum + byte) & 255;
    if (this.length < MAX_PACKET) this.buffer[this.length++] = byte;
    else this.tooLong = true;
    return undefined;
  }

  private finish(sum: number, isSum: boolean): Incoming {
    if (!isSum || sum !== this.sum || this.tooLong) return BAD;
    const payload = expandRuns(this.buffer.subarray(0, this.length));
    return payload ? { kind: 'packet', payload } : BAD;
  }
}

function digit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

/** A copy, its runs expanded; undefined where that makes no sense, or is more than a packet holds. */
function expandRuns(bytes: Uint8Array): Uint8Array | undefined {
  if (!bytes.includes(STAR)) return bytes.slice();
  const out: number[] = [];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte !== STAR) {
      out.push(byte);
      continue;
    }
    const repeats = (bytes[++at] ?? 0) - RUN_BASE;
    if (out.length === 0 || repeats < MIN_REPEATS || repeats > MAX_REPEATS) return undefined;
    if (out.length + repeats > MAX_PACKET) return undefined;
    const last = out[out.length - 1]!;
    for (let n = 0; n < repeats; n++) out.push(last);
  }
  return Uint8Array.from(out);
}

/** A packet with a payload; binary data in it has been through `escapeBytes`. */
export function frame(payload: Uint8Array): Uint8Array {
  const out: number[] = [DOLLAR];
  let sum = 0;
  const put = (byte: number) => {
    out.push(byte);
    sum = (sum + byte) & 255;
  };
  for (let at = 0; at < payload.length; ) {
    const byte = payload[at]!;
    let repeats = 0;
    while (repeats < MAX_REPEATS && payload[at + repeats + 1] === byte) repeats++;
    put(byte);
    const run = goodRun(repeats);
    if (run > 0) {
      put(STAR);
      put(run + RUN_BASE);
    }
    at += 1 + run;
  }
  out.push(HASH, hexDigit(sum >> 4), hexDigit(sum & 15));
  return Uint8Array.from(out);
}

/** How many repeats to say at once: none, or so many that their number is no character of the framing. */
function goodRun(repeats: number): number {
  if (repeats < MIN_REPEATS) return 0;
  const byte = repeats + RUN_BASE;
  if (byte === HASH || byte === DOLLAR) return HASH - RUN_BASE - 1;
  return repeats;
}

function hexDigit(value: number): number {
  return '0123456789abcdef'.charCodeAt(value);
}

/** Binary data as it may stand in a payload; at most `room` bytes of it, and how much of the data that is. */
export function escapeBytes(data: Uint8Array, room = Number.MAX_SAFE_INTEGER): { bytes: Uint8Array; taken: number } {
  const out: number[] = [];
  let taken = 0;
  for (; taken < data.length; taken++) {
    const byte = data[taken]!;
    const special = byte === DOLLAR || byte === HASH || byte === STAR || byte === ESCAPE;
    if (out.length + (special ? 2 : 1) > room) break;
    if (special) out.push(ESCAPE, byte ^ 0x20);
    else out.push(byte);
  }
  return { bytes: Uint8Array.from(out), taken };
}

/** The data that `escapeBytes` has made these bytes of; undefined where they end within an escape. */
export function unescapeBytes(bytes: Uint8Array): Uint8Array | undefined {
  const out: number[] = [];
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte !== ESCAPE) out.push(byte);
    else if (++at < bytes.length) out.push(bytes[at]! ^ 0x20);
    else return undefined;
  }
  return Uint8Array.from(out);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function textBytes(text: string): Uint8Array {
  return encoder.encode(text);
}

export function bytesText(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

export function hexOf(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

/** Bytes from hex digits; undefined for anything else. */
export function bytesOfHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(text)) return undefined;
  return Uint8Array.from({ length: text.length / 2 }, (_, n) => Number.parseInt(text.slice(2 * n, 2 * n + 2), 16));
}

/** A number of at most 64 bits, as packets have it; undefined for anything else. */
export function numberOfHex(text: string): bigint | undefined {
  return /^[0-9a-f]{1,16}$/i.test(text) ? BigInt(`0x${text}`) : undefined;
}

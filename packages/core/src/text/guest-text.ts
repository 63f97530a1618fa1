/**
 * Bytes of a guest as text: the one place that decodes names, marks, paths, symbols, console output and lines of JSON.
 *
 * A guest may use any bytes. What is UTF-8 is decoded as such, a byte order mark included. Each byte that is not becomes a lone
 * surrogate, U+DC80 + (byte - 0x80), which no UTF-8 decodes to. So different bytes are different texts, and `encodeText` gives the
 * bytes back. Python calls this `surrogateescape` (PEP 383). `escapeGuestText` shows such a byte as `\xff`.
 *
 * The cost is proportional to the bytes, whatever they are.
 */

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** Added to a byte from 0x80 on to have its lone surrogate. */
const ESCAPED = 0xdc00;
/** Code points that are made text at once. */
const CHUNK = 4096;

/** The text of some bytes. Never throws. */
export function decodeText(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    return decodeDamaged(bytes);
  }
}

/** The bytes of a text of `decodeText`, and the UTF-8 of any other. A surrogate that stands for no byte becomes U+FFFD. */
export function encodeText(text: string): Uint8Array {
  const plain = new TextEncoder();
  if (!/[\udc80-\udcff]/.test(text)) return plain.encode(text);
  const out: number[] = [];
  for (const character of text) {
    const code = character.codePointAt(0)!;
    if (code >= ESCAPED + 0x80 && code <= ESCAPED + 0xff) out.push(code - ESCAPED);
    else out.push(...plain.encode(character));
  }
  return Uint8Array.from(out);
}

/** The text of a C string: up to its NUL, or of all bytes where there is none. */
export function decodeCString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decodeText(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Text of bytes that come in pieces: a character that is cut by the end of a piece comes with the next one. */
export class TextStream {
  private held: Uint8Array = new Uint8Array();

  /** The characters that are whole by now. */
  push(bytes: Uint8Array): string {
    const all = joined(this.held, bytes);
    const end = all.length - begunAt(all);
    this.held = all.slice(end);
    return decodeText(all.subarray(0, end));
  }

  /** What was left of a character: there are no more bytes. */
  end(): string {
    const { held } = this;
    this.held = new Uint8Array();
    return decodeText(held);
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}

function decodeDamaged(bytes: Uint8Array): string {
  let text = '';
  let codes: number[] = [];
  let from = 0;
  const flush = (to: number) => {
    text += utf8.decode(bytes.subarray(from, to));
  };
  for (let at = 0; at < bytes.length; ) {
    const { length, whole } = sequenceAt(bytes, at);
    if (whole) {
      at += length;
      continue;
    }
    flush(at);
    // A run of such bytes at once.
    while (at < bytes.length && !sequenceAt(bytes, at).whole) {
      codes.push(ESCAPED + bytes[at++]!);
      if (codes.length === CHUNK) {
        text += String.fromCharCode(...codes);
        codes = [];
      }
    }
    text += String.fromCharCode(...codes);
    codes = [];
    from = at;
  }
  flush(bytes.length);
  return text;
}

/** How many bytes at the end may become a character with those that follow. */
function begunAt(bytes: Uint8Array): number {
  for (let length = Math.min(3, bytes.length); length > 0; length--) {
    const found = sequenceAt(bytes, bytes.length - length);
    if (!found.whole && found.length > length && found.fits) return length;
  }
  return 0;
}

interface Sequence {
  /** Of the character whose first byte this would be; 1 where it is no first byte. */
  readonly length: number;
  readonly whole: boolean;
  /** No byte that is there is wrong. */
  readonly fits: boolean;
}

/** The character that begins at a place (The Unicode Standard, table 3-7). */
function sequenceAt(bytes: Uint8Array, at: number): Sequence {
  const lead = bytes[at]!;
  if (lead < 0x80) return { length: 1, whole: true, fits: true };
  if (lead < 0xc2 || lead > 0xf4) return { length: 1, whole: false, fits: false };
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  for (let n = 1; n < length; n++) {
    const byte = bytes[at + n];
    if (byte === undefined) return { length, whole: false, fits: true };
    if (byte < (n === 1 ? low : 0x80) || byte > (n === 1 ? high : 0xbf)) return { length, whole: false, fits: false };
  }
  return { length, whole: true, fits: true };
}

/** Base64 (RFC 4648, section 4) without help from a host. */

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const PAD = 61;
/** By character code: the six bits, or 255. */
const VALUES = new Uint8Array(128).fill(255);
for (let i = 0; i < 64; i++) VALUES[ALPHABET.charCodeAt(i)] = i;
const CODES = Uint8Array.from(ALPHABET, (character) => character.charCodeAt(0));

export function encodeBase64(bytes: Uint8Array): string {
  const out = new Uint8Array(Math.ceil(bytes.length / 3) * 4);
  let to = 0;
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const group = (bytes[i]! << 16) | ((left > 1 ? bytes[i + 1]! : 0) << 8) | (left > 2 ? bytes[i + 2]! : 0);
    out[to++] = CODES[group >> 18]!;
    out[to++] = CODES[(group >> 12) & 63]!;
    out[to++] = left > 1 ? CODES[(group >> 6) & 63]! : PAD;
    out[to++] = left > 2 ? CODES[group & 63]! : PAD;
  }
  return new TextDecoder().decode(out);
}

/** The bytes, or undefined for text that is not their one encoding: no other characters, full padding, no stray bits. */
export function decodeBase64(text: string): Uint8Array | undefined {
  const { length } = text;
  if (length % 4 !== 0) return undefined;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const out = new Uint8Array((length / 4) * 3 - padding);
  let to = 0;
  for (let i = 0; i < length; i += 4) {
    let group = 0;
    const pads = i + 4 === length ? padding : 0;
    for (let j = 0; j < 4; j++) {
      const code = text.charCodeAt(i + j);
      const value = j >= 4 - pads ? 0 : code < 128 ? VALUES[code]! : 255;
      if (value === 255) return undefined;
      group = (group << 6) | value;
    }
    if (pads === 1 && (group & 0xff) !== 0) return undefined;
    if (pads === 2 && (group & 0xffff) !== 0) return undefined;
    out[to++] = group >> 16;
    if (pads < 2) out[to++] = (group >> 8) & 255;
    if (pads < 1) out[to++] = group & 255;
  }
  return out;
}

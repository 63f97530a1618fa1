/**
 * The ChaCha20 block function (RFC 8439, section 2.3): a generator of random-looking bytes whose whole state is a key and a position,
 * so that any part of its stream can be had again. The position takes the places of block counter and nonce, 64 bits of each.
 */

export const KEY_SIZE = 32;
export const BLOCK_SIZE = 64;

/** The 64 bytes of block `block` (0 to 2^64 - 1) of the stream of `key` (32 bytes). */
export function chacha20Block(key: Uint8Array, block: bigint): Uint8Array {
  const keyView = new DataView(key.buffer, key.byteOffset, KEY_SIZE);
  const initial = new Uint32Array(16);
  // "expand 32-byte k"
  initial.set([0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
  for (let word = 0; word < 8; word++) initial[4 + word] = keyView.getUint32(4 * word, true);
  initial[12] = Number(block & 0xffff_ffffn);
  initial[13] = Number((block >> 32n) & 0xffff_ffffn);

  const state = initial.slice();
  for (let round = 0; round < 10; round++) {
    for (let column = 0; column < 4; column++) quarterRound(state, column, 4 + column, 8 + column, 12 + column);
    for (let diagonal = 0; diagonal < 4; diagonal++) {
      quarterRound(state, diagonal, 4 + ((diagonal + 1) & 3), 8 + ((diagonal + 2) & 3), 12 + ((diagonal + 3) & 3));
    }
  }

  const bytes = new DataView(new ArrayBuffer(BLOCK_SIZE));
  for (let word = 0; word < 16; word++) {
    bytes.setUint32(4 * word, ((state[word] as number) + (initial[word] as number)) >>> 0, true);
  }
  return new Uint8Array(bytes.buffer);
}

function quarterRound(state: Uint32Array, a: number, b: number, c: number, d: number): void {
  mix(state, a, b, d, 16);
  mix(state, c, d, b, 12);
  mix(state, a, b, d, 8);
  mix(state, c, d, b, 7);
}

/** to += by; rotated = (rotated ^ to) <<< bits. The array keeps 32 bits of each. */
function mix(state: Uint32Array, to: number, by: number, rotated: number, bits: number): void {
  state[to] = (state[to] as number) + (state[by] as number);
  const word = (state[rotated] as number) ^ (state[to] as number);
  state[rotated] = (word << bits) | (word >>> (32 - bits));
}

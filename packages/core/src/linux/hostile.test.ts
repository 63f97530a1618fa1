/** Kernel images that are made to be costly to read: a typed error or an answer comes soon, in bounded memory. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KernelError } from './errors.ts';
import type { Image } from './image.ts';
import { inferLayout } from './infer.ts';
import type { KernelMemory } from './memory.ts';
import { KernelSymbols } from './symbols.ts';
import { kallsyms } from './testing.ts';
import { KernelTypes } from './types.ts';

const BASE = 0xffff_ffff_8000_0000n;
const MIB = 2 ** 20;
/** As large as an image can be. */
const bytes = new Uint8Array(128 * MIB).fill(1);
const view = new DataView(bytes.buffer);
const image: Image = { base: BASE, bytes, vector: BASE };

/** Bytes over and over. */
function tile(piece: Uint8Array, from = 0, end = bytes.length): void {
  for (let at = from; at + piece.length <= end; at += piece.length) bytes.set(piece, at);
}

/** Does it within CPU seconds and MiB above what was resident at most before; what it gives or throws. */
function bounded<T>(work: () => T, { seconds = 15, memory = 160 } = {}): T | KernelError {
  const before = process.resourceUsage().maxRSS;
  const started = process.cpuUsage();
  let found: T | KernelError;
  try {
    found = work();
  } catch (error) {
    assert.ok(error instanceof KernelError, (error as Error).stack);
    found = error;
  }
  const { user, system } = process.cpuUsage(started);
  const more = (process.resourceUsage().maxRSS - before) / 1024;
  assert.ok((user + system) / 1e6 <= seconds, `${(user + system) / 1e6} s`);
  assert.ok(more <= memory, `${more} MiB`);
  return found;
}

/** The tokens and the index of a table with these strings, by number; the others are empty, but for the last one. */
function tokens(strings: Readonly<Record<number, string>>): Uint8Array {
  const all = Array.from({ length: 256 }, (_, n) => strings[n] ?? (n === 255 ? 'z' : ''));
  const text = new TextEncoder().encode(all.map((one) => `${one}\0`).join(''));
  const padded = Math.ceil(text.length / 8) * 8;
  const made = new Uint8Array(padded + 512);
  made.set(text);
  let offset = 0;
  new Uint8Array(made.buffer, padded).set(
    new Uint8Array(Uint16Array.from(all, (one) => (offset += one.length + 1) - one.length - 1).buffer),
  );
  return made;
}

/** A symbol table of names of so many bytes each, up to where its addresses would be. */
function table(count: number, length: number, token: number, strings: Readonly<Record<number, string>>): number {
  let at = 8;
  view.setUint32(0, count, true);
  view.setUint32(4, 0, true);
  const markers: number[] = [];
  for (let n = 0; n < count; n++) {
    if (n % 256 === 0) markers.push(at - 8);
    bytes[at++] = (length & 127) | 128;
    bytes[at++] = length >> 7;
    bytes.fill(token, at, at + length);
    at += length;
  }
  at = Math.ceil(at / 8) * 8;
  for (const marker of markers) {
    view.setUint32(at, marker, true);
    at += 4;
  }
  if (at % 8 !== 0) {
    view.setUint32(at, 0, true);
    at += 4;
  }
  const rest = tokens(strings);
  bytes.set(rest, at);
  return at + rest.length;
}

describe('symbols', () => {
  const refused = (message: RegExp) => {
    const found = bounded(() => KernelSymbols.find(image));
    assert.ok(found instanceof KernelError && found.reason === 'symbols');
    assert.match(found.message, message);
  };

  test('tables of nothing, one behind the other', () => {
    tile(tokens({}));
    refused(/no symbol table|leads nowhere/);
  });

  test('names of many empty tokens', () => {
    bytes.fill(1);
    table(7000, 16_383, 3, { 9: 'ab' });
    refused(/no symbol table|leads nowhere/);
    // The same with names that are long enough.
    bytes.fill(1);
    const end = table(7000, 16_383, 3, { 9: 'Tb' });
    for (let n = 0, at = 8; n < 7000; n++, at += 16_385) bytes[at + 2] = 9;
    assert.ok(end < bytes.length);
    refused(/no symbol table|leads nowhere/);
  });

  test('many places where the names could begin', () => {
    bytes.fill(1);
    // Words that look like the number of names, over and over, in front of markers.
    tile(Uint8Array.of(0, 2, 0, 0, 0, 0, 0, 0), 0, 300_000);
    let at = 300_000;
    for (const marker of [0, 256]) {
      view.setUint32(at, marker, true);
      at += 4;
    }
    const rest = tokens({ 0: 'Ta', 2: 'b' });
    bytes.set(rest, at);
    refused(/no symbol table|leads nowhere/);
  });

  test('a million names', () => {
    bytes.fill(1);
    table(2 ** 20 - 256, 3, 9, { 9: 'T'.repeat(40) });
    refused(/take more than \d+ bytes|leads nowhere/);
  });

  test('all at one address are looked up as fast as any', () => {
    const all = Array.from({ length: 200_000 }, (_, n) => ({ name: `f${n}`, type: 'T', address: BASE + 16n }));
    const symbols = new KernelSymbols([...all, { name: 'last', type: 'T', address: BASE + 32n }]);
    bounded(
      () => {
        for (let n = 0; n < 100_000; n++) {
          assert.deepEqual(symbols.nearest(BASE + 20n), { name: 'f0', offset: 4n });
        }
      },
      { seconds: 5 },
    );
  });

  test('those of a kernel are found behind others that are none', () => {
    bytes.fill(0);
    tile(tokens({}), 0, 10 * MIB);
    const list = Array.from({ length: 600 }, (_, n) => ({ name: `f${n}`, type: 'T', address: BASE + BigInt(16 * n) }));
    bytes.set(kallsyms(list, BASE, false), 20 * MIB);
    const found = bounded(() => KernelSymbols.find(image));
    assert.ok(found instanceof KernelSymbols);
    assert.deepEqual(found.all(), list);
  });
});

describe('types', () => {
  /** A description of a million structs, all of one long name. */
  function description(): Uint8Array {
    const types = 2 ** 20 - 8;
    const made = new Uint8Array(24 + 12 * types + 300).fill(0x41);
    const head = new DataView(made.buffer);
    for (const [n, word] of [0x1eb9f, 24, 0, 12 * types, 12 * types, 300].entries()) head.setUint32(4 * n, word, true);
    for (let n = 0, at = 24; n < types; n++, at += 12) {
      head.setUint32(at, 1, true);
      head.setUint32(at + 4, 4 << 24, true);
    }
    made[made.length - 1] = 0;
    return made;
  }

  test('descriptions of a million structs, one behind the other', () => {
    bytes.fill(0);
    tile(description());
    assert.equal(
      bounded(() => KernelTypes.find(image)),
      undefined,
    );
  });

  test('bytes that all could begin one', () => {
    bytes.fill(0x9f);
    tile(Uint8Array.of(0x9f, 0xeb, 1, 1));
    assert.equal(
      bounded(() => KernelTypes.find(image)),
      undefined,
    );
  });

  test('one that would be larger than any is none', () => {
    bytes.fill(0);
    const words = [0x1eb9f, 24, 0, 100 * MIB, 100 * MIB, MIB];
    for (const [n, word] of words.entries()) view.setUint32(4 * n, word, true);
    assert.equal(
      bounded(() => KernelTypes.find(image)),
      undefined,
    );
  });
});

test('a kernel full of first tasks', () => {
  tile(new TextEncoder().encode('swapper\0'));
  const symbols = new KernelSymbols([]);
  let reads = 0;
  /** Every word links to itself, so every place looks like a ring. */
  const memory = {
    u64: (address: bigint) => {
      reads++;
      return address;
    },
    u32: () => 0,
    bytes: (_: bigint, length: number) => new Uint8Array(length),
  } as unknown as KernelMemory;
  const found = bounded(() => inferLayout(image, memory, symbols, []));
  assert.ok(found instanceof KernelError && found.reason === 'types');
  assert.ok(reads < 2 ** 23, `${reads} reads`);
});

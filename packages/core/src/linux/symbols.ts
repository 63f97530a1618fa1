/**
 * The names of a running kernel's functions and data, from the table that it carries for its own messages (CONFIG_KALLSYMS).
 * Found by its structure in the kernel's image, wherever that is; modules' symbols are not in it.
 *
 * ```text
 *            offsets         u32 x n      address = relative_base + offset, ascending      | here up to 6.1
 *            relative_base   u64                                                           |
 * num_syms   u32                          n
 * names      n times: length (7 bits, or 14 with bit 7 of the first byte), that many token numbers; the first letter is the type
 * markers    u32 x ceil(n / 256)          where each 256th name is in `names`
 * tokens     256 strings, NUL-terminated
 * index      u16 x 256                    where each string is in `tokens`
 *            offsets, relative_base                                                        | here since 6.4
 * ```
 *
 * Each part is aligned to 8 bytes. The index is the only table that can be told at sight, so it is looked for first.
 *
 * The guest may have forged the image: the search costs a bounded amount of work and memory, whatever it finds.
 */

import { KernelError } from './errors.ts';
import type { Image } from './image.ts';
import { textOf } from './memory.ts';
import { Work } from './work.ts';

export interface KernelSymbol {
  readonly name: string;
  readonly address: bigint;
  /** As `nm` has it: T, t, D, d, B, R, W ... */
  readonly type: string;
}

const MAX_SYMBOLS = 1 << 20;
const MAX_NAME = 1024;
const TOKENS = 256;
/** Letters and tokens that are looked at before a search gives up: Debian's kernel has some 5 million. */
const MAX_WORK = 1 << 26;
/** Bytes that a kernel's symbols may take (Debian's: some 35 MiB), and what one takes besides its name's letters. */
const MAX_HELD = 96 * 2 ** 20;
const HELD = 192;

export class KernelSymbols {
  /** By address. */
  private readonly list: readonly KernelSymbol[];
  private readonly byName = new Map<string, KernelSymbol>();

  /** Symbols in any order. */
  constructor(symbols: readonly KernelSymbol[]) {
    this.list = symbols.toSorted((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
    for (const symbol of this.list) if (!this.byName.has(symbol.name)) this.byName.set(symbol.name, symbol);
  }

  /** The symbols of the kernel whose image this is. Throws `KernelError`. */
  static find(image: Image): KernelSymbols {
    const { bytes } = image;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const work = new Work(MAX_WORK, nowhere);
    for (let at = 0; at + 2 * TOKENS <= bytes.length; at += 8) {
      if (!mayBeIndex(view, at)) continue;
      const tokens = readTokens(view, at, work);
      const symbols: KernelSymbol[] | undefined = tokens && readTable(image, view, tokens, at, work);
      if (symbols) return new KernelSymbols(symbols);
    }
    throw new KernelError(
      'symbols',
      'no symbol table in the kernel: it was built without CONFIG_KALLSYMS, or its layout is that of another version',
    );
  }

  /** Where a symbol is; of several of one name the first. */
  address(name: string): bigint | undefined {
    return this.byName.get(name)?.address;
  }

  /** A function by its name, also where the compiler has made a variant of it and says so behind a dot. */
  function(name: string): bigint | undefined {
    const exact = this.address(name);
    if (exact !== undefined) return exact;
    return this.list.find((symbol) => symbol.name.startsWith(`${name}.`) && /[tTwW]/.test(symbol.type))?.address;
  }

  /** The last symbol at or below an address; of several at one place the first. Undefined outside the kernel. */
  nearest(address: bigint): { readonly name: string; readonly offset: bigint } | undefined {
    const behind = this.behind(address);
    // Behind the last one nothing is known.
    if (behind === 0 || behind === this.list.length) return undefined;
    const found = this.list[behind - 1]!.address;
    return { name: this.list[this.behind(found - 1n)]!.name, offset: address - found };
  }

  /** Where the function or datum at an address ends: at the next symbol. */
  end(address: bigint): bigint | undefined {
    return this.list[this.behind(address)]?.address;
  }

  /** Index of the first symbol beyond an address. */
  private behind(address: bigint): number {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.list[middle]!.address <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  all(): readonly KernelSymbol[] {
    return this.list;
  }
}

function mayBeIndex(view: DataView, at: number): boolean {
  if (view.getUint16(at, true) !== 0) return false;
  let before = 0;
  for (let i = 1; i < TOKENS; i++) {
    const next = view.getUint16(at + 2 * i, true);
    if (next <= before || next - before > MAX_NAME) return false;
    before = next;
  }
  return true;
}

function nowhere(): KernelError {
  return new KernelError('symbols', 'what looks like symbol tables in the kernel leads nowhere');
}

interface Tokens {
  readonly at: number;
  /** Letters, all of them printable. */
  readonly strings: readonly Uint8Array[];
}

/** The strings in front of an index, if they are what it says. */
function readTokens(view: DataView, index: number, work: Work): Tokens | undefined {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const last = view.getUint16(index + 2 * (TOKENS - 1), true);
  // The last string and its NUL, and up to seven bytes to the next multiple of eight.
  for (let at = index - last - 2 - ((index - last - 2) % 8); at >= 0 && index - at - last < MAX_NAME; at -= 8) {
    const strings: Uint8Array[] = [];
    let end = 0;
    for (let i = 0; i < TOKENS; i++) {
      const start = view.getUint16(index + 2 * i, true);
      if (start !== end) break;
      const whole = bytes.subarray(at + start, at + start + Math.min(MAX_NAME, index - at - start));
      const length = whole.indexOf(0);
      const text = length < 0 ? whole : whole.subarray(0, length);
      work.charge(1 + text.length);
      if (!text.every((letter) => letter > 0x20 && letter < 0x7f)) break;
      strings.push(text);
      end = start + text.length + 1;
    }
    if (strings.length === TOKENS && at + end <= index && index - at - end < 8) return { at, strings };
  }
  return undefined;
}

/** The whole table around its tokens; undefined when it does not fit together. */
function readTable(
  image: Image,
  view: DataView,
  tokens: Tokens,
  index: number,
  work: Work,
): KernelSymbol[] | undefined {
  const found = readNames(view, tokens, work);
  if (!found) return undefined;
  const { names, start } = found;
  const n = names.length;
  const behind = index + 2 * TOKENS;
  const places = [
    { offsets: behind, base: behind + aligned(4 * n) },
    { offsets: start - 16 - aligned(4 * n), base: start - 16 },
  ];
  for (const { offsets, base } of places) {
    const symbols = readAddresses(image, view, names, { offsets, baseAt: base }, work);
    if (symbols) return symbols;
  }
  return undefined;
}

const aligned = (length: number) => Math.ceil(length / 8) * 8;

function readNames(view: DataView, tokens: Tokens, work: Work): { start: number; names: string[] } | undefined {
  let at = tokens.at - 4;
  if (at < 0) return undefined;
  if (view.getUint32(at, true) === 0) at -= 4;
  const markers: number[] = [];
  for (let before = Number.POSITIVE_INFINITY; at >= 0; at -= 4) {
    const marker = view.getUint32(at, true);
    work.charge(1);
    if (marker >= before || markers.length > MAX_SYMBOLS / 256) return undefined;
    markers.push(marker);
    before = marker;
    if (marker === 0) break;
  }
  markers.reverse();
  const last = markers.at(-1);
  if (markers.length < 2 || at < 0 || last === undefined) return undefined;
  // `at` is where the markers begin, and the names end.
  for (let start = Math.floor((at - last) / 8) * 8; start >= 8 && at - last - start < 256 * MAX_NAME; start -= 8) {
    work.charge(1);
    const n = view.getUint32(start - 8, true);
    if (view.getUint32(start - 4, true) !== 0 || Math.ceil(n / 256) !== markers.length) continue;
    const names = expandNames(view, tokens.strings, { start, end: at, n, markers }, work);
    if (names) return { start, names };
  }
  return undefined;
}

function expandNames(
  view: DataView,
  tokens: readonly Uint8Array[],
  table: { start: number; end: number; n: number; markers: readonly number[] },
  work: Work,
): string[] | undefined {
  const { start, end, n, markers } = table;
  const names: string[] = [];
  const letters = new Uint8Array(2 * MAX_NAME);
  let held = 0;
  let at = start;
  for (let i = 0; i < n; i++) {
    if (i % 256 === 0 && markers[i / 256] !== at - start) return undefined;
    if (at + 2 > end) return undefined;
    let length = view.getUint8(at++);
    if (length >= 0x80) length = (length & 0x7f) | (view.getUint8(at++) << 7);
    if (length === 0 || at + length > end) return undefined;
    let size = 0;
    for (const stop = at + length; at < stop && size <= MAX_NAME; at++) {
      const token = tokens[view.getUint8(at)]!;
      letters.set(token, size);
      size += token.length;
    }
    work.charge(length + size);
    if (size < 2 || size > MAX_NAME) return undefined;
    held += HELD + size;
    if (held > MAX_HELD) {
      throw new KernelError(
        'symbols',
        `the kernel's symbols take more than ${MAX_HELD} bytes: that is no kernel's table`,
      );
    }
    names.push(textOf(letters, 0, size));
  }
  return end - at < 8 ? names : undefined;
}

function readAddresses(
  { base: image, bytes, vector }: Image,
  view: DataView,
  names: readonly string[],
  { offsets, baseAt }: { readonly offsets: number; readonly baseAt: number },
  work: Work,
): KernelSymbol[] | undefined {
  if (offsets < 0 || baseAt < 0 || baseAt + 8 > view.byteLength || offsets + 4 * names.length > view.byteLength)
    return undefined;
  const base = view.getBigUint64(baseAt, true);
  const end = image + BigInt(bytes.length);
  if (base < image || base >= end) return undefined;
  let before = 0;
  let known = false;
  const symbols: KernelSymbol[] = [];
  for (const [i, name] of names.entries()) {
    const offset = view.getUint32(offsets + 4 * i, true);
    work.charge(4);
    if (offset < before) return undefined;
    before = offset;
    const address = base + BigInt(offset);
    known ||= address === vector;
    symbols.push({ name: name.slice(1), type: name[0]!, address });
  }
  // The vector that the harts use is the start of a function.
  return known ? symbols : undefined;
}

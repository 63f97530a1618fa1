/**
 * A running kernel's own description of its types (BTF), from its image, where it was built with CONFIG_DEBUG_INFO_BTF.
 *
 * ```text
 * header   u16 0xeb9f, u8 version 1, u8 flags, u32 length of the header, u32 offset and length of the types, of the strings
 * type     u32 name, u32 kind << 24 | count of what follows, u32 size or another type; then what its kind has
 *          member   u32 name, u32 type, u32 offset in bits (low 24 bits where the struct has bit fields)
 * ```
 *
 * Types are numbered from 1 in their order; names are offsets in the strings.
 *
 * The guest may have forged the image. What is kept is a copy of the description, of a bounded size, and 4 bytes for each
 * type; names are compared where they are.
 */

import { KernelError } from './errors.ts';
import type { Image } from './image.ts';
import { textOf } from './memory.ts';

const MAGIC = [0x9f, 0xeb, 1, 0];
const HEADER = 24;
const MAX_TYPES = 1 << 20;
/** Bytes of a description: Debian's has some 6 million. */
const MAX_SIZE = 1 << 25;
/** Structs in structs, and types that stand for others. */
const MAX_DEPTH = 32;
/** Headers that are tried, types of all these, members that are looked at for one question, letters of a name. */
const MAX_TRIES = 64;
const MAX_TRIED_TYPES = 1 << 22;
const MAX_MEMBERS = 1 << 16;
const MAX_NAME = 256;

const KIND = {
  struct: 4,
  union: 5,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  typeTag: 18,
} as const;

/** Bytes behind a type, fixed and for each of its elements, by kind. */
const TAIL: readonly (readonly [number, number])[] = [
  [0, 0], // void
  [4, 0], // int
  [0, 0], // pointer
  [12, 0], // array
  [0, 12], // struct
  [0, 12], // union
  [0, 8], // enum
  [0, 0], // forward
  [0, 0], // typedef
  [0, 0], // volatile
  [0, 0], // const
  [0, 0], // restrict
  [0, 0], // function
  [0, 8], // prototype
  [4, 0], // variable
  [0, 12], // section
  [0, 0], // float
  [4, 0], // declaration tag
  [0, 0], // type tag
  [0, 12], // enum of 64 bits
];

export class KernelTypes {
  private readonly view: DataView;
  private readonly strings: Uint8Array;
  /** Where each type is in `view`; 0 stands for void. */
  private readonly places: Uint32Array;
  /** The structs that have been asked for. */
  private readonly structs = new Map<string, number | undefined>();

  private constructor(view: DataView, strings: Uint8Array, places: Uint32Array) {
    this.view = view;
    this.strings = strings;
    this.places = places;
  }

  /** The types of the kernel whose image this is; undefined where it describes none. */
  static find({ bytes }: Image): KernelTypes | undefined {
    let tries = 0;
    const work = { left: MAX_TRIED_TYPES };
    for (let at = 0; at + HEADER <= bytes.length && tries < MAX_TRIES; at++) {
      if (bytes[at] !== MAGIC[0] || MAGIC.some((byte, i) => bytes[at + i] !== byte)) continue;
      tries++;
      const types = KernelTypes.read(bytes.subarray(at), work);
      // Modules may have some of their own: the kernel's know what a task is.
      if (types?.struct('task_struct') !== undefined) return types;
    }
    return undefined;
  }

  /** What begins with a header; undefined when it is none, or damaged. `work`: types that may be looked at. */
  static read(bytes: Uint8Array, work = { left: MAX_TYPES }): KernelTypes | undefined {
    if (bytes.length < HEADER || MAGIC.some((byte, i) => bytes[i] !== byte)) return undefined;
    const whole = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const [headerSize, typeFrom, typeSize, stringFrom, stringSize] = [4, 8, 12, 16, 20].map((at) =>
      whole.getUint32(at, true),
    ) as [number, number, number, number, number];
    const fits = (from: number, size: number) => headerSize + from + size <= bytes.length;
    if (headerSize < HEADER || !fits(typeFrom, typeSize) || !fits(stringFrom, stringSize)) return undefined;
    if (typeSize + stringSize > MAX_SIZE) return undefined;
    const view = new DataView(bytes.buffer, bytes.byteOffset + headerSize + typeFrom, typeSize);
    const places: number[] = [0];
    for (let at = 0; at < typeSize; ) {
      if (at + 12 > typeSize || places.length > MAX_TYPES || work.left-- <= 0) return undefined;
      const info = view.getUint32(at + 4, true);
      const tail = TAIL[(info >>> 24) & 31];
      if (!tail || view.getUint32(at, true) >= stringSize) return undefined;
      places.push(at);
      at += 12 + tail[0] + tail[1] * (info & 0xffff);
      if (at > typeSize) return undefined;
    }
    // Copies: the image, of which they are a part, can go.
    const part = (from: number, size: number) => bytes.slice(headerSize + from, headerSize + from + size);
    const types = new DataView(part(typeFrom, typeSize).buffer);
    return new KernelTypes(types, part(stringFrom, stringSize), Uint32Array.from(places));
  }

  /** The first struct of a name. Cost: a look at every type when it is asked for the first time. */
  private struct(name: string): number | undefined {
    if (this.structs.has(name)) return this.structs.get(name);
    const wanted = new TextEncoder().encode(`${name}\0`);
    let found: number | undefined;
    for (let id = 1; id < this.places.length && found === undefined; id++) {
      if (this.kind(id) !== KIND.struct) continue;
      const at = this.word(id, 0);
      if (wanted.every((letter, n) => this.strings[at + n] === letter)) found = id;
    }
    this.structs.set(name, found);
    return found;
  }

  /** Byte offset of a struct's member, which may be a path (`thread.ra`) and lie in members without a name; undefined if it has none. */
  offset(struct: string, path: string): number | undefined {
    let id = this.struct(struct);
    let bits = 0;
    const work = { left: MAX_MEMBERS };
    for (const name of path.split('.')) {
      const found = id === undefined ? undefined : this.member(id, name, MAX_DEPTH, work);
      if (!found) return undefined;
      bits += found.bits;
      id = this.resolve(found.type);
    }
    return bits >>> 3;
  }

  /** As `offset`. Throws `KernelError` where there is no such member. */
  require(struct: string, path: string): number {
    const offset = this.offset(struct, path);
    if (offset === undefined)
      throw new KernelError('types', `the kernel's types have no member ${path} in struct ${struct}`);
    return offset;
  }

  private member(
    id: number,
    name: string,
    depth: number,
    work: { left: number },
  ): { bits: number; type: number } | undefined {
    const kind = this.kind(id);
    if (depth === 0 || (kind !== KIND.struct && kind !== KIND.union)) return undefined;
    const info = this.word(id, 1);
    const mask = info >>> 31 ? 0xff_ffff : 0xffff_ffff;
    const count = info & 0xffff;
    const word = (i: number, n: number) => this.view.getUint32(this.places[id]! + 12 + 12 * i + 4 * n, true);
    for (let i = 0; i < count && work.left > 0; i++) {
      work.left--;
      const bits = (word(i, 2) & mask) >>> 0;
      const type = word(i, 1);
      const called = this.name(word(i, 0));
      if (called === name) return { bits, type };
      const inner = called === '' ? this.resolve(type) : undefined;
      const found = inner === undefined ? undefined : this.member(inner, name, depth - 1, work);
      if (found) return { bits: bits + found.bits, type: found.type };
    }
    return undefined;
  }

  /** The struct or union behind names and qualifiers. */
  private resolve(type: number): number | undefined {
    let id = type;
    const stands: number[] = [KIND.typedef, KIND.volatile, KIND.const, KIND.restrict, KIND.typeTag];
    for (let depth = 0; depth < MAX_DEPTH; depth++) {
      if (id === 0 || id >= this.places.length) return undefined;
      if (!stands.includes(this.kind(id))) return id;
      id = this.word(id, 2);
    }
    return undefined;
  }

  private kind(id: number): number {
    return (this.word(id, 1) >>> 24) & 31;
  }

  private word(id: number, n: number): number {
    return this.view.getUint32(this.places[id]! + 4 * n, true);
  }

  private name(offset: number): string {
    return offset < this.strings.length
      ? textOf(this.strings, offset, Math.min(MAX_NAME, this.strings.length - offset))
      : '';
  }
}

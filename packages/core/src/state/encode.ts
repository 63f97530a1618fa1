/**
 * Plain data as bytes, one way only: records with their keys sorted, so that equal states are equal bytes.
 *
 * ```text
 * value = tag u8, then
 *   0 undefined | 1 false | 2 true | 3 number f64 | 4 bigint u64 | 5 string: length u32, UTF-8 | 6 bytes: length u32, bytes
 *   7 array: count u32, values | 8 record: count u32, (key as a string without its tag, value)... | 9 words: count u32, u32...
 *   10 bigint i64 (a negative one)
 * ```
 * Little-endian. `decodeState` takes bytes from outside: it is bounded in depth and in memory, and throws `StateError`.
 */

import { StateError } from './errors.ts';

const MAX_DEPTH = 32;
/** Bytes that V8 takes for a value of each kind, and for what is in it. */
const HELD = { record: 200, field: 48, list: 200, item: 16, bytes: 240, text: 24, number: 32 } as const;
/** Bytes that a decoded value may take: these, and so many for each byte that it is decoded from. */
const HELD_AT_MOST = { first: 2 ** 24, each: 8 } as const;

export type Plain =
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Uint32Array
  | readonly Plain[]
  | { readonly [key: string]: Plain };

export function encodeState(value: unknown): Uint8Array {
  let bytes = new Uint8Array(1024);
  let view = new DataView(bytes.buffer);
  let length = 0;
  const room = (n: number): number => {
    if (length + n > bytes.length) {
      const bigger = new Uint8Array(Math.max(bytes.length * 2, length + n));
      bigger.set(bytes.subarray(0, length));
      bytes = bigger;
      view = new DataView(bytes.buffer);
    }
    const at = length;
    length += n;
    return at;
  };
  // Room is made first: it may replace `bytes` and `view`.
  const u8 = (n: number) => {
    const at = room(1);
    view.setUint8(at, n);
  };
  const u32 = (n: number) => {
    const at = room(4);
    view.setUint32(at, n, true);
  };
  const u64 = (n: bigint) => {
    const at = room(8);
    view.setBigUint64(at, BigInt.asUintN(64, n), true);
  };
  const f64 = (n: number) => {
    const at = room(8);
    view.setFloat64(at, n, true);
  };
  const raw = (data: Uint8Array) => {
    const at = room(data.length);
    bytes.set(data, at);
  };
  const string = (text: string) => {
    const data = new TextEncoder().encode(text);
    u32(data.length);
    raw(data);
  };
  const put = (item: unknown): void => {
    if (item === undefined) u8(0);
    else if (item === false) u8(1);
    else if (item === true) u8(2);
    else if (typeof item === 'number') {
      u8(3);
      f64(item);
    } else if (typeof item === 'bigint') {
      u8(item < 0n ? 10 : 4);
      u64(item);
    } else if (typeof item === 'string') {
      u8(5);
      string(item);
    } else if (item instanceof Uint8Array) {
      u8(6);
      u32(item.length);
      raw(item);
    } else if (item instanceof Uint32Array) {
      u8(9);
      u32(item.length);
      for (const word of item) u32(word);
    } else if (Array.isArray(item)) {
      u8(7);
      u32(item.length);
      item.forEach(put);
    } else if (typeof item === 'object' && item !== null) {
      const entries = Object.entries(item).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
      u8(8);
      u32(entries.length);
      for (const [key, field] of entries) {
        string(key);
        put(field);
      }
    } else throw new TypeError(`not plain data: ${typeof item}`);
  };
  put(value);
  return bytes.slice(0, length);
}

/**
 * The value that `encodeState` made the bytes from. Throws `StateError` for anything else, and for a value that would take
 * much more memory than its bytes: more than 16 MiB and 8 bytes for each of them.
 */
export function decodeState(bytes: Uint8Array): Plain {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const fail = (why: string): never => {
    throw new StateError(`byte ${at}`, why);
  };
  let room = HELD_AT_MOST.first + HELD_AT_MOST.each * bytes.length;
  const hold = (n: number): void => {
    room -= n;
    if (room < 0) fail('the record takes too much memory for its bytes');
  };
  const take = (n: number): number => {
    if (n > bytes.length - at) fail('the record is cut off');
    const from = at;
    at += n;
    return from;
  };
  const u32 = () => view.getUint32(take(4), true);
  const string = () => {
    const size = u32();
    const from = take(size);
    hold(HELD.text + 2 * size);
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(from, from + size));
    } catch {
      return fail('a string is not UTF-8');
    }
  };
  const get = (depth: number): Plain => {
    if (depth > MAX_DEPTH) fail('records are nested too deep');
    const tag = view.getUint8(take(1));
    switch (tag) {
      case 0:
        return undefined;
      case 1:
        return false;
      case 2:
        return true;
      case 3:
        hold(HELD.number);
        return view.getFloat64(take(8), true);
      case 4:
        hold(HELD.number);
        return view.getBigUint64(take(8), true);
      case 5:
        return string();
      case 6: {
        const size = u32();
        const from = take(size);
        hold(HELD.bytes + size);
        return bytes.slice(from, from + size);
      }
      case 7: {
        const items: Plain[] = [];
        hold(HELD.list);
        for (let left = u32(); left > 0; left--) {
          hold(HELD.item);
          items.push(get(depth + 1));
        }
        return items;
      }
      case 8: {
        const record: Record<string, Plain> = Object.create(null);
        let previous = '';
        hold(HELD.record);
        for (let left = u32(); left > 0; left--) {
          const key = string();
          if (key <= previous && previous !== '') fail('keys of a record are not in order');
          previous = key;
          hold(HELD.field);
          record[key] = get(depth + 1);
        }
        return record;
      }
      case 9: {
        const count = u32();
        const from = take(count * 4);
        hold(HELD.bytes + 4 * count);
        return Uint32Array.from({ length: count }, (_, i) => view.getUint32(from + 4 * i, true));
      }
      case 10:
        hold(HELD.number);
        return view.getBigInt64(take(8), true);
      default:
        return fail(`unknown tag ${tag}`);
    }
  };
  const value = get(0);
  if (at !== bytes.length) fail('there is more than one value');
  return value;
}

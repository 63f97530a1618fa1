/**
 * The check of a saved record that comes from outside.
 *
 * Such a record is hostile input (invariant I5): a `Fields` reader takes each field once, with its type and range, makes copies of
 * what could still be changed by others, and at the end refuses fields that nobody asked for. Every complaint is a `StateError`
 * that names the path of the field.
 */

import { StateError } from './errors.ts';

const U64_MAX = (1n << 64n) - 1n;

/** Reads the fields of one record; `where` is its path in messages, such as `uart` or `disk.queues[0]`. */
export class Fields {
  readonly where: string;
  readonly #record: Readonly<Record<string, unknown>>;
  readonly #taken: string[] = [];

  constructor(value: unknown, where: string) {
    this.where = where;
    if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
      throw new StateError(where, `expected a record, found ${describe(value)}`);
    }
    this.#record = value as Record<string, unknown>;
  }

  /**
   * Requires the field `version` to be the one that this code writes, or one from `oldest` on that the caller migrates.
   * Returns it.
   */
  version(current: number, oldest = current): number {
    const found = this.#take('version');
    if (typeof found !== 'number' || !Number.isInteger(found) || found < oldest || found > current) {
      throw new StateError(
        `${this.where}.version`,
        `this build reads version ${current} and found ${describe(found)}; save it again with a matching build`,
      );
    }
    return found;
  }

  /** An integer within `[minimum, maximum]`. */
  integer(name: string, minimum: number, maximum: number): number {
    const value = this.#take(name);
    if (typeof value !== 'number' || !Number.isInteger(value) || value < minimum || value > maximum) {
      throw new StateError(this.#path(name), `expected an integer in ${minimum}..${maximum}, found ${describe(value)}`);
    }
    // Negative zero would differ from zero in a hash of the record.
    return value + 0;
  }

  /** An unsigned 64-bit integer, or one within narrower bounds. */
  u64(name: string, maximum: bigint = U64_MAX): bigint {
    return wide(this.#take(name), this.#path(name), maximum);
  }

  flag(name: string): boolean {
    const value = this.#take(name);
    if (typeof value !== 'boolean') {
      throw new StateError(this.#path(name), `expected true or false, found ${describe(value)}`);
    }
    return value;
  }

  /** A copy of a byte array whose length is within `[minimum, maximum]`. */
  bytes(name: string, minimum: number, maximum: number): Uint8Array {
    return bytes(this.#take(name), this.#path(name), minimum, maximum);
  }

  /** An array of `minimum` to `maximum` items, each read by `item`, which gets the item's path. */
  list<T>(name: string, minimum: number, maximum: number, item: (value: unknown, where: string) => T): T[] {
    const value = this.#array(name, minimum, maximum);
    const items: T[] = [];
    // Not `map`: it would skip the holes of a sparse array.
    for (let index = 0; index < value.length; index++) items.push(item(value[index], `${this.#path(name)}[${index}]`));
    return items;
  }

  /** An array of `minimum` to `maximum` plain values of one kind. Unlike `list` it makes an item's path only for a complaint. */
  values<T>(name: string, minimum: number, maximum: number, { take, expected }: ValueKind<T>): T[] {
    const value = this.#array(name, minimum, maximum);
    const items: T[] = [];
    for (let index = 0; index < value.length; index++) {
      const item = take(value[index]);
      if (item === undefined) {
        const found = describe(value[index]);
        throw new StateError(`${this.#path(name)}[${index}]`, `expected ${expected}, found ${found}`);
      }
      items.push(item);
    }
    return items;
  }

  /** A record inside this record, still to be read. */
  record(name: string): unknown {
    return this.#take(name);
  }

  /** Ends the reading: complains about fields that nobody took. */
  end(): void {
    const names = Object.keys(this.#record);
    if (names.length === this.#taken.length) return;
    const unknown = names.find((name) => !this.#taken.includes(name));
    if (unknown !== undefined) throw new StateError(this.#path(unknown), 'unknown field');
  }

  #path(name: string): string {
    return `${this.where}.${name}`;
  }

  #array(name: string, minimum: number, maximum: number): readonly unknown[] {
    const value = this.#take(name);
    if (!Array.isArray(value) || value.length < minimum || value.length > maximum) {
      const found = Array.isArray(value) ? `${value.length}` : describe(value);
      throw new StateError(this.#path(name), `expected an array of ${minimum}..${maximum} items, found ${found}`);
    }
    return value;
  }

  /** The one read of a field: whatever it is later, this value is the one that was checked. */
  #take(name: string): unknown {
    if (!Object.hasOwn(this.#record, name)) throw new StateError(this.#path(name), 'missing');
    this.#taken.push(name);
    return this.#record[name];
  }
}

/** A kind of plain value: `take` gives it as it is kept, or undefined for what is no such value. */
export interface ValueKind<T> {
  readonly expected: string;
  take(value: unknown): T | undefined;
}

/** Integers within `[minimum, maximum]`. */
export function integers(minimum: number, maximum: number): ValueKind<number> {
  return {
    expected: `an integer in ${minimum}..${maximum}`,
    take: (value) =>
      typeof value === 'number' && Number.isInteger(value) && value >= minimum && value <= maximum
        ? value + 0
        : undefined,
  };
}

/** Unsigned 64-bit integers. */
export const U64S: ValueKind<bigint> = {
  expected: 'a bigint in 0..2^64-1',
  take: (value) => (typeof value === 'bigint' && value >= 0n && value <= U64_MAX ? value : undefined),
};

export const FLAGS: ValueKind<boolean> = {
  expected: 'true or false',
  take: (value) => (typeof value === 'boolean' ? value : undefined),
};

/** An item of a list that is a byte array whose length is within `[minimum, maximum]`; a copy. */
export function bytesItem(minimum: number, maximum: number): (value: unknown, where: string) => Uint8Array {
  return (value, where) => bytes(value, where, minimum, maximum);
}

function wide(value: unknown, where: string, maximum: bigint): bigint {
  if (typeof value !== 'bigint' || value < 0n || value > maximum) {
    throw new StateError(where, `expected a bigint in 0..${maximum}, found ${describe(value)}`);
  }
  return value;
}

function bytes(value: unknown, where: string, minimum: number, maximum: number): Uint8Array {
  if (!(value instanceof Uint8Array)) {
    throw new StateError(where, `expected a Uint8Array, found ${describe(value)}`);
  }
  // One copy, made before the length is looked at: a growable or shared buffer cannot change after the check.
  const copy = value.length > maximum ? value : new Uint8Array(value);
  if (copy.length < minimum || copy.length > maximum) {
    throw new StateError(where, `expected ${minimum}..${maximum} bytes, found ${copy.length}`);
  }
  return copy;
}

/** What a value is, short enough for a message and safe whatever it is. */
function describe(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'boolean' || value === undefined || value === null)
    return `${value}`;
  if (typeof value === 'bigint') return `a bigint of ${value.toString(16).length} hexadecimal digits`;
  return Array.isArray(value) ? 'an array' : `a ${typeof value}`;
}

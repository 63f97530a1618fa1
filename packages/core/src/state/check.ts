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
  readonly #values = new Map<string, unknown>();

  constructor(value: unknown, where: string) {
    this.where = where;
    if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
      throw new StateError(where, `expected a record, found ${describe(value)}`);
    }
    for (const [name, field] of Object.entries(value)) this.#values.set(name, field);
  }

  /** Requires the field `version` to be the one that this code writes. */
  version(current: number): void {
    const found = this.#take('version');
    if (found !== current) {
      throw new StateError(
        `${this.where}.version`,
        `this build reads version ${current} and found ${describe(found)}; save it again with a matching build`,
      );
    }
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
    const value = this.#take(name);
    if (!Array.isArray(value) || value.length < minimum || value.length > maximum) {
      const found = Array.isArray(value) ? `${value.length}` : describe(value);
      throw new StateError(this.#path(name), `expected an array of ${minimum}..${maximum} items, found ${found}`);
    }
    // Not `map`: it would skip the holes of a sparse array.
    return Array.from(value, (element: unknown, index) => item(element, `${this.#path(name)}[${index}]`));
  }

  /** A record inside this record, still to be read. */
  record(name: string): unknown {
    return this.#take(name);
  }

  /** Ends the reading: complains about fields that nobody took. */
  end(): void {
    for (const name of this.#values.keys()) throw new StateError(this.#path(name), 'unknown field');
  }

  #path(name: string): string {
    return `${this.where}.${name}`;
  }

  #take(name: string): unknown {
    if (!this.#values.has(name)) throw new StateError(this.#path(name), 'missing');
    const value = this.#values.get(name);
    this.#values.delete(name);
    return value;
  }
}

/** An item of a list that is an integer within `[minimum, maximum]`. */
export function integerItem(minimum: number, maximum: number): (value: unknown, where: string) => number {
  return (value, where) => {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < minimum || value > maximum) {
      throw new StateError(where, `expected an integer in ${minimum}..${maximum}, found ${describe(value)}`);
    }
    return value + 0;
  };
}

/** An item of a list that is an unsigned 64-bit integer. */
export function u64Item(value: unknown, where: string): bigint {
  return wide(value, where, U64_MAX);
}

/** An item of a list that is true or false. */
export function flagItem(value: unknown, where: string): boolean {
  if (typeof value !== 'boolean') throw new StateError(where, `expected true or false, found ${describe(value)}`);
  return value;
}

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

/**
 * What the arguments of public calls may be, as data.
 *
 * A schema is made of smaller ones (`record`, `list`, `either`) and is checked by the compiler against the type that it describes: a field
 * that is missing here, or is optional there only, does not compile. It says what is wrong with a value and throws nothing, so
 * each interface (library, command, network) makes its own error of that. A value is looked at and never changed.
 */

export interface Schema<in out T> {
  /** What to give, for messages: `a string`, `an integer from 1 to 8`. */
  readonly expected: string;
  /** What is wrong with a value that is called `name`, and what to give; undefined for a good value. */
  complaint(value: unknown, name: string): string | undefined;
  /** How much a bad value looks like a good one: `either` complains as the alternative that is closest. */
  likeness?(value: unknown): number;
  /** Of a record: what its fields may be. */
  readonly fields?: Readonly<Record<string, Schema<never>>>;
  /** For the compiler: exactly the values of `T` are good. */
  readonly type?: (value: T) => T;
}

/** A schema for each field of a record. */
export type Fields<T> = { readonly [K in keyof T]-?: Schema<T[K]> };

/** The options of a call: their fields are named without it. */
const OPTIONS = 'options';

const U63_MAX = (1n << 63n) - 1n;

/** Values for which `test` holds. */
export function value<T>(expected: string, test: (value: unknown) => boolean): Schema<T> {
  return {
    expected,
    complaint: (given, name) => (test(given) ? undefined : `${name} must be ${expected}: got ${describe(given)}`),
  };
}

/** Good values of another schema for which `test` holds. */
export function refined<T>(schema: Schema<T>, expected: string, test: (value: T) => boolean): Schema<T> {
  const narrow = value<T>(expected, (given) => test(given as T));
  return {
    ...schema,
    expected,
    complaint: (given, name) => schema.complaint(given, name) ?? narrow.complaint(given, name),
  };
}

/** May be left out, or undefined. */
export function optional<T>(schema: Schema<T>): Schema<T | undefined> {
  const { type: _, ...rest } = schema as Schema<unknown>;
  return {
    ...rest,
    complaint: (given, name) => (given === undefined ? undefined : schema.complaint(given, name)),
  };
}

export const flag: Schema<boolean> = value('true or false', (given) => typeof given === 'boolean');

const string: Schema<string> = value('a string', (given) => typeof given === 'string');

/** Text that can be sent and stored as UTF-8. */
export const text: Schema<string> = {
  ...refined(string, 'a string without halves of characters', isText),
  expected: string.expected,
};

/** Text for a guest: as an argument, a path, the value of a variable. */
export const guestText: Schema<string> = {
  ...refined(text, 'a string without zero characters', (given) => !given.includes('\0')),
  expected: string.expected,
};

export const bytes: Schema<Uint8Array> = value('a Uint8Array', (given) => given instanceof Uint8Array);

/** Text to look for, as it is or as an expression. */
export const pattern: Schema<string | RegExp> = value(
  'a string that is not empty, or a RegExp',
  (given) => (isText(given) && given !== '') || given instanceof RegExp,
);

/** A function; what it takes and gives is up to the compiler. */
// biome-ignore lint/suspicious/noExplicitAny: any function is good
export const callback: Schema<any> = value('a function', (given) => typeof given === 'function');

/** Anything. */
// biome-ignore lint/suspicious/noExplicitAny: what it is has to be looked at where it is used
export const anything: Schema<any> = value('anything', () => true);

export function oneOf<const T extends string | number>(...values: readonly T[]): Schema<T> {
  return value(alternatives(values.map(String)), (given) => (values as readonly unknown[]).includes(given));
}

/** A number without a fraction. */
export function integer(least: number, most: number = Number.MAX_SAFE_INTEGER): Schema<number> {
  const good = (given: unknown) =>
    Number.isSafeInteger(given) && (given as number) >= least && (given as number) <= most;
  return value(range('an integer', BigInt(least), BigInt(most)), good);
}

/** A `bigint`. */
export function wide(least: bigint, most: bigint): Schema<bigint> {
  return value(range('a bigint', least, most), (given) => typeof given === 'bigint' && given >= least && given <= most);
}

/** A `bigint`, or a number that is exact. */
export function whole(least: bigint, most: bigint = U63_MAX): Schema<bigint | number> {
  const exact = (given: unknown): given is bigint | number => typeof given === 'bigint' || Number.isSafeInteger(given);
  const good = (given: unknown) => exact(given) && given >= least && given <= most;
  return value(range('an integer', least, most), good);
}

/** An array of `least` to `most` good items. */
export function list<T>(item: Schema<T>, { least = 0, most = 2 ** 24 } = {}): Schema<readonly T[]> {
  const count = least === 0 ? '' : least === 1 ? ', not empty' : ` from ${least} on`;
  const expected = `an array${count}`;
  const array = value<readonly T[]>(expected, (given) => Array.isArray(given) && given.length >= least);
  return {
    expected,
    likeness: (given) => (Array.isArray(given) ? 1 : 0),
    complaint: (given, name) => {
      const wrong = array.complaint(given, name);
      if (wrong !== undefined) return wrong;
      const items = given as readonly unknown[];
      if (items.length > most) return `${name} must have at most ${most} items: got ${items.length}`;
      // By index: `forEach` would skip the holes of a sparse array.
      return first(items.keys(), (n) => item.complaint(items[n], `${name}[${n}]`));
    },
  };
}

/** An object with good values, under any good names. */
export function map<T>(name: Schema<string>, item: Schema<T>): Schema<Readonly<Record<string, T>>> {
  const expected = 'an object';
  return {
    expected,
    complaint: (given, path) =>
      isRecord(given)
        ? first(
            Object.keys(given),
            (key) => name.complaint(key, `a name in ${path}`) ?? item.complaint(given[key], `${path}.${key}`),
          )
        : `${path} must be ${expected}: got ${describe(given)}`,
  };
}

/** An object with these fields and no others. */
export function record<T>(fields: Fields<T>): Schema<T> {
  const names = Object.keys(fields);
  const known = new Set(names);
  const expected = 'an object';
  return {
    expected: names.length > 3 ? expected : `{ ${names.join(', ')} }`,
    fields: fields as unknown as Readonly<Record<string, Schema<never>>>,
    likeness: (given) => (isRecord(given) ? likenessOf(Object.keys(given), known) : 0),
    complaint: (given, path) => {
      if (!isRecord(given)) return `${path} must be ${expected}: got ${describe(given)}`;
      const at = (name: string) => (path === OPTIONS ? name : `${path}.${name}`);
      const stranger = Object.keys(given).find((name) => !known.has(name));
      if (stranger !== undefined) return `${at(stranger)} is unknown: ${suggestion(stranger, names)}`;
      return first(names, (name) => fields[name as keyof T].complaint(given[name], at(name)));
    },
  };
}

type Described<S> = S extends Schema<infer T> ? T : never;

/** What one of the schemas describes. */
// biome-ignore lint/suspicious/noExplicitAny: schemas of any types
export function either<S extends readonly Schema<any>[]>(...schemas: S): Schema<Described<S[number]>> {
  const expected = alternatives(schemas.map((schema) => schema.expected));
  return {
    expected,
    likeness: (given) => Math.max(...schemas.map((schema) => schema.likeness?.(given) ?? 0)),
    complaint: (given, name) => {
      if (schemas.some((schema) => schema.complaint(given, name) === undefined)) return undefined;
      const [closest] = schemas
        .map((schema) => ({ schema, likeness: schema.likeness?.(given) ?? 0 }))
        .sort((a, b) => b.likeness - a.likeness);
      if (closest && closest.likeness > 0) return closest.schema.complaint(given, name);
      return `${name} must be ${expected}: got ${describe(given)}`;
    },
  };
}

/** The first complaint about some things. */
function first<T>(things: Iterable<T>, complaint: (thing: T) => string | undefined): string | undefined {
  for (const thing of things) {
    const found = complaint(thing);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isText(given: unknown): given is string {
  return typeof given === 'string' && given.isWellFormed();
}

function isRecord(given: unknown): given is Readonly<Record<string, unknown>> {
  return typeof given === 'object' && given !== null && !Array.isArray(given) && !ArrayBuffer.isView(given);
}

function alternatives(texts: readonly string[]): string {
  return texts.length < 2 ? texts.join() : `${texts.slice(0, -1).join(', ')} or ${texts[texts.length - 1]}`;
}

function range(what: string, least: bigint, most: bigint): string {
  const open = most === U63_MAX || most === BigInt(Number.MAX_SAFE_INTEGER);
  return open ? `${what} from ${least} up` : `${what} from ${least} to ${power(most)}`;
}

/** A large number is easier to read as a power of two. */
function power(number: bigint): string {
  const bits = number.toString(2).length;
  if (number >= 1n << 16n && number === (1n << BigInt(bits)) - 1n) return `2^${bits} - 1`;
  return number >= 1n << 16n && number === 1n << BigInt(bits - 1) ? `2^${bits - 1}` : String(number);
}

const SHOWN = 60;

/** What a value is, short enough for a message. */
export function describe(given: unknown): string {
  switch (typeof given) {
    case 'string': {
      const short = given.length > SHOWN ? `${given.slice(0, SHOWN)}...` : given;
      return JSON.stringify(short);
    }
    case 'bigint': {
      const digits = String(given);
      return digits.length > SHOWN ? `a bigint of ${digits.length} digits` : `${digits}n`;
    }
    case 'symbol':
    case 'function':
      return `a ${typeof given}`;
    case 'object':
      if (given === null) return 'null';
      if (Array.isArray(given)) return `an array of ${given.length}`;
      return given instanceof Uint8Array ? `${given.length} bytes` : 'an object';
    default:
      return Object.is(given, -0) ? '-0' : String(given);
  }
}

/** How many names are known; a half where one is nearly so. */
function likenessOf(names: readonly string[], known: ReadonlySet<string>): number {
  const count = names.filter((name) => known.has(name)).length;
  return count === 0 && names.some((name) => nearest(name, [...known]) !== undefined) ? 0.5 : count;
}

function suggestion(stranger: string, known: readonly string[]): string {
  const meant = nearest(stranger, known);
  if (meant !== undefined) return `did you mean ${meant}?`;
  return known.length === 0 ? 'there are none' : `known are ${known.join(', ')}`;
}

/** The known name that an unknown one was probably meant to be. */
function nearest(stranger: string, known: readonly string[]): string | undefined {
  const distances = known.map((name) => ({ name, distance: editDistance(stranger.toLowerCase(), name.toLowerCase()) }));
  const [first] = distances.sort((a, b) => a.distance - b.distance);
  return first && first.distance <= Math.max(2, first.name.length / 3) ? first.name : undefined;
}

/** Characters to insert, delete or replace to get from one text to another; texts longer than 64 are far from all others. */
function editDistance(a: string, b: string): number {
  if (a.length > 64) return Number.POSITIVE_INFINITY;
  let row = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (const [i, character] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries())
      next.push(Math.min(next[j]! + 1, row[j + 1]! + 1, row[j]! + (character === other ? 0 : 1)));
    row = next;
  }
  return row[row.length - 1]!;
}

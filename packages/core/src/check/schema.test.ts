/** Schemas: what they take, what they say, and that they neither throw nor change what they look at. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { argument, checkCalls, complaint } from './calls.ts';
import {
  bytes,
  callback,
  either,
  flag,
  guestText,
  integer,
  list,
  map,
  oneOf,
  optional,
  pattern,
  record,
  type Schema,
  text,
  whole,
  wide,
} from './schema.ts';

interface Options {
  readonly cwd?: string;
  readonly size?: { readonly rows: number; readonly columns: number };
  readonly steps?: bigint | number;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly disks?: readonly (string | { readonly path: string } | { readonly bytes: Uint8Array })[];
  readonly time?: 'virtual' | 'wall';
}

const OPTIONS = record<Options>({
  cwd: optional(guestText),
  size: optional(record<NonNullable<Options['size']>>({ rows: integer(1, 65_535), columns: integer(1, 65_535) })),
  steps: optional(whole(0n)),
  env: optional(map(guestText, optional(guestText))),
  disks: optional(
    list(
      either(
        text,
        record<{ readonly path: string }>({ path: text }),
        record<{ readonly bytes: Uint8Array }>({ bytes }),
      ),
    ),
  ),
  time: optional(oneOf('virtual', 'wall')),
});

describe('a complaint names the argument, the value and what to give', () => {
  const cases: [unknown, string | undefined][] = [
    [{}, undefined],
    [{ cwd: undefined, steps: 5n, env: { A: undefined, B: '' }, disks: ['a', { path: 'b' }] }, undefined],
    [null, 'options must be an object: got null'],
    [[], 'options must be an object: got an array of 0'],
    [{ cwd: 5 }, 'cwd must be a string: got 5'],
    [{ cwd: 'a\0b' }, 'cwd must be a string without zero characters: got "a\\u0000b"'],
    [{ cwd: '\ud800' }, 'cwd must be a string without halves of characters: got "\\ud800"'],
    [{ cwd: Symbol('a') }, 'cwd must be a string: got a symbol'],
    [{ size: { rows: 24 } }, 'size.columns must be an integer from 1 to 65535: got undefined'],
    [{ size: { rows: 0, columns: 80 } }, 'size.rows must be an integer from 1 to 65535: got 0'],
    [{ size: { rows: Number.NaN, columns: 80 } }, 'size.rows must be an integer from 1 to 65535: got NaN'],
    [{ steps: '5' }, 'steps must be an integer from 0 up: got "5"'],
    [{ steps: -1n }, 'steps must be an integer from 0 up: got -1n'],
    [{ steps: 2 ** 60 }, 'steps must be an integer from 0 up: got 1152921504606847000'],
    [{ steps: 1n << 300n }, 'steps must be an integer from 0 up: got a bigint of 91 digits'],
    [{ env: { A: null } }, 'env.A must be a string: got null'],
    [{ step: 5 }, 'step is unknown: did you mean steps?'],
    [{ columns: 5 }, 'columns is unknown: known are cwd, size, steps, env, disks, time'],
    [{ size: { row: 5, columns: 80 } }, 'size.row is unknown: did you mean rows?'],
    [{ time: 'soon' }, 'time must be virtual or wall: got "soon"'],
    [{ disks: [5] }, 'disks[0] must be a string, { path } or { bytes }: got 5'],
    [{ disks: ['a', { path: 5 }] }, 'disks[1].path must be a string: got 5'],
    [{ disks: ['a', { pth: 'b' }] }, 'disks[1].pth is unknown: did you mean path?'],
    // A hole is no item.
    [{ disks: new Array(1) }, 'disks[0] must be a string, { path } or { bytes }: got undefined'],
  ];
  for (const [value, expected] of cases)
    test(expected ?? 'a good value', () => assert.equal(OPTIONS.complaint(value, 'options'), expected));
});

test('a schema says something about any value, and does not throw', () => {
  const schemas: Schema<never>[] = [
    OPTIONS,
    pattern,
    callback,
    flag,
    list(integer(0), { least: 1, most: 3 }),
    wide(0n, 5n),
    either(OPTIONS, callback, list(flag)),
  ] as unknown as Schema<never>[];
  const anything = fc.anything({
    withBigInt: true,
    withDate: true,
    withNullPrototype: true,
    withObjectString: true,
    withTypedArray: true,
    withSparseArray: true,
    withMap: true,
    withSet: true,
  });
  fc.assert(
    fc.property(fc.constantFrom(...schemas), anything, (schema, value) => {
      const said = schema.complaint(value, 'x');
      assert.ok(said === undefined || said.startsWith('x') || said.startsWith('a name in x'), said);
    }),
    { numRuns: 2000 },
  );
});

test('numbers are taken exactly within their bounds', () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), fc.nat(), fc.double(), (least, width, value) => {
      const most = Math.min(least + width, Number.MAX_SAFE_INTEGER);
      const good = Number.isSafeInteger(value) && value >= least && value <= most;
      assert.equal(integer(least, most).complaint(value, 'n') === undefined, good);
      assert.equal(integer(least, most).complaint(most, 'n'), undefined);
      assert.notEqual(integer(least, most).complaint(BigInt(most), 'n'), undefined);
      assert.equal(whole(BigInt(least), BigInt(most)).complaint(BigInt(most), 'n'), undefined);
    }),
  );
});

test('the calls of a class check what they are given, and do nothing with what is bad', async () => {
  let calls = 0;
  class Thing {
    async later(count: number): Promise<number> {
      calls++;
      return count;
    }
    now(count: number, more = ''): string {
      calls++;
      return `${count}${more}`;
    }
  }
  const COUNT = argument('count', integer(0, 9));
  checkCalls<Thing>(
    Thing.prototype,
    { rejects: { later: [COUNT] }, throws: { now: [COUNT, argument('more', optional(text))] } },
    (why) => new RangeError(why),
  );
  const thing = new Thing();
  assert.equal(await thing.later(9), 9);
  assert.equal(thing.now(1, 'a'), '1a');
  assert.equal(calls, 2);
  await assert.rejects(thing.later(10), new RangeError('count must be an integer from 0 to 9: got 10'));
  assert.throws(() => thing.now(1, 2 as unknown as string), new RangeError('more must be a string: got 2'));
  assert.equal(calls, 2);
  assert.equal(thing.later.name, 'later');
  assert.equal(complaint([COUNT] as never, [3]), undefined);
});

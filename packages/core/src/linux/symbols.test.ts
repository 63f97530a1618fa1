import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { runs } from '../testing/machines.ts';
import { KernelError } from './errors.ts';
import type { Image } from './image.ts';
import { KernelSymbols } from './symbols.ts';
import { kallsyms } from './testing.ts';

const BASE = 0xffff_ffff_8000_0000n;

function imageOf(bytes: Uint8Array, vector: bigint): Image {
  return { base: BASE, bytes, vector };
}

const name = fc.string({ unit: fc.constantFrom(...'abcdefgh_.$09'), minLength: 1, maxLength: 150 });
const symbols = fc
  .array(fc.record({ name, type: fc.constantFrom('T', 't', 'D', 'b', 'W'), gap: fc.nat(1000) }), {
    minLength: 257,
    maxLength: 700,
  })
  .map((list) => {
    let address = BASE + 4096n;
    return list.map(({ name: called, type, gap }) => {
      address += BigInt(gap);
      return { name: called, type, address };
    });
  });

test('symbol tables of both layouts are read back, wherever they are', () => {
  fc.assert(
    fc.property(symbols, fc.boolean(), fc.nat(4), (list, early, place) => {
      const table = kallsyms(list, BASE, early);
      const bytes = new Uint8Array(2 ** 20);
      bytes.set(table, 8192 + 8 * place);
      const found = KernelSymbols.find(imageOf(bytes, list[100]!.address));
      assert.deepEqual(found.all(), list);
      for (const symbol of list.slice(0, 20)) {
        assert.equal(found.address(symbol.name), list.find(({ name: called }) => called === symbol.name)!.address);
        const near = found.nearest(symbol.address);
        assert.equal(near?.offset, symbol.address === list.at(-1)!.address ? undefined : 0n);
      }
      assert.equal(found.nearest(BASE), undefined);
      assert.equal(found.nearest(list.at(-1)!.address + 1n), undefined);
    }),
    runs(20),
  );
});

test('a damaged table gives an error or symbols, and an end', () => {
  const list = Array.from({ length: 600 }, (_, i) => ({
    name: `f${i}`,
    type: 'T',
    address: BASE + 4096n + BigInt(16 * i),
  }));
  const whole = kallsyms(list, BASE, false);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
      fc.nat(whole.length),
      (changes, end) => {
        const bytes = new Uint8Array(whole.length + 64);
        bytes.set(whole);
        for (const [at, value] of changes) bytes[at] = value;
        const damaged = end % 3 === 0 ? bytes.subarray(0, end) : bytes;
        try {
          const found = KernelSymbols.find(imageOf(damaged.slice(), list[5]!.address));
          for (const symbol of found.all()) assert.ok(symbol.name.length > 0 && symbol.address >= BASE);
        } catch (error) {
          assert.ok(error instanceof KernelError && error.reason === 'symbols');
        }
      },
    ),
    {
      ...runs(200),
      // Names that are said to begin more than 2^31 bytes before their end.
      examples: [
        [
          [
            [334, 175],
            [1042, 142],
            [3515, 187],
            [6520, 223],
            [1647, 20],
          ],
          3010,
        ],
      ],
    },
  );
});

test('a function is found by its name also where the compiler has made a variant of it', () => {
  const found = new KernelSymbols([
    { name: 'one.isra.0', type: 't', address: BASE + 16n },
    { name: 'two', type: 'T', address: BASE + 32n },
    { name: 'two.part.0', type: 't', address: BASE + 48n },
    { name: 'three.data', type: 'd', address: BASE + 64n },
  ]);
  assert.equal(found.function('one'), BASE + 16n);
  assert.equal(found.function('two'), BASE + 32n);
  assert.equal(found.function('three'), undefined);
  assert.equal(found.end(BASE + 20n), BASE + 32n);
  assert.equal(found.end(BASE + 64n), undefined);
});

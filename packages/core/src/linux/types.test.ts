import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { runs } from '../testing/machines.ts';
import { KernelError } from './errors.ts';
import { btf } from './testing.ts';
import { KernelTypes } from './types.ts';

const structs = [
  {
    name: 'task_struct',
    members: [
      { name: 'state', type: 0, bits: 64 },
      { name: '', type: 2, bits: 128 },
      { name: 'thread', type: 3, bits: 512 },
    ],
  },
  { name: '', members: [{ name: 'pid', type: 0, bits: 32 }] },
  {
    name: 'thread_struct',
    members: [
      { name: 'ra', type: 0, bits: 0 },
      { name: 'sp', type: 0, bits: 64 },
    ],
  },
];

test('members are found by path, and in members without a name', () => {
  const types = KernelTypes.read(btf(structs))!;
  assert.equal(types.offset('task_struct', 'state'), 8);
  assert.equal(types.offset('task_struct', 'pid'), 20);
  assert.equal(types.offset('task_struct', 'thread.sp'), 72);
  assert.equal(types.offset('task_struct', 'thread.tp'), undefined);
  assert.equal(types.offset('task_struct', 'state.more'), undefined);
  assert.equal(types.offset('no_struct', 'state'), undefined);
  assert.throws(
    () => types.require('task_struct', 'comm'),
    (error) => error instanceof KernelError && error.reason === 'types' && /comm/.test(error.message),
  );
});

test('a description is found among other bytes, and one that does not know tasks is none of the kernel', () => {
  const bytes = new Uint8Array(65536);
  bytes.set(btf([{ name: 'other', members: [] }]), 1000);
  bytes.set(btf(structs), 5003);
  assert.equal(KernelTypes.find({ base: 0n, bytes, vector: 0n })?.offset('task_struct', 'pid'), 20);
  assert.equal(KernelTypes.find({ base: 0n, bytes: bytes.subarray(0, 5000), vector: 0n }), undefined);
});

test('structs that contain themselves end', () => {
  const self = { name: '', type: 1, bits: 0 };
  const types = KernelTypes.read(btf([{ name: 'task_struct', members: Array(1000).fill(self) }]))!;
  assert.equal(types.offset('task_struct', 'pid'), undefined);
});

test('damaged descriptions are refused, or answer with numbers', () => {
  const whole = btf(structs);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 6 }),
      fc.nat(whole.length),
      (changes, cut) => {
        const bytes = whole.slice(0, cut % 2 ? whole.length : cut);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        const types = KernelTypes.read(bytes);
        for (const path of ['state', 'pid', 'thread.ra']) {
          const offset = types?.offset('task_struct', path);
          assert.ok(offset === undefined || (Number.isInteger(offset) && offset >= 0));
        }
      },
    ),
    runs(500),
  );
});

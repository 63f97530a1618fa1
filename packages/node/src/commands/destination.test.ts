import assert from 'node:assert/strict';
import { test } from 'node:test';
import { destinationOf } from './destination.ts';

const marks = [
  { at: 5n, name: 'ready' },
  { at: 7n, name: 'round' },
  { at: 9n, name: 'round' },
  { at: 11n, name: '12' },
];
const destination = (text: string) => destinationOf(text, marks, 1_000_000n);

test('moments by name, by number, by position, by time', () => {
  assert.deepEqual(['ready', 'round', 'round#1', 'round#2', '12', 'begin', 'end', '34', '20k'].map(destination), [
    { at: 5n },
    { at: 7n },
    { at: 7n },
    { at: 9n },
    { at: 11n },
    { at: 0n },
    { at: 1_000_000n },
    { at: 34n },
    { at: 20_000n },
  ]);
  assert.deepEqual(destination('812:3:1200'), { position: { round: 812n, hart: 3, step: 1200 } });
  const times = ['2s', '1.5s', '300ms', '0.25us', '1.9ns', '0.000000001s'];
  assert.deepEqual(
    times.map(destination),
    [2_000_000_000n, 1_500_000_000n, 300_000_000n, 250n, 1n, 1n].map((time) => ({ time })),
  );
});

test('what is none is refused, with what could be meant', () => {
  assert.throws(() => destination('read'), /no mark "read".*do you mean "ready"/);
  assert.throws(() => destination('nothing'), /"braid marks" lists/);
  assert.throws(() => destination('round#3'), /there are 2 marks "round"/);
  assert.throws(() => destination('2M'), /ends at step 1000000, before step 2000000/);
  for (const text of ['', '-1', '1:2', '1.s', '0x10', '1:12:0', '9'.repeat(30)]) {
    assert.throws(() => destination(text), { code: 'ERR_BRAID_OPTION' }, text);
  }
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { numbers, pairedRatio } from './paired.ts';

test('pairs that agree leave no doubt', () => {
  assert.deepEqual(pairedRatio([2, 4, 8], [3, 6, 12]), { ratio: 1.5, low: 1.5, high: 1.5 });
});

test('a host that gets slower does not count: it does for both runs of a pair', () => {
  const base = [1, 2, 4, 8, 16, 32];
  const { low, high } = pairedRatio(
    base,
    base.map((value, pair) => value * (pair % 2 ? 1.02 : 1.04)),
  );
  assert.ok(low >= 1.02 && high <= 1.04, `${low} to ${high}`);
});

test('the ratio lies in its interval, which gets narrower with more pairs and wider with more confidence', () => {
  const random = numbers(7);
  const noisy = (count: number) => Array.from({ length: count }, () => 1 + random() / 5);
  const few = pairedRatio(noisy(9), noisy(9));
  const many = pairedRatio(noisy(400), noisy(400));
  assert.ok(few.low < few.ratio && few.ratio < few.high);
  assert.ok(many.high - many.low < (few.high - few.low) / 2);
  const [base, other] = [noisy(25), noisy(25)];
  const [sure, surer] = [pairedRatio(base, other, 0.5), pairedRatio(base, other, 0.99)];
  assert.ok(surer.high - surer.low > sure.high - sure.low);
});

test('the interval has the true ratio in it about as often as it says', () => {
  const random = numbers(11);
  let hits = 0;
  for (let experiment = 0; experiment < 200; experiment++) {
    const pairs = Array.from({ length: 15 }, () => (random() + random() + random()) / 30);
    const { low, high } = pairedRatio(
      pairs.map(() => 1),
      pairs.map((noise) => 1.03 + noise - 0.05),
    );
    if (low <= 1.03 && 1.03 <= high) hits++;
  }
  assert.ok(hits >= 180, `${hits} of 200`);
});

test('too few runs, or runs without a partner, are refused', () => {
  assert.throws(() => pairedRatio([1, 1], [1, 1]), RangeError);
  assert.throws(() => pairedRatio([1, 1, 1], [1, 1, 1, 1]), RangeError);
});

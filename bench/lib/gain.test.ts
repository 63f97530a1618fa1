import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gainBeyondNoise } from './gain.ts';

const rounded = (values: number[]) => values.map((value) => Math.round(value * 1e6) / 1e6);

test('a gain is what exceeds half of the spread', () => {
  assert.deepEqual(rounded(gainBeyondNoise([2, 2, 2], [3, 2, 1])), [50, 0, -50]);
  assert.deepEqual(rounded(gainBeyondNoise([1, 1.25, 1.5], [2, 2.5, 3])), [80, 80, 80]);
  assert.deepEqual(rounded(gainBeyondNoise([1, 1.25, 1.5], [1, 1.25, 1.5])), [-20, -20, -20]);
});

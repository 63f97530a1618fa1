import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RunLength } from './pace.ts';

test('a run becomes short at once when steps take longer, and long by and by', () => {
  const length = new RunLength();
  for (let n = 0; n < 20; n++) length.learn(length.steps, length.steps / 2e6);
  const long = length.steps;
  assert.ok(long > 3_000_000, `${long} steps at 2 a nanosecond`);
  length.learn(long, long / 5000);
  assert.ok(length.steps <= 10_000, `${length.steps} steps at 5 a microsecond`);
  const short = length.steps;
  length.learn(short, short / 2e6);
  assert.ok(length.steps < long);
  for (let n = 0; n < 20; n++) length.learn(length.steps, length.steps / 2e6);
  assert.equal(length.steps, long);
});

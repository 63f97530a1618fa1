import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeldOutput } from './held-output.ts';

const LIMIT = 32 * 2 ** 20;
const item = (length: number) => ({ kind: 'console', bytes: new Uint8Array(length), time: 0n }) as const;

/** How many items of so many bytes a clone may send, `moves` times taken to another thread on the way. */
function allowed(length: number, moves = 0): number {
  let over = false;
  const overflow = () => {
    over = true;
  };
  let held = new HeldOutput(overflow);
  held.arrive({ held: undefined, before: [] }, true);
  let count = 0;
  for (; !over; count++) {
    if (moves > 0 && count % 1000 === 999) {
      const { state } = held;
      held = new HeldOutput(overflow);
      held.arrive(state, false);
      moves--;
    }
    held.add(item(length));
  }
  return count - 1;
}

test('what a clone holds back is bounded in bytes, those of its bookkeeping included', () => {
  assert.ok(allowed(2 ** 20) < 32);
  assert.ok(allowed(1) * 200 < LIMIT, 'a byte an item');
});

test('a clone that is moved to another thread has sent what it has sent', () => {
  assert.equal(allowed(5000, 3), allowed(5000));
});

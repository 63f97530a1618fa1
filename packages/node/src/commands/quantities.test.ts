import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatBytes, formatCount, formatRate, formatTime, plural } from './quantities.ts';

test('quantities', () => {
  assert.deepEqual([0n, 999, 1000n, 1234567, 100000n].map(formatCount), ['0', '999', '1,000', '1,234,567', '100,000']);
  assert.deepEqual([0, 1, 999, 1000, 1024, 1536, 10 ** 6, 2 ** 30].map(formatBytes), [
    '0 bytes',
    '1 byte',
    '999 bytes',
    '0.98 KiB',
    '1.00 KiB',
    '1.50 KiB',
    '977 KiB',
    '1.00 GiB',
  ]);
  assert.deepEqual([0, 12, 999.9, 1234, 56_700_000, 999_999_999].map(formatRate), [
    '0.00',
    '12.0',
    '1.00 k',
    '1.23 k',
    '56.7 M',
    '1.00 G',
  ]);
  assert.deepEqual([0n, 999n, 1_204_551_999n].map(formatTime), ['0.000000 s', '0.000000 s', '1.204551 s']);
  assert.deepEqual(
    [plural(1n, 'event'), plural(0, 'event'), plural(1200, 'event')],
    ['1 event', '0 events', '1,200 events'],
  );
});

test('no rounding makes a number of four digits', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 9e11, noNaN: true }), (value) => {
      assert.match(formatRate(value), /^(\d\.\d\d|\d\d\.\d|\d{3})( [kMG])?$/);
    }),
  );
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      assert.match(formatBytes(value), /^(\d{1,3} bytes?|(\d\.\d\d|\d\d\.\d|\d{3}|\d{4}) [KMGT]iB)$/);
    }),
  );
});

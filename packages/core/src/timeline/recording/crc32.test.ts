import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as zlib from 'node:zlib';
import fc from 'fast-check';
import { runs } from '../../testing/machines.ts';
import { crc32 } from './crc32.ts';

test('the checksum is the one that the world knows', () => {
  assert.equal(crc32(new TextEncoder().encode('123456789')), 0xcbf4_3926);
  assert.equal(crc32(new Uint8Array(0)), 0);
});

test("and the host's", { skip: typeof zlib.crc32 !== 'function' && 'this Node has none' }, () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(7), (bytes, from) => {
      assert.equal(crc32(bytes.subarray(from)), zlib.crc32(bytes.subarray(from)));
    }),
    runs(500),
  );
});

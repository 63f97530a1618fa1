import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeBase64, encodeBase64 } from './base64.ts';

test('agrees with another encoder, and decodes what it has encoded', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const text = encodeBase64(bytes);
      assert.equal(text, Buffer.from(bytes).toString('base64'));
      assert.deepEqual(decodeBase64(text), bytes);
    }),
  );
});

test('refuses everything but the one encoding', () => {
  for (const text of [
    'a',
    'ab',
    'abc',
    '====',
    'a===',
    'ab=c',
    'YQ=',
    'YR==',
    'YWJ=',
    'YQ==YQ==',
    'a b=',
    'ab\n=',
    'éé==',
    '-_-_',
  ]) {
    assert.equal(decodeBase64(text), undefined, text);
  }
  assert.deepEqual(decodeBase64(''), new Uint8Array(0));
  fc.assert(
    fc.property(fc.string({ maxLength: 12, unit: fc.constantFrom('A', 'Q', 'g', 'w', '/', '=', '\n') }), (text) => {
      const bytes = decodeBase64(text);
      if (bytes !== undefined) assert.equal(encodeBase64(bytes), text);
    }),
  );
});

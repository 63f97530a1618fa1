import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { runs } from '../testing/machines.ts';
import { decodeCString, decodeText, encodeText, TextStream } from './guest-text.ts';

/** Bytes among which there is much that is nearly UTF-8. */
const bytes = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 4 }),
      fc.string({ unit: 'binary', maxLength: 3 }).map((text) => new TextEncoder().encode(text)),
      fc.constantFrom(
        Uint8Array.of(0xef, 0xbb, 0xbf), // a byte order mark
        Uint8Array.of(0xed, 0xb2, 0x80), // a surrogate
        Uint8Array.of(0xf4, 0x90, 0x80, 0x80), // beyond Unicode
        Uint8Array.of(0xc0, 0xaf), // longer than need be
        Uint8Array.of(0xf0, 0x9f, 0x98),
      ),
    ),
    { maxLength: 12 },
  )
  .map((parts) => new Uint8Array(Buffer.concat(parts)));

test('text gives its bytes back, and is UTF-8 where they are', () => {
  fc.assert(
    fc.property(bytes, (all) => {
      assert.deepEqual(encodeText(decodeText(all)), all);
    }),
    runs(500),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const wellFormed = text.toWellFormed();
      assert.equal(decodeText(new TextEncoder().encode(wellFormed)), wellFormed);
    }),
    runs(200),
  );
  assert.equal(decodeText(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61)), '\ufeffa');
  assert.equal(decodeText(Uint8Array.of(0xff, 0x61, 0xc3)), '\udcffa\udcc3');
  assert.deepEqual(encodeText('a\ud800\udfffb\ud800'), new TextEncoder().encode('a\ud800\udfffb\ufffd'));
});

test('bytes in pieces are the same text, wherever they are cut', () => {
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(8)), (all, cuts) => {
      const stream = new TextStream();
      let text = '';
      let at = 0;
      for (const cut of cuts) {
        text += stream.push(all.subarray(at, at + cut));
        at += cut;
      }
      text += stream.push(all.subarray(at));
      assert.equal(text + stream.end(), decodeText(all));
    }),
    runs(500),
  );
});

test('a character is told as soon as it is whole', () => {
  const stream = new TextStream();
  assert.equal(stream.push(Uint8Array.of(0x61, 0xc3)), 'a');
  assert.equal(stream.push(Uint8Array.of(0xa9)), 'é');
  assert.equal(stream.push(Uint8Array.of(0xe2)), '');
  assert.equal(stream.push(Uint8Array.of(0x41)), '\udce2A');
  assert.equal(stream.end(), '');
});

test('a C string ends at its NUL', () => {
  assert.equal(decodeCString(Uint8Array.of(0xc3, 0xa9, 0, 0x61)), 'é');
  assert.equal(decodeCString(Uint8Array.of(0)), '');
  assert.equal(decodeCString(Uint8Array.of(0x20, 0x20)), '  ');
});

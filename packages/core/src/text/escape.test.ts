import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { escapeGuestText } from './escape.ts';
import { decodeText } from './guest-text.ts';

test('control characters become visible, text stays', () => {
  assert.equal(escapeGuestText('plain text, Käse, 漢字, 😀'), 'plain text, Käse, 漢字, 😀');
  assert.equal(escapeGuestText('\x1b[2J\x07\r\n\t\x7f\x9b'), '\\x1b[2J\\x07\\r\\n\\t\\x7f\\x9b');
  assert.equal(escapeGuestText('a\nb\tc\rd', { multiline: true }), 'a\nb\tc\\rd');
  assert.equal(escapeGuestText('\u202eevil\u2028\ud800'), '\\u{202e}evil\\u{2028}\\u{d800}');
  assert.equal(escapeGuestText('\u{e0041}'), '\\u{e0041}');
  assert.equal(escapeGuestText(decodeText(Uint8Array.of(0x61, 0xff, 0x80))), 'a\\xff\\x80');
});

test('long text is cut', () => {
  assert.equal(escapeGuestText('abcdef', { limit: 3 }), 'abc...');
  assert.equal(escapeGuestText('abc', { limit: 3 }), 'abc');
  assert.equal(escapeGuestText('ab😀', { limit: 3 }), 'ab...');
});

test('nothing that a terminal acts on is left', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 50 }), (text) => {
      assert.doesNotMatch(escapeGuestText(text), /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/);
    }),
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { QueryFilter } from './terminal-queries.ts';

const QUERIES = [
  '\x1b[6n',
  '\x1b[?6n',
  '\x1b[c',
  '\x1b[>0c',
  '\x1bZ',
  '\x05',
  '\x1b]11;?\x07',
  '\x1b]4;1;?\x1b\\',
  '\x1b[18t',
];
QUERIES.push('\x1b[>q', '\x1b[?2026$p', '\x1b[?u', '\x1bP+q544e\x1b\\', '\x1bP$qm\x1b\\');
const OTHERS = [
  '\x1b[1;31m',
  '\x1b[2J',
  '\x1b[?25l',
  '\x1b[10;20H',
  '\x1b]0;title\x07',
  '\x1bM',
  '\x1b7',
  '\x1b[u',
  '\x1b[4$w',
];

function filtered(pieces: readonly string[]): string {
  const filter = new QueryFilter();
  return pieces.map((piece) => Buffer.from(filter.pass(Buffer.from(piece, 'latin1'))).toString('latin1')).join('');
}

test('questions are taken out, wherever they are cut in two, and nothing else is', () => {
  const item = fc.oneof(
    fc.constantFrom(...QUERIES).map((text) => ({ text, kept: '' })),
    fc.constantFrom(...OTHERS).map((text) => ({ text, kept: text })),
    fc.string({ unit: fc.constantFrom('a', '6', 'n', '\n', 'c', ' ', '\xe9') }).map((text) => ({ text, kept: text })),
  );
  fc.assert(
    fc.property(fc.array(item), fc.array(fc.nat(200)), (items, cuts) => {
      const text = items.map(({ text }) => text).join('');
      const places = [0, ...cuts.filter((cut) => cut < text.length).sort((a, b) => a - b), text.length];
      const pieces = places.slice(1).map((place, n) => text.slice(places[n], place));
      // The end shows that nothing is held that is whole.
      assert.equal(filtered([...pieces, '.']), `${items.map(({ kept }) => kept).join('')}.`);
    }),
  );
});

test('nor is one put together from the parts around another', () => {
  assert.equal(filtered(['a\x1b[', '6\x1b[\x05', '6n', 'nb']), 'ab');
});

test('the cost is linear in the bytes, and what is held is bounded', () => {
  for (const piece of ['\x1b]\x1b', '\x1b[', '\x1bP+q\x1b', '\x1b]4;?\x1b', '\x1b[1;', '\x1b[\x05', '\x1bP+qa']) {
    const filter = new QueryFilter();
    const bytes = Buffer.from(piece.repeat(100_000), 'latin1');
    const from = performance.now();
    const passed = filter.pass(bytes).length + filter.pass(Buffer.from('A\n')).length;
    assert.ok(passed <= bytes.length + 2);
    // A quadratic one takes minutes.
    assert.ok(performance.now() - from < 5000);
  }
  assert.equal(filtered(['\x1b]\x1b'.repeat(40), 'A\n']), `${'\x1b]\x1b'.repeat(40)}A\n`);
  // Of what is too long to be held the end is missing.
  assert.equal(filtered([`\x1bP+q${'a'.repeat(10_000)}\x1b\\`, 'b\x07.']).includes('\x1b\\'), false);
});

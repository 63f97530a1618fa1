import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProgressLine } from './progress-line.ts';

function watched(isTTY: boolean) {
  const host = { time: 0, written: [] as string[] };
  const stream = { isTTY, columns: 30, write: (text: string) => host.written.push(text) };
  return { host, line: new ProgressLine(stream, () => host.time) };
}

test('on a terminal: in place, not wider than it, not too often, and gone at the end', () => {
  const { host, line } = watched(true);
  for (host.time = 0; host.time <= 1000; host.time += 10) line.update(() => `${host.time} ms ${'x'.repeat(100)}`);
  assert.equal(host.written.length, 10);
  for (const text of host.written) assert.match(text, /^\r\d+ ms x+\x1b\[K$/);
  assert.equal(host.written[0]!.length, 1 + 29 + 3);
  line.hide();
  line.hide();
  line[Symbol.dispose]();
  assert.deepEqual(host.written.slice(10), ['\r\x1b[K']);
});

test('elsewhere: a line now and then, none for short work, no control characters', () => {
  const { host, line } = watched(false);
  for (host.time = 0; host.time < 4900; host.time += 10) line.update(() => assert.fail('too early'));
  for (; host.time <= 16_000; host.time += 10) line.update(() => 'here');
  line[Symbol.dispose]();
  assert.deepEqual(host.written, ['here\n', 'here\n', 'here\n']);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { runs } from '../testing/machines.ts';
import { OverheardPrograms } from './overheard.ts';

const event = (stream: string, text: string, id = 1) =>
  `${JSON.stringify({ event: 'braid-exec-output', data: { id, stream, data: Buffer.from(text).toString('base64') } })}\n`;

test('output of programs is heard, however it is cut, and nothing else', () => {
  const said = [
    '{"return": {}}\n',
    event('stdout', 'one\n'),
    'no JSON\n',
    event('stderr', 'two'),
    event('elsewhere', 'three'),
    '{"event": "braid-exec-output", "data": {"stream": "stdout", "data": "???"}}\n',
    '{"event": "braid-exec-exit", "data": {"id": 1}}\n',
    event('stdout', 'four', 7),
  ].join('');
  fc.assert(
    fc.property(fc.array(fc.nat(said.length), { maxLength: 12 }), (cuts) => {
      const heard: string[] = [];
      const programs = new OverheardPrograms((stream, bytes) => heard.push(`${stream} ${Buffer.from(bytes)}`));
      const ends = [...cuts, said.length].sort((a, b) => a - b);
      let from = 0;
      for (const end of ends) {
        programs.receive(new TextEncoder().encode(said.slice(from, end)));
        from = end;
      }
      assert.deepEqual(heard, ['stdout one\n', 'stderr two', 'stdout four']);
    }),
    runs(50),
  );
});

test('who begins to listen in the middle of a line hears from the next one on', () => {
  const heard: string[] = [];
  const programs = new OverheardPrograms((_, bytes) => heard.push(Buffer.from(bytes).toString()));
  const text = event('stdout', 'first') + event('stdout', 'second');
  programs.receive(new TextEncoder().encode(text.slice(9)));
  assert.deepEqual(heard, ['second']);
  programs.receive(new TextEncoder().encode(event('stdout', 'third').slice(0, 20)));
  programs.reset();
  programs.receive(new TextEncoder().encode(event('stdout', 'fourth')));
  assert.deepEqual(heard, ['second', 'fourth']);
});

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decodeText } from '@braid/core/text/guest-text.ts';
import fc from 'fast-check';
import { BraidError } from '../errors.ts';
import { ProgressLine } from './progress-line.ts';
import { infoLines, markLines } from './recording-text.ts';
import { replayOnlyText } from './replay-text.ts';
import { messageText, safeJson, safeStyledText, safeText } from './say.ts';

/** What a terminal acts on, but for line ends and tabs. */
const ACTS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/;

/** Bytes from outside, as text. */
const hostile = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 4 }),
      fc
        .constantFrom('\x1b[2J', '\x1b]0;t\x07', '\x9b31m', '\x1b[0m', '\r\n', '\x85', '\u202e', 'é', '\x1bP+q\x1b\\')
        .map((text) => new TextEncoder().encode(text)),
    ),
    { maxLength: 10 },
  )
  .map((parts) => decodeText(Buffer.concat(parts)));

test('no terminal acts on what is said, whatever is in it', () => {
  fc.assert(
    fc.property(hostile, (text) => {
      assert.doesNotMatch(safeText(text), ACTS);
      assert.doesNotMatch(safeStyledText(text).replaceAll(/\x1b\[[0-9;]*m/g, ''), ACTS);
      const message = messageText(new BraidError('ERR_BRAID_FILE', `field ${text} is odd`).message);
      assert.doesNotMatch(message, ACTS);
      for (const line of message.split('\n').slice(1)) assert.ok(line.startsWith('  '), 'no line of ours is forged');
      assert.doesNotMatch(safeJson({ [text]: text }), /[\x00-\x1f\x7f-\x9f]/);
      assert.deepEqual(JSON.parse(safeJson({ text })), { text });
    }),
  );
});

test('nor on recordings, reports and progress, with such texts in every field', () => {
  const position = { round: 0n, hart: 0, step: 0 };
  const moment = { at: 0n, position, time: 0n };
  fc.assert(
    fc.property(hostile, (text) => {
      const info = {
        braid: text,
        console: text,
        memory: 1,
        harts: 1,
        seed: 1n,
        epoch: 0n,
        disks: [{ size: 1n, readOnly: true, name: text }],
        time: text,
        title: text,
      };
      const marks = [{ ...moment, kind: text, name: text }];
      const end = { ...moment, hash: text, exit: undefined, why: text };
      const bytes = { [text]: { stored: 1, raw: 1 } };
      const stopped = { offset: 1, why: text };
      const view = { info, complete: true, stopped, bytes, stretches: [], keyframes: [moment], marks, end };
      const report = { code: 1n, hart: 0, at: 0n, steps: 0n, output: [], truncated: false, error: text };
      const said = [...infoLines(view), ...markLines(marks), replayOnlyText(report as never)].map(safeText);
      for (const line of said) assert.doesNotMatch(line, ACTS);

      let shown = '';
      const stream = { isTTY: true, columns: 80, rows: 24, write: (part: string) => (shown += part) };
      let now = 0;
      using line = new ProgressLine(stream, () => (now += 1000));
      line.update(() => text);
      assert.doesNotMatch(shown.replaceAll(/\x1b\[[0-9;]*[mK]|\r/g, ''), ACTS);
    }),
  );
});

test('nothing else writes to stdout and stderr, but the guest’s own output', () => {
  const folder = new URL('.', import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'));
  const writes = files.flatMap((name) =>
    readFileSync(new URL(name, folder), 'utf8')
      .split('\n')
      .filter((line) => /std(out|err)\.write\(|console\.(log|error|warn|info)\(|writeSync\(1/.test(line))
      .map((line) => `${name}: ${line.trim()}`),
  );
  assert.deepEqual(
    writes.filter((line) => !line.startsWith('say.ts: ') && !line.includes('${safeText(')),
    [
      // Lines that `safeText` has made.
      "analysis.ts: if (!process.stdout.write(text)) await once(process.stdout, 'drain');",
      // The guest's bytes.
      "replay.ts: if (!process.stdout.write(shown)) await once(process.stdout, 'drain');",
      'replay.ts: process.stderr.write(shown);',
      'terminal.ts: stdout.write(this.output.undo);',
      'terminal.ts: process.stdout.write(bytes, () => resolve());',
    ],
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { passed, progressText, replayOnlyJson, replayOnlyText, resultText } from './replay-text.ts';

test('a replay says how far it is, and what came of it', () => {
  const progress = { at: 2_300_000_000n, to: 6_100_000_000n, time: 12_400_000_000n };
  assert.equal(
    progressText({ ...progress, seconds: 4, verified: 34 }),
    '37 % at step 2,300,000,000, 12.400000 s of guest time, 575 M steps/s, 34 states as recorded',
  );
  const nothing = { at: 0n, to: 0n, time: 0n, seconds: 0, verified: 0 };
  assert.match(progressText(nothing), /^100 % at step 0, .* 0\.00 steps\/s, 0 states/);
  const position = { round: 81n, hart: 2, step: 10 };
  assert.equal(
    resultText({ at: 1n, time: 5_000n, position, seconds: 0.5, verified: 1 }),
    'replayed 1 step in 0.50 s (2.00 steps/s), up to 0.000005 s of guest time at 81:2:10: 1 state as recorded',
  );
});

test('what is behind a step: keyframes, and the time of the last', () => {
  const keyframes = [0n, 10n, 10n, 25n].map((at) => ({
    at,
    time: 100n + at,
    position: { round: at, hart: 0, step: 0 },
  }));
  const behind = [0n, 9n, 10n, 24n, 25n, 99n].map((at) => passed(keyframes, at));
  assert.deepEqual(
    behind.map(({ time, verified }) => [time, verified]),
    [
      [100n, 0],
      [100n, 0],
      [110n, 2],
      [110n, 2],
      [125n, 3],
      [125n, 3],
    ],
  );
});

test('what replay-only code said', () => {
  const bytes = new TextEncoder().encode('é\n');
  const piece = (stream: 'stdout' | 'stderr', from: number, to: number) => ({
    stream,
    bytes: bytes.subarray(from, to),
  });
  const output = [piece('stdout', 0, 1), piece('stdout', 1, 3), piece('stderr', 2, 3), piece('stdout', 0, 2)];
  const run = { code: 7n, hart: 2, at: 12_345n, steps: 1n, output, truncated: false, error: undefined };
  assert.equal(replayOnlyText(run), 'replay-only code 7 at step 12,345 on hart 2: 1 step');
  assert.match(
    replayOnlyText({ ...run, truncated: true, error: 'too\x1b' }),
    /only the first part.*given up: too\\x1b$/,
  );
  assert.deepEqual(JSON.parse(JSON.stringify(replayOnlyJson(run))), {
    code: '7',
    hart: 2,
    step: 12_345,
    steps: 1,
    output: [
      { stream: 'stdout', text: 'é\n' },
      { stream: 'stderr', text: '\n' },
      { stream: 'stdout', text: 'é' },
    ],
    truncated: false,
  });
});

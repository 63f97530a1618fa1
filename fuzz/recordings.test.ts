/**
 * Recordings from anywhere: whatever a file holds, opening and reading it gives what is in it or a `RecordingError` that says where,
 * within bounds.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deflateRawSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { memorySource } from '../packages/core/src/testing/recordings.ts';
import { allOf, rewritten, sampleRecording } from '../packages/core/src/testing/sample-recording.ts';
import { CHUNK_KINDS, CODEC, encodeHead, encodeHeader } from '../packages/core/src/timeline/recording/chunk.ts';
import { RecordingError } from '../packages/core/src/timeline/recording/errors.ts';
import { Recording } from '../packages/core/src/timeline/recording/reader.ts';
import { CODECS } from '../packages/node/src/replay/recording-file.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 2000);
const good = await sampleRecording();

/** Opens and reads bytes; the error that this gives, if any. */
function read(bytes: Uint8Array): RecordingError | undefined {
  try {
    allOf(Recording.open(memorySource(bytes), CODECS));
    return undefined;
  } catch (error) {
    assert.ok(error instanceof RecordingError, (error as Error).stack);
    assert.ok(error.offset !== undefined && error.offset <= bytes.length, error.message);
    assert.ok(error.message.length < 500);
    return error;
  }
}

test('bytes that begin as a recording does, and bytes that do not', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, headed) => {
      assert.ok(read(Uint8Array.from(headed ? [...encodeHead(), ...bytes] : bytes)));
    }),
    { numRuns: RUNS },
  );
});

test('chunks of any kind and content, with checksums that are right', () => {
  const chunk = fc.record({
    kind: fc.constantFrom(...CHUNK_KINDS),
    codec: fc.constantFrom(0, 0, 1, 2, 3),
    content: fc.uint8Array({ maxLength: 100 }),
    more: fc.oneof(fc.constant(0), fc.nat(2 ** 25)),
    packed: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 6 }), fc.boolean(), (chunks, begun) => {
      const parts: Uint8Array[] = [encodeHead()];
      let number = 0;
      if (begun) {
        // A start that is right, for the others to be looked at.
        const start = rewritten(good, (kind, content) => (kind === 'start' ? content : undefined));
        parts.push(start.subarray(parts[0]!.length));
        number++;
      }
      for (const { kind, codec, content, more, packed } of chunks) {
        const size = Math.min(2 ** 25, content.length + more);
        const pack = codec === CODEC.deflate ? deflateRawSync : zstdCompressSync;
        const stored = packed ? pack(content) : content;
        parts.push(encodeHeader(number++, kind, codec, stored, size), stored);
      }
      assert.ok(read(Buffer.concat(parts)), 'without a keyframe there is nothing to read');
    }),
    { numRuns: RUNS },
  );
});

test('a recording whose contents are changed, with checksums that are right', () => {
  const change = fc.record({
    chunk: fc.nat(),
    at: fc.nat(),
    value: fc.uint8Array({ minLength: 1, maxLength: 9 }),
    cut: fc.nat(9),
  });
  let refused = 0;
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      const bytes = rewritten(good, (kind, content, n) => {
        // The contents of blocks and hashes may be anything.
        const whole = kind === 'blocks' || kind === 'hashes';
        let changed = content;
        for (const { chunk, at, value, cut } of changes) {
          if (chunk % 20 !== n || changed.length === 0) continue;
          const from = at % changed.length;
          if (cut === 0) changed = changed.slice(0, from);
          else if (cut === 1) changed = Uint8Array.from([...changed.slice(0, from), ...value, ...changed.slice(from)]);
          else if (!whole) changed.set(value.subarray(0, changed.length - from), from);
        }
        return changed;
      });
      if (read(bytes)) refused++;
    }),
    { numRuns: RUNS },
  );
  assert.ok(refused > RUNS / 10, `${refused} were refused`);
});

/** Contents of pages by what they have other than earlier ones: written and read back, and made up. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { PAGE } from '../../memory/layout.ts';
import { runs, SEED, sharedEngine } from '../../testing/machines.ts';
import { MemorySink, memorySource } from '../../testing/recordings.ts';
import { chunksOf, rewritten, SAMPLE_INFO, sampleKeyframe } from '../../testing/sample-recording.ts';
import { HEADER_SIZE } from './chunk.ts';
import { RecordingError } from './errors.ts';
import { CHAIN, changeAt } from './page-changes.ts';
import { Recording } from './reader.ts';
import { RecordingWriter } from './writer.ts';

const { pool } = sharedEngine();
const PAGES = 3;

/** A stretch of words that get values. */
interface Edit {
  readonly page: number;
  readonly first: number;
  readonly values: readonly number[];
}

/** A recording of pages that are edited between keyframes, and what they held at each of these. */
async function recordingOf(keyframes: readonly (readonly Edit[])[]): Promise<{ bytes: Uint8Array; held: Buffer[][] }> {
  const sink = new MemorySink();
  const writer = new RecordingWriter(sink, pool);
  void writer.start(SAMPLE_INFO);
  let before: number[] | undefined;
  const made: number[] = [];
  const held: Buffer[][] = [];
  for (const [n, edits] of keyframes.entries()) {
    const frames = Array.from({ length: PAGES }, (_, page) => {
      const frame = pool.allocate();
      if (before) pool.routines.copy(before[page]!, frame);
      made.push(frame);
      return frame;
    });
    for (const { page, first, values } of edits) {
      for (const [i, value] of values.entries()) pool.words[(frames[page]! * PAGE) / 4 + ((first + i) % 1024)] = value;
    }
    const last = before;
    await writer.keyframe({
      ...sampleKeyframe(0, n),
      pages: frames.keys(),
      frame: (page) => frames[page]!,
      before: last && ((page) => last[page]!),
      hashOf: () => new Uint8Array(16),
    });
    held.push(frames.map((frame) => Buffer.from(pool.bytes.slice(frame * PAGE, (frame + 1) * PAGE))));
    before = frames;
  }
  for (const frame of made) pool.release(frame);
  return { bytes: sink.bytes(), held };
}

/** Compares all pages of all keyframes. */
function compare(recording: Recording, held: readonly Buffer[][]): void {
  const page = new Uint8Array(PAGE);
  for (const [keyframe, pages] of held.entries()) {
    for (const [n, content] of pages.entries()) {
      const version = recording.version(keyframe, n);
      assert.equal(
        version < 0,
        content.every((byte) => byte === 0),
        'a page of zeros has no content',
      );
      if (version < 0) continue;
      recording.content(version, page.fill(0xa5));
      assert.ok(content.equals(page), `page ${n} of keyframe ${keyframe}`);
    }
  }
}

/** The bases of all contents, in their order: 0, or 1 + a content's number. */
function basesOf(bytes: Uint8Array): number[] {
  return chunksOf(bytes)
    .filter(({ kind }) => kind === 'changes')
    .flatMap(({ from, to, contents }) =>
      Array.from({ length: contents }, (_, i) => changeAt(bytes.subarray(from + HEADER_SIZE, to), i).base),
    );
}

const edit: fc.Arbitrary<Edit> = fc.record({
  page: fc.nat(PAGES - 1),
  first: fc.nat(1023),
  // Zeros too, and runs of all lengths.
  values: fc.oneof(
    fc.array(fc.constantFrom(0, 1, 0xffff_ffff), { minLength: 1, maxLength: 6 }),
    fc.integer({ min: 1, max: 1024 }).map((length) => Array.from({ length }, (_, i) => 1 + i)),
    fc.integer({ min: 1, max: 1024 }).map((length) => Array.from({ length }, (_, i) => i % 2)),
    fc.constant(new Array<number>(1024).fill(0)),
  ),
});

test(`pages that are edited between keyframes are read back, through few bases (seed ${SEED})`, async () => {
  let based = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(edit, { maxLength: 4 }), { minLength: 2, maxLength: 12 }), async (keyframes) => {
      const { bytes, held } = await recordingOf(keyframes);
      compare(Recording.open(memorySource(bytes), []), held);
      const bases = basesOf(bytes);
      const depths: number[] = [];
      for (const [n, base] of bases.entries()) {
        assert.ok(base <= n);
        depths.push(base === 0 ? 0 : depths[base - 1]! + 1);
        assert.ok(depths[n]! <= CHAIN);
        if (base !== 0) based++;
      }
    }),
    runs(200),
  );
  assert.ok(based > 200, `${based} contents have a base`);
});

/** A page that is written whole, and then one word of it before each keyframe. */
const { bytes: chain, held } = await recordingOf([
  [{ page: 1, first: 0, values: Array.from({ length: 1024 }, (_, n) => n + 1) }],
  ...Array.from({ length: CHAIN + 1 }, (_, n) => [{ page: 1, first: 10 * n, values: [7000 + n] }]),
]);

test('what changes little takes little, and is written whole again after a while', () => {
  assert.deepEqual(basesOf(chain), [0, 1, 2, 3, 4, 0]);
  const sizes = chunksOf(chain).filter(({ kind }) => kind === 'changes');
  assert.deepEqual(
    sizes.map(({ from, to }) => to - from - HEADER_SIZE),
    [4108, 16, 16, 16, 16, 4108],
  );
  compare(Recording.open(memorySource(chain), []), held);
});

describe('changes that nobody wrote', () => {
  /** With another word in the nth content. */
  const with_ = (nth: number, word: number, value: number) => {
    let seen = -1;
    return rewritten(chain, (kind, content) => {
      if (kind !== 'changes' || ++seen !== nth) return content;
      new DataView(content.buffer).setUint32(4 * word, value, true);
      return content;
    });
  };
  const cases: readonly [string, Uint8Array, RegExp][] = [
    ['made of itself', with_(4, 0, 5), /content 4: is made of content 4, which is not before it/],
    ['made of a later content', with_(2, 0, 4), /content 2: is made of content 3, which is not before it/],
    ['made of one that is not there', with_(4, 0, 0xffff_ffff), /which is not before it/],
    ['too many bases', with_(5, 0, 5), /has over 4 bases/],
    ['more words than the chunk has', with_(4, 1, 3), /content 0 of the chunk: is cut off/],
    ['as many words as there are numbers', with_(4, 1, 0xffff_ffff), /content 0 of the chunk: is cut off/],
    ['a run beyond the page', with_(4, 2, 1023 | (2 << 16)), /2 words from word 1023 on are not of a page/],
    ['a run beyond the changes', with_(4, 2, 0 | (2 << 16)), /2 words from word 0 on are not of a page/],
    ['a run of nothing', with_(4, 2, 0), /0 words from word 0 on are not of a page/],
  ];
  for (const [name, bytes, message] of cases) {
    test(name, () => {
      const recording = Recording.open(memorySource(bytes), []);
      const read = () => {
        for (let n = 0; n < 6; n++) recording.content(n, new Uint8Array(PAGE));
      };
      assert.throws(read, (error: Error) => {
        assert.ok(error instanceof RecordingError, error.stack);
        assert.match(error.message, message);
        return true;
      });
    });
  }
});

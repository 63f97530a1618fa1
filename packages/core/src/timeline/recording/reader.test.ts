/** Recordings with all that there can be in one: read back, cut off, damaged, and made up. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { PAGE } from '../../memory/layout.ts';
import { runs, SEED, sharedEngine } from '../../testing/machines.ts';
import { Random } from '../../testing/random.ts';
import { MemorySink, memorySource } from '../../testing/recordings.ts';
import {
  allOf,
  chunksOf,
  requireBeginning,
  rewritten,
  SAMPLE_END,
  SAMPLE_INFO,
  SAMPLE_RECORD,
  sampleEvent,
  sampleKeyframe,
  sampleRecording,
} from '../../testing/sample-recording.ts';
import {
  type ByteSource,
  CHUNK_KINDS,
  type ChunkKind,
  type Codec,
  encodeHeader,
  HEAD_SIZE,
  HEADER_SIZE,
} from './chunk.ts';
import { crc32 } from './crc32.ts';
import { RecordingError } from './errors.ts';
import { applyRuns, changeAt } from './page-changes.ts';
import { PageVersions } from './page-versions.ts';
import { Recording } from './reader.ts';
import { RecordingWriter } from './writer.ts';

const open = (bytes: Uint8Array, codecs: readonly Codec[] = []) => Recording.open(memorySource(bytes), codecs);

/** What bytes are a recording of, or the error, which says where. */
function tried(bytes: Uint8Array, codecs: readonly Codec[] = []): Recording | RecordingError {
  try {
    const recording = open(bytes, codecs);
    allOf(recording);
    return recording;
  } catch (error) {
    assert.ok(error instanceof RecordingError, (error as Error).stack);
    assert.ok(error.offset !== undefined && error.offset <= bytes.length, error.message);
    assert.equal(error.message, `recording, byte ${error.offset}: ${error.why}`);
    return error;
  }
}

/** Why it cannot be read, or not from some chunk on. What is before that has to be what it was. */
function refusal(bytes: Uint8Array, codecs: readonly Codec[] = []): string | undefined {
  const found = tried(bytes, codecs);
  if (found instanceof RecordingError) return found.why;
  if (found.stopped) requireBeginning(allOf(found), allOf(open(good)));
  return found.stopped?.why;
}

const good = await sampleRecording();

const deflate: Codec = {
  id: 1,
  decompress: (bytes, size) => inflateRawSync(bytes, { maxOutputLength: size }),
};
/** The recording compressed; `size`: what chunks say of their contents. */
function packed(size = (content: Uint8Array) => content.length): Uint8Array {
  const parts: Uint8Array[] = [good.slice(0, 16)];
  for (const [n, { from, to, kind, contents }] of chunksOf(good).entries()) {
    const content = good.slice(from + HEADER_SIZE, to);
    const less = deflateRawSync(content);
    if (less.length < content.length)
      parts.push(encodeHeader(n, kind, 1, less, size(content), undefined, contents), less);
    else parts.push(encodeHeader(n, kind, 0, content, content.length, undefined, contents), content);
  }
  return Uint8Array.from(Buffer.concat(parts));
}

const small = packed();

/** The head of a recording of a version. */
function headOf(version: number): Uint8Array {
  const head = good.slice(0, HEAD_SIZE);
  new DataView(head.buffer).setUint32(8, version, true);
  new DataView(head.buffer).setUint32(12, crc32(head.subarray(0, 12)), true);
  return head;
}

/** A recording as version 1 would have it: its page contents whole, as none of them has a base. */
function version1(recording: Uint8Array, change = (pages: Uint8Array) => pages, version = 1): Uint8Array {
  const parts: Uint8Array[] = [headOf(version)];
  for (const [n, { from, to, kind, contents }] of chunksOf(recording).entries()) {
    const content = recording.slice(from + HEADER_SIZE, to);
    if (kind !== 'changes') {
      parts.push(encodeHeader(n, kind, 0, content, content.length), content);
      continue;
    }
    const pages = new Uint8Array(contents * PAGE);
    for (let i = 0; i < contents; i++) {
      const { base, runs } = changeAt(content, i);
      assert.equal(base, 0);
      applyRuns(runs, pages.subarray(i * PAGE, (i + 1) * PAGE));
    }
    const changed = change(pages);
    parts.push(encodeHeader(n, 'pages', 0, changed, changed.length), changed);
  }
  return Uint8Array.from(Buffer.concat(parts));
}

test('a recording of version 1 says the same', () => {
  assert.deepEqual(allOf(open(version1(good))), allOf(open(good)));
});

test('a recording of a machine whose devices did otherwise is refused, and told apart from a damaged one', async () => {
  const sink = new MemorySink();
  const writer = new RecordingWriter(sink, sharedEngine().pool);
  const { free, ...keyframe } = sampleKeyframe(0, 0);
  const devices = { ...SAMPLE_RECORD.devices, plic: { version: 1 } };
  void writer.start(SAMPLE_INFO);
  void writer.keyframe({ ...keyframe, record: { ...SAMPLE_RECORD, devices } });
  await writer.end({ ...SAMPLE_END, stretch: 0 });
  free();
  assert.throws(() => open(sink.bytes()).record(0), /interrupted in another way than by this build: use the one/);
});

test('what was written is read', () => {
  const recording = open(good);
  const all = allOf(recording);
  assert.deepEqual(all.info, SAMPLE_INFO);
  assert.deepEqual(all.end, SAMPLE_END);
  assert.equal(all.complete, true);
  assert.deepEqual(all.stretches, [
    {
      from: 0n,
      firstSteps: 0n,
      firstKeyframe: 0,
      keyframes: 2,
      events: [sampleEvent(1), sampleEvent(2), sampleEvent(3)],
    },
    { from: 100n, firstSteps: 0n, firstKeyframe: 2, keyframes: 2, events: [sampleEvent(1), sampleEvent(8)] },
  ]);
  assert.deepEqual(
    all.keyframes.map(({ index, stretch, at, hash, events }) => [index, stretch, at, hash, events]),
    [
      [0, 0, 0n, 'hash 0', 0],
      [1, 0, 100n, 'hash 100', 2],
      [2, 1, 100n, 'hash 100', 0],
      [3, 1, 400n, 'hash 400', 1],
    ],
  );
  assert.deepEqual(all.pages, [
    [
      [1, 11, 11],
      [2, 12, 12],
      [8191, 13, 13],
    ],
    [
      [1, 11, 11],
      [2, 22, 22],
      [5, 25, 25],
      [8191, 13, 13],
    ],
    [
      [5, 25, 25],
      [7, 37, 37],
      [8191, 13, 13],
    ],
    [
      [5, 25, 25],
      [7, 37, 37],
      [8191, 13, 13],
    ],
  ]);
  assert.deepEqual(all.changed, [[1, 2, 5, 8191], [2, 5], [1, 2, 7], []]);
  assert.deepEqual(
    all.marks.map(({ name }) => name),
    ['a', 'b'],
  );
  assert.deepEqual(all.blocks, [
    [0, 0, 0, 1],
    [0, 0, 3, 2],
    [0, 1, 2 ** 28 - 1, 3],
    [1, 0, 0, 5],
    [1, 0, 3, 4],
    [1, 1, 2 ** 28 - 1, 3],
    [2, 0, 0, 5],
    [2, 0, 3, 4],
    [2, 1, 2 ** 28 - 1, 3],
    [3, 0, 0, 5],
    [3, 0, 3, 4],
    [3, 1, 2 ** 28 - 1, 3],
  ]);
  assert.deepEqual({ ...all.records[3] }.clock, { __proto__: null, ...SAMPLE_RECORD.clock, now: 400n });
  assert.equal(recording.version(1, 3), -1);
  assert.deepEqual(
    [recording.mayDiffer(2, 1), recording.mayDiffer(2, 5), recording.mayDiffer(0, 5)],
    [true, false, true],
  );
  assert.throws(() => recording.version(4, 0), RangeError);
  assert.throws(() => recording.version(0, 8192), RangeError);
  assert.throws(() => recording.content(99, new Uint8Array(PAGE)), RangeError);
  assert.throws(() => recording.pageHash(-1), RangeError);
  const sizes = CHUNK_KINDS.map((kind) => recording.bytes[kind]);
  assert.equal(
    sizes.reduce((sum, { stored }) => sum + stored, 16),
    good.length,
  );
  assert.deepEqual(
    CHUNK_KINDS.filter((kind) => recording.bytes[kind].chunks === 0),
    ['pages'],
  );
});

test('cut off at any byte it is what was there, up to the last whole chunk, or says where it ends', () => {
  const whole = allOf(open(good));
  const chunks = chunksOf(small);
  let opened = 0;
  for (let length = 0; length < small.length; length++) {
    const there = chunks.filter(({ to }) => to <= length);
    const keyframes = there.filter(({ kind }) => kind === 'keyframe').length;
    const bytes = small.slice(0, length);
    if (keyframes === 0) {
      const found = tried(bytes, [deflate]);
      assert.ok(found instanceof RecordingError, `${length} bytes`);
      assert.match(found.message, length < 16 ? /cut off in its head/ : /cut off before its first keyframe/);
      continue;
    }
    opened++;
    const recording = open(bytes, [deflate]);
    assert.equal(recording.complete, false);
    assert.equal(recording.keyframes.length, keyframes);
    assert.equal(recording.end.why, 'the recording is cut off');
    assert.ok(recording.end.at >= recording.keyframes.at(-1)!.at);
    // What it holds changes with a whole chunk only.
    if (!chunks.some(({ to }) => Math.abs(to - length) < 2)) continue;
    const found = allOf(recording);
    requireBeginning(found, whole);
  }
  assert.ok(opened > 1000, `${opened} of ${small.length} could be opened`);
});

test('the end of one that is cut off is the last moment that it knows of', () => {
  const cut = (kind: ChunkKind, nth: number) => {
    const { to } = chunksOf(good).filter((chunk) => chunk.kind === kind)[nth]!;
    const { at, stretch, hash, time } = open(good.slice(0, to)).end;
    return [at, stretch, hash, time];
  };
  assert.deepEqual(cut('keyframe', 0), [0n, 0, 'hash 0', 0n]);
  assert.deepEqual(cut('keyframe', 1), [100n, 0, 'hash 100', 100n]);
  assert.deepEqual(cut('keyframe', 3), [400n, 1, 'hash 400', 400n]);
  assert.deepEqual(cut('events', 3), [450n, 1, undefined, 460n]);
});

test('what a system had promised room for when it stopped does not count', () => {
  const { from } = chunksOf(good).at(-1)!;
  const bytes = new Uint8Array(good.length + 1000);
  bytes.set(good.subarray(0, from));
  assert.equal(open(bytes).complete, false);
});

test('any byte that is another one is noticed, when it is read at the latest; what is before its chunk is used', () => {
  const random = new Random(SEED);
  const whole = allOf(open(good));
  const chunks = chunksOf(small);
  let used = 0;
  for (let byte = 0; byte < small.length; byte++) {
    const bad = small.slice();
    bad[byte]! ^= 1 << random.below(8);
    const found = tried(bad, [deflate]);
    if (found instanceof RecordingError) continue;
    const { stopped } = found;
    assert.ok(stopped, `byte ${byte} was not noticed`);
    const { from } = chunks.findLast(({ from }) => from <= byte)!;
    assert.deepEqual([stopped.offset, stopped.number], [from, chunks.findIndex((chunk) => chunk.from === from)]);
    requireBeginning(allOf(found), whole);
    used++;
  }
  assert.ok(used > small.length / 4, `${used} of ${small.length} left a beginning`);
});

describe('chunks that are missing, twice there, or in another order', () => {
  const chunks = chunksOf(good);
  const parts = chunks.map(({ from, to }) => good.slice(from, to));
  const joined = (order: readonly Uint8Array[]) =>
    Uint8Array.from([...good.slice(0, 16), ...order.flatMap((part) => [...part])]);
  for (let n = 0; n < parts.length - 1; n++) {
    test(`${chunks[n]!.kind} ${n}`, () => {
      for (const order of [
        parts.toSpliced(n, 1),
        parts.toSpliced(n, 0, parts[n]!),
        parts.toSpliced(n, 2, parts[n + 1]!, parts[n]!),
      ]) {
        assert.match(refusal(joined(order)) ?? '', /is where chunk \d+ should be/);
      }
    });
  }
});

test(`contents that nobody wrote, with checksums that are right, are refused or read (seed ${SEED})`, () => {
  assert.deepEqual(
    rewritten(good, (_, content) => content),
    good,
  );
  let refused = 0;
  fc.assert(
    fc.property(fc.nat(chunksOf(good).length - 1), fc.nat(), fc.nat(255), fc.nat(3), (chunk, place, byte, how) => {
      const bytes = rewritten(good, (kind, content, n) => {
        // Those are anybody's, and the records are checked by whoever uses them.
        if (n !== chunk || kind === 'blocks' || kind === 'hashes') return content;
        const at = place % content.length;
        if (how === 0) return undefined;
        if (how === 1) return content.slice(0, at);
        if (how === 2) return Uint8Array.from([...content, ...content.slice(0, 1 + (at % 50))]);
        const early = place % 2 === 0 ? at : at % 12;
        content[Math.min(early, content.length - 1)] = byte;
        return content;
      });
      const found = tried(bytes);
      if (found instanceof RecordingError || found.stopped) refused++;
    }),
    runs(1500),
  );
  assert.ok(refused > 300, `${refused} were refused`);
});

describe('contents that do not fit', () => {
  const without = (kind: ChunkKind) => rewritten(good, (found, content) => (found === kind ? undefined : content));
  const cases: [string, Uint8Array, RegExp][] = [
    ['no start', without('start'), /first chunk, and no other, is a start/],
    ['no changes', without('changes'), /names contents that are not its own/],
    ['no hashes', without('hashes'), /has no hashes of its 3 contents/],
    ['no blocks', without('blocks'), /names more blocks than there are contents/],
    ['no keyframes', without('keyframe'), /stretch 0 is not under way/],
    [
      'half of the changes',
      rewritten(good, (kind, content) => (kind === 'changes' ? content.slice(0, 6000) : content)),
      /content 1 of the chunk: is cut off/,
    ],
    [
      'no change at all',
      rewritten(good, (kind, content) => (kind === 'changes' ? content.slice(0, 0) : content)),
      /content 0 of the chunk: is cut off/,
    ],
    ['half a page', version1(good, (pages) => pages.slice(0, 6000)), /1 to 64/],
    ['no page at all', version1(good, (pages) => pages.slice(0, 0)), /1 to 64/],
    ['pages in version 2', version1(good, undefined, 2), /recordings of this version have no pages/],
    ['changes in version 1', Uint8Array.from([...headOf(1), ...good.slice(HEAD_SIZE)]), /version have no changes/],
  ];
  for (const [name, bytes, message] of cases) {
    test(name, () => {
      assert.match(refusal(bytes) ?? '', message);
    });
  }

  test('something behind the end', () => {
    const extra = encodeHeader(chunksOf(good).length, 'events', 0, Uint8Array.of(1, 0), 2);
    const found = open(Uint8Array.from([...good, ...extra, 1, 0]));
    assert.match(found.stopped!.why, /comes after the end/);
    assert.deepEqual(allOf(found), allOf(open(good)));
  });

  test('another version', () => {
    const bytes = good.slice();
    bytes[8] = 3;
    assert.match((tried(bytes) as Error).message, /head is damaged/);
    const later = Uint8Array.from([...headOf(3), ...good.slice(HEAD_SIZE)]);
    assert.match((tried(later) as Error).message, /it has version 3, and this build reads 1 and 2/);
  });
});

describe('compressed contents', () => {
  test('are read by whoever can', () => {
    assert.ok(small.length < good.length / 2);
    assert.deepEqual(allOf(open(small, [deflate])), allOf(open(good)));
    assert.match(refusal(small) ?? '', /this host cannot read/);
  });

  test('of another size than they say are refused', () => {
    const sized = (difference: number) =>
      refusal(
        packed((content) => content.length + difference),
        [deflate],
      );
    assert.match(sized(-1) ?? '', /cannot be decompressed/);
    assert.match(sized(1) ?? '', /instead of/);
  });
});

test('a file that cannot be read any more says where', () => {
  let size = good.length;
  const source: ByteSource = {
    size,
    read(offset, into) {
      if (offset + into.length > size) throw new Error('gone');
      into.set(good.subarray(offset, offset + into.length));
    },
  };
  const recording = Recording.open(source, []);
  size = 100;
  const into = new Uint8Array(PAGE);
  assert.throws(() => recording.content(0, into), /recording, byte \d+: the file cannot be read \(gone\)/);
  assert.throws(() => recording.record(1), RecordingError);
});

test(`page versions are what going through the keyframes finds (seed ${SEED})`, () => {
  const PAGES = 40;
  const keyframes = fc.array(
    fc.record({
      pages: fc.subarray(Array.from({ length: PAGES }, (_, page) => page)),
      zero: fc.nat(),
      lost: fc.nat(3),
    }),
    { minLength: 1, maxLength: 12 },
  );
  fc.assert(
    fc.property(keyframes, (inputs) => {
      let next = 0;
      const named = inputs.map(({ pages, zero, lost }) => {
        const firstContent = next + lost;
        const zeros = pages.map((page) => (page * zero) % 3 === 1);
        const contents = zeros.filter((isZero) => !isZero).length;
        next = firstContent + contents;
        const coded = pages.map((page, i) => (zeros[i] ? page + 2 ** 31 : page));
        return { pages: Uint32Array.from(coded), firstContent, contents };
      });
      const versions = new PageVersions(PAGES, named);
      const expected = new Array<number>(PAGES).fill(-1);
      for (const [keyframe, { pages, firstContent, contents }] of named.entries()) {
        let content = firstContent;
        for (const page of pages) expected[page % 2 ** 31] = page >= 2 ** 31 ? -1 : content++;
        assert.deepEqual(
          Array.from({ length: PAGES }, (_, page) => versions.find(keyframe, page)),
          expected,
        );
        assert.deepEqual(
          [...versions.present(keyframe)],
          expected.flatMap((version, page) => (version < 0 ? [] : [page])),
        );
        for (let page = 0; page < PAGES; page++) {
          assert.equal(versions.named(keyframe, page), inputs[keyframe]!.pages.includes(page));
        }
        for (let i = 0; i < contents; i++) assert.equal(versions.keyframeOf(firstContent + i), keyframe);
      }
    }),
    runs(200),
  );
});

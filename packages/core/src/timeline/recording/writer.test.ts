import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE } from '../../memory/layout.ts';
import { StateError } from '../../state/errors.ts';
import { sharedEngine } from '../../testing/machines.ts';
import { MemorySink, memorySource } from '../../testing/recordings.ts';
import { SAMPLE_END, SAMPLE_INFO, sampleEvent, sampleKeyframe, sampleMark } from '../../testing/sample-recording.ts';
import { type ChunkKind, LIMITS } from './chunk.ts';
import { RecordingError } from './errors.ts';
import { Recording } from './reader.ts';
import { RecordingWriter } from './writer.ts';

const { pool } = sharedEngine();

test('a writer that has failed once writes nothing more', async () => {
  const kinds: ChunkKind[] = [];
  const writer = new RecordingWriter(
    {
      async append(kind) {
        kinds.push(kind);
        if (kinds.length === 2) throw new Error('no room');
      },
      size: 0,
    },
    pool,
  );
  const input = sampleKeyframe(0, 0, { 1: 1 });
  await writer.start(SAMPLE_INFO);
  await assert.rejects(writer.keyframe(input), /no room/);
  await assert.rejects(writer.events(0, [sampleEvent(1)]), /no room/);
  await assert.rejects(writer.marks([sampleMark(0, 0, 'x')]), /no room/);
  await assert.rejects(writer.end(SAMPLE_END), /no room/);
  assert.deepEqual(kinds, ['start', 'changes']);
  input.free();
});

test('a writer takes no events of another stretch, and no stretch but the next', async () => {
  const made = () => new RecordingWriter(new MemorySink(), pool);
  await assert.rejects(made().events(0, [sampleEvent(1)]), /events of stretch 0 come in stretch -1/);
  await assert.rejects(made().keyframe(sampleKeyframe(1, 0)), /keyframe of stretch 1 comes in stretch -1/);
  const writer = made();
  await writer.keyframe(sampleKeyframe(0, 0));
  await assert.rejects(writer.events(1, [sampleEvent(1)]), RecordingError);
  await assert.rejects(writer.events(0, [sampleEvent(1)]), /events of stretch 1/);
});

test('a writer refuses what it could not read: events and keyframes that go back, what is too large', async () => {
  const made = async () => {
    const writer = new RecordingWriter(new MemorySink(), pool);
    await writer.keyframe(sampleKeyframe(0, 0));
    return writer;
  };
  await assert.rejects((await made()).events(0, [sampleEvent(2), sampleEvent(1)]), RangeError);
  const writer = await made();
  await writer.events(0, [sampleEvent(5)]);
  await assert.rejects(writer.events(0, [sampleEvent(4)]), /event console is earlier/);
  const bytes = new Uint8Array(2 ** 24 + 1);
  await assert.rejects((await made()).events(0, [{ ...sampleEvent(1), event: { kind: 'frame', bytes } }]), RangeError);
  const content = new Uint8Array(PAGE + 1);
  await assert.rejects((await made()).disk([{ disk: 0, epoch: 0, block: 0, content }]), RangeError);
  await assert.rejects((await made()).marks([sampleMark(0, 0, 'x'.repeat(5000))]), StateError);
  await assert.rejects((await made()).start({ ...SAMPLE_INFO, memory: 5 }), StateError);
  await assert.rejects((await made()).end({ ...SAMPLE_END, hash: 'x'.repeat(5000) }), StateError);
  await assert.rejects((await made()).keyframe({ ...sampleKeyframe(0, 0), hash: 'x'.repeat(65) }), RangeError);
  const later = await made();
  await later.keyframe(sampleKeyframe(0, 7));
  await assert.rejects(later.keyframe(sampleKeyframe(0, 6)), /a keyframe at 6 comes after one at 7/);
});

test('a writer ends where its readers have no room for more, which grows with the file', async () => {
  const marks = Array.from({ length: 2000 }, () => sampleMark(0, 0, 'x'.repeat(4096)));
  const written = async (size: number) => {
    const sizes: number[] = [];
    const sink = { append: async (_: ChunkKind, content: Uint8Array) => void sizes.push(content.length), size };
    const writer = new RecordingWriter(sink, pool);
    let calls = 0;
    await assert.rejects(async () => {
      for (; calls < 50; calls++) await writer.marks(marks);
    }, /it is full: .* marks; begin another one/);
    assert.ok(sizes.every((length) => length <= LIMITS.text));
    assert.equal(sizes.length, 2 * calls);
    return calls;
  };
  assert.equal(await written(0), Math.floor(2 ** 27 / (2000 * (256 + 2 * 4096))));
  assert.equal(await written(2 ** 23), Math.floor(2 ** 28 / (2000 * (256 + 2 * 4096))));
});

test('a writer has many pages in batches, and few of them under way at once', async () => {
  let underWay = 0;
  let most = 0;
  const sink = new MemorySink();
  const writer = new RecordingWriter(
    {
      async append(kind, content, contents) {
        most = Math.max(most, ++underWay);
        await new Promise((resolve) => setImmediate(resolve));
        await sink.append(kind, content, contents);
        underWay--;
      },
      size: 0,
    },
    pool,
  );
  const frames = [1, 2, 3].map((fill) => {
    const frame = pool.allocate();
    pool.bytes.fill(fill, frame * PAGE, (frame + 1) * PAGE);
    return frame;
  });
  const pages = Array.from({ length: 1000 }, (_, n) => 3 * n + 1);
  await writer.start(SAMPLE_INFO);
  await writer.keyframe({
    ...sampleKeyframe(0, 0),
    pages,
    frame: (page) => frames[Math.floor(page / 3) % 3]!,
    hashOf: (frame) => new Uint8Array(16).fill(frame),
  });
  for (const frame of frames) pool.release(frame);
  assert.ok(most > 1 && most <= 4, `${most} at once`);
  const recording = Recording.open(memorySource(sink.bytes()), []);
  const into = new Uint8Array(PAGE);
  assert.deepEqual([...recording.pages(0)], pages);
  for (const page of pages) {
    recording.content(recording.version(0, page), into);
    assert.equal(into[77], 1 + (Math.floor(page / 3) % 3));
  }
});

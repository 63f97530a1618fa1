import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LogReader } from '../../machine/log.ts';
import { runs, SEED, sharedEngine } from '../../testing/machines.ts';
import { eventsOf, MemorySink, memorySource } from '../../testing/recordings.ts';
import { SAMPLE_INFO, sampleEvent, sampleKeyframe } from '../../testing/sample-recording.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { readEvents } from './events.ts';
import { Recording } from './reader.ts';
import { RecordingWriter } from './writer.ts';

/** A recording of stretches, each with chunks of so many events. */
async function recordingOf(stretches: readonly (readonly number[])[]): Promise<Recording> {
  const sink = new MemorySink();
  const writer = new RecordingWriter(sink, sharedEngine().pool);
  void writer.start(SAMPLE_INFO);
  for (const [stretch, chunks] of stretches.entries()) {
    const keyframe = sampleKeyframe(stretch, stretch);
    await writer.keyframe(keyframe);
    keyframe.free();
    let next = 0;
    for (const count of chunks) {
      const events = Array.from({ length: count }, () => sampleEvent(next++));
      await writer.events(stretch, events, { at: 1n, position: { round: 1n, hart: 0, step: 0 }, time: 1n });
    }
  }
  return Recording.open(memorySource(sink.bytes()), []);
}

test(`events are found in whatever order they are asked for (seed ${SEED})`, async () => {
  const shape = fc.array(fc.array(fc.nat(5), { maxLength: 8 }), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(shape, fc.array(fc.nat(), { maxLength: 40 }), async (stretches, asked) => {
      const recording = await recordingOf(stretches);
      const expected = stretches.map((chunks) =>
        Array.from({ length: chunks.reduce((sum, count) => sum + count, 0) }, (_, n) => sampleEvent(n)),
      );
      assert.deepEqual(
        recording.stretches.map(({ log }) => log.length),
        expected.map(({ length }) => length),
      );
      for (const number of asked) {
        const stretch = number % stretches.length;
        const { log } = recording.stretches[stretch]!;
        const index = number % (log.length + 2);
        assert.deepEqual(log.at(index), expected[stretch]![index]);
      }
      assert.equal(recording.stretches[0]!.log.at(-1), undefined);
      for (const [n, { log }] of recording.stretches.entries()) {
        assert.deepEqual(eventsOf(log), expected[n]);
        const reader = new LogReader(log, 1);
        for (const { position, time, event } of expected[n]!.slice(1)) {
          assert.deepEqual(reader.take(position, time), event);
        }
        assert.equal(reader.take({ round: 1n << 40n, hart: 0, step: 0 }, 0n), undefined);
      }
    }),
    runs(60),
  );
});

test('a chunk has no more events than a writer begins in it', () => {
  const writer = new ByteWriter();
  for (let n = 0; n < 2 ** 17; n++) writer.raw(Uint8Array.of(5, 0, 0));
  let events = 0;
  const all = () => {
    for (const _ of readEvents(new ByteReader(writer.take()))) events++;
  };
  assert.throws(all, /an event begins behind the first 262144 bytes of its chunk/);
  assert.equal(events, Math.ceil(2 ** 18 / 3));
});

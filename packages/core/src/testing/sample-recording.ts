/** A small recording with all that there can be in one, and what it takes to pull it apart and put it together again. */

import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import type { LoggedEvent, Position } from '../machine/log.ts';
import { recordMachine } from '../machine/save.ts';
import { PAGE } from '../memory/layout.ts';
import type { DiskCaptureItem } from '../timeline/recording/captures.ts';
import { CHUNK_KINDS, type ChunkKind, encodeHeader, HEAD_SIZE, HEADER_SIZE } from '../timeline/recording/chunk.ts';
import type { Mark, RecordingEnd, RecordingInfo } from '../timeline/recording/info.ts';
import type { Recording } from '../timeline/recording/reader.ts';
import { type KeyframeInput, RecordingWriter } from '../timeline/recording/writer.ts';
import { recipeMachine, sharedEngine } from './machines.ts';
import { eventsOf, infoOf, MemorySink } from './recordings.ts';

const machine = recipeMachine({ harts: 2, sbi: false, seed: 1, rounds: 1 });
export const SAMPLE_RECORD = recordMachine(machine);
export const SAMPLE_INFO: RecordingInfo = {
  ...infoOf(machine),
  disks: [
    { size: 3n * 4096n + 512n, readOnly: false, name: 'root' },
    { size: 1n << 40n, readOnly: true, name: 'data' },
  ],
};
machine.free();

const at = (round: number, step = 0): Position => ({ round: BigInt(round), hart: 0, step });
export const sampleEvent = (round: number): LoggedEvent => ({
  position: at(round),
  time: BigInt(round) * 10n,
  event: { kind: 'console', bytes: Uint8Array.of(round) },
});
export const sampleMark = (stretch: number, when: number, name: string): Mark => ({
  at: BigInt(when),
  stretch,
  position: at(when, 3),
  time: BigInt(when),
  kind: 'guest',
  name,
});
export const SAMPLE_END: RecordingEnd = {
  at: 900n,
  stretch: 1,
  position: at(90, 4),
  time: 950n,
  hash: 'feed',
  exit: { kind: 'poweroff', code: 0 },
  why: 'the guest powered off',
};

/** A keyframe of pages by number, each filled with a byte; one of 0 with an even number is absent. `free` gives its frames back. */
export function sampleKeyframe(
  stretch: number,
  when: number,
  pages: Record<number, number> = {},
  written: readonly number[] = [],
): KeyframeInput & { free(): void } {
  const { pool } = sharedEngine();
  const frames = new Map<number, number>();
  for (const [page, fill] of Object.entries(pages)) {
    const frame = pool.allocate();
    pool.bytes.fill(fill, frame * PAGE, (frame + 1) * PAGE);
    frames.set(Number(page), frame);
  }
  return {
    stretch,
    at: BigInt(when),
    record: { ...SAMPLE_RECORD, clock: { ...SAMPLE_RECORD.clock, now: BigInt(when) } },
    hash: `hash ${when}`,
    pages: frames.keys(),
    frame: (page) => (pages[page] === 0 && page % 2 === 0 ? 0 : frames.get(page)!),
    hashOf: (frame) => new Uint8Array(16).fill(pool.bytes[frame * PAGE]!),
    written: [Uint32Array.from(written), new Uint32Array(0)],
    free: () => {
      for (const frame of frames.values()) pool.release(frame);
    },
  };
}

const block = (disk: number, epoch: number, number: number, fill: number): DiskCaptureItem => ({
  disk,
  epoch,
  block: number,
  content: new Uint8Array(disk === 0 && number === 3 ? 512 : 4096).fill(fill),
});

/** A recording of two stretches with a chunk of every kind. */
export async function sampleRecording(): Promise<Uint8Array> {
  const sink = new MemorySink();
  const writer = new RecordingWriter(sink, sharedEngine().pool);
  const keyframes = [
    sampleKeyframe(0, 0, { 1: 11, 2: 12, 5: 0, 8191: 13 }),
    sampleKeyframe(0, 100, { 2: 22, 5: 25 }, [0, 3]),
    sampleKeyframe(1, 100, { 1: 0, 2: 0, 7: 37 }, [1]),
    sampleKeyframe(1, 400, {}),
  ];
  void writer.start(SAMPLE_INFO);
  void writer.marks([]);
  void writer.keyframe(keyframes[0]!);
  void writer.events(0, [sampleEvent(1), sampleEvent(2)]);
  void writer.disk([block(0, 0, 0, 1), block(0, 0, 3, 2), block(1, 0, 2 ** 28 - 1, 3)]);
  void writer.events(0, []);
  void writer.keyframe(keyframes[1]!);
  void writer.marks([sampleMark(0, 100, 'b'), sampleMark(0, 50, 'a')]);
  void writer.disk([block(0, 1, 3, 4), block(0, 1, 0, 5)]);
  void writer.events(0, [sampleEvent(3)], { at: 99n, position: at(9), time: 90n });
  void writer.keyframe(keyframes[2]!);
  void writer.events(1, [sampleEvent(1)]);
  void writer.keyframe(keyframes[3]!);
  void writer.events(1, [sampleEvent(8)], { at: 450n, position: at(45), time: 460n });
  await writer.end(SAMPLE_END);
  for (const { free } of keyframes) free();
  return sink.bytes();
}

/** The one byte that all are, or all of them. */
function contentOf(bytes: Uint8Array): number | string {
  return bytes.every((byte) => byte === bytes[0]) ? bytes[0]! : Buffer.from(bytes).toString('hex');
}

/** Everything that a sample recording holds, read piece by piece. */
export function allOf(recording: Recording) {
  const bytes = new Uint8Array(PAGE);
  const pages = recording.keyframes.map(({ index }) =>
    Array.from(recording.pages(index), (page) => {
      const version = recording.version(index, page);
      recording.content(version, bytes);
      return [page, contentOf(bytes), recording.pageHash(version)?.[0]];
    }),
  );
  const blocks: unknown[] = [];
  for (const { index } of recording.keyframes) {
    for (const [disk, number] of [
      [0, 0],
      [0, 1],
      [0, 3],
      [1, 2 ** 28 - 1],
    ] as const) {
      const ref = recording.disks.find(disk, index, number);
      if (ref === undefined) continue;
      const into = new Uint8Array(number === 3 ? 512 : PAGE);
      recording.block(ref, into);
      blocks.push([index, disk, number, contentOf(into)]);
    }
  }
  const { info, keyframes, marks, end, complete } = recording;
  return {
    info,
    stretches: recording.stretches.map(({ log, ...stretch }) => ({ ...stretch, events: eventsOf(log) })),
    keyframes,
    marks,
    end,
    complete,
    pages,
    blocks,
    changed: keyframes.map(({ index }) => [...recording.changed(index)]),
    records: keyframes.map(({ index }) => recording.record(index)),
  };
}

/** Requires that what was found is the beginning of the whole: nothing in it is another thing. */
export function requireBeginning(found: ReturnType<typeof allOf>, whole: ReturnType<typeof allOf>): void {
  assert.deepEqual(found.info, whole.info);
  for (const what of ['keyframes', 'pages', 'changed', 'records'] as const) {
    assert.deepEqual(found[what], whole[what].slice(0, found[what].length), what);
  }
  for (const [n, { events, keyframes, ...stretch }] of found.stretches.entries()) {
    const { events: allEvents, keyframes: all, ...same } = whole.stretches[n]!;
    assert.deepEqual(stretch, same);
    assert.deepEqual(events, allEvents.slice(0, events.length));
    assert.ok(keyframes <= all);
  }
  for (const mark of found.marks) assert.ok(whole.marks.some((one) => isDeepStrictEqual(one, mark)));
  for (const block of found.blocks) assert.ok(whole.blocks.some((one) => isDeepStrictEqual(one, block)));
  if (found.complete) assert.deepEqual(found.end, whole.end);
  else assert.ok(found.end.at <= whole.end.at);
}

/** Where the chunks of a recording are. */
export function chunksOf(bytes: Uint8Array): { from: number; to: number; kind: ChunkKind; contents: number }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const found: ReturnType<typeof chunksOf> = [];
  for (let from = HEAD_SIZE; from < bytes.length; ) {
    const to = from + HEADER_SIZE + view.getUint32(from + 8, true);
    found.push({ from, to, kind: CHUNK_KINDS[bytes[from + 4]! - 1]!, contents: view.getUint16(from + 6, true) });
    from = to;
  }
  return found;
}

/** A recording whose chunks are changed, or left out, and put together again with checksums that are right. Nothing is compressed. */
export function rewritten(
  recording: Uint8Array,
  change: (kind: ChunkKind, content: Uint8Array, n: number) => Uint8Array | undefined,
): Uint8Array {
  const parts: Uint8Array[] = [recording.slice(0, HEAD_SIZE)];
  let number = 0;
  for (const [n, { from, to, kind, contents }] of chunksOf(recording).entries()) {
    const content = change(kind, recording.slice(from + HEADER_SIZE, to), n);
    if (!content) continue;
    parts.push(encodeHeader(number++, kind, 0, content, content.length, undefined, contents), content);
  }
  return Uint8Array.from(Buffer.concat(parts));
}

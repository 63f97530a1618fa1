/**
 * Made-up recordings, each with as much as a small file can hold of one thing: to open one takes bounded memory and work,
 * and what comes before the flood is there.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { crc32, zstdCompressSync } from 'node:zlib';
import { encodeState } from '@braid/core/state/encode.ts';
import { ByteWriter } from '@braid/core/timeline/recording/bytes.ts';
import { type ChunkKind, CODEC, encodeHead, encodeHeader } from '@braid/core/timeline/recording/chunk.ts';
import { KeyframeEncoder } from '@braid/core/timeline/recording/keyframe.ts';
import type { Opening } from './opening-worker.ts';
import { startOf } from './recording-worker.ts';

const folder = mkdtempSync(join(tmpdir(), 'braid-floods-'));
after(() => rmSync(folder, { recursive: true }));

const MIB = 2 ** 20;
const PAGES = 786_432;

const { info, record } = startOf();
const START = encodeState({
  version: 1,
  ...info,
  memory: PAGES * 4096,
  disks: [{ size: 1n << 44n, readOnly: false, name: 'd' }],
});

/** A keyframe of a machine with one disk. */
function keyframe(
  stretch = 0,
  {
    pages = 0,
    blocks = new Uint32Array(0),
    state = record,
  }: { pages?: number; blocks?: Uint32Array; state?: unknown } = {},
): Uint8Array {
  const moment = { at: 0n, position: { round: 0n, hart: 0, step: 0 }, time: 0n };
  const encoder = new KeyframeEncoder({ stretch, moment, steps: 0n, hash: '' }, [blocks], state as never);
  for (let page = 0; page < pages; page++) encoder.page(page, true);
  return encoder.finish(0, false);
}

/** A chunk's content, compressed once however often it is in a file. */
interface Piece {
  readonly kind: ChunkKind;
  readonly size: number;
  readonly stored: Uint8Array;
  readonly codec: number;
  readonly contents: number;
}

function piece(kind: ChunkKind, content: Uint8Array, contents = 0): Piece {
  const packed = zstdCompressSync(content);
  const smaller = packed.length < content.length;
  const codec = smaller ? CODEC.zstd : CODEC.none;
  return { kind, size: content.length, stored: smaller ? packed : content, codec, contents };
}

function file(name: string, pieces: Iterable<Piece>): string {
  const path = join(folder, name);
  const out = openSync(path, 'w');
  const parts: Uint8Array[] = [encodeHead()];
  let number = 0;
  for (const { kind, codec, stored, size, contents } of pieces) {
    parts.push(encodeHeader(number++, kind, codec, stored, size, crc32, contents), stored);
    if (parts.length > 10_000) writeSync(out, Buffer.concat(parts.splice(0)));
  }
  writeSync(out, Buffer.concat(parts));
  closeSync(out);
  return path;
}

function* flood(times: number, ...pieces: Piece[]): Generator<Piece> {
  yield piece('start', START);
  yield piece('keyframe', keyframe());
  for (; times > 0; times--) yield* pieces;
}

const WORKER = new URL('opening-worker.ts', import.meta.url).pathname;

function openingOf(path: string): Opening {
  const { stdout, stderr, status } = spawnSync(process.execPath, [WORKER, path], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as Opening;
}

function bytesOf(write: (writer: ByteWriter) => void): Uint8Array {
  const writer = new ByteWriter();
  write(writer);
  return writer.take();
}

const events = (write: (writer: ByteWriter) => void) =>
  piece(
    'events',
    bytesOf((writer) => {
      writer.raw(Uint8Array.of(0, 0));
      write(writer);
    }),
  );
const repeated = (writer: ByteWriter, times: number, bytes: readonly number[]) => {
  for (const one = Uint8Array.from(bytes); times > 0; times--) writer.raw(one);
};
const marks = (count: number, name: string) => {
  const position = { round: 0n, hart: 0, step: 0 };
  const one = { at: 0n, time: 0n, position, stretch: 0, kind: 'guest', name };
  return piece('marks', encodeState({ version: 1, marks: new Array(count).fill(one) }));
};

/** What is in the file, and what is said of it. */
const FLOODS: Readonly<Record<string, () => { pieces: Iterable<Piece>; says: RegExp }>> = {
  'tiny events': () => ({
    pieces: flood(
      300,
      events((writer) => repeated(writer, 2 ** 18 / 3, [5, 0, 0])),
    ),
    says: /there are more than 16777216 events/,
  }),
  'answers of many patches': () => ({
    pieces: flood(
      50,
      events((writer) => {
        for (let n = 0; n < 2; n++) {
          repeated(writer, 1, [0x8a, 0, 0, 0, 0]);
          writer.number(2 ** 16);
          repeated(writer, 2 ** 16, [0, 0]);
        }
      }),
    ),
    says: /^undefined$/,
  }),
  'events of many bytes': () => ({
    pieces: flood(
      200,
      events((writer) => {
        repeated(writer, 1, [0, 0, 0]);
        writer.sized(new Uint8Array(2 ** 24));
      }),
    ),
    says: /more has been unpacked/,
  }),
  'a chunk with more events than there may be': () => ({
    pieces: flood(
      1,
      events((writer) => repeated(writer, 2 ** 23, [5, 0, 0])),
    ),
    says: /an event begins behind/,
  }),
  'short marks': () => ({ pieces: flood(40, marks(50_000, '')), says: /more marks than a file of this size/ }),
  'long marks': () => ({ pieces: flood(40, marks(1300, '\u4e00'.repeat(4096))), says: /more marks than a file/ }),
  'records in a mark': () => ({
    pieces: flood(1, piece('marks', encodeState({ version: 1, marks: new Array(3_000_000).fill({}) }))),
    says: /takes too much memory for its bytes/,
  }),
  'lists in a mark': () => ({
    pieces: flood(1, piece('marks', encodeState({ version: 1, marks: new Array(3_000_000).fill([]) }))),
    says: /takes too much memory for its bytes/,
  }),
  'small keyframes': () => ({
    pieces: flood(200_000, piece('keyframe', keyframe(0, { state: 0 }))),
    says: /^undefined$/,
  }),
  'keyframes that name every page': () => ({
    pieces: flood(100, piece('keyframe', keyframe(0, { pages: PAGES }))),
    says: /more keyframes than a file/,
  }),
  'keyframes with large states': () => ({
    pieces: flood(100, piece('keyframe', keyframe(0, { state: new Uint8Array(31 * MIB) }))),
    says: /more has been unpacked/,
  }),
  'lists of written blocks': () => ({
    pieces: flood(20, piece('keyframe', keyframe(0, { blocks: Uint32Array.from({ length: 2 ** 23 }, (_, n) => n) }))),
    says: /more keyframes than a file/,
  }),
  stretches: () => ({
    pieces: (function* () {
      yield* flood(0);
      for (let stretch = 1; stretch < 200_000; stretch++) {
        const content = keyframe(stretch, { state: 0 });
        yield { kind: 'keyframe' as const, size: content.length, stored: content, codec: CODEC.none, contents: 0 };
      }
    })(),
    says: /more keyframes than a file/,
  }),
  'blocks of zeros': () => ({
    pieces: (function* () {
      yield* flood(120_000, piece('blocks', new Uint8Array(64 * 4096)));
      const named = piece(
        'disk',
        bytesOf((writer) => repeated(writer, 2 ** 20, [0, 0, 7])),
      );
      for (let n = 0; n < 7; n++) yield named;
    })(),
    says: /more blocks than a file of this size/,
  }),
  'chunks without anything': () => ({
    pieces: flood(
      60_000,
      piece('changes', new Uint8Array(0), 1),
      piece('hashes', new Uint8Array(0)),
      piece('events', Uint8Array.of(0, 0)),
      piece('disk', new Uint8Array(0)),
    ),
    says: /^undefined$/,
  }),
  'a start that says much': () => ({
    pieces: [piece('start', encodeState({ version: 1, braid: 'x'.repeat(20 * MIB) }))],
    says: /has \d+ bytes, more than/,
  }),
};

describe('to open a file with a flood of', () => {
  const quiet = openingOf(file('quiet', flood(0)));
  for (const [name, make] of Object.entries(FLOODS)) {
    test(name, (t) => {
      const { pieces, says } = make();
      const path = file('flood', pieces);
      const { size } = statSync(path);
      const { resident, cpu, stopped, error, counts } = openingOf(path);
      const above = (resident - quiet.resident) / MIB;
      t.diagnostic(
        `${(size / MIB).toFixed(2)} MiB: ${above.toFixed(0)} MiB, ${cpu.toFixed(0)} ms, ${stopped ?? error}`,
      );
      assert.match(`${stopped ?? error}`, says);
      if (counts) assert.ok(counts.keyframes >= 1);
      // What is held, what one chunk is unpacked to, and what garbage collection leaves for later.
      assert.ok(above <= 512 + (16 * size) / MIB, `${above} MiB above ${quiet.resident}`);
      assert.ok(cpu <= 60_000, `${cpu} ms`);
    });
  }
});

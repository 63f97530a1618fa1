/** Recordings in files: full disks, processes that die, damage, and files of others. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { deflateRawSync, zstdCompressSync } from 'node:zlib';
import { recordedHash } from '@braid/core/machine/hash.ts';
import { LogReader } from '@braid/core/machine/log.ts';
import { recipeMachine, runSteps, sharedEngine } from '@braid/core/testing/machines.ts';
import { Random } from '@braid/core/testing/random.ts';
import { eventsOf, memorySource, Recorder, restored } from '@braid/core/testing/recordings.ts';
import { CODEC } from '@braid/core/timeline/recording/chunk.ts';
import { RecordingError } from '@braid/core/timeline/recording/errors.ts';
import { Recording } from '@braid/core/timeline/recording/reader.ts';
import { RecordingWriter } from '@braid/core/timeline/recording/writer.ts';
import { failure, SimulatedFiles } from '../disk/testing.ts';
import type { BraidError } from '../errors.ts';
import { CODECS, openRecording, RecordingFile, type RecordingFileOptions } from './recording-file.ts';
import { eventOf, startOf } from './recording-worker.ts';

const folder = mkdtempSync(join(tmpdir(), 'braid-recording-'));
after(() => rmSync(folder, { recursive: true }));

const PATH = '/recordings/one';
const START = startOf();

function simulated(files: SimulatedFiles): RecordingFileOptions {
  return { files, writeAt: async (file, bytes, offset) => files.write(file, bytes, offset) };
}

const isError = (code: string, message: RegExp) => (error: unknown) => {
  assert.equal((error as BraidError).code, code, (error as Error).stack);
  assert.match((error as Error).message, message);
  return true;
};

/** Records a few keyframes of a machine; their hashes. */
async function record(sink: RecordingFile, keyframes = 3): Promise<string[]> {
  const machine = recipeMachine({ harts: 2, sbi: false, seed: 5, rounds: 500 }, { slice: 100 });
  const recorder = new Recorder(machine, sink);
  const hashes: string[] = [];
  try {
    for (let n = 0; n < keyframes; n++) {
      await recorder.keyframe();
      hashes.push(recordedHash(machine));
      machine.input({ kind: 'console', bytes: Uint8Array.of(n) });
      runSteps(machine, 700);
    }
    await recorder.events();
    const { position, now: time, exit } = machine;
    await recorder.writer.end({
      at: recorder.at,
      stretch: 0,
      position,
      time,
      hash: recordedHash(machine),
      exit,
      why: 'over',
    });
  } finally {
    recorder.free();
  }
  return hashes;
}

test('a machine that was recorded to a file is replayed from it', async () => {
  const path = join(folder, 'machine');
  const file = new RecordingFile(path);
  await record(file);
  await file.close();
  const { recording, close } = openRecording(path);
  assert.equal(readFileSync(path).length, file.size);
  const { changes } = recording.bytes;
  assert.ok(changes.stored < changes.raw / 2, `${changes.raw} bytes of changes take ${changes.stored}`);
  const { log, firstSteps } = recording.stretches[0]!;
  for (const { index, events } of recording.keyframes) {
    const machine = restored(recording, index);
    machine.follow(new LogReader(log, events));
    runSteps(machine, Number(recording.end.at - (machine.totalSteps - firstSteps)));
    assert.equal(recordedHash(machine), recording.end.hash);
    machine.free();
  }
  close();
});

test('each codec gives back what was compressed, and no more than it is allowed', () => {
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i % 17);
  const compressed = { [CODEC.deflate]: deflateRawSync(bytes), [CODEC.zstd]: zstdCompressSync(bytes) };
  for (const { id, decompress } of CODECS) {
    const packed = compressed[id as keyof typeof compressed]!;
    assert.deepEqual(Uint8Array.from(decompress(packed, bytes.length)), bytes);
    assert.throws(() => decompress(packed, bytes.length - 1));
    assert.throws(() => decompress(packed.subarray(1), bytes.length));
  }
});

test('appends are written in their order, whatever their size, and a write that does part is gone on with', async () => {
  const files = new SimulatedFiles();
  let end = 16;
  const file = new RecordingFile(PATH, {
    files,
    writeAt: async (_, bytes, offset) => {
      assert.equal(offset, end);
      const count = Math.ceil(bytes.length / 2);
      end += count;
      return count;
    },
  });
  const random = new Random(3);
  const contents = Array.from({ length: 60 }, (_, i) => new Uint8Array(i % 3 === 0 ? 1 + i : random.below(2 ** 20)));
  for (const content of contents) {
    // Half of each can be compressed.
    for (let at = 0; at < content.length / 2; at++) content[at] = random.below(256);
  }
  const order: number[] = [];
  await Promise.all(contents.map((content, i) => file.append('marks', content).then(() => order.push(i))));
  assert.deepEqual(order, [...contents.keys()]);
  await file.close();
  assert.equal(files.openFiles, 0);
  assert.equal(file.size, end);
  await assert.rejects(file.append('marks', new Uint8Array(1)), isError('ERR_BRAID_RECORDING', /closed/));
});

test('a disk that is full somewhere ends the recording, which is there up to its last whole chunk', async () => {
  const whole = new SimulatedFiles();
  const written = new RecordingFile(PATH, simulated(whole));
  const hashes = await recordSmall(written);
  const all = whole.content(PATH)!;
  let opened = 0;
  for (let room = 0; room < all.length; room += 5) {
    const files = new SimulatedFiles();
    files.room = room;
    let file: RecordingFile;
    try {
      file = new RecordingFile(PATH, simulated(files));
    } catch (error) {
      assert.ok(room < 16);
      assert.ok(isError('ERR_BRAID_FILE', /\/recordings\/one/)(error));
      assert.equal(files.openFiles, 0);
      continue;
    }
    const failed = isError('ERR_BRAID_RECORDING', /\/recordings\/one: the disk is full/);
    await assert.rejects(recordSmall(file), failed);
    await assert.rejects(file.append('marks', new Uint8Array(3)), failed);
    await file.close();
    assert.equal(files.openFiles, 0);
    const left = files.content(PATH)!;
    assert.equal(left.length, file.size);
    assert.ok(all.subarray(0, left.length).equals(left));
    const found = recordingOf(left);
    if (found instanceof RecordingError) continue;
    opened++;
    assert.equal(found.complete, false);
    assert.deepEqual(
      found.keyframes.map(({ hash }) => hash),
      hashes.slice(0, found.keyframes.length),
    );
  }
  assert.ok(opened > 100, `${opened} recordings could be opened`);
});

/** A recording of one page and some events. */
async function recordSmall(sink: RecordingFile): Promise<string[]> {
  const { pool } = sharedEngine();
  const frame = pool.allocate();
  const writer = new RecordingWriter(sink, pool);
  const { info, record } = START;
  try {
    await writer.start(info);
    for (let n = 0; n < 3; n++) {
      pool.bytes[frame * 4096] = n;
      await writer.keyframe({
        stretch: 0,
        at: BigInt(n),
        record,
        hash: `${n}`,
        pages: [7],
        frame: () => frame,
        written: [],
      });
      await writer.events(0, [eventOf(n)]);
    }
  } finally {
    pool.release(frame);
    await sink.close();
  }
  return ['0', '1', '2'];
}

/** What a file's bytes are, opened without touching them. */
function recordingOf(bytes: Uint8Array): Recording | RecordingError {
  try {
    return Recording.open(memorySource(bytes), CODECS);
  } catch (error) {
    assert.ok(error instanceof RecordingError, (error as Error).stack);
    assert.equal(typeof error.offset, 'number');
    return error;
  }
}

test('an error other than of the disk ends a recording too', async () => {
  const files = new SimulatedFiles();
  let left = 5;
  files.fault = (call) => {
    if (call === 'write' && --left < 0) throw failure('EIO');
  };
  const file = new RecordingFile(PATH, simulated(files));
  await assert.rejects(recordSmall(file), isError('ERR_BRAID_RECORDING', /the disk has an error.* can be replayed/));
  files.fault = undefined;
  await assert.rejects(
    file.append('marks', new Uint8Array(3)),
    isError('ERR_BRAID_RECORDING', /the disk has an error/),
  );
});

test('a process that is killed while it records leaves a recording', async (t) => {
  for (const [n, delay] of [0, 30, 150].entries()) {
    await t.test(`after ${delay} ms`, async () => {
      const path = join(folder, `killed-${n}`);
      const child = spawn(process.execPath, [new URL('recording-worker.ts', import.meta.url).pathname, path], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exited = new Promise((resolve) => child.once('exit', resolve));
      let said = '';
      await new Promise<void>((resolve) => {
        child.stdout.on('data', (bytes) => {
          said += bytes;
          if (said.includes('\n')) setTimeout(resolve, delay);
        });
      });
      child.kill('SIGKILL');
      await exited;
      const told = Number(said.trimEnd().split('\n').at(-1));
      const { recording, close } = openRecording(path);
      assert.equal(recording.complete, false);
      assert.equal(recording.end.why, 'the recording is cut off');
      const events = eventsOf(recording.stretches[0]!.log);
      assert.ok(events.length >= told, `${events.length} events, of which ${told} were said to be there`);
      assert.deepEqual(
        events,
        Array.from(events, (_, i) => eventOf(i)),
      );
      const content = new Uint8Array(4096);
      for (const { index, at } of recording.keyframes) {
        recording.content(recording.version(index, 3), content);
        assert.equal(new DataView(content.buffer).getBigUint64(0, true), at + 1n);
      }
      close();
    });
  }
});

test('files of others are left alone, older recordings are replaced', async () => {
  const path = join(folder, 'other');
  writeFileSync(path, 'my letters');
  assert.throws(() => new RecordingFile(path), isError('ERR_BRAID_FILE', /other: it is there already/));
  assert.equal(readFileSync(path, 'utf8'), 'my letters');
  assert.throws(() => openRecording(path), isError('ERR_BRAID_RECORDING', /other: .*no recording/));
  assert.throws(() => openRecording(join(folder, 'none')), isError('ERR_BRAID_FILE', /no such file/));
  assert.throws(() => openRecording(folder), isError('ERR_BRAID_FILE', /no regular file/));
  assert.throws(() => new RecordingFile(folder, { overwrite: true }), isError('ERR_BRAID_FILE', /no regular file/));
  assert.throws(() => new RecordingFile(join(folder, 'none', 'x')), isError('ERR_BRAID_FILE', /no such file/));
  const file = new RecordingFile(path, { overwrite: true });
  const hashes = await record(file);
  await file.close();
  // One that is being read stays what it is for its reader.
  const { recording, close } = openRecording(path);
  truncateSync(join(folder, 'other'), readFileSync(path).length);
  const again = new RecordingFile(path);
  await recordSmall(again);
  assert.equal(recording.record(0).version, START.record.version);
  assert.deepEqual(
    recording.keyframes.map(({ hash }) => hash),
    hashes,
  );
  close();
  symlinkSync(path, join(folder, 'link'));
  await recordSmall(new RecordingFile(join(folder, 'link')));
  assert.ok(readFileSync(path).length > 16, 'where the link led to is as it was');
});

test('damage anywhere is noticed when it is read, at the latest', async () => {
  const path = join(folder, 'damaged');
  const file = new RecordingFile(path);
  await record(file);
  await file.close();
  const good = readFileSync(path);
  const expected = allOf(recordingOf(good) as Recording);
  const random = new Random(11);
  let noticed = 0;
  for (let turn = 0; turn < 400; turn++) {
    const bad = Buffer.from(good);
    for (let flips = 1 + random.below(3); flips > 0; flips--) bad[random.below(bad.length)]! ^= 1 << random.below(8);
    if (random.chance(0.2)) bad.copyWithin(random.below(bad.length), random.below(bad.length), bad.length);
    try {
      const found = recordingOf(bad);
      if (found instanceof RecordingError) throw found;
      if (found.stopped) noticed++;
      else assert.deepEqual(allOf(found), expected);
    } catch (error) {
      assert.ok(error instanceof RecordingError, (error as Error).stack);
      noticed++;
    }
  }
  assert.ok(noticed > 390, `${noticed} noticed`);
});

/** Everything that a recording holds. */
function allOf(recording: Recording): unknown {
  const content = new Uint8Array(4096);
  return {
    ...recording.info,
    end: recording.end,
    marks: recording.marks,
    stretches: recording.stretches.map(({ log, ...stretch }) => ({ ...stretch, events: eventsOf(log) })),
    keyframes: recording.keyframes.map(({ index }) => ({
      ...recording.keyframes[index],
      record: recording.record(index),
      pages: Array.from(recording.pages(index), (page) => {
        const version = recording.version(index, page);
        recording.content(version, content);
        return [page, Buffer.from(content).toString('latin1'), recording.pageHash(version)];
      }),
    })),
  };
}

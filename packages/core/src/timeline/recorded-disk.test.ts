/** Disks in recordings: replays from any keyframe, over what was captured, read what the recorded machine read. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type BlockBackend, MemoryBackend } from '../devices/virtio-block/backend.ts';
import { BLOCK } from '../disk/block-map.ts';
import { DiskError } from '../disk/errors.ts';
import { FrameBlocks } from '../disk/frame-blocks.ts';
import { OverlayBackend } from '../disk/overlay.ts';
import { type CapturedBlock, DiskCapture } from '../machine/disk-capture.ts';
import { WrittenBackend } from '../machine/written.ts';
import { Pool } from '../memory/pool.ts';
import { MemoryBlockMap } from '../testing/block-map.ts';
import { SEED } from '../testing/machines.ts';
import { DiskHistory } from './disk-history.ts';
import { RecordedDisk } from './recorded-disk.ts';

const SECTOR = 512;
const BLOCKS = 5;

function image(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => 1 + ((i * 31 + Math.floor(i / SECTOR) * 7 + seed) % 255));
}

interface Op {
  readonly kind: 'read' | 'write' | 'zero' | 'discard' | 'keyframe' | 'outside';
  readonly disk: number;
  readonly at: number;
  readonly length: number;
  readonly fill: number;
}

const ops = fc.array(
  fc.record<Op>({
    kind: fc.constantFrom(
      'read',
      'read',
      'read',
      'write',
      'write',
      'zero',
      'discard',
      'keyframe',
      'keyframe',
      'outside',
    ),
    disk: fc.nat(1),
    at: fc.oneof(
      fc.nat(BLOCKS * BLOCK),
      fc.nat(BLOCKS * 8).map((sector) => sector * SECTOR),
      fc.nat(BLOCKS).map((block) => block * BLOCK),
    ),
    length: fc.oneof(fc.nat(3 * BLOCK), fc.constantFrom(0, SECTOR, BLOCK, 2 * BLOCK, BLOCKS * BLOCK)),
    fill: fc.integer({ min: 1, max: 255 }),
  }),
  { minLength: 1, maxLength: 60 },
);
const sizes = fc.array(
  fc.oneof(
    fc.integer({ min: 1, max: BLOCKS * 8 }).map((sectors) => sectors * SECTOR),
    fc.integer({ min: 1, max: BLOCKS * BLOCK }),
  ),
  { minLength: 1, maxLength: 2 },
);

/** A backend that answers as a disk in an array does, after `before`. */
function wrapped(inner: MemoryBackend, before: (work: () => void) => void | Promise<void>): BlockBackend {
  return {
    size: inner.size,
    readOnly: false,
    read: (offset, into) => before(() => inner.read(offset, into)),
    write: (offset, bytes) => before(() => inner.write(offset, bytes)),
    flush: () => before(() => {}),
    zero: (offset, length) => before(() => inner.zero(offset, length)),
    discard: (offset, length) => before(() => inner.zero(offset, length)),
  };
}

function call(disk: BlockBackend, { kind, fill }: Op, at: number, bytes: Uint8Array): void | Promise<void> {
  if (kind === 'read') return disk.read(at, bytes);
  if (kind === 'zero') return disk.zero!(at, bytes.length);
  if (kind === 'discard') return disk.discard!(at, bytes.length);
  return disk.write(at, bytes.fill(fill));
}

/** What happened, in order. */
type Happened =
  /** `read`: what the guest saw. Without it, a change. */
  | { readonly op: Op; readonly disk: number; readonly at: number; readonly length: number; readonly read?: Uint8Array }
  /** A replay does not get beyond it. */
  | 'end';

interface Recorded {
  readonly sizes: readonly number[];
  readonly happened: readonly Happened[];
  /** How much had happened at each, and what the disks held. */
  readonly keyframes: readonly { readonly from: number; readonly disks: readonly Uint8Array[] }[];
  readonly history: DiskHistory;
  readonly taken: readonly CapturedBlock[];
}

/** Carries out random calls on recorded disks. */
async function recorded(
  sizes: readonly number[],
  ops: readonly Op[],
  make: (memory: MemoryBackend) => BlockBackend,
): Promise<Recorded> {
  const memories = sizes.map((size, n) => new MemoryBackend(image(size, n)));
  const models = memories.map(({ bytes }) => bytes.slice());
  const backends = memories.map((memory) => new WrittenBackend(make(memory)));
  const history = new DiskHistory();
  const taken: CapturedBlock[] = [];
  const capture = new DiskCapture(backends, (block) => {
    history.captured(block.disk, block.epoch, block.block, taken.length);
    taken.push(block);
  });
  const happened: Happened[] = [];
  const keyframes = [{ from: 0, disks: models.map((model) => model.slice()) }];
  const keyframe = (from: number) => {
    for (const [disk, blocks] of capture.nextEpoch().entries()) history.written(disk, keyframes.length - 1, blocks);
    keyframes.push({ from, disks: models.map((model) => model.slice()) });
  };
  for (const op of ops) {
    const disk = op.disk % sizes.length;
    const model = models[disk]!;
    const at = Math.min(op.at, model.length);
    const length = Math.min(op.length, model.length - at);
    const bytes = new Uint8Array(length);
    if (op.kind === 'keyframe') {
      keyframe(happened.length);
    } else if (op.kind === 'outside') {
      // Somebody else changes the disk, as an adoption does; a keyframe comes at once.
      memories[disk]!.write(at, bytes.fill(op.fill));
      model.set(bytes, at);
      backends[disk]!.mark(at, length);
      happened.push('end');
      keyframe(happened.length);
    } else {
      try {
        const answer = call(backends[disk]!, op, at, bytes);
        assert.equal(capture.busy, answer !== undefined && op.kind !== 'read');
        // A read that a keyframe meets under way is begun again by a replay from there.
        if (answer && op.kind === 'read' && op.fill % 4 === 0) keyframe(happened.length);
        await answer;
        if (op.kind === 'write') model.set(bytes, at);
        else if (op.kind !== 'read') model.fill(0, at, at + length);
        happened.push({ op, disk, at, length, ...(op.kind === 'read' ? { read: bytes } : {}) });
      } catch (error) {
        assert.equal((error as Error).message, 'bad sector');
        // Nobody has seen what was read; what a failed change has left is no function of what was before.
        if (op.kind !== 'read') happened.push('end');
      }
      assert.equal(capture.busy, false);
    }
  }
  capture.stop();
  return { sizes, happened, keyframes, history, taken };
}

/** Repeats what happened from a keyframe on; how many calls there were until the recording lacked something. */
async function repeat(recording: Recorded, first: number, moves: boolean): Promise<{ calls: number; whole: boolean }> {
  const { happened, keyframes, history, taken } = recording;
  const bases = recording.sizes.map(
    (size, disk) =>
      new RecordedDisk(history, disk, { size: BigInt(size), readOnly: false }, (ref, into) =>
        into.set(taken[ref]!.content),
      ),
  );
  const disks = bases.map((base) => new OverlayBackend(base, new MemoryBlockMap(), { frozen: true }));
  const move = (keyframe: number) => {
    for (const base of bases) base.keyframe = keyframe;
  };
  move(first);
  let passed = first;
  let calls = 0;
  for (let i = keyframes[first]!.from; i < happened.length; i++, calls++) {
    const one = happened[i]!;
    if (one === 'end') break;
    while (keyframes[passed + 1] && keyframes[passed + 1]!.from <= i) passed++;
    if (moves) move(passed);
    const bytes = new Uint8Array(one.length);
    try {
      await call(disks[one.disk]!, one.op, one.at, bytes);
    } catch (error) {
      assert.ok(error instanceof DiskError, String(error));
      return { calls, whole: false };
    }
    if (one.read) assert.deepEqual(bytes, one.read);
  }
  return { calls, whole: true };
}

/** What a keyframe's disks hold by the recording is what they held. */
function checkKeyframe({ sizes, keyframes, history, taken }: Recorded, keyframe: number): void {
  for (const [disk, size] of sizes.entries()) {
    for (let block = 0; block * BLOCK < size; block++) {
      const ref = history.find(disk, keyframe, block);
      if (ref === undefined) continue;
      const held = keyframes[keyframe]!.disks[disk]!.slice(block * BLOCK, (block + 1) * BLOCK);
      assert.deepEqual(taken[ref]!.content, held, `block ${block} of disk ${disk} at keyframe ${keyframe}`);
    }
  }
}

const BASES: Record<string, (memory: MemoryBackend) => BlockBackend> = {
  'at once': (memory) => memory,
  late: (memory) => wrapped(memory, (work) => Promise.resolve().then(work)),
  'through an overlay': (memory) => new OverlayBackend(memory, new MemoryBlockMap(), { frozen: true }),
};

for (const [name, make] of Object.entries(BASES)) {
  // Changes from outside reach the memory below, which an overlay hides: they are left out there.
  const only = name === 'through an overlay' ? (op: Op) => op.kind !== 'outside' : () => true;
  const withDiscard =
    name === 'at once' ? (op: Op) => ({ ...op, kind: op.kind === 'discard' ? 'zero' : op.kind }) : (op: Op) => op;
  test(`a replay from any keyframe reads what was read, on disks that answer ${name} (seed ${SEED})`, async () => {
    await fc.assert(
      fc.asyncProperty(sizes, ops, async (sizes, ops) => {
        const recording = await recorded(sizes, ops.filter(only).map(withDiscard) as Op[], make);
        for (let keyframe = 0; keyframe < recording.keyframes.length; keyframe++) {
          checkKeyframe(recording, keyframe);
          for (const moves of [false, true]) assert.ok((await repeat(recording, keyframe, moves)).whole);
        }
      }),
      { seed: SEED, numRuns: 400 },
    );
  });
}

test(`what a failing disk leaves out of a recording is missed, never made up (seed ${SEED})`, async () => {
  const failures = fc.infiniteStream(fc.integer({ min: 0, max: 4 }));
  let [whole, cut] = [0, 0];
  await fc.assert(
    fc.asyncProperty(sizes, ops, failures, fc.boolean(), async (sizes, ops, failures, waits) => {
      const recording = await recorded(sizes, ops, (memory) =>
        wrapped(memory, (work) => {
          const answer = () => {
            if (failures.next().value === 0) throw new Error('bad sector');
            work();
          };
          return waits ? Promise.resolve().then(answer) : answer();
        }),
      );
      for (let keyframe = 0; keyframe < recording.keyframes.length; keyframe++) {
        checkKeyframe(recording, keyframe);
        if ((await repeat(recording, keyframe, true)).whole) whole++;
        else cut++;
      }
    }),
    { seed: SEED, numRuns: 200 },
  );
  assert.ok(whole > cut && cut > 0, `${whole} replays reached the end, ${cut} did not`);
});

test('a block is taken once a version', () => {
  const memory = new MemoryBackend(image(3 * BLOCK, 0));
  const backend = new WrittenBackend(memory);
  let taken: CapturedBlock[] = [];
  const capture = new DiskCapture([backend], (block) => taken.push(block));
  const read = (block: number, blocks = 1) => {
    taken = [];
    backend.read(block * BLOCK, new Uint8Array(blocks * BLOCK));
    return taken.map(({ epoch, block }) => [epoch, block]);
  };
  const write = (block: number, bytes: number) => backend.write(block * BLOCK, new Uint8Array(bytes));
  assert.deepEqual(read(0, 2), [
    [0, 0],
    [0, 1],
  ]);
  assert.deepEqual(read(0, 3), [[0, 2]]);
  write(1, BLOCK);
  assert.deepEqual(read(0, 3), [], 'a replay has written it itself');
  assert.deepEqual(capture.nextEpoch(), [Uint32Array.of(1)]);
  assert.deepEqual(read(0, 3), [[1, 1]]);
  assert.deepEqual(read(0, 3), []);
  taken = [];
  write(1, SECTOR);
  assert.equal(taken.length, 0, 'its content is known');
  assert.deepEqual(capture.nextEpoch(), [Uint32Array.of(1)]);
  write(1, SECTOR);
  assert.deepEqual(
    taken.map(({ epoch, content }) => [epoch, content.length]),
    [[2, BLOCK]],
  );
  capture.stop();
  assert.deepEqual(capture.nextEpoch(), [Uint32Array.of(1)]);
  assert.deepEqual(read(0, 3), []);
  assert.ok(new DiskCapture([backend], () => {}), 'the disks can be recorded again');
  assert.throws(() => new DiskCapture([backend], () => {}), { code: 'ERR_BRAID_MACHINE' });
});

test('ranges that cover blocks wholly, the last one of the disk too, are read once', () => {
  const memory = new MemoryBackend(image(10_000, 0));
  const calls: number[] = [];
  const inner = wrapped(memory, (work) => {
    calls.push(1);
    work();
  });
  const backend = new WrittenBackend(inner);
  const taken: CapturedBlock[] = [];
  new DiskCapture([backend], (block) => taken.push(block));
  backend.read(BLOCK, new Uint8Array(10_000 - BLOCK));
  backend.write(0, new Uint8Array(BLOCK));
  assert.equal(calls.length, 2);
  assert.deepEqual(
    taken.map(({ block, content }) => [block, content.length]),
    [
      [1, BLOCK],
      [2, 10_000 - 2 * BLOCK],
    ],
  );
});

test('a recording that begins while a read is under way has it, and none begins in a change', async () => {
  const memory = new MemoryBackend(image(2 * BLOCK, 0));
  const backend = new WrittenBackend(wrapped(memory, (work) => Promise.resolve().then(work)));
  const read = backend.read(BLOCK, new Uint8Array(BLOCK));
  const taken: CapturedBlock[] = [];
  const capture = new DiskCapture([backend], (block) => taken.push(block));
  await read;
  assert.deepEqual(taken, [{ disk: 0, epoch: 0, block: 1, content: memory.bytes.slice(BLOCK) }]);
  capture.stop();
  const write = backend.write(0, new Uint8Array(SECTOR));
  assert.throws(() => new DiskCapture([backend], () => {}), { code: 'ERR_BRAID_MACHINE' });
  await write;
});

test('a disk that is replaced while a read is under way gives nothing of the old one', async () => {
  const memory = new MemoryBackend(image(2 * BLOCK, 0));
  const backend = new WrittenBackend(wrapped(memory, (work) => Promise.resolve().then(work)));
  const taken: CapturedBlock[] = [];
  const capture = new DiskCapture([backend], (block) => taken.push(block));
  const read = backend.read(SECTOR, new Uint8Array(BLOCK));
  backend.mark(0, BLOCK);
  capture.nextEpoch();
  await read;
  assert.deepEqual(taken, []);
});

test("the host's failures are told, and a full pool is none", () => {
  const codes: (string | undefined)[] = [undefined, 'ERR_BRAID_POOL_FULL'];
  const backend = new WrittenBackend(
    wrapped(new MemoryBackend(image(BLOCK, 0)), () => {
      throw Object.assign(new Error('no'), { code: codes.shift() });
    }),
  );
  const failed: number[] = [];
  new DiskCapture(
    [backend],
    () => {},
    (disk) => failed.push(disk),
  );
  assert.throws(() => backend.read(0, new Uint8Array(BLOCK)));
  assert.throws(() => backend.write(0, new Uint8Array(BLOCK)));
  assert.deepEqual(failed, [0]);
});

test('what goes wrong in a recording is no business of the guest', async () => {
  for (const late of [false, true]) {
    const memory = new MemoryBackend(image(3 * BLOCK, 0));
    const backend = new WrittenBackend(wrapped(memory, (work) => (late ? Promise.resolve().then(work) : void work())));
    const failed: unknown[] = [];
    new DiskCapture(
      [backend],
      ({ block }) => {
        throw new Error(`no room for block ${block}`);
      },
      (_, error) => failed.push((error as Error).message),
    );
    const content = new Uint8Array(BLOCK);
    await backend.read(0, content);
    assert.deepEqual(content, memory.bytes.slice(0, BLOCK));
    // In part: what it covers is read first.
    await backend.write(BLOCK, Uint8Array.of(1, 2, 3));
    assert.deepEqual([...memory.bytes.subarray(BLOCK, BLOCK + 3)], [1, 2, 3]);
    await backend.zero?.(2 * BLOCK + 1, 5);
    assert.deepEqual(failed, ['no room for block 0', 'no room for block 1', 'no room for block 2']);
  }
});

test('what is not in a recording is an error that says so, and so are bad numbers', () => {
  const history = new DiskHistory();
  const disk = new RecordedDisk(history, 0, { size: 10_000n, readOnly: true }, (ref, into) => into.fill(ref));
  history.captured(0, 1, 2, 9);
  const tail = new Uint8Array(2);
  disk.read(9998, tail);
  assert.deepEqual([...tail], [9, 9]);
  assert.throws(() => disk.read(4000, new Uint8Array(4200)), {
    code: 'ERR_BRAID_DISK',
    message: /block 0 of disk 0 \(bytes 0 to 4095\).*keyframe 0/,
  });
  assert.throws(() => disk.write(), { code: 'ERR_BRAID_DISK' });
  assert.throws(() => history.captured(0, 0, 2, 9), { code: 'ERR_BRAID_DISK' });
  assert.throws(() => history.captured(0, 1, -1, 9), { code: 'ERR_BRAID_DISK' });
  assert.throws(() => history.written(0, 2 ** 32, Uint32Array.of(1)), { code: 'ERR_BRAID_DISK' });
});

test('an overlay clears what its base does not have, in little room', () => {
  const pool = new Pool();
  const blocks = 100;
  const base = new RecordedDisk(new DiskHistory(), 0, { size: BigInt(blocks * BLOCK), readOnly: false }, () => {});
  const map = new FrameBlocks(pool, base.size);
  const disk = new OverlayBackend(base, map, { frozen: true });
  const before = pool.used;
  disk.discard(0, blocks * BLOCK);
  assert.ok(pool.used - before <= 2, 'a leaf, and a frame that they share');
  const content = new Uint8Array(blocks * BLOCK);
  disk.write(3 * BLOCK + 5, Uint8Array.of(7));
  disk.write(99 * BLOCK, Uint8Array.of(8));
  disk.read(0, content);
  assert.deepEqual([content[3 * BLOCK + 5], content[99 * BLOCK]], [7, 8]);
  assert.equal(content.filter((byte) => byte !== 0).length, 2);
  disk.zero(3 * BLOCK, BLOCK);
  disk.read(0, content);
  assert.equal(content[3 * BLOCK + 5], 0);
  disk.release();
  assert.equal(pool.used, before - 1, 'every frame is free again, the directory too');
});

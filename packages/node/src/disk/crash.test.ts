/** Crashes at every instant of a disk's life, full disks at every byte, and calls that fail: what was flushed is there. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OverlayBackend } from '@braid/core/disk/overlay.ts';
import { MemoryBlockMap } from '@braid/core/testing/block-map.ts';
import { Random } from '@braid/core/testing/random.ts';
import { FileBackend } from './file-backend.ts';
import { type Choose, EVERYTHING, failure, NOTHING, SimulatedFiles } from './testing.ts';

const SEED = Number(process.env.BRAID_SEED ?? 1);
const IMAGE = '/disks/image';
const BLOCK = 4096;
const SECTOR = 512;
const SIZE = 5 * BLOCK + SECTOR;

/** What a disk holds, what of it was told to be durable, and what may be durable by now. */
class Expected {
  /** As the guest sees it. */
  now: Buffer;
  private states: Buffer[];
  /** The first of them that a crash may leave. */
  private told = 0;

  constructor(image: Buffer) {
    this.now = Buffer.from(image);
    this.states = [Buffer.from(image)];
  }

  /** What `make` makes durable; a failure leaves it open. */
  durable(make: () => void): void {
    this.states.push(Buffer.from(this.now));
    make();
    this.told = this.states.length - 1;
  }

  check(found: Buffer | undefined, when: string): void {
    assert.ok(found, when);
    const matches = this.states.slice(this.told).some((state) => state.equals(found));
    assert.ok(matches, `${when}: the disk is none of the ${this.states.length - this.told} it may be`);
  }

  /** What is in place without having been flushed: each sector, or byte, may be there. */
  checkLoose(found: Buffer, unit: number, when: string): void {
    const states = [...this.states.slice(this.told), this.now];
    for (let at = 0; at < SIZE; at += unit) {
      const may = states.some((state) => state.compare(found, at, at + unit, at, at + unit) === 0);
      assert.ok(may, `${when}: byte ${at}`);
    }
  }
}

function image(): Buffer {
  return Buffer.from(Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + Math.floor(i / SECTOR)) % 251));
}

function newFiles(): SimulatedFiles {
  const files = new SimulatedFiles();
  files.put(IMAGE, image());
  return files;
}

/** A disk with an overlay, in step with what is expected of it. */
class Guest {
  readonly file: FileBackend;
  readonly expected: Expected;
  /** Whether something is in the image without having been flushed. */
  loose = false;
  private map = new MemoryBlockMap();
  private disk: OverlayBackend;
  private stamp = 0;

  constructor(files: SimulatedFiles, expected: Expected, journalSize = 2 ** 30) {
    this.file = new FileBackend(IMAGE, false, { files, journalSize });
    this.expected = expected;
    this.disk = new OverlayBackend(this.file, this.map, { journal: this.file });
  }

  freeze(): void {
    this.disk.freeze();
  }

  write(...ranges: [from: number, to: number][]): void {
    if (!this.disk.frozen) this.loose = true;
    for (const [from, to] of ranges) {
      const bytes = Buffer.alloc(to - from, `${++this.stamp} `);
      bytes.copy(this.expected.now, from);
      this.disk.write(from, bytes);
    }
  }

  zero(from: number, to: number): void {
    this.disk.zero(from, to - from);
    this.expected.now.fill(0, from, to);
  }

  flush(): void {
    this.expected.durable(() => this.disk.flush());
    this.loose = false;
  }

  commit(): void {
    this.expected.durable(() => this.disk.commit());
  }

  thaw(): void {
    this.disk.thaw();
  }

  /** A fork as it is now. */
  fork(): { map: MemoryBlockMap; now: Buffer } {
    return { map: this.map.fork(), now: Buffer.from(this.expected.now) };
  }

  adopt({ map, now }: { map: MemoryBlockMap; now: Buffer }): void {
    this.map = map;
    this.disk = new OverlayBackend(this.file, map, { journal: this.file, frozen: true });
    now.copy(this.expected.now);
  }
}

/** The life of a disk; every kind of thing happens. */
function live(guest: Guest): void {
  guest.write([3 * BLOCK, 4 * BLOCK]);
  guest.freeze();
  guest.write([100, 900], [2 * BLOCK, 3 * BLOCK]);
  guest.flush();
  const clone = guest.fork();
  guest.write([2 * BLOCK + SECTOR, 3 * BLOCK + SECTOR], [5 * BLOCK, SIZE]);
  guest.flush();
  guest.flush();
  guest.adopt(clone);
  guest.flush();
  guest.write([BLOCK, 2 * BLOCK]);
  guest.commit();
  const empty = guest.fork();
  guest.write([0, BLOCK], [4 * BLOCK, SIZE]);
  guest.flush();
  guest.adopt(empty);
  guest.flush();
  guest.zero(BLOCK + SECTOR, 4 * BLOCK);
  guest.flush();
  guest.write([3 * BLOCK, 3 * BLOCK + 1]);
  guest.commit();
  guest.thaw();
  guest.write([0, SECTOR], [4 * BLOCK, SIZE]);
  guest.flush();
  guest.file.close();
}

function content(files: SimulatedFiles): Buffer | undefined {
  return files.content(IMAGE);
}

/** Opens what a crash has left, with more crashes on the way, and looks at it. */
function checkRecovery(
  files: SimulatedFiles,
  guest: Guest,
  when: string,
  more: readonly Choose[],
  unit = SECTOR,
): void {
  const again: SimulatedFiles[] = [];
  const { expected } = guest;
  files.onChange = more.length === 0 ? undefined : () => again.push(...more.map((choose) => files.afterCrash(choose)));
  new FileBackend(IMAGE, false, { files }).close();
  assert.deepEqual(files.paths(), [IMAGE], when);
  assert.equal(files.openFiles, 0, when);
  if (guest.loose) expected.checkLoose(content(files)!, unit, when);
  else expected.check(content(files), when);
  for (const [i, left] of again.entries()) checkRecovery(left, guest, `${when}, then at ${i} of the recovery`, []);
}

test(`a crash between any two calls leaves what was flushed, and so does one while that is brought in (seed ${SEED})`, () => {
  const files = newFiles();
  const guest = new Guest(files, new Expected(image()));
  const random = new Random(SEED);
  const some: Choose = (n) => random.below(n);
  let calls = 0;
  files.onChange = (call) => {
    const when = `before call ${calls++}, ${call}`;
    for (const choose of [NOTHING, EVERYTHING, ...Array<Choose>(12).fill(some)]) {
      checkRecovery(files.afterCrash(choose), guest, when, [NOTHING, EVERYTHING, some, some]);
    }
  };
  live(guest);
  assert.ok(calls > 45, `${calls} calls`);
  guest.expected.check(content(files), 'in the end');
});

test('a crash at any byte of a write leaves what was flushed', () => {
  const files = newFiles();
  const guest = new Guest(files, new Expected(image()));
  files.everyByte = true;
  let bytes = 0;
  files.onChange = (call, count) => {
    if (call !== 'write') return;
    bytes++;
    checkRecovery(files.afterCrash(EVERYTHING), guest, `byte ${bytes}, ${count} of the write`, [], 1);
  };
  live(guest);
  assert.ok(bytes > 100_000, `${bytes} bytes`);
});

test('transactions larger than one write and than one read', () => {
  const blocks = 700;
  const files = new SimulatedFiles();
  files.put(IMAGE, new Uint8Array(blocks * BLOCK));
  const random = new Random(SEED);
  const bytes = Buffer.from(Uint8Array.from({ length: (blocks - 100) * BLOCK }, () => random.below(256)));
  const file = new FileBackend(IMAGE, false, { files });
  const disk = new OverlayBackend(file, new MemoryBlockMap(), { journal: file, frozen: true });
  disk.write(50 * BLOCK + 7, bytes);
  disk.write(690 * BLOCK, bytes.subarray(0, BLOCK));
  const left: SimulatedFiles[] = [];
  files.onChange = () => left.push(files.afterCrash((n) => random.below(n)));
  disk.flush();
  const flushed = left.length;
  left.push(files.afterCrash(NOTHING));
  disk.commit();
  const whole = files.content(IMAGE)!;
  assert.ok(whole.subarray(50 * BLOCK + 7, 50 * BLOCK + 7 + bytes.length).equals(bytes));
  for (const [i, crashed] of left.entries()) {
    new FileBackend(IMAGE, false, { files: crashed }).close();
    const found = crashed.content(IMAGE)!;
    const old = found.every((byte) => byte === 0);
    assert.ok(found.equals(whole) || (i < flushed && old), `crash ${i}`);
  }
});

test('a full disk at any byte: a typed error, everything is readable, and there is a way on', () => {
  let failed = 0;
  for (let room = 0; ; room++) {
    const files = newFiles();
    const guest = new Guest(files, new Expected(image()));
    guest.freeze();
    guest.write([0, BLOCK], [3 * BLOCK, 4 * BLOCK]);
    guest.flush();
    guest.write([BLOCK, 2 * BLOCK], [3 * BLOCK, 3 * BLOCK + SECTOR]);
    files.room = room;
    try {
      guest.flush();
      break;
    } catch (error) {
      failed++;
      assert.equal((error as { code?: string }).code, 'ERR_BRAID_DISK');
      assert.match((error as Error).message, /no room left \(ENOSPC\)/);
    }
    guest.expected.check(recovered(files.afterCrash(EVERYTHING)), `room for ${room} bytes`);
    if (room % 61 !== 0) continue;
    // Another attempt writes everything anew, and cannot either.
    assert.throws(() => guest.flush(), { code: 'ERR_BRAID_DISK' });
    guest.expected.check(recovered(files.afterCrash(EVERYTHING)), `room for ${room} bytes, again`);
    files.room = Number.MAX_SAFE_INTEGER;
    guest.flush();
    guest.expected.check(recovered(files.afterCrash(NOTHING)), `room for ${room} bytes, then more`);
  }
  assert.ok(failed > 8000, `${failed} failures`);
});

function recovered(files: SimulatedFiles): Buffer | undefined {
  new FileBackend(IMAGE, false, { files }).close();
  return content(files);
}

test('any call that fails once: a typed error, nothing flushed is lost, and the next attempt succeeds', () => {
  const faults = (at: number, code: string, files: SimulatedFiles) => {
    let calls = 0;
    files.fault = () => {
      if (calls++ === at) throw failure(code);
    };
  };
  let failures = 0;
  for (const code of ['EIO', 'ENOSPC']) {
    for (let at = 0; ; at++) {
      const files = newFiles();
      const guest = new Guest(files, new Expected(image()));
      faults(at, code, files);
      const before = failures;
      const attempt = (work: () => void) => {
        try {
          work();
        } catch (error) {
          failures++;
          assert.equal((error as { code?: string }).code, 'ERR_BRAID_DISK', (error as Error).stack);
          guest.expected.check(recovered(files.afterCrash(NOTHING)), `${code} at call ${at}, nothing left`);
          guest.expected.check(recovered(files.afterCrash(EVERYTHING)), `${code} at call ${at}, everything left`);
          work();
        }
        guest.expected.check(recovered(files.afterCrash(NOTHING)), `${code} at call ${at}, in the end`);
      };
      guest.freeze();
      guest.write([100, 2 * BLOCK]);
      attempt(() => guest.flush());
      guest.write([3 * BLOCK, 4 * BLOCK + SECTOR]);
      attempt(() => guest.flush());
      attempt(() => guest.commit());
      const empty = guest.fork();
      guest.write([0, SECTOR]);
      attempt(() => guest.flush());
      guest.adopt(empty);
      attempt(() => guest.flush());
      assert.deepEqual(files.paths(), [IMAGE]);
      assert.equal(files.openFiles, 1, 'no file stays open');
      guest.file.close();
      if (failures === before) break;
    }
  }
  assert.ok(failures > 40, `${failures} failures`);
});

test('a journal that has become long is written anew', () => {
  const files = newFiles();
  const journalSize = 30 * BLOCK;
  const guest = new Guest(files, new Expected(image()), journalSize);
  guest.freeze();
  const random = new Random(SEED);
  let created = 0;
  files.onChange = (call) => {
    if (call === 'create') created++;
  };
  for (let i = 0; i < 40; i++) {
    guest.write([BLOCK * random.below(5), SIZE]);
    guest.flush();
    assert.ok(files.content(`${IMAGE}.braid-journal`)!.length <= journalSize);
    guest.expected.check(recovered(files.afterCrash(NOTHING)), `flush ${i}`);
  }
  assert.ok(created > 2 && created < 20, `${created} journals`);
});

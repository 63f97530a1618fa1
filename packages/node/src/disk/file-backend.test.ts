/** Disks in real files: processes that are killed, other programs that look at the image, threads, and what is refused. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { OverlayBackend } from '@braid/core/disk/overlay.ts';
import { MemoryBlockMap } from '@braid/core/testing/block-map.ts';
import { Random } from '@braid/core/testing/random.ts';
import { temporaryFolder } from '../testing.ts';
import { BLOCKS, written } from './crash-worker.ts';
import { FileBackend } from './file-backend.ts';

const SEED = Number(process.env.BRAID_SEED ?? 1);
const WORKER = fileURLToPath(new URL('./crash-worker.ts', import.meta.url));
const BLOCK = 4096;
const ROUNDS = 12;

function fill(bytes: Uint8Array, flush: number): void {
  for (const { offset, length, fill } of written(flush)) bytes.fill(fill, offset, offset + length);
}

test(`a process that is killed leaves all that it said was flushed (seed ${SEED})`, async (t) => {
  const image = join(temporaryFolder(t.after.bind(t)), 'image');
  writeFileSync(image, new Uint8Array(BLOCKS * BLOCK));
  const random = new Random(SEED);
  let expected: Uint8Array = new Uint8Array(BLOCKS * BLOCK);
  let next = 0;
  let withJournal = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const child = spawn(process.execPath, [WORKER, image, String(next)], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    let said = '';
    child.stdout.on('data', (bytes) => {
      said += bytes;
    });
    await once(child.stdout, 'data');
    await new Promise((resolve) => setTimeout(resolve, random.below(60)));
    child.kill('SIGKILL');
    await once(child, 'close');
    const last = Number(said.trimEnd().split('\n').at(-1));
    for (; next <= last; next++) fill(expected, next);
    if (existsSync(`${image}.braid-journal`)) withJournal++;
    new FileBackend(image, false).close();
    const found = new Uint8Array(readFileSync(image));
    // The next one may have become durable before it could be said.
    const one = expected.slice();
    fill(one, next);
    if (Buffer.compare(found, expected) !== 0) {
      assert.ok(Buffer.compare(found, one) === 0, `round ${round}, killed after flush ${last}`);
      expected = one;
      next++;
    }
  }
  assert.ok(next > ROUNDS && withJournal > 0, `${next} flushes, ${withJournal} journals`);
});

const compare = [
  ['cmp', []],
  ['qemu-img', ['compare', '-f', 'raw', '-F', 'raw']],
] as const;
for (const [tool, args] of compare) {
  const skip = spawnSync(tool, ['--version']).error && `${tool} is not installed`;
  test(`${tool}: an image that took overlays in is the one that was written directly (seed ${SEED})`, { skip }, (t) => {
    const folder = temporaryFolder(t.after.bind(t));
    const [one, other] = ['one', 'other'].map((name) => join(folder, name)) as [string, string];
    const size = 300 * BLOCK + 1024;
    writeFileSync(one, new Uint8Array(size).fill(5));
    copyFileSync(one, other);
    const random = new Random(SEED);
    for (let life = 0; life < 4; life++) {
      const file = new FileBackend(one, false);
      const direct = new FileBackend(other, false);
      const disk = new OverlayBackend(file, new MemoryBlockMap(), { journal: file, frozen: true });
      for (let i = 0; i < 60; i++) {
        const offset = random.below(size / 512) * 512;
        const bytes = new Uint8Array(Math.min(random.below(80) * 512, size - offset)).fill(random.below(256));
        for (const backend of [disk, direct]) backend.write(offset, bytes);
        if (random.chance(0.1)) disk.flush();
      }
      if (life % 2 === 0) disk.commit();
      else disk.flush();
      for (const backend of [file, direct]) backend.close();
    }
    new FileBackend(one, false).close();
    const { status, stdout } = spawnSync(tool, [...args, one, other], { encoding: 'utf8' });
    assert.equal(status, 0, stdout);
    assert.deepEqual(readdirSync(folder).sort(), ['one', 'other']);
  });
}

/** An image of one block with a journal that a crash has left. */
function leftBehind(folder: string): string {
  const image = join(folder, 'image');
  writeFileSync(image, new Uint8Array(BLOCK));
  const file = new FileBackend(image, false);
  const disk = new OverlayBackend(file, new MemoryBlockMap(), { journal: file, frozen: true });
  disk.write(0, new Uint8Array(512).fill(7));
  disk.flush();
  file.close();
  assert.deepEqual(readdirSync(folder).sort(), ['image', 'image.braid-journal']);
  return image;
}

test('an image with a journal is not read as if it were whole', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = leftBehind(folder);
  assert.throws(() => new FileBackend(image, true), { code: 'ERR_BRAID_JOURNAL', message: /attach it once without/ });
  const writer = new FileBackend(image, false);
  new FileBackend(image, true).close();
  writer.close();
  assert.equal(readFileSync(image)[0], 7);
});

test('an image that was changed without its journal is left alone', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = leftBehind(folder);
  utimesSync(image, 1, 1);
  assert.throws(() => new FileBackend(image, false), { code: 'ERR_BRAID_JOURNAL', message: /replaced/ });
  assert.deepEqual(readdirSync(folder).sort(), ['image', 'image.braid-journal'], 'and is not locked any more');
  const message = /touch -d (@[\d.]+) /;
  let time = '';
  try {
    new FileBackend(image, false);
  } catch (error) {
    time = message.exec((error as Error).message)![1]!;
  }
  // What the message says works.
  assert.equal(spawnSync('touch', ['-d', time, image]).status, 0);
  new FileBackend(image, false).close();
  assert.equal(readFileSync(image)[0], 7);
});

test('a frozen image is not written, a link to it is the same disk, and readers need no lock', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = leftBehind(folder);
  const link = join(folder, 'link');
  symlinkSync(image, link);
  const file = new FileBackend(link, false);
  assert.throws(() => new FileBackend(image, false), { code: 'ERR_BRAID_DISK_LOCKED' });
  const disk = new OverlayBackend(file, new MemoryBlockMap(), { journal: file, frozen: true });
  disk.write(0, new Uint8Array(512).fill(9));
  disk.flush();
  assert.throws(() => file.write(0, new Uint8Array(512)), { code: 'ERR_BRAID_DISK', message: /has a journal/ });
  const reader = new FileBackend(image, true);
  assert.throws(() => reader.append(new MemoryBlockMap(), [], true), {
    code: 'ERR_BRAID_DISK',
    message: /reading only/,
  });
  const bytes = new Uint8Array(512);
  reader.read(0, bytes);
  assert.equal(bytes[0], 7);
  reader.close();
  file.close();
});

test('a disk goes on in another thread with its lock and its journal', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  writeFileSync(image, new Uint8Array(2 * BLOCK));
  const map = new MemoryBlockMap();
  const first = new FileBackend(image, false);
  const before = new OverlayBackend(first, map, { journal: first, frozen: true });
  before.write(0, new Uint8Array(512).fill(7));
  before.flush();
  const lock = first.handOver()!;
  assert.throws(() => new FileBackend(image, false), { code: 'ERR_BRAID_DISK_LOCKED' });
  const second = new FileBackend(image, false, { lock });
  const after = new OverlayBackend(second, map, { journal: second, frozen: true });
  after.write(BLOCK, new Uint8Array(512).fill(8));
  after.flush();
  assert.equal(readFileSync(image)[0], 0);
  after.commit();
  after.thaw();
  after.write(512, new Uint8Array(512).fill(6));
  second.close();
  assert.deepEqual(
    [0, 512, BLOCK].map((at) => readFileSync(image)[at]),
    [7, 6, 8],
  );
  assert.deepEqual(readdirSync(folder), ['image']);
});

test('what is no disk is refused, and not locked', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const file = (name: string, content: Uint8Array | string) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  mkdirSync(join(folder, 'folder'));
  const cases: [string, RegExp][] = [
    [join(folder, 'none'), /there is no such file/],
    [join(folder, 'folder'), /it is a folder/],
    [file('empty', ''), /it is empty/],
    [file('odd', new Uint8Array(1000)), /1000 bytes is not a multiple of 512/],
    [file('qcow', Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(508)])), /qcow2/],
  ];
  for (const [path, message] of cases) {
    assert.throws(() => new FileBackend(path, false), { code: 'ERR_BRAID_FILE', message });
  }
  assert.ok(!readdirSync(folder).some((name) => name.includes('braid')));
});

test('a packed image is refused with what makes a disk of it, and one that is said to be raw is a disk', (t) => {
  const path = join(temporaryFolder(t.after.bind(t)), 'disk.img.gz');
  writeFileSync(path, Buffer.concat([Buffer.of(0x1f, 0x8b, 8), Buffer.alloc(1021)]));
  const message =
    /it is a gzip file, not a raw disk; make a raw disk of it \(gzip -dc .*disk\.img\.gz > .*disk\.img\.raw\)/;
  for (const readOnly of [false, true])
    assert.throws(() => new FileBackend(path, readOnly), { code: 'ERR_BRAID_FILE', message });
  const disk = new FileBackend(path, false, { raw: true });
  // A disk that its guest has given such a beginning stays a disk on its way to another thread.
  const lock = disk.handOver();
  const there = new FileBackend(path, false, { lock: lock! });
  const byte = new Uint8Array(1);
  there.read(0, byte);
  there.close();
  assert.equal(byte[0], 0x1f);
});

const NOBODY = 65_534;

test('a folder that cannot be written: the disk can be read', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  writeFileSync(image, new Uint8Array(512));
  chmodSync(image, 0o666);
  chmodSync(folder, 0o555);
  // Root may write everywhere.
  const root = process.getuid?.() === 0;
  if (root) process.seteuid!(NOBODY);
  try {
    assert.throws(() => new FileBackend(image, false), {
      code: 'ERR_BRAID_DISK_LOCKED',
      message: /make its folder writable/,
    });
    new FileBackend(image, true).close();
  } finally {
    if (root) process.seteuid!(0);
    chmodSync(folder, 0o700);
  }
});

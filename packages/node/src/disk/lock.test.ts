/** Who may write an image: one, until it is gone. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { OverlayBackend } from '@braid/core/disk/overlay.ts';
import { MemoryBlockMap } from '@braid/core/testing/block-map.ts';
import { temporaryFolder } from '../testing.ts';
import { FileBackend } from './file-backend.ts';
import { decodeHolder, encodeHolder, fateOfHolder, ImageLock, isLocked, ownHolder } from './lock.ts';

const LOCK = new URL('./lock.ts', import.meta.url).href;
const refused = { code: 'ERR_BRAID_DISK_LOCKED' };
const noProc = ownHolder().start === '0' && 'this system does not say when a thread was started';

/** A program that takes the lock, says so, and lives on. */
const holder = (image: string) =>
  `const { ImageLock } = await import(${JSON.stringify(LOCK)}); ImageLock.take({ path: ${JSON.stringify(image)} });
   setInterval(() => {}, 1000);`;

test('one holder at a time, and the folder goes with it', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  assert.equal(isLocked({ path: image }), false);
  const lock = ImageLock.take({ path: image });
  assert.equal(isLocked({ path: image }), true);
  assert.throws(() => ImageLock.take({ path: image }), { ...refused, message: /this process writes it already/ });
  const other = ImageLock.take({ path: join(folder, 'other') });
  lock.release();
  ImageLock.take({ path: image }).release();
  other.release();
  assert.deepEqual(readdirSync(folder), []);
});

test('a lock left by a process that was killed is taken over', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  const child = spawn(process.execPath, ['--input-type=module', '-e', `${holder(image)} console.log('held');`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  assert.throws(() => ImageLock.take({ path: image }), {
    ...refused,
    message: new RegExp(`process ${child.pid} writes it`),
  });
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(isLocked({ path: image }), false);
  ImageLock.take({ path: image }).release();
  assert.deepEqual(readdirSync(folder), []);
});

test('a lock left by a thread that has ended is taken over', { skip: noProc }, async (t) => {
  const image = join(temporaryFolder(t.after.bind(t)), 'image');
  const code = `${holder(image)} (await import('node:worker_threads')).parentPort.postMessage('held');`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
  t.after(() => worker.terminate());
  await once(worker, 'message');
  assert.throws(() => ImageLock.take({ path: image }), refused);
  await worker.terminate();
  ImageLock.take({ path: image }).release();
});

test('a lock goes from hand to hand without a moment in which it is free', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  const first = ImageLock.take({ path: image });
  const second = ImageLock.takeOver({ path: image }, first.handOver());
  assert.throws(() => ImageLock.take({ path: image }), refused);
  assert.throws(() => ImageLock.takeOver({ path: image }, first.handOver()), refused);
  first.release();
  assert.equal(isLocked({ path: image }), true, 'the first one has nothing to release any more');
  second.release();
  assert.deepEqual(readdirSync(folder), []);
});

test('many processes at once: one gets it', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  // Left by somebody who is gone, so that all of them want to take it over.
  const gone = { ...ownHolder(), pid: 2 ** 22 + 1, thread: 2 ** 22 + 1 };
  mkdirSync(`${image}.braid-lock`);
  writeFileSync(join(`${image}.braid-lock`, encodeHolder(gone)), '');
  const code = `const { ImageLock } = await import(${JSON.stringify(LOCK)});
    process.stdin.once('data', () => {
      try { ImageLock.take({ path: ${JSON.stringify(image)} }); console.log('held'); }
      catch (error) { console.log(error.code); }
      process.stdin.once('data', () => process.exit());
    });
    console.log('ready');`;
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  t.after(() => children.forEach((child) => void child.kill('SIGKILL')));
  await Promise.all(children.map((child) => once(child.stdout, 'data')));
  const answers = children.map(async (child) => String((await once(child.stdout, 'data'))[0]).trim());
  for (const child of children) child.stdin.write('go\n');
  assert.deepEqual((await Promise.all(answers)).sort(), [...Array(3).fill('ERR_BRAID_DISK_LOCKED'), 'held']);
  for (const child of children) child.stdin.write('end\n');
  await Promise.all(children.map((child) => once(child, 'exit')));
});

test('what is known about a holder', { skip: noProc }, () => {
  const self = ownHolder();
  assert.deepEqual(decodeHolder(encodeHolder(self)), self);
  assert.notEqual(encodeHolder(self), encodeHolder(self));
  assert.equal(fateOfHolder(self, self), 'alive');
  assert.equal(fateOfHolder({ ...self, start: '1' }, self), 'gone', 'its number was given to another');
  assert.equal(fateOfHolder({ ...self, thread: 2 ** 22 + 1 }, self), 'gone');
  assert.equal(fateOfHolder({ ...self, pid: 2 ** 22 + 1, thread: 2 ** 22 + 1 }, self), 'gone');
  assert.equal(fateOfHolder({ ...self, boot: 'abc' }, self), 'gone', 'the system was started anew');
  assert.equal(fateOfHolder({ ...self, space: '1' }, self), 'unknown', 'another container');
  assert.equal(fateOfHolder({ ...self, host: '0'.repeat(16) }, self), 'unknown');
  // Where the system does not say, the number of the process has to do.
  assert.equal(fateOfHolder({ ...self, start: '0' }, self), 'alive');
  assert.equal(fateOfHolder({ ...self, start: '0', pid: 2 ** 22 + 1 }, self), 'gone');
  for (const name of ['', 'x', encodeHolder(self).slice(1, -1), `${encodeHolder(self)}0`]) {
    assert.equal(decodeHolder(name), undefined, name);
  }
});

test('a lock that nobody understands is respected', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  mkdirSync(`${image}.braid-lock`);
  ImageLock.take({ path: image }).release();
  mkdirSync(`${image}.braid-lock`);
  writeFileSync(join(`${image}.braid-lock`, 'something'), '');
  assert.throws(() => ImageLock.take({ path: image }), {
    ...refused,
    message: /another host or container.*remove .*braid-lock/,
  });
  assert.deepEqual(readdirSync(folder), ['image.braid-lock']);
  assert.throws(() => ImageLock.take({ path: join(folder, 'none', 'image') }), {
    ...refused,
    message: /cannot be locked/,
  });
});

test('an image has one writer, whatever name it is opened by', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const other = join(folder, 'other');
  mkdirSync(other);
  const image = join(folder, 'image');
  writeFileSync(image, new Uint8Array(4096));
  const names = ['hard', 'other/hard'].map((name) => join(folder, name));
  for (const name of names) linkSync(image, name);
  symlinkSync(names[1]!, join(folder, 'symbolic'));
  const descriptor = openSync(image, 'r');
  t.after(() => closeSync(descriptor));
  const first = new FileBackend(image, false);
  names.push(join(folder, 'symbolic'), ...(existsSync('/proc/self/fd') ? [`/proc/self/fd/${descriptor}`] : []));
  for (const name of [image, ...names]) assert.throws(() => new FileBackend(name, false), refused, name);
  // Readers beside a writer are allowed, as by the first name.
  new FileBackend(names[0]!, true).close();
  renameSync(image, join(folder, 'renamed'));
  assert.throws(() => new FileBackend(join(folder, 'renamed'), false), refused);
  first.close();
  for (const name of [join(folder, 'renamed'), ...names.slice(0, 3)]) new FileBackend(name, false).close();
  const left = readdirSync(folder, { recursive: true }).filter((name) => String(name).includes('braid'));
  assert.deepEqual(left, []);
});

test('locks by identity go from thread to thread', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const [image, link] = [join(folder, 'image'), join(folder, 'link')];
  writeFileSync(image, new Uint8Array(4096));
  linkSync(image, link);
  const lock = new FileBackend(image, false).handOver()!;
  assert.throws(() => new FileBackend(link, false), refused);
  const second = new FileBackend(image, false, { lock });
  assert.throws(() => new FileBackend(link, false), refused);
  second.close();
  new FileBackend(link, false).close();
});

test('an image that is renamed while it is used keeps no journal under the name that it had', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  writeFileSync(image, new Uint8Array(4 * 4096));
  const file = new FileBackend(image, false);
  const disk = new OverlayBackend(file, new MemoryBlockMap(), { journal: file, frozen: true });
  disk.write(0, new Uint8Array(4096).fill(1));
  renameSync(image, `${image}-renamed`);
  assert.throws(() => disk.flush(), { code: 'ERR_BRAID_DISK', message: /renamed, removed or replaced/ });
  writeFileSync(image, new Uint8Array(4 * 4096));
  assert.throws(() => disk.flush(), { code: 'ERR_BRAID_DISK', message: /renamed, removed or replaced/ });
  renameSync(`${image}-renamed`, image);
  disk.flush();
  disk.commit();
  file.close();
  assert.equal(readFileSync(image)[0], 1);
});

test('a lock that is no folder is an error with what to do', (t) => {
  const image = join(temporaryFolder(t.after.bind(t)), 'image');
  writeFileSync(image, new Uint8Array(4096));
  writeFileSync(`${image}.braid-lock`, '');
  assert.throws(() => new FileBackend(image, false), refused);
  writeFileSync(`${image}.braid-journal`, '');
  assert.throws(() => new FileBackend(image, true), { ...refused, message: /remove it/ });
});

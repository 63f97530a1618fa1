/** Who may write an image: one, until it is gone. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { temporaryFolder } from '../testing.ts';
import { decodeHolder, encodeHolder, fateOfHolder, ImageLock, isLocked, ownHolder } from './lock.ts';

const LOCK = new URL('./lock.ts', import.meta.url).href;
const refused = { code: 'ERR_BRAID_DISK_LOCKED' };
const noProc = ownHolder().start === '0' && 'this system does not say when a thread was started';

/** A program that takes the lock, says so, and lives on. */
const holder = (image: string) =>
  `const { ImageLock } = await import(${JSON.stringify(LOCK)}); ImageLock.take(${JSON.stringify(image)});
   setInterval(() => {}, 1000);`;

test('one holder at a time, and the folder goes with it', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  assert.equal(isLocked(image), false);
  const lock = ImageLock.take(image);
  assert.equal(isLocked(image), true);
  assert.throws(() => ImageLock.take(image), { ...refused, message: /this process writes it already/ });
  const other = ImageLock.take(join(folder, 'other'));
  lock.release();
  ImageLock.take(image).release();
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
  assert.throws(() => ImageLock.take(image), { ...refused, message: new RegExp(`process ${child.pid} writes it`) });
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(isLocked(image), false);
  ImageLock.take(image).release();
  assert.deepEqual(readdirSync(folder), []);
});

test('a lock left by a thread that has ended is taken over', { skip: noProc }, async (t) => {
  const image = join(temporaryFolder(t.after.bind(t)), 'image');
  const code = `${holder(image)} (await import('node:worker_threads')).parentPort.postMessage('held');`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
  t.after(() => worker.terminate());
  await once(worker, 'message');
  assert.throws(() => ImageLock.take(image), refused);
  await worker.terminate();
  ImageLock.take(image).release();
});

test('a lock goes from hand to hand without a moment in which it is free', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const image = join(folder, 'image');
  const first = ImageLock.take(image);
  const second = ImageLock.takeOver(image, first.handOver());
  assert.throws(() => ImageLock.take(image), refused);
  assert.throws(() => ImageLock.takeOver(image, first.handOver()), refused);
  first.release();
  assert.equal(isLocked(image), true, 'the first one has nothing to release any more');
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
      try { ImageLock.take(${JSON.stringify(image)}); console.log('held'); }
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
  ImageLock.take(image).release();
  mkdirSync(`${image}.braid-lock`);
  writeFileSync(join(`${image}.braid-lock`, 'something'), '');
  assert.throws(() => ImageLock.take(image), { ...refused, message: /another host or container.*remove .*braid-lock/ });
  assert.deepEqual(readdirSync(folder), ['image.braid-lock']);
  assert.throws(() => ImageLock.take(join(folder, 'none', 'image')), { ...refused, message: /cannot be locked/ });
});

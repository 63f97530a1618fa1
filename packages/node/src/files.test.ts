/** Files that users name: what is no regular file, too large or cannot be read is an error at once. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, closeSync, openSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { FileBackend } from './disk/file-backend.ts';
import { readWhole, requireRegular, unpack } from './files.ts';
import { openRecording } from './replay/recording-file.ts';
import { braid, exitProgram, temporaryFolder } from './testing.ts';

const noFifos = process.platform === 'win32' && 'there are no FIFOs';
const refused = { code: 'ERR_BRAID_FILE' };

/** Names of things that are no regular files, and of what is not there. */
async function irregular(t: { after(work: () => void): void }): Promise<string[]> {
  const folder = temporaryFolder(t.after.bind(t));
  const path = (name: string) => join(folder, name);
  assert.equal(spawnSync('mkfifo', [path('fifo')]).status, 0);
  const server = createServer().listen(path('socket'));
  t.after(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  writeFileSync(path('file'), 'x');
  return [...['fifo', 'socket', '', 'none', 'file/below'].map(path), '/dev/zero', '/dev/null', 'zero\0byte'];
}

test('every reader refuses at once what is no regular file', { skip: noFifos, timeout: 20_000 }, async (t) => {
  for (const path of await irregular(t)) {
    await assert.rejects(readWhole('kernel', path, 1000), refused, path);
    assert.throws(() => requireRegular('script', path), refused, path);
    assert.throws(() => openRecording(path), refused, path);
    for (const readOnly of [true, false]) assert.throws(() => new FileBackend(path, readOnly), refused, path);
  }
});

test('options of the command do', { skip: noFifos, timeout: 400_000 }, async (t) => {
  const paths = await irregular(t);
  const bare = join(temporaryFolder(t.after.bind(t)), 'bare');
  writeFileSync(bare, exitProgram(0));
  const fifo = paths[0]!;
  const lines = [
    ['run', '--initrd', fifo],
    ['run', '--seed', '1', '--bare', bare, '--stats', fifo],
    ['run', '--seed', '1', '--bare', bare, '--record', fifo],
    ['explore', fifo],
    ['bisect', '--', '--bare', fifo, '--versus', '--bare', fifo],
  ];
  for (const line of lines) {
    const { code, stderr } = await braid(line);
    assert.equal(code, 2, `${line.join(' ')}: ${stderr}`);
    assert.match(stderr, /FIFO|regular/, line.join(' '));
  }
});

test('a file is read up to the bytes that can be used, whatever it says of its size', async (t) => {
  const path = join(temporaryFolder(t.after.bind(t)), 'file');
  writeFileSync(path, 'x'.repeat(1000));
  assert.equal((await readWhole('file', path, 1000)).length, 1000);
  await assert.rejects(readWhole('file', path, 999), { ...refused, message: /it has 1000 bytes; at most 999/ });
  truncateSync(path, 2 ** 40);
  await assert.rejects(readWhole('file', path, 1000), refused);
  writeFileSync(path, '');
  assert.equal((await readWhole('file', path, 1000)).length, 0);
  if (process.platform !== 'linux') return;
  // Files of /proc say that they have no bytes.
  assert.ok((await readWhole('file', '/proc/self/status', 100_000)).length > 100);
  await assert.rejects(readWhole('file', '/proc/self/status', 100), refused);
});

test('what gzip packed is bounded too', async () => {
  const packed = gzipSync(new Uint8Array(2 ** 24));
  assert.equal((await unpack('kernel', packed, 2 ** 24)).length, 2 ** 24);
  await assert.rejects(unpack('kernel', packed, 2 ** 20), { ...refused, message: /more than 1048576 bytes unpacked/ });
  await assert.rejects(unpack('kernel', packed.subarray(0, 100), 2 ** 24), {
    ...refused,
    message: /truncated or corrupt/,
  });
  assert.equal((await unpack('kernel', new Uint8Array(5), 1)).length, 5);
});

test('too few descriptors and no permission are errors with what to do', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const path = join(folder, 'file');
  writeFileSync(path, 'x');
  if (process.getuid?.() !== 0) {
    chmodSync(path, 0);
    await assert.rejects(readWhole('file', path, 10), { ...refused, message: /permission denied/ });
    chmodSync(path, 0o600);
  }
  if (process.platform !== 'linux') return;
  const few = [];
  try {
    for (;;) few.push(openSync(path, 'r'));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EMFILE');
    await assert.rejects(readWhole('file', path, 10), { ...refused, message: /too many open files; raise the limit/ });
  } finally {
    for (const file of few) closeSync(file);
  }
});

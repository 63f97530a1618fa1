/** Disks of machines that fork: images stay as they were while clones need them, and are brought up to date afterwards. */

import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { BraidError } from '../errors.ts';
import { Machine } from '../machine.ts';
import { temporaryFolder } from '../testing.ts';

const SIZE = 8 * 2 ** 20;
const MARK = 'written by the ';

async function withDisk(clean: (cleanUp: () => void) => void) {
  const path = join(temporaryFolder(clean), 'disk.img');
  writeFileSync(path, new Uint8Array(SIZE));
  const machine = await Machine.create({ disks: [path], seed: 1, memory: '96M' });
  await machine.boot();
  const image = () => readFileSync(path).subarray(0, 64).toString('latin1').replaceAll('\0', '');
  return { path, machine, image };
}

const write = (machine: Machine, who: string) =>
  machine.exec(['sh', '-c', `printf '${MARK}${who}' | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null`]);
const read = async (machine: Machine) => {
  await machine.exec(['sh', '-c', 'echo 3 >/proc/sys/vm/drop_caches']);
  const { stdout } = await machine.exec(['sh', '-c', `dd if=/dev/vda bs=64 count=1 2>/dev/null | tr -d '\\0'`]);
  return stdout;
};

async function cloneOf(machine: Machine): Promise<Machine> {
  const [clone] = await machine.fork(1);
  assert.ok(clone instanceof Machine, String(clone));
  return clone;
}

test('parent and clone write overlays; the image follows when the clone is gone', async (t) => {
  const { machine, image, path } = await withDisk((clean) => t.after(clean));
  await write(machine, 'first');
  assert.equal(image(), `${MARK}first`);
  const clone = await cloneOf(machine);
  await write(machine, 'parent');
  await write(clone, 'clone');
  assert.equal(image(), `${MARK}first`, 'the image is frozen');
  assert.equal(await read(machine), `${MARK}parent`);
  assert.equal(await read(clone), `${MARK}clone`);
  assert.ok(existsSync(`${path}.braid-journal`), 'what the parent has flushed is durable');
  await assert.rejects(machine.commit(), (error: BraidError) => error.code === 'ERR_BRAID_DISK');
  await clone.dispose();
  await machine.commit();
  assert.equal(image(), `${MARK}parent`);
  assert.ok(!existsSync(`${path}.braid-journal`));
  await write(machine, 'latest');
  assert.equal(image(), `${MARK}latest`, 'written in place again');
  await machine.dispose();
});

test('a clone that is adopted brings its disks along', async (t) => {
  const { machine, image } = await withDisk((clean) => t.after(clean));
  const [clone, other] = [await cloneOf(machine), await cloneOf(machine)];
  await write(machine, 'parent');
  await write(clone, 'clone');
  await machine.adopt(clone);
  assert.equal(await read(machine), `${MARK}clone`);
  await other.dispose();
  await machine.dispose();
  assert.equal(image(), `${MARK}clone`);
});

test('a parent that is gone first leaves its writes to whoever is last', async (t) => {
  const { machine, image, path } = await withDisk((clean) => t.after(clean));
  const clone = await cloneOf(machine);
  await write(machine, 'parent');
  await machine.dispose();
  assert.equal(image(), '');
  assert.equal(await read(clone), '');
  const locked = Machine.create({ disks: [path] });
  await assert.rejects(locked, (error: BraidError) => error.code === 'ERR_BRAID_DISK_LOCKED');
  await clone.dispose();
  assert.equal(image(), `${MARK}parent`);
  assert.ok(!existsSync(`${path}.braid-journal`));
  await (await Machine.create({ disks: [path] })).dispose();
});

test('reset takes disks back as well', async (t) => {
  const { machine, image } = await withDisk((clean) => t.after(clean));
  await write(machine, 'first');
  await using point = await machine.forkPoint();
  await write(machine, 'second');
  await machine.reset(point);
  assert.equal(await read(machine), `${MARK}first`);
  await point.dispose();
  await machine.dispose();
  assert.equal(image(), `${MARK}first`);
});

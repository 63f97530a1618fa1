/** Saved machines and their disks: what no longer belongs together is refused. */

import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { OverlayBackend } from '@braid/core/disk/overlay.ts';
import { MemoryBlockMap } from '@braid/core/testing/block-map.ts';
import { Machine } from '../machine.ts';
import { endlessProgram, temporaryFolder } from '../testing.ts';
import { FileBackend } from './file-backend.ts';
import { requireSame, stampDisk } from './stamp.ts';

const SIZE = 2 ** 20;
const refused = { code: 'ERR_BRAID_STATE' };

test('a machine is restored with the disk that it had, and with no other unless the caller insists', async (t) => {
  const image = join(temporaryFolder(t.after.bind(t)), 'image');
  writeFileSync(image, new Uint8Array(SIZE));
  const options = { bare: endlessProgram('quiet'), memory: '32M', disks: [image] } as const;
  const machine = await Machine.create(options);
  const saved = await machine.save();
  await machine.dispose();
  await (await Machine.restore(saved, { disks: [image] })).dispose();
  await (await Machine.restore(saved, { disks: [image] })).dispose();
  const again = { ...saved, version: 1, disks: undefined } as never;
  await assert.rejects(Machine.restore(again, { disks: [image] }), { ...refused, message: /nothing tells/ });
  writeFileSync(image, new Uint8Array(SIZE));
  await assert.rejects(Machine.restore(saved, { disks: [image] }), { ...refused, message: /disk 0 .*last changed/ });
  await assert.rejects(Machine.restore(saved, { disks: [new Uint8Array(SIZE)] }), refused);
  await (await Machine.restore(saved, { disks: [image], acceptChangedDisks: true })).dispose();
});

test('disks in memory are recognised by their content', async () => {
  const options = { bare: endlessProgram('quiet'), memory: '32M' } as const;
  const bytes = new Uint8Array(SIZE).fill(7);
  const machine = await Machine.create({ ...options, disks: [bytes] });
  const saved = await machine.save();
  await machine.dispose();
  await (await Machine.restore(saved, { disks: [bytes.slice()] })).dispose();
  bytes[SIZE - 1] = 8;
  await assert.rejects(Machine.restore(saved, { disks: [bytes] }), { ...refused, message: /its content/ });
});

test('a write is noticed however soon it comes, and another image of the same time too', (t) => {
  const image = join(temporaryFolder(t.after.bind(t)), 'image');
  writeFileSync(image, new Uint8Array(SIZE));
  const file = new FileBackend(image, false);
  const disk = new OverlayBackend(file, new MemoryBlockMap(), { journal: file });
  t.after(() => file.close());
  const stamps = [];
  for (let n = 0; n < 20; n++) {
    disk.write(n * 4096, new Uint8Array(4096).fill(n));
    for (const stamp of stamps) assert.throws(() => requireSame(stamp, disk, 0), refused);
    const stamp = stampDisk(disk);
    requireSame(stamp, disk, 0);
    stamps.push(stamp);
  }
  const other = `${image}-other`;
  copyFileSync(image, other);
  const bytes = readFileSync(image);
  bytes[0] = 99;
  writeFileSync(other, bytes);
  utimesSync(image, 1_700_000_000, 1_700_000_000);
  utimesSync(other, 1_700_000_000, 1_700_000_000);
  const stamp = stampDisk(disk);
  const replaced = new FileBackend(other, true);
  t.after(() => replaced.close());
  assert.throws(() => requireSame(stamp, replaced, 0), { ...refused, message: /its content/ });
});

test('a disk that was frozen when it was saved is recognised after its overlay has been brought in', (t) => {
  const image = join(temporaryFolder(t.after.bind(t)), 'image');
  writeFileSync(image, new Uint8Array(SIZE));
  const file = new FileBackend(image, false);
  const disk = new OverlayBackend(file, new MemoryBlockMap(), { journal: file, frozen: true });
  disk.write(4096, new Uint8Array(4096).fill(5));
  const stamp = stampDisk(disk);
  disk.commit();
  disk.thaw();
  requireSame(stamp, disk, 0);
  disk.write(SIZE - 4096, new Uint8Array(4096).fill(5));
  assert.throws(() => requireSame(stamp, disk, 0), refused);
  file.close();
});

/** A guest that works on an ext4 disk, recorded: replays from every keyframe, with no disk but the recorded one, end as it did. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ForkPoint, machineFrom } from '../branch/fork-point.ts';
import { MemoryBackend } from '../devices/virtio-block/backend.ts';
import { BLOCK } from '../disk/block-map.ts';
import { FrameBlocks } from '../disk/frame-blocks.ts';
import type { OverlayBackend } from '../disk/overlay.ts';
import { type CapturedBlock, DiskCapture } from '../machine/disk-capture.ts';
import { visibleState } from '../machine/hash.ts';
import { LogReader } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import { recordMachine } from '../machine/save.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { encodeState } from '../state/encode.ts';
import { guestMissing, linuxMachine, runSteps, sharedEngine } from '../testing/machines.ts';
import { DiskHistory } from './disk-history.ts';
import { RecordedDisk } from './recorded-disk.ts';

const MKE2FS = ['/sbin/mke2fs', '/usr/sbin/mke2fs'].find((path) => existsSync(path));
const skip = guestMissing || (MKE2FS === undefined && 'mke2fs (e2fsprogs) is not installed');

/** A new file system with some files. */
function ext4(): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'braid-disk-'));
  try {
    mkdirSync(join(folder, 'files'));
    for (const [n, size] of [10, 5000, 100_000, 1_500_000].entries())
      writeFileSync(
        join(folder, 'files', `f${n}`),
        Uint8Array.from({ length: size }, (_, i) => (i * 7 + n) & 0xff),
      );
    const path = join(folder, 'disk');
    const { status, stderr } = spawnSync(MKE2FS!, ['-q', '-t', 'ext4', '-d', join(folder, 'files'), path, '16M'], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    return new Uint8Array(readFileSync(path));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** All that the guest sees but its disks. */
function fingerprint(machine: Machine): string {
  const hash = createHash('sha256').update(encodeState(visibleState(recordMachine(machine))));
  const piece = new Uint8Array(1 << 20);
  for (let at = 0; at < machine.options.memory; at += piece.length) {
    machine.ram.read(RAM_BASE + at, piece);
    hash.update(piece);
  }
  return hash.digest('hex');
}

const WORK = [
  'mount -t ext4 -o discard /dev/vda /mnt',
  'cat /mnt/f0 /mnt/f1 | md5sum',
  'dd if=/dev/zero of=/mnt/new bs=1000 count=300 conv=fsync',
  'md5sum /mnt/f3; echo more >>/mnt/f1; sync',
  'echo 3 >/proc/sys/vm/drop_caches; md5sum /mnt/*',
  'rm /mnt/f2; sync; umount /mnt; mount -t ext4 /dev/vda /mnt',
  'cp /mnt/f3 /mnt/copy; echo x | dd of=/mnt/f3 bs=1 seek=70001 conv=notrunc,fsync',
  'fstrim /mnt; umount /mnt',
  'dd if=/dev/vda bs=64k | md5sum; echo all is "done"',
];

test('a recorded ext4 disk', { skip }, () => {
  const memory = new MemoryBackend(ext4());
  let text = '';
  const machine = linuxMachine(
    { memory: 64 * 2 ** 20, disks: [{ backend: memory }] },
    { console: (bytes) => (text += Buffer.from(bytes).toString('latin1')) },
  );
  const { pool } = machine.engine;
  const until = (pattern: string, piece = 200_000) => {
    for (let left = 3e9 / piece; !text.includes(pattern); left--) {
      assert.ok(left > 0, `no ${pattern} in\n${text.slice(-2000)}`);
      runSteps(machine, piece);
    }
  };
  until('# ');

  const history = new DiskHistory();
  const taken: CapturedBlock[] = [];
  const capture = new DiskCapture(machine.platform.backends, (block) => {
    history.captured(block.disk, block.epoch, block.block, taken.length);
    taken.push(block);
  });
  const keyframes: { point: ForkPoint; from: number }[] = [];
  const keyframe = () => {
    const roots = { ram: machine.ram.share(), disks: [] };
    keyframes.push({
      point: { record: recordMachine(machine), link: machine.saveLink(), ...roots },
      from: machine.log.length,
    });
  };
  keyframe();
  for (const [n, line] of WORK.entries()) {
    text = '';
    machine.input({ kind: 'console', bytes: new TextEncoder().encode(`${line}; echo end of $((${n}))\n`) });
    // In the middle of what it does, and between two commands.
    until(line.slice(0, 5));
    if (n % 2 === 0) runSteps(machine, 3_000_000);
    else until(`end of ${n}`);
    for (const blocks of capture.nextEpoch()) history.written(0, keyframes.length - 1, blocks);
    keyframe();
    until(`end of ${n}`);
    until('# ');
  }
  assert.match(text, /all is done/);
  capture.stop();
  const read = memory.bytes.length / BLOCK;
  assert.ok(taken.length >= read && taken.length < 1.1 * read, `all was read, little again: ${taken.length}`);
  const steps = machine.totalSteps;
  const expected = fingerprint(machine);

  for (const [n, { point, from }] of keyframes.entries()) {
    const base = new RecordedDisk(history, 0, { size: memory.size, readOnly: false }, (ref, into) =>
      into.set(taken[ref]!.content),
    );
    base.keyframe = n;
    const blocks = new FrameBlocks(pool, memory.size);
    const again = machineFrom(sharedEngine(), { ...point, disks: [blocks.roots] }, { disks: [{ backend: base }] });
    again.follow(new LogReader(machine.log, from));
    runSteps(again, Number(steps - again.totalSteps));
    assert.equal(fingerprint(again), expected, `from keyframe ${n}`);
    const { map } = again.platform.backends[0]!.inner as OverlayBackend;
    for (const block of map.changed())
      assert.deepEqual(map.get(block), memory.bytes.subarray(block * BLOCK, (block + 1) * BLOCK));
    again.free();
  }
  machine.free();
});

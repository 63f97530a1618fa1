/** Machines recorded while they run, and what replays make of the files. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { type ChunkKind, decodeHeader, HEAD_SIZE, HEADER_SIZE } from '@braid/core/timeline/recording/chunk.ts';
import { Machine } from '../machine.ts';
import { Pool } from '../pool/pool.ts';
import { Replay } from './replay.ts';

const folder = mkdtempSync(join(tmpdir(), 'braid-replay-'));
after(() => rmSync(folder, { recursive: true }));
const mke2fsMissing = spawnSync('mke2fs', ['-V']).error ? 'mke2fs (package e2fsprogs) is missing' : false;
let files = 0;
const newFile = () => join(folder, `${files++}.rec`);

describe('the default guest', { skip: guestMissing }, () => {
  test('a recorded run is repeated, and any moment of it found', async () => {
    const path = newFile();
    await using machine = await Machine.create({ seed: 5n, harts: 2 });
    const recording = await machine.record(path, { title: 'a test', keyframeMs: 100 });
    await machine.boot();
    const before = await recording.mark('booted');
    const { stdout } = await machine.exec([
      'sh',
      '-c',
      'for i in $(seq 30); do echo $i; md5sum /bin/busybox; done; date',
    ]);
    assert.match(stdout, /2026/);
    const written = await recording.stop();
    assert.ok(
      written.keyframes > 1 && written.steps > before,
      JSON.stringify(written, (_, v) => (typeof v === 'bigint' ? Number(v) : v)),
    );
    const hash = await machine.stateHash();

    await using replay = await Replay.open(path);
    assert.equal(replay.complete, true);
    assert.deepEqual(await replay.run(), { kind: 'end' });
    assert.equal(replay.at, written.steps);
    assert.ok(replay.verified > 0);
    await replay.seek('booted');
    assert.equal(replay.at, before);
    await replay.reverseStep();
    assert.equal(replay.at, before - 1n);
    await replay.step();
    await replay.seek({ at: written.steps });
    // Without disks the two hashes cover the same.
    assert.equal(typeof hash, 'string');
    await using other = await replay.divert();
    assert.equal(await other.stateHash(), hash);
    await replay.seek('booted');
    await using live = await replay.divert();
    const { stdout: again } = await live.exec(['echo', 'elsewhere']);
    assert.equal(again, 'elsewhere\n');
  });

  test('reset and adoption: the recording goes on from the new state', async () => {
    const path = newFile();
    await using machine = await Machine.create({ seed: 6n });
    await machine.boot();
    const recording = await machine.record(path);
    await machine.exec(['sh', '-c', 'echo one > /tmp/a; sync']);
    await using point = await machine.forkPoint();
    await machine.exec(['rm', '/tmp/a']);
    await machine.reset(point);
    await machine.exec(['true']);
    const [clone] = await machine.fork(1);
    assert.ok(clone instanceof Machine);
    await clone.exec(['sh', '-c', 'echo two >> /tmp/a']);
    await machine.adopt(clone);
    const { stdout } = await machine.exec(['cat', '/tmp/a']);
    assert.equal(stdout, 'one\ntwo\n');
    await recording.stop();
    const hash = await machine.stateHash();

    await using replay = await Replay.open(path);
    assert.deepEqual(
      replay.marks.map(({ kind }) => kind).filter((kind) => kind !== 'exit' && kind !== 'fork'),
      ['begin', 'reset', 'adopt', 'end'],
    );
    assert.equal(replay.recording.stretches.length, 3);
    assert.deepEqual(await replay.run(), { kind: 'end' });
    await using there = await replay.divert();
    assert.equal(await there.stateHash(), hash);
    await replay.seek('reset');
    await replay.reverseStep();
    // Before it went back the file was gone.
    await using before = await replay.divert();
    assert.equal((await before.exec(['cat', '/tmp/a'])).exitCode, 1);
    await replay.seek('reset');
    await using after = await replay.divert();
    assert.equal((await after.exec(['cat', '/tmp/a'])).stdout, 'one\n');
  });

  test('the past is searched by all threads, and gives what one finds', async () => {
    const path = newFile();
    await using machine = await Machine.create({ seed: 7n });
    await machine.boot();
    const recording = await machine.record(path, { keyframeMs: 30 });
    await machine.exec(['sh', '-c', 'i=0; while [ $i -lt 1500 ]; do i=$((i+1)); echo $i > /tmp/count; done']);
    const { keyframes } = await recording.stop();
    assert.ok(keyframes > 3, `${keyframes} keyframes`);
    await using replay = await Replay.open(path);
    await using alone = await Replay.open(path, { pool: new Pool({ threads: 1 }) });
    await replay.seek({ at: replay.end.at });
    const { pc } = replay.next;
    for (const one of [replay, alone]) await one.seek({ at: replay.end.at });
    const points = [{ kind: 'break', address: pc } as const];
    for (let n = 0; n < 3; n++) assert.deepEqual(await replay.reverse(points), await alone.reverse(points));
    // A page that the kernel writes often, and one that it wrote long ago.
    for (const address of [0x8000_0000n + 0x200_0000n, 0x8000_0000n + 0x1a0_0000n]) {
      for (const one of [replay, alone]) await one.seek({ at: replay.end.at });
      const found = await replay.lastWrite(address, { physical: true, length: 8 });
      assert.deepEqual(await alone.lastWrite(address, { physical: true, length: 8 }), found);
      assert.equal(replay.at, alone.at);
    }
    await alone.dispose();
  });

  test('an operation that nobody waits for any more is left, and the next one goes on from there', async () => {
    const path = newFile();
    await using machine = await Machine.create({ seed: 8n });
    await machine.boot();
    const recording = await machine.record(path);
    await machine.exec(['sh', '-c', 'i=0; while [ $i -lt 15000 ]; do i=$((i+1)); done']);
    await recording.stop();
    await using replay = await Replay.open(path);
    const over = new AbortController();
    const run = replay.run({ signal: over.signal, onProgress: () => over.abort() });
    await assert.rejects(run, { name: 'AbortError' });
    await replay.seek({ at: 1000n });
    assert.equal(replay.at, 1000n);
    await assert.rejects(replay.seek({ at: replay.end.at + 1n }), { code: 'ERR_BRAID_MACHINE' });
    await assert.rejects(replay.seek('nowhere'), { code: 'ERR_BRAID_OPTION' });
  });

  test('a disk: what was read of it is in the recording, and a machine that leaves goes on with that', {
    skip: mke2fsMissing,
  }, async () => {
    const path = newFile();
    const image = diskImage();
    await using machine = await Machine.create({ seed: 9n, disks: [{ path: image }] });
    await machine.boot();
    await machine.exec(['mount', '/dev/vda', '/mnt']);
    const recording = await machine.record(path, { keyframeMs: 20 });
    const work =
      'cd /mnt; md5sum hello; for i in 1 2 3 4 5 6; do cat hello hello > big$i; md5sum big$i; done; sync; echo 3 > /proc/sys/vm/drop_caches; md5sum big*';
    const { stdout } = await machine.exec(['sh', '-c', work]);
    await machine.exec(['umount', '/mnt']);
    const written = await recording.stop();
    await machine.dispose();
    rmSync(image);
    assert.ok(written.keyframes > 2);

    await using replay = await Replay.open(path);
    assert.deepEqual(await replay.run(), { kind: 'end' });
    for (const { at } of replay.recording.keyframes.slice(1)) {
      await using from = await Replay.open(path);
      await from.seek({ at });
      assert.deepEqual(await from.run(), { kind: 'end' });
    }
    await using live = await replay.divert();
    const again = await live.exec(['sh', '-c', 'mount /dev/vda /mnt && cd /mnt && md5sum hello big*']);
    assert.equal(again.stderr, '');
    for (const line of again.stdout.trim().split('\n')) assert.ok(stdout.includes(line), line);
  });

  test('recording much of a disk changes nothing that the guest sees', { skip: mke2fsMissing }, async () => {
    const path = newFile();
    const image = join(folder, `${files++}.img`);
    writeFileSync(image, Buffer.alloc(12 * 2 ** 20, 'Not all zeros. '));
    const run = async (record: boolean) => {
      await using machine = await Machine.create({ seed: 11n, disks: [{ path: image, readOnly: true }] });
      await machine.boot();
      const recording = record ? await machine.record(path) : undefined;
      // Reads of many lengths, so that one lies at every border of what is gathered on the way to the file.
      const { stdout, stderr } = await machine.exec([
        'sh',
        '-c',
        'for n in 7k 28k 76k 120k 200k; do dd if=/dev/vda bs=$n count=4 skip=9; done 2>/dev/null | md5sum; md5sum /dev/vda',
      ]);
      await recording?.stop();
      return { stdout, stderr, hash: await machine.stateHash() };
    };
    assert.deepEqual(await run(true), await run(false));
    await using replay = await Replay.open(path);
    assert.deepEqual(await replay.run(), { kind: 'end' });
  });

  test('a recording that is cut off has all that its events need', { skip: mke2fsMissing }, async () => {
    const path = newFile();
    await using machine = await Machine.create({ seed: 10n, disks: [{ path: diskImage() }] });
    await machine.boot();
    await machine.exec(['mount', '/dev/vda', '/mnt']);
    const recording = await machine.record(path);
    // It reads new blocks all the time, a few at a time.
    const work = 'i=0; while [ $i -lt 70 ]; do dd if=/mnt/hello of=/dev/null bs=4096 skip=$i count=1; i=$((i+1)); done';
    for (let n = 0; n < 2; n++) {
      await machine.exec(['sh', '-c', `${work}; echo 3 > /proc/sys/vm/drop_caches`]);
    }
    await recording.stop();
    const bytes = readFileSync(path);
    const cuts = chunkEnds(bytes).filter(({ kind }) => kind === 'events');
    assert.ok(cuts.length > 1);
    for (const { end } of cuts.slice(0, 4)) {
      const cut = newFile();
      writeFileSync(cut, bytes.subarray(0, end));
      await using replay = await Replay.open(cut);
      assert.deepEqual(await replay.run(), { kind: 'end' });
    }
  });
});

/** Where each chunk of a recording ends. */
function chunkEnds(bytes: Uint8Array): { readonly kind: ChunkKind; readonly end: number }[] {
  const ends: { kind: ChunkKind; end: number }[] = [];
  for (let at = HEAD_SIZE, number = 0; at < bytes.length; number++) {
    const { kind, stored } = decodeHeader(bytes.subarray(at, at + HEADER_SIZE), number, at);
    at += HEADER_SIZE + stored;
    ends.push({ kind, end: at });
  }
  return ends;
}

function diskImage(): string {
  const image = join(folder, `${files++}.img`);
  const content = mkdtempSync(join(folder, 'content-'));
  writeFileSync(join(content, 'hello'), Buffer.alloc(300_000, 'A disk. '));
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', content, image, '8M']);
  return image;
}

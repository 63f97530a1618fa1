/** What happens to machines while they are recorded, and to the processes and disks of their recordings. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { guestMissing, SEED } from '@braid/core/testing/machines.ts';
import { Random } from '@braid/core/testing/random.ts';
import type { BraidError } from '../errors.ts';
import { Machine } from '../machine.ts';
import { Pool } from '../pool/pool.ts';
import { askingProgram, endlessProgram } from '../testing.ts';
import { Replay } from './replay.ts';

const folder = mkdtempSync(join(tmpdir(), 'braid-recorded-'));
const smallDisk = mkdtempSync(join(folder, 'small-'));
const smallDiskMissing = noSmallDisk();
after(() => {
  if (!smallDiskMissing) spawnSync('umount', [smallDisk]);
  rmSync(folder, { recursive: true });
});
let files = 0;
const newFile = () => join(folder, `${files++}.rec`);
const code = (expected: string) => (error: unknown) => (error as BraidError).code === expected;
const ASKING = { bare: askingProgram({ sleeps: false }), memory: '32M', seed: 4n } as const;

/** Replays a file to its end; what it is. */
async function replayed(path: string, pool?: Pool) {
  await using replay = await Replay.open(path, pool ? { pool } : {});
  const { at, why } = replay.end;
  assert.deepEqual(await replay.run(), { kind: 'end' });
  assert.equal(replay.at, at);
  const { keyframes: all, stretches } = replay.recording;
  // What a stretch begins with nobody comes to.
  assert.equal(replay.verified, all.length - stretches.length);
  const { complete, marks, recording } = replay;
  return { complete, at, why, marks, keyframes: recording.keyframes.length, hash: await replay.stateHash() };
}

describe('a machine that is recorded', () => {
  test('is the same machine as one that is not', { skip: guestMissing }, async () => {
    const run = async (recorded: boolean) => {
      await using machine = await Machine.create({ memory: '96M', seed: 12n });
      const states: unknown[] = [];
      const note = async () => states.push(await machine.stateHash(), (await machine.stats()).guestSeconds);
      const begin = () => (recorded ? machine.record(newFile(), { keyframeMs: 5 }) : undefined);
      const first = await begin();
      await machine.boot();
      await note();
      await first?.stop();
      // Idle, where a step on would be a jump to the next timer.
      const second = await begin();
      await machine.exec(['sleep', '1']);
      await using point = await machine.forkPoint();
      await machine.exec(['sh', '-c', 'echo 1 >/tmp/a']);
      await note();
      await machine.reset(point);
      const [clone] = await machine.fork(1);
      assert.ok(clone instanceof Machine);
      await clone.exec(['sh', '-c', 'echo 2 >/tmp/b']);
      await machine.adopt(clone);
      await machine.exec(['ls', '/tmp']);
      await second?.stop();
      await machine.exec(['date']);
      await note();
      return states;
    };
    assert.deepEqual(await run(true), await run(false));
  });

  test('goes on when it is not recorded any more, and is recorded again', async () => {
    await using machine = await Machine.create(ASKING);
    const [one, two] = [newFile(), newFile()];
    const first = await machine.record(one);
    await machine.type('one\n');
    await machine.step(30_000n);
    const { steps } = await first.stop();
    assert.equal(steps, 30_000n);
    assert.equal((await first.stop()).steps, steps, 'what is over is over');
    await machine.type('two\n');
    await machine.step(5_000n);
    const second = await machine.record(two);
    await machine.type('three\n');
    await machine.step(20_000n);
    await second.stop();
    const hash = await machine.stateHash();
    assert.equal((await replayed(one)).at, 30_000n);
    const again = await replayed(two);
    assert.equal(again.at, 20_000n);
    await using replay = await Replay.open(two);
    await replay.run();
    await using live = await replay.divert();
    assert.equal(await live.stateHash(), hash);
  });

  test('is recorded to one file only, however many ask', async () => {
    await using pool = new Pool({ threads: 1 });
    await using machine = await Machine.create({ ...ASKING, pool });
    const [first, second] = [newFile(), newFile()];
    const asked = await Promise.allSettled([machine.record(first), machine.record(second)]);
    assert.deepEqual(
      asked.map(({ status }) => status),
      ['fulfilled', 'rejected'],
    );
    assert.ok(code('ERR_BRAID_OPTION')((asked[1] as PromiseRejectedResult).reason));
    await assert.rejects(machine.record(second), code('ERR_BRAID_OPTION'));
    assert.equal(existsSync(second), false);
    assert.ok(asked[0].status === 'fulfilled');
    const recording = asked[0].value;
    await machine.type('words\n');
    await machine.step(10_000n);
    await recording.stop();
    assert.equal((await replayed(recording.path)).at, 10_000n);
    await machine.dispose();
    assert.equal(pool.memory.used, 0);
  });

  test('is not recorded where no file can be made, and can be elsewhere', async () => {
    await using machine = await Machine.create(ASKING);
    await assert.rejects(machine.record(join(folder, 'none', 'file')), code('ERR_BRAID_FILE'));
    const recording = await machine.record(newFile());
    await machine.step(1000n);
    await recording.stop();
    assert.equal((await replayed(recording.path)).at, 1000n);
  });

  test('is not recorded where memory has no room for it, and can be when it has', async () => {
    await using pool = new Pool({ threads: 1, memory: 40 * 2 ** 20 });
    await using machine = await Machine.create({ ...ASKING, pool });
    const { view } = pool;
    const filling = Array.from({ length: view.available - 1000 }, () => view.allocate());
    const { used } = pool.memory;
    await assert.rejects(machine.record(newFile()), /frames of 4 KiB; a recording needs some/);
    assert.equal(pool.memory.used, used);
    for (const frame of filling) view.release(frame);
    const recording = await machine.record(newFile());
    await machine.step(1000n);
    await recording.stop();
    assert.equal((await replayed(recording.path)).at, 1000n);
  });

  test('that is disposed of has been recorded up to there', async () => {
    const machine = await Machine.create(ASKING);
    const recording = await machine.record(newFile());
    await machine.type('words\n');
    await machine.step(12_345n);
    await machine.dispose();
    assert.equal((await recording.ended).steps, 12_345n);
    const { complete, at } = await replayed(recording.path);
    assert.deepEqual([complete, at], [true, 12_345n]);
  });

  test('that is over has been recorded with its end, and goes on from a fork point', async () => {
    await using machine = await Machine.create(ASKING);
    const recording = await machine.record(newFile());
    await machine.step(1000n);
    await using point = await machine.forkPoint();
    await machine.type('q\n');
    assert.deepEqual(await machine.wait(), { kind: 'poweroff', code: 0 });
    await machine.reset(point);
    await machine.type('more\n');
    await machine.step(5000n);
    await machine.type('q\n');
    await machine.wait();
    await recording.stop();
    const { complete, marks } = await replayed(recording.path);
    assert.ok(complete);
    assert.deepEqual(
      marks.map(({ kind }) => kind),
      ['begin', 'fork', 'exit', 'reset', 'exit', 'end'],
    );
  });

  test('of a thread that dies: what is there is replayed, and nothing is left of it in the pool', async () => {
    const random = new Random(SEED);
    for (let turn = 0; turn < 4; turn++) {
      await using pool = new Pool({ threads: 2 });
      const machine = await Machine.create({ bare: endlessProgram('flood'), memory: '32M', seed: 4n, pool });
      machine.onConsole(() => {});
      const recording = await machine.record(newFile(), { keyframeMs: 1 });
      await machine.run();
      await new Promise((resolve) => setTimeout(resolve, 100 + random.below(200)));
      await pool.killThread(0);
      await assert.rejects(recording.ended, code('ERR_BRAID_RECORDING'));
      await assert.rejects(recording.stop(), code('ERR_BRAID_RECORDING'));
      await assert.rejects(recording.mark('late'), code('ERR_BRAID_WORKER'));
      await pool.recovered();
      const { complete } = await replayed(recording.path);
      assert.equal(complete, false);
      await machine.dispose();
      await pool.recovered();
      assert.equal(pool.memory.used, 0, `turn ${turn}`);
    }
  });
});

const LOAD = 'i=0; while :; do i=$((i+1)); md5sum /bin/busybox >/tmp/sum$((i % 7)); ls -l /proc/self >/tmp/list; done';

test('a process that is killed while it records: its file is replayed and verified', {
  skip: guestMissing,
}, async (t) => {
  const random = new Random(SEED);
  let whole = 0;
  for (const least of [0, 300, 1500, 3000]) {
    const wait = least + random.below(least + 1);
    await t.test(`after ${wait} ms`, async () => {
      const path = newFile();
      const worker = new URL('./recording-machine-worker.ts', import.meta.url).pathname;
      const child = spawn(process.execPath, [worker, path, LOAD], { stdio: ['ignore', 'pipe', 'inherit'] });
      const exited = new Promise((resolve) => child.once('exit', resolve));
      await new Promise((resolve) => child.stdout.once('data', resolve));
      await new Promise((resolve) => setTimeout(resolve, wait));
      child.kill('SIGKILL');
      await exited;
      const found = await replayed(path).catch((error) => error as BraidError);
      if (found instanceof Error) {
        // It may not have come to its first keyframe.
        assert.match(found.message, /byte \d+: .*there is nothing to replay/);
        return;
      }
      const { complete, why, at, keyframes } = found;
      assert.deepEqual([complete, why], [false, 'the recording is cut off']);
      if (at > 1_000_000n && keyframes > 2) whole++;
    });
  }
  assert.ok(whole > 0, 'none had come far');
});

/** Why there can be no small disk here, or false. */
function noSmallDisk(): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'only root can mount a small disk';
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'tmpfs', smallDisk]);
  return status !== 0 && 'a small disk cannot be mounted here';
}

test('a disk that becomes full: the machine runs on, and the file is replayed up to there', {
  skip: smallDiskMissing,
}, async () => {
  await using pool = new Pool({ threads: 1 });
  await using machine = await Machine.create({ ...ASKING, pool });
  const path = join(smallDisk, 'file');
  const recording = await machine.record(path, { keyframeMs: 1 });
  // Little makes these smaller.
  const random = new Random(SEED);
  const ended = assert.rejects(recording.ended, /recording .*file: the disk is full.*can be replayed up to there/);
  // As much at a time as the guest reads in a slice: what it leaves waits, and is not recorded.
  for (let n = 0; n < 600; n++) {
    await machine.type(Uint8Array.from({ length: 256 }, () => 97 + random.below(16)));
    await machine.step(1_000_000n);
  }
  await ended;
  assert.ok(code('ERR_BRAID_RECORDING')(await recording.ended.catch((error) => error)));
  const before = (await machine.stats()).steps;
  await machine.step(100_000n);
  assert.equal((await machine.stats()).steps, before + 100_000n);
  assert.ok(readFileSync(path).length <= 128 * 1024);
  const { complete, at } = await replayed(path, pool);
  assert.equal(complete, false);
  assert.ok(at > 0n && at < before);
  // There is room elsewhere.
  const again = await machine.record(newFile());
  await machine.step(1000n);
  assert.equal((await again.stop()).steps, 1000n);
  await machine.dispose();
  assert.equal(pool.memory.used, 0);
});

/** Threads that are made ready for clones. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { Machine } from './machine.ts';
import { Pool } from './pool/pool.ts';
import { Replay } from './replay/replay.ts';

test('a rehearsal of clones leaves nothing behind', { skip: guestMissing }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'braid-forks-'));
  try {
    await using pool = new Pool({ threads: 2 });
    const run = async (prepare: boolean) => {
      await using machine = await Machine.create({ seed: 3n, memory: '64M', pool });
      await machine.boot();
      const path = join(folder, `${prepare}.rec`);
      const recording = await machine.record(path);
      if (prepare) await machine.prepareForks();
      const { stdout } = await machine.exec(['sh', '-c', 'echo here']);
      const hash = await machine.stateHash();
      await recording.stop();
      await using replay = await Replay.open(path, { pool });
      return { stdout, hash, marks: replay.marks.map(({ kind }) => kind) };
    };
    const before = pool.memory.used;
    assert.deepEqual(await run(true), await run(false));
    assert.equal(pool.memory.used, before);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('in a pool of one thread there is nothing to rehearse', { skip: guestMissing }, async () => {
  await using pool = new Pool({ threads: 1 });
  await using machine = await Machine.create({ seed: 3n, memory: '64M', pool });
  await machine.boot();
  const { steps } = await machine.stats();
  await machine.prepareForks();
  assert.equal((await machine.stats()).steps, steps);
});

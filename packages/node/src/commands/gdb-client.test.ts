import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../testing.ts';
import { findGdb, gdbArguments, runGdb } from './gdb-client.ts';

const shell = { skip: process.platform === 'win32' ? 'the programs of this test are shell scripts' : false };

test('a gdb that was named has to know RISC-V; it connects before it does anything else', shell, async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const script = (name: string, text: string) => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(folder, name), 0o755);
    return join(folder, name);
  };
  const good = script(
    'good',
    'case "$*" in *architecture*) echo riscv:rv64;; *"-ex target remote /a/b -x do.gdb") exit 3;; esac',
  );
  assert.equal(findGdb(good), good);
  assert.throws(() => findGdb(script('other', 'echo Undefined item; exit 1')), /is no gdb for RISC-V/);
  assert.throws(() => findGdb(join(folder, 'none')), { code: 'ERR_BRAID_OPTION' });
  assert.equal(await runGdb(good, gdbArguments('target remote /a/b', ['-x', 'do.gdb'])), 3);
  assert.equal(await runGdb(script('killed', 'kill -TERM $$'), []), 128 + 15);
  await assert.rejects(runGdb(join(folder, 'none'), []), { code: 'ENOENT' });
});

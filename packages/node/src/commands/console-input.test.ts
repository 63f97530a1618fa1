/** What is typed on a console arrives whole and in order, also before anybody reads it. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { Replay } from '../index.ts';
import { MAIN, temporaryFolder } from '../testing.ts';

/** A script that is longer than any receiver, and what a shell makes of it. */
const LINES = Array.from({ length: 60 }, (_, n) => `line ${n} ${'abcdefghijklmnopqrstuvwxyz'.repeat(2)}`);
const SCRIPT = `stty -echo; cat >/tmp/typed <<'EOF'\n${LINES.join('\n')}\nEOF\nmd5sum </tmp/typed; poweroff\n`;
const EXPECTED = `${LINES.join('\n')}\n`;

const CASES: Readonly<Record<string, readonly string[]>> = {
  'a serial port': ['--harts', '1'],
  'four harts': ['--harts', '4'],
  'a virtio console': ['--append', 'console=hvc0'],
};

for (const [name, options] of Object.entries(CASES))
  for (const how of ['a file', 'a pipe'])
    test(`${name}, typed by ${how} at power-on`, { skip: guestMissing, timeout: 120_000 }, async (t) => {
      const folder = temporaryFolder(t.after.bind(t));
      const script = join(folder, 'script');
      const recording = join(folder, 'recording');
      writeFileSync(script, SCRIPT);
      const file = how === 'a file' ? openSync(script, 'r') : 'pipe';
      const args = [MAIN, 'run', '--seed', '1', '--memory', '64M', '--record', recording, ...options];
      const child = spawn(process.execPath, args, { stdio: [file, 'pipe', 'ignore'] });
      child.stdin?.end(SCRIPT);
      let output = '';
      child.stdout!.on('data', (bytes) => {
        output += bytes;
      });
      await new Promise((resolve) => child.once('close', resolve));
      if (typeof file === 'number') closeSync(file);
      assert.match(output, new RegExp(createHash('md5').update(EXPECTED).digest('hex')));
      // The positions at which it entered are part of the recording.
      await using replay = await Replay.open(recording);
      assert.equal((await replay.run()).kind, 'end');
      assert.ok(replay.verified > 0);
    });

/** OpenSBI, as Debian packages it, in M-mode, and our kernel above it in S-mode. */

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { defaultInitrd, defaultKernel, guestMissing, PROMPT, Session } from './lib/session.ts';

const FOLDER = '/usr/lib/riscv64-linux-gnu/opensbi/generic';

for (const [file, harts] of [
  ['fw_jump.bin', 1],
  ['fw_dynamic.bin', 2],
  ['fw_dynamic.elf', 1],
] as const) {
  const path = `${FOLDER}/${file}`;
  const skip = guestMissing || (!existsSync(path) && `${path} is not there: install opensbi`);
  test(`OpenSBI's ${file} with ${harts} harts boots the default guest`, { skip }, async () => {
    using session = new Session({
      boot: {
        kind: 'firmware',
        firmware: readFileSync(path),
        kernel: defaultKernel(),
        initrd: defaultInitrd(),
        append: 'console=ttyS0',
      },
      memory: 128 * 2 ** 20,
      harts,
      seed: 1n,
    });
    await session.until(/OpenSBI v[0-9]/);
    await session.until(/SBI implementation ID=0x1/);
    await session.until(PROMPT);
    session.type('echo harts $(nproc)\n');
    await session.until(new RegExp(`harts ${harts}\\r\\n`));
    session.type('poweroff\n');
    assert.deepEqual(await session.exit(), { kind: 'poweroff', code: 0 });
  });
}

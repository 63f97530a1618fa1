/** Debian 13's own kernel: its drivers are modules, and it patches its own code while it boots. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryBackend } from '../packages/core/src/index.ts';
import { PROMPT, Session } from './lib/session.ts';
import { stockInitrd, stockKernel, stockKernelMissing } from './lib/stock-kernel.ts';

test("Debian 13's kernel boots to a shell, and its modules find a disk", { skip: stockKernelMissing() }, async () => {
  const content = new TextEncoder().encode('first words of a disk\n');
  const disk = new Uint8Array(1 << 20);
  disk.set(content);
  using session = new Session({
    boot: {
      kind: 'linux',
      kernel: stockKernel(),
      initrd: stockInitrd(),
      append: 'console=ttyS0',
    },
    memory: 256 * 2 ** 20,
    harts: 2,
    seed: 1n,
    disks: [{ backend: new MemoryBackend(disk) }],
  });
  await session.until(/Linux version 6\.\d+/, 1e9);
  await session.until(PROMPT, 6e9);
  session.type('head -n 1 /dev/vda; uname -v\n');
  await session.until(/first words of a disk\r\n.*Debian/);
  await session.until(PROMPT);
  session.type('echo second > /dev/vda; sync; poweroff\n');
  assert.deepEqual(await session.exit(1e9), { kind: 'poweroff', code: 0 });
  assert.equal(Buffer.from(disk.subarray(0, 6)).toString(), 'second');
});

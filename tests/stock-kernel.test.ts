/**
 * Debian 13's own kernel: its drivers are modules, and it patches its own code while it boots.
 *
 * The files are made by guest/debian/kernel.sh and kept in BRAID_ASSETS, or in braid-assets of the folder for temporary files. Where
 * BRAID_CI is set they are made when they are missing, if Debian's archive can be reached.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { MemoryBackend } from '../packages/core/src/index.ts';
import { PROMPT, Session } from './lib/session.ts';

const folder = join(process.env.BRAID_ASSETS ?? join(tmpdir(), 'braid-assets'), 'stock');
const script = fileURLToPath(new URL('../guest/debian/kernel.sh', import.meta.url));
const present = () => ['Image', 'initramfs.cpio.gz'].every((name) => existsSync(join(folder, name)));

function missing(): string | false {
  if (present()) return false;
  if (!process.env.BRAID_CI) return `there is no ${folder}: make it with guest/debian/kernel.sh`;
  const made = spawnSync('sh', [script, folder], { encoding: 'utf8', timeout: 600_000 });
  return (made.status !== 0 || !present()) && `guest/debian/kernel.sh failed: ${(made.stderr ?? '').slice(-500)}`;
}

test("Debian 13's kernel boots to a shell, and its modules find a disk", { skip: missing() }, async () => {
  const content = new TextEncoder().encode('first words of a disk\n');
  const disk = new Uint8Array(1 << 20);
  disk.set(content);
  using session = new Session({
    boot: {
      kind: 'linux',
      kernel: readFileSync(join(folder, 'Image')),
      initrd: readFileSync(join(folder, 'initramfs.cpio.gz')),
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

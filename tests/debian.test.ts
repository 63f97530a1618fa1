/**
 * Debian 13 whole: its installation finishes inside the machine at the first boot, systemd comes up, a command runs, and the
 * system powers off with its disk in order.
 *
 * Several minutes of a processor, so it runs where BRAID_CI is set, as root, with debootstrap and Debian's archive in reach.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FileBackend } from '../packages/node/src/disk/file-backend.ts';
import { defaultInitrd, defaultKernel, guestMissing, Session } from './lib/session.ts';

const script = fileURLToPath(new URL('../guest/debian/build.sh', import.meta.url));

function missing(): string | false {
  if (guestMissing) return guestMissing;
  if (!process.env.BRAID_CI) return 'takes minutes: set BRAID_CI to run it';
  if (process.getuid?.() !== 0) return 'debootstrap needs root';
  if (spawnSync('debootstrap', ['--version']).status !== 0) return 'debootstrap is not installed';
  return false;
}

test('Debian 13 finishes its installation, boots with systemd, runs a command and powers off', {
  skip: missing(),
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'braid-debian-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const image = join(folder, 'debian.img');
  const made = spawnSync('sh', [script, image], { encoding: 'utf8', timeout: 600_000 });
  assert.equal(made.status, 0, `guest/debian/build.sh failed: ${(made.stderr ?? '').slice(-500)}`);
  const backend = new FileBackend(image, false);
  using session = new Session({
    boot: {
      kind: 'linux',
      kernel: defaultKernel(),
      initrd: defaultInitrd(),
      append: 'quiet console=ttyS0 no4lvl root=/dev/vda rw',
    },
    memory: 1024 * 2 ** 20,
    harts: 1,
    seed: 1n,
    epoch: 1_767_225_600_000_000_000n,
    disks: [{ backend }],
  });
  await session.until(/Base system installed successfully/, 1e12);
  await session.until(/root@braid:~# /, 50e9);
  session.type('systemctl is-system-running --wait; . /etc/os-release; echo "this is $ID $VERSION_ID"\n');
  await session.until(/running\r\n.*this is debian 13\r\n/s, 50e9);
  session.type('systemctl poweroff\n');
  assert.deepEqual(await session.exit(50e9), { kind: 'poweroff', code: 0 });
  backend.close();
  const checked = spawnSync('e2fsck', ['-fn', image], { encoding: 'utf8' });
  assert.equal(checked.status, 0, checked.stdout);
});

/** The end of the default guest leaves the file systems of its disks clean, as e2fsprogs see them on the host. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Machine } from '@braid/node';

const skip = spawnSync('mke2fs', ['-V']).status !== 0 && 'e2fsprogs is not installed';

describe('disks are left clean', { skip, timeout: 300_000 }, () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'braid-clean-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  function image(name: string, type: string): string {
    const path = join(folder, name);
    execFileSync('mke2fs', ['-q', '-F', '-t', type, path, '32M']);
    return path;
  }

  function assertClean(path: string, file: string, text: string): void {
    const header = execFileSync('dumpe2fs', ['-h', path], { stdio: ['ignore', 'pipe', 'ignore'] }).toString();
    assert.match(header, /^Filesystem state:\s+clean$/m);
    assert.doesNotMatch(header, /needs_recovery/);
    execFileSync('e2fsck', ['-fn', path], { stdio: 'pipe' });
    assert.equal(execFileSync('debugfs', ['-R', `cat ${file}`, path], { stdio: 'pipe' }).toString(), text);
  }

  const script = `
    mkdir -p /mnt && mount /dev/vda /mnt && echo kept >/mnt/file
    # A file system in a file of the other, a mount point with a space, and swap in a file.
    truncate -s 8M /mnt/inner && mke2fs -F /mnt/inner >/dev/null && mkdir "/run/a b"
    loop=$(losetup -f) && losetup $loop /mnt/inner && mount -t ext2 $loop "/run/a b" && echo inside >"/run/a b/deep"
    dd if=/dev/zero of=/mnt/swap bs=1M count=2 2>/dev/null && mkswap /mnt/swap >/dev/null && swapon /mnt/swap
    # Processes that hold files open: one that minds no signal but the last, one that writes all the time.
    sh -c 'trap "" TERM HUP; exec sleep 100000' >/mnt/held &
    (while :; do echo more; done) >/mnt/growing &
    sleep 0.1; cat /proc/mounts /proc/swaps`;

  const ends: Readonly<Record<string, (machine: Machine) => Promise<unknown>>> = {
    'by the host': (machine) => machine.shutdown(),
    'by poweroff in the guest': (machine) => Promise.all([machine.exec(['poweroff']).catch(() => {}), machine.wait()]),
    'by a reboot': (machine) => machine.shutdown({ mode: 'reboot' }),
    'without a program for it': async (machine) => {
      await machine.exec(['rm', '/sbin/poweroff']);
      await machine.shutdown();
    },
  };

  for (const [how, end] of Object.entries(ends))
    test(`switched off ${how}`, async () => {
      const path = image(`${how.replaceAll(' ', '-')}.img`, 'ext4');
      {
        await using machine = await Machine.create({ memory: '128M', seed: 1n, disks: [path] });
        await machine.boot();
        const { stdout, stderr } = await machine.exec(['sh', '-c', script]);
        assert.match(stdout, /\/dev\/loop0 \/run\/a\\040b ext/, stderr);
        assert.match(stdout, /\/mnt\/swap\s+file/);
        await end(machine);
      }
      assertClean(path, '/file', 'kept\n');
      const inner = join(folder, 'inner.img');
      execFileSync('debugfs', ['-R', `dump /inner ${inner}`, path], { stdio: 'pipe' });
      assertClean(inner, '/deep', 'inside\n');
    });
});

/**
 * Debian 13's own kernel, and an initial root file system with its modules.
 *
 * The files are made by guest/debian/kernel.sh and kept in BRAID_ASSETS, or in braid-assets of the folder for temporary files. Where
 * BRAID_CI is set they are made when they are missing, if Debian's archive can be reached.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = join(process.env.BRAID_ASSETS ?? join(tmpdir(), 'braid-assets'), 'stock');
const script = fileURLToPath(new URL('../../guest/debian/kernel.sh', import.meta.url));
const present = () => ['Image', 'initramfs.cpio.gz'].every((name) => existsSync(join(folder, name)));

/** Why there is none, or false. */
export function stockKernelMissing(): string | false {
  if (present()) return false;
  if (!process.env.BRAID_CI) return `there is no ${folder}: make it with guest/debian/kernel.sh`;
  const made = spawnSync('sh', [script, folder], { encoding: 'utf8', timeout: 600_000 });
  return (made.status !== 0 || !present()) && `guest/debian/kernel.sh failed: ${(made.stderr ?? '').slice(-500)}`;
}

export const stockKernel = (): Uint8Array => readFileSync(join(folder, 'Image'));
export const stockInitrd = (): Uint8Array => readFileSync(join(folder, 'initramfs.cpio.gz'));

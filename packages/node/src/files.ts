/** Files of the host that machines are made of: kernels and programs. Disks are in `disk/`. */

import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { BraidError } from './errors.ts';

/** Larger than any kernel or initial RAM disk that fits into a machine. */
const LARGEST_FILE = 3 * 2 ** 30;

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a folder',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
};

export function fileError(what: string, path: string, error: unknown, remedy: string): BraidError {
  const { code, message } = error as NodeJS.ErrnoException;
  return new BraidError('ERR_BRAID_FILE', `${what} ${path}: ${REASONS[code ?? ''] ?? message}; ${remedy}`, {
    cause: error,
  });
}

/** A whole file. `what` names it in messages. */
export async function readWhole(what: string, path: string): Promise<Uint8Array> {
  try {
    const file = await open(path);
    try {
      const status = await file.stat();
      if (status.isDirectory()) throw Object.assign(new Error('is a folder'), { code: 'EISDIR' });
      if (status.size > LARGEST_FILE) throw new Error(`it has ${status.size} bytes, more than any machine's memory`);
      return await file.readFile();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError(what, path, error, 'check the path');
  }
}

/** What gzip packed, or the bytes as they are. A decompressed file may have at most the size of a machine's memory. */
export async function unpack(what: string, bytes: Uint8Array): Promise<Uint8Array> {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: LARGEST_FILE / 3 });
  } catch (error) {
    throw new BraidError(
      'ERR_BRAID_FILE',
      `${what}: its gzip data are truncated or corrupt (${(error as Error).message}); copy or build it again`,
      { cause: error },
    );
  }
}

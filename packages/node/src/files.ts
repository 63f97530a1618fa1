/**
 * Files of the host that users name: kernels, programs, scripts, results. Disks are in `disk/`.
 *
 * Every file is opened without waiting (`WITHOUT_WAITING`) and looked at before a byte is read. So a FIFO, a socket, a device or a
 * folder is refused at once, and what is read is bounded by the bytes that are held, not by what the file says about itself.
 */

import { constants, type Stats, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { BraidError } from './errors.ts';

/** Flags for `open`: a FIFO without another end does not hold the caller up, and a terminal does not become ours. */
export const WITHOUT_WAITING: number = (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0);

/** Bytes that are read at once. */
const PIECE = 2 ** 24;

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'a part of the path is no folder',
  EACCES: 'permission denied',
  EISDIR: 'it is a folder',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ELOOP: 'it is a symbolic link that is not followed here, or that leads to itself',
  ENXIO: 'it is a socket, a device that is not there, or a FIFO that no process reads',
  EMFILE: 'this process has too many open files; raise the limit (ulimit -n)',
  ENFILE: 'the system has too many open files; end other programs',
  ENOSPC: 'the disk is full; make room',
  EDQUOT: 'the disk quota is used up; make room',
  EFBIG: 'the file cannot become larger',
  EIO: 'the disk has an error (EIO)',
  ETXTBSY: 'a program runs from it',
};

/** What an error of the file system means, for people. */
export function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return REASONS[code ?? ''] ?? message;
}

export function fileError(what: string, path: string, error: unknown, remedy: string): BraidError {
  return new BraidError('ERR_BRAID_FILE', `${what} ${path}: ${reasonOf(error)}; ${remedy}`, { cause: error });
}

/** What a file is, for messages; undefined for a regular one. */
function irregular(status: Pick<Stats, 'isFile' | 'isDirectory' | 'isFIFO' | 'isSocket'>): string | undefined {
  if (status.isFile()) return undefined;
  if (status.isDirectory()) return 'it is a folder';
  if (status.isFIFO()) return 'it is a FIFO, and no regular file';
  return status.isSocket() ? 'it is a socket, and no regular file' : 'it is a device, and no regular file';
}

/** Throws `ERR_BRAID_FILE` at once for what is not there or is no regular file: for a reader that cannot be told how to open. */
export function requireRegular(what: string, path: string): void {
  let status: Stats;
  try {
    status = statSync(path);
  } catch (error) {
    throw fileError(what, path, error, 'check the path');
  }
  const kind = irregular(status);
  if (kind !== undefined) throw refused(what, path, `${kind}; copy its content to a regular file`);
}

/**
 * A whole regular file of at most `most` bytes, which is also the most memory that this takes, and a piece. `what` names it in
 * messages. Throws `ERR_BRAID_FILE`.
 */
export async function readWhole(what: string, path: string, most: number): Promise<Uint8Array> {
  try {
    const file = await open(path, constants.O_RDONLY | WITHOUT_WAITING);
    try {
      const status = await file.stat();
      const kind = irregular(status);
      if (kind !== undefined) throw refused(what, path, `${kind}; copy its content to a regular file`);
      const large = (size: number | string) => refused(what, path, `it has ${size} bytes; at most ${most} can be used`);
      if (status.size > most) throw large(status.size);
      // A file may grow meanwhile, and those of /proc say that they are empty.
      let bytes = new Uint8Array(Math.max(status.size, 1) + 1);
      for (let used = 0; ; ) {
        const { bytesRead } = await file.read(bytes, used, Math.min(bytes.length - used, PIECE));
        used += bytesRead;
        if (used > most) throw large(`more than ${most}`);
        if (bytesRead === 0) return bytes.subarray(0, used);
        if (used < bytes.length) continue;
        const larger = new Uint8Array(Math.min(2 * used, most + 1));
        larger.set(bytes);
        bytes = larger;
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    throw error instanceof BraidError ? error : fileError(what, path, error, 'check the path');
  }
}

/** What gzip packed, at most `most` bytes, or the bytes as they are. Throws `ERR_BRAID_FILE`. */
export async function unpack(what: string, bytes: Uint8Array, most: number): Promise<Uint8Array> {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: most });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why =
      code === 'ERR_BUFFER_TOO_LARGE'
        ? `it is packed with gzip, and has more than ${most} bytes unpacked: no machine of this size can hold it; give more memory`
        : `its gzip data are truncated or corrupt (${message}); copy or build it again`;
    throw new BraidError('ERR_BRAID_FILE', `${what}: ${why}`, { cause: error });
  }
}

function refused(what: string, path: string, why: string): BraidError {
  return new BraidError('ERR_BRAID_FILE', `${what} ${path}: ${why}`);
}

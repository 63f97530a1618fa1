/** Files of the host that machines are made of: kernels, programs, disks. */

import { closeSync, constants, fdatasyncSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import type { BlockBackend } from '@braid/core/devices/virtio-block/backend.ts';
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

function fileError(what: string, path: string, error: unknown, remedy: string): BraidError {
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

/**
 * A disk in a file, read and written in place. What the guest has written is with the operating system as soon as the guest is
 * told so, and on the medium after a flush.
 */
export class FileBackend implements BlockBackend {
  readonly size: bigint;
  readonly readOnly: boolean;
  private readonly fd: number;

  constructor(path: string, readOnly: boolean) {
    this.readOnly = readOnly;
    try {
      this.fd = openSync(path, readOnly ? constants.O_RDONLY : constants.O_RDWR);
    } catch (error) {
      throw fileError('disk', path, error, readOnly ? 'check the path' : 'check the path, or attach it with ",ro"');
    }
    const status = fstatSync(this.fd);
    const refuse = (why: string) => {
      closeSync(this.fd);
      throw new BraidError('ERR_BRAID_FILE', `disk ${path}: ${why}`);
    };
    if (!status.isFile() && !status.isBlockDevice()) refuse('it is no regular file; give a raw disk image');
    const size = status.isFile() ? status.size : this.deviceSize();
    if (size === 0) refuse('it is empty; give a raw disk image');
    if (size % 512 !== 0) {
      refuse(`its size of ${size} bytes is not a multiple of 512; give a raw disk image, or pad it (truncate -s %512)`);
    }
    const head = Buffer.alloc(4);
    readSync(this.fd, head, 0, 4, 0);
    if (head.toString('latin1') === 'QFI\xfb') {
      refuse('it is a qcow2 image; convert it first (qemu-img convert -O raw)');
    }
    this.size = BigInt(size);
  }

  /** Block devices have no size of their own: the largest offset that can be read, by bisection. */
  private deviceSize(): number {
    const byte = Buffer.alloc(1);
    let low = 0;
    let high = 2 ** 44;
    while (high - low > 512) {
      const middle = Math.floor((low + high) / 1024) * 512;
      let there = false;
      try {
        there = readSync(this.fd, byte, 0, 1, middle) === 1;
      } catch {
        // Beyond the end.
      }
      if (there) low = middle;
      else high = middle;
    }
    return high;
  }

  read(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const count = readSync(this.fd, into, done, into.length - done, offset + done);
      if (count === 0) throw new Error('the file has become shorter');
      done += count;
    }
  }

  write(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.fd, bytes, done, bytes.length - done, offset + done);
    }
  }

  flush(): void {
    if (!this.readOnly) fdatasyncSync(this.fd);
  }

  /** Flushes and closes. */
  close(): void {
    try {
      this.flush();
    } finally {
      closeSync(this.fd);
    }
  }
}

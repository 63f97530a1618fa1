/**
 * What a disk asks of a file system, one system call each, so that tests can stop it between any two and in the middle of each.
 *
 * All of them block. Errors are Node's, with their `code` (ENOSPC and so on).
 */

import {
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  futimesSync,
  openSync,
  readSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { WITHOUT_WAITING } from '../files.ts';

export interface FileStatus {
  readonly kind: 'file' | 'device' | 'other';
  readonly size: number;
  /** When the content was last changed, in nanoseconds. */
  readonly modified: bigint;
  /** Number of the user it belongs to. */
  readonly user: number;
  /** Of the device and of the file there: what all names of one file have in common, and no other file of this host. */
  readonly identity: string;
  /** How many names the file has. */
  readonly names: number;
}

export interface FileOperations {
  /** `new`: a file that must not exist, for reading and writing; `write`: one that exists, and is no symbolic link, for both. */
  open(path: string, how: 'read' | 'write' | 'new'): number;
  close(file: number): void;
  status(file: number): FileStatus;
  /** How many bytes were there to read, at least one unless the file ends. */
  read(file: number, into: Uint8Array, offset: number): number;
  /** How many bytes were written, at least one. */
  write(file: number, bytes: Uint8Array, offset: number): number;
  truncate(file: number, size: number): void;
  /** Gives the file a time of change that no write before or after gives it, and makes that durable. */
  mark(file: number): void;
  /** Content and length are on the medium afterwards. */
  syncData(file: number): void;
  /** All that is known about the file is on the medium afterwards. */
  sync(file: number): void;
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** The names in a folder are on the medium afterwards. */
  syncFolder(path: string): void;
}

const FLAGS = {
  read: constants.O_RDONLY | WITHOUT_WAITING,
  // Not every system can refuse a link.
  write: constants.O_RDWR | WITHOUT_WAITING | (constants.O_NOFOLLOW ?? 0),
  new: constants.O_RDWR | WITHOUT_WAITING | constants.O_CREAT | constants.O_EXCL,
};

export const fileSystem: FileOperations = {
  open: (path, how) => openSync(path, FLAGS[how], 0o600),
  close: closeSync,
  status: (file) => {
    const status = fstatSync(file, { bigint: true });
    const kind = status.isFile() ? 'file' : status.isBlockDevice() ? 'device' : 'other';
    const identity = `${status.dev}-${status.ino}`;
    return {
      kind,
      size: Number(status.size),
      modified: status.mtimeNs,
      user: Number(status.uid),
      identity,
      names: Number(status.nlink),
    };
  },
  read: (file, into, offset) => readSync(file, into, 0, into.length, offset),
  write: (file, bytes, offset) => writeSync(file, bytes, 0, bytes.length, offset),
  truncate: ftruncateSync,
  mark: (file) => {
    // Writes have the time of the system's last tick, this one lies between two ticks.
    const now = (performance.timeOrigin + performance.now()) / 1000;
    futimesSync(file, now, now);
    fsyncSync(file);
  },
  syncData: fdatasyncSync,
  sync: fsyncSync,
  rename: renameSync,
  remove: unlinkSync,
  syncFolder: (path) => {
    // Windows has no such call, and orders names itself.
    if (process.platform === 'win32') return;
    const folder = openSync(path, constants.O_RDONLY);
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  },
};

/** Fills `into`. */
export function readFully(files: FileOperations, file: number, into: Uint8Array, offset: number): void {
  for (let done = 0; done < into.length; ) {
    const count = files.read(file, into.subarray(done), offset + done);
    if (count === 0) throw new Error('the file has become shorter');
    done += count;
  }
}

export function writeFully(files: FileOperations, file: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) done += files.write(file, bytes.subarray(done), offset + done);
}

/**
 * One writer for a disk image: locks that say who holds them, so that one whose holder is gone can be taken over.
 *
 *     IMAGE.braid-lock/HOLDER                      beside the image: a folder with one empty file
 *     /tmp/braid-locks-USER/DEVICE-INODE/HOLDER    by what the file is: hard links, bind mounts and renamed images have one
 *
 * HOLDER names a thread so that it can be looked for: the name says all, because the name is all that a crash leaves whole. A lock
 * is made elsewhere and renamed into place, which fails while there is a folder with something in it. Whoever finds a dead holder
 * removes that holder's file; names never occur twice, so nobody can remove a lock that was taken meanwhile.
 */

import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { BraidError } from '../errors.ts';

/** More than as many attempts as processes can come in between. */
const ATTEMPTS = 100;

/** A thread, as it can be told from all others. Where the system does not say, `thread` is 0 and `start`, `boot`, `space` are '0'. */
export interface Holder {
  readonly pid: number;
  readonly thread: number;
  /** When the thread was started, in the system's ticks since it was. */
  readonly start: string;
  /** When the system was started: a random id. */
  readonly boot: string;
  /** In which process numbers mean the same. */
  readonly space: string;
  /** A hash of the host's name. */
  readonly host: string;
}

export type Fate = 'alive' | 'gone' | 'unknown';

/** An image that is to be locked. */
export interface Lockable {
  readonly path: string;
  /** As `FileStatus` has them. Without them only names are compared. */
  readonly status?: { readonly identity: string; readonly user: number; readonly names: number };
}

/** The locks of an image: beside it, which binds every host that sees the folder, and by its identity, whatever name it is opened by. */
export class ImageLock {
  private readonly locks: readonly FolderLock[];

  private constructor(locks: readonly FolderLock[]) {
    this.locks = locks;
  }

  /** Takes the locks of an image for this thread. Throws `ERR_BRAID_DISK_LOCKED`. */
  static take(image: Lockable): ImageLock {
    const { path, status } = image;
    const locks: FolderLock[] = [];
    try {
      locks.push(FolderLock.take(path, lockPath(path)));
      if (status === undefined) return new ImageLock(locks);
      const place = makePlace(image);
      if (place !== undefined) locks.push(FolderLock.take(path, join(place, status.identity)));
      // Each takes its own lock before it looks at those of other users: of two that do so at once, one sees the other at least.
      for (const folder of foreignFolders(status)) {
        for (const holder of holders(folder)) {
          const fate = fateOf(holder);
          if (fate !== 'gone') throw locked(path, folder, holder, fate);
        }
      }
      return new ImageLock(locks);
    } catch (error) {
      for (const lock of locks) lock.release();
      throw error;
    }
  }

  /**
   * Takes over the locks from another thread of this process, which must not use them any more; `names` is what its `handOver` gave.
   * Throws `ERR_BRAID_DISK_LOCKED` if that thread has ended too early and another one has the lock.
   */
  static takeOver({ path, status }: Lockable, names: string): ImageLock {
    const [beside, byIdentity] = names.split('/');
    const locks = [FolderLock.takeOver(path, lockPath(path), beside!)];
    if (byIdentity === undefined || status === undefined) return new ImageLock(locks);
    try {
      locks.push(FolderLock.takeOver(path, join(placeOf(ownUser()), status.identity), byIdentity));
    } catch (error) {
      locks[0]!.release();
      throw error;
    }
    return new ImageLock(locks);
  }

  /** Leaves the locks to `takeOver` of another thread. */
  handOver(): string {
    return this.locks.map((lock) => lock.name).join('/');
  }

  release(): void {
    for (const lock of this.locks) lock.release();
  }
}

/** Whether an image may be in use for writing. */
export function isLocked({ path, status }: Lockable): boolean {
  const folders = [lockPath(path)];
  if (status) folders.push(join(placeOf(ownUser()), status.identity), ...foreignFolders(status));
  return folders.some((folder) => holders(folder).some((holder) => fateOf(holder) !== 'gone'));
}

/** A folder whose one file names the holder. */
class FolderLock {
  readonly folder: string;
  readonly name: string;

  private constructor(folder: string, name: string) {
    this.folder = folder;
    this.name = name;
  }

  static take(image: string, folder: string): FolderLock {
    const name = encodeHolder(ownHolder());
    const made = `${folder}.${name.slice(-16)}`;
    try {
      mkdirSync(made);
      closeSync(openSync(join(made, name), 'wx'));
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        for (const holder of holders(folder)) {
          const fate = fateOf(holder);
          if (fate !== 'gone') throw locked(image, folder, holder, fate);
          quietly(() => unlinkSync(join(folder, holder)));
        }
        // Not every system renames onto an empty folder.
        quietly(() => rmdirSync(folder));
        try {
          renameSync(made, folder);
          return new FolderLock(folder, name);
        } catch (error) {
          if (!['ENOTEMPTY', 'EEXIST', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
        }
      }
      throw new Error('others keep taking the lock');
    } catch (error) {
      quietly(() => unlinkSync(join(made, name)));
      quietly(() => rmdirSync(made));
      throw error instanceof BraidError ? error : unlockable(image, error);
    }
  }

  static takeOver(image: string, folder: string, name: string): FolderLock {
    const own = encodeHolder(ownHolder());
    try {
      closeSync(openSync(join(folder, own), 'wx'));
      unlinkSync(join(folder, name));
    } catch (error) {
      quietly(() => unlinkSync(join(folder, own)));
      const why = `disk ${image}: its lock was lost on the way from thread to thread`;
      throw new BraidError('ERR_BRAID_DISK_LOCKED', why, { cause: error });
    }
    return new FolderLock(folder, own);
  }

  release(): void {
    quietly(() => unlinkSync(join(this.folder, this.name)));
    quietly(() => rmdirSync(this.folder));
  }
}

const ownUser = (): number => process.getuid?.() ?? 0;

/** Where a user of this host has locks by identity: one place for all programs of the user, whatever TMPDIR is. */
function placeOf(user: number): string {
  return join(process.platform === 'win32' ? tmpdir() : '/tmp', `braid-locks-${user}`);
}

/** Our place; undefined where there can be none and the image has no other name: then the lock beside it does. */
function makePlace({ path, status }: Lockable): string | undefined {
  const place = placeOf(ownUser());
  try {
    mkdirSync(place, { recursive: true, mode: 0o755 });
    if (!belongsTo(place, ownUser())) throw new Error(`${place} belongs to another user`);
    return place;
  } catch (error) {
    if (status!.names === 1) return undefined;
    throw unlockable(path, error);
  }
}

/** The locks by identity of other users who may write an image: its owner and root. What others say is not listened to. */
function foreignFolders({ identity, user }: NonNullable<Lockable['status']>): string[] {
  const users = new Set([0, user]);
  users.delete(ownUser());
  return [...users].filter((one) => belongsTo(placeOf(one), one)).map((one) => join(placeOf(one), identity));
}

function belongsTo(folder: string, user: number): boolean {
  const status = lstatSync(folder, { throwIfNoEntry: false });
  return Boolean(status?.isDirectory()) && (process.getuid === undefined || status?.uid === user);
}

function unlockable(image: string, cause: unknown): BraidError {
  const why = `it cannot be locked against other writers (${(cause as Error).message})`;
  const remedy = 'make its folder writable, or attach it with ",ro"';
  return new BraidError('ERR_BRAID_DISK_LOCKED', `disk ${image}: ${why}; ${remedy}`, { cause });
}

function lockPath(image: string): string {
  return `${image}.braid-lock`;
}

function holders(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    const why = `disk lock ${folder}: it cannot be read (${(error as Error).message}); remove it if no machine writes the image`;
    throw new BraidError('ERR_BRAID_DISK_LOCKED', why, { cause: error });
  }
}

function locked(image: string, folder: string, name: string, fate: Fate): BraidError {
  const holder = decodeHolder(name);
  const who = holder ? `process ${holder.pid}` : 'somebody';
  const own = holder?.pid === process.pid && fate === 'alive';
  const [why, remedy] = own
    ? ['this process writes it already', 'dispose of the machine that has it, or attach it once only']
    : fate === 'alive'
      ? [`${who} writes it`, 'end that process']
      : [`${who} of another host or container may be writing it`, `end it, and if it is gone remove ${folder}`];
  return new BraidError('ERR_BRAID_DISK_LOCKED', `disk ${image}: ${why}; ${remedy}, or attach the disk with ",ro"`);
}

/** The file name of a holder; a new one at each call. */
export function encodeHolder({ pid, thread, start, boot, space, host }: Holder): string {
  return [pid, thread, start, boot, space, host, randomBytes(8).toString('hex')].join('-');
}

export function decodeHolder(name: string): Holder | undefined {
  const parts = /^(\d{1,10})-(\d{1,10})-(\d{1,20})-([0-9a-f]{1,32})-(\d{1,20})-([0-9a-f]{16})-[0-9a-f]{16}$/.exec(name);
  if (!parts) return undefined;
  const [, pid, thread, start, boot, space, host] = parts as unknown as string[];
  return { pid: Number(pid), thread: Number(thread), start: start!, boot: boot!, space: space!, host: host! };
}

/** This thread. */
export function ownHolder(): Holder {
  const thread = Number(/\d+$/.exec(link('/proc/thread-self') ?? '')?.[0] ?? 0);
  return {
    pid: process.pid,
    thread,
    start: (thread === 0 ? undefined : threadStart(process.pid, thread)) ?? '0',
    boot: text('/proc/sys/kernel/random/boot_id')?.replaceAll('-', '').trim() || '0',
    space: /\d+/.exec(link('/proc/self/ns/pid') ?? '')?.[0] ?? '0',
    host: createHash('sha256').update(hostname()).digest('hex').slice(0, 16),
  };
}

/** What has become of the holder with this file name, as far as can be known here. */
function fateOf(name: string): Fate {
  const holder = decodeHolder(name);
  return holder === undefined ? 'unknown' : fateOfHolder(holder, ownHolder());
}

export function fateOfHolder(holder: Holder, self: Holder): Fate {
  if (holder.host !== self.host) return 'unknown';
  if (holder.boot !== self.boot) return 'gone';
  if (holder.space !== self.space) return 'unknown';
  if (holder.start !== '0') {
    const start = threadStart(holder.pid, holder.thread);
    if (start !== undefined) return start === holder.start ? 'alive' : 'gone';
    // Its process can be seen, or its thread could not be hidden: then the thread is gone.
    if (text(`/proc/${holder.pid}/stat`) !== undefined) return 'gone';
  }
  try {
    process.kill(holder.pid, 0);
    return 'alive';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH' ? 'gone' : 'alive';
  }
}

/** When a thread was started; '' if it has ended and only its parent has not noticed, undefined if it is not to be seen. */
function threadStart(pid: number, thread: number): string | undefined {
  const status = text(`/proc/${pid}/task/${thread}/stat`);
  // The name of the program, in parentheses, can hold anything. After it come the state and, as the 20th, the time.
  const fields = status?.slice(status.lastIndexOf(')') + 2).split(' ');
  if (fields === undefined) return undefined;
  return fields[0] === 'Z' || fields[0] === 'X' ? '' : fields[19];
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return undefined;
  }
}

function link(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function quietly(work: () => void): void {
  try {
    work();
  } catch {}
}

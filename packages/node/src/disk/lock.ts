/**
 * One writer for a disk image: a lock beside it that says who holds it, so that one whose holder is gone can be taken over.
 *
 *     IMAGE.braid-lock/HOLDER        a folder with one empty file
 *
 * HOLDER names a thread so that it can be looked for: the name says all, because the name is all that a crash leaves whole. A lock
 * is made elsewhere and renamed into place, which fails while there is a folder with something in it. Whoever finds a dead holder
 * removes that holder's file; names never occur twice, so nobody can remove a lock that was taken meanwhile.
 */

import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { hostname } from 'node:os';
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

export class ImageLock {
  readonly #folder: string;
  readonly #name: string;

  private constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  /** Takes the lock of an image for this thread. Throws `ERR_BRAID_DISK_LOCKED`. */
  static take(image: string): ImageLock {
    const folder = lockPath(image);
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
          return new ImageLock(folder, name);
        } catch (error) {
          if (!['ENOTEMPTY', 'EEXIST', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
        }
      }
      throw new Error('others keep taking the lock');
    } catch (error) {
      quietly(() => unlinkSync(join(made, name)));
      quietly(() => rmdirSync(made));
      if (error instanceof BraidError) throw error;
      throw new BraidError(
        'ERR_BRAID_DISK_LOCKED',
        `disk ${image}: it cannot be locked against other writers (${(error as Error).message}); make its folder writable, or attach ` +
          'it with ",ro"',
        { cause: error },
      );
    }
  }

  /**
   * Takes over a lock from another thread of this process, which must not use it any more; `name` is what its `handOver` gave.
   * Throws `ERR_BRAID_DISK_LOCKED` if that thread has ended too early and somebody else has the lock.
   */
  static takeOver(image: string, name: string): ImageLock {
    const folder = lockPath(image);
    const own = encodeHolder(ownHolder());
    try {
      closeSync(openSync(join(folder, own), 'wx'));
      unlinkSync(join(folder, name));
    } catch (error) {
      quietly(() => unlinkSync(join(folder, own)));
      throw new BraidError(
        'ERR_BRAID_DISK_LOCKED',
        `disk ${image}: its lock was lost on the way from thread to thread`,
        {
          cause: error,
        },
      );
    }
    return new ImageLock(folder, own);
  }

  /** Leaves the lock to `takeOver` of another thread. */
  handOver(): string {
    return this.#name;
  }

  release(): void {
    quietly(() => unlinkSync(join(this.#folder, this.#name)));
    quietly(() => rmdirSync(this.#folder));
  }
}

/** Whether somebody may be writing the image. */
export function isLocked(image: string): boolean {
  return holders(lockPath(image)).some((holder) => fateOf(holder) !== 'gone');
}

function lockPath(image: string): string {
  return `${image}.braid-lock`;
}

function holders(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function locked(image: string, folder: string, name: string, fate: Fate): BraidError {
  const holder = decodeHolder(name);
  const who = holder ? `process ${holder.pid}` : 'somebody';
  const own = holder?.pid === process.pid && fate === 'alive';
  const [why, remedy] = own
    ? ['this process writes it already', 'dispose of the machine that has it']
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

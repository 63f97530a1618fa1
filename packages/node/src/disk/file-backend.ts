/** Disks in files of the host. */

import { existsSync, realpathSync } from 'node:fs';
import type { BlockBackend } from '@braid/core/devices/virtio-block/backend.ts';
import type { BlockMap } from '@braid/core/disk/block-map.ts';
import { conversion, HEAD_BYTES, imageFormat, TAIL_BYTES } from '@braid/core/disk/image-format.ts';
import type { OverlayJournal } from '@braid/core/disk/overlay.ts';
import { BraidError } from '../errors.ts';
import { fileError } from '../files.ts';
import { type FileOperations, fileSystem, readFully, writeFully } from './file-operations.ts';
import { type Image, JOURNAL_SIZE, Journal, journalPath, recover, removeJournal, writeToImage } from './journal.ts';
import { transactionSize } from './journal-format.ts';
import { ImageLock, isLocked, type Lockable } from './lock.ts';

export interface FileBackendOptions {
  /** What another thread of this process got from `handOver`, to go on with the disk here. */
  readonly lock?: string;
  /** Bytes: a journal that would become larger than this, and than three times what the overlay holds, is written anew. */
  readonly journalSize?: number;
  /** It is a raw disk, whatever it begins with. One that is handed over has been looked at. */
  readonly raw?: boolean;
  /** The file system. */
  readonly files?: FileOperations;
}

/**
 * A disk in a file, read and written in place. What the guest has written is with the operating system as soon as the guest is
 * told so, and on the medium after a flush.
 *
 * One that is written is locked against other writers, and what a crash has left in the image's journal is brought into the image
 * first. As the journal of an overlay it keeps what a machine flushes while the image is frozen; the image is then not written
 * before `apply`. A disk that is closed before leaves its journal to the next one that opens the image.
 *
 * Block devices have neither lock nor journal: there is no place beside them that lasts.
 */
export class FileBackend implements BlockBackend, OverlayJournal {
  readonly size: bigint;
  readonly readOnly: boolean;
  readonly #files: FileOperations;
  readonly #image: Image;
  readonly #lock: ImageLock | undefined;
  /** The journal, if it can be added to. */
  #journal: Journal | undefined;
  /** Whether there may be a file of that name. */
  #journalThere = false;
  /** Whether it was written since `stamp`. */
  #changed = false;
  /** Whether there may be something to flush. */
  #dirty = true;
  readonly #journalSize: number;

  constructor(path: string, readOnly: boolean, options: FileBackendOptions = {}) {
    this.readOnly = readOnly;
    this.#journalSize = options.journalSize ?? JOURNAL_SIZE;
    const files = options.files ?? fileSystem;
    this.#files = files;
    let file: number;
    try {
      path = options.files ? path : realpathSync(path);
      file = files.open(path, readOnly ? 'read' : 'write');
    } catch (error) {
      throw fileError('disk', path, error, readOnly ? 'check the path' : 'check the path, or attach it with ",ro"');
    }
    try {
      const status = files.status(file);
      const { kind } = status;
      if (kind === 'other') throw unfit(path, 'it is no regular file; give a raw disk image');
      if (kind === 'file' && options.files === undefined) this.#lock = lock({ path, status }, readOnly, options.lock);
      const size = kind === 'file' ? status.size : deviceSize(files, file);
      const image = { file, path, size };
      if (!options.raw && options.lock === undefined) requireRaw(files, image);
      requireSectors(image);
      this.#image = image;
      this.size = BigInt(size);
      if (kind === 'file' && !readOnly) {
        if (options.lock === undefined) told(path, 'its journal', () => recover(files, this.#image));
        else this.#journalThere = true;
      }
    } catch (error) {
      this.#lock?.release();
      files.close(file);
      throw error;
    }
  }

  get path(): string {
    return this.#image.path;
  }

  read(offset: number, into: Uint8Array): void {
    readFully(this.#files, this.#image.file, into, offset);
  }

  write(offset: number, bytes: Uint8Array): void {
    if (this.#journalThere) {
      throw new BraidError(
        'ERR_BRAID_DISK',
        `disk ${this.#image.path}: it has a journal, which is to be applied first`,
      );
    }
    this.#dirty = true;
    this.#changed = true;
    writeFully(this.#files, this.#image.file, bytes, offset);
  }

  flush(): void {
    if (this.readOnly || !this.#dirty) return;
    told(this.#image.path, 'what was written', () => this.#files.syncData(this.#image.file));
    this.#dirty = false;
  }

  /** When the image was last changed, in ns since 1970: a time that a later write changes, however soon it is. */
  stamp(): bigint {
    if (this.#changed) this.#files.mark(this.#image.file);
    this.#changed = false;
    return this.#files.status(this.#image.file).modified;
  }

  append(map: BlockMap, blocks: readonly number[], whole: boolean): void {
    this.#journaled('what was written', () => {
      if (whole && blocks.length === 0) return this.#removeJournal();
      const journal = this.#journal;
      const size = (journal?.size ?? 0) + transactionSize(blocks.length);
      if (whole) return this.#createJournal(map, blocks);
      const all = journal && size <= this.#journalSize ? [] : [...map.changed()];
      if (journal && size <= Math.max(this.#journalSize, 3 * transactionSize(all.length))) {
        journal.append(blocks, (block) => map.get(block)!);
      } else {
        this.#createJournal(map, all);
      }
    });
  }

  apply(map: BlockMap): void {
    this.#journaled('the overlay', () => {
      const blocks = [...map.changed()];
      if (blocks.length > 0) {
        if (this.#journal === undefined) this.#createJournal(map, blocks);
        this.#journal!.markApplying();
        this.#changed = true;
        writeToImage(this.#files, this.#image, blocks, (block) => map.get(block)!);
        this.#files.sync(this.#image.file);
      }
      this.#removeJournal();
    });
  }

  /** Closes the disk here but keeps its lock, and tells with what another thread of this process can go on: see `lock`. */
  handOver(): string | undefined {
    const lock = this.#lock?.handOver();
    this.#closeFiles();
    return lock;
  }

  /** Flushes and closes. */
  close(): undefined {
    try {
      this.#closeFiles();
    } finally {
      this.#lock?.release();
    }
  }

  #closeFiles(): void {
    try {
      this.flush();
    } finally {
      this.#closeJournal();
      this.#files.close(this.#image.file);
    }
  }

  #createJournal(map: BlockMap, blocks: readonly number[]): void {
    this.#closeJournal();
    this.#requireName();
    this.#journalThere = true;
    this.#journal = Journal.create(this.#files, this.#image, blocks, (block) => map.get(block)!);
  }

  /** A journal is found by the image's name: where another program has taken that away meanwhile, one would be of no use. */
  #requireName(): void {
    const { file, path } = this.#image;
    let there: number | undefined;
    try {
      there = this.#files.open(path, 'read');
      if (this.#files.status(there).identity === this.#files.status(file).identity) return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    } finally {
      if (there !== undefined) this.#files.close(there);
    }
    throw new BraidError(
      'ERR_BRAID_DISK',
      `disk ${path}: the image was renamed, removed or replaced while it is in use, so nothing can be kept beside it; give it its ` +
        'name back',
    );
  }

  #removeJournal(): void {
    this.#closeJournal();
    if (!this.#journalThere) return;
    removeJournal(this.#files, this.#image.path);
    this.#journalThere = false;
  }

  #closeJournal(): void {
    this.#journal?.close();
    this.#journal = undefined;
  }

  /** A step of the journal's; one that fails leaves it as a whole that can be read, but not be added to. */
  #journaled(what: string, work: () => void): void {
    const { path } = this.#image;
    if (this.readOnly) throw new BraidError('ERR_BRAID_DISK', `disk ${path}: it is attached for reading only`);
    if (this.#lock === undefined && this.#files === fileSystem) {
      throw new BraidError(
        'ERR_BRAID_DISK',
        `disk ${path}: ${what} cannot be made durable beside a block device; commit the overlay, or use an image file`,
      );
    }
    try {
      told(path, what, work);
    } catch (error) {
      this.#closeJournal();
      throw error;
    }
  }
}

function lock(image: Lockable, readOnly: boolean, handedOver: string | undefined): ImageLock | undefined {
  if (!readOnly) return handedOver === undefined ? ImageLock.take(image) : ImageLock.takeOver(image, handedOver);
  const { path } = image;
  // The journal of one who is there holds nothing that a reader beside him could expect to see.
  if (existsSync(journalPath(path)) && !isLocked(image)) {
    throw new BraidError(
      'ERR_BRAID_JOURNAL',
      `disk ${path}: a crash has left a journal beside it, so its content is not up to date; attach it once without ",ro", which ` +
        `brings the journal into it, or remove ${journalPath(path)}`,
    );
  }
  return undefined;
}

/** Errors of the file system on the way to the medium, with what they mean. */
function told(path: string, what: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (error instanceof BraidError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    const full = code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG';
    throw new BraidError(
      'ERR_BRAID_DISK',
      `disk ${path}: ${what} could not be written: ${full ? `there is no room left (${code})` : message}; ` +
        `what was flushed before is still there${full ? ': make room and try again' : ''}`,
      { cause: error },
    );
  }
}

function unfit(path: string, why: string): BraidError {
  return new BraidError('ERR_BRAID_FILE', `disk ${path}: ${why}`);
}

function requireSectors({ path, size }: Image): void {
  if (size === 0) throw unfit(path, 'it is empty; give a raw disk image');
  if (size % 512 !== 0) {
    const remedy = 'give a raw disk image, or pad it (truncate -s %512)';
    throw unfit(path, `its size of ${size} bytes is not a multiple of 512; ${remedy}`);
  }
}

/** Refuses what is no raw disk. */
function requireRaw(files: FileOperations, { file, path, size }: Image): void {
  const head = new Uint8Array(Math.min(size, HEAD_BYTES));
  const tail = new Uint8Array(Math.min(size, TAIL_BYTES));
  readFully(files, file, head, 0);
  readFully(files, file, tail, size - tail.length);
  const format = imageFormat(head, tail);
  if (!format) return;
  const { name } = format;
  const remedy = `make a raw disk of it (${conversion(format, path)})`;
  throw unfit(
    path,
    `it is ${/^[aeiouxAEIOUX]/.test(name) ? 'an' : 'a'} ${name} file, not a raw disk; ${remedy}, or attach it with ",raw"`,
  );
}

/** Block devices have no size of their own: the largest offset that can be read, by bisection. */
function deviceSize(files: FileOperations, file: number): number {
  const byte = Buffer.alloc(1);
  let low = 0;
  let high = 2 ** 44;
  while (high - low > 512) {
    const middle = Math.floor((low + high) / 1024) * 512;
    let there = false;
    try {
      there = files.read(file, byte, middle) === 1;
    } catch {
      // Beyond the end.
    }
    if (there) low = middle;
    else high = middle;
  }
  return high;
}

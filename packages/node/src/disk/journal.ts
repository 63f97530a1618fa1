/**
 * The journal beside a disk image: what a machine has made durable while the image must stay as it is.
 *
 * What is written when (each step is on the medium before the next begins):
 *
 *     create   page and first transaction as NAME.new | NAME.new becomes NAME | the folder
 *     append   a transaction
 *     apply    the page's mark | the image | NAME is removed | the folder
 *
 * So whatever instant a crash hits, the journal and the image together give the last state that was made durable, or the one that
 * was just being made so. Writing needs memory for one megabyte, reading too, whatever the journal's size.
 */

import { createHash, type Hash, randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import { BLOCK } from '@braid/core/disk/block-map.ts';
import { BraidError } from '../errors.ts';
import { type FileOperations, readFully, writeFully } from './file-operations.ts';
import {
  APPLYING_OFFSET,
  BOUND_HASH,
  BOUND_ID,
  BOUND_SIZE,
  decodeBound,
  decodePage,
  encodeApplying,
  encodeBound,
  encodePage,
  ID_SIZE,
  NUMBER_SIZE,
  PAGE_SIZE,
  type Page,
  transactionSize,
} from './journal-format.ts';

/** Bytes that a journal may have however small its overlay is. */
export const JOURNAL_SIZE: number = 64 * 2 ** 20;
/** Bytes that are written or read at once. */
const CHUNK = 2 ** 20;

/** A block's bytes; a view that is used at once. */
export type Content = (block: number) => Uint8Array;

export interface Image {
  readonly file: number;
  /** Of the image. */
  readonly path: string;
  readonly size: number;
}

export function journalPath(image: string): string {
  return `${image}.braid-journal`;
}

const newPath = (image: string) => `${journalPath(image)}.new`;

/** A journal that is being written. After an error it is of no use any more than to be closed: another takes its place. */
export class Journal {
  /** Bytes. */
  size: number;
  readonly #files: FileOperations;
  readonly #file: number;
  readonly #id: Buffer;
  #sequence = 1;

  private constructor(files: FileOperations, file: number, id: Buffer, size: number) {
    this.#files = files;
    this.#file = file;
    this.#id = id;
    this.size = size;
  }

  /**
   * A journal of one transaction, in place of the one that there may be. All that the image holds becomes durable before. After
   * an error the old one is still there, or the new one is already.
   */
  static create(files: FileOperations, image: Image, blocks: readonly number[], content: Content): Journal {
    const path = newPath(image.path);
    files.sync(image.file);
    const { modified } = files.status(image.file);
    removeIfThere(files, path);
    const id = randomBytes(ID_SIZE);
    const file = files.open(path, 'new');
    try {
      const journal = new Journal(files, file, id, PAGE_SIZE);
      writeFully(files, file, encodePage({ size: image.size, modified, id }), 0);
      journal.append(blocks, content);
      files.rename(path, journalPath(image.path));
      files.syncFolder(dirname(path));
      return journal;
    } catch (error) {
      files.close(file);
      quietly(() => removeIfThere(files, path));
      throw error;
    }
  }

  /** Adds a transaction; it is durable on return. At least one block, ascending. */
  append(blocks: readonly number[], content: Content): void {
    const { size } = this;
    try {
      const writer = new Writer(this.#files, this.#file, size, transactionSize(blocks.length));
      writer.put(encodeBound('head', blocks.length, this.#sequence, this.#id));
      const number = Buffer.alloc(NUMBER_SIZE);
      for (const block of blocks) {
        number.writeBigUInt64LE(BigInt(block));
        writer.put(number);
      }
      for (const block of blocks) writer.put(content(block));
      this.size = writer.end(encodeBound('end', blocks.length, this.#sequence, this.#id));
      this.#files.syncData(this.#file);
      this.#sequence++;
    } catch (error) {
      // What is left of it takes room on a medium that may be full; it does not count in any case.
      quietly(() => this.#files.truncate(this.#file, size));
      throw error;
    }
  }

  /** To be done before the image is written. */
  markApplying(): void {
    markApplying(this.#files, this.#file, this.#id);
  }

  close(): void {
    this.#files.close(this.#file);
  }
}

/** Removes the journal of an image that has all of it, if there is one. */
export function removeJournal(files: FileOperations, image: string): void {
  removeIfThere(files, journalPath(image));
  files.syncFolder(dirname(image));
}

/**
 * Brings what a crash has left beside an image into the image: the transactions that are complete, in their order. Throws
 * `ERR_BRAID_JOURNAL`, and changes nothing, if the journal is damaged or does not belong to the image as it is.
 */
export function recover(files: FileOperations, image: Image): void {
  const path = journalPath(image.path);
  const { size, modified, user } = files.status(image.file);
  removeIfThere(files, newPath(image.path));
  const file = openIfThere(files, path);
  if (file === undefined) return;
  try {
    const { user: owner, kind, size: length } = files.status(file);
    if (kind !== 'file') throw refused(path, 'it is no regular file');
    const most = largestJournal(image.size);
    if (length > most) throw refused(path, `it has ${length} bytes, and a journal of this image has at most ${most}`);
    if (owner !== user && owner !== 0 && owner !== process.getuid?.()) {
      throw refused(path, `it belongs to another user (${owner}), who may not have written this disk`);
    }
    const { page, transactions } = readJournal(files, file, path);
    const one = 'it belongs to another image, or the image has been replaced';
    if (page.size !== image.size) throw refused(path, `${one}: it is for ${page.size} bytes, the image has ${size}`);
    if (!page.applying && page.modified !== modified) {
      const [then, now] = [page.modified, modified].map((time) => new Date(Number(time / 1_000_000n)).toISOString());
      const seconds = `${page.modified / 1_000_000_000n}.${String(page.modified % 1_000_000_000n).padStart(9, '0')}`;
      throw refused(
        path,
        `${one}: that image was last changed at ${then}, this one at ${now} (if it is the right one all the same: touch -d @${seconds} IMAGE)`,
      );
    }
    if (!page.applying) markApplying(files, file, page.id);
    for (const transaction of transactions) replay(files, file, transaction, image);
    files.sync(image.file);
  } finally {
    files.close(file);
  }
  removeJournal(files, image.path);
}

/** A complete transaction. */
interface Transaction {
  readonly offset: number;
  readonly blocks: number;
}

/** Bytes: three overlays that cover the image and what is added before a journal is written anew, or a small journal. */
function largestJournal(image: number): number {
  return PAGE_SIZE + Math.max(JOURNAL_SIZE, 4 * transactionSize(Math.ceil(image / BLOCK))) + transactionSize(1);
}

/** What a journal says. Throws `ERR_BRAID_JOURNAL` for one that no crash can have left so. */
function readJournal(files: FileOperations, file: number, path: string): { page: Page; transactions: Transaction[] } {
  const end = files.status(file).size;
  const page = decodePage(readUpTo(files, file, 0, Math.min(PAGE_SIZE, end)));
  if (typeof page === 'string') throw refused(path, page);
  const transactions: Transaction[] = [];
  let offset = PAGE_SIZE;
  for (let sequence = 1; ; sequence++) {
    const blocks = completeTransaction(files, file, offset, end, sequence, page, path);
    if (blocks === undefined) break;
    transactions.push({ offset, blocks });
    offset += transactionSize(blocks);
  }
  const later = findLater(files, file, offset, end, transactions.length + 1, page.id);
  if (later !== undefined || transactions.length === 0) {
    const which = `transaction ${transactions.length + 1}, at byte ${offset}, is damaged`;
    throw refused(path, later === undefined ? which : `${which}, and another one follows at byte ${later}`);
  }
  return { page, transactions };
}

/** How many blocks the transaction at `offset` has; undefined if it is not complete. */
function completeTransaction(
  files: FileOperations,
  file: number,
  offset: number,
  end: number,
  sequence: number,
  { id, size }: Page,
  path: string,
): number | undefined {
  if (offset + transactionSize(1) > end) return undefined;
  const head = decodeBound(readUpTo(files, file, offset, BOUND_SIZE), id);
  if (head?.kind !== 'head' || head.sequence !== sequence) return undefined;
  const length = transactionSize(head.blocks);
  if (offset + length > end) return undefined;
  const tail = readUpTo(files, file, offset + length - BOUND_SIZE, BOUND_SIZE);
  const found = decodeBound(tail, id);
  if (found?.kind !== 'end' || found.sequence !== sequence || found.blocks !== head.blocks) return undefined;
  const hash = createHash('sha256');
  const numbersEnd = offset + BOUND_SIZE + head.blocks * NUMBER_SIZE;
  let ascending = true;
  let before = -1n;
  for (const { at, bytes } of chunks(files, file, offset, offset + length - BOUND_SIZE + BOUND_HASH, numbersEnd)) {
    hash.update(bytes);
    for (let i = at === offset ? BOUND_SIZE : 0; at < numbersEnd && i < bytes.length; i += NUMBER_SIZE) {
      const number = bytes.readBigUInt64LE(i);
      ascending &&= number > before;
      before = number;
    }
  }
  if (!hash.digest().equals(found.hash)) return undefined;
  if (!ascending || before >= BigInt(Math.ceil(size / BLOCK))) {
    throw refused(path, `transaction ${sequence}, at byte ${offset}, names blocks that the image does not have`);
  }
  return head.blocks;
}

/**
 * Where there is a head or an end of a transaction after `sequence`: then what comes before was durable once, and is not cut off
 * but damaged.
 */
function findLater(
  files: FileOperations,
  file: number,
  offset: number,
  end: number,
  sequence: number,
  id: Buffer,
): number | undefined {
  // The chunks overlap, so that each head and end is whole in one of them. The id is random, and is in heads and ends only: where it
  // is more often than these can be, a look at each place would cost seconds a megabyte.
  for (let from = offset; from < end; from += CHUNK) {
    const bytes = readUpTo(files, file, from, Math.min(CHUNK + BOUND_SIZE, end - from));
    let places = 2 + (2 * bytes.length) / transactionSize(1);
    for (let at = bytes.indexOf(id); at >= 0; at = bytes.indexOf(id, at + 1)) {
      if (--places < 0) return from + at - BOUND_ID;
      const start = at - BOUND_ID;
      const bound = start < 0 ? undefined : decodeBound(bytes.subarray(start, start + BOUND_SIZE), id);
      if (bound && bound.sequence > sequence) return from + start;
    }
  }
  return undefined;
}

/** Writes the blocks of a transaction that was checked to the image. */
function replay(files: FileOperations, file: number, { offset, blocks }: Transaction, image: Image): void {
  const numbers = offset + BOUND_SIZE;
  const contents = numbers + blocks * NUMBER_SIZE;
  const perChunk = CHUNK / BLOCK;
  for (let first = 0; first < blocks; first += perChunk) {
    const count = Math.min(perChunk, blocks - first);
    const table = readUpTo(files, file, numbers + first * NUMBER_SIZE, count * NUMBER_SIZE);
    const bytes = readUpTo(files, file, contents + first * BLOCK, count * BLOCK);
    const some = Array.from({ length: count }, (_, i) => Number(table.readBigUInt64LE(i * NUMBER_SIZE)));
    for (const { from, to } of runs(some)) {
      writeBlocks(files, image, some[from]!, bytes.subarray(from * BLOCK, to * BLOCK));
    }
  }
}

/** Writes blocks of the machine's overlay to the image; it is not durable yet. */
export function writeToImage(files: FileOperations, image: Image, blocks: readonly number[], content: Content): void {
  const bytes = Buffer.allocUnsafe(Math.min(CHUNK, blocks.length * BLOCK));
  const perChunk = CHUNK / BLOCK;
  for (const { from, to } of runs(blocks)) {
    for (let first = from; first < to; first += perChunk) {
      const count = Math.min(perChunk, to - first);
      for (let i = 0; i < count; i++) bytes.set(content(blocks[first + i]!), i * BLOCK);
      writeBlocks(files, image, blocks[first]!, bytes.subarray(0, count * BLOCK));
    }
  }
}

/** Whole blocks, but for what of the last one is beyond the end of the image. */
function writeBlocks(files: FileOperations, image: Image, block: number, bytes: Uint8Array): void {
  const offset = block * BLOCK;
  writeFully(files, image.file, bytes.subarray(0, Math.min(bytes.length, image.size - offset)), offset);
}

/** Runs of neighbours in ascending numbers, as ranges of indexes. */
function* runs(blocks: readonly number[]): Generator<{ from: number; to: number }> {
  for (let from = 0, to = 0; from < blocks.length; from = to) {
    for (to = from + 1; blocks[to] === blocks[to - 1]! + 1; to++);
    yield { from, to };
  }
}

/** The bytes of a range in pieces, cut at `border` too. */
function* chunks(files: FileOperations, file: number, offset: number, end: number, border: number) {
  for (let at = offset, next = at; at < end; at = next) {
    next = Math.min(at + CHUNK, at < border ? border : end);
    yield { at, bytes: readUpTo(files, file, at, next - at) };
  }
}

function readUpTo(files: FileOperations, file: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  readFully(files, file, bytes, offset);
  return bytes;
}

/** Gathers small pieces into large writes, and hashes them. */
class Writer {
  readonly #files: FileOperations;
  readonly #file: number;
  readonly #hash: Hash = createHash('sha256');
  readonly #chunk: Buffer;
  #offset: number;
  #used = 0;

  /** `size`: of all that will be put. */
  constructor(files: FileOperations, file: number, offset: number, size: number) {
    this.#files = files;
    this.#file = file;
    this.#offset = offset;
    this.#chunk = Buffer.allocUnsafe(Math.min(CHUNK, size));
  }

  /** At most a chunk. */
  put(bytes: Uint8Array): void {
    if (this.#used + bytes.length > this.#chunk.length) this.#write(this.#used);
    this.#chunk.set(bytes, this.#used);
    this.#used += bytes.length;
  }

  /** Puts an end whose hash is of all before it, and writes what is left; where it ends in the file. */
  end(bound: Buffer): number {
    this.put(bound);
    this.#hash.update(this.#chunk.subarray(0, this.#used - BOUND_SIZE + BOUND_HASH));
    this.#chunk.set(this.#hash.digest(), this.#used - BOUND_SIZE + BOUND_HASH);
    writeFully(this.#files, this.#file, this.#chunk.subarray(0, this.#used), this.#offset);
    return this.#offset + this.#used;
  }

  #write(length: number): void {
    const bytes = this.#chunk.subarray(0, length);
    this.#hash.update(bytes);
    writeFully(this.#files, this.#file, bytes, this.#offset);
    this.#offset += length;
    this.#used = 0;
  }
}

function markApplying(files: FileOperations, file: number, id: Buffer): void {
  writeFully(files, file, encodeApplying(id), APPLYING_OFFSET);
  files.syncData(file);
}

function openIfThere(files: FileOperations, path: string): number | undefined {
  try {
    return files.open(path, 'write');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function removeIfThere(files: FileOperations, path: string): void {
  try {
    files.remove(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** Does what may as well fail, in the course of an error that is told already. */
function quietly(work: () => void): void {
  try {
    work();
  } catch {}
}

function refused(path: string, why: string): BraidError {
  return new BraidError(
    'ERR_BRAID_JOURNAL',
    `disk journal ${path}: ${why}; the journal and the image are left as they are: bring them together again, or remove the ` +
      'journal to go on with the image without what it holds',
  );
}

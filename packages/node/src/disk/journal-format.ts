/**
 * The bytes of a disk image's journal.
 *
 *     journal = page | transaction ...                  integers are little-endian
 *
 *     page, 4096 bytes; what is not named is zero
 *        0   8  "BRAIDJNL"
 *        8   4  version, 1
 *       12   4  bytes of a block, 4096
 *       16   8  bytes of the image
 *       24   8  when the image was last changed, in nanoseconds since 1970, as it is while the journal is there
 *       32  16  id of the journal, random
 *       48  32  SHA-256 of bytes 0 to 47
 *     2048   8  "BRAIDAPP" as soon as the image may hold part of the transactions; else zero
 *     2056  16  id of the journal
 *     2072  32  SHA-256 of bytes 2048 to 2071
 *
 *     transaction = head | n numbers of blocks, 8 bytes each, ascending | n blocks of 4096 bytes | end
 *
 *     head and end, 64 bytes each
 *        0   4  "HEAD" or "END "
 *        4   4  n, at least 1
 *        8   8  1 for the first transaction, 2 for the second, ...
 *       16  16  id of the journal
 *       32  32  SHA-256: of bytes 0 to 31 in the head; in the end, of the transaction up to here
 *
 * A transaction counts if its end is there and every hash is right. The last block of an image is filled up with zeroes. The first
 * transaction is there as soon as the journal has its name, so one without is damaged; the last may be cut off anywhere.
 */

import { createHash } from 'node:crypto';
import { BLOCK } from '@braid/core/disk/block-map.ts';

const VERSION = 1;
const PAGE_MAGIC = 'BRAIDJNL';
const APPLYING_MAGIC = 'BRAIDAPP';
const HEAD_MAGIC = 'HEAD';
const END_MAGIC = 'END ';

export const PAGE_SIZE = 4096;
export const APPLYING_OFFSET = 2048;
export const ID_SIZE = 16;
const APPLYING_SIZE = 56;
const HASH_SIZE = 32;
const IDENTITY_SIZE = 48;
/** Of a head or an end. */
export const BOUND_SIZE = 64;
export const BOUND_HASH = BOUND_SIZE - HASH_SIZE;
/** Where a head or an end has the journal's id. */
export const BOUND_ID = 16;
export const NUMBER_SIZE = 8;

/** What a journal belongs to. */
export interface Identity {
  readonly size: number;
  readonly modified: bigint;
  readonly id: Buffer;
}

export interface Page extends Identity {
  readonly applying: boolean;
}

export interface Bound {
  readonly kind: 'head' | 'end';
  readonly blocks: number;
  readonly sequence: number;
  readonly hash: Buffer;
}

export function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** Bytes of a transaction of `blocks` blocks. */
export function transactionSize(blocks: number): number {
  return 2 * BOUND_SIZE + blocks * (NUMBER_SIZE + BLOCK);
}

export function encodePage({ size, modified, id }: Identity): Buffer {
  const page = Buffer.alloc(PAGE_SIZE);
  page.write(PAGE_MAGIC, 0, 'latin1');
  page.writeUInt32LE(VERSION, 8);
  page.writeUInt32LE(BLOCK, 12);
  page.writeBigUInt64LE(BigInt(size), 16);
  page.writeBigUInt64LE(BigInt.asUintN(64, modified), 24);
  id.copy(page, 32);
  sha256(page.subarray(0, IDENTITY_SIZE)).copy(page, IDENTITY_SIZE);
  return page;
}

/** The page, or why it is none. */
export function decodePage(page: Buffer): Page | string {
  if (page.length < PAGE_SIZE || page.toString('latin1', 0, 8) !== PAGE_MAGIC) return 'it is no journal of a disk';
  const version = page.readUInt32LE(8);
  if (version !== VERSION) return `it has version ${version}, and this Braid knows version ${VERSION}`;
  const hash = page.subarray(IDENTITY_SIZE, IDENTITY_SIZE + HASH_SIZE);
  if (!sha256(page.subarray(0, IDENTITY_SIZE)).equals(hash)) return 'its first page is damaged';
  if (page.readUInt32LE(12) !== BLOCK) return 'its blocks have another size';
  const size = Number(page.readBigUInt64LE(16));
  const modified = page.readBigInt64LE(24);
  const id = Buffer.from(page.subarray(32, 32 + ID_SIZE));
  const mark = page.subarray(APPLYING_OFFSET, APPLYING_OFFSET + APPLYING_SIZE);
  return { size, modified, id, applying: mark.equals(encodeApplying(id)) };
}

/** What goes to `APPLYING_OFFSET` before the image is written. */
export function encodeApplying(id: Buffer): Buffer {
  const mark = Buffer.alloc(APPLYING_SIZE);
  mark.write(APPLYING_MAGIC, 0, 'latin1');
  id.copy(mark, 8);
  sha256(mark.subarray(0, APPLYING_SIZE - HASH_SIZE)).copy(mark, APPLYING_SIZE - HASH_SIZE);
  return mark;
}

/** All of an end but its hash, which stays zero; a head is complete. */
export function encodeBound(kind: Bound['kind'], blocks: number, sequence: number, id: Buffer): Buffer {
  const bound = Buffer.alloc(BOUND_SIZE);
  bound.write(kind === 'head' ? HEAD_MAGIC : END_MAGIC, 0, 'latin1');
  bound.writeUInt32LE(blocks, 4);
  bound.writeBigUInt64LE(BigInt(sequence), 8);
  id.copy(bound, BOUND_ID);
  if (kind === 'head') sha256(bound.subarray(0, BOUND_HASH)).copy(bound, BOUND_HASH);
  return bound;
}

/** A head whose hash is right, or what has the form of an end; undefined for anything else, and for those of other journals. */
export function decodeBound(bytes: Buffer, id: Buffer): Bound | undefined {
  if (bytes.length < BOUND_SIZE || !bytes.subarray(BOUND_ID, BOUND_ID + ID_SIZE).equals(id)) return undefined;
  const magic = bytes.toString('latin1', 0, 4);
  const kind = magic === HEAD_MAGIC ? 'head' : magic === END_MAGIC ? 'end' : undefined;
  const blocks = bytes.readUInt32LE(4);
  const sequence = Number(bytes.readBigUInt64LE(8));
  const hash = Buffer.from(bytes.subarray(BOUND_HASH, BOUND_SIZE));
  if (kind === undefined || blocks === 0 || !Number.isSafeInteger(sequence)) return undefined;
  if (kind === 'head' && !sha256(bytes.subarray(0, BOUND_HASH)).equals(hash)) return undefined;
  return { kind, blocks, sequence, hash };
}

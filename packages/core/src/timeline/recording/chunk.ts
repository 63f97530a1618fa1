/**
 * A recording as bytes: a head, and chunks one after the other, each whole in itself.
 *
 *     recording = head | chunk ...                     integers are little-endian
 *
 *     head, 16 bytes
 *        0   8  "BRAIDREC"
 *        8   4  version: 2; 1 has pages where it has changes
 *       12   4  CRC-32 of bytes 0 to 11
 *
 *     chunk = header | content as it is stored
 *
 *     header, 24 bytes
 *        0   4  number of the chunk, from 0 on
 *        4   1  kind, as below
 *        5   1  how the content is stored: 0 as it is, 1 deflate without a frame, 2 zstd
 *        6   2  of changes: how many contents they are, 1 to 256; otherwise zero
 *        8   4  bytes of the content as it is stored
 *       12   4  bytes of the content, at most 32 MiB
 *       16   4  CRC-32 of the content as it is stored
 *       20   4  CRC-32 of bytes 0 to 19
 *
 *     kind  content
 *        1  start      the first chunk, and the only one of its kind: what was recorded, and how           info.ts
 *        2  events     what came from outside since the chunk of events before                             events.ts
 *        3  pages      contents of 1 to 64 pages of RAM, 4096 bytes each                             version 1
 *        4  hashes     16 bytes for each page content since the keyframe before: its hash                  optional
 *        5  keyframe   the machine's state, and which pages had other contents at the keyframe before      keyframe.ts
 *        6  blocks     contents of 1 to 64 blocks of disks, 4096 bytes each, filled up with zeros
 *        7  disk       which blocks those of the blocks chunks since the disk chunk before are             captures.ts
 *        8  marks      names for moments                                                                   info.ts
 *        9  end        how it ended: the last chunk                                                        info.ts
 *       10  changes    contents of pages of RAM, by what they have other than earlier contents            page-changes.ts
 *
 * Page contents and block contents have numbers, from 0 on in the order of the file. A keyframe comes after the contents that it
 * names. A file may end anywhere: what is there counts up to the last whole chunk, and contents that no keyframe names count for
 * nothing. A chunk that is damaged, or that a reader refuses, ends it likewise: what is before it counts, from the first keyframe on.
 * Contents of pages and blocks, and hashes, are looked at when they are asked for.
 */

import { type Crc32, crc32 as ownCrc32 } from './crc32.ts';
import { RecordingError } from './errors.ts';

/** Where a recording's bytes are: a file, or memory. */
export interface ByteSource {
  readonly size: number;
  /** Fills `into`. Throws where there are not as many bytes. */
  read(offset: number, into: Uint8Array): void;
}

/** Compression by the host. */
export interface Codec {
  /** As chunks name it. */
  readonly id: number;
  /** `size` bytes, or an error: no more memory may be taken than for them. */
  decompress(bytes: Uint8Array, size: number): Uint8Array;
}

export const CODEC = { none: 0, deflate: 1, zstd: 2 } as const;

export const CHUNK_KINDS = [
  'start',
  'events',
  'pages',
  'hashes',
  'keyframe',
  'blocks',
  'disk',
  'marks',
  'end',
  'changes',
] as const;
export type ChunkKind = (typeof CHUNK_KINDS)[number];

/** Who takes a recording's chunks. */
export interface ChunkSink {
  /**
   * Adds a chunk behind those of earlier calls, which may still be under way. The content may be changed again when the promise has
   * settled. `contents`: of a chunk of changes, how many they are. A failure ends the recording.
   */
  append(kind: ChunkKind, content: Uint8Array, contents?: number): Promise<void>;
  /** Bytes of the recording that have been written so far. */
  readonly size: number;
}

/** What a recording may have at most; what its readers hold of it is bounded in `allowance.ts`. */
export const LIMITS = {
  /** Bytes of a chunk's content. */
  content: 2 ** 25,
  /** Bytes of the content of a start, marks, or an end. */
  text: 2 ** 24,
  chunks: 2 ** 26,
  /** Contents of pages, and of blocks, those that no keyframe names too. */
  contents: 2 ** 28,
  events: 2 ** 24,
} as const;

/** Page or block contents of a chunk, where each has 4096 bytes. */
export const BATCH = 64;
export const HASH = 16;

const MAGIC = new TextEncoder().encode('BRAIDREC');
const VERSION = 2;
export const HEAD_SIZE = 16;
export const HEADER_SIZE = 24;

export interface ChunkHeader {
  readonly kind: ChunkKind;
  readonly codec: number;
  readonly stored: number;
  readonly size: number;
  readonly crc: number;
  /** Of changes: how many contents; otherwise 0. */
  readonly contents: number;
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** What a recording begins with. */
export function encodeHead(): Uint8Array {
  const head = new Uint8Array(HEAD_SIZE);
  const view = viewOf(head);
  head.set(MAGIC);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, ownCrc32(head.subarray(0, 12)), true);
  return head;
}

/** Whether bytes begin as a recording does, or as one that was cut off as it began. */
export function isRecording(bytes: Uint8Array): boolean {
  return MAGIC.every((byte, i) => i >= bytes.length || bytes[i] === byte);
}

/** The version of a recording that begins like this. Throws `RecordingError` for what is no head of one, or of another version. */
export function checkHead(head: Uint8Array): 1 | 2 {
  if (!isRecording(head)) throw new RecordingError('this is no recording: check which file was given', 0);
  if (head.length < HEAD_SIZE) throw new RecordingError('the file is cut off in its head: record again', head.length);
  const view = viewOf(head);
  if (view.getUint32(12, true) !== ownCrc32(head.subarray(0, 12))) {
    throw new RecordingError('the head is damaged: copy the file again', 12);
  }
  const version = view.getUint32(8, true);
  if (version !== 1 && version !== VERSION) {
    throw new RecordingError(`it has version ${version}, and this build reads 1 and ${VERSION}: use its own`, 8);
  }
  return version;
}

/** The header of a chunk; `stored` is its content as it is stored, `size` the content's own length, `contents` as `ChunkSink` has it. */
export function encodeHeader(
  number: number,
  kind: ChunkKind,
  codec: number,
  stored: Uint8Array,
  size: number,
  crc32: Crc32 = ownCrc32,
  contents = 0,
): Uint8Array {
  if (size > LIMITS.content || number >= LIMITS.chunks) {
    throw new RecordingError(`it cannot go on: chunk ${number} of ${size} bytes is more than a recording holds`);
  }
  const header = new Uint8Array(HEADER_SIZE);
  const view = viewOf(header);
  view.setUint32(0, number, true);
  header[4] = CHUNK_KINDS.indexOf(kind) + 1;
  header[5] = codec;
  view.setUint16(6, contents, true);
  view.setUint32(8, stored.length, true);
  view.setUint32(12, size, true);
  view.setUint32(16, crc32(stored), true);
  view.setUint32(20, ownCrc32(header.subarray(0, 20)), true);
  return header;
}

/** The header of chunk `number`, which begins at byte `offset`. Throws `RecordingError`. */
export function decodeHeader(header: Uint8Array, number: number, offset: number): ChunkHeader {
  const view = viewOf(header);
  const fail = (why: string): never => {
    throw new RecordingError(`${why}: the file is damaged, copy it again`, offset);
  };
  if (view.getUint32(20, true) !== ownCrc32(header.subarray(0, 20))) fail('a header of a chunk has a wrong checksum');
  const found = view.getUint32(0, true);
  if (found !== number) fail(`chunk ${found} is where chunk ${number} should be`);
  const kind = CHUNK_KINDS[header[4]! - 1] ?? fail(`chunk ${number} is of the unknown kind ${header[4]}`);
  const codec = header[5]!;
  const stored = view.getUint32(8, true);
  const size = view.getUint32(12, true);
  if (size > LIMITS.content) fail(`chunk ${number} is said to have ${size} bytes, more than ${LIMITS.content}`);
  if (stored > size || (codec === CODEC.none && stored !== size)) {
    fail(`chunk ${number} is said to have ${size} bytes, stored as ${stored}`);
  }
  const contents = view.getUint16(6, true);
  if (contents !== 0 && kind !== 'changes') fail(`chunk ${number} has a header of another version`);
  return { kind, codec, stored, size, crc: view.getUint32(16, true), contents };
}

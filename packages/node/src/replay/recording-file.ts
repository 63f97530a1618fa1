/** Recordings in files of the host. */

import { write } from 'node:fs';
import { crc32, inflateRawSync, zstdDecompressSync } from 'node:zlib';
import {
  type ByteSource,
  CHUNK_KINDS,
  type ChunkKind,
  type ChunkSink,
  CODEC,
  type Codec,
  encodeHead,
  encodeHeader,
  HEAD_SIZE,
  HEADER_SIZE,
  isRecording,
} from '@braid/core/timeline/recording/chunk.ts';
import { Recording } from '@braid/core/timeline/recording/reader.ts';
import { type FileOperations, fileSystem, readFully } from '../disk/file-operations.ts';
import { BraidError } from '../errors.ts';
import { fileError } from '../files.ts';
import { Compressor } from './compressor.ts';

/** Bytes that may be on their way to the file before the next chunk is looked at. */
const UNDER_WAY = 8 * 2 ** 20;
/** Bytes below which compressing is not worth a thread's attention. */
const SMALL = 64;

const oneBuffer = (size: number) => ({ maxOutputLength: Math.max(1, size), chunkSize: Math.max(64, size) });

/** How recordings may be compressed that this host reads. */
export const CODECS: readonly Codec[] = [
  { id: CODEC.deflate, decompress: (bytes, size) => inflateRawSync(bytes, oneBuffer(size)) },
  { id: CODEC.zstd, decompress: (bytes, size) => zstdDecompressSync(bytes, oneBuffer(size)) },
];

/** Writes bytes at an offset of a file, and says how many it were. */
export type WriteAt = (file: number, bytes: Uint8Array, offset: number) => Promise<number>;

const writeAt: WriteAt = (file, bytes, offset) =>
  new Promise((resolve, reject) => {
    write(file, bytes, 0, bytes.length, offset, (error, count) => (error ? reject(error) : resolve(count)));
  });

export interface RecordingFileOptions {
  /** Whether a file that is no recording may be replaced. One that is always is. */
  readonly overwrite?: boolean;
  readonly files?: FileOperations;
  readonly writeAt?: WriteAt;
}

/**
 * A file that is being recorded to. What was appended is with the operating system when the call is over, so it outlives the process.
 * An error ends the recording: the file keeps its whole chunks, and every later append fails.
 */
export class RecordingFile implements ChunkSink {
  readonly path: string;
  /** Bytes of the file so far. */
  size = HEAD_SIZE;
  /** Of these, bytes of chunks of each kind. */
  readonly written = Object.fromEntries(CHUNK_KINDS.map((kind) => [kind, 0])) as Record<ChunkKind, number>;
  private readonly files: FileOperations;
  private readonly writeAt: WriteAt;
  private readonly file: number;
  private readonly compressor = new Compressor();
  private chunks = 0;
  /** The append before, and all before it. */
  private last: Promise<void> = Promise.resolve();
  private underWay = 0;
  private readonly waiting: { readonly length: number; readonly go: () => void }[] = [];
  private failure: BraidError | undefined;
  private closed = false;

  /** Makes the file. Throws `BraidError` when it cannot be made, or something else is there that is no recording. */
  constructor(path: string, options: RecordingFileOptions = {}) {
    this.path = path;
    this.files = options.files ?? fileSystem;
    this.writeAt = options.writeAt ?? writeAt;
    this.file = create(this.files, path, options.overwrite ?? false);
  }

  append(kind: ChunkKind, content: Uint8Array, contents = 0): Promise<void> {
    const before = this.last;
    const done = this.store(kind, content, contents, before);
    done.catch(() => {});
    this.last = done;
    return done;
  }

  /** Waits for what is under way, and closes the file. Says nothing of an error that ended the recording: the append has. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await this.last.catch(() => {});
    this.compressor.close();
    this.files.close(this.file);
  }

  private async store(kind: ChunkKind, content: Uint8Array, contents: number, before: Promise<void>): Promise<void> {
    if (this.closed) {
      throw this.failure ?? new BraidError('ERR_BRAID_RECORDING', `recording ${this.path}: the file is closed`);
    }
    const { length } = content;
    // Chunks are compressed side by side, a few of them at a time, and written one after the other.
    if (this.waiting.length > 0 || !this.fits(length)) {
      await new Promise<void>((go) => this.waiting.push({ length, go }));
    } else {
      this.underWay += length;
    }
    try {
      const packed = this.failure || length < SMALL ? undefined : this.compressor.compress(content);
      packed?.catch(() => {});
      await before;
      const smaller = await packed;
      const stored = smaller && smaller.length < length ? smaller : content;
      const codec = stored === content ? CODEC.none : CODEC.zstd;
      const header = encodeHeader(this.chunks, kind, codec, stored, length, crc32, contents);
      const chunk = new Uint8Array(HEADER_SIZE + stored.length);
      chunk.set(header);
      chunk.set(stored, HEADER_SIZE);
      for (let done = 0; done < chunk.length; ) {
        done += await this.writeAt(this.file, chunk.subarray(done), this.size + done);
      }
      this.size += chunk.length;
      this.written[kind] += chunk.length;
      this.chunks++;
    } catch (error) {
      throw this.fail(error);
    } finally {
      this.underWay -= length;
      this.admit();
    }
  }

  private fits(length: number): boolean {
    return this.underWay === 0 || this.underWay + length <= UNDER_WAY;
  }

  /** In their order: each is written behind those that came before it. */
  private admit(): void {
    for (let next = this.waiting[0]; next && this.fits(next.length); next = this.waiting[0]) {
      this.waiting.shift();
      this.underWay += next.length;
      next.go();
    }
  }

  private fail(error: unknown): BraidError {
    if (this.failure) return this.failure;
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = REASONS[code ?? ''] ?? message;
    this.failure = new BraidError(
      'ERR_BRAID_RECORDING',
      `recording ${this.path}: ${reason}; it ends here, with its first ${this.size} bytes, and can be replayed up to there`,
      { cause: error },
    );
    try {
      this.files.truncate(this.file, this.size);
    } catch {
      // Readers pass over what is behind the last whole chunk.
    }
    return this.failure;
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file cannot become larger',
  EIO: 'the disk has an error',
};

/** A new file with a recording's head. */
function create(files: FileOperations, path: string, overwrite: boolean): number {
  const remedy = 'give another path for the recording';
  let file: number;
  try {
    file = makeNew(files, path, overwrite);
  } catch (error) {
    throw error instanceof BraidError ? error : fileError('recording', path, error, remedy);
  }
  try {
    const head = encodeHead();
    for (let done = 0; done < head.length; ) done += files.write(file, head.subarray(done), done);
    return file;
  } catch (error) {
    files.close(file);
    throw fileError('recording', path, error, remedy);
  }
}

function makeNew(files: FileOperations, path: string, overwrite: boolean): number {
  try {
    return files.open(path, 'new');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const old = files.open(path, 'read');
  try {
    const { kind, size } = files.status(old);
    const head = new Uint8Array(Math.min(HEAD_SIZE, size));
    if (kind === 'file') readFully(files, old, head, 0);
    if (kind !== 'file' || (!overwrite && !isRecording(head))) {
      const why = kind === 'file' ? 'is there already and is no recording' : 'is no regular file';
      throw new BraidError('ERR_BRAID_FILE', `recording ${path}: it ${why}; give another path for the recording`);
    }
  } finally {
    files.close(old);
  }
  // Whoever reads the old one keeps it.
  files.remove(path);
  return files.open(path, 'new');
}

/** A file that is there to be read. */
class FileSource implements ByteSource {
  readonly path: string;
  readonly size: number;
  private readonly files: FileOperations;
  private readonly file: number;

  /** Throws `BraidError`. */
  constructor(path: string, files: FileOperations = fileSystem) {
    this.path = path;
    this.files = files;
    try {
      this.file = files.open(path, 'read');
    } catch (error) {
      throw fileError('recording', path, error, 'check the path');
    }
    const { kind, size } = files.status(this.file);
    if (kind !== 'file') {
      files.close(this.file);
      throw new BraidError('ERR_BRAID_FILE', `recording ${path}: it is no regular file; check the path`);
    }
    this.size = size;
  }

  read(offset: number, into: Uint8Array): void {
    readFully(this.files, this.file, into, offset);
  }

  close(): void {
    this.files.close(this.file);
  }
}

export interface OpenedRecording {
  readonly recording: Recording;
  /** Nothing can be read afterwards. */
  close(): void;
}

/** Opens a recording; its contents are read from the file as long as it is used. Throws `BraidError`. */
export function openRecording(path: string, files: FileOperations = fileSystem): OpenedRecording {
  const source = new FileSource(path, files);
  try {
    return { recording: Recording.open(source, CODECS, { crc32 }), close: () => source.close() };
  } catch (error) {
    source.close();
    if ((error as Partial<BraidError>).code !== 'ERR_BRAID_RECORDING') throw error;
    throw new BraidError('ERR_BRAID_RECORDING', `${path}: ${(error as Error).message}`, { cause: error });
  }
}

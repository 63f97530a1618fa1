/** Chunks of a source, checked; contents that are asked for again and again are kept for a while. */

import { StateError } from '../../state/errors.ts';
import { type ByteSource, type ChunkHeader, CODEC, type Codec, decodeHeader, HEADER_SIZE } from './chunk.ts';
import type { Crc32 } from './crc32.ts';
import { RecordingError } from './errors.ts';

/** Contents by where their chunks are, at most so many bytes, those used longest ago given up first. */
class Kept {
  private readonly contents = new Map<number, Uint8Array>();
  private readonly most: number;
  private bytes = 0;

  constructor(most: number) {
    this.most = most;
  }

  get(offset: number): Uint8Array | undefined {
    const found = this.contents.get(offset);
    if (!found) return undefined;
    this.contents.delete(offset);
    this.contents.set(offset, found);
    return found;
  }

  put(offset: number, content: Uint8Array): void {
    this.contents.set(offset, content);
    this.bytes += content.length;
    for (const [old, { length }] of this.contents) {
      if (this.bytes <= this.most) break;
      this.contents.delete(old);
      this.bytes -= length;
    }
  }
}

/** Where a chunk is. */
export interface ChunkPlace extends ChunkHeader {
  readonly number: number;
  readonly offset: number;
}

/** Where a content is. */
export interface ContentPlace {
  /** The chunk's. */
  readonly offset: number;
  readonly number: number;
  /** Which of the chunk's contents it is, and how many these are. */
  readonly index: number;
  readonly contents: number;
}

/** Where the contents of a run of pages, or blocks, are: in chunks, found by the first one's number. */
export class ContentPlaces {
  private offsets = new Float64Array(64);
  private numbers = new Uint32Array(64);
  private firsts = new Uint32Array(64);
  private chunks = 0;
  /** How many contents there are. */
  count = 0;

  add({ offset, number }: ChunkPlace, contents: number): void {
    if (this.chunks === this.offsets.length) {
      const [offsets, numbers, firsts] = [this.offsets, this.numbers, this.firsts];
      this.offsets = new Float64Array(2 * this.chunks);
      this.numbers = new Uint32Array(2 * this.chunks);
      this.firsts = new Uint32Array(2 * this.chunks);
      this.offsets.set(offsets);
      this.numbers.set(numbers);
      this.firsts.set(firsts);
    }
    this.offsets[this.chunks] = offset;
    this.numbers[this.chunks] = number;
    this.firsts[this.chunks] = this.count;
    this.chunks++;
    this.count += contents;
  }

  /** Where a content is, which has to be there. */
  find(content: number): ContentPlace {
    let low = 0;
    let high = this.chunks;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (this.firsts[middle]! <= content) low = middle;
      else high = middle;
    }
    const first = this.firsts[low]!;
    const end = low + 1 < this.chunks ? this.firsts[low + 1]! : this.count;
    return {
      offset: this.offsets[low]!,
      number: this.numbers[low]!,
      index: content - first,
      contents: end - first,
    };
  }
}

export class ChunkReader {
  readonly source: ByteSource;
  private readonly codecs: readonly Codec[];
  private readonly crc32: Crc32;
  private readonly header = new Uint8Array(HEADER_SIZE);

  constructor(source: ByteSource, codecs: readonly Codec[], crc32: Crc32) {
    this.source = source;
    this.codecs = codecs;
    this.crc32 = crc32;
  }

  /** Chunk `number`, or undefined where the file is cut off before its end. Throws `RecordingError`. */
  place(number: number, offset: number): ChunkPlace | undefined {
    const { source, header } = this;
    if (source.size - offset < HEADER_SIZE) return undefined;
    this.read(offset, header);
    // What a system had promised room for when it stopped is zero.
    if (header.every((byte) => byte === 0)) return undefined;
    const found = decodeHeader(header, number, offset);
    return source.size - offset - HEADER_SIZE < found.stored ? undefined : { ...found, number, offset };
  }

  /** What a chunk holds. Throws `RecordingError`. */
  content({ offset, number, codec, stored, size, crc }: ChunkPlace): Uint8Array {
    const bytes = new Uint8Array(stored);
    this.read(offset + HEADER_SIZE, bytes);
    if (this.crc32(bytes) !== crc) {
      throw new RecordingError(`the content of chunk ${number} is damaged: copy the file again`, offset);
    }
    if (codec === CODEC.none) return bytes;
    const decoder = this.codecs.find(({ id }) => id === codec);
    if (!decoder) {
      throw new RecordingError(
        `chunk ${number} is compressed in a way that this host cannot read (${codec === CODEC.zstd ? 'zstd' : codec})`,
        offset,
      );
    }
    let content: Uint8Array;
    try {
      const { buffer, byteOffset, byteLength } = decoder.decompress(bytes, size);
      // Not a host's own kind of array, whose slices may share its memory.
      content = new Uint8Array(buffer, byteOffset, byteLength);
    } catch (cause) {
      throw new RecordingError(`chunk ${number} cannot be decompressed (${(cause as Error).message})`, offset, {
        cause,
      });
    }
    if (content.length !== size) {
      throw new RecordingError(`chunk ${number} has ${content.length} bytes instead of ${size}`, offset);
    }
    return content;
  }

  /** What a chunk holds that has been placed before. Throws `RecordingError`. */
  again({ offset, number }: { readonly offset: number; readonly number: number }): Uint8Array {
    const place = this.place(number, offset);
    if (!place) throw new RecordingError('the file has become shorter since it was opened', offset);
    return this.content(place);
  }

  read(offset: number, into: Uint8Array): void {
    try {
      this.source.read(offset, into);
    } catch (cause) {
      throw new RecordingError(`the file cannot be read (${(cause as Error).message})`, offset, { cause });
    }
  }
}

/** Chunks of contents, read when they are asked for, the last ones kept. */
export class KeptChunks {
  private readonly reader: ChunkReader;
  private readonly kept: Kept;

  constructor(reader: ChunkReader, most: number) {
    this.reader = reader;
    this.kept = new Kept(most);
  }

  content(place: { readonly offset: number; readonly number: number }): Uint8Array {
    const kept = this.kept.get(place.offset);
    if (kept) return kept;
    const content = this.reader.again(place);
    this.kept.put(place.offset, content);
    return content;
  }
}

/** What is wrong in a chunk's content is wrong with the file. */
export function told<T>({ offset, number, kind }: Pick<ChunkPlace, 'offset' | 'number' | 'kind'>, decode: () => T): T {
  try {
    return decode();
  } catch (cause) {
    if (!(cause instanceof StateError)) throw cause;
    throw new RecordingError(`chunk ${number} (${kind}): ${cause.message}`, offset, { cause });
  }
}

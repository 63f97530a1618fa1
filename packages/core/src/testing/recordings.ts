/** Recordings in memory, as they are: nothing is compressed. */

import {
  type ByteSource,
  type ChunkKind,
  type ChunkSink,
  encodeHead,
  encodeHeader,
} from '../timeline/recording/chunk.ts';

export class MemorySink implements ChunkSink {
  private readonly parts: Uint8Array[] = [encodeHead()];
  private chunks = 0;

  async append(kind: ChunkKind, content: Uint8Array): Promise<void> {
    this.parts.push(encodeHeader(this.chunks++, kind, 0, content, content.length), content.slice());
  }

  bytes(): Uint8Array {
    const all = new Uint8Array(this.parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of this.parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

export function memorySource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    read(offset, into) {
      if (offset + into.length > bytes.length) throw new Error('the bytes end here');
      into.set(bytes.subarray(offset, offset + into.length));
    },
  };
}

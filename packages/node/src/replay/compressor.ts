/**
 * zstd on libuv's threads, by a few streams that live as long as their owner. A stream for each piece of bytes would cost more than the
 * compression: its tables are allocated and given back each time, and V8 collects garbage early because of so much memory from outside.
 */

import { constants, createZstdCompress, type ZstdCompress } from 'node:zlib';

/** A third less CPU time than level 1, for files a fifth larger (measured on pages of Linux); no window larger than what is compressed. */
const FAST = { [constants.ZSTD_c_compressionLevel]: -3, [constants.ZSTD_c_windowLog]: 18 };
/** Pieces that are compressed at the same time; libuv has four threads by default. */
const LANES = 4;
/** Bytes that a stream allocates at once for what it puts out. */
const OUTPUT = 128 * 2 ** 10;

/** One stream, which compresses one piece after the other. */
class Lane {
  private readonly stream: ZstdCompress = createZstdCompress({ params: FAST, chunkSize: OUTPUT });
  private last: Promise<unknown> = Promise.resolve();

  compress(bytes: Uint8Array): Promise<Uint8Array> {
    const done = this.last.then(() => this.frame(bytes));
    this.last = done.catch(() => {});
    return done;
  }

  private frame(bytes: Uint8Array): Promise<Uint8Array> {
    const { stream } = this;
    return new Promise((resolve, reject) => {
      const parts: Uint8Array[] = [];
      const take = (part: Uint8Array) => void parts.push(part);
      stream.on('data', take);
      stream.once('error', reject);
      stream.write(bytes);
      // Ends the frame: the next one has nothing of it.
      stream.flush(constants.ZSTD_e_end, () => {
        stream.off('data', take);
        stream.off('error', reject);
        resolve(parts.length === 1 ? parts[0]! : Buffer.concat(parts));
      });
    });
  }

  close(): void {
    this.stream.destroy();
  }
}

export class Compressor {
  private readonly lanes: Lane[] = [];
  private next = 0;

  /** `bytes` as one zstd frame. They must not change until the promise settles. */
  compress(bytes: Uint8Array): Promise<Uint8Array> {
    const lane = (this.lanes[this.next] ??= new Lane());
    this.next = (this.next + 1) % LANES;
    return lane.compress(bytes);
  }

  /** Gives the streams' memory back. Nothing may be under way. */
  close(): void {
    for (const lane of this.lanes) lane.close();
    this.lanes.length = 0;
  }
}

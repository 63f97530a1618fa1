/** Input that comes in pieces: a stream, or anything else that is iterated over. */

import { either, type Schema, value } from '@braid/core/check/schema.ts';
import { DATA } from './check.ts';
import { BraidError } from './errors.ts';
import { bytesOf } from './output.ts';

/** Text or bytes, one piece after the other: a `ReadableStream`, a `Readable` of Node, a generator. */
export type InputPieces = AsyncIterable<string | Uint8Array>;

const PIECES: Schema<InputPieces> = value('a stream', isPieces);
/** Text or bytes to be sent to the guest, whole or piece by piece. */
export const INPUT: Schema<string | Uint8Array | InputPieces> = either(DATA, PIECES);

export function isPieces(given: unknown): given is InputPieces {
  return typeof given === 'object' && given !== null && Symbol.asyncIterator in given;
}

/** Reads pieces one at a time. Whoever makes one closes it. */
export class PieceReader {
  private readonly iterator: AsyncIterator<string | Uint8Array>;
  /** One that was read and not taken. */
  private held: Uint8Array | undefined;
  private leave: () => void = () => {};

  constructor(pieces: InputPieces) {
    this.iterator = pieces[Symbol.asyncIterator]();
  }

  /**
   * Has each piece sent, and the next when that has been taken: no more than one is held. Ends with the pieces, or when `send` says that
   * no more are taken. Rejects when the source does, or gives what is no input. True when all have been taken.
   */
  async feed(send: (bytes: Uint8Array) => Promise<boolean>): Promise<boolean> {
    for (;;) {
      this.held ??= await this.next();
      if (this.held === undefined) return true;
      if (!(await send(this.held))) return false;
      this.held = undefined;
    }
  }

  /** All that has not been taken. Throws `ERR_BRAID_OPTION` when it is more than `limit` bytes. */
  async rest(limit: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    let length = 0;
    for (let part = this.held ?? (await this.next()); part; part = await this.next()) {
      parts.push(part);
      length += part.length;
      if (length > limit) {
        const why = `this guest's agent takes the input of a program as a whole, and no more than ${limit} bytes`;
        throw new BraidError('ERR_BRAID_OPTION', `${why}; write it to a file of the guest first`);
      }
    }
    return Buffer.concat(parts);
  }

  /** Ends what waits for the next piece, and tells the source that no more will be asked for. */
  close(): void {
    this.leave();
    void this.iterator.return?.().catch(() => {});
  }

  /** Undefined at the end. A promise of its own each time: a long-lived one would keep each piece. */
  private next(): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      this.leave = () => resolve(undefined);
      this.read().then(resolve, reject);
    });
  }

  private async read(): Promise<Uint8Array | undefined> {
    const { done, value } = await this.iterator.next();
    return done ? undefined : bytesOf(value);
  }
}

/** The same bytes in pieces of `size`, and a last one: a pipe gives them in others each time. */
export async function* piecesOf(source: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Uint8Array> {
  let piece = new Uint8Array(size);
  let length = 0;
  for await (const bytes of source) {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + size - length);
      piece.set(part, length);
      length += part.length;
      at += part.length;
      if (length < size) continue;
      yield piece;
      piece = new Uint8Array(size);
      length = 0;
    }
  }
  if (length > 0) yield piece.subarray(0, length);
}

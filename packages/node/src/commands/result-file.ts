/** A file that a command writes besides what it says. Better known before long work whether it can be written. */

import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { BraidError } from '../errors.ts';

/** Bytes that are written at once. */
const PIECE = 1 << 16;

export class ResultFile implements Disposable {
  private readonly path: string;
  private readonly file: number;

  /** Opens it, and leaves what is there until something is written. Throws `BraidError`. */
  constructor(path: string) {
    this.path = path;
    try {
      this.file = openSync(path, 'a');
    } catch (error) {
      throw this.failed(error);
    }
  }

  /** The file is this text then. Throws `BraidError`. */
  write(pieces: Iterable<string>): void {
    try {
      ftruncateSync(this.file);
      let text = '';
      for (const piece of pieces) {
        text += piece;
        if (text.length < PIECE) continue;
        writeAll(this.file, text);
        text = '';
      }
      writeAll(this.file, text);
    } catch (error) {
      throw this.failed(error);
    }
  }

  private failed(error: unknown): BraidError {
    const why = `${this.path} cannot be written: ${(error as Error).message}`;
    return new BraidError('ERR_BRAID_FILE', why, { cause: error });
  }

  [Symbol.dispose](): void {
    closeSync(this.file);
  }
}

function writeAll(file: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}

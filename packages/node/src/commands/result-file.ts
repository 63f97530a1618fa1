/** A file that a command writes besides what it says. Better known before long work whether it can be written. */

import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { BraidError } from '../errors.ts';
import { fileError, reasonOf, WITHOUT_WAITING } from '../files.ts';

/** Bytes that are written at once. */
const PIECE = 1 << 16;
const APPEND = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND;

export class ResultFile implements Disposable {
  private readonly path: string;
  private readonly file: number;
  /** What is no regular file takes the text behind what it has taken already. */
  private readonly regular: boolean;

  /** Opens it, and leaves what is there until something is written. Throws `ERR_BRAID_FILE`, at once for a FIFO that no process reads. */
  constructor(path: string) {
    this.path = path;
    try {
      const file = openSync(path, APPEND | WITHOUT_WAITING, 0o666);
      this.regular = fstatSync(file).isFile();
      // A pipe has a reader: to open it again does not wait, and writes to it then do.
      this.file = this.regular ? file : reopen(file, path);
    } catch (error) {
      throw fileError('result', path, error, 'give another path');
    }
  }

  /** The file is this text then. Throws `ERR_BRAID_RESULT`. */
  write(pieces: Iterable<string>): void {
    try {
      if (this.regular) ftruncateSync(this.file);
      let text = '';
      for (const piece of pieces) {
        text += piece;
        if (text.length < PIECE) continue;
        writeAll(this.file, text);
        text = '';
      }
      writeAll(this.file, text);
    } catch (error) {
      throw resultError(this.path, error);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.file);
  }
}

/** All of a text, to a file that is open. Errors are Node's. */
function writeAll(file: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}

/** What a command has found out cannot be told: `where` names the file or stream. */
function resultError(where: string, cause: unknown): BraidError {
  const why = `${where} could not be written: ${reasonOf(cause)}; it is not complete`;
  return new BraidError('ERR_BRAID_RESULT', why, { cause });
}

function reopen(file: number, path: string): number {
  try {
    return openSync(path, APPEND);
  } finally {
    closeSync(file);
  }
}

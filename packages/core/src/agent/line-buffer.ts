/** An incoming line in the making. The byte 0xff, which no JSON text has, voids what came before it. */

/** Bytes of a line, unless a request's answer may be longer. */
export const LINE_LIMIT = 2 ** 20;
const FIRST_SIZE = 4096;

export interface LineState {
  readonly bytes: Uint8Array;
  readonly delimited: boolean;
  readonly skipping: boolean;
}

export class LineBuffer {
  #bytes: Uint8Array = new Uint8Array(FIRST_SIZE);
  #length = 0;
  #delimited = false;
  #skipping = false;

  /** Adds to the line; false when it has just become longer than `limit`, and the rest of it is skipped. */
  append(part: Uint8Array, limit: number): boolean {
    const mark = part.lastIndexOf(0xff);
    if (mark >= 0) {
      this.reset();
      this.#delimited = true;
    }
    const bytes = part.subarray(mark + 1);
    if (this.#skipping) return true;
    const length = this.#length + bytes.length;
    if (length > limit) {
      this.skip();
      return false;
    }
    if (length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(length, this.#bytes.length * 2));
      larger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = length;
    return true;
  }

  /** What has come of the line is thrown away, and what comes until its end. */
  skip(): void {
    this.#skipping = true;
    this.#length = 0;
  }

  /** The line that has ended, undefined for one that was skipped; and whether 0xff came before it. */
  take(): { line: Uint8Array | undefined; delimited: boolean } {
    const taken = { line: this.#skipping ? undefined : this.#bytes.slice(0, this.#length), delimited: this.#delimited };
    this.reset();
    return taken;
  }

  /** What of a line has come so far. */
  save(): LineState {
    return { bytes: this.#bytes.slice(0, this.#length), delimited: this.#delimited, skipping: this.#skipping };
  }

  restore({ bytes, delimited, skipping }: LineState): void {
    this.reset();
    this.append(bytes, Number.MAX_SAFE_INTEGER);
    this.#delimited = delimited;
    this.#skipping = skipping;
  }

  reset(): void {
    this.#length = 0;
    this.#delimited = false;
    this.#skipping = false;
    // One long line must not hold its memory for ever.
    if (this.#bytes.length > LINE_LIMIT) this.#bytes = new Uint8Array(FIRST_SIZE);
  }
}

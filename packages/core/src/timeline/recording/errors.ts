/** A recording that cannot be read, or that cannot be gone on with. */
export class RecordingError extends Error {
  readonly code = 'ERR_BRAID_RECORDING';
  /** Byte of the file at which it is noticed, where it is about one. */
  readonly offset: number | undefined;
  /** What is wrong, without where. */
  readonly why: string;

  constructor(why: string, offset?: number, options?: ErrorOptions) {
    super(offset === undefined ? `recording: ${why}` : `recording, byte ${offset}: ${why}`, options);
    this.name = 'RecordingError';
    this.offset = offset;
    this.why = why;
  }
}

/** Where a reader stopped: it uses what is before this chunk, and nothing from there on. */
export interface Refused {
  /** Byte of the file at which the chunk begins. */
  readonly offset: number;
  /** The chunk's. */
  readonly number: number;
  readonly why: string;
}

/** A recording that cannot be read, or that cannot be gone on with. */
export class RecordingError extends Error {
  readonly code = 'ERR_BRAID_RECORDING';
  /** Byte of the file at which it is noticed, where it is about one. */
  readonly offset: number | undefined;

  constructor(why: string, offset?: number, options?: ErrorOptions) {
    super(offset === undefined ? `recording: ${why}` : `recording, byte ${offset}: ${why}`, options);
    this.name = 'RecordingError';
    this.offset = offset;
  }
}

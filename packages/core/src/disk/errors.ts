/** A disk that cannot do now what it was asked to. */
export class DiskError extends Error {
  readonly code = 'ERR_BRAID_DISK';
  constructor(message: string) {
    super(message);
    this.name = 'DiskError';
  }
}

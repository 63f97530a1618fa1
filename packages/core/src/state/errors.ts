/** A saved record that no machine of this version can have saved. */
export class StateError extends Error {
  readonly code = 'ERR_BRAID_STATE';
  constructor(where: string, why: string) {
    super(`${where}: ${why}`);
    this.name = 'StateError';
  }
}

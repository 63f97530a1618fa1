/** What a debugger asks for and cannot have. The message is shown to the person at the debugger. */
export class GdbError extends Error {
  readonly code = 'ERR_BRAID_GDB';
  constructor(message: string) {
    super(message);
    this.name = 'GdbError';
  }
}

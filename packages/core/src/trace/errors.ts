/** Why a trace cannot be taken. */

export type TraceReason =
  /** No kernel runs yet, or it is entered in a way that is not known. */
  | 'kernel'
  /** The machine is not the one that the trace listens to, or it listens to one already. */
  | 'use'
  /** The program's file has no functions, or where it is loaded is not known. */
  | 'program';

export class TraceError extends Error {
  readonly code = 'ERR_BRAID_TRACE';
  readonly reason: TraceReason;
  constructor(reason: TraceReason, message: string) {
    super(message);
    this.name = 'TraceError';
    this.reason = reason;
  }
}

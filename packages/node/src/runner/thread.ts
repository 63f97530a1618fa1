/** What a thread of a pool runs by turns, and what that needs of the thread. */

import type { Report, Request } from '../pool/protocol.ts';

/** What is behind one of the main thread's numbers: a machine, a replay, a clone on one way of a branch. The first call says which. */
export interface Runner {
  /** Takes a request. Whatever comes of it goes on with `step`. */
  handle(request: Request): void;
  /** A turn; false when there is no reason for another: it waits for messages, a timer, or the host's data. */
  step(): boolean;
  /** Lets go of files, locks and timers, as far as it can: it has failed, and is not called again. */
  abandon(): void;
  /** Frames that hold its maps. */
  readonly roots: readonly number[];
  /** Single frames besides. */
  readonly frames: readonly number[];
}

export interface RunnerHost {
  report(report: Report, transfer?: ArrayBuffer[]): void;
  /** There is reason for a turn. */
  wake(): void;
  /** Whether a message waits, so that a run should end. Cheap. */
  called(): boolean;
  /** There is nothing behind the number any more. */
  gone(): void;
}

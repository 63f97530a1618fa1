/**
 * The end of our own output: its reader has gone (`| head`), or its disk is full. A command that has something to put in order takes the
 * end over; elsewhere the process ends at once.
 */

import { constants } from 'node:os';
import { tell } from './say.ts';

/** Why output ended, and the exit code for it. */
export interface LostOutput {
  readonly reason: string;
  readonly code: number;
}

/** A terminal that has gone: as the signal for that, which not every system sends. */
export const HANGUP: LostOutput = { reason: 'SIGHUP', code: 128 + constants.signals.SIGHUP };

let taken: ((lost: LostOutput) => void) | undefined;

/** Watches a stream of ours; `failed` is the exit code when it cannot be written. A reader that goes is no error of anybody's: the exit code is that of SIGPIPE, without a word. */
export function watchOutput(stream: NodeJS.WriteStream, failed: number): void {
  stream.on('error', ({ code = 'EIO', message }: NodeJS.ErrnoException) => {
    const gone = code === 'EPIPE';
    const hangup = stream.isTTY && code === 'EIO';
    if (!gone && !hangup && stream !== process.stderr)
      tell(`our output could not be written: ${message}; make room and run again`);
    const lost = hangup ? HANGUP : { reason: code, code: gone ? 128 + constants.signals.SIGPIPE : failed };
    if (taken) taken(lost);
    else process.exit(lost.code);
  });
}

/** From now on `handler` is told of lost output, instead of the process's end; the result gives it back. */
export function takeLostOutput(handler: (lost: LostOutput) => void): () => void {
  taken = handler;
  return () => {
    taken = undefined;
  };
}

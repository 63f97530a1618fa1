/** `braid gdb`: a recording for a debugger, which is started too if that is wanted. */

import { constants } from 'node:os';
import { BraidError } from '../errors.ts';
import { Replay } from '../replay/replay.ts';
import { findGdb, gdbArguments, runGdb } from './gdb-client.ts';
import { stoppedText } from './recording-text.ts';
import { printJson, tell } from './say.ts';

export interface GdbFlags {
  readonly socket?: string;
  readonly port?: number;
  readonly tasks?: boolean;
  readonly run?: boolean;
  readonly json?: boolean;
}

const HINTS = 'forwards and backwards: continue, reverse-continue, reverse-step; "monitor help" for more';

/** `rest`: gdb's own arguments. */
export async function gdb(path: string, flags: GdbFlags, rest: readonly string[] | undefined): Promise<number> {
  const { socket, port, tasks = false, run = false, json } = flags;
  if (rest && !run)
    throw new BraidError('ERR_BRAID_OPTION', 'arguments behind "--" are for the gdb that --run starts; add --run');
  // Before anything is opened: without a debugger there is nothing to do.
  const program = run ? findGdb(process.env.GDB) : undefined;
  await using recorded = await Replay.open(path);
  if (recorded.stopped) tell(`${path}: ${stoppedText(recorded.stopped)}`);
  const where = socket !== undefined ? { socket } : port !== undefined ? { port } : {};
  await using listener = await recorded.gdb({ ...where, tasks });
  if (program !== undefined) return await runGdb(program, gdbArguments(listener.remote, rest ?? []));
  const ended = interrupted();
  if (json) printJson({ remote: listener.remote, socket: listener.socket, port: listener.port });
  else tell(`in gdb-multiarch, type: ${listener.remote}\n${HINTS}; Ctrl-C here ends it`);
  return 128 + constants.signals[await ended];
}

/** The signal that ends us. */
function interrupted(): Promise<'SIGINT' | 'SIGTERM' | 'SIGHUP'> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve(signal));
  });
}

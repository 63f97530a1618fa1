/** `--gdb` of a run: the machine waits for a debugger before its first step. */

import { constants } from 'node:os';
import type { GdbListener } from '../gdb/listener.ts';
import type { Machine } from '../machine.ts';
import type { Ending } from './run.ts';
import { tell } from './say.ts';

/** Where gdb is to connect: `true` for a socket in a new folder, else a socket's path or the number of a port. */
export type DebuggerPlace = string | true;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Waits for gdb; or gives the ending when a signal comes first. The listener stays until it or the machine is disposed of. */
export async function awaitDebugger(machine: Machine, place: DebuggerPlace): Promise<Ending | undefined> {
  const where = place === true ? {} : /^\d{1,5}$/.test(place) ? { port: Number(place) } : { socket: place };
  const listener: GdbListener = await machine.gdb(where);
  tell(`the machine waits for gdb; in gdb-multiarch, type: ${listener.remote}`);
  const { promise, resolve } = Promise.withResolvers<Ending | undefined>();
  listener.onAttach = () => resolve(undefined);
  const caught = SIGNALS.map((signal) => {
    const handler = () => resolve({ reason: signal, code: 128 + constants.signals[signal] });
    process.once(signal, handler);
    return () => process.off(signal, handler);
  });
  // Nothing else may keep us here.
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    return await promise;
  } finally {
    clearInterval(alive);
    for (const release of caught) release();
  }
}

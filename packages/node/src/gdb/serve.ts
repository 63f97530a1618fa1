/** Debugging live machines with gdb: see docs/gdb.md. */

import type { DebugTask } from '@braid/core/gdb/target.ts';
import type { Machine } from '../machine.ts';
import type { Link } from '../pool/link.ts';
import { GdbListener, type ListenOptions } from './listener.ts';
import { LiveTarget } from './live-target.ts';

export interface GdbServeOptions extends Omit<ListenOptions, 'tasks'> {
  /** The tasks of the guest's kernel, which are threads then as well. */
  readonly tasks?: () => Promise<readonly DebugTask[]>;
}

/** What the server needs of a machine. */
export interface Debugged {
  readonly machine: Machine;
  readonly link: Link;
}

/** Lets gdb connect to a machine, until the result or the machine is disposed of. */
export async function serveGdb({ machine, link }: Debugged, options: GdbServeOptions = {}): Promise<GdbListener> {
  const { tasks, ...where } = options;
  const target = new LiveTarget(link, {
    harts: machine.harts,
    fork: () => serveClone({ machine, link }, options),
    ...(tasks ? { tasks } : {}),
  });
  const listener = await GdbListener.open(target, { ...where, tasks: tasks !== undefined });
  link.on('closed', () => void listener.close());
  return listener;
}

/** A clone for a debugger of its own: it goes when that one leaves, or the machine. */
async function serveClone({ machine, link }: Debugged, { port }: GdbServeOptions): Promise<string> {
  const clone = (await machine.fork())[0]!;
  if (clone instanceof Error) throw clone;
  try {
    const listener = await clone.gdb(port === undefined ? {} : { port: 0 });
    const dispose = () => void clone.dispose().catch(() => {});
    listener.onLeave = dispose;
    link.on('closed', dispose);
    return listener.remote;
  } catch (error) {
    await clone.dispose();
    throw error;
  }
}

/** Debugging live machines and replays with gdb: see docs/gdb.md. */

import type { Machine } from '../machine.ts';
import type { Link } from '../pool/link.ts';
import type { Replay } from '../replay/replay.ts';
import { GdbListener, type GdbServeOptions } from './listener.ts';
import { LiveTarget } from './live-target.ts';
import { ReplayTarget } from './replay-target.ts';

/** What the server needs of a machine. */
export interface Debugged {
  readonly machine: Machine;
  readonly link: Link;
}

export interface Replayed {
  readonly replay: Replay;
  readonly link: Link;
}

/** Lets gdb connect to a machine, until the result or the machine is disposed of. */
export async function serveGdb({ machine, link }: Debugged, options: GdbServeOptions = {}): Promise<GdbListener> {
  const target = new LiveTarget(link, {
    harts: machine.harts,
    fork: async () => serveFork(await cloneOf(machine), link, options),
  });
  const listener = await GdbListener.open(target, options);
  link.on('closed', () => void listener.close());
  return listener;
}

/** Lets gdb connect to a replay, until the result or the replay is disposed of. Nobody else moves the replay meanwhile. */
export async function serveReplay({ replay, link }: Replayed, options: GdbServeOptions = {}): Promise<GdbListener> {
  const target = new ReplayTarget(replay, link, {
    fork: async () => serveFork(await replay.divert(), link, options),
  });
  const listener = await GdbListener.open(target, options);
  link.on('closed', () => void listener.close());
  return listener;
}

async function cloneOf(machine: Machine): Promise<Machine> {
  const clone = (await machine.fork())[0]!;
  if (clone instanceof Error) throw clone;
  return clone;
}

/** A machine for a debugger of its own: it goes when that one leaves, or what it was forked from goes. */
async function serveFork(fork: Machine, link: Link, { port, tasks }: GdbServeOptions): Promise<string> {
  try {
    const listener = await fork.gdb({
      ...(port === undefined ? {} : { port: 0 }),
      ...(tasks === undefined ? {} : { tasks }),
    });
    const dispose = () => void fork.dispose().catch(() => {});
    listener.onLeave = dispose;
    link.on('closed', dispose);
    return listener.remote;
  } catch (error) {
    await fork.dispose();
    throw error;
  }
}

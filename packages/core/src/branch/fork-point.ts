/**
 * A fork point: a machine's state at one position, its RAM and what was written to its disks shared with whoever has the same. Machines
 * are made from it, and brought back to it, on any worker of the pool.
 *
 * All but the frames is plain data, so that a fork point can be posted to other threads. It holds a reference to its frames until
 * somebody calls `freeForkPoint`.
 */

import type { Engine } from '../engine/engine.ts';
import type { LinkState, Outputs } from '../machine/machine.ts';
import { type Machine } from '../machine/machine.ts';
import { type Attachments, fillMachine, type MachineRecord, machineOf, recordMachine } from '../machine/save.ts';
import { freeMap, type MapRoots, shareMap } from '../memory/frame-map.ts';
import { type Pool, PoolFullError } from '../memory/pool.ts';
import { Fields } from '../state/check.ts';

export interface ForkPoint {
  readonly record: MachineRecord;
  readonly link: LinkState;
  readonly ram: MapRoots;
  /** In the order of the disks: what has been written to each, where the machine may write. */
  readonly disks: readonly (MapRoots | undefined)[];
}

/** Frames that have to be free for a machine to be forked: 4 MiB for what it and its parent will write first. */
const HEAD_ROOM = 1024;

/**
 * The machine's state here and now. Its next writes copy what they meet. Cost: its harts and devices, and a reference for each 4 MiB of
 * RAM. Throws `PoolFullError` when the pool has no room for what will be copied.
 */
export function forkPoint(machine: Machine): ForkPoint {
  const { pool } = machine.engine;
  if (pool.available < HEAD_ROOM) throw new PoolFullError(pool.limit, 'frames of 4 KiB, and a fork needs some in reserve');
  const record = recordMachine(machine);
  const link = machine.saveLink();
  const held: MapRoots[] = [];
  const hold = (roots: MapRoots) => {
    held.push(roots);
    return roots;
  };
  try {
    const ram = hold(machine.ram.share());
    const disks = machine.platform.backends.map((backend) => {
      const written = backend.freeze(pool);
      return written && hold(written.share());
    });
    return { record, link, ram, disks };
  } catch (error) {
    for (const roots of held) freeMap(pool, roots);
    throw error;
  }
}

/**
 * A fork point: a machine's state at one position, its RAM and what was written to its disks shared with whoever has the same. Machines
 * are made from it, and brought back to it, on any worker of the pool.
 *
 * All but the frames is plain data, so that a fork point can be posted to other threads. It holds its frames until `freeForkPoint`.
 */

import type { ExecHandle, ExecHandlers } from '../agent/program.ts';
import type { BlockBackend } from '../devices/virtio-block/backend.ts';
import { BLOCK } from '../disk/block-map.ts';
import { FrameBlocks } from '../disk/frame-blocks.ts';
import { OverlayBackend, type OverlayJournal } from '../disk/overlay.ts';
import type { Engine } from '../engine/engine.ts';
import { restoreQuotas } from '../machine/hints.ts';
import type { LinkState } from '../machine/inputs.ts';
import type { Machine, Outputs } from '../machine/machine.ts';
import { MachineError } from '../machine/options.ts';
import { type Attachments, fillMachine, type MachineRecord, machineOf, recordMachine } from '../machine/save.ts';
import { freeMap, type MapRoots, type PageSource, shareMap } from '../memory/frame-map.ts';
import { type Pool, PoolFullError } from '../memory/pool.ts';
import { Fields } from '../state/check.ts';

export interface ForkPoint {
  readonly record: MachineRecord;
  /** Without it nobody has spoken to the agent. */
  readonly link: LinkState | undefined;
  readonly ram: MapRoots;
  /** In the order of the disks: what has been written to each since it was frozen; nothing for one that is only read. */
  readonly disks: readonly (MapRoots | undefined)[];
}

/** Who a fork is. Without any of it, it is exactly what its parent was, and has the same future. */
export interface Identity {
  /** Where entropy comes from after the fork. */
  readonly seed?: bigint;
  /** Address of its network card. */
  readonly mac?: Uint8Array;
  /** Whether its network card stays connected. */
  readonly connected?: boolean;
}

/** Frames that have to be free for a fork: 4 MiB for what parent and child will write first. */
const HEAD_ROOM = 1024;

/**
 * The machine's state here and now. Its writes copy what they meet from now on; its writable disks are frozen. Cost: its harts and devices,
 * and a reference for each 4 MiB of RAM. Throws `PoolFullError` when the pool has little room for what will be copied, and `MachineError`
 * for a disk that cannot be frozen.
 */
export function forkPoint(machine: Machine): ForkPoint {
  const { pool } = machine.engine;
  if (pool.available < HEAD_ROOM) {
    throw new PoolFullError(pool.limit, `frames of 4 KiB, ${pool.available} of them free; a fork needs ${HEAD_ROOM}`);
  }
  const overlays = machine.platform.backends.map((backend, n) => overlayOf(backend.inner, n));
  const held: MapRoots[] = [];
  const hold = (roots: MapRoots) => {
    held.push(roots);
    return roots;
  };
  try {
    const record = recordMachine(machine);
    const link = machine.saveLink();
    const disks = overlays.map((overlay) => {
      overlay?.backend.freeze();
      return overlay && hold(overlay.blocks.share());
    });
    return { record, link, ram: hold(machine.ram.share()), disks };
  } catch (error) {
    for (const roots of held) freeMap(pool, roots);
    throw error;
  }
}

/** The overlay of a disk that can be written. */
export function overlayOf(
  backend: BlockBackend,
  n: number,
  perhaps = false,
): { readonly backend: OverlayBackend; readonly blocks: FrameBlocks } | undefined {
  if (backend.readOnly) return undefined;
  if (backend instanceof OverlayBackend && backend.map instanceof FrameBlocks) return { backend, blocks: backend.map };
  if (perhaps) return undefined;
  throw new MachineError(`disk ${n} cannot be forked: what is written to it has to go to an overlay in the pool`);
}

/** Another fork point of the same state, to be freed on its own. */
export function shareForkPoint(pool: Pool, point: ForkPoint): ForkPoint {
  const held: MapRoots[] = [];
  const share = (roots: MapRoots) => {
    const shared = shareMap(pool, roots);
    held.push(shared);
    return shared;
  };
  try {
    return { ...point, ram: share(point.ram), disks: point.disks.map((roots) => roots && share(roots)) };
  } catch (error) {
    for (const roots of held) freeMap(pool, roots);
    throw error;
  }
}

/** Frames of a machine's maps: what it is made of, for those who count (`Pool.rebuild`). */
export function rootsOf({ ram, platform }: Machine): readonly number[] {
  const overlays = platform.backends.map((backend, n) => overlayOf(backend.inner, n, true));
  return [...ram.roots, ...overlays.flatMap((overlay) => overlay?.blocks.roots ?? [])];
}

export function freeForkPoint(pool: Pool, { ram, disks }: ForkPoint): void {
  freeMap(pool, ram);
  for (const roots of disks) if (roots) freeMap(pool, roots);
}

export interface MachineFromOptions {
  /** Named programs of the agent go on with what this gives. */
  readonly handlersOf?: (key: string) => ExecHandlers | undefined;
  /** What makes a disk's overlay durable; nothing does in a clone. */
  readonly journalOf?: (disk: number) => OverlayJournal | undefined;
  /** Where remote pages of the fork point come from. */
  readonly source?: PageSource | undefined;
}

/**
 * A machine in the state of a fork point, which is used up by it: for more than one, or to keep it, `shareForkPoint` first. `attachments`
 * has the disks' bases, in their order; what is written goes to overlays.
 * The machine may be of another thread. Throws `MachineError`, and has given the fork point's frames back then.
 */
export function machineFrom(
  engine: Engine,
  point: ForkPoint,
  attachments: Attachments = {},
  outputs: Outputs = {},
  { handlersOf, journalOf, source }: MachineFromOptions = {},
): Machine {
  const { pool } = engine;
  const bases = attachments.disks ?? [];
  const disks = bases.map((disk, n) => {
    const roots = point.disks[n];
    if (!roots) return disk;
    const blocks = new FrameBlocks(pool, disk.backend.size, roots);
    const journal = journalOf?.(n);
    const options = { frozen: true, readOnly: false, ...(journal ? { journal } : {}) };
    return { ...disk, backend: new OverlayBackend(disk.backend, blocks, options) };
  });
  let machine: Machine | undefined;
  try {
    const record = new Fields(point.record, 'machine');
    machine = machineOf(engine, record, { ...attachments, disks }, outputs, point.ram);
    machine.ram.source = source;
    fillMachine(machine, record);
    machine.watchHostInterface();
  } catch (error) {
    if (machine) machine.free();
    else freeForkPoint(pool, point);
    throw error;
  }
  if (point.link) machine.restoreLink(point.link, handlersOf);
  return machine;
}

/** Makes a clone somebody of its own, by events at its next slice boundary. Its network card is unplugged unless `connected`. */
export function identify(machine: Machine, { seed, mac, connected }: Identity): void {
  if (!connected && machine.platform.net.linkUp) machine.input({ kind: 'link', up: false });
  if (mac) machine.input({ kind: 'address', mac });
  if (seed !== undefined) machine.input({ kind: 'reseed', seed });
}

/**
 * Brings a machine to a fork point of its own past, or of a fork of it: its state becomes that one, the handle, its outputs and
 * attachments stay. The fork point is kept. Input that waits is left out, unless `keepInput`; the event log begins anew. Calls of
 * the agent under way fail, named programs go on with what `handlersOf` gives. Cost: what was written since, in frames, and the
 * devices. Throws `StateError` for a fork point of another configuration.
 */
export function becomeForkPoint(
  machine: Machine,
  point: ForkPoint,
  options: {
    readonly keepInput?: boolean;
    readonly handlersOf?: (key: string) => ExecHandlers | undefined;
  } = {},
): Map<string, ExecHandle> {
  machine.requireConfiguration(point.record.configuration);
  const overlays = machine.platform.backends.map((backend, n) => overlayOf(backend.inner, n));
  machine.ram.become(point.ram);
  for (const [n, overlay] of overlays.entries()) {
    if (!overlay) continue;
    overlay.backend.freeze();
    for (const block of overlay.blocks.become(point.disks[n]!))
      machine.platform.backends[n]!.mark(block * BLOCK, BLOCK);
    overlay.backend.remapped();
  }
  const record = new Fields(point.record, 'machine');
  record.record('version');
  record.record('configuration');
  machine.hints.restore(restoreQuotas(record.record('hints')));
  fillMachine(machine, record);
  const inputs = machine.takeInputs();
  machine.renew();
  if (options.keepInput) for (const input of inputs) machine.input(input);
  return point.link ? machine.restoreLink(point.link, options.handlersOf) : new Map();
}

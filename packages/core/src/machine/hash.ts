/**
 * One hash of everything that a guest can see (I6): harts, RAM, devices with requests in flight, disks by content, schedule and
 * clock. Caches, counters and the host's queues are left out.
 *
 * RAM is a Merkle tree: 16 bytes a page, a digest of each leaf's 1024 pages, a digest of those. Pages are hashed again only when
 * they were written since the last time, so the cost is what was dirtied: about 1 us a page, and a look at every entry of the map
 * (0.3 ms for 1 GiB). An untouched page hashes as a page of zeros.
 */

import { saveHart } from '../hart/record.ts';
import { FrameHash, HASH_VERSION } from '../memory/hash.ts';
import { ENTRY_DIRTY, ENTRY_FRAME, ENTRY_REMOTE, LEAF_PAGES } from '../memory/layout.ts';
import type { Pool } from '../memory/pool.ts';
import { encodeState } from '../state/encode.ts';
import type { Machine } from './machine.ts';
import { MachineError, requireExact } from './options.ts';
import { WrittenBackend } from './written.ts';

const HASH_BYTES = 16;

/** What is known of a machine's pages and disks from its last hash. */
class Known {
  readonly leaves: Uint8Array[] = [];
  readonly digests: Uint8Array[] = [];
  readonly disks: Map<WrittenBackend, { chunks: Uint8Array[]; digest: Uint8Array }> = new Map();
}

const known = new WeakMap<Machine, Known>();
/** A pool's hasher holds one frame of it for good. */
const hashers = new WeakMap<Pool, FrameHash>();

function hasher({ engine: { pool } }: Machine): FrameHash {
  let hash = hashers.get(pool);
  if (!hash) {
    hash = new FrameHash(pool);
    hashers.set(pool, hash);
  }
  return hash;
}

/** 32 hexadecimal digits. Throws `MachineError` when a disk's content cannot be read at once. */
export function stateHash(machine: Machine): string {
  requireExact(machine.engine);
  let memory = known.get(machine);
  if (!memory) {
    memory = new Known();
    known.set(machine, memory);
  }
  const digest = hasher(machine).digest(
    encodeState({
      version: HASH_VERSION,
      ...visibleState(machine),
      ram: ramDigest(machine, memory),
      disks: machine.platform.disks.map((_, n) => diskDigest(machine, n, memory)),
    }),
  );
  return hex(digest);
}

/** The state besides RAM and disks, as plain records: what `stateHash` covers and what two runs are compared by. */
export function visibleState(machine: Machine): Record<string, unknown> {
  const { clock, schedule, options, hartSet, platform } = machine;
  return {
    configuration: {
      memory: options.memory,
      harts: options.harts,
      slice: schedule.slice,
      stepsPerNanosecond: clock.stepsPerNanosecond,
      sbi: machine.monitorSbi,
    },
    clock: { now: clock.now, fraction: clock.fraction, tickOffset: clock.tickOffset },
    schedule: schedule.save(),
    stopped: machine.stopped.map((stopped) => stopped),
    skipIdle: machine.skipIdle,
    exit: machine.exit,
    hints: machine.hints.quotas,
    harts: Array.from({ length: options.harts }, (_, hart) => saveHart(hartSet.record(hart))),
    firmware: machine.sbi.save(),
    devices: Object.fromEntries([...platform.devices].map(([name, device]) => [name, device.save()])),
  };
}

function ramDigest(machine: Machine, memory: Known): Uint8Array {
  const { ram } = machine;
  for (let leaf = 0; leaf < ram.leaves; leaf++) {
    let hashes = memory.leaves[leaf];
    const first = !hashes;
    if (!hashes) {
      hashes = new Uint8Array(LEAF_PAGES * HASH_BYTES);
      memory.leaves[leaf] = hashes;
    }
    let changed = first;
    const base = leaf * LEAF_PAGES;
    const count = Math.min(LEAF_PAGES, ram.pages - base);
    for (let i = 0; i < count; i++) {
      const entry = ram.entry(base + i);
      if (!(entry & ENTRY_DIRTY) && !(entry & ENTRY_REMOTE) && !(first && entry & ENTRY_FRAME)) continue;
      hasher(machine).page(ram.prepare(base + i, false), hashes, i * HASH_BYTES);
      ram.setEntry(base + i, ram.entry(base + i) & ENTRY_FRAME);
      changed = true;
    }
    if (changed) memory.digests[leaf] = hasher(machine).digest(hashes);
  }
  machine.engine.dropWriteEntries();
  return hasher(machine).digest(concat(memory.digests));
}

/** Disks are read whole the first time, then where they were written. */
function diskDigest(machine: Machine, index: number, memory: Known): Uint8Array {
  const backend = machine.platform.backends[index]!;
  const written = backend.take();
  const DISK_CHUNK = WrittenBackend.chunk;
  let disk = memory.disks.get(backend);
  const count = Math.ceil(Number(backend.size) / DISK_CHUNK);
  const stale = disk ? written : Array.from({ length: count }, (_, i) => i);
  if (!disk) {
    disk = { chunks: [], digest: new Uint8Array(0) };
    memory.disks.set(backend, disk);
  }
  const bytes = new Uint8Array(DISK_CHUNK);
  for (const chunk of stale) {
    const part = bytes.subarray(0, Math.min(DISK_CHUNK, Number(backend.size) - chunk * DISK_CHUNK));
    if (backend.read(chunk * DISK_CHUNK, part)) {
      for (const left of written) backend.mark(left * DISK_CHUNK, 1);
      memory.disks.delete(backend);
      throw new MachineError('a state hash covers disks by content, and this disk cannot be read at once');
    }
    disk.chunks[chunk] = hasher(machine).digest(part);
  }
  if (stale.length > 0) disk.digest = hasher(machine).digest(concat(disk.chunks));
  return disk.digest;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.length * HASH_BYTES);
  for (const [i, part] of parts.entries()) all.set(part, i * HASH_BYTES);
  return all;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * One hash of everything that a guest can see (I6): harts, RAM, devices with requests in flight, disks by content, schedule and
 * clock. Caches, counters and the host's queues are left out.
 *
 * RAM is a Merkle tree: 16 bytes a page, a digest of each leaf's 1024 pages, a digest of those. The hashes are kept in the pool, beside
 * frames and leaves, until these are written: so the cost is what was dirtied, about 1 us a page and 10 us a leaf, and what machines
 * share is hashed once. An untouched page hashes as a page of zeros.
 */

import type { Engine } from '../engine/engine.ts';
import type { FrameMap } from '../memory/frame-map.ts';
import { FrameHash, HASH_VERSION } from '../memory/hash.ts';
import { ENTRY_FRAME, ENTRY_REMOTE, HASH_BYTES, LEAF_PAGES, PAGE } from '../memory/layout.ts';
import type { Pool } from '../memory/pool.ts';
import { encodeState } from '../state/encode.ts';
import type { Machine } from './machine.ts';
import { MachineError } from './options.ts';
import { type MachineRecord, recordMachine } from './save.ts';
import { WrittenBackend } from './written.ts';

/** What is known of a disk from its last hash. */
interface KnownDisk {
  readonly chunks: Uint8Array[];
  digest: Uint8Array;
}

const knownDisks = new WeakMap<WrittenBackend, KnownDisk>();
const hashers = new WeakMap<Engine, FrameHash>();

function hasher({ engine }: Machine): FrameHash {
  let hash = hashers.get(engine);
  if (!hash) {
    hash = new FrameHash(engine.pool, engine.scratch);
    hashers.set(engine, hash);
  }
  return hash;
}

/** 32 hexadecimal digits. Throws `MachineError` when a disk's content cannot be read at once. */
export function stateHash(machine: Machine): string {
  const { engine, ram } = machine;
  const hash = hasher(machine);
  const memory = ramDigest(engine.pool, hash, ram);
  engine.dropWriteEntries(machine);
  const disks = machine.platform.disks.map((_, n) => diskDigest(machine, n));
  return digestOf(hash, recordMachine(machine), { ram: memory, disks });
}

/** The hash of all that recordings know of a machine: what `stateHash` covers but for the content of disks. */
export function recordedHash(machine: Machine): string {
  const { engine, ram } = machine;
  const hash = hasher(machine);
  const found = hashOfRecord(engine.pool, hash, recordMachine(machine), ram);
  engine.dropWriteEntries(machine);
  return found;
}

/** `recordedHash` of a machine that was, by its record and a map of its RAM whose frames nobody writes. In any thread. */
export function hashOfRecord(pool: Pool, hash: FrameHash, record: MachineRecord, ram: FrameMap): string {
  return digestOf(hash, record, { ram: ramDigest(pool, hash, ram) });
}

function digestOf(hash: FrameHash, record: MachineRecord, content: Record<string, unknown>): string {
  return hex(hash.digest(encodeState({ version: HASH_VERSION, ...visibleState(record), ...content })));
}

/** Of a machine's record what a guest can see: what hashes cover and two runs are compared by, besides RAM and disks. */
export function visibleState(record: MachineRecord): Record<string, unknown> {
  const { version: _, configuration, clock, schedule, ...rest } = record;
  const { memory, harts, slice, stepsPerNanosecond, pause, sbi } = configuration;
  const { round, hart, step } = schedule;
  // A machine without a rule for pauses hashes as in the recordings that were made of such.
  const ruled = pause.steps > 0 || pause.spins > 0 || pause.turn > 0;
  return {
    ...rest,
    configuration: { memory, harts, slice, stepsPerNanosecond, sbi, ...(ruled && { pause }) },
    schedule: ruled ? schedule : { version: 1, round, hart, step },
    clock: { ...clock, fraction: BigInt(clock.fraction) },
  };
}

function ramDigest(pool: Pool, hash: FrameHash, ram: FrameMap): Uint8Array {
  const pages = new Uint8Array(LEAF_PAGES * HASH_BYTES);
  const digests: Uint8Array[] = [];
  for (let n = 0; n < ram.leaves; n++) {
    const leaf = ram.leaf(n);
    if (!hash.known(leaf)) {
      pages.fill(0);
      const count = Math.min(LEAF_PAGES, ram.pages - n * LEAF_PAGES);
      for (let i = 0; i < count; i++) {
        const page = n * LEAF_PAGES + i;
        let entry = pool.words[(leaf * PAGE) / 4 + i]!;
        if (entry & ENTRY_REMOTE) {
          const known = ram.source?.hash?.(page);
          if (known) {
            pages.set(known, i * HASH_BYTES);
            continue;
          }
          entry = ram.prepare(page, false) / PAGE;
        }
        const frame = entry & ENTRY_FRAME;
        if (frame === 0) continue;
        if (!hash.known(frame)) hash.keep(frame);
        pages.set(hash.of(frame), i * HASH_BYTES);
      }
      hash.keepFor(leaf, hash.digest(pages));
    }
    digests.push(hash.of(leaf));
  }
  return hash.digest(concat(digests));
}

/** Disks are read whole the first time, then where they were written. */
function diskDigest(machine: Machine, index: number): Uint8Array {
  const backend = machine.platform.backends[index]!;
  const written = backend.take();
  const DISK_CHUNK = WrittenBackend.chunk;
  let disk = knownDisks.get(backend);
  const count = Math.ceil(Number(backend.size) / DISK_CHUNK);
  const stale = disk ? written : Array.from({ length: count }, (_, i) => i);
  if (!disk) {
    disk = { chunks: [], digest: new Uint8Array(0) };
    knownDisks.set(backend, disk);
  }
  const bytes = new Uint8Array(DISK_CHUNK);
  for (const chunk of stale) {
    const part = bytes.subarray(0, Math.min(DISK_CHUNK, Number(backend.size) - chunk * DISK_CHUNK));
    if (backend.inner.read(chunk * DISK_CHUNK, part)) {
      backend.putBack(written);
      knownDisks.delete(backend);
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

/** The running kernel's own image: found by a hart's trap vector, which lies in it. */

import type { Machine } from '../machine/machine.ts';
import { KernelError } from './errors.ts';
import type { KernelMemory } from './memory.ts';

export interface Image {
  /** Virtual address of `bytes[0]`. */
  readonly base: bigint;
  /** Code and data as they are now; a copy. */
  readonly bytes: Uint8Array;
  /** The trap vector that it was found by. */
  readonly vector: bigint;
}

/** The kernel maps itself in pieces of this size. */
const PIECE = 2n ** 21n;
/** Bounds of what is taken for an image: Debian's has some 32 MiB. */
const MAX_PIECES = 64;

/** Finds the kernel's image. Throws `KernelError`. */
export function findImage(machine: Machine, memory: KernelMemory): Image {
  const vector = trapVector(machine);
  if (vector === undefined || memory.satp === 0n) {
    throw new KernelError(
      'no-kernel',
      'no hart runs a kernel with paging and a trap vector: let the guest boot further before looking at it',
    );
  }
  const mapped = (address: bigint) => memory.physical(address) !== undefined;
  if (!mapped(vector)) throw new KernelError('no-kernel', 'the trap vector is not mapped: this is no Linux kernel');
  let base = vector & -PIECE;
  let pieces = 1;
  while (pieces < MAX_PIECES && base >= PIECE && mapped(base - PIECE)) {
    base -= PIECE;
    pieces++;
  }
  while (pieces < MAX_PIECES && base + PIECE * BigInt(pieces) < 2n ** 64n && mapped(base + PIECE * BigInt(pieces)))
    pieces++;
  const size = Number(PIECE);
  const bytes = new Uint8Array(pieces * size);
  // Pages of initialisation code may be gone from the middle: they stay zero.
  for (let at = 0; at < bytes.length; at += 4096) memory.read(base + BigInt(at), bytes.subarray(at, at + 4096));
  return { base, bytes, vector };
}

function trapVector(machine: Machine): bigint | undefined {
  for (let hart = 0; hart < machine.harts; hart++) {
    const vector = machine.hartSet.get(hart, 'stvec') & ~3n;
    if (vector >> 63n !== 0n && machine.hartSet.get(hart, 'satp') >> 60n !== 0n) return vector;
  }
  return undefined;
}

/**
 * The edges of user mode: where a hart comes from a program into the kernel, and where it goes back.
 *
 * A Linux kernel has one trap vector for both of its own traps and programs', and goes to programs by one `sret` near it, which
 * also ends some of its own traps. Both are breakpoints that never stop. They see the program's registers: all of them are
 * untouched at the vector's first instruction, and restored before the `sret`; `sscratch` holds the address of the task in both.
 * No symbol, type or layout of the kernel is needed. A trap and its return cost some microseconds of the host's time each.
 */

import type { Machine } from '../machine/machine.ts';
import { EDGE_REACH, isUserEdge, returnsIn } from '../machine/user-edges.ts';
import { GuestMemory } from './analysis.ts';
import { TraceError } from './errors.ts';

/** Where the kernel is entered and left; the same for all harts, and as long as the kernel runs. */
export interface KernelEdges {
  readonly vector: bigint;
  readonly returns: readonly bigint[];
}

export interface EdgeListener {
  /** A hart is about to execute the trap vector's first instruction; `scause` and `sepc` say why and from where. */
  entered?(hart: number, task: bigint): void;
  /** A hart is about to go to a program, at `sepc`. */
  left?(hart: number, task: bigint): void;
}

/** Finds the edges of the kernel that a machine runs. Throws `TraceError` where none has set up its traps. */
export function findKernelEdges(machine: Machine): KernelEdges {
  const memory = new GuestMemory(machine);
  for (let hart = 0; hart < machine.harts; hart++) {
    const vector = machine.hartSet.get(hart, 'stvec') & ~3n;
    if (vector >> 63n === 0n || machine.hartSet.get(hart, 'satp') >> 60n === 0n) continue;
    const returns = returnsIn(memory.read(hart, vector, EDGE_REACH), vector);
    if (returns.length > 0) return { vector, returns };
  }
  throw new TraceError(
    'kernel',
    'no hart has the trap vector of a Linux kernel yet: begin at a later moment, or give the edges that were found at one',
  );
}

/** Listens at the edges. */
export class UserEdges {
  private readonly machine: Machine;
  private readonly ids: number[];
  private last = { hart: -1, steps: -1n };

  constructor(machine: Machine, { vector, returns }: KernelEdges, listener: EdgeListener) {
    this.machine = machine;
    const hear = (told: ((hart: number, task: bigint) => void) | undefined) => (hart: number) => {
      if (!isUserEdge(machine.hartSet, hart) || this.again(hart)) return false;
      const task = machine.hartSet.get(hart, 'sscratch');
      told?.call(listener, hart, task);
      return false;
    };
    const entered = hear(listener.entered);
    const left = hear(listener.left);
    this.ids = machine.breakpoints.addAll([
      { address: vector, condition: entered },
      ...returns.map((address) => ({ address, condition: left })),
    ]);
  }

  end(): void {
    this.machine.breakpoints.deleteAll(this.ids);
  }

  /** A place is asked about again when a run has ended just before it. */
  private again(hart: number): boolean {
    const steps = this.machine.steps(hart);
    const { last } = this;
    if (last.hart === hart && last.steps === steps) return true;
    last.hart = hart;
    last.steps = steps;
    return false;
  }
}

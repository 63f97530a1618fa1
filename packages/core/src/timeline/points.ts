/** Places in a run that somebody looks for: instructions, and accesses to memory. */

import type { Machine } from '../machine/machine.ts';
import { isEdgeOf, type UserProgram } from '../machine/user-edges.ts';

export type Point =
  /** The instruction at a virtual address is about to be executed; with `program` only at an edge of that program. */
  | { readonly kind: 'break'; readonly address: bigint; readonly satp?: bigint; readonly program?: UserProgram }
  /** Bytes in memory are accessed, or with `physical` those at a guest-physical address, by whomever. */
  | {
      readonly kind: 'write' | 'read' | 'access';
      readonly address: bigint;
      readonly length: number;
      readonly physical?: boolean;
      readonly satp?: bigint;
    };

/** Where a run has come to a point. */
export interface Hit {
  /** Steps since the recording began, before the instruction that hits it. */
  readonly at: bigint;
  /** Undefined for an access that is no instruction's: a device's, the firmware's. */
  readonly hart: number | undefined;
  /** Which of the points, by its index. */
  readonly point: number;
  /** Of the instruction, or of the access. */
  readonly address: bigint;
}

/** Has points noticed while a machine runs; `seen` says whether it is to stop there. The result ends that. */
export function arm(
  machine: Machine,
  points: readonly Point[],
  seen: (point: number, hart: number | undefined, address: bigint) => boolean,
): () => void {
  const { breakpoints, watchpoints } = machine;
  const undo = points.map((point, n) => {
    const space = point.satp === undefined ? {} : { satp: point.satp };
    if (point.kind === 'break') {
      const { address, program } = point;
      const wanted = program && isEdgeOf(machine.hartSet, program);
      const condition = (hart: number) => (wanted?.(hart) ?? true) && seen(n, hart, address);
      const id = breakpoints.add({ address, ...space, condition });
      return () => breakpoints.delete(id);
    }
    const { kind, address, length, physical = false } = point;
    const id = watchpoints.add({
      address,
      length,
      on: kind,
      physical,
      ...space,
      hit: (hit) => seen(n, hit.hart, hit.address),
    });
    return () => watchpoints.delete(id);
  });
  return () => {
    for (const one of undo) one();
  };
}

/** A debugger's break- and watchpoints on a core machine, and what a stop of the machine means for it. */

import type { Machine } from '../machine/machine.ts';
import type { Stop } from '../machine/options.ts';
import { isEdgeOf } from '../machine/user-edges.ts';
import { GdbError } from './errors.ts';
import type { DebugPoint, DebugStop } from './target.ts';

export class DebugPoints {
  private readonly machine: Machine;
  /** By what they are: the point, and the machine's name for it. */
  private readonly set = new Map<string, { readonly point: DebugPoint; readonly id: number }>();

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** From now on these are set, and no others of this debugger's. Those that stay cost nothing. Throws `GdbError`. */
  replace(points: readonly DebugPoint[]): void {
    const wanted = new Map(points.map((point) => [keyOf(point), point]));
    for (const [key, { point, id }] of this.set) {
      if (wanted.has(key)) continue;
      this.set.delete(key);
      if (point.kind === 'break') this.machine.breakpoints.delete(id);
      else this.machine.watchpoints.delete(id);
    }
    for (const [key, point] of wanted) {
      if (!this.set.has(key)) this.set.set(key, { point, id: this.add(point) });
    }
  }

  private add(point: DebugPoint): number {
    try {
      if (point.kind === 'break') {
        const { address, program } = point;
        const condition = program && { condition: isEdgeOf(this.machine.hartSet, program) };
        return this.machine.breakpoints.add({ address, ...condition });
      }
      const { address, length, kind } = point;
      return this.machine.watchpoints.add({ address, length, on: kind });
    } catch (error) {
      throw new GdbError((error as Error).message);
    }
  }

  /** What a stop of the machine is to the debugger; undefined when it is not about its points. */
  stopOf(stop: Stop): DebugStop | undefined {
    if (stop.reason === 'breakpoint') {
      const point = this.hit(stop.ids, true);
      return point && { kind: 'breakpoint', hart: stop.hart, point };
    }
    if (stop.reason !== 'watchpoint') return undefined;
    const point = this.hit(stop.ids, false);
    // A device's write has no hart; it comes during the turn of one.
    const hart = stop.hart ?? this.machine.schedule.hart;
    return point && { kind: 'watchpoint', hart, point, address: stop.address };
  }

  /** The first of the points that are among these; break- and watchpoints are numbered apart. */
  private hit(ids: readonly number[], breaks: boolean): DebugPoint | undefined {
    for (const { point, id } of this.set.values()) {
      if ((point.kind === 'break') === breaks && ids.includes(id)) return point;
    }
    return undefined;
  }
}

function keyOf(point: DebugPoint): string {
  if (point.kind !== 'break') return `${point.kind} ${point.address} ${point.length}`;
  const { address, program } = point;
  return program ? `edge ${address} ${program.scratch} ${program.tables}` : `break ${address}`;
}

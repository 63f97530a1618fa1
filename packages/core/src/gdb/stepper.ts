/**
 * One step of one hart of a core machine, as a debugger makes it: the machine runs, by its schedule, until that hart has retired an
 * instruction or taken a trap. Whoever runs the machine asks `limit` before each run and `over` behind it.
 */

import type { Machine } from '../machine/machine.ts';

export class Stepper {
  readonly hart: number;
  private readonly machine: Machine;
  private readonly range: { readonly from: bigint; readonly to: bigint } | undefined;
  private before: bigint;

  /** `range`: on, a step at a time, while the hart's pc is in it. */
  constructor(machine: Machine, hart: number, range?: { readonly from: bigint; readonly to: bigint }) {
    this.machine = machine;
    this.hart = hart;
    this.range = range;
    this.before = machine.steps(hart);
  }

  /** How many steps the next run may make, so that the hart makes no more than one. */
  limit(): number {
    const { machine, hart } = this;
    const { schedule } = machine;
    // At a boundary the turn may be that of any hart that can run: one step shows whose it is.
    if (schedule.atBoundary || schedule.hart === hart) return 1;
    machine.interrupt(); // at the end of the other's slice, so that the next one is not begun
    return schedule.left;
  }

  /** Whether the step is made; a range is gone on with. */
  over(): boolean {
    const { machine, hart, range } = this;
    const steps = machine.steps(hart);
    if (steps === this.before) return false;
    this.before = steps;
    const pc = machine.hartSet.get(hart, 'pc');
    return !range || pc < range.from || pc >= range.to;
  }
}

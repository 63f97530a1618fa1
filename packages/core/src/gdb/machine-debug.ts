/**
 * A debugger's commands on a core machine that somebody else runs: `begin` a command, ask `limit` before each run, and `ran` what came of
 * it, until that is a stop for the debugger.
 */

import type { Machine } from '../machine/machine.ts';
import type { Exit, Stop } from '../machine/options.ts';
import { DebugPoints } from './points.ts';
import { Stepper } from './stepper.ts';
import type { DebugStop, Resume } from './target.ts';

export class MachineDebug {
  private readonly machine: Machine;
  private readonly points: DebugPoints;
  private stepper: Stepper | undefined;

  constructor(machine: Machine) {
    this.machine = machine;
    this.points = new DebugPoints(machine);
  }

  /** Where the machine stands, when nothing has happened. */
  get here(): DebugStop {
    const { machine } = this;
    return machine.exit ? exitStop(machine, machine.exit) : { kind: 'step', hart: machine.schedule.hart };
  }

  /** A command forwards. Throws `GdbError` for a point that cannot be set. */
  begin({ kind, hart, range, points }: Resume): void {
    this.points.replace(points);
    this.stepper = kind === 'step' ? new Stepper(this.machine, hart, range) : undefined;
  }

  /** How many steps the next run may make; `most` without a reason for fewer. */
  limit(most: number): number {
    return this.stepper ? Math.min(most, this.stepper.limit()) : most;
  }

  /** A run has come back: the stop that the debugger hears of, if it is one. */
  ran(stop: Stop): DebugStop | undefined {
    const { machine, stepper } = this;
    if (stop.reason === 'exit') return exitStop(machine, stop.exit);
    const hit = this.points.stopOf(stop);
    if (hit) return hit;
    return stepper?.over() ? { kind: 'step', hart: stepper.hart } : undefined;
  }

  /** The command is over because somebody says so. */
  interrupted(): DebugStop {
    return { ...this.here, kind: 'interrupted' };
  }

  /** The debugger is gone. */
  end(): void {
    this.points.replace([]);
  }
}

export function exitStop(machine: Machine, { code }: Exit): DebugStop {
  return { kind: 'exit', hart: machine.schedule.hart, code };
}

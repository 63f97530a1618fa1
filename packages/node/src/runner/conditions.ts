/**
 * What a machine may be run until, and the watch over it in the machine's thread. Texts and memory are looked at where slices end, limits
 * to the step: what is found, and where, does not depend on how long the host's runs are.
 */

import type { Position } from '@braid/core/machine/log.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { TextWatch } from './searched-text.ts';

/** A program by its name in the machine: the number of the call that started it, or the name that a clone inherited. */
export type ProgramKey = number | string;

/** As plain data. The first that holds ends the run; the end of the machine and a kernel's panic always do. */
export interface Conditions {
  /** Console output from now on. */
  readonly console?: string | RegExp;
  /** Output of a program from now on. */
  readonly output?: { readonly program: ProgramKey; readonly pattern: string | RegExp };
  /** A program is over. */
  readonly exited?: ProgramKey;
  /** Bytes of guest-physical memory are these, or (`differs`) not these. */
  readonly memory?: { readonly address: bigint; readonly bytes: Uint8Array; readonly differs: boolean };
  /** A guest program gave the hint `braid_done`. */
  readonly done?: boolean;
  /** Every hart waits, and nothing is due for so many ns of guest time. */
  readonly idle?: bigint;
  /** So many steps of all harts from here. */
  readonly steps?: bigint;
  /** So many ns of guest time from here. */
  readonly guestTime?: bigint;
  /** The first chance to stop so many ns of guest time from here. */
  readonly tick?: bigint;
}

export type Found =
  /** With what matched. */
  | { readonly by: 'console' | 'output'; readonly match: string }
  | { readonly by: 'exited' | 'memory' | 'steps' | 'guestTime' | 'tick' | 'idle' }
  | { readonly by: 'done'; readonly status: number }
  | { readonly by: 'exit'; readonly exit: Exit }
  | { readonly by: 'panic'; readonly message: string };

/** What ended a run, where, and how far that is from its start. */
export type Reached = Found & {
  readonly position: Position;
  readonly steps: bigint;
  /** In ns. */
  readonly guestTime: bigint;
};

export class Watch {
  private readonly conditions: Conditions;
  private readonly from: { readonly steps: bigint; readonly time: bigint };
  private readonly console: TextWatch | undefined;
  private readonly output: TextWatch | undefined;
  private readonly memory: Uint8Array;
  private exited = false;

  constructor(conditions: Conditions, machine: Machine) {
    this.conditions = conditions;
    this.from = { steps: machine.totalSteps, time: machine.now };
    const { console, output, memory } = conditions;
    if (console !== undefined) this.console = new TextWatch(console);
    if (output) this.output = new TextWatch(output.pattern);
    this.memory = new Uint8Array(memory?.bytes.length ?? 0);
  }

  // --- What happens in the machine. True: to be looked at where the slice ends.

  seeConsole(bytes: Uint8Array): boolean {
    this.console?.see(bytes);
    return this.console !== undefined;
  }

  seeOutput(program: ProgramKey, bytes: Uint8Array): boolean {
    if (this.conditions.output?.program !== program) return false;
    this.output!.see(bytes);
    return true;
  }

  seeExit(program: ProgramKey): boolean {
    if (this.conditions.exited !== program) return false;
    this.exited = true;
    return true;
  }

  // --- Whether it is over

  /** What holds where the machine stands. */
  holds(machine: Machine): Found | undefined {
    if (machine.schedule.atBoundary) {
      if (this.exited) return { by: 'exited' };
      const output = this.output?.match();
      if (output !== undefined) return { by: 'output', match: output };
      const console = this.console?.match();
      if (console !== undefined) return { by: 'console', match: console };
      if (this.conditions.memory && this.inMemory(machine, this.conditions.memory)) return { by: 'memory' };
    }
    const { steps, guestTime, tick } = this.conditions;
    if (steps !== undefined && machine.totalSteps - this.from.steps >= steps) return { by: 'steps' };
    if (guestTime !== undefined && machine.now - this.from.time >= guestTime) return { by: 'guestTime' };
    if (tick !== undefined && machine.now - this.from.time >= tick) return { by: 'tick' };
    return undefined;
  }

  private inMemory(machine: Machine, { address, bytes, differs }: NonNullable<Conditions['memory']>): boolean {
    const { memory } = this;
    if (!machine.ram.read(Number(address), memory)) return false;
    return bytes.every((byte, n) => memory[n] === byte) !== differs;
  }

  hint(status: number): Found | undefined {
    return this.conditions.done ? { by: 'done', status } : undefined;
  }

  /** Every hart waits until a guest time, or for ever. */
  idle(machine: Machine, until: bigint | undefined): Found | undefined {
    if (machine.backlog > 0) return undefined;
    const { idle, guestTime } = this.conditions;
    if (until === undefined || (idle !== undefined && until - machine.now >= idle)) return { by: 'idle' };
    if (guestTime !== undefined && until - this.from.time > guestTime) return { by: 'guestTime' };
    return undefined;
  }

  // --- How far the next run may go

  /** Steps of all harts beyond which the next run may not go. */
  stepLimit(machine: Machine): bigint | undefined {
    const total = machine.totalSteps;
    const { steps, guestTime, tick, memory } = this.conditions;
    const limits: bigint[] = [];
    if (steps !== undefined) limits.push(this.from.steps + steps);
    if (memory || guestTime !== undefined || tick !== undefined) {
      // A slice may begin with a jump over an idle gap, so one step of it shows the time. An interruption would make none.
      if (machine.schedule.atBoundary) limits.push(total + 1n);
      else machine.interrupt();
    }
    if (limits.length === 0) return undefined;
    return limits.reduce((first, limit) => (limit < first ? limit : first));
  }

  /** The guest time beyond which the next run may not go. */
  get timeLimit(): bigint | undefined {
    const { guestTime, tick } = this.conditions;
    const time = guestTime !== undefined && tick !== undefined && tick < guestTime ? tick : (guestTime ?? tick);
    return time === undefined ? undefined : this.from.time + time;
  }

  reached(machine: Machine, found: Found): Reached {
    const { steps, time } = this.from;
    return {
      ...found,
      position: machine.position,
      steps: machine.totalSteps - steps,
      guestTime: machine.now - time,
    };
  }
}

/** Who waits for the machine, and for what: a number of steps, a position, a text of the console, an answer, the end. */

import type { Position } from '@braid/core/machine/log.ts';
import { comparePositions } from '@braid/core/machine/log.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import type { BraidError } from '../errors.ts';
import type { CallName } from '../pool/protocol.ts';
import type { Found, Watch } from './conditions.ts';
import type { TextWatch } from './searched-text.ts';

/** Somebody who waits for the machine. */
export interface Wait {
  readonly id: number;
  readonly name: CallName;
  /** Ends the wait when the machine ends; without it, that is an error. */
  ended?(exit: Exit): unknown;
  /** Steps of all harts at which it is over. */
  readonly until?: bigint;
  readonly position?: Position;
  /** It is over where console output has this in it. */
  readonly pattern?: TextWatch;
  /** Input may come from outside. */
  readonly live?: boolean;
  /** Idle gaps are not jumped over on account of this one. */
  readonly passive?: boolean;
  /** It is over when one of these holds. */
  watch?: Watch;
  /** They are a limit: the error that it ends with when one holds, if that one counts. */
  exceeded?(found: Found): BraidError | undefined;
  /** The machine stands still then, whoever else waits. */
  readonly hold?: boolean;
}

export class Waits {
  private readonly all = new Map<number, Wait>();

  get size(): number {
    return this.all.size;
  }

  /** Whether idle gaps are jumped over on account of somebody. */
  get active(): boolean {
    return [...this.all.values()].some((wait) => !wait.passive);
  }

  /** Whether somebody waits who may be helped from outside. */
  get live(): boolean {
    return [...this.all.values()].some((wait) => wait.live);
  }

  /** Those with conditions. */
  get watched(): (Wait & { readonly watch: Watch })[] {
    return [...this.all.values()].filter((wait) => wait.watch !== undefined) as (Wait & { readonly watch: Watch })[];
  }

  has(id: number): boolean {
    return this.all.has(id);
  }

  add(wait: Wait): void {
    this.all.set(wait.id, wait);
  }

  /** From here on a wait is over when conditions hold. */
  watch(id: number, watch: Watch): void {
    const wait = this.all.get(id);
    if (wait) wait.watch = watch;
  }

  delete(id: number): void {
    this.all.delete(id);
  }

  /** Ends the waits for which `over` holds; which they were. */
  private take(over: (wait: Wait) => unknown): Wait[] {
    const taken = [...this.all.values()].filter(over);
    for (const { id } of taken) this.all.delete(id);
    return taken;
  }

  /** Those of a call. */
  takeNamed(name: CallName): Wait[] {
    return this.take((wait) => wait.name === name);
  }

  takeAll(): Wait[] {
    return this.take(() => true);
  }

  /** Those that the machine's end is an answer to. */
  takeEnded(): Wait[] {
    return this.take((wait) => wait.ended);
  }

  /** Those whose goal is where the machine stands. */
  takeReached(machine: Machine): Wait[] {
    const total = machine.totalSteps;
    return this.take(
      ({ until, position }) =>
        until === total || (position !== undefined && comparePositions(position, machine.position) <= 0),
    );
  }

  /** Shows console output to those that look for a pattern; whether there are any. */
  see(bytes: Uint8Array): boolean {
    let some = false;
    for (const { pattern } of this.all.values()) {
      pattern?.see(bytes);
      some ||= pattern !== undefined;
    }
    return some;
  }

  /** Those whose pattern is there, where a slice ends. */
  takeMatched(): Wait[] {
    return this.take(({ pattern }) => pattern?.match() !== undefined);
  }

  /** The steps of all harts beyond which the next run may not go; a position in a later slice ends the run with its slice. */
  stepLimit(machine: Machine): bigint | undefined {
    const total = machine.totalSteps;
    const here = machine.position;
    let end: bigint | undefined;
    const consider = (steps: bigint) => {
      if (end === undefined || steps < end) end = steps;
    };
    for (const { until, position, watch } of this.all.values()) {
      if (until !== undefined) consider(until);
      const limit = watch?.stepLimit(machine);
      if (limit !== undefined) consider(limit);
      if (!position) continue;
      if (position.round === here.round && position.hart === here.hart) {
        consider(total + BigInt(position.step - here.step));
      } else if (here.step === 0) consider(total + 1n);
      else machine.interrupt(); // no further than the next slice
    }
    return end;
  }

  /** The guest time beyond which the next run may not go. */
  get timeLimit(): bigint | undefined {
    let end: bigint | undefined;
    for (const { watch } of this.all.values()) {
      const limit = watch?.timeLimit;
      if (limit !== undefined && (end === undefined || limit < end)) end = limit;
    }
    return end;
  }
}

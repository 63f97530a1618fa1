/** How a machine ends, and that it is said, once: it is over, its kernel has panicked, it has halted. */

import type { Machine } from '@braid/core/machine/machine.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { BraidError } from '../errors.ts';
import type { Found } from './conditions.ts';
import { type PanicState, PanicWatch } from './panic.ts';
import type { Reports } from './reports.ts';

export class Ending {
  private readonly reports: Reports;
  private readonly watch = new PanicWatch();
  private exitSaid = false;
  private haltSaid = false;

  constructor(reports: Reports) {
    this.reports = reports;
  }

  /** What the kernel said of its panic, which is certain. */
  get panic(): string | undefined {
    return this.watch.message;
  }

  get panicState(): PanicState {
    return this.watch.state;
  }

  /** A machine from elsewhere, where its end may have been said. */
  arrive(panic: PanicState, exited: boolean): void {
    this.watch.state = panic;
    this.exitSaid = exited;
  }

  /** The machine is where it was before, or is another one. */
  renew(): void {
    this.exitSaid = false;
    this.haltSaid = false;
    this.watch.message = undefined;
    this.watch.clear();
  }

  /** Somebody waits: should the machine halt, he is to hear of it. */
  awaited(): void {
    this.haltSaid = false;
  }

  /** Takes console output, a byte a character, of a machine that has made so many steps. */
  see(text: string, steps: () => bigint): void {
    this.watch.see(text, steps);
  }

  /** The steps at which a machine whose kernel may have panicked stops to be looked at. */
  get stepLimit(): bigint | undefined {
    return this.watch.stepLimit;
  }

  /** Looks at a machine between two runs; true when it has just become certain that its kernel has panicked. */
  panics(machine: Machine): boolean {
    return this.watch.look(machine);
  }

  /** Every hart rests: a kernel that has panicked does not. */
  rests(): void {
    this.watch.clear();
  }

  sayHalt(): void {
    if (this.haltSaid) return;
    this.haltSaid = true;
    this.reports.say({ type: 'halt' });
  }

  sayPanic(): void {
    if (this.panic !== undefined) this.reports.say({ type: 'panic', message: this.panic });
  }

  /** `before` is done first, once. */
  sayExit(exit: Exit, before: () => void): void {
    if (this.exitSaid) return;
    this.exitSaid = true;
    if (exit.kind === 'reboot') this.watch.reset();
    else this.watch.clear();
    this.sayPanic();
    before();
    this.reports.say({ type: 'exit', exit });
  }

  /** What a wait for conditions finds at the end. */
  found(exit: Exit): Found {
    return this.panic === undefined ? { by: 'exit', exit } : { by: 'panic', message: this.panic };
  }

  /** For whoever waits for something else. */
  error(exit: Exit): BraidError {
    return this.panic === undefined ? exitedError(exit) : this.panicError;
  }

  get panicError(): BraidError {
    return new BraidError('ERR_BRAID_PANIC', `the guest's kernel panicked: ${this.panic}`);
  }
}

export function exitedError(exit: Exit): BraidError {
  const how = {
    poweroff: 'it was powered off',
    reboot: 'it asked for a reboot',
    fail: 'it reported a failure',
    tohost: 'its program ended',
  };
  return new BraidError('ERR_BRAID_EXITED', `the machine is over: ${how[exit.kind]} (code ${exit.code})`, { exit });
}

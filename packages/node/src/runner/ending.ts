/** How a machine ends, and that it is said, once: it is over, its kernel has panicked, it has halted. */

import type { Exit } from '@braid/core/machine/options.ts';
import { BraidError } from '../errors.ts';
import type { Found } from './conditions.ts';
import { PanicWatch } from './panic.ts';
import type { Reports } from './reports.ts';

/** Steps that a kernel gets to say why it panicked. */
const PANIC_STEPS = 5_000_000n;

export class Ending {
  private readonly reports: Reports;
  private readonly watch = new PanicWatch();
  /** After a panic, the steps at which the kernel has had its say. */
  private lastSteps: bigint | undefined;
  private exitSaid = false;
  private haltSaid = false;

  constructor(reports: Reports) {
    this.reports = reports;
  }

  /** What the kernel said of its panic. */
  get panic(): string | undefined {
    return this.watch.message;
  }

  /** A machine from elsewhere, where its end may have been said. */
  arrive(panic: string | undefined, exited: boolean): void {
    this.watch.message = panic;
    this.exitSaid = exited;
  }

  /** The machine is where it was before, or is another one. */
  renew(): void {
    this.exitSaid = false;
    this.haltSaid = false;
    this.lastSteps = undefined;
  }

  /** Somebody waits: should the machine halt, he is to hear of it. */
  awaited(): void {
    this.haltSaid = false;
  }

  /** Takes console output, a byte a character; the message of a panic, if it is complete now. */
  see(text: string, steps: () => bigint): string | undefined {
    if (!this.watch.see(text)) return undefined;
    this.lastSteps = steps() + PANIC_STEPS;
    return this.panic;
  }

  /** The steps at which a machine is stopped, if its kernel has panicked. */
  get stepLimit(): bigint | undefined {
    return this.lastSteps;
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

/** Those who hear of a machine's accesses to memory, all of the same ones: no part of the state. */

import type { AccessKind, AccessTrace } from '../engine/engine.ts';

export class AccessTraces implements AccessTrace {
  /** What the engine asks: nothing while nobody listens. */
  current: AccessTrace | undefined;
  private readonly listeners = new Set<AccessTrace>();
  private readonly changed: () => void;

  /** `changed` has the machine's shadow tables emptied, so that every page is touched anew. */
  constructor(changed: () => void) {
    this.changed = changed;
  }

  add(trace: AccessTrace): void {
    this.listeners.add(trace);
    this.renew();
  }

  delete(trace: AccessTrace): void {
    if (this.listeners.delete(trace)) this.renew();
  }

  /** A listener would give other answers than before: every page is touched anew. */
  renew(): void {
    const [first, ...others] = this.listeners;
    this.current = others.length > 0 ? this : first;
    this.changed();
  }

  /** An entry is made where all of them allow it; so one may be told more than its own answers ask for. */
  touched(low: number, high: number, page: number, access: AccessKind, size: number): boolean {
    let mayFill = true;
    for (const listener of this.listeners) if (!listener.touched(low, high, page, access, size)) mayFill = false;
    return mayFill;
  }
}

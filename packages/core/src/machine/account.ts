/**
 * What a run costs the host besides its steps: bytes that it sends outside, and work that single instructions cause.
 *
 * Everything that leaves the machine and everything that an instruction has the host do is charged here. When a run has used up its
 * allowance it ends behind the instruction under way, as at a limit of steps: nothing that the guest can see depends on it. Whoever
 * runs the machine takes away what it has sent, looks at its messages, and runs it again when it likes.
 */

/** What one run may cost. A run goes beyond it by what one instruction can cost at most. */
export interface Allowance {
  /** Bytes held for the host, those of bookkeeping included. */
  readonly bytes: number;
  /** Units of work: about a nanosecond of the host each. */
  readonly work: number;
}

/** Units of work, measured on a host of 2020 and rounded up. */
export const WORK = {
  /** A load or store that a device answers. */
  access: 200,
  /** A call of the firmware in the monitor, a request of a test program (HTIF), a hint. */
  call: 2000,
  /** An idle gap that the agent's client ends. */
  jump: 10_000,
  /** A change of physical memory protection, which drops what was derived from it. */
  protection: 20_000,
} as const;

/** What a piece of output takes besides its bytes. */
export const PIECE = 128;

const UNLIMITED: Allowance = { bytes: Number.POSITIVE_INFINITY, work: Number.POSITIVE_INFINITY };

export class Account {
  /** Of each run. Without one, runs end for other reasons only. */
  allowance: Allowance = UNLIMITED;
  private readonly exhausted: () => void;
  private held = 0;
  private done = 0;

  /** `exhausted` is called when an allowance is used up; it ends the run behind the instruction under way. */
  constructor(exhausted: () => void) {
    this.exhausted = exhausted;
  }

  /** Bytes that this run has sent, those of bookkeeping included. */
  get bytes(): number {
    return this.held;
  }

  /** Units of work that this run has done. */
  get work(): number {
    return this.done;
  }

  get spent(): boolean {
    return this.held > this.allowance.bytes || this.done > this.allowance.work;
  }

  /** A run begins. */
  begin(): void {
    this.held = 0;
    this.done = 0;
  }

  /** The machine has sent a piece of so many bytes. */
  sent(bytes: number): void {
    this.held += bytes + PIECE;
    this.worked(bytes);
  }

  /** The host has done something for the guest. */
  worked(units: number): void {
    this.done += units;
    if (this.spent) this.exhausted();
  }
}

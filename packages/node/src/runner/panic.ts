/**
 * Whether the guest's kernel has panicked. What a console says is the guest's text, which any program can write: it makes a suspicion and
 * no more. A kernel that has panicked runs no program again, and one hart spins until the machine is reset; so a hart in user mode, a
 * system call, or all harts at rest disprove it.
 *
 * The machine is looked at every `LOOK_STEPS` steps while there is a suspicion, and only then.
 */

import type { Machine } from '@braid/core/machine/machine.ts';
import { escapeGuestText } from '@braid/core/text/escape.ts';

const PANIC = 'Kernel panic - not syncing';
const MESSAGE_LIMIT = 300;
const LOOK_STEPS = 20_000n;
/** More than a kernel does for a program at a stretch: a program that ran would have been seen. */
const PROOF_STEPS = 100_000_000n;
/** Cause of a trap: a call from user mode (privileged specification, table of scause). */
const USER_CALL = 8n;

/** What is known of a panic, for another thread. */
export interface PanicState {
  /** What the kernel said of a panic that is certain. */
  readonly message: string | undefined;
  readonly suspicion: Suspicion | undefined;
}

interface Suspicion {
  readonly message: string;
  /** Steps of the machine at which it is looked at next, and at which the suspicion is proved. */
  readonly next: bigint;
  readonly proved: bigint;
  /** Harts whose last trap was a system call, a bit each: another one that comes is of a program that runs. */
  readonly calls: number;
}

export class PanicWatch {
  /** What the kernel said of its panic. */
  message: string | undefined;
  private suspicion: Suspicion | undefined;
  private recent = '';

  get state(): PanicState {
    return { message: this.message, suspicion: this.suspicion };
  }

  set state({ message, suspicion }: PanicState) {
    this.message = message;
    this.suspicion = suspicion;
  }

  /** Takes console output, a byte a character, of a machine that has made so many steps. */
  see(text: string, steps: () => bigint): void {
    this.recent += text;
    const at = this.recent.indexOf(PANIC);
    const known = this.message !== undefined || this.suspicion !== undefined;
    if (at >= 0 && !known) {
      const end = this.recent.indexOf('\n', at);
      if (end < 0 && this.recent.length - at < MESSAGE_LIMIT) return;
      const line = this.recent.slice(at + PANIC.length, end < 0 ? undefined : end);
      const message = escapeGuestText(withoutColon(line).trim(), { limit: MESSAGE_LIMIT });
      const now = steps();
      this.suspicion = { message, next: now + LOOK_STEPS, proved: now + PROOF_STEPS, calls: -1 };
    }
    this.recent = at < 0 ? this.recent.slice(-PANIC.length) : '';
  }

  /** Steps at which a machine stops to be looked at. */
  get stepLimit(): bigint | undefined {
    return this.suspicion?.next;
  }

  /** Looks at a machine between two runs; true when its panic has just become certain. */
  look(machine: Machine): boolean {
    const { suspicion } = this;
    const steps = machine.totalSteps;
    if (!suspicion || steps < suspicion.next) return false;
    const calls = callsOf(machine);
    if (runsPrograms(machine) || (calls & ~suspicion.calls) !== 0) this.suspicion = undefined;
    else if (steps >= suspicion.proved) return this.confirm();
    else this.suspicion = { ...suspicion, next: steps + LOOK_STEPS, calls };
    return false;
  }

  /** The machine was reset, which is how a panic may end; true when that makes it certain. */
  reset(): boolean {
    return this.suspicion !== undefined && this.confirm();
  }

  /** The machine rests, or has ended in another way, or is another one. */
  clear(): void {
    this.suspicion = undefined;
    this.recent = '';
  }

  private confirm(): boolean {
    this.message = this.suspicion!.message;
    this.suspicion = undefined;
    return true;
  }
}

function withoutColon(line: string): string {
  return line.startsWith(':') ? line.slice(1) : line;
}

function callsOf({ hartSet, harts }: Machine): number {
  let calls = 0;
  for (let hart = 0; hart < harts; hart++) if (hartSet.get(hart, 'scause') === USER_CALL) calls |= 1 << hart;
  return calls;
}

/** Whether a hart is in user mode, or all harts wait. */
function runsPrograms({ hartSet, harts }: Machine): boolean {
  let waiting = 0;
  for (let hart = 0; hart < harts; hart++) {
    if (hartSet.get(hart, 'privilege') === 0n) return true;
    if (hartSet.get(hart, 'waiting') !== 0n) waiting++;
  }
  return waiting === harts;
}

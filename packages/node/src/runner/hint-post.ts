/** The hints of a guest, in the machine's thread: marks are noted at once, the others wait for whoever hears them, if anybody does. */

import type { Hint } from '@braid/core/machine/hints.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import { canPatch } from '@braid/core/machine/patch.ts';
import type { HintAnswer, HintState } from '../pool/protocol.ts';

export class HintPost {
  /** The hint that waits for its answer. The machine must not run before. */
  private pending: Hint | undefined;
  private heard = false;
  private readonly report: (hint: Hint) => void;

  constructor(report: (hint: Hint) => void) {
    this.report = report;
  }

  get state(): HintState {
    return { heard: this.heard, pending: this.pending };
  }

  set state({ heard, pending }: HintState) {
    this.heard = heard;
    this.pending = pending;
  }

  /** Whether the machine waits for an answer. */
  get waiting(): boolean {
    return this.pending !== undefined;
  }

  /** From now on somebody hears of hints, or nobody: what nobody answers has the result 0. */
  hear(heard: boolean): undefined {
    this.heard = heard;
    if (!heard) this.pending = undefined;
  }

  /** The machine has become another one, that stands at this hint. */
  become(hint: Hint | undefined): void {
    this.pending = this.heard ? hint : undefined;
  }

  /** A hint has ended the machine's run. */
  take(machine: Machine, hint: Hint): void {
    if (hint.kind === 'mark') machine.input({ kind: 'hint', hart: hint.hart, value: 1n });
    else if (this.heard) this.pending = hint;
    else return;
    this.report(hint);
  }

  answer(machine: Machine, { value, writes }: HintAnswer): boolean {
    const hint = this.pending;
    if (!hint || (writes && !canPatch(machine, hint.hart, writes))) return false;
    this.pending = undefined;
    machine.input({ kind: 'hint', hart: hint.hart, value, ...(writes ? { writes } : {}) });
    return true;
  }
}

/** The original's side of a branch that the host has chosen: its stops at the fork point and at the decision. */

import { instructionOf, isTaken } from '@braid/core/branch/condition.ts';
import { type Activation, activationOf, type Decision, isThread, stackPointer } from '@braid/core/branch/decision.ts';
import type { PathResult } from '@braid/core/branch/path.ts';
import { type Refusal, type Taken, takeOver } from '@braid/core/branch/take-over.ts';
import { PRIVILEGE } from '@braid/core/hart/state.ts';
import type { Machine } from '@braid/core/machine/machine.ts';

/** Which way the original goes, on which hart. */
export interface Decided {
  readonly hart: number;
  /** 0: the branch is taken. */
  readonly outcome: 0 | 1;
}

export class DecisionWatch {
  private readonly machine: Machine;
  private readonly decision: Decision;
  private breakpoint: number;
  private activation: Activation | undefined;
  private decided: Decided | undefined;

  /** `satp`: only in this address space. */
  constructor(machine: Machine, decision: Decision, satp: bigint | undefined) {
    this.machine = machine;
    this.decision = decision;
    this.breakpoint = machine.breakpoints.add({
      address: decision.forkPoint,
      ...(satp === undefined ? {} : { satp }),
      condition: (hart) => Number(machine.hartSet.get(hart, 'privilege')) !== PRIVILEGE.supervisor,
    });
  }

  /** The machine has stopped at breakpoints: where that is, if it is for this. */
  hit(hart: number, ids: readonly number[]): Activation | Decided | undefined {
    if (!ids.includes(this.breakpoint)) return undefined;
    const { machine, decision } = this;
    machine.breakpoints.delete(this.breakpoint);
    const { activation } = this;
    if (activation) {
      const instruction = instructionOf(machine, hart, decision.decisionPoint);
      const taken = isTaken(instruction, (n) => machine.hartSet.getX(hart, n));
      this.decided = { hart, outcome: taken ? 0 : 1 };
      return this.decided;
    }
    const reached = activationOf(machine, hart);
    this.activation = reached;
    const sp = stackPointer(decision, reached, decision.frame.decisionPoint!);
    this.breakpoint = machine.breakpoints.add({
      address: decision.decisionPoint,
      condition: (at) => isThread(machine, at, reached) && machine.hartSet.getX(at, 2) === sp,
    });
    return reached;
  }

  /** Where the machine stands, once it is at the decision. */
  get end(): Decided | undefined {
    return this.decided;
  }

  /** Puts a clone's result into the machine, which stands at the decision, or says why that would not be right. */
  takeOver(result: PathResult, stackBottom: bigint | undefined): Taken | Refusal {
    const { machine, decision, decided } = this;
    if (!decided) return { reason: 'unfinished' };
    return takeOver(machine, decided.hart, decision, result, stackBottom);
  }

  stop(): void {
    this.machine.breakpoints.delete(this.breakpoint);
  }
}

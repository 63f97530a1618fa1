/** What the runtime of a branch goes by: the branch point with its ways, and the activation and thread that it is about. */

import { PRIVILEGE } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';
import type { FunctionFlow } from './flow.ts';
import type { BranchPoint } from './points.ts';
import type { ProgramCode } from './program-code.ts';
import { exitsOf, type Registers, type RegisterUse, registerUse } from './register-use.ts';

/** A branch point, and what its ways do to the registers. */
export interface Decision extends BranchPoint {
  readonly ways: readonly [taken: RegisterUse, notTaken: RegisterUse];
  /** What may be read from the completion on. */
  readonly live: Registers;
  /** Instructions that leave the function: the completions of a branch that completes at `return`. */
  readonly exits: readonly bigint[];
}

/** With the program's code, calls on the ways are looked into; otherwise they count as reading every register of arguments. */
export function decisionOf(flow: FunctionFlow, point: BranchPoint, code?: ProgramCode): Decision {
  return { ...point, ...registerUse(flow, point, code), exits: exitsOf(flow) };
}

export class DecisionError extends Error {
  readonly code = 'ERR_BRAID_DECISION';
  constructor(message: string) {
    super(message);
    this.name = 'DecisionError';
  }
}

/** One activation of the function, in one thread, at the fork point. */
export interface Activation {
  readonly hart: number;
  readonly privilege: bigint;
  /** 0 where nothing is translated. */
  readonly satp: bigint;
  readonly tp: bigint;
  readonly sp: bigint;
}

export function activationOf({ hartSet }: Machine, hart: number): Activation {
  const privilege = hartSet.get(hart, 'privilege');
  return {
    hart,
    privilege,
    satp: privilege === BigInt(PRIVILEGE.machine) ? 0n : hartSet.get(hart, 'satp'),
    tp: hartSet.getX(hart, 4),
    sp: hartSet.getX(hart, 2),
  };
}

/** Whether a hart runs an activation's thread. */
export function isThread({ hartSet }: Machine, hart: number, { privilege, satp, tp, hart: own }: Activation): boolean {
  if (hartSet.get(hart, 'privilege') !== privilege || hartSet.getX(hart, 4) !== tp) return false;
  return privilege === BigInt(PRIVILEGE.machine) ? hart === own : hartSet.get(hart, 'satp') === satp;
}

/** sp in an activation where its distance from the entry is known. */
export function stackPointer({ frame }: Decision, { sp }: Activation, distance: bigint): bigint {
  return BigInt.asUintN(64, sp - frame.forkPoint! + distance);
}

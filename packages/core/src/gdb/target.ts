/** What the server of gdb's protocol debugs: a live machine, or a replay of a recording. */

import type { UserProgram } from '../machine/user-edges.ts';

/** Values by the names that the target description gives them; one that is left out is not known. */
export type RegisterValues = Readonly<Record<string, bigint>>;

/** Virtual addresses, in any address space. */
export type DebugPoint =
  /** With `program` only where a hart stands at an edge of that program, which the address is one of. */
  | { readonly kind: 'break'; readonly address: bigint; readonly program?: UserProgram }
  | { readonly kind: 'write' | 'read' | 'access'; readonly address: bigint; readonly length: number };

export interface DebugStop {
  readonly kind: 'step' | 'breakpoint' | 'watchpoint' | 'interrupted' | 'begin' | 'end' | 'exit';
  readonly hart: number;
  /** What was hit, and at which address the access was. */
  readonly point?: DebugPoint;
  readonly address?: bigint;
  /** Of a machine that is over. */
  readonly code?: number;
}

export interface Resume {
  readonly direction: 'forward' | 'backward';
  readonly kind: 'step' | 'continue';
  /** Of a step: whose. The other harts run meanwhile as the schedule has it. */
  readonly hart: number;
  /** Of a step: on until the hart's pc is outside. */
  readonly range?: { readonly from: bigint; readonly to: bigint };
  readonly points: readonly DebugPoint[];
}

export interface MemoryOptions {
  /** Whose page tables, at its present state. */
  readonly hart: number;
  /** Guest-physical addresses. */
  readonly physical?: boolean;
  /** Another address space than the hart's present one. */
  readonly satp?: bigint;
}

/** A task of the guest's kernel. */
export interface DebugTask {
  /** Its number, which no other task has: at most 2^22, as Linux has it. */
  readonly id: number;
  readonly name: string;
  /** Where it runs. One that does not has the registers that its switch has left: ra, sp, s0 to s11, and pc, where it goes on. */
  readonly hart?: number;
  readonly registers?: RegisterValues;
  readonly satp?: bigint;
}

export interface DebugTarget {
  readonly harts: number;
  /** Whether it runs backwards. */
  readonly reversible: boolean;
  /** Whether registers and memory may be changed. */
  readonly writable: boolean;
  /** The debugger is there: the target stands still from now on, but for `resume`. Where it stands. */
  attach(): Promise<DebugStop>;
  /** The debugger is gone: the target goes on as it did before. */
  detach(): Promise<void>;
  registers(hart: number): Promise<RegisterValues>;
  setRegister(hart: number, name: string, value: bigint): Promise<void>;
  /** What is there, up to the first byte that is not in RAM. */
  read(address: bigint, length: number, options: MemoryOptions): Promise<Uint8Array>;
  write(address: bigint, bytes: Uint8Array, options: MemoryOptions): Promise<void>;
  /** Runs until something happens; `signal` ends it early, as `interrupted`. */
  resume(how: Resume, signal: AbortSignal): Promise<DebugStop>;
  /** Of a target that runs backwards: the way back to where it stands now. */
  remember?(): Promise<() => Promise<void>>;
  /** Carries out a command of a person, and says what came of it. Throws `GdbError`. */
  monitor(words: readonly string[]): Promise<string>;
  /** What `monitor help` says of the commands, a line each: what to type, and what it does. */
  readonly commands: readonly (readonly [string, string])[];
  /** The tasks of the guest's kernel, where they are known. */
  tasks?(): Promise<readonly DebugTask[]>;
}

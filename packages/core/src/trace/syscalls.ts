/**
 * The system calls of a machine's processes, as strace shows them, taken from outside while somebody runs the machine forwards: a
 * live one, or a recording's long after.
 *
 * A call is noted where its trap enters the kernel and told when the task goes back to its program, so calls are told in the order
 * of their ends. Each task has one call under way at most, whichever hart it goes on with, so they are kept by task. How a call ends is
 * told by where the program goes on:
 *
 * ```text
 *   behind the ecall             it has returned a0
 *   at the ecall                 it is made again (a signal came and was ignored, or its handler wants that)
 *   at a signal's handler        the stack holds where it would have gone on, and its result
 *   elsewhere                    execve: another program; rt_sigreturn: what the signal had interrupted
 *   nowhere                      exit, or the task was killed
 * ```
 *
 * Costs some microseconds of host time for each trap of a program, and more for calls that are shown. Memory: the calls under way.
 */

import { asComm } from '../linux/comm.ts';
import { syscallName } from '../linux/syscall-names.ts';
import type { Breakpoint } from '../machine/breakpoints.ts';
import type { Machine } from '../machine/machine.ts';
import {
  type Analysis,
  GuestMemory,
  type Moment,
  momentInside,
  type SymbolAddresses,
  type TaskIdentity,
  type TaskReader,
} from './analysis.ts';
import { TraceError } from './errors.ts';
import { deliveredAt, interruptedAt, type SignalInfo } from './signals.ts';
import { type ArgumentLimits, argumentsAtCall, argumentsAtReturn, type ReadMemory } from './syscall-arguments.ts';
import { findKernelEdges, type KernelEdges, UserEdges } from './user-edges.ts';

/** Whose calls are shown. All when nothing is given; else those of tasks that one of the rules names. */
export interface TaskFilter {
  readonly pids?: readonly number[];
  /** Names of programs as the kernel has them: 15 bytes. */
  readonly names?: readonly string[];
  /** Also what tasks that are shown have made since. */
  readonly follow?: boolean;
}

export interface SyscallOptions {
  /** Who the tasks are. */
  readonly tasks: TaskReader;
  /** Called with what there is to tell, in the order in which it becomes known. */
  readonly tell: (event: SyscallEvent) => void;
  readonly filter?: TaskFilter;
  /** Names of calls; all unless given. */
  readonly calls?: readonly string[];
  /** With `do_exit` the ends of tasks are told too; with `wake_up_new_task` what a task makes is followed from its first call on. */
  readonly symbols?: SymbolAddresses;
  /** Where the kernel's edges are, when the trace begins before it is up. */
  readonly edges?: KernelEdges;
  /** Bytes shown of a string (32), and elements of an array (32), unless given. */
  readonly limits?: Partial<ArgumentLimits>;
}

/** Which task did something, on which hart. */
export interface Doer extends TaskIdentity {
  readonly hart: number;
}

export type SyscallEnd =
  /** `value` is negative for an error: -1 to -4095. */
  | { readonly kind: 'returned'; readonly value: bigint }
  /** It is made again, as if it had not been made. */
  | { readonly kind: 'restarted' }
  /** The task ended in it. */
  | { readonly kind: 'exited' }
  /** The trace ended first. */
  | { readonly kind: 'unfinished' };

export interface SyscallDone extends Doer {
  readonly kind: 'call';
  readonly number: number;
  readonly name: string;
  /** As the program gave them: a0 to a5. */
  readonly args: readonly bigint[];
  /** As text. */
  readonly shown: readonly string[];
  /** Where the program made it. */
  readonly pc: bigint;
  readonly from: Moment;
  /** Where it ended; for `unfinished` the trace's end. */
  readonly to: Moment;
  readonly end: SyscallEnd;
}

export type SyscallEvent =
  | SyscallDone
  /** A handler is about to run. */
  | (Doer & { readonly kind: 'signal'; readonly at: Moment; readonly signal: SignalInfo })
  /** A task is over: `signal` is 0 where it has called exit. */
  | (Doer & { readonly kind: 'exit'; readonly at: Moment; readonly code: number; readonly signal: number });

interface Pending {
  readonly identity: TaskIdentity;
  readonly hart: number;
  readonly number: number;
  readonly name: string;
  readonly pc: bigint;
  readonly args: readonly bigint[];
  readonly texts: readonly (string | undefined)[];
  readonly from: Moment;
}

const ECALL_FROM_USER = 8n;
const [A0, A1, A2, A7, SP, TP] = [10, 11, 12, 17, 2, 4];
const MAX_ERROR = 4095n;
const MAX_SHOWN = 4096;
/** Tasks that are followed at a time: more than a guest of 3 GiB can have. */
const MAX_FOLLOWED = 2 ** 20;
const DEFAULTS: ArgumentLimits = { string: 32, elements: 32 };

const isError = (value: bigint): boolean => value < 0n && value >= -MAX_ERROR;

export class SyscallTrace implements Analysis {
  private readonly options: SyscallOptions;
  private readonly limits: ArgumentLimits;
  private readonly calls: ReadonlySet<string> | undefined;
  private readonly pids: ReadonlySet<number>;
  private readonly names: ReadonlySet<string>;
  /** Threads that are shown because their makers were. */
  private readonly followed = new Set<number>();
  private readonly pending = new Map<bigint, Pending>();
  /** Where tasks that are in the kernel came from, by task. */
  private readonly cameFrom = new Map<bigint, bigint>();
  private attached: { machine: Machine; memory: GuestMemory; edges: UserEdges; hooks: readonly number[] } | undefined;

  constructor(options: SyscallOptions) {
    this.options = options;
    const clamp = (value: number) => Math.max(0, Math.min(MAX_SHOWN, Math.floor(value)));
    const { string, elements } = { ...DEFAULTS, ...options.limits };
    this.limits = { string: clamp(string), elements: clamp(elements) };
    this.calls = options.calls && new Set(options.calls);
    this.pids = new Set(options.filter?.pids);
    this.names = new Set(options.filter?.names?.map(asComm));
  }

  /** Throws `TraceError` when the machine runs no kernel yet and no edges were given. */
  begin(machine: Machine): void {
    if (this.attached) throw new TraceError('use', 'the trace listens to a machine already: end it first');
    const edges = this.options.edges ?? findKernelEdges(machine);
    const hooks: Breakpoint[] = [];
    const hook = (symbol: string, hear: (hart: number) => void) => {
      const address = this.options.symbols?.address(symbol);
      const condition = (hart: number) => {
        hear(hart);
        return false;
      };
      if (address !== undefined) hooks.push({ address, condition });
    };
    hook('do_exit', (hart) => this.exiting(hart));
    if (this.options.filter?.follow) hook('wake_up_new_task', (hart) => this.made(hart));
    this.attached = {
      machine,
      memory: new GuestMemory(machine),
      edges: new UserEdges(machine, edges, {
        entered: (hart, task) => this.entered(hart, task),
        left: (hart, task) => this.left(hart, task),
      }),
      hooks: machine.breakpoints.addAll(hooks),
    };
  }

  end(machine: Machine): void {
    const { attached } = this;
    if (!attached) return;
    if (attached.machine !== machine) throw new TraceError('use', 'the trace listens to another machine');
    attached.edges.end();
    machine.breakpoints.deleteAll(attached.hooks);
    this.attached = undefined;
    const to = { at: machine.totalSteps, time: machine.now };
    for (const call of this.pending.values()) this.tellCall(call, { kind: 'unfinished' }, to, undefined);
    this.pending.clear();
    this.cameFrom.clear();
    this.followed.clear();
  }

  private entered(hart: number, task: bigint): void {
    const { machine } = this.attached!;
    const { hartSet } = machine;
    const pc = hartSet.get(hart, 'sepc');
    this.cameFrom.set(task, pc);
    // A call without an end: its task is over, and another one is where it was.
    this.abandon(task);
    if (hartSet.get(hart, 'scause') !== ECALL_FROM_USER) return;
    const number = Number(BigInt.asIntN(32, hartSet.getX(hart, A7)));
    const name = syscallName(number);
    if (name === 'rt_sigreturn') {
      // Where it goes on is no news, even if that is the start of another signal's handler.
      const before = interruptedAt(hartSet.getX(hart, SP), this.memoryOf(hart));
      if (before !== undefined) this.cameFrom.set(task, before);
    }
    const identity = this.options.tasks(task, hart);
    if (!identity) return;
    // The name that execve gives a task is known when it has returned.
    if (!this.wants(identity) && !isExec(name)) return;
    const args = Array.from({ length: 6 }, (_, i) => hartSet.getX(hart, A0 + i));
    const texts = this.isShown(name) ? argumentsAtCall(name, args, this.memoryOf(hart), this.limits) : [];
    const call: Pending = { identity, hart, number, name, pc, args, texts, from: momentInside(machine) };
    if (name === 'exit' || name === 'exit_group') this.tellCall(call, { kind: 'exited' }, call.from, undefined);
    else this.pending.set(task, call);
  }

  private left(hart: number, task: bigint): void {
    const { machine } = this.attached!;
    const call = this.pending.get(task);
    const from = this.cameFrom.get(task);
    this.pending.delete(task);
    this.cameFrom.delete(task);
    const { hartSet } = machine;
    const pc = hartSet.get(hart, 'sepc');
    const x = (n: number) => hartSet.getX(hart, n);
    const usual = from === undefined || pc === from || pc === from + 4n;
    if (!call && usual) return;
    const memory = this.memoryOf(hart);
    const delivered = !usual ? deliveredAt({ pc, sp: x(SP), a0: x(A0), a1: x(A1), a2: x(A2) }, memory) : undefined;
    const identity = this.options.tasks(task, hart);
    if (call) this.returned(call, identity, delivered ?? { pc, a0: x(A0) }, momentInside(machine), hart);
    if (!delivered || !identity || !this.wants(identity)) return;
    const at = momentInside(machine);
    for (const signal of delivered.signals) this.options.tell({ kind: 'signal', ...identity, hart, at, signal });
  }

  private returned(
    call: Pending,
    identity: TaskIdentity | undefined,
    { pc, a0 }: { pc: bigint; a0: bigint },
    to: Moment,
    hart: number,
  ): void {
    if (!identity || identity.tgid !== call.identity.tgid) {
      // Another task has its place: it never returned.
      this.tellCall(call, { kind: 'exited' }, to, undefined);
      return;
    }
    const value = BigInt.asIntN(64, a0);
    const anew = isExec(call.name) && pc !== call.pc + 4n;
    if (isExec(call.name) && !this.wants(call.identity) && !(anew && this.wants(identity))) return;
    const again = pc === call.pc && call.name !== 'rt_sigreturn' && !anew;
    if (!again && value > 0n && /^clone3?$/.test(call.name)) this.follow(Number(value));
    const end: SyscallEnd = again ? { kind: 'restarted' } : { kind: 'returned', value };
    this.tellCall(call, end, to, anew ? undefined : this.memoryOf(hart));
  }

  /** A task is about to end: a0 is its exit status, as `wait` gives it. */
  private exiting(hart: number): void {
    const { machine } = this.attached!;
    const task = machine.hartSet.getX(hart, TP);
    const at = momentInside(machine);
    const call = this.pending.get(task);
    this.pending.delete(task);
    this.cameFrom.delete(task);
    if (call) this.tellCall(call, { kind: 'exited' }, at, undefined);
    const identity = this.options.tasks(task, hart);
    if (!identity || !this.wants(identity)) return;
    const status = Number(machine.hartSet.getX(hart, A0) & 0xffffn);
    const told = { code: status >> 8, signal: status & 0x7f };
    this.options.tell({ kind: 'exit', ...identity, hart, at, ...told });
    this.followed.delete(identity.pid);
  }

  /** A task is about to make another one run for the first time, which a0 points to. */
  private made(hart: number): void {
    const { hartSet } = this.attached!.machine;
    const maker = this.options.tasks(hartSet.getX(hart, TP), hart);
    if (!maker || !this.wants(maker)) return;
    const task = this.options.tasks(hartSet.getX(hart, A0), hart);
    if (task) this.follow(task.pid);
  }

  private abandon(task: bigint): void {
    const call = this.pending.get(task);
    if (!call) return;
    this.pending.delete(task);
    this.tellCall(call, { kind: 'exited' }, call.from, undefined);
  }

  private tellCall(call: Pending, end: SyscallEnd, to: Moment, memory: ReadMemory | undefined): void {
    const { identity, hart, number, name, args, texts, pc, from } = call;
    if (!this.isShown(name)) return;
    if (isExec(name) && end.kind !== 'returned' && !this.wants(identity)) return;
    const value = end.kind === 'returned' && !isError(end.value) ? end.value : undefined;
    const shown = argumentsAtReturn(name, args, texts, value, memory, this.limits);
    this.options.tell({ kind: 'call', ...identity, hart, number, name, args, shown, pc, from, to, end });
  }

  private isShown(name: string): boolean {
    return this.calls === undefined || this.calls.has(name);
  }

  private wants(identity: TaskIdentity): boolean {
    const { filter } = this.options;
    if (!filter?.pids && !filter?.names) return true;
    const { pid, tgid, comm } = identity;
    if (this.pids.has(tgid) || this.pids.has(pid) || this.names.has(comm) || this.followed.has(pid)) {
      if (filter.follow) this.follow(pid);
      return true;
    }
    return false;
  }

  private follow(pid: number): void {
    if (!this.options.filter?.follow || this.followed.size >= MAX_FOLLOWED) return;
    this.followed.add(pid);
  }

  private memoryOf(hart: number): ReadMemory {
    const { memory } = this.attached!;
    return (address, length) => memory.read(hart, address, length);
  }
}

const isExec = (name: string): boolean => name === 'execve' || name === 'execveat';

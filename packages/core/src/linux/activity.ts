/**
 * Records what the software threads of a guest do while somebody runs its machine forwards, live or in a replay: which task is on
 * which hart when, why it leaves, who wakes it, interrupts, page faults, system calls. Nothing in the guest takes part and
 * nothing in it changes: breakpoints in the kernel look at registers and memory, and let the run go on.
 *
 * The places are functions that a kernel of this architecture has under their names whatever it was built with: those that
 * assembly calls (`__switch_to`, `do_irq`, `do_page_fault`, `do_trap_ecall_u`) and some that several others do. Each pass costs
 * what a breakpoint costs, and a little work.
 */

import type { Machine } from '../machine/machine.ts';
import { ActivityEvents, CONTEXT, type Kind, type Leave, packLeave } from './activity-events.ts';
import { ActivityQueries, type RecordedTask } from './activity-queries.ts';
import { readNewComm } from './comm.ts';
import { KernelError } from './errors.ts';
import { KernelImage } from './tasks.ts';

export interface ActivityOptions {
  /** The machine's kernel, if it has been found already: it may be from any moment of the same run. */
  readonly kernel?: KernelImage;
  /** Events that are kept, 34 bytes each (default 4 million). When they are full the recording ends, and says where. */
  readonly limit?: number;
  /** What is left out, so that a longer time fits: it is most of what happens. Slices and waits tell what they were in nevertheless. */
  readonly without?: readonly ('calls' | 'faults' | 'interrupts')[];
  /** The step that events carry: `atNow` of a timeline; the machine's own steps by default. */
  readonly at?: () => bigint;
}

/** What a hart is in, from the outermost to the innermost. */
interface Frame {
  readonly kind: 'irq' | 'softirq';
  /** Cause of an interrupt. */
  readonly cause: number;
  /** Its registers' address, or the stack pointer. */
  readonly mark: bigint;
  /** Sources that the interrupt controllers have told so far. */
  sources: number;
}

interface HartState {
  readonly frames: Frame[];
  /** Calls of try_to_wake_up under way. */
  readonly wakings: { readonly sp: bigint; readonly task: bigint }[];
  /** How the scheduler was called last, and the state of the task that did. */
  mode: number;
  stateBefore: number;
}

/** What is known of a task beyond what is told. */
interface TaskState {
  /** Number of the system call it is in, or -1. */
  call: number;
  /** Addresses of the registers of page faults under way. */
  readonly faults: bigint[];
}

/** Registers of a trapped task, as the kernel's entry code lays them out, and the size of its stack. */
const REGS = { epc: 0, a0: 80, a7: 136, status: 256, address: 264, cause: 272, size: 288 } as const;
const STACK = 16384;
const CAUSE_CALL = 8;
const A = [10, 11] as const;
const SP = 2;
const TP = 4;
const STATE = { waking: 0x200, dead: 0x80 } as const;
const PREEMPT = 1;
/** jalr x0, 0(ra), and its compressed form. */
const RETURN = 0x8067;
const SHORT_RETURN = 0x8082;
const DEFAULT_LIMIT = 4 << 20;
const SCHED_YIELD = 124;
const MAX_CALL = 0xfffn;

const LEFT_OUT: Readonly<Record<'calls' | 'faults' | 'interrupts', readonly Kind[]>> = {
  calls: ['call', 'return'],
  faults: ['fault', 'mended'],
  interrupts: ['irq', 'source', 'irq-end', 'softirq', 'softirq-end'],
};

export class Activity extends ActivityQueries {
  readonly events: ActivityEvents;
  readonly tasks: (RecordedTask & { kernel: boolean })[] = [];
  readonly names: string[] = [];
  private readonly states: TaskState[] = [];
  private readonly byAddress = new Map<bigint, number>();
  private readonly byName = new Map<string, number>();
  private readonly options: ActivityOptions;
  private readonly left: ReadonlySet<Kind>;
  private readonly breakpoints: number[] = [];
  private kernel: KernelImage | undefined;
  private machine: Machine | undefined;
  private harts: HartState[] = [];

  constructor(options: ActivityOptions = {}) {
    super();
    this.options = options;
    this.left = new Set(options.without?.flatMap((what) => LEFT_OUT[what]));
    this.events = new ActivityEvents(options.limit ?? DEFAULT_LIMIT);
  }

  /** Begins to listen. Throws `KernelError` when the machine runs no kernel that can be listened to. */
  begin(machine: Machine): void {
    const kernel = this.options.kernel ?? KernelImage.find(machine);
    this.kernel = kernel;
    this.machine = machine;
    this.harts = Array.from({ length: machine.harts }, () => ({ frames: [], wakings: [], mode: 0, stateBefore: 0 }));
    this.recognize(kernel);
    try {
      this.hookAll(kernel);
    } catch (error) {
      this.deaf(machine);
      throw error;
    }
    const running = new Set<bigint>();
    for (let hart = 0; hart < machine.harts; hart++) {
      const task = kernel.currentTask(hart);
      if (!task) continue;
      const inKernel = machine.hartSet.get(hart, 'privilege') !== 0n;
      const index = this.taskAt(task.address, inKernel);
      if (!inKernel) this.states[index] = { call: -1, faults: [] };
      this.note('start', hart, index, 0, this.contextOf(index));
      running.add(task.address);
    }
    for (const { address, pid, state, exitState } of kernel.tasks()) {
      if (running.has(address) || pid === 0 || exitState !== 0) continue;
      const index = this.taskAt(address, true);
      this.note('resting', 0, index, 0, packLeave(state === 0 ? 'preempted' : 'blocked', state, this.contextOf(index)));
    }
  }

  /** Listens no more. May begin again on the same machine later, and has to where its state is replaced: at the stretches of a recording. */
  end(machine: Machine): void {
    this.deaf(machine);
    for (let hart = 0; hart < machine.harts; hart++) this.note('end', hart, 0, 0, 0);
  }

  private deaf(machine: Machine): void {
    for (const id of this.breakpoints.splice(0)) machine.breakpoints.delete(id);
  }

  /** Of the tasks that were seen before, keeps those that are still there. */
  private recognize(kernel: KernelImage): void {
    for (const [address, index] of this.byAddress) {
      const [before, now] = [this.tasks[index]!, kernel.task(address)];
      if (now?.pid !== before.pid || now.tgid !== before.tgid) this.byAddress.delete(address);
      this.states[index] = { call: -1, faults: [] };
      if (now && !now.kernel) this.lookInside(index);
    }
  }

  private hookAll({ symbols }: KernelImage): void {
    this.hook('__switch_to', (hart) => this.switched(hart));
    this.hook('__schedule', (hart) => this.scheduling(hart));
    this.hook('wake_up_new_task', (hart) => this.forked(hart));
    this.hook('try_to_wake_up', (hart) => this.waking(hart));
    this.hookReturns('try_to_wake_up', (hart) => this.woken(hart));
    this.hook('do_trap_ecall_u', (hart) => this.called(hart));
    this.hook('syscall_exit_to_user_mode', (hart) => this.returned(hart));
    this.hook('do_page_fault', (hart) => this.faulted(hart));
    this.hook('do_irq', (hart) => this.interrupted(hart));
    this.hook('generic_handle_domain_irq', (hart) => this.source(hart));
    this.hook('irqentry_exit', (hart) => this.leavesTrap(hart));
    // The first of these is what the second consisted of before Linux 6.10.
    const softirqs = symbols.function('handle_softirqs') === undefined ? '__do_softirq' : 'handle_softirqs';
    this.hook(softirqs, (hart) => this.push(hart, 'softirq', 0, this.x(hart, SP)));
    this.hookReturns(softirqs, (hart) => this.pop(hart, 'softirq', this.x(hart, SP)));
    this.hook('__set_task_comm', (hart) => this.renamed(hart));
    this.hook('do_exit', (hart) => this.note('exit', hart, this.current(hart), 0, Number(this.x(hart, A[0]))));
  }

  private hook(name: string, visit: (hart: number) => void): void {
    this.listen(this.functionAt(name), visit);
  }

  /** Hears of a function's returns. */
  private hookReturns(name: string, visit: (hart: number) => void): void {
    const from = this.functionAt(name);
    const code = this.kernel!.code(from);
    let returns = 0;
    for (let at = 0; at + 2 <= code.length; ) {
      const half = code[at]! | (code[at + 1]! << 8);
      const long = (half & 3) === 3;
      const whole = long && at + 4 <= code.length ? half | (code[at + 2]! << 16) | (code[at + 3]! << 24) : half;
      if (whole === RETURN || whole === SHORT_RETURN) {
        this.listen(from + BigInt(at), visit);
        returns++;
      }
      at += long ? 4 : 2;
    }
    if (returns === 0) throw new KernelError('functions', `${name} of this kernel returns nowhere that can be seen`);
  }

  private functionAt(name: string): bigint {
    const address = this.kernel!.symbols.function(name);
    if (address === undefined)
      throw new KernelError('functions', `this kernel has no function ${name}: its threads cannot be recorded`);
    return address;
  }

  private listen(address: bigint, visit: (hart: number) => void): void {
    const condition = (hart: number) => {
      // Breakpoints stay where they are during a run; when the list is full they cost no more than themselves.
      if (!this.events.full) visit(hart);
      return false;
    };
    this.breakpoints.push(this.machine!.breakpoints.add({ address, condition }));
  }

  private x(hart: number, n: number): bigint {
    return this.machine!.hartSet.getX(hart, n);
  }

  private word(address: bigint): bigint {
    return this.kernel!.memory.u64(address) ?? 0n;
  }

  private note(kind: Kind, hart: number, task: number, other: number, value: number): boolean {
    const machine = this.machine!;
    if (this.left.has(kind)) return false;
    const { at } = this.options;
    const now = { time: Number(machine.now), step: Number(at ? at() : machine.stepsNow) };
    const { time, step } = this.events.full ?? now;
    return this.events.push(kind, time, step, hart, task, other, value);
  }

  private current(hart: number): number {
    return this.taskAt(this.x(hart, TP), true);
  }

  /** The number of a task; one that is seen for the first time may be in the kernel since before. */
  private taskAt(address: bigint, inKernel: boolean): number {
    const known = this.byAddress.get(address);
    return known ?? this.addTask(address, inKernel);
  }

  private addTask(address: bigint, inKernel: boolean): number {
    const task = this.kernel!.task(address);
    const index = this.tasks.length;
    const { pid = -1, tgid = -1, comm = '?', kernel = true } = task ?? {};
    this.tasks.push({ address, pid, tgid, kernel, comms: [{ time: Number(this.machine!.now), comm }] });
    this.states.push({ call: -1, faults: [] });
    this.byAddress.set(address, index);
    if (task && !kernel && inKernel) this.lookInside(index);
    return index;
  }

  /** What a task has been in since before it was seen: by the registers at the top of its stack. */
  private lookInside(index: number): void {
    const { layout, memory } = this.kernel!;
    const stack = memory.u64(this.tasks[index]!.address + BigInt(layout.stack));
    const regs = stack === undefined ? undefined : stack + BigInt(STACK - REGS.size);
    if (regs === undefined || this.word(regs + BigInt(REGS.epc)) >> 63n !== 0n) return;
    if ((this.word(regs + BigInt(REGS.status)) & 0x100n) !== 0n) return;
    const cause = Number(BigInt.asUintN(64, this.word(regs + BigInt(REGS.cause))));
    const state = this.states[index]!;
    if (cause === CAUSE_CALL) state.call = callNumber(this.word(regs + BigInt(REGS.a7)));
    else if (cause === 12 || cause === 13 || cause === 15) state.faults.push(regs);
  }

  private contextOf(task: number): number {
    const { call, faults } = this.states[task]!;
    if (faults.length > 0) return CONTEXT.fault;
    return call < 0 ? CONTEXT.none : CONTEXT.call + call;
  }

  private stateOf(task: bigint): number {
    const { layout, memory } = this.kernel!;
    return memory.u32(task + BigInt(layout.state)) ?? 0;
  }

  private scheduling(hart: number): void {
    const state = this.harts[hart]!;
    state.mode = Number(BigInt.asIntN(32, this.x(hart, A[0])));
    state.stateBefore = this.stateOf(this.x(hart, TP));
  }

  private switched(hart: number): void {
    const here = this.harts[hart]!;
    const [from, to] = [this.x(hart, A[0]), this.x(hart, A[1])];
    const task = this.taskAt(from, true);
    // An interrupt's way out may lead here; what is left of it belongs to the task.
    while (here.frames.length > 0) this.note(`${here.frames.pop()!.kind}-end`, hart, task, 0, 0);
    let state = this.stateOf(from);
    // Somebody wakes it already; it had gone to sleep nevertheless.
    if ((state & STATE.waking) !== 0) state = here.stateBefore;
    const context = this.contextOf(task);
    let why: Leave = 'blocked';
    if ((state & STATE.dead) !== 0) why = 'exited';
    else if (here.mode === PREEMPT) why = 'preempted';
    else if (state === 0) why = context === CONTEXT.call + SCHED_YIELD ? 'yielded' : 'preempted';
    this.note('switch', hart, task, this.taskAt(to, true), packLeave(why, state, context));
  }

  private forked(hart: number): void {
    const maker = this.current(hart);
    // The address may have been another task's.
    const task = this.addTask(this.x(hart, A[0]), false);
    this.note('fork', hart, task, maker, 0);
    this.note('wakeup', hart, task, maker, this.cause(hart, maker));
  }

  private waking(hart: number): void {
    const { wakings } = this.harts[hart]!;
    const sp = this.x(hart, SP);
    // A call that never came back, as after a crash, is forgotten.
    while (wakings.length > 0 && wakings.at(-1)!.sp === sp) wakings.pop();
    if (wakings.length > 16) wakings.length = 0;
    wakings.push({ sp, task: this.x(hart, A[0]) });
  }

  private woken(hart: number): void {
    const { wakings } = this.harts[hart]!;
    const sp = this.x(hart, SP);
    if (wakings.at(-1)?.sp !== sp) return;
    const { task: address } = wakings.pop()!;
    if ((this.x(hart, A[0]) & 0xffn) === 0n) return;
    const waker = this.current(hart);
    this.note(
      'wakeup',
      hart,
      this.taskAt(address, true),
      waker,
      this.cause(hart, waker) + 0x10000 * this.cpuOf(address),
    );
  }

  private cpuOf(task: bigint): number {
    const { layout, memory } = this.kernel!;
    return (memory.u32(task + BigInt(layout.cpu)) ?? 0) & 0xffff;
  }

  /** What a hart is in: an interrupt, else what its task is in. */
  private cause(hart: number, task: number): number {
    const frame = this.harts[hart]!.frames.at(-1);
    if (!frame) return this.contextOf(task);
    return frame.kind === 'softirq' ? CONTEXT.softirq : CONTEXT.irq + frame.cause;
  }

  private called(hart: number): void {
    const task = this.current(hart);
    const number = callNumber(this.word(this.x(hart, A[0]) + BigInt(REGS.a7)));
    this.states[task]!.call = number;
    this.note('call', hart, task, number, 0);
  }

  private returned(hart: number): void {
    const task = this.current(hart);
    const state = this.states[task]!;
    // A new task comes by here without a call of its own.
    if (state.call < 0) return;
    const result = Number(BigInt.asIntN(64, this.word(this.x(hart, A[0]) + BigInt(REGS.a0))));
    this.note('return', hart, task, state.call, result);
    state.call = -1;
  }

  private faulted(hart: number): void {
    const task = this.current(hart);
    const regs = this.x(hart, A[0]);
    const { faults } = this.states[task]!;
    if (faults.length > 16) faults.length = 0;
    faults.push(regs);
    const cause = Number(this.word(regs + BigInt(REGS.cause)) & 0xffn);
    this.note('fault', hart, task, cause, Number(BigInt.asIntN(64, this.word(regs + BigInt(REGS.address)))));
  }

  private interrupted(hart: number): void {
    const regs = this.x(hart, A[0]);
    this.push(hart, 'irq', Number(this.word(regs + BigInt(REGS.cause)) & 15n), regs);
  }

  private source(hart: number): void {
    const frame = this.harts[hart]!.frames.at(-1);
    if (frame?.kind !== 'irq') return;
    // The hart's own controller comes first, with the cause.
    if (frame.sources++ > 0)
      this.note('source', hart, this.current(hart), Number(this.x(hart, A[1]) & 0xffff_ffffn), 0);
  }

  private leavesTrap(hart: number): void {
    const regs = this.x(hart, A[0]);
    if (this.pop(hart, 'irq', regs)) return;
    const task = this.current(hart);
    const { faults } = this.states[task]!;
    const at = faults.lastIndexOf(regs);
    if (at < 0) return;
    faults.length = at;
    this.note('mended', hart, task, 0, 0);
  }

  private push(hart: number, kind: Frame['kind'], cause: number, mark: bigint): void {
    const { frames } = this.harts[hart]!;
    if (frames.length > 16) frames.length = 0;
    frames.push({ kind, cause, mark, sources: 0 });
    this.note(kind, hart, this.current(hart), cause, 0);
  }

  private pop(hart: number, kind: Frame['kind'], mark: bigint): boolean {
    const { frames } = this.harts[hart]!;
    const frame = frames.at(-1);
    if (frame?.kind !== kind || frame.mark !== mark) return false;
    frames.pop();
    this.note(`${kind}-end`, hart, this.current(hart), 0, 0);
    return true;
  }

  private renamed(hart: number): void {
    const address = this.x(hart, A[0]);
    const comm = readNewComm(this.kernel!.memory, this.x(hart, A[1]));
    if (comm === undefined) return;
    const task = this.taskAt(address, true);
    const time = Number(this.machine!.now);
    let name = this.byName.get(comm);
    if (name === undefined) {
      name = this.names.push(comm) - 1;
      this.byName.set(comm, name);
    }
    if (!this.note('name', hart, task, name, 0)) return;
    this.tasks[task]!.comms.push({ time, comm });
    // What begins as the kernel's thread may come to run a program.
    this.tasks[task]!.kernel &&= this.kernel!.task(address)?.kernel ?? true;
  }
}

/** The number of a call as the register has it; the last one for what can be none. */
const callNumber = (register: bigint) => (register < MAX_CALL ? Number(register) : Number(MAX_CALL));

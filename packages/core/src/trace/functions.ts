/**
 * Function coverage and call profile of a program, or of the kernel, taken from outside while somebody runs the machine forwards.
 *
 * Every function's first instruction and every return is a breakpoint that never stops; between two of them, and between comings and goings
 * of the kernel, a hart's steps belong to the path that its task is on. Steps of other tasks that run in between count for
 * nobody; those of the kernel, on the task's behalf or for an interrupt that came, are kept apart from the program's own.
 *
 * Costs half a microsecond of host time for each call and each return, and some for each trap. Memory: the tree of call paths, and the
 * activations of each task.
 */

import { asComm } from '../linux/comm.ts';
import type { Breakpoint } from '../machine/breakpoints.ts';
import type { Machine } from '../machine/machine.ts';
import { type Analysis, GuestMemory, type SymbolAddresses, type TaskIdentity, type TaskReader } from './analysis.ts';
import { type CallLimits, CallStack, CallTree } from './call-tree.ts';
import { TraceError } from './errors.ts';
import { type FunctionMap, functionMap, type TracedFunction, type TracedProgram } from './function-map.ts';
import { type FunctionProfile, profileOf } from './profile.ts';
import { findKernelEdges, type KernelEdges, UserEdges } from './user-edges.ts';

/** Which processes: all that run the program, unless given. */
export interface ProcessFilter {
  readonly pids?: readonly number[];
  /** Of which the kernel keeps 15 bytes. */
  readonly names?: readonly string[];
}

export interface FunctionOptions {
  /** Who the tasks are. */
  readonly tasks: TaskReader;
  readonly filter?: ProcessFilter;
  /**
   * With `__switch_to` the kernel's steps are counted. With `wake_up_new_task` what a process makes of itself goes on with its calls,
   * and nobody is taken for a task that was before at the same address.
   */
  readonly symbols?: SymbolAddresses;
  readonly edges?: KernelEdges;
  readonly limits?: Partial<CallLimits>;
}

export interface ProgramOptions extends FunctionOptions {
  /** How far above its own addresses a program is loaded that may be anywhere; found in its stack unless given. */
  readonly bias?: bigint;
}

/** A task whose calls are counted. */
interface Traced {
  readonly stack: CallStack;
  readonly bias: bigint;
  readonly program: true;
}

/** One that is not; found out anew in another address space. */
interface Other {
  readonly program: false;
}

type Known = (Traced | Other) & { readonly space: bigint };

const [RA, SP, TP, A0, A7] = [1, 2, 4, 10, 17];
const ROOT_TABLE = (1n << 44n) - 1n;
/** Numbers of execve and execveat, and of prctl, which changes names. */
const EXECVE = [221n, 281n];
const PRCTL = 167n;
const USER_REACH = 8n << 20n;
const KERNEL_REACH = 1n << 14n;
/** Places where the program is loaded at the same time. */
const MAX_LOADS = 64;

abstract class Functions implements Analysis {
  protected readonly options: FunctionOptions;
  protected readonly map: FunctionMap;
  protected readonly tree: CallTree;
  /** What to say with the result. */
  protected readonly notes = new Set<string>();
  protected readonly known = new Map<bigint, Known>();
  protected attached: { machine: Machine; memory: GuestMemory } | undefined;
  private edges: UserEdges | undefined;
  private readonly hooks: number[] = [];
  /** By hart: steps up to which all have been counted. */
  private counted: bigint[] = [];
  private readonly last = { hart: -1, steps: -1n, address: -1n };

  constructor(map: FunctionMap, options: FunctionOptions) {
    this.options = options;
    this.map = map;
    this.tree = new CallTree(map.functions.length, options.limits);
  }

  /** Throws `TraceError` when the machine runs no kernel yet and no edges were given. */
  begin(machine: Machine): void {
    if (this.attached) throw new TraceError('use', 'the trace listens to a machine already: end it first');
    const { symbols, edges = findKernelEdges(machine) } = this.options;
    this.attached = { machine, memory: new GuestMemory(machine) };
    this.counted = Array.from({ length: machine.harts }, (_, hart) => machine.steps(hart));
    this.edges = new UserEdges(machine, edges, {
      entered: (hart, task) => this.entered(hart, task),
      left: (hart, task) => this.left(hart, task),
    });
    const switching = symbols?.address('__switch_to');
    const making = symbols?.address('wake_up_new_task');
    const { hartSet } = machine;
    if (switching === undefined) this.notes.add('the kernel has no __switch_to: its steps are not counted');
    else this.hook([{ address: switching, condition: (hart) => this.count(hart, hartSet.getX(hart, A0), 'system') }]);
    if (making !== undefined) {
      this.hook([
        { address: making, condition: (hart) => this.made(hartSet.getX(hart, TP), hartSet.getX(hart, A0), hart) },
      ]);
    }
    this.started();
  }

  end(machine: Machine): void {
    if (!this.attached) return;
    if (this.attached.machine !== machine) throw new TraceError('use', 'the trace listens to another machine');
    this.edges?.end();
    machine.breakpoints.deleteAll(this.hooks.splice(0));
    this.attached = undefined;
    this.known.clear();
  }

  /** What has been seen so far. */
  profile(): FunctionProfile {
    const { limits, left } = this.tree;
    const notes = [...this.notes];
    if (left > 0) {
      notes.push(
        `${left} calls are left out of the tree, which has ${limits.paths} paths and ${limits.depth} activations at most: their steps are their callers'`,
      );
    }
    return profileOf(this.map.functions, this.tree, notes);
  }

  protected abstract started(): void;
  protected abstract entered(hart: number, task: bigint): void;
  protected abstract left(hart: number, task: bigint): void;

  /** Breakpoints at every function and return of the map, `bias` above its addresses. */
  protected hookMap(
    bias: bigint,
    taskOf: (hart: number, address: bigint) => Traced | undefined,
    kind: 'user' | 'system',
  ): void {
    const { machine } = this.attached!;
    const { hartSet } = machine;
    const at = (address: bigint) => BigInt.asUintN(64, address + bias);
    type Act = (stack: CallStack, sp: bigint, ra: bigint) => void;
    // An entry's own step comes behind it, a return's is still its function's.
    const hear = (address: bigint, own: bigint, act: Act) => (hart: number) => {
      if (this.again(hart, address)) return false;
      const traced = taskOf(hart, address);
      if (traced?.bias !== bias) return false;
      this.charge(hart, traced.stack, kind, own);
      act(traced.stack, hartSet.getX(hart, SP), hartSet.getX(hart, RA));
      return false;
    };
    const { functions, returns } = this.map;
    this.hook([
      ...functions.map(({ address }, index) => ({
        address: at(address),
        condition: hear(at(address), 0n, (stack, sp, ra) => stack.enter(index, sp, ra)),
      })),
      ...returns.map((address) => ({
        address: at(address),
        condition: hear(at(address), 1n, (stack, sp, ra) => stack.leave(sp, ra)),
      })),
    ]);
  }

  /** A hart's steps since it was last heard of, and `own` to come, belong to a task. */
  protected count(hart: number, task: bigint, kind: 'user' | 'system', own = 0n): false {
    const stack = this.stackOf(task);
    if (stack) this.charge(hart, stack, kind, own);
    else this.skip(hart, own);
    return false;
  }

  /** The activations of a task, if they are counted. */
  protected stackOf(task: bigint): CallStack | undefined {
    const known = this.known.get(task);
    return known?.program ? known.stack : undefined;
  }

  /** They belong to nobody. */
  protected skip(hart: number, own = 0n): void {
    this.counted[hart] = this.attached!.machine.steps(hart) + own;
  }

  /** A task makes another one run for the first time. */
  protected made(_maker: bigint, task: bigint, _hart: number): false {
    this.known.delete(task);
    return false;
  }

  protected wants({ pid, tgid, comm }: TaskIdentity): boolean {
    const { pids, names } = this.options.filter ?? {};
    if (!pids && !names) return true;
    return (pids?.includes(tgid) || pids?.includes(pid) || names?.some((name) => asComm(name) === comm)) ?? false;
  }

  private charge(hart: number, stack: CallStack, kind: 'user' | 'system', own: bigint): void {
    const now = this.attached!.machine.steps(hart) + own;
    const { node } = stack;
    const steps = Number(now - this.counted[hart]!);
    if (kind === 'user') node.user += steps;
    else node.system += steps;
    this.counted[hart] = now;
  }

  private hook(breakpoints: readonly Breakpoint[]): void {
    for (const id of this.attached!.machine.breakpoints.addAll(breakpoints)) this.hooks.push(id);
  }

  /** A place is asked about again when a run has ended just before it. */
  private again(hart: number, address: bigint): boolean {
    const { last } = this;
    const steps = this.attached!.machine.steps(hart);
    if (last.hart === hart && last.steps === steps && last.address === address) return true;
    last.hart = hart;
    last.steps = steps;
    last.address = address;
    return false;
  }
}

/** Of a program in user mode. */
export class ProgramTrace extends Functions {
  private readonly program: TracedProgram;
  private readonly given: bigint | undefined;
  private readonly loads = new Set<bigint>();
  /** The address space in which a task's stack has been looked through. */
  private readonly searched = new Map<bigint, bigint>();
  /** Tasks in a call that may make them something else. */
  private readonly becoming = new Map<bigint, 'another program' | 'another name'>();
  /** What a new task's maker was doing, as a copy, until the task is known. */
  private readonly inherited = new Map<bigint, { stack: CallStack; bias: bigint }>();

  /** Throws `AnalysisError` and `TraceError`. */
  constructor(program: TracedProgram, options: ProgramOptions) {
    super(program.map, options);
    this.program = program;
    this.given = program.movable ? options.bias : 0n;
  }

  override profile(): FunctionProfile {
    if (this.loads.size === 0)
      this.notes.add('where the program is loaded is not known: begin before it starts, or give its load bias');
    return super.profile();
  }

  protected override started(): void {
    this.loads.clear();
    this.becoming.clear();
    this.inherited.clear();
    this.searched.clear();
    if (this.given !== undefined) this.load(this.given);
  }

  protected override entered(hart: number, task: bigint): void {
    this.count(hart, task, 'user');
    const { hartSet } = this.attached!.machine;
    const call = hartSet.get(hart, 'scause') === 8n ? hartSet.getX(hart, A7) : undefined;
    if (call !== undefined && EXECVE.includes(call)) this.becoming.set(task, 'another program');
    else if (call === PRCTL) this.becoming.set(task, 'another name');
    else this.search(hart, task);
  }

  protected override left(hart: number, task: bigint): void {
    if (this.options.symbols?.address('__switch_to') === undefined) this.skip(hart, 1n);
    else this.count(hart, task, 'system', 1n);
    const becoming = this.becoming.get(task);
    if (becoming === undefined) return;
    this.becoming.delete(task);
    const known = this.known.get(task);
    // What it is now is found out at its first function, unless the call has failed, or made no difference.
    if (known?.program && known.space === this.spaceOf(hart)) return;
    this.known.delete(task);
    if (becoming === 'another program') this.inherited.delete(task);
    this.searched.delete(task);
    this.search(hart, task);
  }

  protected override made(maker: bigint, task: bigint, hart: number): false {
    const known = this.known.get(maker);
    const identity = this.options.tasks(task, hart);
    if (known?.program && identity && this.wants(identity))
      this.inherited.set(task, { stack: known.stack.copy(), bias: known.bias });
    else this.inherited.delete(task);
    this.searched.delete(task);
    return super.made(maker, task, hart);
  }

  protected override stackOf(task: bigint): CallStack | undefined {
    return super.stackOf(task) ?? this.inherited.get(task)?.stack;
  }

  private load(bias: bigint): void {
    if (this.loads.has(bias)) return;
    if (this.loads.size >= MAX_LOADS) {
      this.notes.add(`the program was loaded at more than ${MAX_LOADS} places: the later ones are not seen`);
      return;
    }
    this.loads.add(bias);
    this.hookMap(bias, (hart, address) => this.tracedOn(hart, address), 'user');
  }

  /** Looks where a program is loaded that may be anywhere. */
  private search(hart: number, task: bigint): void {
    if (this.given !== undefined || this.known.has(task)) return;
    const space = this.spaceOf(hart);
    if (this.searched.get(task) === space) return;
    const identity = this.options.tasks(task, hart);
    if (!identity) return;
    this.searched.set(task, space);
    if (!this.wants(identity)) return;
    const { machine, memory } = this.attached!;
    const read = (address: bigint, length: number) => memory.read(hart, address, length);
    const bias = this.program.findBias(machine.hartSet.getX(hart, SP), read);
    if (bias !== undefined) this.load(bias);
  }

  private spaceOf(hart: number): bigint {
    return this.attached!.machine.hartSet.get(hart, 'satp') & ROOT_TABLE;
  }

  /** The task in user mode on a hart that comes to an address, when it is one whose calls are counted. */
  private tracedOn(hart: number, address: bigint): Traced | undefined {
    const { machine, memory } = this.attached!;
    const task = machine.hartSet.get(hart, 'sscratch');
    const space = this.spaceOf(hart);
    const before = this.known.get(task);
    if (before?.space === space) return before.program ? before : undefined;
    const parent = this.inherited.get(task);
    this.inherited.delete(task);
    const identity = this.options.tasks(task, hart);
    const read = (from: bigint, length: number) => memory.read(hart, from, length);
    const isHere = (bias: bigint) => this.program.isAt(address, bias, read);
    const bias = identity && this.wants(identity) ? [...this.loads].find(isHere) : undefined;
    if (bias === undefined) {
      this.known.set(task, { program: false, space });
      return undefined;
    }
    const { functions } = this.map;
    const range = (index: number) => {
      const { address: from, end, frameless } = functions[index]!;
      return { address: from + bias, end: end + bias, frameless };
    };
    const sp = machine.hartSet.getX(hart, SP);
    const goesOn = parent?.bias === bias && parent.stack.reaches(sp);
    const stack = goesOn ? parent.stack : new CallStack(this.tree, range, USER_REACH);
    const known = { program: true, space, bias, stack } as const;
    this.known.set(task, known);
    return known;
  }
}

/** Functions of the kernel, for all tasks or some. */
export class KernelTrace extends Functions {
  protected override started(): void {
    const { hartSet } = this.attached!.machine;
    this.hookMap(0n, (hart) => this.traced(hart, hartSet.getX(hart, TP)), 'system');
  }

  protected override entered(hart: number): void {
    this.skip(hart);
  }

  protected override left(hart: number, task: bigint): void {
    this.count(hart, task, 'system', 1n);
  }

  private traced(hart: number, task: bigint): Traced | undefined {
    const before = this.known.get(task);
    if (before) return before.program ? before : undefined;
    const { filter, tasks } = this.options;
    if (filter) {
      const identity = tasks(task, hart);
      // Early in its boot the kernel does not know it either.
      if (identity && !this.wants(identity)) this.known.set(task, { program: false, space: 0n });
      if (!identity || !this.wants(identity)) return undefined;
    }
    const stack = new CallStack(this.tree, (index) => this.map.functions[index]!, KERNEL_REACH);
    const known = { program: true, space: 0n, bias: 0n, stack } as const;
    this.known.set(task, known);
    return known;
  }
}

/** What the kernel's edges jump between: no functions, though they have names. */
const NO_FUNCTIONS = new Set(['handle_exception', 'ret_from_exception', 'ret_from_fork', '__switch_to']);

/**
 * The functions of a running kernel, from its symbols in any order and its code in memory: as it is once the kernel is up. Throws
 * `TraceError` where that is not to be read.
 */
export function kernelFunctions(
  symbols: readonly { readonly name: string; readonly address: bigint; readonly type: string }[],
  read: (address: bigint, length: number) => Uint8Array | undefined,
  select: (name: string) => boolean = () => true,
): FunctionMap {
  const sorted = symbols.toSorted((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  const no = new Set(sorted.filter(({ name }) => NO_FUNCTIONS.has(name)).map(({ address }) => address));
  const list: TracedFunction[] = [];
  const pages = new Map<bigint, DataView | undefined>();
  for (const [n, { name, address, type }] of sorted.entries()) {
    if (!/[tTwW]/.test(type) || no.has(address) || !select(name)) continue;
    const end = sorted.slice(n + 1, n + 64).find((next) => next.address > address)?.address;
    if (end !== undefined) list.push({ name, address, end });
  }
  const map = functionMap(list, (address) => {
    const page = address >> 12n;
    if (!pages.has(page)) {
      const bytes = read(page << 12n, 4096);
      pages.set(page, bytes && new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    }
    return pages.get(page)?.getUint16(Number(address & 4095n), true);
  });
  if ([...pages.values()].every((page) => page === undefined)) {
    throw new TraceError('kernel', "the kernel's code is not mapped: read it at a moment when the kernel is up");
  }
  return map;
}

/**
 * The layout of tasks in a kernel that does not describe its types: read off the tasks themselves.
 *
 * What is known beforehand is the order of the members that matter and what some of them hold: the first task is called "swapper",
 * all processes are in one ring through it, the second has pid 1, kthreadd has pid 2, a process leads itself, what a sleeping
 * task returns to is in the scheduler. Each finding has to hold for every task, and several for the tasks that run. So the kernel has to have
 * started its first process, and a kernel whose members were shuffled (RANDSTRUCT) is refused.
 */

import { COMM, readComm } from './comm.ts';
import { KernelError } from './errors.ts';
import type { Image } from './image.ts';
import { MAX_TASK, type TaskLayout } from './layout.ts';
import { type KernelMemory, textOf } from './memory.ts';
import type { KernelSymbols } from './symbols.ts';
import { Work } from './work.ts';

/** Processes of a ring, and those of them that are looked at: what they have in common is a task's layout. */
const MAX_TASKS = 4096;
const MAX_EXAMPLES = 512;
/** Links of tasks that are looked at before a search gives up. */
const MAX_LINKS = 1 << 21;
const SIGCHLD = 17;
/** thread_info is the same in all kernels of one architecture up to here: flags, count, two stack pointers, cpu. */
const CPU = 32;

export interface Inferred {
  readonly layout: TaskLayout;
  /** The first task, whose ring of processes begins with itself. */
  readonly initTask: bigint;
}

interface Found {
  readonly memory: KernelMemory;
  readonly symbols: KernelSymbols;
  /** Names of the processes, in the order of the ring, the first task first: addresses of their `comm`. */
  readonly comms: readonly bigint[];
  readonly names: readonly string[];
  /** From `tasks` to `comm`. */
  readonly toTasks: number;
}

/** Finds the layout; `current` are the tasks on the harts. Throws `KernelError`, which says what cannot be found. */
export function inferLayout(
  image: Image,
  memory: KernelMemory,
  symbols: KernelSymbols,
  current: readonly bigint[],
): Inferred {
  const work = new Work(MAX_LINKS, () => failure('what a search through all of their links would find'));
  const found = findRing(image, memory, symbols, work);
  const comm = findBase(found, current);
  const tasks = comm - found.toTasks;
  const bases = found.comms.map((at) => at - BigInt(comm));
  const blocks = bases.map((base) => memory.bytes(base, MAX_TASK) ?? memory.bytes(base, comm + 2048));
  if (blocks.some((block) => block === undefined)) fail('the tasks, which are not all mapped');
  const all = blocks.map((block, i) => new TaskBytes(bases[i]!, block!));
  const resting = all.filter(({ base }) => !current.includes(base));
  const users = (task: TaskBytes, mm: number) => task.u64(mm) !== 0n;

  const kthreadd = found.names.indexOf('kthreadd');
  const pid = offsets(tasks + 16, comm - 8, 4).find((at) => {
    const pids = all.map((task) => task.u32(at));
    const same = all.every((task, i) => task.u32(at + 4) === pids[i]);
    return same && pids[0] === 0 && pids[1] === 1 && pids[kthreadd] === 2 && new Set(pids).size === pids.length;
  });
  if (pid === undefined) return fail('pid and tgid');

  const later = all.filter((_, i) => i > 1 && i !== kthreadd);
  const exitSignal = offsets(tasks + 16, pid, 4).find(
    (at) =>
      all[0]!.u32(at) === 0 &&
      later.length > 0 &&
      later.filter((task) => task.u32(at) === SIGCHLD).length * 10 >= later.length * 9,
  );
  if (exitSignal === undefined) return fail('exit_state, by the exit_signal behind it');
  const exitState = exitSignal - 8;
  const mm = offsets(tasks + 16, exitState - 8, 8).find(
    (at) =>
      all.every((task) => task.u64(at) === 0n || (task.u64(at) === task.u64(at + 8) && isPointer(task.u64(at)))) &&
      all.some((task) => users(task, at)) &&
      !users(all[0]!, at) &&
      !users(all[kthreadd]!, at),
  );
  if (mm === undefined) return fail('mm: no process has memory of its own yet');

  const returns = (address: bigint) => /^(__schedule$|ret_from_)/.test(symbols.nearest(address)?.name ?? '');
  const thread = offsets(comm + COMM, Math.min(...all.map(({ size }) => size)) - 16, 8).find(
    (at) => resting.length > 1 && resting.every((task) => returns(task.u64(at)) && isPointer(task.u64(at + 8))),
  );
  if (thread === undefined) return fail('the saved registers');
  const stack = offsets(CPU + 8, tasks, 8).find((at) =>
    resting.every((task) => {
      const bottom = task.u64(at);
      const sp = task.u64(thread + 8);
      return isPointer(bottom) && (bottom & 4095n) === 0n && sp > bottom && sp - bottom < 65536n;
    }),
  );
  if (stack === undefined) return fail('the stack');
  const state = stack - 8;
  if (!all.every((task) => task.u32(state) < 0x10000) || !resting.some((task) => (task.u32(state) & 1) !== 0))
    fail('the state');

  const linked = (task: TaskBytes, at: number) => {
    work.charge(1);
    const head = task.u64(at);
    const node = task.base + BigInt(at);
    return head !== node && isPointer(head) && memory.u64(head) === node && memory.u64(head + 8n) === node;
  };
  // Tasks without memory of their own are the kernel's, and each its own process.
  const single = all.filter((task) => !users(task, mm));
  for (const threadNode of offsets(pid + 8, comm, 8).filter((at) => single.every((task) => linked(task, at)))) {
    const toHead = (task: TaskBytes, at: number) => task.u64(threadNode) - task.u64(at);
    const signal = offsets(comm + COMM, comm + 512, 8).find((at) => {
      const distance = toHead(single[0]!, at);
      work.charge(1 + single.length / 16);
      return distance > 0n && distance < 512n && single.every((task) => toHead(task, at) === distance);
    });
    if (signal === undefined) continue;
    const threadHead = Number(toHead(single[0]!, signal));
    const layout = { cpu: CPU, state, stack, tasks, mm, exitState, pid, tgid: pid + 4, comm, signal, threadNode };
    return { layout: { ...layout, threadHead, thread }, initTask: bases[0]! };
  }
  return fail('the threads of a process');
}

function fail(what: string): never {
  throw failure(what);
}

function failure(what: string): KernelError {
  return new KernelError(
    'types',
    `this kernel does not describe its types, and its tasks do not show where they have ${what}: let it boot further, or use one with CONFIG_DEBUG_INFO_BTF`,
  );
}

/** A copy of a task. */
class TaskBytes {
  readonly base: bigint;
  readonly size: number;
  private readonly view: DataView;

  constructor(base: bigint, bytes: Uint8Array) {
    this.base = base;
    this.size = bytes.length;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u64(at: number): bigint {
    return at + 8 <= this.size ? this.view.getBigUint64(at, true) : 0n;
  }

  u32(at: number): number {
    return at + 4 <= this.size ? this.view.getUint32(at, true) : 0;
  }
}

function offsets(from: number, to: number, step: number): number[] {
  const first = Math.ceil(Math.max(0, from) / step) * step;
  return Array.from({ length: Math.max(0, Math.ceil((to - first) / step)) }, (_, i) => first + i * step);
}

const isPointer = (value: bigint) => value >> 63n === 1n && (value & 7n) === 0n;

/** The ring of all processes, through the task in the kernel's data that is called "swapper". */
function findRing(image: Image, memory: KernelMemory, symbols: KernelSymbols, work: Work): Found {
  for (const at of placesOf(image.bytes, 'swapper')) {
    const name = textOf(image.bytes, at, COMM);
    if (name !== 'swapper' && name !== 'swapper/0') continue;
    const comm = image.base + BigInt(at);
    for (let toTasks = 8; toTasks < MAX_TASK / 2; toTasks += 8) {
      const ring = followRing(memory, comm, toTasks, work);
      if (!ring) continue;
      const comms = ring.slice(0, MAX_EXAMPLES);
      const names = comms.map((place) => readComm(memory, place)!);
      if (names.includes('kthreadd')) return { memory, symbols, comms, names, toTasks };
    }
  }
  return fail('their ring: no first task with processes behind it');
}

function* placesOf(bytes: Uint8Array, text: string): Generator<number> {
  const letters = [...text].map((letter) => letter.charCodeAt(0));
  const [first] = letters;
  for (let at = 0; at < bytes.length; at++)
    if (bytes[at] === first && letters.every((letter, i) => bytes[at + i] === letter)) yield at;
}

/** Addresses of the names along a ring of links so far in front of them; undefined when it is none. */
function followRing(memory: KernelMemory, first: bigint, back: number, work: Work): bigint[] | undefined {
  const start = first - BigInt(back);
  const comms: bigint[] = [];
  let at = start;
  do {
    work.charge(1);
    const next = memory.u64(at);
    if (next === undefined || !isPointer(next) || memory.u64(next + 8n) !== at) return undefined;
    if (readComm(memory, at + BigInt(back)) === undefined || comms.length > MAX_TASKS) return undefined;
    comms.push(at + BigInt(back));
    at = next;
  } while (at !== start);
  return comms.length >= 3 ? comms : undefined;
}

/** Offset of `comm`: a process's `group_leader` points to its own beginning, as does what the harts have of the tasks that run. */
function findBase({ memory, comms, toTasks }: Found, current: readonly bigint[]): number {
  const reach = MAX_TASK / 2;
  const near = (comm: bigint, at: number) => memory.u64(comm + BigInt(at));
  let best = 0;
  for (let at = -toTasks; at < 0; at += 8) {
    const place = comms[0]! + BigInt(at);
    const value = near(comms[0]!, at);
    // An empty list points to itself: to this word or the one in front of it.
    if (value === undefined || !isPointer(value) || value >= place - 8n) continue;
    const distance = comms[0]! - value;
    if (distance <= toTasks || distance > reach || distance <= best) continue;
    if (comms.every((comm) => near(comm, at) === comm - distance)) best = Number(distance);
  }
  const named = (task: bigint) => readComm(memory, task + BigInt(best)) !== undefined;
  if (best === 0 || !current.every(named)) return fail('their beginning');
  return best;
}

/**
 * A running kernel as seen from outside: its symbols, and its tasks. Nothing here changes the guest, and nothing trusts it: what is
 * read is checked, lists end.
 */

import { PRIVILEGE } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';
import { readComm } from './comm.ts';
import { KernelError } from './errors.ts';
import { findImage, type Image } from './image.ts';
import { inferLayout } from './infer.ts';
import { layoutFromTypes, type TaskLayout } from './layout.ts';
import { KernelMemory } from './memory.ts';
import { KernelSymbols } from './symbols.ts';
import { KernelTypes } from './types.ts';

export interface Task {
  /** Of its task_struct: what tells tasks apart while they live. */
  readonly address: bigint;
  /** The thread, as the kernel counts: 0 for an idle hart's. */
  readonly pid: number;
  /** The process. */
  readonly tgid: number;
  /** Its name, up to 15 bytes, possibly none: text of `decodeText`. */
  readonly comm: string;
  /** As the kernel has it: 0 runs or may run, else the bits of what it waits in. */
  readonly state: number;
  /** 0 while it lives. */
  readonly exitState: number;
  /** A thread of the kernel has no memory of its own. */
  readonly kernel: boolean;
}

/** What the scheduler keeps of a task that does not run. */
export interface SavedRegisters {
  readonly ra: bigint;
  readonly sp: bigint;
  /** s0 to s11. */
  readonly s: readonly bigint[];
}

const MAX_TASKS = 1 << 16;
/** Bytes of the kernel's code that are kept: Debian's has some 15 million. */
const MAX_TEXT = 1 << 26;

export class KernelImage {
  readonly symbols: KernelSymbols;
  /** The kernel's own types, where it has them. */
  readonly types: KernelTypes | undefined;
  readonly layout: TaskLayout;
  readonly memory: KernelMemory;
  private readonly initTask: bigint;
  private readonly text: Image;

  private constructor(
    image: Image,
    memory: KernelMemory,
    symbols: KernelSymbols,
    types: KernelTypes | undefined,
    found: { layout: TaskLayout; initTask: bigint },
  ) {
    const end = Number((symbols.address('_etext') ?? image.base) - image.base);
    // A copy, so that the rest of the image can go.
    this.text = { ...image, bytes: image.bytes.slice(0, Math.min(Math.max(0, end), MAX_TEXT)) };
    this.memory = memory;
    this.symbols = symbols;
    this.types = types;
    this.layout = found.layout;
    this.initTask = found.initTask;
  }

  /**
   * Finds the Linux kernel that a machine runs: it has to have turned on paging, and one without type information (BTF) to have
   * started its first process. Reads the whole image, some tens of MB: once a machine is enough, as the kernel stays where it is. Throws `KernelError`.
   */
  static find(machine: Machine, options: { readonly types?: boolean } = {}): KernelImage {
    const memory = new KernelMemory(machine);
    const image = findImage(machine, memory);
    const symbols = KernelSymbols.find(image);
    const types = options.types === false ? undefined : KernelTypes.find(image);
    const current = currentTasks(machine, memory);
    const inferred = () => inferLayout(image, memory, symbols, current);
    const initTask = symbols.address('init_task');
    const kernel = new KernelImage(
      image,
      memory,
      symbols,
      types,
      types && initTask !== undefined ? { layout: layoutFromTypes(types), initTask } : inferred(),
    );
    const first = kernel.task(kernel.initTask);
    if (first?.pid !== 0 || !first.comm.startsWith('swapper'))
      throw new KernelError('types', "the kernel's first task is not where its symbols and types say");
    // Tasks come from the kernel's map of all memory, but for the first.
    for (const task of current) memory.learnDirect(task);
    return kernel;
  }

  /** The task on a hart; undefined while the hart has not come to one, or is in firmware of the guest's. */
  currentTask(hart: number): Task | undefined {
    for (const address of currentCandidates(this.memory.machine, hart)) {
      const task = this.task(address);
      if (task) return task;
    }
    return undefined;
  }

  /** The task at an address; undefined where there cannot be one. */
  task(address: bigint): Task | undefined {
    const { memory, layout } = this;
    if (address >> 63n === 0n || (address & 7n) !== 0n) return undefined;
    const at = (offset: number) => address + BigInt(offset);
    const [pid, tgid] = [memory.i32(at(layout.pid)), memory.i32(at(layout.tgid))];
    const comm = readComm(memory, at(layout.comm));
    const [state, exitState] = [memory.u32(at(layout.state)), memory.u32(at(layout.exitState))];
    const mm = memory.u64(at(layout.mm));
    if (pid === undefined || tgid === undefined || comm === undefined) return undefined;
    if (state === undefined || exitState === undefined || mm === undefined) return undefined;
    if (pid < 0 || tgid < 0) return undefined;
    return { address, pid, tgid, comm, state, exitState, kernel: mm === 0n };
  }

  /** All tasks: the first, then the threads of every process. Ends where the kernel's lists are in the middle of a change. */
  tasks(): Task[] {
    const { memory, layout } = this;
    const found = new Map<bigint, Task>();
    const add = (address: bigint) => {
      const task = this.task(address);
      if (task) found.set(address, task);
      return task !== undefined;
    };
    let steps = 0;
    const links = (head: bigint, offset: number, visit: (task: bigint) => boolean) => {
      let at = memory.u64(head);
      for (; steps < 2 * MAX_TASKS && at !== undefined && at !== head; steps++) {
        if (!visit(at - BigInt(offset))) return;
        at = memory.u64(at);
      }
    };
    add(this.initTask);
    links(this.initTask + BigInt(layout.tasks), layout.tasks, (leader) => {
      if (!add(leader)) return false;
      const signal = memory.u64(leader + BigInt(layout.signal));
      if (signal === undefined) return true;
      links(signal + BigInt(layout.threadHead), layout.threadNode, add);
      return true;
    });
    // The idle tasks of the other harts are in no list.
    for (let hart = 0; hart < memory.machine.harts; hart++) {
      const task = this.currentTask(hart);
      if (task) found.set(task.address, task);
    }
    return [...found.values()];
  }

  /** A function's code, as it was when the kernel was found: also where the machine is at a moment before the kernel was there. */
  code(address: bigint): Uint8Array {
    const { base, bytes } = this.text;
    const [from, end] = [address, this.symbols.end(address) ?? address].map((at) => Number(at - base));
    return bytes.subarray(Math.max(0, from!), Math.max(0, end!));
  }

  /** What the scheduler has saved of a task, which is true while it does not run. */
  saved(task: bigint): SavedRegisters | undefined {
    const bytes = this.memory.bytes(task + BigInt(this.layout.thread), 14 * 8);
    if (!bytes) return undefined;
    const view = new DataView(bytes.buffer);
    const [ra, sp, ...s] = Array.from({ length: 14 }, (_, i) => view.getBigUint64(8 * i, true));
    return { ra: ra!, sp: sp!, s };
  }
}

/** In the kernel `tp` is the task; `sscratch` has it in user mode, and around the moments of coming and going. */
function currentCandidates(machine: Machine, hart: number): bigint[] {
  const { hartSet } = machine;
  const scratch = hartSet.get(hart, 'sscratch');
  const user = hartSet.get(hart, 'privilege') === BigInt(PRIVILEGE.user);
  return (user ? [scratch] : [hartSet.getX(hart, 4), scratch]).filter((task) => task >> 63n !== 0n);
}

function currentTasks(machine: Machine, memory: KernelMemory): bigint[] {
  const found: bigint[] = [];
  for (let hart = 0; hart < machine.harts; hart++) {
    if (machine.stopped[hart]) continue;
    const task = currentCandidates(machine, hart).find((address) => memory.u64(address) !== undefined);
    if (task !== undefined) found.push(task);
  }
  return found;
}

/**
 * Steps of a program under an operating system. Where a step of a hart enters the kernel, the step of its program continues until that
 * program is back in user mode, on any hart; and backwards likewise. So a debugger that steps through a program does not find itself in
 * the kernel between two of its instructions.
 *
 * A program returns where it was interrupted, behind a system call, at a signal's handler, where a handler has been called from, or at
 * another program's beginning. So the places are no help: the step stops at the kernel's edges for this program (`UserProgram`). A
 * thread of Linux is known by its task, whatever memory and stacks it shares, and by its number, as the memory of a task that has ended
 * is used again. Other kernels' programs are known by page tables, and by what the kernel keeps in `sscratch` where its entry swaps it.
 *
 * The instruction is made when the program's registers have changed. An interrupt, or a page that was fetched, changes none.
 *
 * Forwards a program may never be back, because it has ended for example: then a point, the end or the debugger's user ends the step.
 * Backwards there is nothing before a thread's first instruction: the step stays there and tells the beginning of history.
 */

import { EDGE_REACH, returnsIn, tablesOf, type UserProgram } from '../machine/user-edges.ts';
import { PC, REGISTERS } from './registers.ts';
import type { DebugPoint, DebugStop, DebugTarget, RegisterValues, Resume } from './target.ts';

const [USER, SUPERVISOR, MACHINE] = [0n, 1n, 3n];
/** Interrupts of a supervisor: software, timer, external, counters. With a vectored trap vector each has an entry. */
const INTERRUPTS = [1n, 5n, 9n, 13n];
const SSCRATCH = 0x140;
const INTEGERS = REGISTERS.filter(({ number }) => number > 0 && number < PC).map(({ name }) => name);

/** Makes a step, or that of a program where the hart runs one. */
export async function programStep(target: DebugTarget, how: Resume, signal: AbortSignal): Promise<DebugStop> {
  const { priv, satp = 0n } = await target.registers(how.hart);
  if (priv !== USER || satp >> 60n === 0n) return target.resume(how, signal);
  const step = new ProgramStep(target, how, signal);
  return how.direction === 'forward' ? step.forward() : step.backward();
}

/** Where a hart stands. */
interface Place {
  readonly kind: 'step';
  readonly hart: number;
  readonly values: RegisterValues;
}

/** A stop that ends the step early. */
type Other = DebugStop & { readonly kind: Exclude<DebugStop['kind'], 'step'> };

class ProgramStep {
  private readonly target: DebugTarget;
  private readonly how: Resume;
  private readonly signal: AbortSignal;

  constructor(target: DebugTarget, how: Resume, signal: AbortSignal) {
    this.target = target;
    this.how = how;
    this.signal = signal;
  }

  async forward(): Promise<DebugStop> {
    let { hart } = this.how;
    for (;;) {
      const trapped = await this.step(hart, this.how.range);
      if (trapped.kind !== 'step' || trapped.values.priv === USER) return shown(trapped);
      const { values } = trapped;
      const address = values.priv === MACHINE ? values.mepc : values.sepc;
      let there = await this.outOfFirmware(trapped);
      if (there.kind === 'step' && there.values.priv === SUPERVISOR) there = await this.toProgram(there);
      if (there.kind !== 'step' || there.values.priv !== USER) return shown(there);
      if (!isSame(there.values, { ...values, pc: address! })) return shown(there);
      hart = there.hart;
    }
  }

  async backward(): Promise<DebugStop> {
    const { target, how } = this;
    const goBack = await target.remember?.();
    let now: Place = { kind: 'step', hart: how.hart, values: await target.registers(how.hart) };
    for (;;) {
      const last = await this.step(now.hart);
      if (last.kind !== 'step' || last.values.priv === USER) return shown(last);
      let there = await this.outOfFirmware(last);
      if (there.kind === 'step' && there.values.priv === SUPERVISOR) there = await this.toEntry(there);
      if (there.kind === 'begin' || there.kind === 'interrupted') {
        await goBack?.();
        return { kind: there.kind, hart: how.hart };
      }
      if (there.kind !== 'step' || there.values.priv !== USER) return shown(there);
      if (!isSame(there.values, now.values)) return shown(there);
      now = there;
    }
  }

  /** A step of a hart. */
  private async step(hart: number, range?: Resume['range']): Promise<Place | Other> {
    const { direction, points } = this.how;
    const more = range ? { range } : {};
    return this.placed(await this.target.resume({ direction, kind: 'step', hart, points, ...more }, this.signal));
  }

  private async placed(stop: DebugStop): Promise<Place | Other> {
    if (stop.kind !== 'step') return stop as Other;
    return { kind: 'step', hart: stop.hart, values: await this.target.registers(stop.hart) };
  }

  /** Firmware of the guest's may take a trap first. It keeps the hart until it is done. */
  private async outOfFirmware(place: Place): Promise<Place | Other> {
    let there: Place | Other = place;
    while (there.kind === 'step' && there.values.priv === MACHINE) there = await this.step(there.hart);
    return there;
  }

  /** From the kernel's first instruction to the program, wherever that is then. Stays in a kernel without a known way back. */
  private async toProgram(entry: Place): Promise<Place | Other> {
    const vector = vectorOf(entry.values);
    const edges = returnsIn(await this.target.read(vector, EDGE_REACH, { hart: entry.hart }), vector);
    if (edges.length === 0) return entry;
    const { program, task } = await this.identify(entry);
    for (;;) {
      const edge = await this.toEdge(edges, program, entry.hart);
      if (edge.kind !== 'step') return edge;
      const there = await this.step(edge.hart);
      if (there.kind !== 'step') return there;
      if (there.values.priv === USER && (await this.taskOn(there.hart)) === task) return there;
    }
  }

  /** From before the kernel's last instruction to before the trap by which the program entered it. */
  private async toEntry(exit: Place): Promise<Place | Other> {
    const { stvec = 0n } = exit.values;
    const vector = vectorOf(exit.values);
    const vectored = (stvec & 3n) === 1n ? INTERRUPTS.map((cause) => vector + 4n * cause) : [];
    const { program, task } = await this.identify(exit);
    const edge = await this.toEdge([vector, ...vectored], program, exit.hart);
    if (edge.kind !== 'step') return edge;
    // What was before belongs to a task that had its memory before.
    if ((await this.taskOn(edge.hart)) !== task) return { kind: 'begin', hart: exit.hart };
    const before = await this.step(edge.hart);
    return before.kind === 'step' ? this.outOfFirmware(before) : before;
  }

  /** Runs to an edge of a program; a stop for another reason comes back. */
  private async toEdge(edges: readonly bigint[], program: UserProgram, hart: number): Promise<Place | Other> {
    const { direction, points } = this.how;
    const own = edges.map((address): DebugPoint => ({ kind: 'break', address, program }));
    const all = { direction, kind: 'continue', hart, points: [...points, ...own] } as const;
    const stop = await this.target.resume(all, this.signal);
    const isOwn = stop.point?.kind === 'break' && stop.point.program !== undefined;
    return isOwn ? this.placed({ kind: 'step', hart: stop.hart }) : (stop as Other);
  }

  /** Whose edge a hart stands at. */
  private async identify({ hart, values }: Place): Promise<{ program: UserProgram; task: number | undefined }> {
    const { sscratch: scratch = 0n, satp = 0n } = values;
    const vector = vectorOf(values);
    const task = vector >> 63n === 0n ? undefined : await this.taskOn(hart);
    if (task !== undefined) return { program: { scratch }, task };
    const tables = tablesOf(satp);
    const code = await this.target.read(vector, 4, { hart });
    return { program: swapsScratch(code) ? { tables, scratch } : { tables }, task };
  }

  /** The number of the guest's task on a hart, where tasks are known. */
  private async taskOn(hart: number): Promise<number | undefined> {
    const tasks = await this.target.tasks?.();
    return tasks?.find((task) => task.hart === hart)?.id;
  }
}

function shown(stop: Place | Other): DebugStop {
  return stop.kind === 'step' ? { kind: 'step', hart: stop.hart } : stop;
}

function vectorOf({ stvec = 0n }: RegisterValues): bigint {
  return stvec & ~3n;
}

/** Whether a vector's first instruction is `csrrw rd, sscratch, rd`. */
function swapsScratch(code: Uint8Array): boolean {
  if (code.length < 4) return false;
  const word = new DataView(code.buffer, code.byteOffset).getUint32(0, true);
  const [rd, rs] = [(word >> 7) & 31, (word >> 15) & 31];
  return (word & 0x707f) === 0x1073 && word >>> 20 === SSCRATCH && rd === rs && rd !== 0;
}

/** Whether a program's integer registers and pc are the same. */
function isSame(a: RegisterValues, b: RegisterValues): boolean {
  return a.pc === b.pc && INTEGERS.every((name) => a[name] === b[name]);
}

/**
 * Steps of a program under an operating system. Where a step of a hart enters the kernel, by an interrupt, a page fault or a system call,
 * the step of its program goes on until the program does, on whichever hart; and backwards likewise. So a debugger that steps through a
 * program does not find itself in the kernel between two of its instructions.
 *
 * A program is known by its page tables and its stack pointer. One that does not come back, because it has ended for example, is
 * waited for until a point is hit or somebody interrupts.
 */

import type { DebugStop, DebugTarget, RegisterValues, Resume } from './target.ts';

const ECALL = 8n;
/** What of satp names the tables: mode and root, without the number of the address space. */
const TABLES = ~(0xffffn << 44n);
const SPP = 1n << 8n;

/** Makes a step, or that of a program where the hart runs one. Others' steps are the target's. */
export async function programStep(target: DebugTarget, how: Resume, signal: AbortSignal): Promise<DebugStop> {
  let { hart } = how;
  for (;;) {
    const before = await target.registers(hart);
    const stop = await target.resume({ ...how, hart }, signal);
    if (stop.kind !== 'step' || !inProgram(before)) return stop;
    const after = await target.registers(hart);
    if (after.priv === 0n) return stop;
    const way = how.direction === 'forward' ? goOn : goBack;
    const there = await way(target, how, hart, how.direction === 'forward' ? after : before, signal);
    if (there.kind !== 'step' || there.made) return there;
    // It was interrupted, or its memory was not there: the step is still to be made.
    hart = there.hart;
  }
}

function inProgram({ priv, satp = 0n }: RegisterValues): boolean {
  return priv === 0n && satp >> 60n !== 0n;
}

/** `made`: the step is made by that. */
type There = DebugStop & { readonly made?: boolean };

/** From the first instruction of the kernel's to where the program goes on. */
async function goOn(
  target: DebugTarget,
  { points }: Resume,
  hart: number,
  kernel: RegisterValues,
  signal: AbortSignal,
): Promise<There> {
  const { sepc = 0n, scause = 0n } = kernel;
  const made = scause === ECALL;
  const address = made ? sepc + 4n : sepc;
  const arrived = (values: RegisterValues) => values.priv === 0n && isSame(values, kernel);
  const stop = await search(target, { direction: 'forward', points, hart, address }, arrived, signal);
  return stop.kind === 'step' ? { ...stop, made } : stop;
}

/** From where the kernel has just gone back to the program, to where the program entered it. */
async function goBack(
  target: DebugTarget,
  { points }: Resume,
  hart: number,
  program: RegisterValues,
  signal: AbortSignal,
): Promise<There> {
  const address = (program.stvec ?? 0n) & ~3n;
  const entered = (values: RegisterValues) => ((values.sstatus ?? 0n) & SPP) === 0n && isSame(values, program);
  const entry = await search(target, { direction: 'backward', points, hart, address }, entered, signal);
  if (entry.kind !== 'step') return entry;
  const { scause = 0n } = await target.registers(entry.hart);
  const stop = await target.resume({ direction: 'backward', kind: 'step', hart: entry.hart, points }, signal);
  return { ...stop, made: scause === ECALL };
}

/** Runs to an address at which a condition holds; a stop for another reason comes back. */
async function search(
  target: DebugTarget,
  { address, ...how }: Omit<Resume, 'kind'> & { readonly address: bigint },
  found: (values: RegisterValues) => boolean,
  signal: AbortSignal,
): Promise<DebugStop> {
  const own = { kind: 'break', address } as const;
  const isOurs = !how.points.some((point) => point.kind === 'break' && point.address === address);
  const points = isOurs ? [...how.points, own] : how.points;
  for (;;) {
    const stop = await target.resume({ ...how, kind: 'continue', points }, signal);
    if (stop.kind !== 'breakpoint' || stop.point?.kind !== 'break' || stop.point.address !== address) return stop;
    if (found(await target.registers(stop.hart))) return { kind: 'step', hart: stop.hart };
    if (!isOurs) return stop;
    if (signal.aborted) return { kind: 'interrupted', hart: stop.hart };
  }
}

function isSame(values: RegisterValues, { satp = 0n, sp }: RegisterValues): boolean {
  return ((values.satp ?? 0n) & TABLES) === (satp & TABLES) && values.sp === sp;
}

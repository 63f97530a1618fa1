/**
 * What the ways of a branch read and write of the registers, from the decision to the completion: found in the code, since nobody hears
 * of registers while a machine runs.
 *
 * Calls keep to the psABI: they preserve what a callee has to. What they read is found in the callee, and so is what it may leave as it
 * was of the rest, on which compilers rely (GCC's `-fipa-ra`). Of a callee that is not known, the registers of arguments are read,
 * and the others hold anything afterwards. A system call or a call with another link register counts as reading all.
 */

import { AnalysisError } from './analysis-error.ts';
import { type Block, type FunctionFlow, functionAt } from './flow.ts';
import { A0, FLOAT, type Instruction, isClobberedByCall, isResult, RA, SP, sources, written } from './instructions.ts';
import type { BranchPoint } from './points.ts';
import type { ProgramCode } from './program-code.ts';

/** Registers by number; floating-point register n is 32 + n. */
export type Registers = ReadonlySet<number>;

/** One way of a branch. */
export interface RegisterUse {
  /** Those whose value at the decision may matter before the completion. */
  readonly reads: Registers;
  /** Those that may be written before it, and of these the ones that are written in any case. */
  readonly writes: Registers;
  readonly sets: Registers;
}

const GP = 3;
const TP = 4;
const ALL: Registers = new Set(Array.from({ length: 63 }, (_, n) => n + 1));
const ALWAYS = [SP, GP, TP];
const NONE: Registers = new Set();
const isArgument = (register: number) => register % FLOAT >= A0 && register % FLOAT < A0 + 8;
const ARGUMENTS = [...ALL].filter(isArgument);
const CLOBBERED = [...ALL].filter(isClobberedByCall);
const AT_RETURN: Registers = new Set([...ALL].filter((n) => !isClobberedByCall(n) || isResult(n) || n === RA));

/** How deep calls are followed, and how many functions are looked at. */
const MAX_DEPTH = 6;
const MAX_CALLEES = 256;

/** What a call does to the registers that it need not preserve. */
interface CallUse {
  readonly reads: Registers;
  /** What may be afterwards what it was before. */
  readonly keeps: Registers;
  readonly writes: Registers;
}

const UNKNOWN: CallUse = { reads: new Set(ARGUMENTS), keeps: NONE, writes: new Set(CLOBBERED) };
const ANYTHING: CallUse = { ...UNKNOWN, keeps: new Set(CLOBBERED.filter((register) => register !== RA)) };

/** What calls do, by their targets. */
class Callees {
  private readonly code: ProgramCode | undefined;
  private readonly known = new Map<bigint, CallUse>();
  private depth = 0;

  constructor(code: ProgramCode | undefined) {
    this.code = code;
  }

  use(target: bigint | undefined): CallUse {
    if (target === undefined) return UNKNOWN;
    const known = this.known.get(target);
    if (known) return known;
    if (!this.code || this.depth === MAX_DEPTH || this.known.size >= MAX_CALLEES) return ANYTHING;
    // Meanwhile: one that calls itself.
    this.known.set(target, ANYTHING);
    this.depth++;
    const found = this.look(this.code, target);
    this.depth--;
    this.known.set(target, found);
    return found;
  }

  private look(code: ProgramCode, target: bigint): CallUse {
    try {
      const flow = functionAt(code, { address: target });
      if (flow.entry !== target) return ANYTHING;
      const everything = new Set(flow.blocks.keys());
      const liveWith = (atReturn: Registers) => {
        const leaving = ({ leaves }: Block) => (leaves === 'return' ? atReturn : leaves === 'never' ? NONE : ALL);
        const live = liveness(flow, everything, undefined, leaving, this).get(flow.entryBlock)!;
        return [...live].filter((register) => isClobberedByCall(register) && register !== RA);
      };
      const reads = new Set(liveWith(NONE));
      const keeps = new Set(liveWith(new Set(CLOBBERED)).filter((register) => !reads.has(register)));
      const isWhole = flow.blocks.every(
        ({ leaves }) => leaves === undefined || leaves === 'return' || leaves === 'never',
      );
      const found = flow.blocks.flatMap((block) => writesOf(block, this));
      return { reads, keeps, writes: new Set(isWhole ? found.filter(isClobberedByCall) : CLOBBERED) };
    } catch (error) {
      if (error instanceof AnalysisError) return ANYTHING;
      throw error;
    }
  }
}

/** What each outcome reads and writes, and what may be read from the completion on. */
export function registerUse(
  flow: FunctionFlow,
  { outcomes, completion }: Pick<BranchPoint, 'outcomes' | 'completion'>,
  code?: ProgramCode,
): { readonly ways: readonly [taken: RegisterUse, notTaken: RegisterUse]; readonly live: Registers } {
  const callees = new Callees(code);
  const end = completion === 'return' ? undefined : flow.find(completion)!.block;
  const of = (outcome: bigint): RegisterUse => {
    const start = flow.find(outcome)?.block;
    if (start === undefined || start === end) return { reads: new Set(ALWAYS), writes: NONE, sets: NONE };
    const region = reached(flow, start, end);
    const reads = liveness(flow, region, end, () => NONE, callees).get(start)!;
    const writes = new Set<number>();
    for (const n of region) for (const register of writesOf(flow.blocks[n]!, callees)) writes.add(register);
    return { reads: new Set([...reads, ...ALWAYS]), writes, sets: alwaysWritten(flow, region, start, end) };
  };
  const everything = new Set(flow.blocks.keys());
  const live =
    end === undefined
      ? leftLive(flow)
      : liveness(flow, everything, undefined, (block) => (block.leaves === 'return' ? AT_RETURN : ALL), callees).get(
          end,
        )!;
  return { ways: [of(outcomes[0]), of(outcomes[1])], live: new Set([...live, ...ALWAYS]) };
}

/** Where a function is left: the instruction that does it, of each block. */
export function exitsOf(flow: FunctionFlow): bigint[] {
  const leaving = flow.blocks.filter(
    ({ leaves, successors }) =>
      (leaves !== undefined && leaves !== 'never') || successors.some(({ block }) => block === undefined),
  );
  return leaving.map(({ instructions }) => instructions.at(-1)!.address);
}

function leftLive(flow: FunctionFlow): Registers {
  const exits = flow.blocks.filter(({ leaves }) => leaves !== 'never');
  return exits.every(
    ({ leaves, successors }) => leaves === 'return' || successors.every((edge) => edge.block !== undefined),
  )
    ? AT_RETURN
    : ALL;
}

function reached(flow: FunctionFlow, start: number, end: number | undefined): Set<number> {
  const found = new Set([start]);
  for (const n of found) {
    for (const { block } of flow.blocks[n]!.successors) if (block !== undefined && block !== end) found.add(block);
  }
  return found;
}

/** The registers that matter at the start of each block of a region; where control leaves the function, those that `leaving` says. */
function liveness(
  flow: FunctionFlow,
  region: ReadonlySet<number>,
  end: number | undefined,
  leaving: (block: Block) => Registers,
  callees: Callees,
): Map<number, Set<number>> {
  const live = new Map([...region].map((n) => [n, new Set<number>()]));
  const order = [...region].reverse();
  for (let changed = true; changed; ) {
    changed = false;
    for (const n of order) {
      const block = flow.blocks[n]!;
      const leaves = block.successors.length === 0 || block.successors.some((edge) => edge.block === undefined);
      const now = new Set<number>(leaves ? leaving(block) : []);
      for (const { block: next } of block.successors) {
        if (next === undefined || next === end) continue;
        for (const register of live.get(next) ?? []) now.add(register);
      }
      for (let at = block.instructions.length - 1; at >= 0; at--) {
        const instruction = block.instructions[at]!;
        const uses = readsOf(block, instruction, now, callees);
        for (const register of killsOf(block, instruction)) now.delete(register);
        for (const register of uses) now.add(register);
      }
      const before = live.get(n)!;
      if (now.size === before.size) continue;
      live.set(n, now);
      changed = true;
    }
  }
  return live;
}

/** The registers that every walk through a region writes, from its first block to its end. */
function alwaysWritten(
  flow: FunctionFlow,
  region: ReadonlySet<number>,
  start: number,
  end: number | undefined,
): Registers {
  const before = new Map<number, Registers>([[start, NONE]]);
  let atEnd: Registers | undefined;
  const both = (a: Registers | undefined, b: Registers): Registers => (a ? new Set([...a].filter((n) => b.has(n))) : b);
  for (let changed = true; changed; ) {
    changed = false;
    atEnd = undefined;
    for (const n of region) {
      const known = before.get(n);
      if (!known) continue;
      const block = flow.blocks[n]!;
      const after = new Set(known);
      for (const instruction of block.instructions) {
        const register = written(instruction);
        if (register !== undefined) after.add(register);
      }
      if (block.leaves !== undefined && block.leaves !== 'never') atEnd = both(atEnd, after);
      for (const { block: next } of block.successors) {
        if (next === undefined || next === end) {
          atEnd = both(atEnd, after);
          continue;
        }
        const was = before.get(next);
        const now = both(was, after);
        if (was && now.size === was.size) continue;
        before.set(next, now);
        changed = true;
      }
    }
  }
  return atEnd ?? NONE;
}

const isLast = (block: Block, instruction: Instruction) => block.instructions.at(-1) === instruction;

function readsOf(block: Block, instruction: Instruction, live: Registers, callees: Callees): Iterable<number> {
  if (instruction.row.name === 'ecall') return ALL;
  const { control } = block;
  if (!isLast(block, instruction) || control?.kind !== 'call') return sources(instruction);
  if (!control.standard) return ALL;
  const { reads, keeps } = callees.use(control.target);
  return [...sources(instruction), ...reads, ...[...keeps].filter((register) => live.has(register))];
}

function killsOf(block: Block, instruction: Instruction): Iterable<number> {
  if (isLast(block, instruction) && block.control?.kind === 'call') return block.control.standard ? CLOBBERED : [];
  const register = written(instruction);
  return register === undefined ? [] : [register];
}

function writesOf({ instructions, control }: Block, callees: Callees): number[] {
  const own = instructions.flatMap((instruction) => {
    if (instruction.row.name === 'ecall') return [A0];
    const register = written(instruction);
    return register === undefined ? [] : [register];
  });
  if (control?.kind !== 'call') return own;
  return [...own, ...(control.standard ? callees.use(control.target).writes : ALL)];
}

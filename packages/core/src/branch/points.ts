/**
 * Branch points of a function: where clones can be spawned ahead of a condition, and where they are done.
 *
 * A decision is a conditional branch. It is decided there which way a path goes on; the immediate post-dominator is where the
 * ways meet again. The fork point lies before it, such that it dominates the decision and nothing but the decision follows it in
 * the same activation: no path can begin otherwise.
 *
 * To find a fork point, the condition's operands are followed backwards from the branch, through the blocks that lead to it and
 * nowhere else: registers, and slots of the stack that they were kept in. A call (or system call) whose result they come from is what
 * computes the condition, and the fork point is in front of it. An operand that comes from other memory may have been
 * written by the last call before it, which counts as well.
 */

import { AnalysisError, hex } from './analysis-error.ts';
import { type Block, type FunctionFlow, type FunctionPlace, functionAt } from './flow.ts';
import { FrameOffsets } from './frame-offsets.ts';
import { A0, FLOAT, type Instruction, isClobberedByCall, isResult, S0, SP, sources, written } from './instructions.ts';
import { ProgramCode } from './program-code.ts';

/** What computes a condition. */
export interface ConditionCall {
  /** The instruction that calls, and the one that it comes back to. */
  readonly address: bigint;
  readonly returns: bigint;
  /** Undefined for a computed one, and for a system call. */
  readonly target: bigint | undefined;
}

export interface BranchPoint {
  readonly forkPoint: bigint;
  /** The conditional branch. */
  readonly decisionPoint: bigint;
  readonly outcomes: readonly [taken: bigint, notTaken: bigint];
  /** Whether each outcome can come to the completion; one that cannot ends the process or never ends. */
  readonly completes: readonly [taken: boolean, notTaken: boolean];
  /** Where the outcomes meet again in the same activation, or `return` when they do so in its caller only. */
  readonly completion: bigint | 'return';
  /** The calls that the condition is computed by, in the order of their execution. */
  readonly calls: readonly ConditionCall[];
  /**
   * sp minus its value at the function's entry, before the instructions of these names: equal differences mean the same
   * activation. Undefined where it is not known; at `return` it is 0.
   */
  readonly frame: {
    readonly forkPoint: bigint | undefined;
    readonly decisionPoint: bigint | undefined;
    readonly completion: bigint | undefined;
  };
}

/** An address (with the load bias in it), or a symbol and a distance from it in bytes. */
export type CodePlace = bigint | { readonly symbol: string; readonly offset?: bigint };

/** Every decision of a function that has two outcomes, by ascending address. */
export function branchPoints(flow: FunctionFlow): BranchPoint[] {
  const frames = new FrameOffsets(flow);
  const predecessors = predecessorsOf(flow);
  return flow.blocks.flatMap((block, n) => {
    if (block.control?.kind !== 'branch' || block.control.target === block.end) return [];
    const { forkPoint, calls } = forkPointOf(flow, n, predecessors);
    return [complete(flow, frames, n, forkPoint, calls)];
  });
}

/**
 * The branch point that a pair of places makes. Without a fork point one is found. Throws `AnalysisError` when the decision is no
 * conditional branch, or can be reached other than through the fork point, or missed from it.
 */
export function branchPointAt(
  elf: Uint8Array | ProgramCode,
  pair: {
    readonly forkPoint?: CodePlace;
    readonly decisionPoint: CodePlace;
    /** Needed where no symbol says what function the decision is in. */
    readonly function?: FunctionPlace;
  },
  bias = 0n,
): BranchPoint {
  const code = elf instanceof ProgramCode ? elf : new ProgramCode(elf, bias);
  const decision = addressOf(code, pair.decisionPoint);
  const flow = functionAt(code, pair.function ?? placeOf(pair.decisionPoint, decision));
  const at = flow.find(decision);
  if (!at) throw new AnalysisError('no-instruction', `no instruction of ${title(flow)} starts at ${hex(decision)}`);
  const block = flow.blocks[at.block]!;
  const { row } = block.instructions[at.index]!;
  if (row.format !== 'B') {
    throw new AnalysisError(
      'not-a-branch',
      `the instruction at ${hex(decision)} is ${row.name}, no conditional branch`,
    );
  }
  if (block.control?.kind === 'branch' && block.control.target === block.end) {
    throw new AnalysisError('one-outcome', `both outcomes of the branch at ${hex(decision)} are the next instruction`);
  }
  const found = forkPointOf(flow, at.block, predecessorsOf(flow));
  const fork = pair.forkPoint === undefined ? found.forkPoint : addressOf(code, pair.forkPoint);
  if (pair.forkPoint !== undefined) checkPair(code, flow, fork, decision);
  // A call that the fork point lies behind has been made when the clones begin.
  const calls = found.calls.filter(({ address }) => precedes(flow, fork, address));
  return complete(flow, new FrameOffsets(flow), at.block, fork, calls);
}

function checkPair(code: ProgramCode, flow: FunctionFlow, fork: bigint, decision: bigint): void {
  const from = flow.find(fork);
  if (!from) {
    if (code.covering(fork) && functionAt(code, { address: fork }).entry !== flow.entry) {
      throw new AnalysisError('other-function', `${hex(fork)} is not in ${title(flow)}, where ${hex(decision)} is`);
    }
    throw new AnalysisError('no-instruction', `no instruction of ${title(flow)} starts at ${hex(fork)}`);
  }
  if (!precedes(flow, fork, decision)) {
    throw new AnalysisError('not-dominated', `${hex(decision)} can be reached without passing ${hex(fork)}`);
  }
  const to = flow.find(decision)!;
  if (!flow.postDominatorTree.dominates(to.block, from.block)) {
    throw new AnalysisError('avoidable', `from ${hex(fork)} the function can end without passing ${hex(decision)}`);
  }
}

/** Whether an instruction is passed, at it or before it, on each way to another one. */
function precedes(flow: FunctionFlow, first: bigint, second: bigint): boolean {
  const [a, b] = [flow.find(first)!, flow.find(second)!];
  return a.block === b.block ? a.index <= b.index : flow.dominatorTree.dominates(a.block, b.block);
}

function addressOf(code: ProgramCode, place: CodePlace): bigint {
  return typeof place === 'bigint' ? place : code.symbol(place.symbol).address + (place.offset ?? 0n);
}

/** The function of a place: that of the symbol it was named by if this is a label only, so that no range says so. */
function placeOf(place: CodePlace, address: bigint): FunctionPlace {
  return typeof place === 'bigint' ? { address } : { symbol: place.symbol };
}

function title({ name, entry }: FunctionFlow): string {
  return name ?? `the function at ${hex(entry)}`;
}

function complete(
  flow: FunctionFlow,
  frames: FrameOffsets,
  block: number,
  forkPoint: bigint,
  calls: readonly ConditionCall[],
): BranchPoint {
  const { instructions, successors } = flow.blocks[block]!;
  const decisionPoint = instructions.at(-1)!.address;
  const [taken, notTaken] = successors as [(typeof successors)[0], (typeof successors)[0]];
  const meeting = flow.postDominators[block]!;
  const join: Block | undefined = flow.blocks[meeting];
  const completion = join ? join.start : 'return';
  const target = join ? meeting : flow.blocks.length;
  // An edge without a block leaves the function, so its way ends in the caller.
  const comes = (next: number | undefined) =>
    next === undefined ? true : flow.postDominatorTree.dominates(target, next);
  return {
    forkPoint,
    decisionPoint,
    outcomes: [taken.address, notTaken.address],
    completes: [comes(taken.block), comes(notTaken.block)],
    completion,
    calls,
    frame: {
      forkPoint: frames.before(forkPoint),
      decisionPoint: frames.before(decisionPoint),
      completion: completion === 'return' ? 0n : frames.before(completion),
    },
  };
}

function predecessorsOf(flow: FunctionFlow): number[][] {
  const predecessors: number[][] = flow.blocks.map(() => []);
  flow.blocks.forEach(({ successors }, n) => {
    for (const { block } of successors) if (block !== undefined) predecessors[block]!.push(n);
  });
  // Whoever calls the function comes to its entry too.
  predecessors[flow.entryBlock]!.push(-1);
  return predecessors;
}

/** The instructions before a decision, last first, as long as nothing else leads to them and they lead nowhere else. */
function* backwards(
  flow: FunctionFlow,
  block: number,
  predecessors: readonly (readonly number[])[],
): Generator<Instruction> {
  const seen = new Set<number>();
  for (let at = block; !seen.has(at); ) {
    seen.add(at);
    const { instructions } = flow.blocks[at]!;
    for (let n = instructions.length - 1; n >= 0; n--) yield instructions[n]!;
    const [before, other] = predecessors[at]!;
    if (before === undefined || before === -1 || other !== undefined) return;
    if (flow.blocks[before]!.successors.length !== 1) return;
    at = before;
  }
}

/** How far before a decision its condition is looked for. */
const MAX_DISTANCE = 4096;

function forkPointOf(flow: FunctionFlow, block: number, predecessors: readonly (readonly number[])[]) {
  const search = new Search();
  let distance = 0;
  for (const instruction of backwards(flow, block, predecessors)) {
    if (distance++ === MAX_DISTANCE || !search.step(flow, instruction)) break;
  }
  const { calls } = search;
  return { forkPoint: calls[0]?.address ?? flow.blocks[block]!.start, calls };
}

const STORES = new Set(['sb', 'sh', 'sw', 'sd', 'fsw', 'fsd']);
const FRAME_POINTERS = new Set([SP, S0]);

/** What a condition still depends on, going backwards. */
class Search {
  private readonly found = new Map<bigint, ConditionCall>();
  private readonly order: ConditionCall[] = [];
  private readonly registers = new Set<number>();
  /** Slots of the stack, as `register:offset`, each with the call behind which no store into it was seen. */
  private readonly slots = new Map<string, ConditionCall | undefined>();
  /** Memory that is not a slot. */
  private memory = false;

  /** The calls that compute the condition, in the order of their execution. */
  get calls(): ConditionCall[] {
    // Nobody stores into such a slot but a callee that has its address.
    for (const call of this.slots.values()) if (call) this.found.set(call.address, call);
    return this.order.filter(({ address }) => this.found.has(address)).reverse();
  }

  /** Takes one more instruction in; false when nothing is left to be found. */
  step(flow: FunctionFlow, instruction: Instruction): boolean {
    const { row, operands, address, next } = instruction;
    const register = written(instruction);
    if (row.format === 'B') for (const source of sources(instruction)) this.registers.add(source);
    else if (row.name === 'ecall') this.call({ address, returns: next, target: undefined }, true);
    else if (row.name === 'jal' || row.name === 'jalr') {
      const { control } = flow.blocks[flow.find(address)!.block]!;
      if (control?.kind === 'call') this.call({ address, returns: next, target: control.target }, false);
    } else if (STORES.has(row.name)) this.store(instruction);
    else if (register !== undefined && this.registers.delete(register)) {
      const loads = row.format === 'L' || row.format === 'FL' || row.format === 'A' || row.format === 'AL';
      if (loads && FRAME_POINTERS.has(operands.rs1)) this.slots.set(`${operands.rs1}:${operands.imm}`, undefined);
      else {
        this.memory ||= loads;
        for (const source of sources(instruction)) this.registers.add(source);
      }
    }
    // A slot is known by its register, whose earlier value is another.
    if (register !== undefined && FRAME_POINTERS.has(register)) this.forget(register);
    return this.registers.size + this.slots.size > 0 || this.memory;
  }

  private call(call: ConditionCall, isSystemCall: boolean): void {
    const results = [...this.registers].filter(isSystemCall ? (register) => register === A0 : isResult);
    this.order.push(call);
    if (results.length > 0 || this.memory) this.found.set(call.address, call);
    for (const [slot, earlier] of this.slots) if (!earlier) this.slots.set(slot, call);
    for (const register of results) this.registers.delete(register);
    // What else a callee leaves behind has no origin before the call.
    if (!isSystemCall)
      for (const register of [...this.registers]) if (isClobberedByCall(register)) this.registers.delete(register);
    this.memory = false;
  }

  private store({ row, operands }: Instruction): void {
    if (!FRAME_POINTERS.has(operands.rs1) || !this.slots.delete(`${operands.rs1}:${operands.imm}`)) return;
    if (operands.rs2 !== 0) this.registers.add(row.format === 'FS' ? FLOAT + operands.rs2 : operands.rs2);
  }

  private forget(register: number): void {
    for (const [slot, call] of [...this.slots]) {
      if (!slot.startsWith(`${register}:`)) continue;
      this.slots.delete(slot);
      if (call) this.found.set(call.address, call);
      else this.memory = true;
    }
  }
}

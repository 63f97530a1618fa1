/**
 * The control flow of one function of a program: basic blocks, found by following the code from the function's entry.
 *
 * What belongs to the function is what its entry reaches without a call: its own range, the range of its `.cold` part, and the
 * middle of another function that it jumps into. A jump to where another function begins is a tail call. Control ends in a
 * block (`leaves`) by a return, a tail call, a computed jump whose targets are not known, or for good: a call that does not
 * return, a system call that ends the process, no instruction. Jump tables as GCC and LLVM write them are read.
 *
 * Where the code leaves a doubt an edge is kept: an edge too many makes a post-dominator later, never wrong. Two things are not
 * seen: handlers that an exception is unwound into, and code that is rewritten at run time.
 *
 * The cost is one decode of each instruction, and a bounded look at each function that is called. Throws `AnalysisError`.
 */

import { AnalysisError, hex } from './analysis-error.ts';
import { DominatorTree, immediateDominators, immediatePostDominators } from './dominators.ts';
import { A7, type Control, controlOf, type Instruction, instructionAt, written } from './instructions.ts';
import { tableTargets } from './jump-tables.ts';
import { type CodeSymbol, ProgramCode } from './program-code.ts';

/** A symbol of the program, or an address in the function (with the load bias in it). */
export type FunctionPlace = { readonly symbol: string } | { readonly address: bigint };

export interface Edge {
  readonly kind: 'fallthrough' | 'taken' | 'jump' | 'indirect' | 'call-return';
  readonly address: bigint;
  /** The block there; undefined when control leaves the function by this edge. */
  readonly block: number | undefined;
}

export interface Block {
  readonly start: bigint;
  /** The address behind its last instruction. */
  readonly end: bigint;
  readonly instructions: readonly Instruction[];
  readonly successors: readonly Edge[];
  /** What the last instruction does when it does not simply go on. */
  readonly control: Control | undefined;
  /** How the function is left here; `never` when nothing follows. */
  readonly leaves: 'return' | 'tail-call' | 'indirect' | 'never' | undefined;
}

export interface FunctionFlow {
  /** The symbol that it begins at, if there is one. */
  readonly name: string | undefined;
  readonly entry: bigint;
  /** By ascending start. Blocks that the entry does not reach are not there. */
  readonly blocks: readonly Block[];
  readonly entryBlock: number;
  /** The immediate dominator of each block, -1 for the entry. */
  readonly dominators: Int32Array;
  /** The immediate post-dominator of each block: `blocks.length` is the end of the activation, -1 that there is no way to it. */
  readonly postDominators: Int32Array;
  readonly dominatorTree: DominatorTree;
  readonly postDominatorTree: DominatorTree;
  /** Where computed jumps are whose targets are not known. They are taken to leave the function. */
  readonly unresolved: readonly bigint[];
  /** The block and the index in it of the instruction that starts at an address. */
  find(address: bigint): { readonly block: number; readonly index: number } | undefined;
}

/** `exit` (93) and `exit_group` (94) end the caller, `rt_sigreturn` (139) goes elsewhere (Linux, asm-generic/unistd.h). */
const FINAL_SYSTEM_CALLS = new Set([93, 94, 139]);

/** Functions of libc, libpthread, libgcc, libstdc++ and the kernel that do not return to their caller. */
const FINAL_FUNCTIONS = new Set(
  (
    'exit _exit _Exit quick_exit abort __assert __assert_fail __assert_perror_fail __stack_chk_fail __stack_chk_fail_local ' +
    '__fortify_fail __chk_fail __libc_fatal longjmp _longjmp siglongjmp __longjmp_chk pthread_exit thrd_exit err errx verr ' +
    'verrx __cxa_throw __cxa_rethrow __cxa_bad_cast __cxa_pure_virtual _Unwind_Resume _ZSt9terminatev panic do_exit ' +
    'make_task_dead'
  ).split(' '),
);

const MAX_INSTRUCTIONS = 2 ** 16;
/** What is looked at of all functions that one function calls, to find those that do not return, and of each. */
const CALLEES_BUDGET = 2 ** 16;
const CALLEE_INSTRUCTIONS = 2 ** 11;
const CALLEE_DEPTH = 4;
/** Jump tables found in a round may lead to code with further ones. */
const MAX_ROUNDS = 64;

/** The flow of the function that a symbol names or that has the instruction at an address. */
export function functionAt(elf: Uint8Array | ProgramCode, place: FunctionPlace, bias = 0n): FunctionFlow {
  const code = elf instanceof ProgramCode ? elf : new ProgramCode(elf, bias);
  const symbol = 'symbol' in place ? code.symbol(place.symbol) : code.covering(place.address);
  const whole = symbol && parentOf(code, symbol);
  const entry = whole ? whole.address : 'address' in place ? place.address : 0n;
  if (code.half(entry) === undefined) throw new AnalysisError('no-instruction', `there is no code at ${hex(entry)}`);
  if (entry % 2n !== 0n) throw new AnalysisError('no-instruction', `${hex(entry)} is odd: no instruction starts there`);
  const ranges = [{ start: entry, end: whole ? code.endOf(whole) : code.endFrom(entry) }];
  const text = new Text(code, ranges, MAX_INSTRUCTIONS, new Callees(code));
  const tables = new Map<bigint, readonly bigint[]>();
  text.follow(entry);
  let blocks = text.blocks(entry, tables);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const before = tables.size;
    for (const found of tableTargets(code, blocks)) {
      const { jump, targets } = found;
      if (tables.has(jump) || !targets.every((target) => text.belongs(target))) continue;
      tables.set(jump, targets);
      for (const target of targets) text.follow(target);
    }
    if (tables.size === before) break;
    blocks = text.blocks(entry, tables);
  }
  return flowOf(whole && code.nameOf(whole), entry, blocks);
}

/** GCC puts code that is seldom run into a symbol of its own, `name.cold`: activations are those of `name`. */
function parentOf(code: ProgramCode, symbol: CodeSymbol): CodeSymbol {
  const name = code.nameOf(symbol);
  const parent = name.replace(COLD, '');
  if (parent === name || parent === '') return symbol;
  try {
    return code.symbol(parent);
  } catch (error) {
    if (error instanceof AnalysisError) return symbol;
    throw error;
  }
}

const COLD = /\.cold(\.\d+)?$/;

function flowOf(name: string | undefined, entry: bigint, blocks: readonly Block[]): FunctionFlow {
  if (blocks.length === 0) throw new AnalysisError('no-instruction', `there is no instruction at ${hex(entry)}`);
  const graph = blocks.map(({ successors }) => successors.flatMap(({ block }) => block ?? []));
  const exits: number[] = [];
  blocks.forEach(({ leaves, successors }, n) => {
    if ((leaves && leaves !== 'never') || successors.some(({ block }) => block === undefined)) exits.push(n);
  });
  const entryBlock = blocks.findIndex(({ start }) => start === entry);
  const dominators = immediateDominators(graph, entryBlock);
  const postDominators = immediatePostDominators(graph, exits);
  const places = new Map<bigint, { block: number; index: number }>();
  blocks.forEach(({ instructions }, block) => {
    instructions.forEach(({ address }, index) => {
      places.set(address, { block, index });
    });
  });
  return {
    name,
    entry,
    blocks,
    entryBlock,
    dominators,
    postDominators,
    dominatorTree: new DominatorTree(dominators, entryBlock),
    postDominatorTree: new DominatorTree(postDominators, blocks.length),
    unresolved: blocks.flatMap(({ leaves, instructions }) =>
      leaves === 'indirect' ? [instructions.at(-1)!.address] : [],
    ),
    find: (address) => places.get(address),
  };
}

interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

/** The instructions that a function's entry reaches. */
class Text {
  /** More instructions were reached than allowed; only a callee that is merely looked at goes on without them. */
  overflow = false;
  private readonly code: ProgramCode;
  private readonly ranges: Range[];
  private readonly limit: number;
  private readonly callees: Callees;
  private readonly depth: number;
  private readonly instructions = new Map<bigint, Instruction>();
  private readonly controls = new Map<bigint, Control>();
  private readonly leaders = new Set<bigint>();

  constructor(code: ProgramCode, ranges: Range[], limit: number, callees: Callees, depth = 0) {
    this.code = code;
    this.ranges = ranges;
    this.limit = limit;
    this.callees = callees;
    this.depth = depth;
  }

  get length(): number {
    return this.instructions.size;
  }

  /** Whether a jump to an address stays in the function; takes the part of it that begins or goes on there in. */
  belongs(address: bigint): boolean {
    if (address % 2n !== 0n || this.code.half(address) === undefined) return false;
    if (this.contains(address)) return true;
    const begins = this.code.at(address).filter((symbol) => symbol.isFunction);
    const part = begins.find((symbol) => COLD.test(this.code.nameOf(symbol)));
    const owner = part ?? (begins.length > 0 ? undefined : this.code.covering(address));
    if (!owner) return false;
    this.ranges.push({ start: owner.address, end: this.code.endOf(owner) });
    return true;
  }

  /** Decodes everything that is reached from an address. */
  follow(from: bigint): void {
    const waiting = [from];
    const go = (address: bigint) => {
      if (!this.belongs(address)) return;
      this.leaders.add(address);
      waiting.push(address);
    };
    this.leaders.add(from);
    for (let address = waiting.pop(); address !== undefined; address = waiting.pop()) {
      let previous: Instruction | undefined;
      while (this.contains(address) && !this.instructions.has(address)) {
        const instruction = instructionAt(this.code, address);
        if (!instruction) break;
        if (this.instructions.size >= this.limit) {
          if (this.depth === 0) {
            throw new AnalysisError('too-large', `the function has more than ${this.limit} instructions`);
          }
          this.overflow = true;
          return;
        }
        this.instructions.set(address, instruction);
        const control = controlOf(instruction, previous);
        previous = instruction;
        if (control) {
          this.controls.set(address, control);
          if (control.kind === 'branch' || control.kind === 'jump') go(control.target);
          if (control.kind === 'branch' || (control.kind === 'call' && this.comesBack(control))) go(instruction.next);
          break;
        }
        address = instruction.next;
      }
    }
  }

  /** The blocks that the entry reaches, by ascending address. */
  blocks(entry: bigint, tables: ReadonlyMap<bigint, readonly bigint[]>): Block[] {
    const made = new Map<bigint, Draft>();
    const waiting = [entry];
    for (let start = waiting.pop(); start !== undefined; start = waiting.pop()) {
      if (made.has(start) || !this.instructions.has(start)) continue;
      const draft = this.draft(start, tables);
      made.set(start, draft);
      for (const { address, inside } of draft.edges) if (inside) waiting.push(address);
    }
    const starts = [...made.keys()].sort((a, b) => (a < b ? -1 : 1));
    const numbers = new Map(starts.map((start, n) => [start, n]));
    return starts.map((start) => {
      const { instructions, control, leaves, edges } = made.get(start)!;
      const successors = edges.map(({ kind, address, inside }): Edge => {
        return { kind, address, block: inside ? numbers.get(address) : undefined };
      });
      return { start, end: instructions.at(-1)!.next, instructions, successors, control, leaves };
    });
  }

  /** Whether control can go back to the caller; `tables` are not read for this. */
  returns(entry: bigint): boolean {
    if (this.overflow) return true;
    return this.blocks(entry, new Map()).some(({ leaves, control, successors }) => {
      if (leaves === 'return' || leaves === 'indirect') return true;
      if (leaves === 'tail-call' && control?.kind === 'jump')
        return this.callees.returns(control.target, this.depth + 1);
      return leaves === 'tail-call' || successors.some(({ block }) => block === undefined);
    });
  }

  private contains(address: bigint): boolean {
    return this.ranges.some(({ start, end }) => address >= start && address < end);
  }

  private comesBack(control: Control & { kind: 'call' }): boolean {
    return control.target === undefined || this.callees.returns(control.target, this.depth + 1);
  }

  private draft(start: bigint, tables: ReadonlyMap<bigint, readonly bigint[]>): Draft {
    const instructions: Instruction[] = [];
    let address = start;
    let control: Control | undefined;
    for (;;) {
      const instruction = this.instructions.get(address);
      if (!instruction) break;
      instructions.push(instruction);
      control = this.controls.get(address);
      address = instruction.next;
      if (instruction.row.name === 'ecall' && endsProcess(instructions)) return { instructions, control, ...NOTHING };
      if (control || this.leaders.has(address)) break;
    }
    const edge = (kind: Edge['kind'], to: bigint): DraftEdge => ({
      kind,
      address: to,
      inside: this.instructions.has(to),
    });
    const next = edge('fallthrough', address);
    const last = instructions.at(-1)!;
    switch (control?.kind) {
      case undefined: {
        if (next.inside) return { instructions, control, leaves: undefined, edges: [next] };
        // Behind the range another function begins; behind the last instruction that the machine knows, or a trap, nothing.
        const goes = !this.contains(address) && instructionAt(this.code, address) && !TRAPS.has(last.row.name);
        return { instructions, control, leaves: goes ? 'tail-call' : 'never', edges: [] };
      }
      case 'branch':
        return { instructions, control, leaves: undefined, edges: [edge('taken', control.target), next] };
      case 'jump': {
        const to = edge('jump', control.target);
        const leaves = to.inside ? undefined : this.callees.returns(to.address, this.depth + 1) ? 'tail-call' : 'never';
        return { instructions, control, leaves, edges: to.inside ? [to] : [] };
      }
      case 'call': {
        const back = edge('call-return', address);
        if (!back.inside || !this.comesBack(control)) return { instructions, control, ...NOTHING };
        return { instructions, control, leaves: undefined, edges: [back] };
      }
      case 'indirect': {
        const targets = tables.get(last.address);
        if (!targets) return { instructions, control, leaves: 'indirect', edges: [] };
        return { instructions, control, leaves: undefined, edges: targets.map((target) => edge('indirect', target)) };
      }
      case 'return':
        return { instructions, control, leaves: 'return', edges: [] };
    }
  }
}

interface DraftEdge {
  readonly kind: Edge['kind'];
  readonly address: bigint;
  readonly inside: boolean;
}

interface Draft {
  readonly instructions: readonly Instruction[];
  readonly control: Control | undefined;
  readonly leaves: Block['leaves'];
  readonly edges: readonly DraftEdge[];
}

const NOTHING = { leaves: 'never', edges: [] } as const;
const TRAPS = new Set(['ebreak', 'ecall']);

/** Whether the system call at the end of these instructions is one that does not come back. */
function endsProcess(instructions: readonly Instruction[]): boolean {
  for (let n = instructions.length - 2; n >= 0; n--) {
    const instruction = instructions[n]!;
    if (written(instruction) !== A7) continue;
    const { row, operands } = instruction;
    return row.name === 'addi' && operands.rs1 === 0 && FINAL_SYSTEM_CALLS.has(operands.imm);
  }
  return false;
}

/** Finds which callees do not return: by their names, or by their own code. In doubt they do. */
class Callees {
  private readonly code: ProgramCode;
  private readonly known = new Map<bigint, boolean>();
  private budget = CALLEES_BUDGET;

  constructor(code: ProgramCode) {
    this.code = code;
  }

  returns(target: bigint, depth: number): boolean {
    const known = this.known.get(target);
    if (known !== undefined) return known;
    // A function that calls itself does not decide by that call.
    this.known.set(target, true);
    const found = this.look(target, depth);
    this.known.set(target, found);
    return found;
  }

  private look(target: bigint, depth: number): boolean {
    const { code } = this;
    if (code.at(target).some((symbol) => FINAL_FUNCTIONS.has(code.nameOf(symbol)))) return false;
    const imported = this.importAt(target);
    if (imported !== undefined) return !FINAL_FUNCTIONS.has(imported);
    const symbol = code.at(target).find(({ isFunction }) => isFunction);
    if (depth > CALLEE_DEPTH || this.budget <= 0 || target % 2n !== 0n || !symbol) return true;
    const limit = Math.min(CALLEE_INSTRUCTIONS, this.budget);
    const text = new Text(code, [{ start: target, end: code.endOf(symbol) }], limit, this, depth);
    text.follow(target);
    this.budget -= text.length;
    return text.returns(target);
  }

  /** The name behind an entry of the procedure linkage table: `auipc t3; ld t3, offset(t3); jalr t1, t3` (psABI). */
  private importAt(target: bigint): string | undefined {
    const upper = instructionAt(this.code, target);
    const load = upper && instructionAt(this.code, upper.next);
    if (upper?.row.name !== 'auipc' || load?.row.name !== 'ld' || load.operands.rs1 !== upper.operands.rd)
      return undefined;
    return this.code.importThrough(
      BigInt.asUintN(64, upper.address + BigInt(upper.operands.imm) + BigInt(load.operands.imm)),
    );
  }
}

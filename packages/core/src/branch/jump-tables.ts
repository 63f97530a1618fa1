/**
 * Targets of computed jumps through the tables that compilers make of `switch`:
 *
 * ```text
 * li    a5, 7            the bound: so many entries and one more
 * bltu  a5, a0, default
 * slli  a0, a0, 2
 * lla   a5, table
 * add   a0, a0, a5
 * lw    a0, 0(a0)        in a read-only segment; a distance from the table, or an address
 * add   a0, a0, a5
 * jr    a0
 * ```
 *
 * Registers are followed symbolically down the blocks that lead to the jump and to nothing else, as sums of a constant and a
 * shifted index, so the order and the registers do not matter. A jump that is not understood in full has no targets here.
 */

import { A0, type Control, type Instruction, isClobberedByCall, S0, SP, wrap, written } from './instructions.ts';
import type { ProgramCode } from './program-code.ts';

/** What of a block is looked at. */
interface Piece {
  readonly start: bigint;
  readonly instructions: readonly Instruction[];
  readonly control: Control | undefined;
  readonly successors: readonly {
    readonly kind: string;
    readonly address: bigint;
    readonly block: number | undefined;
  }[];
  readonly leaves: string | undefined;
}

/** `(index << shift) + add`, or what a table has at that address, plus `plus`. An index of undefined is 0. */
interface Value {
  readonly index: number | undefined;
  readonly shift: number;
  readonly add: bigint;
  /** The index is the low 32 bits, extended this way or that: the same when its bound leaves no sign. */
  readonly isWord?: boolean;
  readonly load?: { readonly size: 4 | 8; readonly plus: bigint };
}

const MAX_ENTRIES = 4096n;
/** How far before a jump its parts are looked for. */
const MAX_CHAIN = 6;
const MAX_DISTANCE = 512;

export function* tableTargets(
  code: ProgramCode,
  blocks: readonly Piece[],
): Generator<{ readonly jump: bigint; readonly targets: readonly bigint[] }> {
  const predecessors: number[][] = blocks.map(() => []);
  blocks.forEach(({ successors }, n) => {
    for (const { block } of successors) if (block !== undefined) predecessors[block]!.push(n);
  });
  for (let n = 0; n < blocks.length; n++) {
    const { leaves, control, instructions } = blocks[n]!;
    if (leaves !== 'indirect' || control?.kind !== 'indirect') continue;
    const chain = [n];
    let distance = instructions.length;
    while (chain.length < MAX_CHAIN) {
      const before = predecessors[chain[0]!]!;
      if (before.length !== 1 || chain.includes(before[0]!)) break;
      distance += blocks[before[0]!]!.instructions.length;
      if (distance > MAX_DISTANCE) break;
      chain.unshift(before[0]!);
    }
    const targets = new Follower(code).targets(
      chain.map((at) => blocks[at]!),
      control,
    );
    if (targets) yield { jump: instructions.at(-1)!.address, targets };
  }
}

class Follower {
  private readonly code: ProgramCode;
  private readonly values = new Map<number, Value>();
  /** The greatest value of an index, compared without sign. */
  private readonly bounds = new Map<number, bigint>();
  /** What slots of the stack were loaded as, until something is stored. */
  private readonly slots = new Map<string, Value>();
  private indexes = 0;

  constructor(code: ProgramCode) {
    this.code = code;
  }

  targets(chain: readonly Piece[], control: Control & { kind: 'indirect' }): bigint[] | undefined {
    chain.forEach((piece, n) => {
      for (const instruction of piece.instructions.slice(-MAX_DISTANCE)) this.step(instruction);
      const next = chain[n + 1];
      if (next) this.pass(piece, next);
    });
    const { index, shift, add, load } = this.get(control.register);
    const bound = index === undefined ? undefined : this.bounds.get(index);
    if (!load || bound === undefined || 1 << shift !== load.size || bound >= MAX_ENTRIES) return undefined;
    const found = new Set<bigint>();
    for (let n = 0n; n <= bound; n++) {
      const entry = this.entry(wrap(add + (n << BigInt(shift))), load.size);
      if (entry === undefined) return undefined;
      found.add(wrap(entry + load.plus + BigInt(control.offset)) & ~1n);
    }
    return [...found];
  }

  private entry(address: bigint, size: 4 | 8): bigint | undefined {
    const low = this.code.constant(address);
    if (low === undefined || size === 4) return low === undefined ? undefined : BigInt(low);
    const high = this.code.constant(address + 4n);
    return high === undefined ? undefined : (BigInt(high) << 32n) | BigInt.asUintN(32, BigInt(low));
  }

  private fresh(isWord = false): Value {
    return { index: this.indexes++, shift: 0, add: 0n, isWord };
  }

  private get(register: number): Value {
    if (register === 0) return constant(0n);
    let value = this.values.get(register);
    if (!value) {
      value = this.fresh();
      this.values.set(register, value);
    }
    return value;
  }

  /** What leaving a block to the next one of the chain says or destroys. */
  private pass(piece: Piece, next: Piece): void {
    const { control, instructions } = piece;
    if (control?.kind === 'call') {
      this.slots.clear();
      for (const register of [...this.values.keys()]) {
        if (!control.standard || isClobberedByCall(register)) this.values.delete(register);
      }
    }
    const last = instructions.at(-1)!;
    if (control?.kind !== 'branch' || (last.row.name !== 'bltu' && last.row.name !== 'bgeu')) return;
    const ways = piece.successors.filter(({ address }) => address === next.start);
    if (ways.length !== 1) return;
    // The way to the table is where `a < b` (or `a <= b`) holds.
    const holds = (last.row.name === 'bltu') === (ways[0]!.kind === 'taken');
    const [left, right] = [this.get(last.operands.rs1), this.get(last.operands.rs2)];
    const [a, b] = holds ? [left, right] : [right, left];
    if (isPlain(a) && isConstant(b) && b.add >= 0n) this.bound(a.index, holds ? b.add - 1n : b.add);
  }

  private bound(index: number, greatest: bigint): void {
    const before = this.bounds.get(index);
    if (greatest >= 0n && (before === undefined || greatest < before)) this.bounds.set(index, greatest);
  }

  private step(instruction: Instruction): void {
    const register = written(instruction);
    const { format } = instruction.row;
    if (format === 'S' || format === 'FS' || format === 'A' || register === SP || register === S0) this.slots.clear();
    if (register !== undefined) this.values.set(register, this.result(instruction));
    if (instruction.row.name === 'ecall') this.values.delete(A0);
  }

  /** Unoptimised code loads an index anew for each use. */
  private slot({ row, operands }: Instruction): Value {
    const key = `${row.name === 'ld' ? 8 : 4}:${operands.rs1}:${operands.imm}`;
    const value = this.slots.get(key) ?? this.fresh(row.name !== 'ld');
    this.slots.set(key, value);
    return value;
  }

  private result(instruction: Instruction): Value {
    const { address, row, operands: o } = instruction;
    const imm = BigInt(o.imm);
    switch (row.name) {
      case 'lui':
        return constant(imm);
      case 'auipc':
        return constant(wrap(address + imm));
      case 'addi': {
        // `x - 10` is an index of its own, so that a bound on it can be known.
        const value = this.get(o.rs1);
        return (isPlain(value) && imm !== 0n ? undefined : sum(value, constant(imm))) ?? this.fresh();
      }
      case 'addiw': {
        const value = this.get(o.rs1);
        if (isConstant(value)) return constant(BigInt.asIntN(32, value.add + imm));
        const isEntry = value.load?.size === 4 && value.load.plus === 0n;
        return imm === 0n && (isEntry || (isPlain(value) && value.isWord)) ? value : this.fresh(true);
      }
      case 'andi': {
        const value = this.fresh();
        if (imm >= 0n) this.bound(value.index!, imm);
        return value;
      }
      case 'add':
        return sum(this.get(o.rs1), this.get(o.rs2)) ?? this.fresh();
      case 'sub': {
        const value = this.get(o.rs2);
        return (isConstant(value) && sum(this.get(o.rs1), constant(-value.add))) || this.fresh();
      }
      case 'slli':
      case 'slli.uw':
        return shifted(this.get(o.rs1), o.imm) ?? this.fresh();
      case 'srli': {
        // An index that was moved up to lose its upper half: the bound says that there is nothing in it.
        const value = this.get(o.rs1);
        return value.load || value.add !== 0n || value.shift < o.imm
          ? this.fresh()
          : { ...value, shift: value.shift - o.imm };
      }
      case 'add.uw':
      case 'sh1add':
      case 'sh1add.uw':
      case 'sh2add':
      case 'sh2add.uw':
      case 'sh3add':
      case 'sh3add.uw': {
        const moved = shifted(this.get(o.rs1), row.name === 'add.uw' ? 0 : Number(row.name[2]));
        return (moved && sum(moved, this.get(o.rs2))) ?? this.fresh();
      }
      case 'addw':
      case 'subw':
        return this.fresh(true);
      case 'lwu':
        return o.rs1 === SP || o.rs1 === S0 ? this.slot(instruction) : this.fresh(true);
      case 'lw':
      case 'ld': {
        if (o.rs1 === SP || o.rs1 === S0) return this.slot(instruction);
        const value = sum(this.get(o.rs1), constant(imm));
        if (!value || value.load || value.index === undefined) return this.fresh();
        return { ...value, load: { size: row.name === 'lw' ? 4 : 8, plus: 0n } };
      }
      default:
        return this.fresh();
    }
  }
}

const constant = (add: bigint): Value => ({ index: undefined, shift: 0, add });
const isConstant = (value: Value): boolean => value.index === undefined && !value.load;

/** Whether a value is an index as it stands. */
function isPlain(value: Value): value is Value & { index: number } {
  return value.index !== undefined && value.shift === 0 && value.add === 0n && !value.load;
}

/** A sum of which one part at least is constant. */
function sum(a: Value, b: Value): Value | undefined {
  const [value, by] = isConstant(b) ? [a, b.add] : [b, a.add];
  if (!isConstant(a) && !isConstant(b)) return undefined;
  if (value.load) return { ...value, load: { ...value.load, plus: value.load.plus + by } };
  return { ...value, add: value.add + by };
}

function shifted(value: Value, by: number): Value | undefined {
  if (value.load || (value.add !== 0n && value.index !== undefined)) return undefined;
  return { ...value, shift: value.index === undefined ? 0 : value.shift + by, add: value.add << BigInt(by) };
}

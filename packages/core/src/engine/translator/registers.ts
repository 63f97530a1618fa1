/**
 * Which guest registers a region holds in locals, and where they have to be loaded and stored.
 *
 * A register is *dirty* where its local may be newer than the hart's state, and *live* where its local will be read: by an
 * instruction, or because the region may be left while it is dirty. Calls and exits store what is dirty; after a call everything
 * is clean, and what is live is loaded again.
 */

import type { Format, Operands, Row } from '../../isa/index.ts';
import type { Instruction } from './region.ts';
import type { Node } from './structure.ts';

/** Sets of registers, a bit each. */
export interface Registers {
  readonly x: number;
  readonly f: number;
}

export const NONE: Registers = { x: 0, f: 0 };
export const union = (a: Registers, b: Registers): Registers => {
  const x = a.x | b.x;
  const f = a.f | b.f;
  return x === a.x && f === a.f ? a : { x, f };
};

export interface Effects {
  readonly reads: Registers;
  readonly writes: Registers;
  /** It may be the last one that the region executes: a fault, or somebody asks for attention. */
  readonly mayLeave: boolean;
  /** Done by the interpreter's own handler. */
  readonly outOfLine: boolean;
}

const X1 = 1;
const X2 = 2;
const F1 = 4;
const F2 = 8;
const F3 = 16;
const XD = 32;
const FD = 64;
/** What each operand format reads and writes: rs1 and rs2 of x, rs1 to rs3 of f, and the destination in either. */
const SHAPES: Record<Format, number> = {
  R: X1 | X2 | XD,
  R1: X1 | XD,
  I: X1 | XD,
  SH: X1 | XD,
  SHW: X1 | XD,
  L: X1 | XD,
  S: X1 | X2,
  B: X1 | X2,
  U: XD,
  J: XD,
  A: X1 | X2 | XD,
  AL: X1 | XD,
  CSR: X1 | XD,
  CSRI: XD,
  N: 0,
  F2: X1 | X2,
  CB: X1,
  FL: X1 | FD,
  FS: X1 | F2,
  FR: F1 | F2 | FD,
  FRM: F1 | F2 | FD,
  FR1M: F1 | FD,
  FR4: F1 | F2 | F3 | FD,
  FC: F1 | F2 | XD,
  FX: F1 | XD,
  FXM: F1 | XD,
  XF: X1 | FD,
  XFM: X1 | FD,
};

export const isFloat = ({ row }: Instruction): boolean => row.extension === 'F' || row.extension === 'D';
const NO_EFFECTS: Effects = { reads: NONE, writes: NONE, mayLeave: false, outOfLine: false };
/** A fence orders nothing in a serial schedule. */
export const isNothing = (i: Instruction): boolean => i.effects === NO_EFFECTS;
/** Done by the interpreter's own handler. */
export const isOutOfLine = (i: Instruction): boolean => i.effects.outOfLine;

const OUT_OF_LINE = new Set(['Zicsr', 'Zicbom', 'Zicboz', 'Privileged', 'Zihintpause']);

const set = (x: number, f: number): Registers => (x === 0 && f === 0 ? NONE : { x, f });

export function effectsOf(row: Row, o: Operands): Effects {
  if (row.name.startsWith('fence')) return NO_EFFECTS;
  const shape = SHAPES[row.format];
  const rs1 = 1 << o.rs1;
  const rs2 = 1 << o.rs2;
  const rd = 1 << o.rd;
  // x0 is never read nor written.
  const readX = ((shape & X1 ? rs1 : 0) | (shape & X2 ? rs2 : 0)) & ~1;
  const readF = (shape & F1 ? rs1 : 0) | (shape & F2 ? rs2 : 0) | (shape & F3 ? 1 << o.rs3 : 0);
  const pure = row.pure || row.format === 'B' || row.name === 'jal' || row.name === 'jalr';
  return {
    reads: set(readX, readF),
    writes: set(shape & XD ? rd & ~1 : 0, shape & FD ? rd : 0),
    mayLeave: !pure,
    outOfLine: OUT_OF_LINE.has(row.extension),
  };
}

export interface NodeRegisters {
  readonly effects: readonly Effects[];
  /** Kept in locals in this block; the others are in the hart's state. */
  readonly held: Registers;
  /** Before the first instruction. */
  dirtyIn: Registers;
  liveIn: Registers;
  /** Behind the last one. */
  dirtyOut: Registers;
}

/** What is stored on the way from one block to another. */
export const storedBetween = (from: NodeRegisters, to: NodeRegisters): Registers =>
  set(from.dirtyOut.x & ~to.held.x, from.dirtyOut.f & ~to.held.f);
/** What is loaded there. */
export const loadedBetween = (from: NodeRegisters, to: NodeRegisters): Registers =>
  set(to.liveIn.x & ~from.held.x, to.liveIn.f & ~from.held.f);

/** The sets of a block while they grow, as plain numbers. */
class BlockSets {
  readonly node: Node;
  readonly effects: readonly Effects[];
  readonly isCall: boolean;
  /** Written in the block. */
  writesX = 0;
  writesF = 0;
  dirtyX = 0;
  dirtyF = 0;
  liveX = 0;
  liveF = 0;
  /** Live before the block whatever follows it. */
  usedX = 0;
  usedF = 0;

  constructor(node: Node) {
    const { instructions, end } = node.block;
    const effects = new Array<Effects>(instructions.length);
    for (let n = 0; n < instructions.length; n++) {
      const own = instructions[n]!.effects;
      effects[n] = own;
      this.writesX |= own.writes.x;
      this.writesF |= own.writes.f;
    }
    this.node = node;
    this.effects = effects;
    this.isCall = end.kind === 'call';
  }

  /** Once it is known what is dirty before the block. */
  findUsed(): void {
    const { effects, node } = this;
    // Dirty before each instruction, which it has to store if it leaves: what is dirty before the block or written above.
    let x = 0;
    let f = 0;
    let writtenX = 0;
    let writtenF = 0;
    for (let n = 0; n < effects.length; n++) {
      const { reads, writes, mayLeave } = effects[n]!;
      const readX = mayLeave ? reads.x | this.dirtyX : reads.x;
      const readF = mayLeave ? reads.f | this.dirtyF : reads.f;
      x |= readX & ~writtenX;
      f |= readF & ~writtenF;
      writtenX |= writes.x;
      writtenF |= writes.f;
    }
    const { kind } = node.block.end;
    const leaves = this.isCall || kind === 'return' || kind === 'computed' || node.ways.includes(undefined);
    if (leaves) {
      x |= this.dirtyX & ~writtenX;
      f |= this.dirtyF & ~writtenF;
    }
    if (node.isLoop) {
      x |= this.dirtyX;
      f |= this.dirtyF;
    }
    this.usedX = x;
    this.usedF = f;
  }
}

/** Dirty and live registers of every block, in the order of `nodes`; `held` as `loops.ts` finds it. */
export function analyzeRegisters(nodes: readonly Node[], held: readonly Registers[]): NodeRegisters[] {
  const all = nodes.map((node) => new BlockSets(node));
  for (let changed = true; changed; ) {
    changed = false;
    for (const own of all) {
      if (own.isCall) continue;
      const x = own.dirtyX | own.writesX;
      const f = own.dirtyF | own.writesF;
      for (const way of own.node.ways) {
        if (!way) continue;
        const next = all[way.order]!;
        const keptX = x & held[way.order]!.x;
        const keptF = f & held[way.order]!.f;
        if ((keptX & ~next.dirtyX) === 0 && (keptF & ~next.dirtyF) === 0) continue;
        next.dirtyX |= keptX;
        next.dirtyF |= keptF;
        changed = true;
      }
    }
  }
  for (const own of all) own.findUsed();
  for (let changed = true; changed; ) {
    changed = false;
    for (let n = all.length - 1; n >= 0; n--) {
      const own = all[n]!;
      let x = 0;
      let f = 0;
      if (!own.isCall) {
        for (const way of own.node.ways) {
          if (!way) continue;
          const to = held[way.order]!;
          x |= (all[way.order]!.liveX & held[n]!.x) | (own.dirtyX & ~to.x);
          f |= (all[way.order]!.liveF & held[n]!.f) | (own.dirtyF & ~to.f);
        }
      }
      x = (x & ~own.writesX) | own.usedX;
      f = (f & ~own.writesF) | own.usedF;
      if (x === own.liveX && f === own.liveF) continue;
      own.liveX = x;
      own.liveF = f;
      changed = true;
    }
  }
  return all.map((own, n) => ({
    effects: own.effects,
    held: held[n]!,
    dirtyIn: { x: own.dirtyX, f: own.dirtyF },
    liveIn: { x: own.liveX, f: own.liveF },
    dirtyOut: { x: own.dirtyX | own.writesX, f: own.dirtyF | own.writesF },
  }));
}

/**
 * Which guest registers a region holds in locals, and where they have to be loaded and stored.
 *
 * A register is *dirty* where its local may be newer than the hart's state, and *live* where its local will be read: by an
 * instruction, or because the region may be left while it is dirty. Calls and exits store what is dirty; after a call everything
 * is clean, and what is live is loaded again.
 */

import type { Instruction } from './region.ts';
import type { Node } from './structure.ts';

/** Sets of registers, a bit each. */
export interface Registers {
  readonly x: number;
  readonly f: number;
}

export const NONE: Registers = { x: 0, f: 0 };
export const union = (a: Registers, b: Registers): Registers => ({ x: a.x | b.x, f: a.f | b.f });
const without = (a: Registers, b: Registers): Registers => ({ x: a.x & ~b.x, f: a.f & ~b.f });
const equal = (a: Registers, b: Registers): boolean => a.x === b.x && a.f === b.f;

const bit = (n: number): number => (n === 0 ? 0 : 1 << n);
const bitF = (n: number): number => 1 << n;

export interface Effects {
  readonly reads: Registers;
  readonly writes: Registers;
  /** It may be the last one that the region executes: a fault, or somebody asks for attention. */
  readonly mayLeave: boolean;
}

/** What each operand format reads and writes: registers of x, of f, and the destination. */
const SHAPES: Record<
  string,
  { x: readonly ('rs1' | 'rs2')[]; f: readonly ('rs1' | 'rs2' | 'rs3')[]; d: '' | 'x' | 'f' }
> = {
  R: { x: ['rs1', 'rs2'], f: [], d: 'x' },
  R1: { x: ['rs1'], f: [], d: 'x' },
  I: { x: ['rs1'], f: [], d: 'x' },
  SH: { x: ['rs1'], f: [], d: 'x' },
  SHW: { x: ['rs1'], f: [], d: 'x' },
  L: { x: ['rs1'], f: [], d: 'x' },
  S: { x: ['rs1', 'rs2'], f: [], d: '' },
  B: { x: ['rs1', 'rs2'], f: [], d: '' },
  U: { x: [], f: [], d: 'x' },
  J: { x: [], f: [], d: 'x' },
  A: { x: ['rs1', 'rs2'], f: [], d: 'x' },
  AL: { x: ['rs1'], f: [], d: 'x' },
  CSR: { x: ['rs1'], f: [], d: 'x' },
  CSRI: { x: [], f: [], d: 'x' },
  N: { x: [], f: [], d: '' },
  F2: { x: ['rs1', 'rs2'], f: [], d: '' },
  CB: { x: ['rs1'], f: [], d: '' },
  FL: { x: ['rs1'], f: [], d: 'f' },
  FS: { x: ['rs1'], f: ['rs2'], d: '' },
  FR: { x: [], f: ['rs1', 'rs2'], d: 'f' },
  FRM: { x: [], f: ['rs1', 'rs2'], d: 'f' },
  FR1M: { x: [], f: ['rs1'], d: 'f' },
  FR4: { x: [], f: ['rs1', 'rs2', 'rs3'], d: 'f' },
  FC: { x: [], f: ['rs1', 'rs2'], d: 'x' },
  FX: { x: [], f: ['rs1'], d: 'x' },
  FXM: { x: [], f: ['rs1'], d: 'x' },
  XF: { x: ['rs1'], f: [], d: 'f' },
  XFM: { x: ['rs1'], f: [], d: 'f' },
};

export const isFloat = ({ row }: Instruction): boolean => row.extension === 'F' || row.extension === 'D';
/** A fence orders nothing in a serial schedule. */
export const isNothing = ({ row }: Instruction): boolean => row.name.startsWith('fence');
/** Done by the interpreter's own handler. */
export const isOutOfLine = (i: Instruction): boolean =>
  !isNothing(i) && ['Zicsr', 'Zicbom', 'Zicboz', 'Privileged', 'Zihintpause'].includes(i.row.extension);

export function effectsOf(i: Instruction): Effects {
  if (isNothing(i)) return { reads: NONE, writes: NONE, mayLeave: false };
  const { o, row } = i;
  const shape = SHAPES[row.format]!;
  let x = 0;
  let f = 0;
  for (const name of shape.x) x |= bit(o[name]);
  for (const name of shape.f) f |= bitF(o[name]);
  const writes = { x: shape.d === 'x' ? bit(o.rd) : 0, f: shape.d === 'f' ? bitF(o.rd) : 0 };
  const pure = row.pure || row.format === 'B' || row.name === 'jal' || row.name === 'jalr';
  return { reads: { x, f }, writes, mayLeave: !pure };
}

export interface NodeRegisters {
  readonly effects: readonly Effects[];
  /** Before the first instruction. */
  dirtyIn: Registers;
  liveIn: Registers;
  /** Behind the last one. */
  dirtyOut: Registers;
}

/** Dirty and live registers of every block, in the order of `nodes`. */
export function analyzeRegisters(nodes: readonly Node[]): NodeRegisters[] {
  const all: NodeRegisters[] = nodes.map(({ block }) => ({
    effects: block.instructions.map(effectsOf),
    dirtyIn: NONE,
    liveIn: NONE,
    dirtyOut: NONE,
  }));
  for (let changed = true; changed; ) {
    changed = false;
    for (const [n, node] of nodes.entries()) {
      const own = all[n]!;
      let dirty = own.dirtyIn;
      for (const { writes } of own.effects) dirty = union(dirty, writes);
      own.dirtyOut = dirty;
      const passed = node.block.end.kind === 'call' ? NONE : dirty;
      for (const way of node.ways) {
        if (!way) continue;
        const next = all[way.order]!;
        const merged = union(next.dirtyIn, passed);
        if (equal(merged, next.dirtyIn)) continue;
        next.dirtyIn = merged;
        changed = true;
      }
    }
  }
  for (let changed = true; changed; ) {
    changed = false;
    for (let n = nodes.length - 1; n >= 0; n--) {
      const node = nodes[n]!;
      const own = all[n]!;
      const { kind } = node.block.end;
      const leaves = kind === 'call' || kind === 'return' || node.ways.includes(undefined);
      let live: Registers = leaves ? own.dirtyOut : NONE;
      if (kind !== 'call') for (const way of node.ways) if (way) live = union(live, all[way.order]!.liveIn);
      // Dirty before each instruction, which it has to store if it leaves.
      const before: Registers[] = [];
      let dirty = own.dirtyIn;
      for (const { writes } of own.effects) {
        before.push(dirty);
        dirty = union(dirty, writes);
      }
      for (let i = own.effects.length - 1; i >= 0; i--) {
        const { reads, writes, mayLeave } = own.effects[i]!;
        live = union(without(live, writes), reads);
        if (mayLeave) live = union(live, before[i]!);
      }
      if (node.isLoop) live = union(live, own.dirtyIn);
      if (equal(live, own.liveIn)) continue;
      own.liveIn = live;
      changed = true;
    }
  }
  return all;
}

/**
 * How far the stack pointer is from its value at a function's entry, at each instruction: what tells one activation of the
 * function from another that it called.
 *
 * sp and the frame pointer s0 are followed through additions of constants and copies. Where paths disagree, or sp is computed,
 * the distance is not known.
 */

import type { FunctionFlow } from './flow.ts';
import { type Instruction, S0, SP, written } from './instructions.ts';

/** Distances of sp and s0 from sp at the entry; undefined when not known. */
type Frame = readonly [sp: bigint | undefined, s0: bigint | undefined];

const UNKNOWN: Frame = [undefined, undefined];

export class FrameOffsets {
  private readonly flow: FunctionFlow;
  private readonly starts: (Frame | undefined)[];

  /** One pass over the function, and a second one over blocks where paths disagree. */
  constructor(flow: FunctionFlow) {
    this.flow = flow;
    this.starts = new Array(flow.blocks.length).fill(undefined);
    this.starts[flow.entryBlock] = [0n, undefined];
    const waiting = [flow.entryBlock];
    for (let n = waiting.pop(); n !== undefined; n = waiting.pop()) {
      const block = flow.blocks[n]!;
      let frame = this.starts[n]!;
      for (const instruction of block.instructions) frame = after(frame, instruction);
      // A callee that has its link elsewhere may set up the frame for its caller, as `__riscv_save_0` does.
      if (block.control?.kind === 'call' && !block.control.standard) frame = UNKNOWN;
      for (const { block: next } of block.successors) {
        if (next === undefined) continue;
        const known = this.starts[next];
        const met: Frame = known ? [meet(known[0], frame[0]), meet(known[1], frame[1])] : frame;
        if (known && met[0] === known[0] && met[1] === known[1]) continue;
        this.starts[next] = met;
        waiting.push(next);
      }
    }
  }

  /** The distance before an instruction of the function, not positive; undefined when it is not known. */
  before(address: bigint): bigint | undefined {
    const place = this.flow.find(address);
    if (!place) return undefined;
    let frame = this.starts[place.block]!;
    for (const instruction of this.flow.blocks[place.block]!.instructions.slice(0, place.index)) {
      frame = after(frame, instruction);
    }
    return frame[0];
  }
}

function meet(a: bigint | undefined, b: bigint | undefined): bigint | undefined {
  return a === b ? a : undefined;
}

function after(frame: Frame, instruction: Instruction): Frame {
  const register = written(instruction);
  if (register !== SP && register !== S0) return frame;
  const distance = moved(frame, instruction);
  return register === SP ? [distance, frame[1]] : [frame[0], distance];
}

function moved(frame: Frame, { row, operands: o }: Instruction): bigint | undefined {
  const of = (register: number) => (register === SP ? frame[0] : register === S0 ? frame[1] : undefined);
  if (row.name === 'addi') {
    const from = of(o.rs1);
    return from === undefined ? undefined : from + BigInt(o.imm);
  }
  return row.name === 'add' && o.rs1 === 0 ? of(o.rs2) : undefined;
}

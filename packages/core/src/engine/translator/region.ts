/**
 * Finding a region: the instructions that are reached from a hot one without a call or a return, as basic blocks.
 *
 * Places are offsets in bytes from the start of the page that holds the region's first instruction, so that the same region
 * serves every virtual address the page is mapped at. A region lies in that page and at most one of its neighbours.
 */

import { decode as decodeRow, expand, type Operands, operands, type Row } from '../../isa/index.ts';
import { CODE_PAGE, PAGE, TARGETS, targetsOf } from '../../memory/layout.ts';
import type { Pool } from '../../memory/pool.ts';
import type { ArmedPlaces } from '../armed.ts';
import { SLOT } from '../slot.ts';
import { type Effects, effectsOf, isFloat } from './registers.ts';

/** A page of code as it is mapped now. */
export interface CodePage {
  readonly frame: number;
  /** Address of its decoded instructions. */
  readonly code: number;
}

/** The page with the first instruction, and those before and behind it as far as the hart has fetched from them. */
export interface Surroundings {
  readonly own: CodePage;
  readonly before: CodePage | undefined;
  readonly behind: CodePage | undefined;
  /** Low half of the address that the own page is mapped at. */
  readonly address: number;
  /** The worker's area, where the targets of computed jumps are noted. */
  readonly area: number;
  /** Where the host has to be asked: no region covers such a place. */
  readonly armed: Pick<ArmedPlaces, 'has'>;
}

export interface Instruction {
  readonly at: number;
  readonly length: 2 | 4;
  readonly bits: number;
  readonly row: Row;
  readonly o: Operands;
  readonly effects: Effects;
}

/** How a block ends. A place that is not in the region is left to. */
export type End =
  | { readonly kind: 'next'; readonly to: number }
  | { readonly kind: 'branch'; readonly taken: number; readonly next: number }
  | { readonly kind: 'jump'; readonly to: number }
  /** `target` is undefined for one that is computed. */
  | { readonly kind: 'call'; readonly target: number | undefined; readonly next: number }
  /** A jump to an address in a register, and where it has led so far. */
  | { readonly kind: 'computed'; readonly targets: readonly number[] }
  | { readonly kind: 'return' };

export interface Block {
  readonly at: number;
  /** The last one is the branch, jump, call or return, if the block ends with one. */
  readonly instructions: readonly Instruction[];
  readonly end: End;
}

export interface Region {
  readonly head: number;
  /** -1 or 1 when it covers a second page. */
  readonly second: -1 | 0 | 1;
  readonly blocks: ReadonlyMap<number, Block>;
  /** Instructions in all. */
  readonly size: number;
  /** Any of them is of floating point. */
  readonly float: boolean;
}

/** Registers that calling conventions keep return addresses in. */
const LINKS = new Set([1, 5]);

const MAX_INSTRUCTIONS = 256;

/** Instructions that are left to the interpreter: they always go elsewhere, or wait. */
const LEAVING = new Set(['ecall', 'ebreak', 'mret', 'sret', 'wfi']);
/** Formats with a rounding mode; with the modes 5 and 6 an instruction is illegal. */
const ROUNDING = new Set(['FRM', 'FR1M', 'FR4', 'FXM', 'XFM']);

/** A region lies within three pages; its places, and the one behind the last, are looked up by their halfword in these. */
const HALVES = (3 * PAGE) / 2 + 1;
const halfOf = (at: number): number => (at + PAGE) >> 1;

/** Empty between explorations. */
const instructionAt: (Instruction | undefined)[] = new Array(HALVES).fill(undefined);
const endAt: (End | undefined)[] = new Array(HALVES).fill(undefined);
const isLeader = new Uint8Array(HALVES);

function translatable(at: number, length: 2 | 4, bits: number, word: number): Instruction | undefined {
  const row = word === 0 ? undefined : decodeRow(word);
  if (!row || LEAVING.has(row.name)) return undefined;
  const o = operands(row, word);
  if (ROUNDING.has(row.format) && (o.rm === 5 || o.rm === 6)) return undefined;
  return { at, length, bits, row, o, effects: effectsOf(row, o) };
}

class Explorer {
  private readonly pool: Pool;
  private readonly pages: Surroundings;
  private readonly instructions: Instruction[] = [];
  private readonly leaders: number[] = [];
  private readonly work: number[] = [];
  private second: -1 | 0 | 1 = 0;
  private float = false;

  constructor(pool: Pool, pages: Surroundings) {
    this.pool = pool;
    this.pages = pages;
  }

  /** The page of a place, if the region may reach there. */
  private pageAt(at: number): CodePage | undefined {
    const page = at >> 12;
    if (page === 0) return this.pages.own;
    if (page !== 1 && page !== -1) return undefined;
    if (this.second !== 0 && this.second !== page) return undefined;
    const found = page === 1 ? this.pages.behind : this.pages.before;
    if (found) this.second = page;
    return found;
  }

  /** Or -1, where the region may not reach. */
  private halfword(at: number): number {
    const page = this.pageAt(at);
    return page ? this.pool.halves[(page.frame * PAGE + (at & (PAGE - 1))) >>> 1]! : -1;
  }

  /** Whether the interpreter has come by: what has never run is not translated. */
  private visited(at: number): boolean {
    const page = this.pageAt(at);
    if (!page) return false;
    const slot = page.code + (at & (PAGE - 1)) * (SLOT.size / 2);
    return slot < page.code + CODE_PAGE.sentinel && this.pool.words[slot >>> 2] !== 0;
  }

  private instruction(at: number): Instruction | undefined {
    const low = this.halfword(at);
    if (low < 0 || this.pages.armed.has(this.pageAt(at)!.frame, at & (PAGE - 1))) return undefined;
    if ((low & 3) !== 3) return translatable(at, 2, low, expand(low));
    const high = this.halfword(at + 2);
    if (high < 0) return undefined;
    const bits = low | (high << 16);
    return translatable(at, 4, bits, bits);
  }

  /** The end that an instruction makes, if it makes one. */
  private endOf(i: Instruction, previous: Instruction | undefined): End | undefined {
    const next = i.at + i.length;
    switch (i.row.name) {
      case 'jal': {
        const to = i.at + i.o.imm;
        return i.o.rd === 0 ? { kind: 'jump', to } : { kind: 'call', target: to, next };
      }
      case 'jalr': {
        const far = previous?.row.name === 'auipc' && previous.o.rd === i.o.rs1 && i.o.rs1 !== 0;
        const target = far ? (previous.at + previous.o.imm + i.o.imm) & ~1 : undefined;
        if (i.o.rd !== 0) return { kind: 'call', target, next };
        if (target !== undefined) return { kind: 'jump', to: target };
        return LINKS.has(i.o.rs1) ? { kind: 'return' } : { kind: 'computed', targets: this.targetsOf(i.at) };
      }
      default:
        return i.row.format === 'B' ? { kind: 'branch', taken: i.at + i.o.imm, next } : undefined;
    }
  }

  /** Places in reach where the computed jump at a place has led. */
  private targetsOf(at: number): number[] {
    const { address, area } = this.pages;
    const page = this.pageAt(at)!;
    const slot = page.code + (at & (PAGE - 1)) * (SLOT.size / 2);
    const noted = (area + targetsOf(slot)) >>> 2;
    const found = new Set<number>();
    for (let n = 0; n < TARGETS.each; n++) {
      const to = (this.pool.words[noted + n]! - address) | 0;
      if (to >= -PAGE && to < 2 * PAGE && this.visited(to)) found.add(to);
    }
    return [...found];
  }

  private lead(at: number): void {
    const half = halfOf(at);
    if (isLeader[half]) return;
    isLeader[half] = 1;
    this.leaders.push(at);
  }

  private go(to: number): void {
    if (!this.visited(to)) return;
    this.lead(to);
    this.work.push(to);
  }

  private explore(head: number): void {
    const { work, instructions } = this;
    work.push(head);
    for (let n = 0; n < work.length; n++) {
      const start = work[n]!;
      let previous: Instruction | undefined;
      for (let at = start; ; ) {
        if (instructionAt[halfOf(at)]) {
          if (at !== start) this.lead(at);
          break;
        }
        if (instructions.length >= MAX_INSTRUCTIONS) break;
        const i = this.instruction(at);
        if (!i) break;
        instructionAt[halfOf(at)] = i;
        instructions.push(i);
        if (isFloat(i)) this.float = true;
        const end = this.endOf(i, previous);
        if (end) {
          endAt[halfOf(at)] = end;
          if (end.kind === 'branch') {
            // The way on first: it is likely to be near.
            this.go(end.next);
            this.go(end.taken);
          } else if (end.kind === 'call') this.go(end.next);
          else if (end.kind === 'jump') this.go(end.to);
          else if (end.kind === 'computed') for (const to of end.targets) this.go(to);
          break;
        }
        previous = i;
        at += i.length;
      }
    }
  }

  /** The block from a leader on, if anything is there. */
  private block(leader: number): Block | undefined {
    const instructions: Instruction[] = [];
    for (let at = leader; ; ) {
      const i = instructionAt[halfOf(at)];
      if (!i) return instructions.length ? { at: leader, instructions, end: { kind: 'next', to: at } } : undefined;
      instructions.push(i);
      // A jump to the second part of a far call or jump brings another target.
      const end = at === leader ? this.endOf(i, undefined) : endAt[halfOf(at)];
      at += i.length;
      if (end || isLeader[halfOf(at)]) return { at: leader, instructions, end: end ?? { kind: 'next', to: at } };
    }
  }

  find(head: number): Region {
    this.lead(head);
    this.explore(head);
    const blocks = new Map<number, Block>();
    for (const leader of this.leaders) {
      const block = this.block(leader);
      if (block) blocks.set(leader, block);
    }
    for (const { at } of this.instructions) {
      instructionAt[halfOf(at)] = undefined;
      endAt[halfOf(at)] = undefined;
    }
    for (const leader of this.leaders) isLeader[halfOf(leader)] = 0;
    return { head, second: this.second, blocks, size: this.instructions.length, float: this.float };
  }
}

/** The region that begins at offset `head` of its page; without blocks if its first instruction cannot be translated. */
export function findRegion(pool: Pool, pages: Surroundings, head: number): Region {
  return new Explorer(pool, pages).find(head);
}

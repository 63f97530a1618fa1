/**
 * Finding a region: the instructions that are reached from a hot one without a call or a return, as basic blocks.
 *
 * Places are offsets in bytes from the start of the page that holds the region's first instruction, so that the same region
 * serves every virtual address the page is mapped at. A region lies in that page and at most one of its neighbours.
 */

import { decode as decodeRow, expand, type Operands, operands, type Row } from '../../isa/index.ts';
import { CODE_PAGE, PAGE } from '../../memory/layout.ts';
import type { Pool } from '../../memory/pool.ts';
import { SLOT } from '../slot.ts';

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
}

export interface Instruction {
  readonly at: number;
  readonly length: 2 | 4;
  readonly bits: number;
  readonly row: Row;
  readonly o: Operands;
}

/** How a block ends. A place that is not in the region is left to. */
export type End =
  | { readonly kind: 'next'; readonly to: number }
  | { readonly kind: 'branch'; readonly taken: number; readonly next: number }
  | { readonly kind: 'jump'; readonly to: number }
  /** `target` is undefined for one that is computed. */
  | { readonly kind: 'call'; readonly target: number | undefined; readonly next: number }
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
}

const MAX_INSTRUCTIONS = 256;

/** Instructions that are left to the interpreter: they always go elsewhere, or wait. */
const LEAVING = new Set(['ecall', 'ebreak', 'mret', 'sret', 'wfi', 'pause']);
/** Formats with a rounding mode; with the modes 5 and 6 an instruction is illegal. */
const ROUNDING = new Set(['FRM', 'FR1M', 'FR4', 'FXM', 'XFM']);

class Explorer {
  private readonly pool: Pool;
  private readonly pages: Surroundings;
  private readonly instructions = new Map<number, Instruction>();
  private readonly ends = new Map<number, End>();
  private readonly leaders = new Set<number>();
  private second: -1 | 0 | 1 = 0;

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

  private halfword(at: number): number | undefined {
    const page = this.pageAt(at);
    return page && this.pool.halves[(page.frame * PAGE + (at & (PAGE - 1))) >>> 1];
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
    if (low === undefined) return undefined;
    const length = (low & 3) === 3 ? 4 : 2;
    let bits = low;
    if (length === 4) {
      const high = this.halfword(at + 2);
      if (high === undefined) return undefined;
      bits |= high << 16;
    }
    const word = length === 4 ? bits : expand(bits);
    const row = word === 0 ? undefined : decodeRow(word);
    if (!row || LEAVING.has(row.name)) return undefined;
    const o = operands(row, word);
    if (ROUNDING.has(row.format) && (o.rm === 5 || o.rm === 6)) return undefined;
    return { at, length, bits, row, o };
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
        return target === undefined ? { kind: 'return' } : { kind: 'jump', to: target };
      }
      default:
        return i.row.format === 'B' ? { kind: 'branch', taken: i.at + i.o.imm, next } : undefined;
    }
  }

  private explore(head: number): void {
    const work = [head];
    const go = (to: number) => {
      if (!this.visited(to)) return;
      this.leaders.add(to);
      work.push(to);
    };
    for (let start = work.shift(); start !== undefined; start = work.shift()) {
      let previous: Instruction | undefined;
      for (let at = start; ; ) {
        if (this.instructions.has(at)) {
          if (at !== start) this.leaders.add(at);
          break;
        }
        if (this.instructions.size >= MAX_INSTRUCTIONS) break;
        const i = this.instruction(at);
        if (!i) break;
        this.instructions.set(at, i);
        const end = this.endOf(i, previous);
        if (end) {
          this.ends.set(at, end);
          if (end.kind === 'branch') {
            // The way on first: it is likely to be near.
            go(end.next);
            go(end.taken);
          } else if (end.kind === 'call') go(end.next);
          else if (end.kind === 'jump') go(end.to);
          break;
        }
        previous = i;
        at += i.length;
      }
    }
  }

  find(head: number): Region {
    this.leaders.add(head);
    this.explore(head);
    const blocks = new Map<number, Block>();
    for (const leader of this.leaders) {
      const instructions: Instruction[] = [];
      for (let at = leader; ; ) {
        const i = this.instructions.get(at);
        if (!i) {
          if (instructions.length) blocks.set(leader, { at: leader, instructions, end: { kind: 'next', to: at } });
          break;
        }
        instructions.push(i);
        // A jump to the second part of a far call or jump brings another target.
        const end = at === leader ? this.endOf(i, undefined) : this.ends.get(at);
        at += i.length;
        if (end || this.leaders.has(at)) {
          blocks.set(leader, { at: leader, instructions, end: end ?? { kind: 'next', to: at } });
          break;
        }
      }
    }
    return { head, second: this.second, blocks, size: this.instructions.size };
  }
}

/** The region that begins at offset `head` of its page; without blocks if its first instruction cannot be translated. */
export function findRegion(pool: Pool, pages: Surroundings, head: number): Region {
  return new Explorer(pool, pages).find(head);
}

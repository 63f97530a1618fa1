/** Fills slots from instruction bits: the only place that knows both the table and the slot layout. */

import { decode as decodeRow, expand, operands } from '../isa/index.ts';
import { CODE_PAGE, CODE_PAGES, FRAME_RECORD, PAGE } from '../memory/layout.ts';
import type { Pool } from '../memory/pool.ts';
import type { ArmedPlaces } from './armed.ts';
import type { Direction, Interpreter } from './interpreter.ts';
import { COLD, COLD_ILLEGAL, COLD_LONG, PSEUDO, SLOT } from './slot.ts';

export class SlotDecoder {
  private readonly pool: Pool;
  private readonly handlers: Pick<Interpreter, 'handlerOf' | 'pairOf' | 'isPair'>;
  private readonly armed: Pick<ArmedPlaces, 'has'>;

  constructor(
    pool: Pool,
    handlers: Pick<Interpreter, 'handlerOf' | 'pairOf' | 'isPair'>,
    armed: Pick<ArmedPlaces, 'has'>,
  ) {
    this.pool = pool;
    this.handlers = handlers;
    this.armed = armed;
  }

  private put(slot: number, handler: number, a: number, b: number, c: number): void {
    const { words } = this.pool;
    words[slot >>> 2] = handler | (a << 16) | (b << 24);
    words[(slot + SLOT.c) >>> 2] = c;
  }

  /**
   * Writes one instruction's slot. `offset` is its place in its page, or -1 when it stands alone. Returns whether the
   * instruction behind it is likely to follow.
   */
  private write(slot: number, bits: number, offset: number): boolean {
    const length = (bits & 3) === 3 ? 4 : 2;
    const word = length === 4 ? bits : expand(bits);
    const row = word === 0 ? undefined : decodeRow(word);
    if (!row) {
      this.put(slot, COLD | (length === 4 ? COLD_LONG : 0) | COLD_ILLEGAL, 0, 0, 0);
      return false;
    }
    const o = operands(row, word);
    let a = o.rd * 8;
    const b = o.rs1 * 8;
    let c = o.imm;
    let local: Direction | undefined;
    let follows = true;
    switch (row.format) {
      case 'S':
      case 'FS':
        a = o.rs2 * 8;
        break;
      case 'B':
      case 'J': {
        if (row.format === 'B') a = o.rs2 * 8;
        const target = offset + o.imm;
        if (offset >= 0 && target >= 0 && target < PAGE) {
          local = o.imm > 0 ? 'forward' : 'backward';
          c = o.imm * 4;
        }
        follows = row.format === 'B';
        break;
      }
      case 'CSR':
      case 'CSRI': {
        const source = row.format === 'CSR' ? o.rs1 : o.imm;
        c = o.csr | (source !== 0 ? 1 << 16 : 0) | (row.format === 'CSRI' ? o.imm << 24 : 0);
        break;
      }
      case 'I':
        follows = row.name !== 'jalr';
        break;
      case 'L':
      case 'FL':
      case 'SH':
      case 'SHW':
      case 'U':
        break;
      default:
        c = (o.rs2 * 8) | ((o.rs3 * 8) << 8) | (o.rm << 16);
        follows = row.format !== 'N';
    }
    this.put(slot, this.handlers.handlerOf(row, length, local, o.rd), a, b, c);
    return follows;
  }

  /** Decodes at a slot and on to the end of its straight line. */
  decode(slot: number): void {
    const { pool } = this;
    const page = slot - ((slot - CODE_PAGES) % CODE_PAGE.size);
    const frame = pool.words[(page + CODE_PAGE.frame) >>> 2]!;
    const code = (frame * PAGE) / 2;
    pool.words[pool.recordWord(frame, FRAME_RECORD.writes)] = 0;
    let half = (slot - page) / SLOT.size;
    if (half === CODE_PAGE.slots) {
      this.put(slot, PSEUDO.sentinel, 0, 0, 0);
      return;
    }
    for (let previous = 0; ; ) {
      const at = page + half * SLOT.size;
      if (half >= CODE_PAGE.slots || pool.words[at >>> 2] !== 0) return;
      if (this.armed.has(frame, half * 2)) {
        this.put(at, PSEUDO.armed, 0, 0, 0);
        return;
      }
      const low = pool.halves[code + half]!;
      const long = (low & 3) === 3;
      if (long && half === CODE_PAGE.slots - 1) {
        this.put(at, PSEUDO.straddle, 0, 0, 0);
        return;
      }
      const follows = this.write(at, long ? low | (pool.halves[code + half + 1]! << 16) : low, half * 2);
      if (previous !== 0) this.join(previous, at);
      if (!follows) return;
      previous = at;
      half += long ? 2 : 1;
    }
  }

  /** Has the first of two neighbours do the work of both, where there is a handler for that. */
  private join(first: number, second: number): void {
    const { halves } = this.pool;
    const pair = this.handlers.pairOf(halves[first >>> 1]!, halves[second >>> 1]!);
    if (pair !== undefined) halves[first >>> 1] = pair;
  }

  /** Decodes an instruction into a place of its own, with sentinels where the next one would be. */
  decodeAlone(bits: number, slot: number): void {
    this.write(slot, bits, -1);
    for (const length of [2, 4]) this.put(slot + length * (SLOT.size / 2), PSEUDO.sentinel, 0, 0, 0);
  }

  /** Decodes an instruction again so that it does nothing but its own work. */
  separate(slot: number): void {
    const { pool } = this;
    if (!this.handlers.isPair(pool.halves[slot >>> 1]!)) return;
    pool.words[slot >>> 2] = 0;
    this.decode(slot);
  }
}

/**
 * Random page tables, and random accesses through them: Sv39 and Sv48, every level, every bit.
 *
 * An interpreter in M-mode works through a list of records: edit a page-table entry, switch satp, set physical memory
 * protection, access memory as S- or U-mode (loads and stores through MPRV, fetches by mret into a page). Each access
 * appends what it gave to a log: value, cause, tval, epc.
 *
 * ```text
 * 8000_0000  the interpreter
 * 8040_0000  tables, four frames for each level from the highest
 * 8060_0000  data frames
 * 8080_0000  records, 64 bytes each: routine, then operands
 * 8120_0000  log, 32 bytes an access
 * ```
 *
 * Every data frame begins with `[second half of an addi], c.nop, ecall`, goes on with `addi x13, x13, number; ecall`, and
 * ends with the first half of an addi: a fetch anywhere ends in an ecall and says through x13 which frames it saw, also
 * across two pages. Stores go to the middle of a page, where nothing is fetched, or write zeros, which are no instruction.
 *
 * Each edit is followed by `sfence.vma`: without it the architecture lets the old entry live on. Accessed and dirty flags
 * are updated by hardware on both sides (QEMU 7.2 cannot do otherwise); faults instead are tested elsewhere.
 */

import { Assembler } from './assembler.ts';
import { CSR } from './csr.ts';
import { finish, start } from './fragments.ts';
import { PTE } from './page-tables.ts';
import type { Random } from './random.ts';

const TABLES = 0x8040_0000;
const DATA = 0x8060_0000;
const DATA_FRAMES = 16;
const PER_LEVEL = 4;
const RECORDS = 0x8080_0000;
export const LOG = 0x8120_0000;
/** What both sides must agree on in the end. */
export const FINAL = { address: TABLES, length: DATA + DATA_FRAMES * 4096 - TABLES } as const;
export const LOG_WORDS = 4;

const RECORD_WORDS = 8;
const { V, R, W, X, U, G, A, D } = PTE;

const FS = 1n << 13n;
const MPRV = 1n << 17n;

/** Indices that addresses use at each level; a superpage's offset leads to the data frames for some of them. */
const INDICES: readonly (readonly number[])[] = [
  Array.from({ length: DATA_FRAMES + 1 }, (_, n) => n),
  [3, 3, 5],
  [2, 2, 3],
  [0, 1, 256, 511],
];
/** Sv39's highest level has negative addresses too. */
const ROOT39 = [2, 2, 3, 510];

const NARROW: readonly (readonly number[])[] = [[0, 1, 2, 3, 7], [3], [2], [0]];

const ACCESSES: Readonly<Record<string, { name: string; size: number; store: boolean }>> = Object.fromEntries(
  (
    [
      ['lb', 1],
      ['lbu', 1],
      ['lh', 2],
      ['lhu', 2],
      ['lw', 4],
      ['lwu', 4],
      ['ld', 8],
      ['fld', 8],
      ['flw', 4],
      ['sb', 1],
      ['sh', 2],
      ['sw', 4],
      ['sd', 8],
      ['fsd', 8],
      ['amoadd.d', 8],
      ['amoxor.w', 4],
      ['amomaxu.d', 8],
      ['lr.d', 8],
    ] as const
  ).map(([name, size]) => [name, { name, size, store: /^f?s|^amo/.test(name) }]),
);

interface Record8 {
  readonly routine: string;
  readonly words: readonly bigint[];
  readonly text: string;
}

export class WalkProgram {
  private readonly random: Random;
  private readonly records: Record8[] = [];
  private readonly initial = new Map<number, bigint>();
  private sv48 = false;
  /** Physical memory protection allows everything. */
  private open = true;
  /** Records that append to the log, in order. */
  readonly accesses: number[] = [];

  private readonly fences: boolean;
  /** Two of the tables of each level that are in use, and one way through them: so that edits meet what is cached. */
  private readonly narrow: boolean;

  /**
   * Without `fences` an edit is not followed by `sfence.vma`, and most edits and accesses meet in few places: for
   * comparing Braid with itself (I2).
   */
  constructor(random: Random, count: number, fences = true) {
    this.random = random;
    this.fences = fences;
    this.narrow = !fences;
    for (let table = 0; table < 4 * PER_LEVEL; table++) {
      const level = 3 - Math.floor(table / PER_LEVEL);
      const indices = new Set([...INDICES[level]!, ...(level === 2 ? ROOT39 : [])]);
      for (const index of indices) this.initial.set(this.entryAddress(table, index), this.entry(level));
    }
    this.space();
    this.protection(true);
    while (this.accesses.length < count) {
      const kind = random.below(100);
      if (kind < (this.narrow ? 80 : 60)) this.access();
      else if (kind < 94) this.edit();
      else if (kind < (this.narrow ? 97 : 99)) this.space();
      else this.protection(random.chance(0.6));
    }
  }

  private add(routine: string, words: bigint[], text: string): void {
    this.records.push({ routine, words, text });
  }

  private entryAddress(table: number, index: number): number {
    return TABLES + table * 4096 + index * 8;
  }

  /** Table number: the levels' tables follow each other from the highest level down. */
  private table(level: number): number {
    return (3 - level) * PER_LEVEL + this.random.below(this.narrow ? (level > 0 ? 1 : 2) : PER_LEVEL);
  }

  private entry(level: number): bigint {
    const { random } = this;
    const pointer = level > 0 ? random.chance(this.narrow ? 0.9 : 0.72) : random.chance(0.03);
    let flags = random.chance(0.94) ? V : 0n;
    let frame: number;
    if (pointer) {
      frame = (TABLES >>> 12) + this.table(Math.max(level - 1, 0));
      // Reserved in a pointer.
      if (random.chance(0.04)) flags |= random.pick([A, D, U, A | D]);
    } else {
      flags |= random.pick([R, R | W, R | W, R | W | X, R | W | X, R | X, X]);
      // Reserved: writable, not readable.
      if (random.chance(0.03)) flags = (flags & ~R) | W;
      if (random.chance(0.5)) flags |= U;
      if (random.chance(0.5)) flags |= A;
      if (random.chance(0.4)) flags |= A | D;
      // Dirty and not accessed, too.
      if (random.chance(0.05)) flags = (flags & ~A) | D;
      const data = DATA >>> 12;
      frame = level === 0 ? data + random.below(DATA_FRAMES) : level === 1 ? data : level === 2 ? 0x80000 : 0;
      if (level > 0 && random.chance(0.1)) frame += 1 << random.below(9 * level);
      else if (random.chance(0.04)) {
        // No memory there. Not writable: QEMU 7.2 has its own view of an AMO to nowhere.
        frame = random.pick([0xc_0000, 0x4000_0000, 0xfff_ffff_ffff]);
        if (level > 0) frame -= frame % 2 ** (9 * level);
        // Not executable: it has an assertion that fails for an instruction half of which is nowhere.
        flags = (flags & ~(W | X)) | R;
      }
    }
    let pte = (BigInt(frame) << 10n) | flags | (BigInt(random.below(4)) << 8n) | (random.chance(0.3) ? G : 0n);
    // Reserved without Svnapot, Svpbmt and whatever comes.
    if (random.chance(0.03)) pte |= 1n << BigInt(random.between(54, 63));
    return pte;
  }

  private edit(): void {
    const level = this.narrow && this.random.chance(0.9) ? 0 : this.random.below(4);
    const indices = this.narrow ? NARROW[level]! : level === 2 ? [...INDICES[2]!, ...ROOT39] : INDICES[level]!;
    const address = this.entryAddress(this.table(level), this.random.pick(indices));
    const pte = this.entry(level);
    this.add('edit', [BigInt(address), pte], `level ${level} entry 0x${address.toString(16)} = 0x${pte.toString(16)}`);
  }

  private space(): void {
    this.sv48 = this.random.chance(0.5);
    const root = (TABLES >>> 12) + this.table(this.sv48 ? 3 : 2);
    const satp = (BigInt(this.sv48 ? 9 : 8) << 60n) | (BigInt(this.random.below(3)) << 44n) | BigInt(root);
    this.add('space', [satp], `satp = 0x${satp.toString(16)}`);
  }

  /** Four entries: three for parts of the data frames, the last for everything. */
  private protection(open: boolean): void {
    const { random } = this;
    this.open = open;
    const config: number[] = [];
    const addresses: bigint[] = [];
    for (let i = 0; i < 3; i++) {
      const rights = random.pick([0, 1, 3, 4, 5, 7]);
      const frame = random.below(DATA_FRAMES);
      const size = 1 << random.below(3);
      const start = BigInt(((DATA >>> 12) + frame) & ~(size - 1)) << 10n;
      const napot = random.chance(0.5);
      config.push(open ? 0 : rights | (napot ? 0x18 : 0x08));
      // Naturally aligned power of two: the size is in the trailing ones. Otherwise from the entry before it up to here.
      addresses.push(napot ? start | BigInt(size * 512 - 1) : start);
    }
    // Top of range in the first entry would start at 0 and cover the interpreter and the tables.
    if ((config[0]! & 0x18) === 0x08) config[0] = 0;
    config.push(0x1f);
    addresses.push((1n << 54n) - 1n);
    const packed = config.reduce((sum, byte, i) => sum | (BigInt(byte) << BigInt(8 * i)), 0n);
    this.add(
      'protection',
      [...addresses, packed],
      `pmpcfg0 = 0x${packed.toString(16)}, ${addresses.map((a) => a.toString(16))}`,
    );
  }

  private address(): { va: bigint; index: number } {
    const { random } = this;
    const levels = this.sv48 ? 4 : 3;
    let va = 0n;
    let index = 0;
    for (let level = 0; level < levels; level++) {
      const choice = random.pick(this.narrow ? NARROW[level]! : level === 2 && !this.sv48 ? ROOT39 : INDICES[level]!);
      if (level === 0) index = choice;
      va |= BigInt(choice) << BigInt(12 + 9 * level);
    }
    va = BigInt.asUintN(64, BigInt.asIntN(12 + 9 * levels, va));
    if (random.chance(0.02)) va ^= 1n << BigInt(random.between(12 + 9 * levels, 63));
    return { va, index };
  }

  private access(): void {
    const { random } = this;
    const { va } = this.address();
    const user = random.chance(0.5);
    let status = FS | (user ? 0n : 1n << 11n);
    if (random.chance(0.5)) status |= 1n << 18n;
    if (random.chance(0.5)) status |= 1n << 19n;
    this.accesses.push(this.records.length);
    const who = `${user ? 'U' : 'S'}${status & (1n << 18n) ? ' SUM' : ''}${status & (1n << 19n) ? ' MXR' : ''}`;
    if (random.chance(0.3)) {
      const nowhere = this.sv48 && ((va >> 30n) & 511n) === 3n;
      const target = va | BigInt(random.pick([0, 4, 8, 16, 0x3f8, ...(nowhere ? [] : [0xff8, 0xffc, 0xffe, 0xffe])]));
      this.add('fetch', [target, 0n, status], `fetch 0x${target.toString(16)} as ${who}`);
      return;
    }
    const { name, size, store } = random.pick(Object.values(ACCESSES));
    let offset = random.between(0x400, 0xfe0);
    let value = random.u64();
    if (random.chance(0.6) || name.startsWith('amo') || name === 'lr.d') offset &= -size;
    // QEMU 7.2 checks protection for all bytes from the first one's physical address on.
    else if (this.open && random.chance(0.5)) {
      offset = random.between(0x1000 - size, 0xfff);
      value = 0n;
    }
    if (!store && random.chance(0.3)) offset &= 0xff;
    if (name === 'lr.d') offset &= -8;
    const target = va | BigInt(offset);
    this.add(name, [target, value, status | MPRV], `${name} 0x${target.toString(16)} as ${who}`);
  }

  image(): Uint8Array {
    const a = new Assembler(0x8000_0000);
    this.interpreter(a);
    a.org(TABLES);
    const entries = [...this.initial].sort(([x], [y]) => x - y);
    for (const [address, pte] of entries) {
      a.org(address);
      a.double(pte);
    }
    a.org(DATA);
    for (let frame = 0; frame < DATA_FRAMES; frame++) this.dataFrame(a, frame);
    a.org(RECORDS);
    for (const { routine, words } of this.records) {
      a.double(a.addressOf(routine));
      for (let i = 0; i < RECORD_WORDS - 1; i++) a.double(words[i] ?? 0n);
    }
    a.double(a.addressOf('finish'));
    return a.bytes();
  }

  private dataFrame(a: Assembler, frame: number): void {
    const base = a.length;
    // Read as an instruction of its own the first halfword is a HINT, or shifts x1.
    a.half((frame << 4) | 6);
    a.half(1);
    a.op('ecall');
    while (a.length - base < 0xff8) {
      a.op('addi', { rd: 13, rs1: 13, imm: frame });
      a.op('ecall');
    }
    a.op('addi', { rd: 13, rs1: 13, imm: frame });
    a.half(1);
    a.half(0x8693);
  }

  /** x18 is the record, x19 the end of the log; the rest is an access's own. */
  private interpreter(a: Assembler): void {
    const [RECORD, LOG_END] = [18, 19];
    const field = (rd: number, n: number) => a.op('ld', { rd, rs1: RECORD, imm: 8 * (n + 1) });
    start(a);
    a.la(5, 'trap');
    a.csrw(CSR.mtvec, 5);
    a.csrw(CSR.mie, 0);
    // ADUE: Svadu where it exists.
    a.li(5, 1n << 61n);
    a.csrw(CSR.menvcfg, 5);
    a.li(5, FS);
    a.csrw(CSR.mstatus, 5);
    a.li(RECORD, RECORDS);
    a.li(LOG_END, LOG);
    a.op('ld', { rd: 5, rs1: RECORD });
    a.op('jalr', { rs1: 5 });

    a.label('next');
    a.op('addi', { rd: RECORD, rs1: RECORD, imm: 8 * RECORD_WORDS });
    a.op('ld', { rd: 5, rs1: RECORD });
    a.op('jalr', { rs1: 5 });

    while (a.length % 4 !== 0) a.half(1);
    a.label('trap');
    a.csrr(14, CSR.mcause);
    a.csrr(15, CSR.mtval);
    a.csrr(16, CSR.mepc);
    a.label('log');
    a.li(5, FS);
    a.csrw(CSR.mstatus, 5);
    // Of the interpreter's own instructions the address means nothing.
    a.li(5, 0x8000_0000);
    a.op('sub', { rd: 5, rs1: 16, rs2: 5 });
    a.op('srli', { rd: 5, rs1: 5, imm: 12 });
    const outside = a.newLabel();
    a.branch('bne', 5, 0, outside);
    a.op('addi', { rd: 16 });
    a.label(outside);
    for (let i = 0; i < LOG_WORDS; i++) a.op('sd', { rs1: LOG_END, rs2: 13 + i, imm: 8 * i });
    a.op('addi', { rd: LOG_END, rs1: LOG_END, imm: 8 * LOG_WORDS });
    a.jump(0, 'next');

    a.label('edit');
    field(10, 0);
    field(11, 1);
    a.op('sd', { rs1: 10, rs2: 11 });
    if (this.fences) a.op('sfence.vma');
    a.jump(0, 'next');

    a.label('space');
    field(10, 0);
    a.csrw(CSR.satp, 10);
    if (this.fences) a.op('sfence.vma');
    a.jump(0, 'next');

    a.label('protection');
    a.csrw(CSR.pmpcfg0, 0);
    for (let i = 0; i < 4; i++) {
      field(10, i);
      a.csrw(CSR.pmpaddr0 + i, 10);
    }
    field(10, 4);
    a.csrw(CSR.pmpcfg0, 10);
    a.op('sfence.vma');
    a.jump(0, 'next');

    const prepare = () => {
      field(10, 0);
      field(11, 1);
      field(12, 2);
      a.op('fmv.d.x', { rd: 11, rs1: 11 });
      a.op('fmv.d.x', { rd: 13 });
      a.li(13, 0x5a5);
      for (let n = 14; n < 17; n++) a.op('addi', { rd: n });
    };
    for (const { name } of Object.values(ACCESSES)) {
      a.label(name);
      prepare();
      a.csrw(CSR.mstatus, 12);
      const float = name.startsWith('f');
      a.op(name, { rd: 13, rs1: 10, rs2: 11 });
      a.li(5, FS);
      a.csrw(CSR.mstatus, 5);
      if (float && !name.startsWith('fs')) a.op('fmv.x.d', { rd: 13, rs1: 13 });
      a.jump(0, 'log');
    }

    a.label('fetch');
    prepare();
    a.csrw(CSR.mepc, 10);
    a.csrw(CSR.mstatus, 12);
    a.op('mret');

    a.label('finish');
    finish(a);
  }

  /**
   * Whether both sides' log entries mean the same. Where there is no memory QEMU 7.2 reports the aligned piece of a
   * misaligned access that failed, and a failed load for an AMO.
   */
  agree(access: number, ours: BigUint64Array, theirs: BigUint64Array): boolean {
    const { routine, words } = this.records[this.accesses[access]!]!;
    const same = (n: number) => ours[n] === theirs[n];
    const nothingThere = ours[1] === 5n || ours[1] === 7n;
    const size = ACCESSES[routine]?.size ?? 1;
    const misaligned = words[0]! % BigInt(size) !== 0n;
    const cause = same(1) || (ours[1] === 7n && theirs[1] === 5n && routine.startsWith('amo'));
    const distance = ours[2]! - theirs[2]!;
    const value = same(2) || (nothingThere && misaligned && distance > -8n && distance < 8n);
    return same(0) && cause && value && same(3);
  }

  /** What led to an access: the records before it, and itself. */
  describe(access: number): string {
    const index = this.accesses[access]!;
    const space = this.records.slice(0, index).findLast(({ routine }) => routine === 'space');
    const edits = this.records.slice(Math.max(0, index - 6), index + 1);
    return [`access ${access}, ${space?.text}`, ...edits.map(({ text }) => `  ${text}`)].join('\n');
  }
}

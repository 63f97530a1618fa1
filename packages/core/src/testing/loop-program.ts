/**
 * Generated programs whose code is executed again and again, for 1 to 8 harts: what a translator of hot code can get wrong.
 *
 * A program is a handful of *flows*, which every hart calls in a loop. A flow is a random graph of blocks, reducible or not, with
 * fuel so that it ends; its blocks do arithmetic, memory accesses (misaligned, across pages, to unmapped pages), floating point in
 * every mode and state, atomics, device accesses, reads and writes of CSRs, traps, and stores to its own code, beside its code,
 * and to the page tables that map it. Flows call functions that recurse, that return elsewhere than they should, or not at all.
 * Meanwhile a timer interrupts.
 *
 * ```text
 * +0      jump to the code
 * +1000   page tables: root, middle, last level, all three seen as data too
 * +4000   shared page
 * +5000   hart pages: save area and digest of the trap handler
 * +d000   data window: 8 pages, seen at virtual 0x4000_0000 in another order; a free page
 * +16000  stacks, 8 KiB each
 * +26000  code window: seen at virtual 0x4001_0000, its second page being either of two
 * +2a000  code
 * ```
 *
 * Registers: s0 the hart's page, s1 the shared page, s2 turns of the main loop, s3 fuel, s4 and s5 pointers, s6 turns of
 * an inner loop, s7 the data window, s8 a mask for
 * offsets in it, s9 where the flow returns to, s11 eight times the hart; x10..x17 and x28..x31 are what
 * flows compute with; t0..t2 are for addresses. An exception goes on behind its instruction, which has four bytes, or at s9 if
 * it was a fetch.
 */

import { rows } from '../isa/index.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from './assembler.ts';
import { CSR } from './csr.ts';
import { CLINT, powerOff } from './fragments.ts';
import { pte } from './page-tables.ts';
import { Random } from './random.ts';

const TABLES = RAM_BASE + 0x1000;
const SHARED = RAM_BASE + 0x4000;
const HART_PAGES = RAM_BASE + 0x5000;
const DATA = RAM_BASE + 0xd000;
const DATA_PAGES = 8;
const STACKS = RAM_BASE + 0x16000;
const STACK = 0x2000;
const CODE_WINDOW = RAM_BASE + 0x26000;
const CODE = RAM_BASE + 0x2a000;
const WINDOW_VIRTUAL = 0x4000_0000;
const CODE_WINDOW_VIRTUAL = 0x4001_0000;
const LAST_LEVEL = TABLES + 0x2000;
const UART = 0x1000_0000;

const SAVE = { t1: 0, t2: 8, t3: 16, digest: 24, data: 1024 } as const;

const [ra, sp, t0, t1, t2, s0, s1, s2, s3] = [1, 2, 5, 6, 7, 8, 9, 18, 19] as const;
const [s4, s5, s6, s7, s8, s9, s11] = [20, 21, 22, 23, 24, 25, 27] as const;
const COMPUTED = [10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31] as const;

/** What a flow's blocks do; a recipe may name a few. */
export const LOOP_OPERATIONS = [
  'compute',
  'load',
  'store',
  'stream',
  'atomic',
  'float',
  'floatState',
  'counter',
  'csr',
  'device',
  'timer',
  'trap',
  'wait',
  'call',
  'patch',
  'beside',
  'mapping',
  'space',
] as const;
export type LoopOperation = (typeof LOOP_OPERATIONS)[number];

export interface LoopRecipe {
  readonly harts: number;
  /** In S-mode with Sv39; otherwise in M-mode without. */
  readonly paged: boolean;
  readonly seed: number;
  readonly turns: number;
  readonly operations?: readonly LoopOperation[];
}

/** A flat image for the start of RAM. */
export function loopProgram(recipe: LoopRecipe): Uint8Array {
  return new Writer(recipe).write();
}

const arithmetic = rows.filter((row) => row.pure && ['R', 'R1', 'I', 'SH', 'SHW', 'U'].includes(row.format));
const plain = arithmetic.filter((row) => row.hot);
const floats = rows.filter((row) => row.extension === 'F' || row.extension === 'D');
const floatArithmetic = floats.filter((row) => row.format !== 'FL' && row.format !== 'FS');
const atomics = rows.filter((row) => row.format === 'A' && row.name.startsWith('amo'));
const BRANCHES = ['beq', 'bne', 'blt', 'bge', 'bltu', 'bgeu'];
const ACCESSES = { ld: 8, lw: 4, lwu: 4, lh: 2, lhu: 2, lb: 1, lbu: 1 };
const STORES = { sd: 8, sw: 4, sh: 2, sb: 1 };

/** Doubles and boxed singles of every kind, and what no single is. */
const FLOATS = [
  0x3ff0_0000_0000_0000n,
  0xbff8_0000_0000_0000n,
  0x4008_1234_5678_9abcn,
  0x3fd5_5555_5555_5555n,
  0x7fef_ffff_ffff_ffffn,
  0x0010_0000_0000_0000n,
  0x0000_0000_0000_0003n,
  0x7ff0_0000_0000_0000n,
  0x7ff8_0000_0000_0000n,
  0x7ff0_0000_0000_0001n,
  0x8000_0000_0000_0000n,
  0x41df_ffff_ffe0_0000n,
  0x43e0_0000_0000_0000n,
  0xffff_ffff_3f80_0000n,
  0xffff_ffff_c049_0fdbn,
  0xffff_ffff_7f7f_ffffn,
  0xffff_ffff_0080_0000n,
  0xffff_ffff_0000_0001n,
  0xffff_ffff_ff80_0000n,
  0xffff_ffff_7fa0_0000n,
  0xffff_ffff_4f00_0000n,
  0x1234_5678_3f80_0000n,
];

/** A place that a flow patches: an `addi rd, rs1, ...`. */
interface Site {
  readonly label: string;
  readonly rs1: number;
}

interface Flow {
  readonly name: string;
  readonly inWindow: boolean;
}

class Writer {
  private readonly a = new Assembler(RAM_BASE);
  private readonly recipe: LoopRecipe;
  private readonly choices: Random;
  private readonly operations: readonly LoopOperation[];
  /** Functions that stand already, by address. */
  private readonly leaves: { address: bigint; link: number }[] = [];
  /** Of the flow that is being written. */
  private sites: Site[] = [];
  private beside: string[] = [];
  private streaming = false;

  constructor(recipe: LoopRecipe) {
    this.recipe = recipe;
    this.choices = new Random(recipe.seed);
    this.operations = recipe.operations ?? this.mix();
  }

  /** A few kinds of operation get most of a program. */
  private mix(): LoopOperation[] {
    const { choices } = this;
    const some = Array.from({ length: 4 }, () => choices.pick(LOOP_OPERATIONS));
    return ['compute', 'compute', 'load', 'store', 'stream', ...some, ...some, ...some.slice(0, 2)];
  }

  write(): Uint8Array {
    const { a, choices, recipe } = this;
    a.jump(0, 'entry');
    this.tables();
    a.org(SHARED);
    for (const value of FLOATS) a.double(value);
    a.org(CODE_WINDOW);
    const flows: Flow[] = [];
    if (recipe.paged) flows.push(this.windowFlow());
    a.org(CODE);
    this.handler();
    for (let n = 3 + choices.below(5); n > 0; n--) this.leaf();
    for (let n = 2 + choices.below(4); n > 0; n--) {
      // Often across the boundary of two pages.
      if (choices.chance(0.4)) a.org(((a.here + 0xfffn) & ~0xfffn) + 0x1000n - BigInt(2 * choices.below(150)));
      const name = `flow${n}`;
      this.flow(name, 2 + choices.below(choices.chance(0.5) ? 5 : 22));
      flows.push({ name, inWindow: false });
    }
    this.entry(flows);
    return a.bytes();
  }

  private tables(): void {
    const { a, choices } = this;
    a.org(TABLES);
    const entries = new Map<number, bigint>([
      [TABLES, pte(0, 0xc7)],
      [TABLES + 8, pte(TABLES + 0x1000, 1)],
      [TABLES + 16, pte(RAM_BASE, 0xcf)],
      [TABLES + 0x1000, pte(LAST_LEVEL, 1)],
    ]);
    const turned = choices.below(DATA_PAGES);
    for (let page = 0; page < DATA_PAGES; page++) {
      entries.set(LAST_LEVEL + 8 * page, pte(DATA + 4096 * ((page * 3 + turned) % DATA_PAGES), 0xcf));
    }
    for (let page = 0; page < 2; page++)
      entries.set(LAST_LEVEL + 8 * (16 + page), pte(CODE_WINDOW + 4096 * page, 0xcf));
    for (const [address, value] of [...entries].sort(([x], [y]) => x - y)) {
      a.org(address);
      a.double(value);
    }
  }

  /** Digests the trap, arms the timer, goes on behind an exception. */
  private handler(): void {
    const { a, choices } = this;
    a.label('handler');
    a.op('csrrw', { rd: t0, csr: CSR.mscratch, rs1: t0 });
    a.op('sd', { rs1: t0, rs2: t1, imm: SAVE.t1 });
    a.op('sd', { rs1: t0, rs2: t2, imm: SAVE.t2 });
    a.op('ld', { rd: t1, rs1: t0, imm: SAVE.digest });
    for (const csr of [CSR.mcause, CSR.mepc, CSR.mtval]) {
      a.csrr(t2, csr);
      a.op('xor', { rd: t1, rs1: t1, rs2: t2 });
      a.op('slli', { rd: t2, rs1: t1, imm: 5 });
      a.op('add', { rd: t1, rs1: t1, rs2: t2 });
    }
    a.op('sd', { rs1: t0, rs2: t1, imm: SAVE.digest });
    a.csrr(t1, CSR.mcause);
    a.branch('blt', t1, 0, 'interrupt');
    for (const cause of [1, 12]) {
      a.op('addi', { rd: t2, imm: cause });
      a.branch('beq', t1, t2, 'fetch');
    }
    a.csrr(t1, CSR.mepc);
    a.op('addi', { rd: t1, rs1: t1, imm: 4 });
    a.csrw(CSR.mepc, t1);
    a.jump(0, 'return');
    a.label('fetch');
    a.csrw(CSR.mepc, s9);
    a.jump(0, 'return');
    a.label('interrupt');
    a.op('andi', { rd: t1, rs1: t1, imm: 15 });
    a.op('addi', { rd: t2, imm: 3 });
    a.branch('bne', t1, t2, 'timer');
    a.op('srli', { rd: t1, rs1: s11, imm: 1 });
    a.li(t2, CLINT);
    a.op('add', { rd: t1, rs1: t1, rs2: t2 });
    a.op('sw', { rs1: t1 });
    a.jump(0, 'return');
    a.label('timer');
    this.arm(choices.pick([3, 17, 90, 400]));
    a.label('return');
    a.op('ld', { rd: t1, rs1: t0, imm: SAVE.t1 });
    a.op('ld', { rd: t2, rs1: t0, imm: SAVE.t2 });
    a.op('csrrw', { rd: t0, csr: CSR.mscratch, rs1: t0 });
    a.op('mret');
  }

  /** The hart's timer, so many ticks of 100 steps from now; t1 and t2 are lost. */
  private arm(ticks: number): void {
    const { a } = this;
    a.li(t2, CLINT + 0xbff8);
    a.op('ld', { rd: t1, rs1: t2 });
    a.op('addi', { rd: t1, rs1: t1, imm: ticks });
    a.li(t2, CLINT + 0x4000);
    a.op('add', { rd: t2, rs1: t2, rs2: s11 });
    a.op('sd', { rs1: t2, rs2: t1 });
  }

  private entry(flows: readonly Flow[]): void {
    const { a, choices, recipe } = this;
    a.label('entry');
    a.la(t0, 'handler');
    a.csrw(CSR.mtvec, t0);
    a.op('addi', { rd: t0, imm: -1 });
    a.csrw(CSR.pmpaddr0, t0);
    a.li(t0, 0x1f);
    a.csrw(CSR.pmpcfg0, t0);
    a.op('addi', { rd: t0, imm: 7 });
    a.csrw(CSR.mcounteren, t0);
    // With or without accessed and dirty flags by hardware.
    a.li(t0, choices.chance(0.7) ? 1n << 61n : 0n);
    a.csrw(CSR.menvcfg, t0);
    a.csrr(s11, CSR.mhartid);
    a.op('slli', { rd: s11, rs1: s11, imm: 3 });
    a.op('slli', { rd: s0, rs1: s11, imm: 9 });
    a.li(t0, HART_PAGES);
    a.op('add', { rd: s0, rs1: s0, rs2: t0 });
    a.csrw(CSR.mscratch, s0);
    a.op('slli', { rd: sp, rs1: s11, imm: 10 });
    a.li(t0, STACKS + STACK);
    a.op('add', { rd: sp, rs1: sp, rs2: t0 });
    a.li(s1, SHARED);
    a.li(s2, recipe.turns);
    a.li(s8, choices.pick([0x7fff, 0x7ff8, 0xfff, 0x38]));
    this.arm(choices.pick([2, 50, 2000]));
    a.op('addi', { rd: t0, imm: 0x88 });
    a.csrw(CSR.mie, t0);
    // Floating point off, initial, clean or dirty.
    const fs = (choices.chance(0.05) ? 0 : choices.between(1, 3)) << 13;
    if (recipe.paged) {
      a.li(s7, WINDOW_VIRTUAL);
      a.li(t0, (8n << 60n) | BigInt(TABLES >>> 12));
      a.csrw(CSR.satp, t0);
      a.li(t0, 0x0800 | fs);
      a.csrw(CSR.mstatus, t0);
      a.la(t0, 'begin');
      a.csrw(CSR.mepc, t0);
      a.op('mret');
    } else {
      a.li(s7, DATA);
      a.li(t0, fs | 8);
      a.csrw(CSR.mstatus, t0);
    }
    a.label('begin');
    for (const rd of COMPUTED) a.li(rd, choices.chance(0.5) ? choices.below(4096) - 2048 : choices.u64());
    for (let n = 0; n < 32; n++) a.op('fld', { rd: n, rs1: s1, imm: 8 * choices.below(FLOATS.length) });
    a.label('turn');
    for (const { name, inWindow } of flows) {
      a.op('addi', { rd: s3, imm: choices.pick([5, 30, 120]) });
      if (inWindow) a.li(t0, CODE_WINDOW_VIRTUAL + Number(a.addressOf(name)) - CODE_WINDOW);
      else a.la(t0, name);
      a.op('jalr', { rd: ra, rs1: t0 });
      a.op('slli', { rd: sp, rs1: s11, imm: 10 });
      a.li(t0, STACKS + STACK);
      a.op('add', { rd: sp, rs1: sp, rs2: t0 });
    }
    a.op('addi', { rd: s2, rs1: s2, imm: -1 });
    a.branch('beq', s2, 0, 'over');
    a.jump(0, 'turn');
    a.label('over');
    a.op('addi', { rd: t0, imm: 1 });
    a.op('addi', { rd: t1, rs1: s1, imm: 2040 });
    a.op('amoadd.d', { rd: t2, rs1: t1, rs2: t0 });
    a.op('addi', { rd: t2, rs1: t2, imm: 1 });
    a.li(t0, recipe.harts);
    a.branch('bne', t2, t0, 'rest');
    powerOff(a);
    a.label('rest');
    a.op('wfi');
    a.jump(0, 'rest');
  }

  /** A function that a flow calls: s3 and s7 to s11 survive, and mostly sp. */
  private leaf(): void {
    const { a, choices } = this;
    const address = a.here;
    const { leaves } = this;
    const link = choices.chance(0.2) ? t0 : ra;
    const back = () => a.op('jalr', { rs1: link });
    switch (choices.below(8)) {
      case 0:
      case 1:
        this.compute(1 + choices.below(6));
        back();
        break;
      case 2:
        // Returns behind the instruction that it should return to, or not.
        a.op('andi', { rd: t1, rs1: choices.pick(COMPUTED), imm: 4 });
        a.op('add', { rd: link, rs1: link, rs2: t1 });
        back();
        break;
      case 3: {
        // Goes on in another function.
        const next = leaves.findLast((leaf) => leaf.link === link);
        if (next) {
          a.li(t2, next.address);
          a.op('jalr', { rs1: t2, rd: 0 });
        } else back();
        break;
      }
      case 4: {
        const normal = a.newLabel();
        // As `longjmp`: to where the flow's caller goes on.
        a.op('andi', { rd: t1, rs1: choices.pick(COMPUTED), imm: choices.pick([1, 7]) });
        a.branch('bne', t1, 0, normal);
        a.op('addi', { rd: link, rs1: s9 });
        a.label(normal);
        back();
        break;
      }
      case 5:
        // Returns, and is come back to by whoever returns to its link.
        this.compute(1);
        a.op('jalr', { rd: link, rs1: link });
        this.compute(1);
        back();
        break;
      default:
        this.recursion(link);
        return;
    }
    leaves.push({ address, link });
  }

  /** Deep, binary, or leaving from its depth at once. */
  private recursion(link: number): void {
    const { a, choices } = this;
    const name = a.newLabel();
    const end = a.newLabel();
    const address = a.here;
    const depth = choices.pick([3, 6, 6, 40, 220]);
    a.op('addi', { rd: t2, imm: depth });
    a.op('addi', { rd: t1, rs1: sp });
    a.label(name);
    a.op('addi', { rd: sp, rs1: sp, imm: -16 });
    a.op('sd', { rs1: sp, rs2: link });
    a.op('sd', { rs1: sp, rs2: t2, imm: 8 });
    a.op('addi', { rd: t2, rs1: t2, imm: -1 });
    a.branch('blt', t2, 0, end);
    this.compute(1);
    a.jump(link, name);
    if (depth < 10) {
      a.op('addi', { rd: t2, rs1: t2, imm: -1 });
      a.branch('blt', t2, 0, end);
      a.jump(link, name);
    }
    this.compute(1);
    a.label(end);
    if (choices.chance(0.3)) {
      // From the innermost to the outermost, past all others.
      const stay = a.newLabel();
      a.branch('bge', t2, 0, stay);
      a.op('addi', { rd: sp, rs1: t1, imm: -16 });
      a.label(stay);
    }
    a.op('ld', { rd: link, rs1: sp });
    a.op('ld', { rd: t2, rs1: sp, imm: 8 });
    a.op('addi', { rd: sp, rs1: sp, imm: 16 });
    a.op('jalr', { rs1: link });
    this.leaves.push({ address, link });
  }

  /** Two pages of code, the second one in two versions. */
  private windowFlow(): Flow {
    const { a, choices } = this;

    a.org(CODE_WINDOW + 0x1000 - 4 * choices.between(10, 120));
    this.flow('window', 6 + choices.below(10));
    if (a.here > BigInt(CODE_WINDOW + 0x2000)) throw new RangeError('the flow in the window is too long');

    // The other second page: the same computation to begin with, then home.
    a.org(CODE_WINDOW + 0x2000);
    for (let n = 0; n < 1024 - 2; n++) {
      if (n % 8 === 7) a.op('jalr', { rs1: s9 });
      else a.op('addi', { rd: COMPUTED[n % 8]!, rs1: COMPUTED[n % 8]!, imm: 1 + (n % 8) });
    }
    a.op('jalr', { rs1: s9 });
    a.op('jalr', { rs1: s9 });
    return { name: 'window', inWindow: true };
  }

  /** A random graph of blocks. */
  private flow(name: string, count: number): void {
    const { a, choices } = this;
    const labels = Array.from({ length: count }, () => a.newLabel());
    const exit = a.newLabel();
    this.sites = Array.from({ length: 3 }, () => ({ label: a.newLabel(), rs1: choices.pick(COMPUTED) }));
    this.beside = [a.newLabel(), a.newLabel()];
    const unplaced = [...this.sites];
    const nested = choices.chance(0.4);
    a.label(name);
    a.op('addi', { rd: s9, rs1: ra });
    labels.forEach((label, n) => {
      a.label(label);
      const go = a.newLabel();
      a.op('addi', { rd: s3, rs1: s3, imm: -1 });
      a.branch('bge', s3, 0, go);
      a.jump(0, exit);
      a.label(go);
      if (choices.chance(0.3) || n === count - 1) {
        for (const site of unplaced.splice(0, n === count - 1 ? 3 : 1)) {
          // Never an instruction across two pages, whose parts are patched by one store.
          a.label(site.label);
          a.op('addi', { rd: choices.pick(COMPUTED), rs1: site.rs1, imm: choices.below(100) });
        }
      }
      for (let k = choices.below(5); k > 0; k--) this.operation();
      this.terminator(labels, n, nested);
    });
    a.label(exit);
    if (choices.chance(0.5)) a.op('jalr', { rs1: s9 });
    else {
      a.op('addi', { rd: ra, rs1: s9 });
      a.op('jalr', { rs1: ra });
    }
    while ((a.here & 7n) !== 0n) a.half(1);
    for (const label of this.beside) {
      a.label(label);
      a.double(0n);
    }
  }

  /** How a block ends: nearby and mostly backwards for nested loops, anywhere for irreducible flow. */
  private terminator(labels: readonly string[], n: number, nested: boolean): void {
    const { a, choices } = this;
    const target = () =>
      labels[
        nested ? Math.max(0, Math.min(labels.length - 1, n - choices.below(4) + 1)) : choices.below(labels.length)
      ]!;
    const condition = (label: string) =>
      a.branch(choices.pick(BRANCHES), choices.pick(COMPUTED), choices.pick([0, ...COMPUTED]), label);
    switch (choices.below(8)) {
      case 0:
        return a.jump(0, target());
      case 1: {
        // One of two, computed.
        const second = a.newLabel();
        a.la(t0, target());
        condition(second);
        a.la(t0, target());
        a.label(second);
        // Never through a register that conventions keep return addresses in, unless on purpose.
        if (choices.chance(0.7)) {
          a.op('addi', { rd: t2, rs1: t0 });
          return a.op('jalr', { rs1: t2 });
        }
        return a.op('jalr', { rs1: t0, rd: choices.pick([0, 0, t1]) });
      }
      case 2:
        // A call that does not come back.
        return a.jump(choices.pick([ra, t0]), target());
      case 3: {
        // A short way over some operations.
        const over = a.newLabel();
        condition(over);
        this.operation();
        a.label(over);
        return condition(target());
      }
      default:
        condition(target());
        if (choices.chance(0.3)) condition(target());
    }
  }

  private compute(count: number): void {
    const { a, choices } = this;
    for (; count > 0; count--) {
      if (choices.chance(0.25)) {
        // c.addi, c.mv, c.add
        const rd = choices.pick(COMPUTED);
        const rs2 = choices.pick(COMPUTED);
        a.half(
          choices.pick([
            0x0001 | (rd << 7) | (choices.between(1, 31) << 2),
            0x8002 | (rd << 7) | (rs2 << 2),
            0x9002 | (rd << 7) | (rs2 << 2),
          ]),
        );
        continue;
      }
      const row = choices.pick(choices.chance(0.7) ? plain : arithmetic);
      const imm = row.format === 'U' ? choices.u32() & ~0xfff : choices.between(-2048, 2047);
      const rd = choices.chance(0.02) ? 0 : choices.pick(COMPUTED);
      a.op(row.name, { rd, rs1: choices.pick(COMPUTED), rs2: choices.pick(COMPUTED), imm });
    }
  }

  /** t0 = an address in the data window, of any alignment or of this one. */
  private address(align = 1): void {
    const { a, choices, recipe } = this;
    switch (choices.below(recipe.paged ? 6 : 5)) {
      case 0:
        // About a boundary of pages.
        a.li(t0, 4096 * choices.between(1, DATA_PAGES - 1) - align * choices.below(Math.ceil(9 / align)));
        a.op('add', { rd: t0, rs1: t0, rs2: s7 });
        return;
      case 1:
        a.op('addi', { rd: t0, rs1: s0, imm: SAVE.data });
        return;
      case 5:
        // The page behind the window is not mapped.
        a.li(t0, 4096 * DATA_PAGES - align * choices.below(Math.ceil(12 / align)));
        a.op('add', { rd: t0, rs1: t0, rs2: s7 });
        return;
      default:
        a.op('and', { rd: t0, rs1: choices.pick(COMPUTED), rs2: s8 });
        if (align > 1) a.op('andi', { rd: t0, rs1: t0, imm: -align });
        a.op('add', { rd: t0, rs1: t0, rs2: s7 });
    }
  }

  private offset(): number {
    return this.choices.pick([0, 0, 8, 16, 1, 24]);
  }

  private operation(): void {
    const { a, choices, recipe } = this;
    const register = () => choices.pick(COMPUTED);
    switch (choices.pick(this.operations)) {
      case 'compute':
        return this.compute(1 + choices.below(6));
      case 'load':
        this.address();
        for (let n = 1 + choices.below(3); n > 0; n--) {
          a.op(choices.pick(Object.keys(ACCESSES)), {
            rd: choices.chance(0.05) ? 0 : register(),
            rs1: t0,
            imm: this.offset(),
          });
        }
        return;
      case 'store':
        this.address();
        for (let n = 1 + choices.below(3); n > 0; n--) {
          a.op(choices.pick(Object.keys(STORES)), { rs1: t0, rs2: register(), imm: this.offset() });
        }
        return;
      case 'stream':
        return this.stream();
      case 'atomic':
        return this.atomic();
      case 'float':
        for (let n = 1 + choices.below(5); n > 0; n--) this.float();
        return;
      case 'floatState':
        return this.floatState();
      case 'counter':
        return a.csrr(register(), choices.pick([CSR.cycle, CSR.instret, CSR.time]));
      case 'csr':
        switch (choices.below(5)) {
          case 0:
            return a.op('csrrw', { rd: register(), csr: CSR.sscratch, rs1: register() });
          case 1:
            return a.csrr(register(), recipe.paged ? CSR.sstatus : CSR.mstatus);
          case 2:
            return a.op('csrrsi', { rd: register(), csr: CSR.sepc, imm: choices.below(32) });
          case 3:
            // SUM and MXR.
            a.li(t0, choices.pick([1 << 18, 1 << 19]));
            return a.op(choices.pick(['csrrs', 'csrrc']), { rd: register(), csr: CSR.sstatus, rs1: t0 });
          default:
            // Illegal in S-mode.
            return a.op('csrrw', { rd: register(), csr: choices.pick([CSR.mcycle, CSR.minstret]), rs1: register() });
        }
      case 'device':
        return this.device();
      case 'timer':
        return this.arm(choices.below(20));
      case 'trap':
        return this.seldom(() => {
          const trap = choices.below(4);
          if (trap === 0) a.op('ecall');
          else if (trap === 1) a.word(0xffff_ffff);
          else if (trap === 2) a.op('ebreak');
          else a.op('ld', { rd: register(), rs1: 0, imm: 0x700 });
        });
      case 'wait':
        return choices.chance(0.5) ? a.op('wfi') : a.op('pause');
      case 'call':
        return this.call();
      case 'patch':
        return this.patch();
      case 'beside':
        a.la(t0, choices.pick(this.beside));
        a.op('ld', { rd: t1, rs1: t0 });
        a.op('add', { rd: t1, rs1: t1, rs2: register() });
        return a.op(choices.pick(['sd', 'sw', 'sb']), { rs1: t0, rs2: t1 });
      case 'mapping':
        return this.mapping();
      case 'space':
        // Between two address spaces with the same tables.
        a.li(t0, 1n << 44n);
        a.csrr(t1, CSR.satp);
        a.op('xor', { rd: t1, rs1: t1, rs2: t0 });
        return recipe.paged ? a.csrw(CSR.satp, t1) : undefined;
    }
  }

  /** A loop whose pointers go through the data window, or stand still at a device; anything may happen beside. */
  private stream(): void {
    const { a, choices, recipe } = this;
    if (this.streaming) return this.compute(2);
    this.streaming = true;
    const pointers = choices.chance(0.6) ? [s4, s5] : [s4];
    const strides = pointers.map(() => choices.pick([1, 8, 8, 16, 24, 64, 512, -8, 0]));
    for (const pointer of pointers) {
      if (choices.chance(0.2)) {
        // The last: entries behind those of the data window.
        a.li(pointer, choices.pick([UART, CLINT + 0xbff8, SHARED + 1024, LAST_LEVEL + 8 * DATA_PAGES]));
        continue;
      }
      // Often just before the end of a page.
      const page = 4096 * choices.between(1, recipe.paged ? DATA_PAGES : 4);
      a.li(t0, page - choices.pick([8, 32, 100, 2000]));
      a.op('add', { rd: pointer, rs1: t0, rs2: s7 });
    }
    a.op('addi', { rd: s6, imm: choices.between(2, 24) });
    const again = a.newLabel();
    a.label(again);
    for (let n = 1 + choices.below(6); n > 0; n--) {
      const rs1 = choices.pick(pointers);
      const imm = choices.pick([0, 0, 1, 4, 8, 16, 24, 40, -8, 2040]);
      const value = choices.pick(COMPUTED);
      if (choices.chance(0.6)) a.op(choices.pick(Object.keys(ACCESSES)), { rd: value, rs1, imm });
      else a.op(choices.pick(Object.keys(STORES)), { rs1, rs2: value, imm });
    }
    for (let n = choices.below(3); n > 0; n--) this.operation();
    for (const [n, rd] of pointers.entries()) a.op('addi', { rd, rs1: rd, imm: strides[n]! });
    a.op('addi', { rd: s6, rs1: s6, imm: -1 });
    a.branch('bne', s6, 0, again);
    this.streaming = false;
  }

  /** Code that is mostly jumped over; t1 is lost. */
  private seldom(body: () => void): void {
    const { a, choices } = this;
    const over = a.newLabel();
    a.op('andi', { rd: t1, rs1: choices.pick(COMPUTED), imm: choices.pick([1, 7, 31]) });
    a.branch('bne', t1, 0, over);
    body();
    a.label(over);
  }

  private atomic(): void {
    const { a, choices } = this;
    const register = () => choices.pick(COMPUTED);
    if (choices.chance(0.3)) this.address(choices.chance(0.95) ? 8 : 1);
    else a.op('addi', { rd: t0, rs1: s1, imm: 1024 + 8 * choices.below(8) });
    if (choices.chance(0.5)) {
      return a.op(choices.pick(atomics).name, { rd: choices.pick([0, register()]), rs1: t0, rs2: register() });
    }
    const size = choices.pick(['w', 'd']);
    const again = a.newLabel();
    a.op('addi', { rd: t1, imm: 5 });
    a.label(again);
    a.op(`lr.${size}`, { rd: register(), rs1: t0 });
    if (choices.chance(0.3)) a.op('sd', { rs1: s1, rs2: register(), imm: 1024 + 8 * choices.below(8) });
    this.compute(choices.below(3));
    a.op(`sc.${size}`, { rd: t2, rs1: t0, rs2: register() });
    a.op('addi', { rd: t1, rs1: t1, imm: -1 });
    if (choices.chance(0.5)) {
      const done = a.newLabel();
      a.branch('beq', t1, 0, done);
      a.branch('bne', t2, 0, again);
      a.label(done);
    }
  }

  private float(): void {
    const { a, choices } = this;
    const anyFloat = () => choices.below(8) * 4 + choices.below(2);
    if (choices.chance(0.25)) {
      if (choices.chance(0.4)) this.address();
      else a.op('addi', { rd: t0, rs1: s1, imm: 8 * choices.below(FLOATS.length - 3) });
      const row = choices.pick(floats.filter(({ format }) => format === 'FL' || format === 'FS'));
      const inConstants = row.format === 'FL';
      if (!inConstants) a.op('addi', { rd: t0, rs1: s0, imm: SAVE.data });
      return a.op(row.name, { rd: anyFloat(), rs1: t0, rs2: anyFloat(), imm: this.offset() });
    }
    const row = choices.pick(floatArithmetic);
    const integer = row.format === 'FC' || row.format === 'FX' || row.format === 'FXM';
    a.op(row.name, {
      rd: integer ? choices.pick(COMPUTED) : anyFloat(),
      rs1: row.format === 'XF' || row.format === 'XFM' ? choices.pick(COMPUTED) : anyFloat(),
      rs2: anyFloat(),
      rs3: anyFloat(),
      rm: choices.chance(0.02) ? choices.pick([5, 6]) : choices.pick([0, 0, 1, 2, 3, 4, 7, 7, 7]),
    });
  }

  private floatState(): void {
    const { a, choices, recipe } = this;
    switch (choices.below(6)) {
      case 0:
        return a.op('csrrwi', {
          rd: choices.pick(COMPUTED),
          csr: CSR.frm,
          imm: choices.chance(0.1) ? 5 : choices.below(5),
        });
      case 1:
        return a.op('csrrwi', { rd: choices.pick(COMPUTED), csr: CSR.fflags, imm: choices.pick([0, 0, 1, 31]) });
      case 2:
        return a.op('csrrwi', { csr: CSR.fcsr, imm: choices.below(32) });
      case 3:
        return a.csrr(choices.pick(COMPUTED), CSR.fcsr);
      default: {
        const status = recipe.paged ? CSR.sstatus : CSR.mstatus;
        a.li(t0, 3 << 13);
        a.op('csrrc', { csr: status, rs1: t0 });
        a.li(t0, choices.pick([0, 1, 2, 3, 3, 3, 3, 3]) << 13);
        return a.op('csrrs', { csr: status, rs1: t0 });
      }
    }
  }

  private device(): void {
    const { a, choices, recipe } = this;
    const register = () => choices.pick(COMPUTED);
    switch (choices.below(6)) {
      case 0:
        a.li(t0, CLINT + 0xbff8);
        return a.op(choices.pick(['ld', 'lw']), { rd: register(), rs1: t0 });
      case 1:
        a.li(t0, UART + 7);
        a.op('sb', { rs1: t0, rs2: register() });
        return a.op('lbu', { rd: register(), rs1: t0 });
      case 2:
        a.li(t0, UART);
        return a.op(choices.pick(['lbu', 'lb']), { rd: register(), rs1: t0, imm: 5 });
      case 3:
        a.li(t0, UART);
        return a.op('sb', { rs1: t0, rs2: register() });
      case 4:
        // Nothing is there.
        a.li(t0, 0x3000_0000);
        return this.seldom(() =>
          a.op(choices.pick(['lw', 'sw', 'amoadd.w', 'lr.d']), { rd: register(), rs1: t0, rs2: 0 }),
        );
      default:
        // An interrupt to some hart.
        a.li(t0, CLINT + 4 * choices.below(recipe.harts));
        a.op('addi', { rd: t1, imm: 1 });
        return a.op('sw', { rs1: t0, rs2: t1 });
    }
  }

  private call(): void {
    const { a, choices, leaves } = this;
    if (leaves.length === 0) {
      a.op('auipc', { rd: t0 });
      a.op('jalr', { rd: ra, rs1: t0, imm: 8 });
      return;
    }
    const { address, link } = choices.pick(leaves);
    const distance = Number(address - a.here);
    const low = (distance << 20) >> 20;
    if (choices.chance(0.4)) {
      a.op('auipc', { rd: t1, imm: distance - low });
      a.op('jalr', { rd: link, rs1: t1, imm: low });
    } else {
      a.li(t1, address);
      a.op('jalr', { rd: link, rs1: t1 });
    }
    // Some functions return behind the first of these.
    a.op('addi', { rd: choices.pick(COMPUTED), rs1: choices.pick(COMPUTED), imm: 1 });
    if (choices.chance(0.2)) a.op('jalr', { rd: link, rs1: link });
    a.op('addi', { rd: choices.pick(COMPUTED), rs1: choices.pick(COMPUTED), imm: 2 });
  }

  /** Changes the constant of an `addi` of this flow, by the half of the instruction that has it, or by all of it. */
  private patch(): void {
    const { a, choices } = this;
    const { label, rs1 } = choices.pick(this.sites);
    a.la(t0, label);
    if (choices.chance(0.5)) {
      a.op('andi', { rd: t1, rs1: choices.pick(COMPUTED), imm: 0x3f });
      a.op('slli', { rd: t1, rs1: t1, imm: 4 });
      a.op('ori', { rd: t1, rs1: t1, imm: rs1 >> 1 });
      a.op('sh', { rs1: t0, rs2: t1, imm: 2 });
    } else {
      a.op('lw', { rd: t1, rs1: t0 });
      a.li(t2, choices.pick([0x10_0000, 0x40_0000, 0]));
      a.op('xor', { rd: t1, rs1: t1, rs2: t2 });
      a.op('sw', { rs1: t0, rs2: t1 });
    }
    if (choices.chance(0.2)) a.op('fence.i');
  }

  /** Edits an entry of the window's table. */
  private mapping(): void {
    const { a, choices, recipe } = this;
    if (!recipe.paged) return;
    const code = choices.chance(0.3);
    const page = code ? 17 : choices.below(DATA_PAGES);
    a.li(t0, LAST_LEVEL + 8 * page);
    a.op('ld', { rd: t1, rs1: t0 });
    const other = pte(CODE_WINDOW + 0x1000, 0) ^ pte(CODE_WINDOW + 0x2000, 0);
    const frames = pte(DATA, 0) ^ pte(DATA + 0x1000, 0);
    a.li(
      t2,
      code ? choices.pick([other, other, other, 0xc0n]) : choices.pick([frames, frames, frames, 0x80n, 0xc0n, 4n, 1n]),
    );
    a.op('xor', { rd: t1, rs1: t1, rs2: t2 });
    a.op('sd', { rs1: t0, rs2: t1 });
    if (choices.chance(0.3)) a.op('sfence.vma');
  }
}

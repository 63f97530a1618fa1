/**
 * A program that tells the time everywhere: the first instruction of every page does, at its first byte or two bytes before it, so that
 * it lies across the two pages; so does the handler's, behind every trap; and what follows each of `CALL_OUTS`, which are all that
 * code is left for in the middle. What was told adds up in s0 and s10. Each hart runs the same code, on data pages of its own.
 *
 * In S- and U-mode it runs under page tables without accessed and dirty flags, which walks set, and which it clears each time around.
 *
 * ```text
 * +0       setup, the handler at the beginning of a page, then PAGES pages of code
 * +100000  page tables: root, two middle ones, the last ones of RAM and of devices
 * +110000  data pages, 32 KiB a hart, of which DATA_PAGES are used
 * ```
 */

import { PLATFORM } from '../boot/device-tree.ts';
import { MENVCFG, MSTATUS } from '../hart/state.ts';
import { HINT_MAGIC } from '../isa/hint.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler, encode, rowOf } from './assembler.ts';
import { CSR } from './csr.ts';
import { CLINT } from './fragments.ts';
import { PTE, pte } from './page-tables.ts';
import { Random } from './random.ts';

/** What tells the time. */
export const CLOCKS = ['cycle', 'time', 'instret', 'mtime', 'rtc'] as const;
export type Clock = (typeof CLOCKS)[number];

/** What is done between two readings. */
export const CALL_OUTS = [
  'load',
  'store',
  'misaligned load',
  'misaligned store',
  'atomic',
  'reservation',
  'block',
  'device load',
  'device store',
  'timer',
  'counter write',
  'csr',
  'space',
  'float',
  'fence',
  'page table',
  'code',
  'call',
  'illegal',
  'fault',
  'fetch fault',
  'pause',
  'wait',
  'replay-only',
  'mark',
  'loop',
] as const;
export type CallOut = (typeof CALL_OUTS)[number];

export interface ClockRecipe {
  readonly harts: number;
  readonly mode: 'M' | 'S' | 'U';
  readonly seed: number;
  /** Call-outs in each page. */
  readonly perPage: number;
  readonly clocks?: readonly Clock[];
  readonly callOuts?: readonly CallOut[];
}

const PAGES = 12;
const HANDLER = RAM_BASE + 0x1000;
const FIRST = RAM_BASE + 0x2000;
const TABLES = RAM_BASE + 0x10_0000;
const LAST_LEVEL = TABLES + 0x3000;
const DATA = RAM_BASE + 0x11_0000;
const DATA_PAGES = 4;
const HART_DATA = 0x8000;
/** Virtual addresses of the devices' pages. */
const DEVICES = 0x4000_0000;
const DEVICE_PAGES = { mtime: CLINT + 0xb000, rtc: PLATFORM.rtc.base, uart: PLATFORM.uart.base, timer: CLINT + 0x4000 };
type DevicePage = keyof typeof DEVICE_PAGES;
/** Nothing is mapped, and nothing is there. */
const NOWHERE = 0x7000_0000;

const [t0, t1, t2, s0, s1, a0, a1, s4, s5, s6, s7, s8, s9, s10, t4, t5] = [
  5, 6, 7, 8, 9, 10, 11, 20, 21, 22, 23, 24, 25, 26, 29, 30,
] as const;

export function clockProgram(recipe: ClockRecipe): Uint8Array {
  return new Writer(recipe).write();
}

class Writer {
  private readonly a = new Assembler(RAM_BASE);
  private readonly choices: Random;
  private readonly recipe: ClockRecipe;
  private readonly paged: boolean;

  constructor(recipe: ClockRecipe) {
    this.recipe = recipe;
    this.choices = new Random(recipe.seed);
    this.paged = recipe.mode !== 'M';
  }

  write(): Uint8Array {
    const { a } = this;
    this.setup();
    a.org(HANDLER);
    this.handler();
    for (let page = 0; page < PAGES; page++) this.page(page);
    this.clearFlags();
    a.jump(0, 'page0');
    if (this.paged) this.tables();
    return a.bytes();
  }

  private device(page: DevicePage): number {
    return this.paged ? DEVICES + Object.keys(DEVICE_PAGES).indexOf(page) * 4096 : DEVICE_PAGES[page];
  }

  /** s1: the hart's data; s4: mtime; s5: the clock; s6: the hart's comparator; s7: what makes a hint one of ours. */
  private setup(): void {
    const { a, recipe } = this;
    const mode = { M: 3n, S: 1n, U: 0n }[recipe.mode];
    for (const [csr, value] of [
      [CSR.pmpaddr0, -1n],
      [CSR.pmpcfg0, 0x1fn],
      [CSR.menvcfg, MENVCFG.ADUE | MENVCFG.STCE | MENVCFG.CBZE],
      [CSR.senvcfg, MENVCFG.CBZE],
      [CSR.mcounteren, 7n],
      [CSR.scounteren, 7n],
      [CSR.mtvec, BigInt(HANDLER)],
      [CSR.mie, 0x88n],
      [CSR.mstatus, (mode << 11n) | MSTATUS.FS | MSTATUS.MPIE | MSTATUS.SUM],
      [CSR.satp, this.paged ? this.satp : 0n],
    ] as const) {
      a.li(t0, value);
      a.csrw(csr, t0);
    }
    a.csrr(t0, CSR.mhartid);
    a.op('slli', { rd: t1, rs1: t0, imm: Math.log2(HART_DATA) });
    a.li(s1, DATA);
    a.op('add', { rd: s1, rs1: s1, rs2: t1 });
    a.li(s4, this.device('mtime') + 0xff8);
    a.li(s5, this.device('rtc'));
    a.op('slli', { rd: t1, rs1: t0, imm: 3 });
    a.li(s6, this.device('timer'));
    a.op('add', { rd: s6, rs1: s6, rs2: t1 });
    a.li(s7, HINT_MAGIC);
    a.la(t0, 'page0');
    a.csrw(CSR.mepc, t0);
    a.op('mret');
  }

  private get satp(): bigint {
    return (8n << 60n) | BigInt(TABLES / 4096);
  }

  /** In M-mode, with s8 to s10 for itself: an exception goes on behind its instruction, or at ra where there was none. */
  private handler(): void {
    const { a } = this;
    const add = (csr: number) => {
      a.csrr(s8, csr);
      a.op('add', { rd: s10, rs1: s10, rs2: s8 });
    };
    add(CSR.mcycle);
    add(CSR.minstret);
    add(CSR.mepc);
    add(CSR.mtval);
    a.csrr(s8, CSR.mcause);
    const interrupt = a.newLabel();
    const fetch = a.newLabel();
    const back = a.newLabel();
    a.branch('blt', s8, 0, interrupt);
    a.li(s9, 1);
    a.branch('beq', s8, s9, fetch);
    a.li(s9, 12);
    a.branch('beq', s8, s9, fetch);
    a.csrr(s8, CSR.mepc);
    a.op('addi', { rd: s8, rs1: s8, imm: 4 });
    a.csrw(CSR.mepc, s8);
    a.jump(0, back);
    a.label(fetch);
    a.csrw(CSR.mepc, 1);
    a.jump(0, back);
    a.label(interrupt);
    // The comparator as M-mode sees it.
    a.csrr(s8, CSR.mhartid);
    a.op('slli', { rd: s8, rs1: s8, imm: 3 });
    a.li(s9, DEVICE_PAGES.timer);
    a.op('add', { rd: s9, rs1: s9, rs2: s8 });
    a.li(s8, -1);
    a.op('sd', { rs1: s9, rs2: s8 });
    a.label(back);
    add(CSR.mcycle);
    a.op('mret');
  }

  private read(): void {
    const { a, choices, recipe } = this;
    const clock = choices.pick(recipe.clocks ?? CLOCKS);
    if (clock === 'mtime') a.op('ld', { rd: t0, rs1: s4 });
    else if (clock === 'rtc') a.op('lw', { rd: t0, rs1: s5 });
    else a.csrr(t0, CSR[clock]);
  }

  /** What was read is added up. */
  private add(): void {
    const { a } = this;
    a.op('slli', { rd: t1, rs1: s0, imm: 3 });
    a.op('xor', { rd: s0, rs1: s0, rs2: t1 });
    a.op('add', { rd: s0, rs1: s0, rs2: t0 });
  }

  private page(page: number): void {
    const { a, choices, recipe } = this;
    const start = FIRST + page * 4096;
    // Every other page begins with the second half of an instruction.
    if (page % 2 === 0) {
      a.org(start);
      a.label(`page${page}`);
      if (recipe.perPage > 0 && choices.chance(0.3)) this.interceptable();
      else this.read();
    }
    this.add();
    for (let n = 0; n < recipe.perPage; n++) {
      this.callOut(choices.pick(recipe.callOuts ?? CALL_OUTS));
      this.read();
      this.add();
    }
    if (page === PAGES - 1) return;
    if (page % 2 === 1) {
      a.jump(0, `page${page + 1}`);
      return;
    }
    a.jump(0, `end${page}`);
    a.org(start + 4090);
    a.label(`end${page}`);
    a.op('addi', { rd: s0, rs1: s0, imm: 1 });
    this.read();
  }

  /** An instruction before which a host may stop: where it is the first of its page, that has been walked to. */
  private interceptable(): void {
    const { a, choices } = this;
    if (choices.chance(0.5)) a.op('ecall');
    else a.op('braid.hint', { rs1: s7, imm: choices.pick([6, 7]) });
  }

  /** The address of the entry of a page of RAM is left in t1. */
  private entryOf(page: number): void {
    this.a.li(t1, LAST_LEVEL + 8 * ((page - RAM_BASE) / 4096));
  }

  private clearFlags(): void {
    if (!this.paged) return;
    const { a } = this;
    for (let page = 0; page < PAGES; page++) {
      this.entryOf(FIRST + page * 4096);
      a.li(t0, this.leaf(FIRST + page * 4096));
      a.op('sd', { rs1: t1, rs2: t0 });
    }
  }

  private callOut(callOut: CallOut): void {
    const { a, choices, recipe } = this;
    const data = (edge: boolean) => {
      const at = 4096 * choices.below(DATA_PAGES - 1) + (edge ? 4089 + choices.below(7) : 8 * choices.below(512));
      a.li(t1, at);
      a.op('add', { rd: t1, rs1: s1, rs2: t1 });
    };
    switch (callOut) {
      case 'load':
      case 'misaligned load':
        data(callOut !== 'load');
        a.op('ld', { rd: t2, rs1: t1 });
        a.op('add', { rd: s0, rs1: s0, rs2: t2 });
        break;
      case 'store':
      case 'misaligned store':
        data(callOut !== 'store');
        a.op('sd', { rs1: t1, rs2: s0 });
        break;
      case 'atomic':
        data(false);
        a.op('amoadd.d', { rd: t2, rs1: t1, rs2: s0 });
        break;
      case 'reservation':
        data(false);
        a.op('lr.d', { rd: t2, rs1: t1 });
        a.op('sc.d', { rd: t2, rs1: t1, rs2: s0 });
        a.op('add', { rd: s0, rs1: s0, rs2: t2 });
        break;
      case 'block':
        data(false);
        a.op('cbo.zero', { rs1: t1 });
        break;
      case 'device load':
        a.li(t1, this.device('uart'));
        a.op('lbu', { rd: t2, rs1: t1, imm: choices.pick([2, 5]) });
        break;
      case 'device store':
        a.li(t1, this.device('uart'));
        a.li(t2, 0x61 + choices.below(26));
        a.op('sb', { rs1: t1, rs2: t2 });
        break;
      case 'timer':
        a.op('ld', { rd: t2, rs1: s4 });
        a.op('addi', { rd: t2, rs1: t2, imm: choices.below(4) });
        if (choices.chance(0.6)) a.op('sd', { rs1: s6, rs2: t2 });
        else a.csrw(CSR.stimecmp, t2);
        break;
      case 'counter write':
        if (choices.chance(0.3)) a.op('csrrwi', { csr: CSR.mcountinhibit, imm: choices.pick([0, 0, 0, 1, 4, 5]) });
        else a.op('csrrw', { rd: t2, csr: choices.pick([CSR.mcycle, CSR.minstret]), rs1: s0 });
        break;
      case 'csr':
        a.op('csrrw', { rd: t2, csr: choices.pick([CSR.sscratch, CSR.stval, CSR.sie, CSR.fcsr]), rs1: s0 });
        break;
      case 'space':
        if (choices.chance(0.5)) {
          a.csrr(t2, CSR.satp);
          a.csrw(CSR.satp, t2);
        } else a.op(choices.pick(['csrrs', 'csrrc']), { csr: CSR.sstatus, rs1: s0 });
        break;
      case 'float':
        a.op('fcvt.d.l', { rd: 1, rs1: s0, rm: 7 });
        a.op('fdiv.d', { rd: 2, rs1: 1, rs2: 3, rm: 7 });
        a.op('fsqrt.d', { rd: 3, rs1: 1, rm: 7 });
        break;
      case 'fence':
        a.op(choices.pick(['fence.i', 'sfence.vma', 'fence']));
        break;
      case 'page table': {
        const address = choices.chance(0.5)
          ? FIRST + choices.below(PAGES) * 4096
          : DATA + HART_DATA * choices.below(recipe.harts) + 4096 * choices.below(DATA_PAGES);
        this.entryOf(address);
        a.li(t2, this.leaf(address));
        if (this.paged) a.op('sd', { rs1: t1, rs2: t2 });
        break;
      }
      case 'code': {
        // The instruction that follows is written as it is.
        const bits = encode(rowOf('addi'), { rd: s0, rs1: s0, imm: 3 });
        const there = a.newLabel();
        a.la(t1, there);
        a.li(t2, bits);
        a.op('sw', { rs1: t1, rs2: t2 });
        a.label(there);
        a.word(bits);
        break;
      }
      case 'call':
        a.op(choices.pick(['ecall', 'ebreak']));
        break;
      case 'replay-only':
        this.interceptable();
        break;
      case 'illegal':
        a.word(0xffff_ffff);
        break;
      case 'fault':
        a.li(t1, NOWHERE);
        a.op(choices.pick(['ld', 'sd', 'amoadd.d']), { rd: t2, rs1: t1 });
        break;
      case 'fetch fault':
        a.li(t1, NOWHERE);
        a.op('jalr', { rd: 1, rs1: t1 });
        break;
      case 'pause':
        a.op('pause');
        break;
      case 'wait':
        // The comparator has come, or comes soon: nobody sleeps for ever.
        a.op('ld', { rd: t2, rs1: s4 });
        a.op('addi', { rd: t2, rs1: t2, imm: 1 + choices.below(20) });
        a.op('sd', { rs1: s6, rs2: t2 });
        a.op('wfi');
        break;
      case 'mark':
        data(true);
        a.op('addi', { rd: a0, rs1: t1 });
        a.li(a1, choices.below(12));
        a.op('braid.hint', { rs1: s7, imm: 5 });
        a.op('add', { rd: s0, rs1: s0, rs2: t0 });
        break;
      case 'loop': {
        // Hot, and with a page of its own to come back to.
        const again = a.newLabel();
        a.li(t4, 3 + choices.below(20));
        a.label(again);
        data(choices.chance(0.3));
        a.op(choices.pick(['ld', 'lw', 'lbu']), { rd: t5, rs1: t1 });
        this.read();
        this.add();
        a.op('addi', { rd: t4, rs1: t4, imm: -1 });
        a.branch('bne', t4, 0, again);
        break;
      }
    }
  }

  /** An entry that nobody has walked to. */
  private leaf(physical: number): bigint {
    const user = this.recipe.mode === 'U' ? PTE.U : 0n;
    return pte(physical, PTE.V | PTE.R | PTE.W | PTE.X | user);
  }

  private tables(): void {
    const { a } = this;
    const table = (entries: readonly (readonly [number, bigint])[]) => {
      const known = new Map(entries);
      for (let at = 0; at < 512; at++) a.double(known.get(at) ?? 0n);
    };
    a.org(TABLES);
    table([
      [RAM_BASE >>> 30, pte(TABLES + 0x1000, PTE.V)],
      [DEVICES >>> 30, pte(TABLES + 0x2000, PTE.V)],
    ]);
    table([[0, pte(LAST_LEVEL, PTE.V)]]);
    table([[0, pte(LAST_LEVEL + 0x1000, PTE.V)]]);
    table(Array.from({ length: 512 }, (_, page) => [page, this.leaf(RAM_BASE + page * 4096)] as const));
    table(Object.values(DEVICE_PAGES).map((page, n) => [n, this.leaf(page)] as const));
  }
}

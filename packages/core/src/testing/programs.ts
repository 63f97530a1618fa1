/**
 * Generated programs for 1 to 8 harts that do what makes determinism hard: contended atomics, interrupts between harts, timers,
 * page tables edited while they are in use, code that changes itself, traps of every kind, waiting.
 *
 * One program text serves two beginnings: as a bare image it starts in M-mode, sets up and drops to S-mode; as a kernel image it
 * starts in S-mode and uses the monitor's SBI. Each hart then runs its own list of tasks, in a loop.
 *
 * ```text
 * +0        code
 * +100000   shared page: counters, locks, time stamps
 * +110000   hart pages, 8 KiB each: save area of the trap handlers, counts, results
 * +200000   page tables: one set, or one for each hart (root, middle, two last-level tables)
 * +400000   window: 16 pages, seen at virtual 0x4000_0000 through entries that tasks edit
 * +500000   patch: a page of functions that tasks rewrite
 * ```
 *
 * Every program comes to its end, wherever slices end: the holder of a lock never waits, tries with a reservation are counted, every
 * `wfi` is followed by a timer, and what is executed in the window is harmless whoever maps or writes its pages meanwhile.
 */

import { buildImage } from '../boot/testing.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler, encode, rowOf } from './assembler.ts';
import { CSR } from './csr.ts';
import { CLINT, powerOff } from './fragments.ts';
import { pte } from './page-tables.ts';
import { Random } from './random.ts';

const SHARED = 0x10_0000;
const HART_PAGES = 0x11_0000;
const TABLES = 0x20_0000;
const WINDOW = 0x40_0000;
const PATCH = 0x50_0000;
const WINDOW_PAGES = 16;
const WINDOW_VIRTUAL = 0x4000_0000;
/** Ticks until a timer comes back by itself. */
const TIMER_PERIOD = 2047;
/** Tries with a reservation: slices shorter than the loop break every one. */
const TRIES = 20;

/** Offsets in the shared page, of a kernel image as much as of a bare one. */
export const SHARED_PAGE = {
  counter: 0,
  locked: 8,
  lock: 16,
  pair: 24,
  done: 40,
  stamp: 64,
  stampErrors: 72,
  stampCount: 80,
} as const;
/** Offsets in a hart's page. */
export const HART_PAGE = {
  save: 0,
  interrupts: 64,
  exceptions: 72,
  machineTraps: 80,
  digest: 88,
  rounds: 96,
  clocks: 104,
} as const;

const [ra, t0, t1, t2, s0, s1, a0, a1, a2, a6, a7, s2, t3, t4, t5] = [
  1, 5, 6, 7, 8, 9, 10, 11, 12, 16, 17, 18, 28, 29, 30,
] as const;

/**
 * Each page of the window holds the second part of a function that begins at the end of the page before, and the first part of one
 * that goes on in the next page. Both parts always have this form, so any two pages make a function:
 *
 * ```text
 * byte   4094 4095 | 0     1    2    3    4    5
 *        93   8e   | .e    ..   67   80   00   00      addi t4, t4, ...; ret
 * ```
 */
const WINDOW_FUNCTION = BigInt(encodeAdd(0)) | (BigInt(encode(rowOf('jalr'), { rs1: ra })) << 32n);
const WINDOW_FUNCTION_AT = 4094;
/** The bits of it that may have any value: the constant. */
const WINDOW_FUNCTION_FREE = 0xfff0_0000n;

function encodeAdd(imm: number): number {
  return encode(rowOf('addi'), { rd: t4, rs1: t4, imm });
}

/** What a store of so many bytes at an offset in a page has to leave as it is in the window's functions: which bits are free, and the others. */
function windowBits(offset: number, size: number): { free: bigint; fixed: bigint } {
  let free = 0n;
  let fixed = 0n;
  for (let i = 0; i < size; i++) {
    const at = BigInt(8 * i);
    const byte = (offset + i - WINDOW_FUNCTION_AT + 4096) % 4096;
    const inFunction = byte < 8;
    const shift = BigInt(8 * byte);
    free |= (inFunction ? (WINDOW_FUNCTION_FREE >> shift) & 0xffn : 0xffn) << at;
    if (inFunction) fixed |= ((WINDOW_FUNCTION >> shift) & 0xffn) << at;
  }
  return { free, fixed };
}

const STORES = { sd: 8, sw: 4, sh: 2, sb: 1 } as const;
type Store = keyof typeof STORES;

export const TASKS = [
  'amo',
  'reserved',
  'lock',
  'stamp',
  'ipi',
  'timer',
  'wait',
  'ecall',
  'illegal',
  'fault',
  'misaligned',
  'swap',
  'unmap',
  'flags',
  'middle',
  'patch',
  'window',
  'counters',
  'straddle',
  'pause',
  'float',
  'compute',
] as const;
export type Task = (typeof TASKS)[number];

export interface Recipe {
  readonly harts: number;
  /** A kernel image over the monitor's SBI, instead of a bare one. */
  readonly sbi: boolean;
  readonly seed: number;
  /** Turns of every hart's loop; then the machine is powered off. */
  readonly rounds: number;
  readonly tasks?: readonly Task[];
}

/** The image, and where in RAM its +0 is. */
export interface Program {
  readonly image: Uint8Array;
  readonly base: number;
}

export function buildProgram(recipe: Recipe): Program {
  const base = RAM_BASE + (recipe.sbi ? 0x20_0000 : 0);
  const a = new Assembler(base);
  const choices = new Random(recipe.seed);
  new Writer(a, recipe, base, choices).write();
  const code = a.bytes();
  if (code.length > SHARED) throw new RangeError('the program is too long');
  if (!recipe.sbi) return { image: code, base };
  const image = buildImage(0x60_0000, { textOffset: 0x20_0000n });
  image.set(code.subarray(64), 64);
  image.set(code.subarray(0, 4), 0);
  return { image, base };
}

class Writer {
  private readonly a: Assembler;
  private readonly recipe: Recipe;
  private readonly base: number;
  private readonly choices: Random;
  private readonly privateTables: boolean;

  constructor(a: Assembler, recipe: Recipe, base: number, choices: Random) {
    this.a = a;
    this.recipe = recipe;
    this.base = base;
    this.choices = choices;
    this.privateTables = choices.chance(0.5);
  }

  private tables(hart: number): number {
    return this.base + TABLES + (this.privateTables ? hart * 0x4000 : 0);
  }

  private hartPage(hart: number): number {
    return this.base + HART_PAGES + hart * 0x2000;
  }

  write(): void {
    const { a, recipe } = this;
    // A kernel image has its header here.
    a.jump(0, 'entry');
    a.org(this.base + 64);
    this.machineHandler();
    this.supervisorHandler();
    a.label('entry');
    if (recipe.sbi) this.supervisorEntry();
    else this.machineEntry();
    for (let hart = 0; hart < recipe.harts; hart++) this.hartProgram(hart);
  }

  /** Counts, answers interrupts of M-level, skips the instruction of an exception. */
  private machineHandler(): void {
    const { a } = this;
    a.org((a.here + 3n) & ~3n);
    a.label('machineHandler');
    a.op('csrrw', { rd: t0, csr: CSR.mscratch, rs1: t0 });
    a.op('sd', { rs1: t0, rs2: t1, imm: 32 });
    a.op('sd', { rs1: t0, rs2: t2, imm: 40 });
    this.add(t0, HART_PAGE.machineTraps, 1, t1);
    a.csrr(t1, CSR.mcause);
    a.branch('blt', t1, 0, 'machineInterrupt');
    a.csrr(t1, CSR.mepc);
    a.op('addi', { rd: t1, rs1: t1, imm: 4 });
    a.csrw(CSR.mepc, t1);
    a.jump(0, 'machineReturn');
    a.label('machineInterrupt');
    a.op('andi', { rd: t1, rs1: t1, imm: 15 });
    a.op('addi', { rd: t2, imm: 3 });
    a.branch('bne', t1, t2, 'machineTimer');
    // Software: acknowledge, and pass it on to S-mode.
    a.csrr(t1, CSR.mhartid);
    a.op('slli', { rd: t1, rs1: t1, imm: 2 });
    a.li(t2, CLINT);
    a.op('add', { rd: t1, rs1: t1, rs2: t2 });
    a.op('sw', { rs1: t1 });
    a.op('csrrsi', { csr: CSR.mip, imm: 2 });
    a.jump(0, 'machineReturn');
    a.label('machineTimer');
    a.csrr(t1, CSR.mhartid);
    a.op('slli', { rd: t1, rs1: t1, imm: 3 });
    a.li(t2, CLINT + 0x4000);
    a.op('add', { rd: t1, rs1: t1, rs2: t2 });
    a.op('addi', { rd: t2, imm: -1 });
    a.op('sd', { rs1: t1, rs2: t2 });
    a.label('machineReturn');
    a.op('ld', { rd: t1, rs1: t0, imm: 32 });
    a.op('ld', { rd: t2, rs1: t0, imm: 40 });
    a.op('csrrw', { rd: t0, csr: CSR.mscratch, rs1: t0 });
    a.op('mret');
  }

  /** Counts and digests cause, address and value; an exception goes on behind the instruction, or at ra if it was a fetch. */
  private supervisorHandler(): void {
    const { a } = this;
    a.org((a.here + 3n) & ~3n);
    a.label('supervisorHandler');
    a.op('csrrw', { rd: t0, csr: CSR.sscratch, rs1: t0 });
    a.op('sd', { rs1: t0, rs2: t1, imm: 0 });
    a.op('sd', { rs1: t0, rs2: t2, imm: 8 });
    a.op('sd', { rs1: t0, rs2: t3, imm: 16 });
    a.csrr(t1, CSR.scause);
    a.op('ld', { rd: t3, rs1: t0, imm: HART_PAGE.digest });
    for (const csr of [CSR.scause, CSR.sepc, CSR.stval]) {
      a.csrr(t2, csr);
      a.op('xor', { rd: t3, rs1: t3, rs2: t2 });
      a.op('slli', { rd: t2, rs1: t3, imm: 5 });
      a.op('add', { rd: t3, rs1: t3, rs2: t2 });
      a.op('srli', { rd: t2, rs1: t3, imm: 27 });
      a.op('xor', { rd: t3, rs1: t3, rs2: t2 });
    }
    a.op('sd', { rs1: t0, rs2: t3, imm: HART_PAGE.digest });
    a.branch('blt', t1, 0, 'supervisorInterrupt');
    this.add(t0, HART_PAGE.exceptions, 1, t3);
    a.op('addi', { rd: t2, imm: 12 });
    a.branch('beq', t1, t2, 'fetchFault');
    a.csrr(t2, CSR.sepc);
    a.op('addi', { rd: t2, rs1: t2, imm: 4 });
    a.csrw(CSR.sepc, t2);
    a.jump(0, 'supervisorReturn');
    a.label('fetchFault');
    a.csrw(CSR.sepc, ra);
    a.jump(0, 'supervisorReturn');
    a.label('supervisorInterrupt');
    this.add(t0, HART_PAGE.interrupts, 1, t3);
    a.op('andi', { rd: t1, rs1: t1, imm: 15 });
    a.op('addi', { rd: t2, imm: 1 });
    a.branch('bne', t1, t2, 'supervisorTimer');
    a.op('csrrci', { csr: CSR.sip, imm: 2 });
    a.jump(0, 'supervisorReturn');
    a.label('supervisorTimer');
    // It comes back: one that comes between the arming of a timer and `wfi` would leave the hart asleep.
    a.csrr(t2, CSR.time);
    a.op('addi', { rd: t2, rs1: t2, imm: TIMER_PERIOD });
    a.csrw(CSR.stimecmp, t2);
    a.label('supervisorReturn');
    a.op('ld', { rd: t1, rs1: t0, imm: 0 });
    a.op('ld', { rd: t2, rs1: t0, imm: 8 });
    a.op('ld', { rd: t3, rs1: t0, imm: 16 });
    a.op('csrrw', { rd: t0, csr: CSR.sscratch, rs1: t0 });
    a.op('sret');
  }

  /** Every hart is here, in M-mode. */
  private machineEntry(): void {
    const { a, choices } = this;
    a.la(t0, 'machineHandler');
    a.csrw(CSR.mtvec, t0);
    a.op('addi', { rd: t0, imm: -1 });
    a.csrw(CSR.pmpaddr0, t0);
    a.li(t0, 0x1f);
    a.csrw(CSR.pmpcfg0, t0);
    // Some exceptions stay with M-mode.
    a.li(t0, choices.pick([0xb1ff, 0xb1fb, 0xb15f, 0xb1ff]));
    a.csrw(CSR.medeleg, t0);
    a.li(t0, 0x222);
    a.csrw(CSR.mideleg, t0);
    a.li(t0, 0x88);
    a.csrw(CSR.mie, t0);
    a.op('addi', { rd: t0, imm: 7 });
    a.csrw(CSR.mcounteren, t0);
    // With or without accessed and dirty flags by hardware.
    a.li(t0, (1n << 63n) | (choices.chance(0.7) ? 1n << 61n : 0n));
    a.csrw(CSR.menvcfg, t0);
    a.csrr(a0, CSR.mhartid);
    a.op('slli', { rd: t0, rs1: a0, imm: 13 });
    a.li(t1, this.base + HART_PAGES);
    a.op('add', { rd: t0, rs1: t0, rs2: t1 });
    a.csrw(CSR.mscratch, t0);
    // S-mode next, floating point on.
    a.li(t0, 0x2800);
    a.csrw(CSR.mstatus, t0);
    a.la(t0, 'dispatch');
    a.csrw(CSR.mepc, t0);
    a.op('mret');
    this.dispatch();
  }

  /** Hart 0 is here, in S-mode; it starts the others through the monitor. */
  private supervisorEntry(): void {
    const { a, recipe } = this;
    for (let hart = 1; hart < recipe.harts; hart++) {
      a.li(a0, hart);
      a.la(a1, 'dispatch');
      a.li(a2, 0);
      this.sbi(0x48534d, 0);
    }
    a.li(a0, 0);
    this.dispatch();
  }

  private sbi(extension: number, call: number): void {
    this.a.li(a7, extension);
    this.a.li(a6, call);
    this.a.op('ecall');
  }

  /** a0 = hart: goes to its program. */
  private dispatch(): void {
    const { a, recipe } = this;
    a.label('dispatch');
    for (let hart = 0; hart < recipe.harts; hart++) {
      const next = a.newLabel();
      a.li(t0, hart);
      a.branch('bne', a0, t0, next);
      a.la(t1, `hart${hart}`);
      a.op('jalr', { rs1: t1 });
      a.label(next);
    }
  }

  private hartProgram(hart: number): void {
    const { a, recipe, choices } = this;
    a.label(`hart${hart}`);
    a.li(s0, this.hartPage(hart));
    a.li(s1, this.base + SHARED);
    a.csrw(CSR.sscratch, s0);
    a.la(t0, 'supervisorHandler');
    a.csrw(CSR.stvec, t0);
    a.op('addi', { rd: t0, imm: 7 });
    a.csrw(CSR.scounteren, t0);
    this.makeFunctions();
    this.makeTables(hart);
    a.op('addi', { rd: t0, imm: -1 });
    a.csrw(CSR.stimecmp, t0);
    a.li(t0, 0x22);
    a.csrw(CSR.sie, t0);
    a.op('csrrsi', { csr: CSR.sstatus, imm: 2 });
    a.li(s2, recipe.rounds);
    a.label(`loop${hart}`);
    const kinds = recipe.tasks ?? TASKS;
    const count = 3 + choices.below(8);
    for (let n = 0; n < count; n++) this.task(choices.pick(kinds), hart);
    this.add(s0, HART_PAGE.rounds, 1, t0);
    a.op('addi', { rd: s2, rs1: s2, imm: -1 });
    const over = a.newLabel();
    a.branch('beq', s2, 0, over);
    a.jump(0, `loop${hart}`);
    a.label(over);
    // The last hart turns the power off.
    a.op('addi', { rd: t0, imm: 1 });
    a.op('addi', { rd: t1, rs1: s1, imm: SHARED_PAGE.done });
    a.op('amoadd.d', { rd: t2, rs1: t1, rs2: t0 });
    a.op('addi', { rd: t2, rs1: t2, imm: 1 });
    a.li(t0, recipe.harts);
    const rest = a.newLabel();
    a.branch('bne', t2, t0, rest);
    powerOff(a);
    a.label(rest);
    a.op('wfi');
    a.jump(0, rest);
  }

  /** Puts the window's functions into its pages. Every hart does so before it calls one, and harms no other's. */
  private makeFunctions(): void {
    const { a } = this;
    const again = a.newLabel();
    a.li(t0, this.base + WINDOW + 2048);
    a.li(t1, WINDOW_FUNCTION & 0xffffn);
    a.li(t2, WINDOW_FUNCTION >> 16n);
    a.li(t3, WINDOW_PAGES);
    a.li(t4, 4096);
    a.label(again);
    a.op('sh', { rs1: t0, rs2: t1, imm: WINDOW_FUNCTION_AT - 2048 });
    a.op('sd', { rs1: t0, rs2: t2, imm: -2048 });
    a.op('add', { rd: t0, rs1: t0, rs2: t4 });
    a.op('addi', { rd: t3, rs1: t3, imm: -1 });
    a.branch('bne', t3, 0, again);
  }

  /** Devices and RAM one to one by gigapages, and the window by 4 KiB pages. Harts that share tables all write the same. */
  private makeTables(hart: number): void {
    const { a } = this;
    const root = this.tables(hart);
    const put = (table: number, index: number, value: bigint) => {
      a.li(t0, table + 8 * index);
      a.li(t1, value);
      a.op('sd', { rs1: t0, rs2: t1 });
    };
    put(root, 0, pte(0, 0xc7));
    put(root, 2, pte(0x8000_0000, 0xcf));
    put(root, 1, pte(root + 0x1000, 1));
    put(root + 0x1000, 0, pte(root + 0x2000, 1));
    put(root + 0x1000, 1, pte(root + 0x3000, 1));
    for (let page = 0; page < WINDOW_PAGES; page++) {
      put(root + 0x2000, page, pte(this.base + WINDOW + page * 4096, 0xcf));
      put(root + 0x3000, page, pte(this.base + WINDOW + (WINDOW_PAGES - 1 - page) * 4096, 0xcf));
    }
    a.li(t0, (8n << 60n) | (BigInt((root >> 12) >>> 0) & 0xfffffn) | (BigInt(hart) << 44n));
    a.csrw(CSR.satp, t0);
    a.op('sfence.vma');
  }

  /** t0 = address of a random window entry of the hart's tables. */
  private entryAddress(hart: number, register: number): number {
    const page = this.choices.below(WINDOW_PAGES);
    this.a.li(register, this.tables(hart) + 0x2000 + 8 * page);
    return page;
  }

  private maybeFence(): void {
    if (this.choices.chance(0.3)) this.a.op('sfence.vma');
  }

  /** Loads or stores somewhere in the window; t4 is the accumulator. */
  private touchWindow(page: number): void {
    const { a, choices } = this;
    const offset = choices.pick([0, 8, 64, 4088, 4092, 4094, 2048 + 8 * choices.below(200)]);
    if (choices.chance(0.5)) {
      a.li(t3, WINDOW_VIRTUAL + page * 4096 + offset);
      a.op(choices.pick(['ld', 'lw', 'lhu', 'lb']), { rd: t5, rs1: t3 });
      a.op('add', { rd: t4, rs1: t4, rs2: t5 });
    } else {
      a.op('addi', { rd: t4, rs1: t4, imm: 1 + choices.below(2000) });
      this.storeWindow(choices.pick(['sd', 'sw', 'sh', 'sb']), page * 4096 + offset);
    }
  }

  /** Stores t4 at an offset in the window, but the bits that make a function there; t3 and t5 are lost. */
  private storeWindow(store: Store, offset: number): void {
    const { a } = this;
    const { free, fixed } = windowBits(offset % 4096, STORES[store]);
    a.li(t3, free);
    a.op('and', { rd: t5, rs1: t4, rs2: t3 });
    a.li(t3, fixed);
    a.op('or', { rd: t5, rs1: t5, rs2: t3 });
    a.li(t3, WINDOW_VIRTUAL + offset);
    a.op(store, { rs1: t3, rs2: t5 });
  }

  /** Adds a constant to a doubleword in memory; `register` is lost. */
  private add(base: number, offset: number, value: number, register: number): void {
    const { a } = this;
    a.op('ld', { rd: register, rs1: base, imm: offset });
    a.op('addi', { rd: register, rs1: register, imm: value });
    a.op('sd', { rs1: base, rs2: register, imm: offset });
  }

  /** Spins for the lock, whose address is then in t0; t1 and t2 are lost. */
  private takeLock(pause: boolean): void {
    const { a } = this;
    const again = a.newLabel();
    const open = a.newLabel();
    a.op('addi', { rd: t0, rs1: s1, imm: SHARED_PAGE.lock });
    a.op('addi', { rd: t1, imm: 1 });
    a.label(again);
    a.op('amoswap.w', { rd: t2, rs1: t0, rs2: t1 });
    a.branch('beq', t2, 0, open);
    if (pause) a.op('pause');
    a.jump(0, again);
    a.label(open);
  }

  /** t0 = address of a function of two instructions that adds to t4, which is written there; t1 is the second one. */
  private writeFunction(address: number): void {
    const { a, choices } = this;
    a.li(t0, address);
    a.li(t1, encodeAdd(choices.below(2048)));
    a.op('sw', { rs1: t0, rs2: t1 });
    a.li(t1, encode(rowOf('jalr'), { rs1: ra }));
    a.op('sw', { rs1: t0, rs2: t1, imm: 4 });
  }

  private task(task: Task, hart: number): void {
    const { a, choices, recipe } = this;
    const shared = (offset: number, register: number) => a.op('addi', { rd: register, rs1: s1, imm: offset });
    switch (task) {
      case 'amo': {
        shared(SHARED_PAGE.counter, t0);
        const name = choices.pick(['amoadd', 'amoxor', 'amoswap', 'amomaxu', 'amoor', 'amomin']);
        a.li(t1, choices.u32());
        a.op(`${name}.${choices.pick(['w', 'd'])}`, { rd: t2, rs1: t0, rs2: t1 });
        a.op('add', { rd: t4, rs1: t4, rs2: t2 });
        break;
      }
      case 'reserved': {
        shared(SHARED_PAGE.locked, t0);
        const again = a.newLabel();
        const done = a.newLabel();
        a.li(t3, TRIES);
        a.label(again);
        a.op('lr.d', { rd: t1, rs1: t0 });
        a.op('addi', { rd: t1, rs1: t1, imm: 1 });
        for (let n = choices.below(6); n > 0; n--) a.op('xori', { rd: t2, rs1: t1, imm: n });
        a.op('sc.d', { rd: t2, rs1: t0, rs2: t1 });
        a.branch('beq', t2, 0, done);
        a.op('addi', { rd: t3, rs1: t3, imm: -1 });
        a.branch('bne', t3, 0, again);
        a.label(done);
        break;
      }
      case 'lock': {
        this.takeLock(choices.chance(0.3));
        for (const offset of [SHARED_PAGE.pair, SHARED_PAGE.pair + 8]) {
          this.add(s1, offset, 3, t1);
        }
        a.op('amoswap.w', { rs1: t0 });
        break;
      }
      case 'stamp': {
        // Under a lock of its own: nobody may see a time before the one that was left here.
        this.takeLock(false);
        const good = a.newLabel();
        a.op('ld', { rd: t1, rs1: s1, imm: SHARED_PAGE.stamp });
        if (choices.chance(0.5)) a.csrr(t2, CSR.time);
        else {
          a.li(t3, CLINT + 0xbff8);
          a.op('ld', { rd: t2, rs1: t3 });
        }
        a.branch('bgeu', t2, t1, good);
        this.add(s1, SHARED_PAGE.stampErrors, 1, t3);
        a.label(good);
        a.op('sd', { rs1: s1, rs2: t2, imm: SHARED_PAGE.stamp });
        this.add(s1, SHARED_PAGE.stampCount, 1, t3);
        a.op('amoswap.w', { rs1: t0 });
        break;
      }
      case 'ipi': {
        const target = choices.below(recipe.harts);
        if (recipe.sbi) {
          a.li(a0, 1 << target);
          a.li(a1, 0);
          this.sbi(0x735049, 0);
        } else {
          a.li(t0, CLINT + 4 * target);
          a.op('addi', { rd: t1, imm: 1 });
          a.op('sw', { rs1: t0, rs2: t1 });
        }
        break;
      }
      case 'timer': {
        a.csrr(t0, CSR.time);
        a.op('addi', { rd: t0, rs1: t0, imm: choices.below(12) });
        if (!recipe.sbi && choices.chance(0.5)) {
          a.li(t1, CLINT + 0x4000 + 8 * hart);
          a.op('sd', { rs1: t1, rs2: t0 });
        } else if (recipe.sbi && choices.chance(0.5)) {
          a.op('addi', { rd: a0, rs1: t0 });
          this.sbi(0x54494d45, 0);
        } else a.csrw(CSR.stimecmp, t0);
        break;
      }
      case 'wait':
        // A timer makes sure that somebody wakes up, if need be when it comes back.
        a.csrr(t0, CSR.time);
        a.op('addi', { rd: t0, rs1: t0, imm: 1 + choices.below(40) });
        a.csrw(CSR.stimecmp, t0);
        a.op('wfi');
        break;
      case 'ecall':
        if (recipe.sbi) this.sbi(0x10, choices.below(8));
        else a.op('ecall');
        break;
      case 'illegal':
        a.word(choices.pick([0xffffffff, 0x0000707b, 0xc0001073]));
        break;
      case 'fault':
        a.li(t3, choices.pick([0x7000_0000, 0x1_0000_0000, -1, 0x40_0000_0000, 0x5000_0000]));
        if (choices.chance(0.3)) a.op('jalr', { rd: ra, rs1: t3 });
        else a.op(choices.pick(['ld', 'sd', 'amoadd.d', 'lr.w']), { rd: 0, rs1: t3 });
        break;
      case 'misaligned': {
        const offset = 4096 * choices.below(WINDOW_PAGES - 1) + 4089 + choices.below(7);
        const name = choices.pick(['ld', 'sd', 'lw', 'amoadd.d', 'sc.d'] as const);
        if (name === 'sd') this.storeWindow(name, offset);
        else {
          a.li(t3, WINDOW_VIRTUAL + offset);
          a.op(name, { rd: t5, rs1: t3, rs2: t4 });
        }
        break;
      }
      case 'swap': {
        const page = this.entryAddress(hart, t0);
        this.entryAddress(hart, t1);
        a.op('ld', { rd: t2, rs1: t0 });
        a.op('ld', { rd: t3, rs1: t1 });
        a.op('sd', { rs1: t0, rs2: t3 });
        a.op('sd', { rs1: t1, rs2: t2 });
        this.maybeFence();
        this.touchWindow(page);
        break;
      }
      case 'unmap': {
        const page = this.entryAddress(hart, t0);
        a.op('ld', { rd: t2, rs1: t0 });
        a.op(choices.pick(['sd', 'sw', 'sb']), { rs1: t0 });
        this.maybeFence();
        this.touchWindow(page);
        a.op('sd', { rs1: t0, rs2: t2 });
        this.maybeFence();
        this.touchWindow(page);
        break;
      }
      case 'flags': {
        const page = this.entryAddress(hart, t0);
        a.op('addi', { rd: t1, imm: choices.pick([0x40, 0x80, 0x4, 0x8, 0xc4]) });
        a.op('amoxor.d', { rs1: t0, rs2: t1 });
        this.maybeFence();
        this.touchWindow(page);
        break;
      }
      case 'middle': {
        // The two last-level tables change places.
        a.li(t0, this.tables(hart) + 0x1000);
        a.op('ld', { rd: t1, rs1: t0 });
        a.op('ld', { rd: t2, rs1: t0, imm: 8 });
        a.op('sd', { rs1: t0, rs2: t2 });
        a.op('sd', { rs1: t0, rs2: t1, imm: 8 });
        this.maybeFence();
        this.touchWindow(choices.below(WINDOW_PAGES));
        break;
      }
      case 'patch': {
        this.writeFunction(this.base + PATCH + 32 * choices.below(4));
        if (choices.chance(0.5)) a.op('fence.i');
        a.op('jalr', { rd: ra, rs1: t0 });
        break;
      }
      case 'window': {
        // Code at the end of one window page, going on in the next one, which depends on how the pages are mapped.
        const page = choices.below(WINDOW_PAGES - 1);
        this.writeFunction(WINDOW_VIRTUAL + page * 4096 + WINDOW_FUNCTION_AT);
        // What runs may be another function than what was written: another hart may have moved a page or written to it.
        if (choices.chance(0.5)) a.op('fence.i');
        a.op('jalr', { rd: ra, rs1: t0 });
        break;
      }
      case 'counters':
        a.op('ld', { rd: t0, rs1: s0, imm: HART_PAGE.clocks });
        for (const csr of [CSR.cycle, CSR.instret, CSR.time]) {
          a.csrr(t1, csr);
          a.op('xor', { rd: t0, rs1: t0, rs2: t1 });
          a.op('slli', { rd: t1, rs1: t0, imm: 7 });
          a.op('add', { rd: t0, rs1: t0, rs2: t1 });
        }
        a.op('sd', { rs1: s0, rs2: t0, imm: HART_PAGE.clocks });
        break;
      case 'straddle':
        // c.addi, so that what follows lies on odd halfwords, some of it across pages.
        a.half(0x0e85);
        for (let n = choices.below(40); n > 0; n--) a.op('addi', { rd: t4, rs1: t4, imm: n });
        a.half(0x0e85);
        break;
      case 'pause':
        a.op('pause');
        break;
      case 'float':
        a.op('fcvt.d.l', { rd: 1, rs1: t4, rm: 7 });
        a.op('fmadd.d', { rd: 2, rs1: 1, rs2: 2, rs3: 1, rm: 7 });
        a.op('fsd', { rs1: s0, rs2: 2, imm: 128 });
        break;
      case 'compute': {
        a.li(t0, 5 + choices.below(60));
        const again = a.newLabel();
        a.label(again);
        a.op('mul', { rd: t4, rs1: t4, rs2: t0 });
        a.op('addi', { rd: t4, rs1: t4, imm: 1 });
        a.op('addi', { rd: t0, rs1: t0, imm: -1 });
        a.branch('bne', t0, 0, again);
        break;
      }
    }
  }
}

/**
 * The interpreter, generated from the instruction table when an engine starts.
 *
 * One wasm function, `run(budget)`, holds the handlers of common instructions and dispatches over predecoded slots; handlers of
 * the rest live in `cold` and `float`, which it calls. Where the time goes: one 16-bit load and one indirect branch an
 * instruction, operands from the same 8 bytes, guest registers at constant addresses.
 *
 * Positions are exact: every retirement and every trap takes one from the budget, and the function returns exactly when the
 * budget is 0, or earlier when somebody has called `attention` (the rest is then in `heldBudget`).
 */

import { MSTATUS } from '../hart/state.ts';
import { type Row, rows, type Semantics, type Size } from '../isa/index.ts';
import { AREA, DATA, FETCH, HEAT, RAM_BASE, REGION, TARGETS } from '../memory/layout.ts';
import { addSoftfloat } from '../softfloat/index.ts';
import {
  type Expr,
  type Fn,
  type FunctionRef,
  i32,
  i64,
  type Local,
  Module,
  select,
  type ValType,
} from '../wasm/index.ts';
import { ACCESS, type AccessFunctions, ATOMIC, addAccess } from './library/access.ts';
import { addBridge } from './library/bridge.ts';
import { has, importHost, type Library, Window } from './library/context.ts';
import { addCsrs } from './library/csr.ts';
import { addShadow } from './library/shadow.ts';
import { addSystem, type SystemInstruction } from './library/system.ts';
import { addTraps } from './library/trap.ts';
import { COLD, COLD_ILLEGAL, COLD_LONG, PSEUDO, SLOT, slotFields } from './slot.ts';

export type Direction = 'forward' | 'backward';
const LOCALS = [undefined, 'forward', 'backward'] as const;

/** What a handler is made for, beyond its row. */
export interface Variant {
  readonly row: Row;
  readonly length: 2 | 4;
  /** A branch or jump whose target lies in the same page, and in which direction. */
  readonly local: Direction | undefined;
  /** jal or jalr without a link. */
  readonly discard: boolean;
}

export interface Interpreter {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The handler of an instruction, as slots name it. */
  handlerOf(row: Row, length: 2 | 4, local: Direction | undefined, rd: number): number;
  /** What translated code names the out-of-line handler of a row, for `outOfLine`. */
  outOfLineOf(row: Row): number;
  /** The handler that does the work of two in a row, or undefined. */
  pairOf(first: number, second: number): number | undefined;
  /** Parameters and results of the exported functions that translated code calls. */
  readonly signatures: Readonly<Record<string, readonly [readonly ValType[], readonly ValType[]]>>;
  isPair(handler: number): boolean;
  /** To be stored at CSR_NUMBERS. */
  readonly csrNumbers: Uint8Array;
}

/** (pc, budget, depth) -> what is left of the budget, or LEFT; `pc` says where to go on. */
export const REGION_TYPE = [['i64', 'i32', 'i32'], ['i32']] as const;

/** Floating-point state off: nothing of it may be touched. */
const floatOff = (lib: Library) => i64.eqz(i64.and(lib.w.get('mstatus'), MSTATUS.FS));

interface Parts {
  readonly lib: Library;
  readonly access: AccessFunctions;
  readonly trap: FunctionRef;
  /** Raises the illegal-instruction exception for the instruction at `pc`. */
  readonly illegal: FunctionRef;
  readonly soft: Record<string, FunctionRef>;
  readonly system: ReturnType<typeof addSystem>;
}

/** What differs between a handler in the main function and one outside. */
interface Place {
  readonly length: Expr;
  pc(): Expr;
  /** Before anything that may trap, look at the time or ask for attention. */
  publish(): void;
  /** After it: traps leave, the budget is read again. */
  settle(): void;
  leave(): void;
  /** `arrival`: how much the target's heat rises. */
  goTo(target: Expr, arrival: Expr): void;
  /** Where the jump at `ip` leads. */
  noteTarget?(target: Expr): void;
  branchLocal?(distance: Expr, direction: Direction): void;
}

/** Semantics over a slot at `ip`: operands are loaded when they are used. */
class SlotSemantics implements Semantics {
  readonly f: Fn;
  private readonly parts: Parts;
  private readonly place: Place;
  private readonly variant: Variant;
  private readonly fields: ReturnType<typeof slotFields>;
  /** Outside the main function rd may be x0, which is found out when the instruction runs. */
  private readonly checkRd: boolean;

  constructor(f: Fn, parts: Parts, place: Place, variant: Variant, ip: Expr, checkRd: boolean) {
    this.f = f;
    this.parts = parts;
    this.place = place;
    this.variant = variant;
    this.fields = slotFields(ip);
    this.checkRd = checkRd;
  }

  private get w() {
    return this.parts.lib.w;
  }

  private isStoreLike(): boolean {
    return ['S', 'B', 'FS'].includes(this.variant.row.format);
  }

  private rs2Offset(): Expr {
    return this.isStoreLike() ? this.fields.a() : this.fields.cLow();
  }

  rs1(): Expr {
    return this.w.xAt(this.fields.b());
  }
  rs2(): Expr {
    return this.w.xAt(this.rs2Offset());
  }
  rs1w(): Expr {
    return i32.load(this.fields.b(), this.w.base);
  }
  rs2w(): Expr {
    return i32.load(this.rs2Offset(), this.w.base);
  }
  imm(): Expr {
    return this.fields.cLong();
  }
  immw(): Expr {
    return this.fields.c();
  }
  pc(): Expr {
    return this.place.pc();
  }
  next(): Expr {
    return i64.add(this.place.pc(), i64.extendU(this.place.length));
  }
  rd(value: Expr): void {
    if (this.variant.discard) return;
    const { f } = this;
    if (this.checkRd) {
      const pinned = f.let(value);
      f.if(this.fields.a(), () => f.store(8, this.fields.a(), pinned, this.w.base));
    } else f.store(8, this.fields.a(), value, this.w.base);
  }
  rdw(value: Expr): void {
    this.rd(i64.extendS(value));
  }

  fs1(): Expr {
    return this.w.fAt(this.fields.b());
  }
  fs2(): Expr {
    return this.w.fAt(this.rs2Offset());
  }
  fs3(): Expr {
    return this.w.fAt(this.fields.cSecond());
  }
  private unbox(value: Expr): Expr {
    const pinned = this.f.let(value);
    return select(i64.eq(i64.shrS(pinned, 32), -1), i32.wrap(pinned), i32.const(0x7fc00000));
  }
  fs1s(): Expr {
    return this.f.let(this.unbox(this.fs1()));
  }
  fs2s(): Expr {
    return this.f.let(this.unbox(this.fs2()));
  }
  fs3s(): Expr {
    return this.f.let(this.unbox(this.fs3()));
  }
  fd(value: Expr): void {
    const { f, w } = this;
    f.store(8, this.fields.a(), value, w.base + 256);
    w.set(f, 'mstatus', i64.or(w.get('mstatus'), MSTATUS.FS));
  }
  fds(value: Expr): void {
    this.fd(i64.or(i64.extendU(value), -(1n << 32n)));
  }
  needFloat(): void {
    this.f.if(floatOff(this.parts.lib), () => this.illegal());
  }
  roundingMode(): Expr {
    const { f } = this;
    const mode = f.let(this.fields.cThird());
    f.if(i32.eq(mode, 7), () => f.set(mode, this.w.get32('frm')));
    f.if(i32.gtU(mode, 4), () => this.illegal());
    return mode;
  }
  raise(flags: Expr): void {
    raiseFlags(this.parts.lib, this.f, flags);
  }
  soft(name: string, ...args: Expr[]): Expr {
    const target = this.parts.soft[name];
    if (!target) throw new TypeError(`no softfloat function ${name}`);
    return this.f.call(target, ...args);
  }

  load(size: Size, signed: boolean, address: Expr): Local {
    const { f, place, parts } = this;
    const va = f.let(address);
    const entry = f.let(entryOf(this.w, va));
    const value = f.local('i64');
    f.if(
      i64.ltU(i64.xor(va, i64.load(entry, DATA.read)), 4097 - size),
      () => {
        const host = i32.add(i32.wrap(va), i32.load(entry, DATA.addend));
        f.set(value, LOADS[size][signed ? 0 : 1](host));
      },
      () => {
        place.publish();
        f.set(value, f.call(parts.access.loadSlow, va, i32.const(size)));
        place.settle();
        if (signed && size < 8) f.set(value, EXTENDS[size as 1 | 2 | 4](value));
      },
      'likely',
    );
    return value;
  }

  store(size: Size, address: Expr, value: Expr): void {
    const { f, place, parts } = this;
    const va = f.let(address);
    const entry = f.let(entryOf(this.w, va));
    f.if(
      i64.ltU(i64.xor(va, i64.load(entry, DATA.write)), 4097 - size),
      () => f.store(size, i32.add(i32.wrap(va), i32.load(entry, DATA.addend)), value),
      () => {
        place.publish();
        f.do(parts.access.storeSlow, va, i32.const(size), value);
        place.settle();
      },
      'likely',
    );
  }

  private atomic(size: 4 | 8, access: number): Local {
    const { f, place, parts } = this;
    place.publish();
    const host = f.let(f.call(parts.access.atomicAddress, this.rs1(), i32.const(size), i32.const(access)));
    place.settle();
    return host;
  }

  /** Guest-physical address of an atomic's operand, whose entry has just been filled, or holds its page at least. */
  private physical(): Expr {
    const entry = entryOf(this.w, this.rs1());
    const page = i64.shl(i64.load32U(entry, DATA.page), 12);
    return i64.add(i64.or(page, i64.and(this.rs1(), 4095)), RAM_BASE);
  }

  private static loadAtomic(size: 4 | 8, host: Expr): Expr {
    return size === 8 ? i64.load(host) : i64.load32S(host);
  }

  amo(size: 4 | 8, update: (old: Expr) => Expr): void {
    const { f, parts } = this;
    const host = this.atomic(size, ATOMIC.update);
    const old = f.let(SlotSemantics.loadAtomic(size, host));
    const next = f.let(update(old));
    f.do(parts.access.storeTraced, host, i32.const(size), next);
    this.place.settle();
    this.rd(old);
  }

  loadReserved(size: 4 | 8): void {
    const { f, w } = this;
    const host = this.atomic(size, ACCESS.load);
    w.set(f, 'reservation', this.physical());
    this.rd(SlotSemantics.loadAtomic(size, host));
  }

  storeConditional(size: 4 | 8): void {
    const { f, w, parts } = this;
    const host = this.atomic(size, ATOMIC.conditional);
    const success = f.let(i64.eq(w.get('reservation'), this.physical()));
    w.set(f, 'reservation', i64.const(0));
    f.if(success, () => f.do(parts.access.storeTraced, host, i32.const(size), this.rs2()));
    this.place.settle();
    this.rd(i64.extendU(i32.eqz(success)));
  }

  branch(condition: Expr): void {
    this.f.if(condition, () => this.jump());
  }

  jump(): void {
    const { local } = this.variant;
    if (local) this.place.branchLocal!(this.fields.c(), local);
    else this.place.goTo(i64.add(this.place.pc(), this.fields.cLong()), i32.const(ARRIVAL.jump));
  }

  jumpTo(target: Expr): void {
    const pinned = this.f.let(target);
    this.rd(this.next());
    // A return leads into the middle of code that is already under way.
    const returns = this.variant.discard ? i32.eq(this.fields.b(), 8) : i32.const(0);
    if (this.variant.discard) this.f.if(i32.eqz(returns), () => this.place.noteTarget?.(pinned));
    this.place.goTo(pinned, select(returns, i32.const(ARRIVAL.return), i32.const(ARRIVAL.jump)));
  }

  trap(cause: number, tval: Expr): void {
    this.place.publish();
    this.f.do(this.parts.trap, i64.const(cause), tval);
    this.place.leave();
  }

  illegal(): void {
    this.place.publish();
    this.f.do(this.parts.illegal);
    this.place.leave();
  }

  system(operation: Parameters<Semantics['system']>[0]): void {
    const { f, fields, place } = this;
    const s: SystemInstruction = {
      f,
      rs1: () => this.rs1(),
      uimm: () => i64.extendU(fields.cHigh()),
      imm: () => fields.c(),
      csr: () => fields.cHalf(),
      writes: () => i32.and(fields.cThird(), 1),
      rdOffset: () => fields.a(),
      next: () => this.next(),
      trap: (cause, tval) => {
        f.do(this.parts.trap, cause, tval);
        place.leave();
      },
      illegal: () => this.illegal(),
      resync: () => place.leave(),
    };
    this.parts.system(operation, s);
  }
}

const LOADS: Record<Size, [(a: Expr) => Expr, (a: Expr) => Expr]> = {
  1: [i64.load8S, i64.load8U],
  2: [i64.load16S, i64.load16U],
  4: [i64.load32S, i64.load32U],
  8: [i64.load, i64.load],
};
const EXTENDS = { 1: i64.extend8S, 2: i64.extend16S, 4: i64.extend32S };

/** The data entry that a virtual address maps to. */
function entryOf(w: Window, va: Expr): Expr {
  const index = i32.and(i32.wrap(i64.shrU(va, 12 - DATA.shift)), (DATA.entries - 1) << DATA.shift);
  return i32.add(w.get32('dataTable'), index);
}

function raiseFlags(lib: Library, f: Fn, flags: Expr): void {
  const { w } = lib;
  w.set(f, 'fflags', i64.or(w.get('fflags'), i64.extendU(flags)));
  w.set(f, 'mstatus', i64.or(w.get('mstatus'), MSTATUS.FS));
}

/** How much an arrival says for translating what stands there, in halves. */
const ARRIVAL = { jump: 2, loop: 2, return: 1, trap: 1 } as const;

const isFloat = (row: Row) => row.extension === 'F' || row.extension === 'D';
const isHot = (row: Row) => row.hot && (row.extension === 'I' || row.extension === 'M');
const hasLocalForm = (row: Row) => row.format === 'B' || row.format === 'J';
const hasLink = (row: Row) => row.name === 'jal' || row.name === 'jalr';
/** With rd = x0 nothing is left of the row but a step. */
const vanishes = (row: Row, rd: number) => row.pure && rd === 0;

const variantKey = (v: Variant) => `${v.row.name} ${v.length} ${v.local} ${v.discard}`;

/**
 * Pairs of instructions that follow each other often, as `name length name length`: each has a handler of its own, which saves a
 * dispatch (10 % less time in shell scripts and sorting, nothing in compute loops). From counts over shell, sort, gzip, awk, md5sum, find and process creation, kernel included; they cover 38 % of what
 * is executed. The first never jumps; a branch or `c.j` as the second stays in its page.
 */
const PAIRS = `
  sd2 sd2, ld2 ld2, add2 add2, slli2 add2, ld2 addi2, addi2 sd2, auipc4 addi4, slli4 add2, addi2 jalr2, add2 lhu4, add2 ld2,
  srliw4 slliw4, ld2 add2, add2 lw2, addw2 srliw4, lbu4 addi2, slliw4 or2, add2 jal4, addi2 addi2, lw4 addw2, addi4 add2,
  auipc4 ld4, addi2 add2, lhu4 lhu4, sd4 sd4, add2 jal2, sd2 add2, sd2 ld2, ld4 ld4, addw4 addw2, xor2 addw2, auipc4 jalr4,
  lbu4 lbu4, lhu4 bltu4, sd2 addi2, add2 sd2, ld4 ld2, add2 ld4, ld2 sd2, ld2 auipc4, add2 addi2, ld4 sd2, andi2 bne2,
  ld2 beq2, addi2 bne2, addi2 jal2, lbu4 bne2, lbu4 beq4, lbu4 beq2, addi2 beq4, add2 beq2, addi2 bne4, add2 beq4, addi2 jal4,
  sd2 addi4, lbu4 bne4, lw2 beq2, addiw2 bne4, andi4 bne2`;

interface Pair {
  readonly first: Variant;
  readonly second: Variant;
}

function pairs(): Pair[] {
  const variant = (text: string, direction: Direction): Variant => {
    const length = Number(text.at(-1)) as 2 | 4;
    const row = rows.find(({ name }) => name === text.slice(0, -1))!;
    const compressed = length === 2;
    return {
      row,
      length,
      local: row.format === 'B' || (row.name === 'jal' && compressed) ? direction : undefined,
      // The compressed jumps in question are `c.j` and `c.jr`; the long ones are calls.
      discard: hasLink(row) && compressed,
    };
  };
  return PAIRS.split(',').map((pair) => {
    const [first, second] = pair.trim().split(' ');
    return { first: variant(first!, 'forward'), second: variant(second!, 'forward') };
  });
}

/** Handlers of the main function, in table order. */
function hotVariants(): Variant[] {
  const variants: Variant[] = [];
  for (const row of rows.filter(isHot)) {
    for (const length of [2, 4] as const) {
      for (const local of hasLocalForm(row) ? LOCALS : [undefined]) {
        for (const discard of hasLink(row) ? [true, false] : [false]) variants.push({ row, length, local, discard });
      }
    }
  }
  return variants;
}

export function generateInterpreter(
  worker: number,
  memory: { min: number; max: number; shared: boolean },
  /** The heat (see ARRIVAL) at which `hot` is told of a place. */
  hotness: number,
): Interpreter {
  const module = new Module();
  module.importMemory('host', 'memory', memory);
  module.importTable('host', 'table', REGION.entries);
  const imports = importHost(module);
  const w = new Window(worker);
  const lib: Library = { module, w, imports };
  const shadow = addShadow(lib);
  const traps = addTraps(lib, shadow.selectSpace);
  const access = addAccess(lib, shadow, traps.trap);
  const csrs = addCsrs(lib, shadow.selectSpace);
  const system = addSystem(lib, traps, access, csrs, shadow);
  const soft = addSoftfloat(module, {
    raise: (f, flags) => raiseFlags(lib, f, flags),
    flags: () => w.get32('fflags'),
  });
  const parts: Parts = { lib, access, trap: traps.trap, illegal: access.illegal, soft, system };

  const hot = hotVariants();
  const hotIndex = new Map(hot.map((v, i) => [variantKey(v), PSEUDO.count + i]));
  const coldRows = rows.filter((row) => !isFloat(row));
  const floatRows = rows.filter(isFloat);

  const cold = addColdFunction(parts, 'cold', coldRows);
  const float = addColdFunction(parts, 'float', floatRows);
  const fused = pairs();
  const run = addRun(parts, hot, fused, cold, float, coldRows.length, traps.interrupt, hotness);
  const bridge = addBridge(lib, access, cold, float, coldRows.length);

  module.export('run', run);
  const callable = { ...bridge, ...soft };
  for (const [name, ref] of Object.entries(callable)) module.export(name, ref);
  module.export('selectSpace', shadow.selectSpace);
  module.export('flushAll', shadow.flushAll);
  module.export('dropWriters', shadow.dropWriters);
  module.export('dropFrame', shadow.dropFrame);
  module.export('dropCode', shadow.dropCode);
  module.export('dropSecond', shadow.dropSecond);
  module.export('traceStore', shadow.traceStore);

  const coldIndex = new Map([...coldRows, ...floatRows].map((row, i) => [row, COLD_ILLEGAL + 1 + i]));
  const handlerOf = (row: Row, length: 2 | 4, local: Direction | undefined, rd: number): number => {
    if (vanishes(row, rd)) return length === 2 ? PSEUDO.nop2 : PSEUDO.nop4;
    if (isHot(row) && (rd !== 0 || row.format !== 'L')) {
      return hotIndex.get(variantKey({ row, length, local, discard: hasLink(row) && rd === 0 }))!;
    }
    return COLD | (length === 4 ? COLD_LONG : 0) | coldIndex.get(row)!;
  };
  /** Handlers of each row, by `local`, length, and whether rd is x0. */
  const handlers = new Map(
    rows.map((row) => [
      row,
      Uint16Array.from({ length: 12 }, (_, i) =>
        handlerOf(row, i & 2 ? 4 : 2, hasLocalForm(row) ? LOCALS[i >> 2] : undefined, i & 1),
      ),
    ]),
  );
  const indexOf = (variant: Variant) => hotIndex.get(variantKey(variant))!;
  const fusedIndex = new Map(
    fused.map(({ first, second }, i) => [(indexOf(first) << 16) | indexOf(second), PSEUDO.count + hot.length + i]),
  );
  return {
    bytes: module.encode(),
    pairOf: (first, second) => fusedIndex.get((first << 16) | second),
    signatures: Object.fromEntries(
      Object.entries(callable).map(([name, { params, results }]) => [name, [params, results]]),
    ),
    isPair: (handler) => handler >= PSEUDO.count + hot.length && handler < COLD,
    csrNumbers: csrs.numbers,
    handlerOf: (row, length, local, rd) =>
      handlers.get(row)![(LOCALS.indexOf(local) << 2) | ((length & 4) >> 1) | (rd === 0 ? 0 : 1)]!,
    outOfLineOf: (row) => coldIndex.get(row)! - (COLD_ILLEGAL + 1),
  };
}

/** (row index, ip, length) -> 0 when the next instruction follows, 1 when the main function has to look at `pc`. */
function addColdFunction(parts: Parts, name: string, list: readonly Row[]): FunctionRef {
  const { lib } = parts;
  const { w } = lib;
  return lib.module.function(name, ['i32', 'i32', 'i32'], ['i32'], (f, index, ip, length) => {
    const place: Place = {
      length,
      pc: () => w.get('pc'),
      publish: () => {},
      settle: () => f.if(w.get32('trapped'), () => f.return(i32.const(1))),
      leave: () => f.return(i32.const(1)),
      goTo: (target, _arrival) => {
        w.set(f, 'pc', target);
        f.return(i32.const(1));
      },
    };
    f.switch(index, list.length, (i) => {
      const row = list[i]!;
      const variant: Variant = { row, length: 4, local: undefined, discard: false };
      row.execute(new SlotSemantics(f, parts, place, variant, ip, true));
    });
    f.return(i32.const(0));
  });
}

function addRun(
  parts: Parts,
  hot: readonly Variant[],
  fused: readonly Pair[],
  cold: FunctionRef,
  float: FunctionRef,
  coldCount: number,
  interrupt: FunctionRef,
  hotness: number,
): FunctionRef {
  const { lib, access } = parts;
  const { w, imports } = lib;
  const regionType = lib.module.functionType(...REGION_TYPE);
  return lib.module.function('run', ['i32'], [], (f, budget) => {
    const ip = f.local('i32');
    /** pc = pcBase + ip / 4 (a slot is four times as long as the halfword that it stands for). */
    const pcBase = f.local('i64');
    const target = f.local('i64');
    const entry = f.local('i32');
    const code = f.local('i32');
    const handler = f.local('i32');
    const arrival = f.local('i32');
    const left = f.local('i32');

    const pc = () => i64.add(pcBase, i64.extendU(i32.shrU(ip, 2)));
    const publishBudget = () => w.set32(f, 'budget', budget);
    const takeBudget = () => f.set(budget, w.get32('budget'));
    const finish = () => {
      publishBudget();
      f.return();
    };
    /** Counts an arrival at `ip`. Any hash will do: what is counted never shows in what is computed. */
    const warm = (by: Expr) => {
      f.scope(() => {
        const counter = f.let(i32.and(i32.shrU(ip, 2), (HEAT.entries - 1) * 2));
        const heat = f.let(i32.add(i32.load16U(counter, w.area + AREA.heat), by));
        f.store(2, counter, heat, w.area + AREA.heat);
        f.if(
          i32.geU(heat, hotness * ARRIVAL.jump),
          () => {
            f.store(2, counter, i32.const(0), w.area + AREA.heat);
            f.set(target, pc());
            f.do(imports.hot, ip, i32.wrap(target), i32.wrap(i64.shrU(target, 32)));
          },
          undefined,
          'unlikely',
        );
      });
    };

    f.loop((outer) => {
      // Here `pc` in the window is the truth.
      w.set(f, 'trapped', i64.const(0));
      f.if(i32.eqz(budget), finish);
      f.if(has(i64.and(i64.or(w.get('mip'), w.get('seipLine')), w.get('mie')), -1), () => {
        f.if(f.call(interrupt), () => {
          f.set(budget, i32.sub(budget, 1));
          f.br(outer);
        });
      });
      f.set(target, w.get('pc'));
      f.set(arrival, i32.const(ARRIVAL.trap));
      f.loop((go) => {
        const fetchIndex = i32.and(i32.wrap(i64.shrU(target, 12 - FETCH.shift)), (FETCH.entries - 1) << FETCH.shift);
        f.set(entry, i32.add(w.get32('fetchTable'), fetchIndex));
        f.if(
          i64.ltU(i64.xor(target, i64.load(entry, FETCH.tag)), 4096),
          () => f.set(code, i32.load(entry, FETCH.code)),
          () => {
            w.set(f, 'pc', target);
            f.if(i32.eqz(budget), finish);
            // A trap is a step, a fetch that succeeds is none.
            f.set(budget, i32.sub(budget, 1));
            publishBudget();
            f.set(code, f.call(access.fetchPage, target));
            takeBudget();
            f.if(i32.eqz(code), () => f.br(outer));
            f.set(budget, i32.add(budget, 1));
          },
          'likely',
        );
        f.set(ip, i32.add(code, i32.shl(i32.and(i32.wrap(target), 0xffe), 2)));
        f.set(pcBase, i64.sub(target, i64.extendU(i32.shrU(ip, 2))));
        warm(arrival);

        f.loop((next) => {
          const advance = (length: number) => f.set(ip, i32.add(ip, length * 4));
          f.if(
            i32.eqz(budget),
            () => {
              w.set(f, 'pc', pc());
              finish();
            },
            undefined,
            'unlikely',
          );
          f.set(budget, i32.sub(budget, 1));
          const uncount = () => f.set(budget, i32.add(budget, 1));
          f.set(handler, i32.load16U(ip));

          const pseudo: (() => void)[] = [];
          pseudo[PSEUDO.decode] = () => {
            uncount();
            f.do(imports.decode, ip);
          };
          pseudo[PSEUDO.sentinel] = () => {
            uncount();
            f.set(target, pc());
            f.set(arrival, i32.const(ARRIVAL.return));
            f.br(go);
          };
          /** Goes on at a slot elsewhere, which stands for the instruction here. */
          const elsewhere = (find: FunctionRef) => () => {
            w.set(f, 'pc', pc());
            publishBudget();
            f.set(target, pc());
            f.set(code, f.call(find, ip, target));
            takeBudget();
            f.if(i32.eqz(code), () => f.br(outer));
            uncount();
            f.set(ip, code);
            f.set(pcBase, i64.sub(target, i64.extendU(i32.shrU(ip, 2))));
          };
          pseudo[PSEUDO.straddle] = elsewhere(access.straddle);
          pseudo[PSEUDO.armed] = elsewhere(access.armed);
          pseudo[PSEUDO.region] = () => {
            uncount();
            f.set(target, pc());
            const place = i32.load(ip, SLOT.c);
            f.set(left, f.callIndirect(regionType, place, target, budget, i32.const(0)));
            f.if(i32.geS(left, 0), () => {
              f.set(budget, left);
              f.set(target, w.get('pc'));
              f.set(arrival, i32.const(ARRIVAL.return));
              f.br(go);
            });
            // With no step made the region has refused: its first instruction is done here, from its copy.
            f.if(i32.ne(w.get32('budget'), budget), () => {
              takeBudget();
              f.br(outer);
            });
            f.set(ip, i32.add(i32.shl(i32.load(ip, SLOT.c), REGION.shift), w.area + AREA.regions));
            f.set(pcBase, i64.sub(target, i64.extendU(i32.shrU(ip, 2))));
          };
          pseudo[PSEUDO.nop2] = () => advance(2);
          pseudo[PSEUDO.nop4] = () => advance(4);

          const runHot = (variant: Variant) => {
            const place: Place = {
              length: i32.const(variant.length),
              pc,
              publish: () => {
                w.set(f, 'pc', pc());
                publishBudget();
              },
              settle: () => {
                takeBudget();
                f.if(w.get32('trapped'), () => f.br(outer));
              },
              leave: () => f.br(outer),
              goTo: (to, by) => {
                f.set(target, to);
                f.set(arrival, by);
                f.br(go);
              },
              noteTarget: (to) => {
                const site = i32.mul(i32.and(i32.shrU(ip, 3), TARGETS.sites - 1), TARGETS.size);
                // By a hash, so that a rare target does not push a frequent one out.
                const low = f.let(i32.wrap(to));
                const one = i32.and(i32.shrU(i32.mul(low, 0x9e3779b1 | 0), 20), (TARGETS.each - 1) * 4);
                f.store(4, i32.add(site, one), low, w.area + AREA.targets);
              },
              branchLocal: (distance, direction) => {
                f.set(ip, i32.add(ip, distance));
                if (direction === 'backward') warm(i32.const(ARRIVAL.loop));
                f.br(next);
              },
            };
            variant.row.execute(new SlotSemantics(f, parts, place, variant, ip, false));
            advance(variant.length);
          };

          const runPair = ({ first, second }: Pair) => {
            f.scope(() => runHot(first));
            // Between the two is a place to stop, as between any instructions.
            f.if(i32.eqz(budget), () => f.br(next), undefined, 'unlikely');
            f.set(budget, i32.sub(budget, 1));
            f.scope(() => runHot(second));
          };

          const runCold = () => {
            w.set(f, 'pc', pc());
            publishBudget();
            const length = f.let(select(i32.and(handler, COLD_LONG), i32.const(4), i32.const(2)));
            const index = f.let(i32.sub(i32.and(handler, COLD_LONG - 1), COLD_ILLEGAL + 1));
            const status = f.local('i32');
            f.if(i32.eq(index, -1), () => {
              f.do(access.illegal);
              f.br(outer);
            });
            f.if(
              i32.ltU(index, coldCount),
              () => f.set(status, f.call(cold, index, ip, length)),
              () => f.set(status, f.call(float, i32.sub(index, coldCount), ip, length)),
            );
            takeBudget();
            f.brIf(outer, status);
            f.set(ip, i32.add(ip, i32.shl(length, 2)));
          };

          f.switch(
            handler,
            PSEUDO.count + hot.length + fused.length,
            (i) => {
              const n = i - PSEUDO.count;
              if (n < 0) pseudo[i]!();
              else if (n < hot.length) runHot(hot[n]!);
              else runPair(fused[n - hot.length]!);
              // Straight back: not through the end of the switch.
              f.br(next);
            },
            runCold,
          );
          f.br(next);
        });
      });
    });
  });
}

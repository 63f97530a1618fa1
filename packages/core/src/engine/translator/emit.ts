/**
 * Writes a region as one wasm function, `(pc, budget, depth) -> budget`.
 *
 * Guest registers are locals. The budget is paid block by block, and looked at where the function is entered, at loop headers and
 * after calls, against the most that can be spent until the next look (`worst`): so it never runs out inside. Where it would, the
 * function leaves and the interpreter makes the last steps.
 *
 * Ways out:
 * - a return of the guest gives back the budget, with `pc` in the hart's state; who called looks whether it is where it goes on;
 * - an exit to code elsewhere goes on in that region, if there is one, without coming back (`chain`);
 * - everything unusual (`unwind`) stores what is dirty and gives LEFT, on which every caller leaves at once. So whatever changes
 *   code or its mapping, and asks for attention, ends all translated activations.
 */

import { F, type HartField, LEFT, MSTATUS, OFFSET, type ScratchField, UNWIND, X } from '../../hart/state.ts';
import type { Row, Semantics, Size } from '../../isa/index.ts';
import { AREA, CODE_PAGE, DATA, FETCH, RAM_BASE, REGION } from '../../memory/layout.ts';
import {
  type Expr,
  type Fn,
  type FunctionRef,
  type FunctionType,
  f32,
  f64,
  i32,
  i64,
  type Label,
  Local,
  reinterpreted,
  select,
} from '../../wasm/index.ts';
import { PSEUDO, SLOT } from '../slot.ts';
import { attempt, type FloatHost, type FloatLimit, LIMIT } from './floats.ts';
import { findGroups, type Group } from './groups.ts';
import { type Bases, baseOf, findLoopFacts, NO_BASES, redefined } from './loops.ts';
import type { Instruction, Region } from './region.ts';
import {
  analyzeRegisters,
  isFloat,
  isNothing,
  isOutOfLine,
  loadedBetween,
  type NodeRegisters,
  type Registers,
  storedBetween,
  union,
} from './registers.ts';
import { type Node, structure } from './structure.ts';

/** What the functions of a module share. */
export interface ModuleParts {
  /** Address of the worker's area, and the place in the function table of the module's first region. */
  readonly area: Expr;
  readonly place: Expr;
  /** Which of the module's regions this is. */
  readonly index: number;
  readonly regionType: FunctionType;
  readonly loadMiss: FunctionRef;
  readonly storeMiss: FunctionRef;
  readonly outOfLine: FunctionRef;
  /** The softfloat library; empty unless a region has floating point. */
  readonly soft: Readonly<Record<string, FunctionRef>>;
  readonly outOfLineOf: (row: Row) => number;
  readonly host: FloatHost;
}

/** The page that was reached last through a base register. */
interface RememberedPage {
  /** Its address, or NO_PAGE. */
  readonly tag: Local;
  /** Host address - virtual address, as in the table's entry. */
  readonly addend: Local;
}

/** No address is this one once the bits are masked that say where in its page it lies. */
const NO_PAGE = 0x800;

/** Instructions that are computed rather than jumped over. */
const MAX_SKIPPED = 3;

/** How deep guest calls nest as wasm calls. */
const MAX_DEPTH = 96;
const FETCH_INDEX = (FETCH.entries - 1) << FETCH.shift;
const DATA_INDEX = (DATA.entries - 1) << DATA.shift;

const LOADS: Record<Size, [(a: Expr, offset?: number) => Expr, (a: Expr, offset?: number) => Expr]> = {
  1: [i64.load8S, i64.load8U],
  2: [i64.load16S, i64.load16U],
  4: [i64.load32S, i64.load32U],
  8: [i64.load, i64.load],
};
/** Those whose results are sign-extended words, whatever they are. */
const WORD_LOADS: Readonly<Record<string, (a: Expr, offset?: number) => Expr>> = {
  lb: i32.load8S,
  lbu: i32.load8U,
  lh: i32.load16S,
  lhu: i32.load16U,
  lw: i32.load,
};
const EXTENDS = { 1: i64.extend8S, 2: i64.extend16S, 4: i64.extend32S };

/** Gives the sign-extended low half of something, and may keep it as a word. */
const isWord = ({ pure, name }: Row): boolean => pure && name.endsWith('w') && !DIVIDES.test(name);
const DIVIDES = /^(div|rem)/;

/** Of two sign-extended words they give one. */
const BITWISE: Readonly<Record<string, (a: Expr, b: Expr) => Expr>> = {
  and: i32.and,
  or: i32.or,
  xor: i32.xor,
  andi: i32.and,
  ori: i32.or,
  xori: i32.xor,
};
const isBitwise = ({ name }: Row): boolean => name in BITWISE;

const forBits = (bits: number, visit: (n: number) => void): void => {
  for (let rest = bits; rest; rest &= rest - 1) visit(31 - Math.clz32(rest & -rest));
};

class RegionWriter implements Semantics {
  readonly f: Fn;
  private readonly parts: ModuleParts;
  private readonly region: Region;
  private readonly nodes: readonly Node[];
  private readonly registers: readonly NodeRegisters[];
  private readonly worst: number[] = [];
  private readonly pcIn: Local;
  private readonly budget: Local;
  private readonly depth: Local;
  private readonly x: (Local | undefined)[] = new Array(32).fill(undefined);
  private readonly doubles: boolean;
  private readonly fp: (Local | undefined)[] = new Array(32).fill(undefined);
  /**
   * For results of word instructions, which are sign-extended: within a block such a register may be held as its low half, so that
   * it is extended only where all of it is needed. `narrow` says which are, a bit each.
   */
  private readonly words: (Local | undefined)[] = new Array(32).fill(undefined);
  private narrow = 0;
  private readonly table: Local;
  private readonly target: Local;
  private readonly maskX: Local;
  private readonly maskF: Local;
  /** Floating point is on and dirty, with a legal mode; and LIMIT while NX has accrued and the mode is to nearest even, else 0. */
  private readonly floatOn: Local | undefined;
  private readonly floatLimit: FloatLimit | undefined;
  private readonly standing: readonly Bases[];
  /** By base register, twice: for loads, and behind them for stores. */
  private readonly pages: (RememberedPage | undefined)[] = new Array(64).fill(undefined);
  /** Bases whose remembered pages are true here, or forgotten. */
  private known: Bases = NO_BASES;
  /** Of each block, in the order of `nodes`. */
  private readonly groups: ReadonlyMap<Instruction, Group>[] = [];
  /** By base register: host address of the lowest byte of the group under way, 0 where each access has to look by itself. */
  private readonly hosts: (Local | undefined)[] = new Array(32).fill(undefined);
  private readonly loops = new Map<Node, Label>();
  private readonly merges = new Map<Node, Label>();
  private unwindLabel!: Label;
  private chainLabel!: Label;

  /** The instruction being written, what is dirty before it, and how much of its block comes behind it. */
  private i!: Instruction;
  private order = 0;
  private dirty!: Registers;
  private behind = 0;
  private condition: Expr | undefined;
  /** What the instruction has loaded, if it is kept as a word. */
  private loadedWord: Local | undefined;
  private instructions: readonly Instruction[] = [];
  /** This block has made sure of `floatOn`. */
  private floatIsOn = false;
  /** While it holds, registers keep what they have. */
  private keepIf: Local | undefined;

  constructor(f: Fn, params: readonly Local[], parts: ModuleParts, region: Region) {
    this.f = f;
    this.parts = parts;
    this.region = region;
    [this.pcIn, this.budget, this.depth] = params as [Local, Local, Local];
    this.nodes = structure(region);
    const { held, standing } = findLoopFacts(this.nodes);
    this.registers = analyzeRegisters(this.nodes, held);
    this.standing = standing;
    this.table = f.local('i32');
    this.target = f.local('i64');
    this.maskX = f.local('i32');
    this.maskF = f.local('i32');
    if (region.float) {
      this.floatOn = f.local('i32');
      this.floatLimit = { exponent: f.local('i32'), magnitude: f.local('f64') };
    }
    // Where there are only doubles their registers are the host's: moving, loading and storing keep all bits.
    this.doubles = this.nodes.every(({ block }) => block.instructions.every(({ row }) => row.extension !== 'F'));
    let x = 0;
    let float = 0;
    let words = 0;
    for (const { block } of this.nodes) {
      for (const { row, o } of block.instructions)
        if (isWord(row) || isBitwise(row) || row.name in WORD_LOADS) words |= (1 << o.rd) & ~1;
    }
    for (const { effects } of this.registers) {
      for (const { reads, writes } of effects) {
        x |= reads.x | writes.x;
        float |= reads.f | writes.f;
      }
    }
    for (let n = 0; n < 32; n++) {
      if (x & (1 << n)) this.x[n] = f.local('i64');
      if (words & (1 << n)) this.words[n] = f.local('i32');
      if (float & (1 << n)) this.fp[n] = f.local(this.doubles ? 'f64' : 'i64');
    }
    for (const bases of standing) {
      this.forBases(bases, (key) => {
        this.pages[key] ??= { tag: f.local('i64'), addend: f.local('i32') };
      });
    }
    for (const { block } of this.nodes) {
      const groups = findGroups(block);
      this.groups.push(groups);
      for (const { base } of groups.values()) this.hosts[base] ??= f.local('i32');
    }
    for (let n = this.nodes.length - 1; n >= 0; n--) {
      const node = this.nodes[n]!;
      let most = 0;
      if (node.block.end.kind !== 'call') {
        for (const way of node.ways) {
          if (way && way.order > n && !way.isLoop) most = Math.max(most, this.worst[way.order]!);
        }
      }
      this.worst[n] = node.block.instructions.length + most;
    }
  }

  // The hart's state.

  private get(field: HartField | ScratchField): Expr {
    return i64.load(this.parts.area, OFFSET[field]);
  }
  private get32(field: HartField | ScratchField): Expr {
    return i32.load(this.parts.area, OFFSET[field]);
  }
  private set(field: HartField | ScratchField, value: Expr): void {
    this.f.store(8, this.parts.area, value, OFFSET[field]);
  }
  private set32(field: HartField | ScratchField, value: Expr): void {
    this.f.store(4, this.parts.area, value, OFFSET[field]);
  }

  /** The address of a place of the region. */
  private address(at: number): Expr {
    return i64.add(this.pcIn, i64.const(at - this.region.head));
  }

  // Registers.

  private local(n: number): Local {
    return this.x[n]!;
  }
  private bitsF(n: number): Expr {
    return this.doubles ? i64.reinterpret(this.fp[n]!) : this.fp[n]!;
  }
  private setF(n: number, bits: Expr): void {
    this.f.set(this.fp[n]!, this.doubles ? f64.reinterpret(bits) : bits);
  }

  /** The value of a register, whichever of its locals has it. */
  private read(n: number): Expr {
    return this.narrow & (1 << n) ? i64.extendS(this.words[n]!) : this.x[n]!;
  }

  private load_({ x, f }: Registers): void {
    forBits(x, (n) => this.f.set(this.local(n), i64.load(this.parts.area, X + 8 * n)));
    forBits(f, (n) => this.setF(n, i64.load(this.parts.area, F + 8 * n)));
    this.narrow &= ~x;
  }
  private store_({ x, f }: Registers): void {
    forBits(x, (n) => this.f.store(8, this.parts.area, this.read(n), X + 8 * n));
    forBits(f, (n) => this.f.store(8, this.parts.area, this.bitsF(n), F + 8 * n));
  }
  /** Brings registers that are held as words into their 64-bit locals. */
  private widen(x: number): void {
    forBits(x & this.narrow, (n) => this.f.set(this.local(n), this.read(n)));
  }

  // Pages that were reached through a base register last: while they stay true, an access needs no look at the table.

  private forBases({ loads, stores }: Bases, visit: (key: number) => void): void {
    for (let rest = loads; rest; rest &= rest - 1) visit(31 - Math.clz32(rest & -rest));
    for (let rest = stores; rest; rest &= rest - 1) visit(63 - Math.clz32(rest & -rest));
  }
  private forget(bases: Bases): void {
    this.forBases(bases, (key) => this.f.set(this.pages[key]!.tag, i64.const(NO_PAGE)));
  }
  /** After anything that may have changed a mapping. */
  private forgetAll(): void {
    for (const page of this.pages) if (page) this.f.set(page.tag, i64.const(NO_PAGE));
    for (const host of this.hosts) if (host) this.f.set(host, i32.const(0));
  }
  /** Looks the page up that a base points to, on the way into a loop. */
  private remember(bases: Bases): void {
    const { f } = this;
    this.forBases(bases, (key) => {
      f.scope(() => {
        const page = this.pages[key]!;
        const base = this.local(key & 31);
        const entry = this.entryOf(base);
        const tag = f.let(i64.load(entry, key < 32 ? DATA.read : DATA.write));
        f.set(page.tag, select(i64.ltU(i64.xor(base, tag), 4096), tag, i64.const(NO_PAGE)));
        f.set(page.addend, i32.load(entry, DATA.addend));
      });
    });
  }

  // The function.

  write(): void {
    const { f, region, parts } = this;
    const refuse = () => {
      this.set('pc', this.pcIn);
      this.set32('budget', this.budget);
      f.return(i32.const(LEFT));
    };
    f.if(i32.ltS(this.budget, this.worst[0]!), refuse, undefined, 'unlikely');
    if (region.second !== 0) {
      const page = f.let(i64.add(i64.and(this.pcIn, -4096), region.second * 4096));
      const entry = f.let(i32.add(this.get32('fetchTable'), i32.and(i32.wrap(i64.shrU(page, 8)), FETCH_INDEX)));
      const code = f.let(i32.load(entry, FETCH.code));
      const record = f.let(i32.add(parts.area, i32.shl(i32.add(parts.place, parts.index), REGION.shift)));
      const other = i32.or(
        i64.ne(i64.load(entry, FETCH.tag), page),
        i32.or(
          i32.ne(i32.load(record, AREA.regions + REGION.page), code),
          i32.ne(i32.load(record, AREA.regions + REGION.version), i32.load(code, CODE_PAGE.version)),
        ),
      );
      f.if(other, refuse, undefined, 'unlikely');
    }
    f.set(this.table, this.get32('dataTable'));
    this.refreshFloat();
    this.load_(this.registers[0]!.liveIn);
    this.known = this.standing[0]!;
    this.remember(this.known);
    f.block((chain) => {
      this.chainLabel = chain;
      f.block((unwind) => {
        this.unwindLabel = unwind;
        this.tree(this.nodes[0]!);
        f.unreachable();
      });
      this.unwind();
    });
    this.chain();
  }

  /** Stores what the masks say and leaves; `pc` and `budget` are in the hart's state. */
  private unwind(): void {
    const { f } = this;
    const stores = (locals: readonly (Local | undefined)[], mask: Local, base: number, bits: (n: number) => Expr) => {
      locals.forEach((local, n) => {
        if (!local) return;
        f.if(i32.and(mask, 1 << n), () => f.store(8, this.parts.area, bits(n), base + 8 * n));
      });
    };
    stores(this.x, this.maskX, X, (n) => this.local(n));
    stores(this.fp, this.maskF, F, (n) => this.bitsF(n));
    f.return(i32.const(LEFT));
  }

  private leave(dirty: Registers): void {
    const { f } = this;
    this.widen(dirty.x);
    f.set(this.maskX, i32.const(dirty.x));
    if (this.region.float) f.set(this.maskF, i32.const(dirty.f));
    f.br(this.unwindLabel);
  }

  /** The region at an address: calls `found` with its place in the function table. */
  private find(target: Expr, found: (place: Expr) => void): void {
    const { f } = this;
    const entry = f.let(i32.add(this.get32('fetchTable'), i32.and(i32.shrU(i32.wrap(target), 8), FETCH_INDEX)));
    f.if(i64.ltU(i64.xor(target, i64.load(entry, FETCH.tag)), 4096), () => {
      const slot = f.let(i32.add(i32.load(entry, FETCH.code), i32.shl(i32.and(i32.wrap(target), 0xffe), 2)));
      f.if(i32.eq(i32.load(slot), PSEUDO.region), () => found(i32.load(slot, SLOT.c)));
    });
  }

  /** Goes on at `target`, everything stored. */
  private chain(): void {
    const { f } = this;
    this.find(this.target, (place) =>
      f.returnCallIndirect(this.parts.regionType, place, this.target, this.budget, this.depth),
    );
    this.set('pc', this.target);
    f.return(this.budget);
  }

  private tree(node: Node): void {
    const merges = node.children.filter((child) => child.isMerge);
    const body = () => this.within(node, merges.length - 1, merges);
    if (!node.isLoop) return body();
    this.f.loop((again) => {
      this.loops.set(node, again);
      body();
    });
  }

  /** The block itself inside the ends of those that follow it: the last in order outermost. */
  private within(node: Node, i: number, merges: readonly Node[]): void {
    if (i < 0) return this.node(node);
    const next = merges[i]!;
    this.f.block((end) => {
      this.merges.set(next, end);
      this.within(node, i - 1, merges);
    });
    this.known = this.standing[next.order]!;
    this.tree(next);
  }

  /** From a block's end to a place. */
  private go(from: Node, to: Node | undefined, at: number): void {
    const { f } = this;
    if (!to) {
      this.store_(this.registers[from.order]!.dirtyOut);
      f.set(this.target, this.address(at));
      f.br(this.chainLabel);
      return;
    }
    if (from.block.end.kind !== 'call') {
      const own = this.registers[from.order]!;
      const next = this.registers[to.order]!;
      this.store_(storedBetween(own, next));
      this.load_(loadedBetween(own, next));
    }
    const { known } = this;
    const standing = this.standing[to.order]!;
    const live = this.registers[to.order]!.liveIn.x;
    const fresh = { loads: standing.loads & ~known.loads, stores: standing.stores & ~known.stores };
    this.remember({ loads: fresh.loads & live, stores: fresh.stores & live });
    this.forget({ loads: fresh.loads & ~live, stores: fresh.stores & ~live });
    if (to.order <= from.order) f.br(this.loops.get(to)!);
    else if (to.isMerge) f.br(this.merges.get(to)!);
    else {
      if (to.isLoop) this.known = standing;
      this.tree(to);
      this.known = known;
    }
  }

  private node(node: Node): void {
    const { f, budget } = this;
    const { block } = node;
    const own = this.registers[node.order]!;
    if (node.isLoop) {
      f.if(
        i32.ltS(budget, this.worst[node.order]!),
        () => {
          this.set('pc', this.address(block.at));
          this.set32('budget', budget);
          this.leave(own.dirtyIn);
        },
        undefined,
        'unlikely',
      );
    }
    f.set(budget, i32.sub(budget, block.instructions.length));
    this.dirty = own.dirtyIn;
    this.narrow = 0;
    this.floatIsOn = false;
    this.order = node.order;
    this.instructions = block.instructions;
    block.instructions.forEach((i, n) => {
      this.i = i;
      this.behind = block.instructions.length - 1 - n;
      f.scope(() => this.instruction(i, own.effects[n]!.writes));
      this.dirty = union(this.dirty, own.effects[n]!.writes);
      const lost = redefined(i);
      if (lost) this.known = { loads: this.known.loads & ~lost, stores: this.known.stores & ~lost };
    });
    this.end(node);
  }

  /** What a block's successors, or the way out, need of it. */
  private neededBehind({ order, ways }: Node): number {
    const own = this.registers[order]!;
    let x = own.dirtyOut.x;
    for (const way of ways) if (way) x |= this.registers[way.order]!.liveIn.x;
    return x;
  }

  private end(node: Node): void {
    const { f, condition } = this;
    const { end } = node.block;
    const { dirtyOut } = this.registers[node.order]!;
    if (end.kind === 'call' || end.kind === 'return') this.store_(dirtyOut);
    else this.widen(this.neededBehind(node));
    this.narrow = 0;
    switch (end.kind) {
      case 'next':
      case 'jump':
        return this.go(node, node.ways[0], end.to);
      case 'branch': {
        const skipped = this.skipped(node);
        if (skipped) return this.select(condition!, node, skipped);
        f.if(
          condition!,
          () => this.go(node, node.ways[0], end.taken),
          () => this.go(node, node.ways[1], end.next),
        );
        return;
      }
      case 'call': {
        if (end.target !== undefined) f.set(this.target, this.address(end.target));
        const next = node.ways[0];
        if (!next) return f.br(this.chainLabel);
        this.call(next);
        this.known = this.standing[next.order]!;
        this.forget(this.known);
        return this.go(node, next, end.next);
      }
      case 'computed':
        end.targets.forEach((to, n) => {
          const way = node.ways[n];
          if (way) f.if(i64.eq(this.target, this.address(to)), () => this.go(node, way, to));
        });
        this.store_(dirtyOut);
        return f.br(this.chainLabel);
      case 'return':
        this.set('pc', this.target);
        f.return(this.budget);
    }
  }

  /** The few instructions that a branch jumps over, when they do nothing but compute. */
  private skipped(node: Node): Node | undefined {
    const [taken, next] = node.ways;
    if (!taken || !next || next.isMerge || next.isLoop || next.ways[0] !== taken || next.ways.length !== 1)
      return undefined;
    const { instructions, end } = next.block;
    const simple = ({ row, o, effects }: Instruction) =>
      row.pure && row.extension !== 'M' && o.rd !== 0 && !effects.outOfLine;
    const body = end.kind === 'jump' ? instructions.slice(0, -1) : instructions;
    if (end.kind === 'call' || body.length > MAX_SKIPPED || !body.every(simple)) return undefined;
    // What the way around stores and loads must be what the way through does.
    const [own, through, behind] = [node, next, taken].map(({ order }) => this.registers[order]!);
    return own!.held === through!.held && own!.held === behind!.held ? next : undefined;
  }

  /** Does the skipped instructions in any case, and keeps what they give only when the branch falls through. */
  private select(condition: Expr, node: Node, skipped: Node): void {
    const { f, budget } = this;
    const { instructions, end } = skipped.block;
    f.scope(() => {
      const taken = f.let(condition);
      f.set(budget, i32.sub(budget, select(taken, i32.const(0), i32.const(instructions.length))));
      this.keepIf = taken;
      for (const i of instructions) {
        this.i = i;
        if (i.row.pure) f.scope(() => i.row.execute(this));
        const lost = redefined(i);
        if (lost) this.known = { loads: this.known.loads & ~lost, stores: this.known.stores & ~lost };
      }
      this.keepIf = undefined;
    });
    this.go(skipped, node.ways[0], end.kind === 'next' || end.kind === 'jump' ? end.to : 0);
  }

  /** Calls what stands at `target`; falls through to `next` when it has come back there. */
  private call(next: Node): void {
    const { f, target, budget } = this;
    f.block((done) => {
      f.scope(() => {
        f.if(i32.ltU(this.depth, MAX_DEPTH), () => {
          this.find(target, (place) => {
            f.set(budget, f.callIndirect(this.parts.regionType, place, target, budget, i32.add(this.depth, 1)));
            f.br(done);
          });
        });
      });
      this.set('pc', target);
      f.return(budget);
    });
    const back = () => i64.eq(this.get('pc'), this.address(next.block.at));
    f.if(
      i32.ltS(budget, this.worst[next.order]!),
      () => {
        f.if(i32.and(i32.geS(budget, 0), back()), () => {
          this.set32('budget', budget);
          f.return(i32.const(LEFT));
        });
        f.return(budget);
      },
      undefined,
      'unlikely',
    );
    f.if(i32.eqz(back()), () => f.return(budget), undefined, 'unlikely');
    f.set(this.table, this.get32('dataTable'));
    this.refreshFloat();
    this.load_(this.registers[next.order]!.liveIn);
  }

  // Instructions.

  private instruction(i: Instruction, writes: Registers): void {
    this.condition = undefined;
    this.loadedWord = undefined;
    if (isNothing(i)) return;
    if (isOutOfLine(i)) return this.outOfLine(writes);
    if (i.row.pure && i.o.rd === 0) return;
    if (DIVIDES.test(i.row.name)) {
      // Their two arms both read operands and write the result: what is held where has to be the same in both.
      this.widen(i.effects.reads.x);
      this.narrow &= ~i.effects.reads.x;
    }
    if (isFloat(i)) {
      this.requireFloat();
      if (i.row.extension === 'D' && i.row.format === 'FR' && i.o.rs1 === i.o.rs2 && this.moves(i)) return;
    } else if (isBitwise(i.row) && this.staysWord(i)) return;
    i.row.execute(this);
  }

  /** Bits of words stay a word, in which the host's compiler also finds rotations. */
  private staysWord({ row, o }: Instruction): boolean {
    const isWord = (n: number) => n === 0 || (this.narrow & (1 << n)) !== 0;
    const immediate = row.format === 'I';
    if (o.rs1 === 0 || !isWord(o.rs1) || !(immediate || isWord(o.rs2))) return false;
    this.f.set(this.words[o.rd]!, BITWISE[row.name]!(this.rs1w(), immediate ? this.immw() : this.rs2w()));
    this.narrow |= 1 << o.rd;
    return true;
  }

  /** Leaves, so that the interpreter does the instruction, unless floating point is on and dirty: once a block. */
  private requireFloat(): void {
    if (this.floatIsOn) return;
    const { f, narrow } = this;
    f.if(
      i32.eqz(this.floatOn!),
      () => {
        this.set('pc', this.pc());
        this.set32('budget', i32.add(this.budgetBehind(), 1));
        this.leave(this.dirty);
      },
      undefined,
      'unlikely',
    );
    this.narrow = narrow;
    this.floatIsOn = true;
  }

  /** `fmv.d`, `fneg.d` and `fabs.d`: on all bits, NaNs' too. */
  private moves({ row: { name }, o }: Instruction): boolean {
    const value = f64.reinterpret(this.bitsF(o.rs1));
    if (name === 'fsgnj.d') this.fd(this.fs1());
    else if (name === 'fsgnjn.d') this.fd(i64.reinterpret(f64.neg(value)));
    else if (name === 'fsgnjx.d') this.fd(i64.reinterpret(f64.abs(value)));
    else return false;
    return true;
  }

  /** Has the interpreter do the instruction. */
  private outOfLine(writes: Registers): void {
    const { f, parts, i, dirty } = this;
    const { o } = i;
    // A slot, as `decode.ts` makes it.
    const isCsr = i.row.format === 'CSR' || i.row.format === 'CSRI';
    const source = i.row.format === 'CSR' ? o.rs1 : o.imm;
    let a = o.rd * 8;
    let c = (o.rs2 * 8) | ((o.rs3 * 8) << 8) | (o.rm << 16);
    if (isCsr) c = o.csr | (source !== 0 ? 1 << 16 : 0) | (i.row.format === 'CSRI' ? o.imm << 24 : 0);
    else if (i.row.format === 'FL' || i.row.format === 'I') c = o.imm;
    else if (i.row.format === 'FS') {
      a = o.rs2 * 8;
      c = o.imm;
    }
    const low = BigInt((a << 16) | ((o.rs1 * 8) << 24)) & 0xffff_ffffn;
    const slot = i64.const((BigInt(c) << 32n) | low);
    this.store_(dirty);
    const left = f.call(
      parts.outOfLine,
      i32.const(parts.outOfLineOf(i.row)),
      slot,
      this.pc(),
      this.budgetBehind(),
      i32.const(i.length),
    );
    f.if(left, () => this.leave({ x: 0, f: 0 }), undefined, 'unlikely');
    this.load_(writes);
    f.set(this.table, this.get32('dataTable'));
    this.refreshFloat();
    this.floatIsOn = false;
    this.forgetAll();
  }

  /** The budget as the interpreter would have it during this instruction. */
  private budgetBehind(): Expr {
    return i32.add(this.budget, this.behind);
  }

  private refreshFloat(): void {
    const { f, floatOn, floatLimit } = this;
    if (!floatOn) return;
    const on = i64.eq(i64.and(this.get('mstatus'), MSTATUS.FS), i64.const(MSTATUS.FS));
    f.set(floatOn, i32.and(on, i32.leU(this.get32('frm'), 4)));
    const near = i32.and(i32.and(floatOn, i32.eqz(this.get32('frm'))), this.get32('fflags'));
    const { exponent, magnitude } = floatLimit!;
    f.set(exponent, select(near, i32.const(LIMIT), i32.const(0)));
    f.set(magnitude, f64.reinterpret(i64.shl(i64.extendU(exponent), 52)));
  }

  rs1(): Expr {
    return this.i.o.rs1 === 0 ? i64.const(0) : this.read(this.i.o.rs1);
  }
  rs2(): Expr {
    return this.i.o.rs2 === 0 ? i64.const(0) : this.read(this.i.o.rs2);
  }
  private word(n: number): Expr {
    return this.narrow & (1 << n) ? this.words[n]! : i32.wrap(n === 0 ? i64.const(0) : this.local(n));
  }
  rs1w(): Expr {
    return this.word(this.i.o.rs1);
  }
  rs2w(): Expr {
    return this.word(this.i.o.rs2);
  }
  imm(): Expr {
    return i64.const(this.i.o.imm);
  }
  immw(): Expr {
    return i32.const(this.i.o.imm);
  }
  pc(): Expr {
    return this.address(this.i.at);
  }
  next(): Expr {
    return this.address(this.i.at + this.i.length);
  }
  rd(value: Expr): void {
    const { rd } = this.i.o;
    if (rd === 0) return;
    if (this.loadedWord) {
      this.f.set(this.words[rd]!, this.loadedWord);
      this.narrow |= 1 << rd;
      return;
    }
    this.f.set(this.local(rd), this.keepIf ? select(this.keepIf, this.read(rd), value) : value);
    this.narrow &= ~(1 << rd);
  }
  rdw(value: Expr): void {
    const { rd } = this.i.o;
    if (this.keepIf || rd === 0 || !isWord(this.i.row)) return this.rd(i64.extendS(value));
    this.f.set(this.words[rd]!, value);
    this.narrow |= 1 << rd;
  }

  fs1(): Expr {
    return this.bitsF(this.i.o.rs1);
  }
  fs2(): Expr {
    return this.bitsF(this.i.o.rs2);
  }
  fs3(): Expr {
    return this.bitsF(this.i.o.rs3);
  }
  private unbox(value: Expr): Expr {
    return this.f.let(select(i64.eq(i64.shrS(value, 32), -1), i32.wrap(value), i32.const(0x7fc00000)));
  }
  fs1s(): Expr {
    return this.unbox(this.fs1());
  }
  fs2s(): Expr {
    return this.unbox(this.fs2());
  }
  fs3s(): Expr {
    return this.unbox(this.fs3());
  }
  fd(value: Expr): void {
    this.setF(this.i.o.rd, value);
  }
  fds(value: Expr): void {
    this.fd(i64.or(i64.extendU(value), -(1n << 32n)));
  }
  /** Has been looked at before the instruction. */
  needFloat(): void {}
  roundingMode(): Expr {
    return this.i.o.rm === 7 ? this.get32('frm') : i32.const(this.i.o.rm);
  }
  soft(name: string, ...args: Expr[]): Expr {
    const { f, parts } = this;
    const target = parts.soft[name];
    if (!target) throw new TypeError(`no softfloat function ${name}`);
    const takesMode = target.params.length === args.length && args.at(-1)?.type === 'i32';
    const pin = (arg: Expr) => (reinterpreted(arg) instanceof Local ? arg : f.let(arg));
    const pinned = args.map((arg, n) => (takesMode && n === args.length - 1 ? arg : pin(arg)));
    const fast = attempt(name, pinned, parts.host);
    // A number stays the host's until its bits are asked for.
    const number = fast && reinterpreted(fast.result);
    const held = f.local(number?.type ?? target.results[0]!);
    const as = { i32: i32.reinterpret, i64: i64.reinterpret, f32: f32.reinterpret, f64: f64.reinterpret };
    const result = number ? as[target.results[0]!](held) : held;
    const slow = () => {
      const bits = f.call(target, ...pinned);
      f.set(held, number ? as[number.type](bits) : bits);
      this.refreshFloat();
    };
    if (fast) {
      f.set(held, number ?? fast.result);
      f.if(i32.eqz(fast.stands(result, this.floatLimit!)), slow, undefined, 'unlikely');
    } else slow();
    return result;
  }
  raise(): void {
    throw new TypeError('flags are raised by the softfloat library');
  }

  private entryOf(va: Expr): Local {
    return this.f.let(i32.add(this.table, i32.and(i32.shrU(i32.wrap(va), 12 - DATA.shift), DATA_INDEX)));
  }

  /** Whether an entry's tag says that `size` bytes from `va` on lie in its page. */
  private within_(va: Expr, entry: Expr, tag: number, size: number): Expr {
    return i64.ltU(i64.xor(va, i64.load(entry, tag)), 4097 - size);
  }

  /** One look for a group of accesses. */
  private openGroup({ base, low, high, loads, stores }: Group, host: Local): void {
    const { f } = this;
    const va = f.let(i64.add(this.read(base), i64.const(low)));
    const entry = this.entryOf(va);
    const reads = loads ? this.within_(va, entry, DATA.read, high - low) : i32.const(1);
    const writes = stores ? this.within_(va, entry, DATA.write, high - low) : i32.const(1);
    const near = loads && stores ? i32.and(reads, writes) : loads ? reads : writes;
    f.set(host, select(near, i32.add(i32.wrap(va), i32.load(entry, DATA.addend)), i32.const(0)));
  }

  /** Has `access` made at a host address and an offset, or `miss` at a virtual address. */
  private reach(
    size: Size,
    address: Expr,
    tag: number,
    access: (host: Expr, offset: number) => void,
    miss: (va: Expr) => void,
  ): void {
    const { f, i } = this;
    const group = this.groups[this.order]!.get(i);
    if (group) {
      const host = this.hosts[group.base]!;
      if (group.first === i) this.openGroup(group, host);
      f.if(
        host,
        () => access(host, i.o.imm - group.low),
        () => miss(address),
        'likely',
      );
      return;
    }
    const va = f.let(address);
    const bases = baseOf(i);
    if (((this.known.loads & bases.loads) | (this.known.stores & bases.stores)) === 0) {
      const entry = this.entryOf(va);
      f.if(
        this.within_(va, entry, tag, size),
        () => access(i32.add(i32.wrap(va), i32.load(entry, DATA.addend)), 0),
        () => miss(va),
        'likely',
      );
      return;
    }
    const page = this.pages[tag === DATA.read ? i.o.rs1 : i.o.rs1 + 32]!;
    f.block((done) => {
      f.if(
        i64.ne(i64.and(va, -4096 | (size - 1)), page.tag),
        () => {
          const entry = this.entryOf(va);
          f.if(
            i32.eqz(this.within_(va, entry, tag, size)),
            () => {
              miss(va);
              f.br(done);
            },
            undefined,
            'unlikely',
          );
          f.set(page.addend, i32.load(entry, DATA.addend));
          f.set(page.tag, i64.and(va, -4096));
        },
        undefined,
        'unlikely',
      );
      access(i32.add(i32.wrap(va), page.addend), 0);
    });
  }

  load(size: Size, signed: boolean, address: Expr): Expr {
    const { f, i } = this;
    const isF = i.row.format === 'FL';
    const isDouble = isF && this.doubles;
    const asWord = this.wordLoad();
    const held = f.local(isDouble ? 'f64' : asWord ? 'i32' : 'i64');
    const value = isDouble ? i64.reinterpret(held) : asWord ? i64.extendS(held) : held;
    const set = (bits: Expr) => f.set(held, isDouble ? f64.reinterpret(bits) : asWord ? i32.wrap(bits) : bits);
    this.loadedWord = asWord ? held : undefined;
    this.reach(
      size,
      address,
      DATA.read,
      (host, offset) => {
        if (asWord) f.set(held, asWord(host, offset));
        else set(LOADS[size][signed ? 0 : 1](host, offset));
      },
      (va) => {
        const { loadMiss } = this.parts;
        set(f.call(loadMiss, va, i32.const(size), this.pc(), this.budgetBehind(), i32.const(i.length)));
        if (signed && size < 8) set(EXTENDS[size as 1 | 2 | 4](value));
        f.if(this.get32('unwind'), () => {
          f.if(i32.eq(this.get32('unwind'), UNWIND.attention), () => {
            // The load is done: what it writes is written before leaving.
            const { narrow } = this;
            this.loaded(value, size);
            const { x, f: float } = this.dirty;
            this.leave({ x: isF || i.o.rd === 0 ? x : x | (1 << i.o.rd), f: isF ? float | (1 << i.o.rd) : float });
            this.narrow = narrow;
          });
          this.leave(this.dirty);
        });
        this.forgetAll();
      },
    );
    return value;
  }

  /** How to load a word, if the next instruction that reads it takes it as one. */
  private wordLoad(): ((a: Expr, offset?: number) => Expr) | undefined {
    const { row, o } = this.i;
    const load = WORD_LOADS[row.name];
    if (!load) return undefined;
    const bit = 1 << o.rd;
    for (let n = this.instructions.length - this.behind; n < this.instructions.length; n++) {
      const { row: next, effects } = this.instructions[n]!;
      if (effects.reads.x & bit) return isWord(next) || isBitwise(next) ? load : undefined;
      if (effects.writes.x & bit) return undefined;
    }
    return undefined;
  }

  /** What rows of the formats L and FL do with what they have loaded. */
  private loaded(value: Expr, size: Size): void {
    if (this.i.row.format === 'L') this.rd(value);
    else if (size === 8) this.fd(value);
    else this.fds(i32.wrap(value));
  }

  store(size: Size, address: Expr, value: Expr): void {
    const { f, i } = this;
    this.reach(
      size,
      address,
      DATA.write,
      (host, offset) => f.store(size, host, value, offset),
      (va) => {
        const { storeMiss } = this.parts;
        const unwind = f.call(
          storeMiss,
          va,
          i32.const(size),
          value,
          this.pc(),
          this.budgetBehind(),
          i32.const(i.length),
        );
        f.if(unwind, () => this.leave(this.dirty));
        this.forgetAll();
      },
    );
  }

  /** Runs `body` with the host address of an atomic's operand, or has the interpreter do the instruction. */
  private atomic(size: 4 | 8, tag: number, body: (host: Local, entry: Local, va: Local) => void): void {
    const { f, i } = this;
    const va = f.let(this.rs1());
    const entry = this.entryOf(va);
    const { narrow } = this;
    f.if(
      i64.eqz(i64.and(i64.xor(va, i64.load(entry, tag)), -4096 | (size - 1))),
      () => body(f.let(i32.add(i32.wrap(va), i32.load(entry, DATA.addend))), entry, va),
      () => {
        this.narrow = narrow;
        this.outOfLine(i.effects.writes);
      },
      'likely',
    );
  }
  private static loadAtomic(size: 4 | 8, host: Expr): Expr {
    return size === 8 ? i64.load(host) : i64.load32S(host);
  }
  private physical(entry: Expr, va: Expr): Expr {
    return i64.add(i64.or(i64.shl(i64.load32U(entry, DATA.page), 12), i64.and(va, 4095)), RAM_BASE);
  }
  amo(size: 4 | 8, update: (old: Expr) => Expr): void {
    const { f } = this;
    this.atomic(size, DATA.write, (host) => {
      const old = f.let(RegionWriter.loadAtomic(size, host));
      f.store(size, host, f.let(update(old)));
      this.rd(old);
    });
  }
  loadReserved(size: 4 | 8): void {
    this.atomic(size, DATA.read, (host, entry, va) => {
      this.set('reservation', this.physical(entry, va));
      this.rd(RegionWriter.loadAtomic(size, host));
    });
  }
  storeConditional(size: 4 | 8): void {
    const { f } = this;
    this.atomic(size, DATA.write, (host, entry, va) => {
      const success = f.let(i64.eq(this.get('reservation'), this.physical(entry, va)));
      this.set('reservation', i64.const(0));
      f.if(success, () => f.store(size, host, this.rs2()));
      this.rd(i64.extendU(i32.eqz(success)));
    });
  }

  branch(condition: Expr): void {
    this.condition = condition;
  }
  /** The block's end knows where. */
  jump(): void {}
  jumpTo(target: Expr): void {
    this.f.set(this.target, target);
    this.rd(this.next());
  }

  trap(): void {
    throw new TypeError('a row that traps is not translated');
  }
  illegal(): void {
    throw new TypeError('an illegal instruction is not translated');
  }
  /** In an arm that is rarely taken: instructions that always come here are out of line as a whole. */
  system(): void {
    this.outOfLine(this.i.effects.writes);
  }
}

/** Writes the region as the body of a function of type REGION_TYPE. The region has at least one block. */
export function writeRegion(f: Fn, params: readonly Local[], parts: ModuleParts, region: Region): void {
  new RegionWriter(f, params, parts, region).write();
}

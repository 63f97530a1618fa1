/**
 * A worker's engine: the generated code over a pool, and the way from it to the machine that runs.
 *
 * One machine at a time is attached; its harts take turns in the window. Everything in shadow tables and code pages is derived
 * and may be dropped at any time by `dropCaches`.
 */

import { EXIT, type HartField, OFFSET, type ScratchField, STATE_BYTES } from '../hart/state.ts';
import type { Tracer } from '../memory/frame-map.ts';
import {
  AREA,
  CODE_PAGE,
  CSR_NUMBERS,
  DATA,
  ELEMENTS,
  FETCH,
  FRAME_RECORD,
  HAS_CODE,
  MAX_HARTS,
  PAGE,
  RAM_BASE,
  REGION,
  WALKED,
  WATCHED,
  WORKER_AREA,
  WORKER_AREA_SIZE,
} from '../memory/layout.ts';
import { type Pool, PoolFullError } from '../memory/pool.ts';
import type { Ram } from '../memory/ram.ts';
import { POOL_MEMORY } from '../memory/routines.ts';
import { ArmedPlaces, type HostBreakpoints } from './armed.ts';
import { CodePages, frameOf } from './code-pages.ts';
import { SlotDecoder } from './decode.ts';
import { generateInterpreter } from './interpreter.ts';
import { ACCESS, ATOMIC_SIZE } from './library/access.ts';
import { probeFloatHost } from './translator/floats.ts';
import type { CoveredFrame, PortableModule } from './translator/installer.ts';
import {
  NOTHING_TRANSLATED,
  TRANSLATION_LIMITS,
  type TranslationLimits,
  Translator,
  type TranslatorListeners,
  type TranslatorStatistics,
} from './translator/translator.ts';

/**
 * How a hart accesses memory: `update` is to read and write, as an atomic instruction does; `walk`, that the hardware sets flags of a
 * page-table entry.
 */
export type AccessKind = 'read' | 'write' | 'update' | 'fetch' | 'walk';

/** Who hears of accesses to memory. Those that go on where an entry was made are not told again. */
export interface AccessTrace {
  /**
   * `size` bytes are about to be accessed by the hart in the window, all in one page: an access across two is told in two parts, of which
   * the second may trap. 0 where nothing is said of the bytes: for `fetch`, cache block management, and what the monitor reads. The
   * address, in two halves, is virtual; physical for `walk`. `page` is the guest page, -1 for a device: then the mailbox holds the
   * physical address. A conditional store that fails is not told. Says whether an entry may be made: for reading after `read`, for
   * reading and writing at once (`update`) and writing after the others.
   */
  touched(low: number, high: number, page: number, access: AccessKind, size: number): boolean;
}

/** What generated code needs of the machine that is attached. */
/** Units of work, about a nanosecond each, of a page of code made anew, and of making room for some. */
const CODE_PAGE_WORK = 5000;
const EVICTION_WORK = 500_000;

export interface EngineHost {
  readonly ram: Ram;
  readonly harts: number;
  /** True when `ecall` from S-mode is the monitor's. */
  readonly monitorSbi: boolean;
  /** Device registers at a guest-physical address; false for an access fault. The value travels in the window's mailbox. */
  readDevice(address: number, size: number): boolean;
  writeDevice(address: number, size: number): boolean;
  protectionWrite(csr: number): void;
  /** The host has done so many units of work for an instruction, about a nanosecond each. */
  worked(units: number): void;
  monitorCall(): void;
  timerChanged(): void;
  /**
   * A hint of the running hart, whose arguments are in a0 and a1; gives HINT of `hart/state.ts`. `load` asks for the host address of the
   * byte at the address left in the mailbox, which comes with the next call; `host` is 0 in the first one.
   */
  hint(number: number, host: number): number;
  /** Bits of HEARS in `hart/state.ts`: what `systemCall`, and `hint` for replay-only code, are called for. */
  readonly hears: number;
  /** The hart in the window is about to make a system call from U-mode; `standBefore` ends the run there. */
  systemCall(): void;
  /** Something was stored to a frame that `watch` named. */
  watched(): void;
  readonly breakpoints: HostBreakpoints;
  /** Hears of accesses to memory, while it is there. */
  readonly trace: AccessTrace | undefined;
  /** Another machine is about to use the window: takes its hart's state out of it. */
  unload(): void;
}

export interface EngineOptions extends TranslatorListeners {
  /**
   * Translate hot code, within limits; otherwise the interpreter does everything. Nothing that a guest can see depends on it.
   * Default true.
   */
  readonly translate?: boolean | Partial<TranslationLimits>;
  /** Shadow tables of each kind that a hart may have, at most: for tests, as nothing that a guest can see depends on it. */
  readonly tables?: number;
}

/** Why a run came back before its budget was used up. */
export interface RunResult {
  /** Steps made. */
  readonly steps: number;
  /** EXIT value of `hart/state.ts`. */
  readonly exit: number;
  /** What the host threw when a step needed something of it. That step is not made: the next run begins with it. */
  readonly failure: unknown;
}

const KINDS: Readonly<Record<number, AccessKind>> = {
  [ACCESS.load]: 'read',
  [ACCESS.store]: 'write',
  [ACCESS.fetch]: 'fetch',
  [ACCESS.block]: 'read',
  [ACCESS.walk]: 'walk',
};

/** No number of steps that may be left. */
const NO_STEP = 0xffff_ffff;

type Exports = {
  run(budget: number): void;
  selectSpace(): void;
  flushAll(): void;
  dropWriters(frame: number): void;
  dropCode(frame: number): void;
  dropFrame(frame: number): void;
  dropSecond(): void;
  traceStore(address: number, size: number, value: bigint): void;
};

const COUNTERS = [
  'walks',
  'fills',
  'batchFills',
  'switches',
  'hits',
  'creations',
  'drops',
  'flushes',
  'tracedWrites',
  'misses',
  'recalls',
] as const satisfies readonly ScratchField[];
export type EngineCounters = Readonly<Record<(typeof COUNTERS)[number], bigint>>;

/** The address of two halves. */
export const addressOf = (low: number, high: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);

export class Engine implements Tracer {
  readonly pool: Pool;
  private readonly area: number;
  private readonly view: DataView;
  private readonly code: CodePages;
  private readonly armed: ArmedPlaces;
  private readonly translator: Translator | undefined;
  private readonly exports: Exports;
  private readonly tables: number;
  private host: EngineHost | undefined;
  private failure: unknown;

  /** `worker`: which worker area of the pool is this engine's. Compiling takes some tens of milliseconds. */
  constructor(pool: Pool, worker = 0, { translate = true, tables = 2 * ELEMENTS, ...listeners }: EngineOptions = {}) {
    this.pool = pool;
    this.tables = tables;
    this.area = WORKER_AREA + worker * WORKER_AREA_SIZE;
    this.view = new DataView(pool.memory.buffer, this.area, PAGE);
    this.code = new CodePages(pool, this.area);
    this.armed = new ArmedPlaces(pool, this.code);
    const limits = { ...TRANSLATION_LIMITS, ...(typeof translate === 'object' ? translate : {}) };
    const interpreter = generateInterpreter(worker, POOL_MEMORY, limits.hotness);
    pool.bytes.set(interpreter.csrNumbers, CSR_NUMBERS);
    // Until a machine is attached.
    this.divideTables(1);
    const decoder = new SlotDecoder(pool, interpreter, this.armed);
    const attached = () => this.host!;
    const table = new WebAssembly.Table({ element: 'anyfunc', initial: REGION.entries, maximum: REGION.entries });
    // What an instruction that is translated may need. An exception would lose the registers that its region holds.
    const guard =
      (give: (a: number, b: number, c: number, d: number, e: number) => number) =>
      (a: number, b: number, c: number, d: number, e: number): number => {
        try {
          return give(a, b, c, d, e);
        } catch (error) {
          this.fail(error);
          return 0;
        }
      };
    const imports = {
      memory: pool.memory,
      readDevice: guard((low: number, high: number, size: number) =>
        attached().readDevice((high >>> 0) * 2 ** 32 + (low >>> 0), size) ? 0 : 1,
      ),
      writeDevice: guard((low: number, high: number, size: number) =>
        attached().writeDevice((high >>> 0) * 2 ** 32 + (low >>> 0), size) ? 0 : 1,
      ),
      prepareFrame: guard((page: number, write: number) => attached().ram.prepare(page, write !== 0)),
      codePage: guard((frame: number) => this.codePage(frame)),
      decode: (slot: number) => decoder.decode(slot >>> 0),
      decodeAlone: (bits: number, slot: number) => decoder.decodeAlone(bits, slot >>> 0),
      protectionWrite: (csr: number) => attached().protectionWrite(csr),
      monitorCall: guard(() => {
        attached().monitorCall();
        return 0;
      }),
      timerChanged: () => attached().timerChanged(),
      watched: () => attached().watched(),
      hint: guard((number: number, host: number) => attached().hint(number, host >>> 0)),
      systemCall: guard(() => {
        attached().systemCall();
        return 0;
      }),
      table,
      hot: (slot: number, low: number, high: number) => {
        this.translator?.hot(slot >>> 0, (BigInt(high) << 32n) | BigInt(low >>> 0));
      },
      arm: (frame: number, low: number, high: number) =>
        this.armed.arm(frame, attached().breakpoints.offsetsIn(addressOf(low, high) >> 12n)),
      stopsAt: (low: number, high: number) => this.stopsAt(addressOf(low, high)),
      touched: guard((low: number, high: number, page: number, access: number, size: number) => {
        if (size & ATOMIC_SIZE.conditional && !this.reserves(page, low)) return 0;
        const kind = size & ATOMIC_SIZE.update ? 'update' : KINDS[access]!;
        return attached().trace?.touched(low, high, page, kind, size & ATOMIC_SIZE.mask) ? 1 : 0;
      }),
    };
    const module = new WebAssembly.Module(interpreter.bytes);
    const { exports } = new WebAssembly.Instance(module, { host: imports });
    this.exports = exports as unknown as Exports;
    if (!translate) return;
    const { signatures, outOfLineOf } = interpreter;
    const functions = Object.fromEntries(Object.keys(signatures).map((name) => [name, exports[name]]));
    this.translator = new Translator(
      pool,
      this.area,
      decoder,
      this.armed,
      { memory: pool.memory, table, area: this.area, functions, signatures, outOfLineOf, host: probeFloatHost() },
      limits,
      listeners,
    );
  }

  /** Makes a machine the one that runs; what was derived for another is dropped. */
  attach(host: EngineHost): void {
    if (this.host === host) return;
    this.host?.unload();
    this.host = host;
    this.forgetTables();
    this.set('map', BigInt(host.ram.directory));
    this.set('ramPages', BigInt(host.ram.pages));
    this.divideTables(host.harts);
    this.set('monitorSbi', host.monitorSbi ? 1n : 0n);
    this.set('breakpoints', BigInt(host.breakpoints.size));
    this.set('tracing', host.trace ? 1n : 0n);
    this.hearsChanged(host);
  }

  /** A few harts share what is there for many; a hart never needs more than twice its part. None is in use. */
  private divideTables(harts: number): void {
    const each = Math.min(2 * ELEMENTS, Math.floor((MAX_HARTS * ELEMENTS) / harts), this.tables);
    this.set('harts', BigInt(harts));
    this.set('elements', BigInt(each));
  }

  /** No table is in use: what is decoded and translated belongs to frames, and stays. */
  private forgetTables(): void {
    this.pool.words.fill(
      0,
      (this.area + AREA.dataRecords) >>> 2,
      (this.area + AREA.fetchRecords + MAX_HARTS * ELEMENTS * 16) >>> 2,
    );
    this.exports.flushAll();
  }

  /** Ends the attachment of a machine that is going away. */
  detach(host: EngineHost): void {
    if (this.host !== host) return;
    this.forgetTables();
    this.host = undefined;
  }

  /** Whether the hart in the window holds a reservation of an address in a guest page. */
  private reserves(page: number, address: number): boolean {
    return this.get('reservation') === BigInt(RAM_BASE + page * PAGE + (address & (PAGE - 1)));
  }

  /** Forgets every shadow table, because rights changed that they hold. */
  dropShadows(): void {
    this.exports.flushAll();
  }

  /** A machine has more breakpoints than before, or fewer: which frames they lie in is found anew. */
  breakpointsChanged(change: 'more' | 'fewer'): void {
    this.set('breakpoints', BigInt(this.host?.breakpoints.size ?? 0));
    if (change === 'fewer') this.armed.disarm();
    this.exports.flushAll();
  }

  /** A machine's accesses are heard of from now on, or no longer: every page is touched anew. Another one hears when it is attached. */
  traceChanged(host: EngineHost): void {
    if (this.host !== host) return;
    this.set('tracing', host.trace ? 1n : 0n);
    this.exports.flushAll();
  }

  /** A machine's host hears of other things than before. */
  hearsChanged(host: EngineHost): void {
    if (this.host === host) this.set('hears', BigInt(host.hears));
  }

  private codePage(frame: number): number {
    this.host?.worked(CODE_PAGE_WORK);
    let page = this.code.make(frame);
    if (page === 0) {
      this.host?.worked(EVICTION_WORK);
      this.evictCode();
      page = this.code.make(frame);
      if (page === 0) throw new PoolFullError(0, 'code pages for this worker');
    }
    return page;
  }

  /** Makes room for code: what goes is decoded again when it runs. */
  private evictCode(): void {
    const { words } = this.pool;
    const inUse = new Set<number>();
    for (let element = 0; element < MAX_HARTS * ELEMENTS; element++) {
      if (words[(this.area + AREA.fetchRecords + element * 16 + 8) >>> 2] === 0) continue;
      const table = (this.area + AREA.fetchTables + element * FETCH.bytes) >>> 2;
      for (let entry = 0; entry < FETCH.entries; entry++)
        inUse.add(words[table + (entry * FETCH.size + FETCH.code) / 4]!);
    }
    const pages = this.code.pickOldest(inUse);
    this.exports.flushAll();
    this.translator?.installer.drop(new Set(pages));
    this.code.release(pages);
  }

  get(field: HartField | ScratchField): bigint {
    return this.view.getBigUint64(OFFSET[field], true);
  }

  set(field: HartField | ScratchField, value: bigint): void {
    this.view.setBigUint64(OFFSET[field], value, true);
  }

  getX(n: number): bigint {
    return this.view.getBigUint64(8 * n, true);
  }

  setX(n: number, value: bigint): void {
    if (n !== 0) this.view.setBigUint64(8 * n, value, true);
  }

  /** The mailbox of device accesses: low and high word. */
  get mailbox(): readonly [number, number] {
    const at = OFFSET.mailbox;
    return [this.view.getUint32(at, true), this.view.getUint32(at + 4, true)];
  }

  setMailbox(low: number, high: number): void {
    this.view.setUint32(OFFSET.mailbox, low, true);
    this.view.setUint32(OFFSET.mailbox + 4, high, true);
  }

  /** Brings a hart's state into the window, and its tables into use. */
  load(hart: number, state: Uint8Array): void {
    this.pool.bytes.set(state, this.area);
    this.set('hart', BigInt(hart));
    this.exports.selectSpace();
  }

  store(state: Uint8Array): void {
    state.set(this.pool.bytes.subarray(this.area, this.area + STATE_BYTES));
  }

  /** After a change of privilege, satp or mstatus from outside. */
  selectSpace(): void {
    this.exports.selectSpace();
  }

  /** Runs the hart in the window for at most `budget` steps (1 .. 2^30). */
  run(budget: number): RunResult {
    const { view } = this;
    if (!this.code.valid) this.dropCode();
    view.setUint32(OFFSET.exit, 0, true);
    view.setBigUint64(OFFSET.heldBudget, 0n, true);
    view.setUint32(OFFSET.budget, budget, true);
    view.setUint32(OFFSET.cut, 0, true);
    view.setBigUint64(OFFSET.gained, 0n, true);
    view.setUint32(OFFSET.walkStep, NO_STEP, true);
    try {
      this.exports.run(budget);
    } catch (error) {
      this.takeBackWalks();
      throw error;
    }
    const steps = budget - this.cut - this.left;
    view.setUint32(OFFSET.budget, 0, true);
    this.translator?.settle(steps);
    const { failure } = this;
    this.failure = undefined;
    return { steps, exit: view.getUint32(OFFSET.exit, true), failure };
  }

  /** Ends the run before the current instruction, as if it had trapped, but without a trap and without a step. */
  private fail(error: unknown): void {
    this.failure = error;
    this.stopBefore();
  }

  private stopBefore(): void {
    this.takeBackWalks();
    this.attention();
    this.view.setUint32(OFFSET.heldBudget, this.left + 1, true);
    this.set('trapped', 1n);
  }

  /** A step that is not made has not walked: the flags that its walks have set are taken out of the page tables again. */
  private takeBackWalks(): void {
    const { view, area } = this;
    const { words } = this.pool;
    if (view.getUint32(OFFSET.walkStep, true) !== this.left) return;
    for (let n = view.getUint32(OFFSET.walkCount, true) - 1; n >= 0; n--) {
      const note = words[(area + AREA.walked + 4 * n) >>> 2]!;
      const entry = note & ~7;
      const low = entry >>> 2;
      const before = words[low]! & ~((note & WALKED.flags) << WALKED.shift);
      this.exports.traceStore(entry, 8, addressOf(before, words[low + 1]!));
      words[low] = before;
    }
    view.setUint32(OFFSET.walkStep, NO_STEP, true);
  }

  /** From inside a hint or a system call: ends the run before it, as a breakpoint does. */
  standBefore(): void {
    this.set('exit', BigInt(EXIT.breakpoint));
    this.stopBefore();
  }

  /** Before an instruction of the interpreter: ends the run there if the host wants it, and says so. */
  private stopsAt(address: bigint): number {
    try {
      if (!this.host!.breakpoints.stopsAt(address)) return 0;
      this.standBefore();
    } catch (error) {
      this.fail(error);
    }
    return 1;
  }

  /** Steps not yet made of the running budget, from inside a callback of generated code. */
  get left(): number {
    return this.view.getUint32(OFFSET.budget, true) + this.view.getUint32(OFFSET.heldBudget, true);
  }

  /** Steps that pauses have taken off the running budget, so that it ends at the deadline that time has come nearer to. */
  get cut(): number {
    return this.view.getUint32(OFFSET.cut, true);
  }

  /** Steps' worth of guest time that pauses have added in the run under way, or in the last one. */
  get gained(): number {
    return this.view.getUint32(OFFSET.gained, true) + this.view.getUint32(OFFSET.gained + 4, true) * 2 ** 32;
  }

  /** Pauses that the run may still make. */
  get pausesLeft(): number {
    return this.view.getUint32(OFFSET.pausesLeft, true);
  }

  /** Ends the run behind the current instruction. */
  attention(): void {
    const { view } = this;
    const held = view.getUint32(OFFSET.heldBudget, true) + view.getUint32(OFFSET.budget, true);
    view.setUint32(OFFSET.heldBudget, held, true);
    view.setUint32(OFFSET.budget, 0, true);
  }

  /** Has `EngineHost.watched` called after every store of a hart to the frame at a host address. */
  watch(hostAddress: number): void {
    const frame = frameOf(hostAddress);
    this.exports.dropWriters(frame);
    this.pool.words[this.pool.recordWord(frame, FRAME_RECORD.flags)]! |= WATCHED;
  }

  trace(hostAddress: number, size: number): void {
    // In pieces that are no aligned entry, because the value to come is not known here.
    let at = hostAddress;
    const end = hostAddress + size;
    while (at < end) {
      const piece = size === 8 ? 4 : end - at;
      this.exports.traceStore(at, Math.min(piece, end - at), 0n);
      at += piece;
    }
  }

  replaced(frame: number): void {
    this.exports.dropFrame(frame);
  }

  remapped(): void {
    this.exports.flushAll();
  }

  /** Host address of 4 KiB for use between runs. */
  get scratch(): number {
    return this.area + AREA.scratch;
  }

  /** Drops every shadow table and every decoded instruction: nothing that a guest can see changes (I2). */
  dropCaches(): void {
    this.dropCode();
    this.pool.bytes.fill(0, this.area + AREA.straddles, this.area + AREA.dataTables);
  }

  /** Forgets every decoded instruction, and every table that leads there. */
  private dropCode(): void {
    this.exports.flushAll();
    this.translator?.reset();
    this.armed.disarm();
    this.code.drop();
  }

  /** Makes the next store of a machine to every page come through the slow path. Part of taking a hash. */
  dropWriteEntries(host: EngineHost): void {
    if (this.host !== host) return;
    const { words } = this.pool;
    this.exports.dropSecond();
    const tables = (this.area + AREA.dataTables) >>> 2;
    for (let element = 0; element < MAX_HARTS * ELEMENTS; element++) {
      const record = (this.area + AREA.dataRecords + element * 16) >>> 2;
      if (words[record + 2] === 0) continue;
      const table = tables + (element * DATA.bytes) / 4;
      for (let entry = 0; entry < DATA.entries; entry++) {
        const tag = table + (entry * DATA.size + DATA.write) / 4;
        words[tag] = entry === 0 ? 0x1000 : 0;
        words[tag + 1] = 0;
      }
    }
  }

  /**
   * Takes over a module that another worker of the pool has made (`EngineOptions.onModule`), so that it is not compiled again. Between
   * runs. Left out are regions of frames whose code has changed since, and those that this worker has already or has no room for;
   * returns how many are not. Cost: an instance, and decoding what the regions cover.
   */
  install(module: PortableModule): number {
    const { translator } = this;
    if (!translator) return 0;
    if (!this.code.valid) this.dropCode();
    const pages = module.regions.map(({ own, second, head, places }) => {
      const ownPage = this.codePageFor(own);
      const secondPage = second ? this.codePageFor(second) : 0;
      if (ownPage === 0 || (second && secondPage === 0) || translator.installer.leads(ownPage, head)) return undefined;
      const frameAt = (at: number) => (at >= 0 && at < PAGE ? own : second!).frame;
      if (places.some((at) => this.armed.has(frameAt(at), at & (PAGE - 1)))) return undefined;
      return { own: ownPage, second: secondPage };
    });
    const count = translator.installer.install(module, pages);
    translator.statistics.received += count;
    return count;
  }

  /** The code page of a frame that still holds the code it had, or 0. */
  private codePageFor({ frame, generation }: CoveredFrame): number {
    const { words } = this.pool;
    const flags = words[this.pool.recordWord(frame, FRAME_RECORD.flags)]!;
    const now = words[this.pool.recordWord(frame, FRAME_RECORD.generation)]!;
    if ((flags & HAS_CODE) === 0 || now !== generation) return 0;
    const page = this.code.of(frame) || this.code.make(frame);
    return page !== 0 && words[(page + CODE_PAGE.generation) >>> 2] === generation ? page : 0;
  }

  /** What has been translated; zeros where nothing ever is. */
  get translation(): Readonly<TranslatorStatistics> {
    return this.translator?.statistics ?? NOTHING_TRANSLATED;
  }

  get counters(): EngineCounters {
    return Object.fromEntries(COUNTERS.map((name) => [name, this.get(name)])) as EngineCounters;
  }

  /** False while a technique is turned off: then a machine may differ from what it would be, and is for benchmarks only. */
  get exact(): boolean {
    return this.get('disabled') === 0n;
  }

  /** Bits of DISABLE in `hart/state.ts`; for benchmarks only. */
  disable(techniques: number): void {
    this.set('disabled', BigInt(techniques));
    this.dropShadows();
  }
}

/**
 * The translator of a worker: what is hot becomes regions, a batch of them one module, and the modules stay within bounds.
 *
 * A region is entered through the slot of its first instruction, so what drops the slot (a store to the code, a frame that is
 * freed, an arena that is full) makes the region unreachable at once; all else here is about getting memory back. The oldest
 * modules go first. No translated code is under way while this runs: it is called from the interpreter, or between runs.
 */

import { OFFSET } from '../../hart/state.ts';
import { AREA, CODE_PAGE, CODE_PAGES, CODE_PAGES_END, FETCH, HEAT, PAGE, REGION } from '../../memory/layout.ts';
import type { Pool } from '../../memory/pool.ts';
import type { SlotDecoder } from '../decode.ts';
import { PSEUDO, SLOT } from '../slot.ts';
import { type CompiledModule, generateModule, type RegionImports } from './module.ts';
import { type CodePage, findRegion, type Region, type Surroundings } from './region.ts';

export interface TranslationLimits {
  /**
   * Arrivals at a place until it is translated, at most 32,000; a return or a trap counts half. Making a region costs some
   * milliseconds on both cores, and saves some nanoseconds an arrival.
   */
  readonly hotness: number;
  /** Steps after which arrivals count half: what is seldom arrived at never becomes hot, however long the machine runs. */
  readonly halfLife: number;
  /** Regions of a module, at most: compiling one costs as much as ten more. */
  readonly batch: number;
  /** Guest instructions after which the guest may go on before more are translated: some milliseconds. */
  readonly slice: number;
  /** Runs that a hot place waits for company. */
  readonly patience: number;
  /** Bytes of WebAssembly of all modules; the host's machine code is several times as large. */
  readonly bytes: number;
}

export const TRANSLATION_LIMITS: TranslationLimits = {
  hotness: 4000,
  halfLife: 100_000_000,
  batch: 12,
  slice: 350,
  patience: 12,
  bytes: 40 * 2 ** 20,
};

/** The first slice, and how much longer each is than the one before: at first the translator itself is code that has never run. */
const SLICE_GROWTH = 60;

interface Wanted {
  readonly slot: number;
  readonly pages: Surroundings;
  /** Versions of own, before, behind. */
  readonly versions: readonly number[];
}

interface Installed {
  readonly first: number;
  readonly regions: readonly InstalledRegion[];
  readonly bytes: number;
}

interface InstalledRegion {
  /** Address of the slot that leads to it; 0 once it is gone. */
  slot: number;
  /** Code pages that it covers; the second is 0 without one. */
  readonly pages: readonly [number, number];
}

export interface TranslatorStatistics {
  /** Since the engine was made: regions, their guest instructions, modules and bytes of WebAssembly. */
  regions: number;
  instructions: number;
  modules: number;
  bytes: number;
  /** Regions given up for lack of room. */
  evicted: number;
}

export const NOTHING_TRANSLATED: Readonly<TranslatorStatistics> = {
  regions: 0,
  instructions: 0,
  modules: 0,
  bytes: 0,
  evicted: 0,
};

/** Told when work of translation begins and ends on the thread that runs the machine. */
export type CompileListener = (phase: 'begin' | 'end') => void;

export class Translator {
  readonly statistics: TranslatorStatistics = { ...NOTHING_TRANSLATED };
  private readonly pool: Pool;
  private readonly area: number;
  private readonly decoder: SlotDecoder;
  private readonly imports: RegionImports;
  private readonly limits: TranslationLimits;
  private readonly listener: CompileListener | undefined;
  private readonly wanted = new Map<number, Wanted>();
  private waited = 0;
  /** Steps since arrivals were last halved. */
  private steps = 0;
  /** Oldest first. */
  private modules: Installed[] = [];
  private bytes = 0;
  private nextPlace = 0;

  constructor(
    pool: Pool,
    area: number,
    decoder: SlotDecoder,
    imports: RegionImports,
    limits: TranslationLimits,
    listener: CompileListener | undefined,
  ) {
    this.limits = limits;
    this.pool = pool;
    this.area = area;
    this.decoder = decoder;
    this.imports = imports;
    this.listener = listener;
  }

  private pageOf(code: number): CodePage {
    return { frame: this.pool.words[(code + CODE_PAGE.frame) >>> 2]!, code };
  }

  /** What the hart that runs has fetched from at an address, if it has. */
  private mapped(va: bigint): CodePage | undefined {
    const { words } = this.pool;
    const table = words[(this.area + OFFSET.fetchTable) >>> 2]!;
    const index = Number((va >> 12n) & BigInt(FETCH.entries - 1));
    const entry = (table + (index << FETCH.shift)) >>> 2;
    const page = BigInt.asUintN(64, va) & ~4095n;
    const tag = BigInt(words[entry]!) | (BigInt(words[entry + 1]!) << 32n);
    return tag === page ? this.pageOf(words[entry + FETCH.code / 4]!) : undefined;
  }

  private versions({ own, before, behind }: Surroundings): number[] {
    return [own, before, behind].map((page) => (page ? this.pool.words[(page.code + CODE_PAGE.version) >>> 2]! : 0));
  }

  /** The code at a slot, which runs at `va`, is often arrived at. */
  hot(slot: number, va: bigint): void {
    const { pool, wanted } = this;
    if (slot < CODE_PAGES || slot >= CODE_PAGES_END || wanted.has(slot)) return;
    const code = slot - ((slot - CODE_PAGES) % CODE_PAGE.size);
    // What is new here may lie across two pages, and then cannot begin a region.
    if (pool.words[slot >>> 2] === 0) this.decoder.decode(slot);
    const handler = pool.halves[slot >>> 1]!;
    if (handler === PSEUDO.region || handler === PSEUDO.straddle || slot >= code + CODE_PAGE.sentinel) return;
    const pages = {
      own: this.pageOf(code),
      before: this.mapped(va - BigInt(PAGE)),
      behind: this.mapped(va + BigInt(PAGE)),
      address: Number(BigInt.asIntN(32, va & ~4095n)),
      area: this.area,
    };
    wanted.set(slot, { slot, pages, versions: this.versions(pages) });
    if (wanted.size >= this.limits.batch) this.translate();
  }

  /** A run of the engine is over, which made so many steps. */
  settle(steps: number): void {
    this.steps += steps;
    if (this.steps >= this.limits.halfLife) this.cool();
    if (this.wanted.size === 0 || ++this.waited < this.limits.patience) return;
    this.translate();
  }

  private cool(): void {
    const { words } = this.pool;
    this.steps = 0;
    const first = (this.area + AREA.heat) >>> 2;
    for (let n = first; n < first + HEAT.entries / 2; n++) words[n] = (words[n]! >>> 1) & 0x7fff_7fff;
  }

  private translate(): void {
    const { wanted, pool, imports, statistics } = this;
    this.waited = 0;
    this.listener?.('begin');
    const found: { want: Wanted; region: Region }[] = [];
    const slice = Math.min(this.limits.slice, SLICE_GROWTH * (statistics.modules + 1));
    let size = 0;
    for (const [slot, want] of wanted) {
      if (size >= slice) break;
      wanted.delete(slot);
      const now = this.versions(want.pages);
      if (want.versions.some((version, i) => version !== now[i])) continue;
      const offset = ((want.slot - want.pages.own.code) / SLOT.size) * 2;
      const region = findRegion(pool, want.pages, offset);
      if (region.blocks.size === 0) continue;
      found.push({ want, region });
      size += region.size;
    }
    // What is left over has waited long enough.
    if (wanted.size > 0) this.waited = this.limits.patience;
    if (found.length > 0) {
      const compiled = generateModule(
        found.map(({ region }) => region),
        imports,
      );
      this.install(compiled, found);
      statistics.modules++;
      statistics.regions += found.length;
      statistics.bytes += compiled.bytes.length;
      for (const { region } of found) statistics.instructions += region.size;
    }
    this.listener?.('end');
  }

  /** Places for `count` regions in a row, from which whatever stood there is gone. */
  private makeRoom(count: number, bytes: number): number {
    if (this.nextPlace + count > REGION.entries) this.nextPlace = 0;
    const first = this.nextPlace;
    const overlaps = (old: Installed) => old.first < first + count && first < old.first + old.regions.length;
    while (this.modules.length && (overlaps(this.modules[0]!) || this.bytes + bytes > this.limits.bytes)) this.evict();
    this.nextPlace = first + count;
    return first;
  }

  private evict(): void {
    const old = this.modules.shift()!;
    this.bytes -= old.bytes;
    for (let n = 0; n < old.regions.length; n++) this.uninstall(old, n);
  }

  private uninstall({ first, regions }: Installed, n: number): void {
    const { pool, imports } = this;
    const place = first + n;
    const { slot } = regions[n]!;
    regions[n]!.slot = 0;
    if (slot === 0) return;
    imports.table.set(place, null);
    if (pool.words[slot >>> 2] !== PSEUDO.region || pool.words[(slot + SLOT.c) >>> 2] !== place) return;
    pool.words[slot >>> 2] = 0;
    this.decoder.decode(slot);
    this.statistics.evicted++;
  }

  /** Gives up all regions that cover any of these code pages, which are about to be another frame's. */
  drop(pages: ReadonlySet<number>): void {
    this.modules = this.modules.filter((module) => {
      const { regions, bytes } = module;
      for (const [n, region] of regions.entries()) {
        if (region.pages.some((page) => pages.has(page))) this.uninstall(module, n);
      }
      if (regions.some(({ slot }) => slot !== 0)) return true;
      this.bytes -= bytes;
      return false;
    });
  }

  private install(compiled: CompiledModule, found: readonly { want: Wanted; region: Region }[]): void {
    const { pool, decoder } = this;
    const first = this.makeRoom(found.length, compiled.bytes.length);
    const regions: InstalledRegion[] = [];
    compiled.instantiate(first);
    for (const [n, { want, region }] of found.entries()) {
      const { slot, pages } = want;
      const place = first + n;
      const record = this.area + AREA.regions + place * REGION.size;
      const head = region.blocks.get(region.head)!.instructions[0]!;
      decoder.decodeAlone(head.bits, record);
      const second = region.second === 1 ? pages.behind : region.second === -1 ? pages.before : undefined;
      pool.words[(record + REGION.page) >>> 2] = second?.code ?? 0;
      pool.words[(record + REGION.version) >>> 2] = second ? pool.words[(second.code + CODE_PAGE.version) >>> 2]! : 0;
      this.decodeAll(region, pages);
      // The slot loses its operands, so nobody before it may do its work.
      for (const length of [1, 2]) {
        const before = slot - length * SLOT.size;
        if (before >= pages.own.code) decoder.separate(before);
      }
      pool.words[slot >>> 2] = PSEUDO.region;
      pool.words[(slot + SLOT.c) >>> 2] = place;
      regions.push({ slot, pages: [pages.own.code, second?.code ?? 0] });
    }
    this.modules.push({ first, regions, bytes: compiled.bytes.length });
    this.bytes += compiled.bytes.length;
  }

  /** A store sees by what is decoded whether it changes code: so all that the region is made of has to be. */
  private decodeAll({ blocks }: Region, { own, before, behind }: Surroundings): void {
    const decode = (at: number) => {
      const page = at < 0 ? before! : at < PAGE ? own : behind!;
      const slot = page.code + (at & (PAGE - 1)) * (SLOT.size / 2);
      if (this.pool.words[slot >>> 2] === 0) this.decoder.decode(slot);
    };
    for (const { instructions } of blocks.values()) {
      for (const { at, length } of instructions) {
        decode(at);
        if (length === 4 && ((at + 2) & (PAGE - 1)) === 0) decode(at + 2);
      }
    }
  }

  /** Forgets every translation, because all code pages go: the slots that led there are not this worker's any more. */
  reset(): void {
    this.wanted.clear();
    for (const { first, regions } of this.modules) {
      for (let n = 0; n < regions.length; n++) this.imports.table.set(first + n, null);
    }
    this.modules = [];
    this.bytes = 0;
  }
}

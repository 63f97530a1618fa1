/**
 * The translator of a worker: what is hot becomes regions, a batch of them one module, and the modules stay within bounds.
 *
 * A region is entered through the slot of its first instruction, so what drops the slot (a store to the code, a frame that is
 * freed, an arena that is full) makes the region unreachable at once; all else here is about getting memory back. The oldest
 * modules go first. No translated code is under way while this runs: it is called from the interpreter, or between runs.
 */

import { OFFSET } from '../../hart/state.ts';
import { AREA, CODE_PAGE, CODE_PAGES, CODE_PAGES_END, FETCH, PAGE, REGION } from '../../memory/layout.ts';
import type { Pool } from '../../memory/pool.ts';
import type { SlotDecoder } from '../decode.ts';
import { PSEUDO, SLOT } from '../slot.ts';
import type { CodeHost } from './module.ts';
import type { CodePage, Surroundings } from './region.ts';
import {
  type TranslatedRegion,
  type Translation,
  type TranslationRequest,
  type TranslationService,
  translateBatch,
} from './service.ts';

/** What regions are instantiated with on a worker. */
export interface WorkerImports {
  readonly memory: WebAssembly.Memory;
  readonly table: WebAssembly.Table;
  /** Address of the worker's area. */
  readonly area: number;
  /** Functions of the interpreter's module by name: the bridge and the softfloat library. */
  readonly functions: Readonly<Record<string, unknown>>;
}

export interface TranslationLimits {
  /** Arrivals at a place until it is translated, times 8. */
  readonly hotness: number;
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
  hotness: 8 * 3000,
  batch: 12,
  slice: 600,
  patience: 12,
  bytes: 40 * 2 ** 20,
};

interface Wanted extends TranslationRequest {
  readonly slot: number;
  /** Versions of own, before, behind. */
  readonly versions: readonly number[];
}

interface Installed {
  readonly first: number;
  /** Addresses of the slots that lead to the regions. */
  readonly slots: readonly number[];
  readonly bytes: number;
}

/** What is different where a thread of its own does the work, which then costs the guest next to nothing. */
export const SERVED_LIMITS: Partial<TranslationLimits> = { hotness: 8 * 300, patience: 2 };

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
  private readonly imports: WorkerImports;
  private readonly code: CodeHost;
  private readonly service: TranslationService | undefined;
  private readonly limits: TranslationLimits;
  private readonly listener: CompileListener | undefined;
  private readonly wanted = new Map<number, Wanted>();
  /** Slots that the service is at work on, and what it was asked, by the batch. */
  private readonly underWay = new Set<number>();
  private readonly asked = new Map<number, readonly Wanted[]>();
  private nextBatch = 0;
  private waited = 0;
  /** Oldest first. */
  private readonly modules: Installed[] = [];
  private bytes = 0;
  private nextPlace = 0;

  constructor(
    pool: Pool,
    area: number,
    decoder: SlotDecoder,
    imports: WorkerImports,
    code: CodeHost,
    service: TranslationService | undefined,
    limits: TranslationLimits,
    listener: CompileListener | undefined,
  ) {
    this.limits = limits;
    this.pool = pool;
    this.area = area;
    this.decoder = decoder;
    this.imports = imports;
    this.code = code;
    this.service = service;
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
    if (slot < CODE_PAGES || slot >= CODE_PAGES_END || wanted.has(slot) || this.underWay.has(slot)) return;
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
    const head = ((slot - code) / SLOT.size) * 2;
    wanted.set(slot, { slot, head, pages, versions: this.versions(pages) });
    if (wanted.size >= this.limits.batch) this.translate();
  }

  /** A run of the engine is over. */
  settle(): void {
    if (this.asked.size > 0) this.takeReplies();
    if (this.wanted.size === 0 || ++this.waited < this.limits.patience) return;
    this.translate();
  }

  private takeReplies(): void {
    for (const { batch, translation } of this.service!.take()) {
      const requests = this.asked.get(batch);
      if (!requests) continue;
      this.asked.delete(batch);
      for (const { slot } of requests) this.underWay.delete(slot);
      if (!translation) continue;
      this.listener?.('begin');
      this.install(translation, requests);
      this.listener?.('end');
    }
  }

  private translate(): void {
    const { wanted, service } = this;
    this.waited = 0;
    const requests = [...wanted.values()];
    if (service) {
      wanted.clear();
      const batch = this.nextBatch++;
      this.asked.set(batch, requests);
      for (const { slot } of requests) this.underWay.add(slot);
      service.request(
        batch,
        requests.map(({ head, pages }) => ({ head, pages })),
      );
      return;
    }
    this.listener?.('begin');
    const { done, translation } = translateBatch(this.pool, requests, this.code, this.limits.slice);
    for (const { slot } of requests.slice(0, done)) wanted.delete(slot);
    // What is left over has waited long enough.
    if (wanted.size > 0) this.waited = this.limits.patience;
    if (translation) this.install(translation, requests);
    this.listener?.('end');
  }

  /** Places for `count` regions in a row, from which whatever stood there is gone. */
  private makeRoom(count: number, bytes: number): number {
    if (this.nextPlace + count > REGION.entries) this.nextPlace = 0;
    const first = this.nextPlace;
    const overlaps = (old: Installed) => old.first < first + count && first < old.first + old.slots.length;
    while (this.modules.length && (overlaps(this.modules[0]!) || this.bytes + bytes > this.limits.bytes)) this.evict();
    this.nextPlace = first + count;
    return first;
  }

  private evict(): void {
    const { pool, imports } = this;
    const old = this.modules.shift()!;
    this.bytes -= old.bytes;
    old.slots.forEach((slot, n) => {
      const place = old.first + n;
      imports.table.set(place, null);
      if (pool.words[slot >>> 2] !== PSEUDO.region || pool.words[(slot + SLOT.c) >>> 2] !== place) return;
      pool.words[slot >>> 2] = 0;
      this.decoder.decode(slot);
      this.statistics.evicted++;
    });
  }

  /** Whether the code is what it was when it was found hot. */
  private isCurrent({ pages, versions }: Wanted): boolean {
    const now = this.versions(pages);
    return versions.every((version, i) => version === now[i]);
  }

  /** Whether a region was made of what stands there: versions tell of what was decoded, and not all of it was. */
  private isSame(code: readonly number[], { own, before, behind }: Surroundings): boolean {
    for (let n = 0; n < code.length; n += 2) {
      const at = code[n]!;
      const page = at < 0 ? before! : at < PAGE ? own : behind!;
      if (this.pool.halves[(page.frame * PAGE + (at & (PAGE - 1))) >>> 1] !== code[n + 1]) return false;
    }
    return true;
  }

  private install({ module, bytes, regions }: Translation, requests: readonly Wanted[]): void {
    const { statistics, imports } = this;
    const first = this.makeRoom(regions.length, bytes);
    const { memory, table, area, functions } = imports;
    const host = { ...functions, memory, table, area, place: first } as WebAssembly.ModuleImports;
    new WebAssembly.Instance(module, { host });
    for (const [n, region] of regions.entries()) {
      const want = requests[region.request]!;
      if (this.isCurrent(want) && this.isSame(region.code, want.pages)) this.lead(want, region, first + n);
    }
    this.modules.push({ first, slots: regions.map(({ request }) => requests[request]!.slot), bytes });
    this.bytes += bytes;
    statistics.modules++;
    statistics.regions += regions.length;
    statistics.bytes += bytes;
    for (const { size } of regions) statistics.instructions += size;
  }

  /** Has a slot lead to a region. */
  private lead({ slot, pages }: Wanted, region: TranslatedRegion, place: number): void {
    const { pool, decoder } = this;
    const record = this.area + AREA.regions + place * REGION.size;
    decoder.decodeAlone(region.bits, record);
    const second = region.second === 1 ? pages.behind : region.second === -1 ? pages.before : undefined;
    pool.words[(record + REGION.page) >>> 2] = second?.code ?? 0;
    pool.words[(record + REGION.version) >>> 2] = second ? pool.words[(second.code + CODE_PAGE.version) >>> 2]! : 0;
    this.decodeAll(region.places, pages);
    // The slot loses its operands, so nobody before it may do its work.
    for (const length of [1, 2]) {
      const before = slot - length * SLOT.size;
      if (before >= pages.own.code) decoder.separate(before);
    }
    pool.words[slot >>> 2] = PSEUDO.region;
    pool.words[(slot + SLOT.c) >>> 2] = place;
  }

  /** A store sees by what is decoded whether it changes code: so all that the region is made of has to be. */
  private decodeAll(places: readonly number[], { own, before, behind }: Surroundings): void {
    for (const at of places) {
      const page = at < 0 ? before! : at < PAGE ? own : behind!;
      const slot = page.code + (at & (PAGE - 1)) * (SLOT.size / 2);
      if (this.pool.words[slot >>> 2] === 0) this.decoder.decode(slot);
    }
  }

  /** Forgets every translation, because all code pages go: the slots that led there are not this worker's any more. */
  reset(): void {
    this.wanted.clear();
    this.underWay.clear();
    this.asked.clear();
    for (const { first, slots } of this.modules) {
      for (let n = 0; n < slots.length; n++) this.imports.table.set(first + n, null);
    }
    this.modules.length = 0;
    this.bytes = 0;
  }
}

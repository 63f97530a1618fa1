/**
 * The translator of a worker: what is hot becomes regions, and a batch of them one module. No translated code is under way while
 * this runs: it is called from the interpreter, or between runs.
 */

import { OFFSET } from '../../hart/state.ts';
import { AREA, CODE_PAGE, CODE_PAGES, CODE_PAGES_END, FETCH, HEAT, PAGE } from '../../memory/layout.ts';
import type { Pool } from '../../memory/pool.ts';
import type { ArmedPlaces } from '../armed.ts';
import type { SlotDecoder } from '../decode.ts';
import { PSEUDO, SLOT } from '../slot.ts';
import { type CoveredFrame, Installer, type PortableModule, type PortableRegion } from './installer.ts';
import { encodeRegions, type RegionImports } from './module.ts';
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

/** What no region begins at: another one, an instruction across two pages, a place where the host is asked. */
const NO_HEADS: ReadonlySet<number> = new Set([PSEUDO.region, PSEUDO.straddle, PSEUDO.armed]);

/** The first slice, and how much longer each is than the one before: at first the translator itself is code that has never run. */
const SLICE_GROWTH = 60;

interface Wanted {
  readonly slot: number;
  readonly pages: Surroundings;
  /** Versions of own, before, behind. */
  readonly versions: readonly number[];
}

export interface TranslatorStatistics {
  /** Since the engine was made: regions, their guest instructions, modules and bytes of WebAssembly. */
  regions: number;
  instructions: number;
  modules: number;
  bytes: number;
  /** Regions of other workers' modules. */
  received: number;
  /** Regions given up for lack of room. */
  evicted: number;
}

export const NOTHING_TRANSLATED: Readonly<TranslatorStatistics> = {
  regions: 0,
  instructions: 0,
  modules: 0,
  bytes: 0,
  received: 0,
  evicted: 0,
};

export interface TranslatorListeners {
  /** Told when work of translation begins and ends on the thread that runs the machine. */
  readonly onCompile?: ((phase: 'begin' | 'end') => void) | undefined;
  /** Told of each module that was made: other workers of the pool may install it. */
  readonly onModule?: ((module: PortableModule) => void) | undefined;
}

export class Translator {
  readonly statistics: TranslatorStatistics = { ...NOTHING_TRANSLATED };
  readonly installer: Installer;
  private readonly pool: Pool;
  private readonly area: number;
  private readonly decoder: SlotDecoder;
  private readonly armed: ArmedPlaces;
  private readonly imports: RegionImports;
  private readonly limits: TranslationLimits;
  private readonly listeners: TranslatorListeners;
  private readonly wanted = new Map<number, Wanted>();
  private waited = 0;
  /** Steps since arrivals were last halved. */
  private steps = 0;

  constructor(
    pool: Pool,
    area: number,
    decoder: SlotDecoder,
    armed: ArmedPlaces,
    imports: RegionImports,
    limits: TranslationLimits,
    listeners: TranslatorListeners,
  ) {
    this.installer = new Installer(pool, area, decoder, imports, limits.bytes, this.statistics);
    this.limits = limits;
    this.pool = pool;
    this.area = area;
    this.decoder = decoder;
    this.armed = armed;
    this.imports = imports;
    this.listeners = listeners;
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
    if (NO_HEADS.has(handler) || slot >= code + CODE_PAGE.sentinel) return;
    const pages = {
      own: this.pageOf(code),
      before: this.mapped(va - BigInt(PAGE)),
      behind: this.mapped(va + BigInt(PAGE)),
      address: Number(BigInt.asIntN(32, va & ~4095n)),
      area: this.area,
      armed: this.armed,
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
    this.listeners.onCompile?.('begin');
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
      const bytes = encodeRegions(
        found.map(({ region }) => region),
        imports,
      );
      const module: PortableModule = {
        module: new WebAssembly.Module(bytes),
        bytes: bytes.length,
        regions: found.map(({ want, region }) => describe(pool, want, region)),
      };
      this.installer.install(
        module,
        found.map(({ want: { pages }, region: { second } }) => ({
          own: pages.own.code,
          second: (second === 1 ? pages.behind : second === -1 ? pages.before : undefined)?.code ?? 0,
        })),
      );
      statistics.modules++;
      statistics.regions += found.length;
      statistics.bytes += bytes.length;
      for (const { region } of found) statistics.instructions += region.size;
      this.listeners.onModule?.(module);
    }
    this.listeners.onCompile?.('end');
  }

  /** Forgets every translation, because all code pages go: the slots that led there are not this worker's any more. */
  reset(): void {
    this.wanted.clear();
    this.installer.reset();
  }
}

/** What a region covers, for those who do not know how it was found. */
function describe(pool: Pool, { pages: { own, before, behind } }: Wanted, region: Region): PortableRegion {
  const covered = ({ frame, code }: CodePage): CoveredFrame => ({
    frame,
    generation: pool.words[(code + CODE_PAGE.generation) >>> 2]!,
  });
  const second = region.second === 1 ? behind : region.second === -1 ? before : undefined;
  const places: number[] = [];
  for (const { instructions } of region.blocks.values()) {
    for (const { at, length } of instructions) {
      places.push(at);
      if (length === 4 && ((at + 2) & (PAGE - 1)) === 0) places.push(at + 2);
    }
  }
  return {
    own: covered(own),
    second: second && covered(second),
    head: region.head,
    bits: region.blocks.get(region.head)!.instructions[0]!.bits,
    places,
  };
}

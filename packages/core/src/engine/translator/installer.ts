/**
 * Which regions a worker has, from modules of its own or of other workers, within bounds.
 *
 * A region is entered through the slot of its first instruction, so what drops the slot (a store to the code, a frame that is
 * freed, an arena that is full) makes the region unreachable at once; all else here is about getting memory back. The oldest
 * modules go first. No translated code is under way while this runs.
 */

import { AREA, CODE_PAGE, PAGE, REGION } from '../../memory/layout.ts';
import type { Pool } from '../../memory/pool.ts';
import type { SlotDecoder } from '../decode.ts';
import { PSEUDO, SLOT } from '../slot.ts';
import { instantiate, type RegionImports } from './module.ts';
import type { TranslatorStatistics } from './translator.ts';

/** A frame of the pool, and the generation of its bytes. */
export interface CoveredFrame {
  readonly frame: number;
  readonly generation: number;
}

/** A region as any worker of the pool can use it, as long as the frames' generations are what they were. */
export interface PortableRegion {
  readonly own: CoveredFrame;
  /** Its other page, before its own or behind it. */
  readonly second: CoveredFrame | undefined;
  /** Offset of the first instruction in its page, and the instruction. */
  readonly head: number;
  readonly bits: number;
  /** Offsets of all that it is made of, from the start of its own page. */
  readonly places: readonly number[];
}

/** A module of regions; may be posted to other threads. */
export interface PortableModule {
  readonly module: WebAssembly.Module;
  /** Length of its WebAssembly. */
  readonly bytes: number;
  readonly regions: readonly PortableRegion[];
}

/** The worker's code pages for a region's frames; `second` is 0 without one. */
export interface RegionPages {
  readonly own: number;
  readonly second: number;
}

interface Installed {
  readonly first: number;
  readonly regions: readonly InstalledRegion[];
  readonly bytes: number;
}

interface InstalledRegion {
  /** Address of the slot that leads to it; 0 once it is gone. */
  slot: number;
  readonly pages: RegionPages;
}

export class Installer {
  private readonly pool: Pool;
  private readonly area: number;
  private readonly decoder: SlotDecoder;
  private readonly imports: RegionImports;
  private readonly maxBytes: number;
  private readonly statistics: TranslatorStatistics;
  /** Oldest first. */
  private modules: Installed[] = [];
  private bytes = 0;
  private nextPlace = 0;

  constructor(
    pool: Pool,
    area: number,
    decoder: SlotDecoder,
    imports: RegionImports,
    maxBytes: number,
    statistics: TranslatorStatistics,
  ) {
    this.pool = pool;
    this.area = area;
    this.decoder = decoder;
    this.imports = imports;
    this.maxBytes = maxBytes;
    this.statistics = statistics;
  }

  /** Makes a module's regions reachable, but for those without pages; returns how many. */
  install({ module, bytes, regions }: PortableModule, pages: readonly (RegionPages | undefined)[]): number {
    if (!pages.some((some) => some)) return 0;
    const first = this.makeRoom(regions.length, bytes);
    instantiate(module, this.imports, first);
    const installed = regions.map((region, n) => {
      const some = pages[n];
      if (some) return { slot: this.lead(region, some, first + n), pages: some };
      this.imports.table.set(first + n, null);
      return { slot: 0, pages: { own: 0, second: 0 } };
    });
    this.modules.push({ first, regions: installed, bytes });
    this.bytes += bytes;
    return pages.filter((some) => some).length;
  }

  /** Has the slot of a region's first instruction lead to its place; returns the slot. */
  private lead({ head, bits, places }: PortableRegion, { own, second }: RegionPages, place: number): number {
    const { pool, decoder } = this;
    const slot = own + head * (SLOT.size / 2);
    const record = this.area + AREA.regions + place * REGION.size;
    decoder.decodeAlone(bits, record);
    pool.words[(record + REGION.page) >>> 2] = second;
    pool.words[(record + REGION.version) >>> 2] = second && pool.words[(second + CODE_PAGE.version) >>> 2]!;
    // A store sees by what is decoded whether it changes code: so all that the region is made of has to be.
    for (const at of places) {
      const one = (at >= 0 && at < PAGE ? own : second) + (at & (PAGE - 1)) * (SLOT.size / 2);
      if (pool.words[one >>> 2] === 0) decoder.decode(one);
    }
    // The slot loses its operands, so nobody before it may do its work.
    for (const length of [1, 2]) {
      const before = slot - length * SLOT.size;
      if (before >= own) decoder.separate(before);
    }
    pool.words[slot >>> 2] = PSEUDO.region;
    pool.words[(slot + SLOT.c) >>> 2] = place;
    return slot;
  }

  /** Whether the first instruction of a region in a code page leads to one already, or cannot. */
  leads(own: number, head: number): boolean {
    const handler = this.pool.halves[(own + head * (SLOT.size / 2)) >>> 1]!;
    return handler === PSEUDO.region || handler === PSEUDO.straddle;
  }

  /** Places for `count` regions in a row, from which whatever stood there is gone. */
  private makeRoom(count: number, bytes: number): number {
    if (this.nextPlace + count > REGION.entries) this.nextPlace = 0;
    const first = this.nextPlace;
    const overlaps = (old: Installed) => old.first < first + count && first < old.first + old.regions.length;
    while (this.modules.length && (overlaps(this.modules[0]!) || this.bytes + bytes > this.maxBytes)) this.evict();
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
      for (const [n, { pages: covered }] of module.regions.entries()) {
        if (pages.has(covered.own) || pages.has(covered.second)) this.uninstall(module, n);
      }
      if (module.regions.some(({ slot }) => slot !== 0)) return true;
      this.bytes -= module.bytes;
      return false;
    });
  }

  /** Forgets every region, because all code pages go. */
  reset(): void {
    for (const { first, regions } of this.modules) {
      for (let n = 0; n < regions.length; n++) this.imports.table.set(first + n, null);
    }
    this.modules = [];
    this.bytes = 0;
  }
}

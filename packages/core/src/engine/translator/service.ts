/**
 * From what is hot to a compiled module: the part of translation that needs nothing but the pool's memory, so that a thread of
 * its own can do it while the machine runs on. What it reads may change meanwhile; whoever asked finds that out by the versions of
 * the code pages before anything is installed.
 */

import { PAGE } from '../../memory/layout.ts';
import type { Pool } from '../../memory/pool.ts';
import { type CodeHost, encodeRegions } from './module.ts';
import { findRegion, type Region, type Surroundings } from './region.ts';

/** A hot place: an offset in its page. */
export interface TranslationRequest {
  readonly head: number;
  readonly pages: Surroundings;
}

export interface TranslatedRegion {
  /** Which request of the batch it answers. */
  readonly request: number;
  /** Its first instruction. */
  readonly bits: number;
  readonly second: -1 | 0 | 1;
  /** Places whose slots have to be decoded, for stores to be seen that change the region's code. */
  readonly places: readonly number[];
  /** All that it was made of: a place and the halfword there, by turns. */
  readonly code: readonly number[];
  /** Guest instructions. */
  readonly size: number;
}

export interface Translation {
  readonly module: WebAssembly.Module;
  /** Of the module. */
  readonly bytes: number;
  /** In the order of the module's functions; requests that nothing can be made of are left out. */
  readonly regions: readonly TranslatedRegion[];
}

/** Somebody who translates elsewhere. */
export interface TranslationService {
  /** Returns at once. */
  request(batch: number, requests: readonly TranslationRequest[]): void;
  /** What is ready, without waiting. */
  take(): readonly TranslationReply[];
}

export interface TranslationReply {
  readonly batch: number;
  readonly translation: Translation | undefined;
}

function placesOf({ blocks }: Region): number[] {
  const places: number[] = [];
  for (const { instructions } of blocks.values()) {
    for (const { at, length } of instructions) {
      places.push(at);
      if (length === 4 && ((at + 2) & (PAGE - 1)) === 0) places.push(at + 2);
    }
  }
  return places;
}

function codeOf({ blocks }: Region): number[] {
  const code: number[] = [];
  for (const { instructions } of blocks.values()) {
    for (const { at, length, bits } of instructions) {
      code.push(at, bits & 0xffff);
      if (length === 4) code.push(at + 2, bits >>> 16);
    }
  }
  return code;
}

/** Translates requests in order until `limit` guest instructions are passed; `done` is how many it has looked at. */
export function translateBatch(
  pool: Pool,
  requests: readonly TranslationRequest[],
  host: CodeHost,
  limit = Number.POSITIVE_INFINITY,
): { done: number; translation: Translation | undefined } {
  const found: Region[] = [];
  const regions: TranslatedRegion[] = [];
  let size = 0;
  let done = 0;
  for (; done < requests.length && size < limit; done++) {
    const { head, pages } = requests[done]!;
    const region = findRegion(pool, pages, head);
    const first = region.blocks.get(head)?.instructions[0];
    if (!first) continue;
    found.push(region);
    regions.push({
      request: done,
      bits: first.bits,
      second: region.second,
      places: placesOf(region),
      code: codeOf(region),
      size: region.size,
    });
    size += region.size;
  }
  if (found.length === 0) return { done, translation: undefined };
  const bytes = encodeRegions(found, host);
  return { done, translation: { module: new WebAssembly.Module(bytes), bytes: bytes.length, regions } };
}

/** What two states of machines of one pool differ in: registers by name, and bytes of what maps hold, which costs what is not shared. */

import type { HartState } from '../hart/record.ts';
import { X_NAMES } from '../hart/state.ts';
import { FrameMap, type MapRoots } from '../memory/frame-map.ts';
import { ENTRY_FRAME, PAGE } from '../memory/layout.ts';
import type { Pool } from '../memory/pool.ts';
import { differingRanges, type Range } from './merge.ts';

export interface RegisterDifference {
  readonly hart: number;
  /** Such as `a0`, `f3`, `pc`, `satp`. */
  readonly name: string;
  readonly a: bigint;
  readonly b: bigint;
}

/** Registers of harts that both have. */
export function diffRegisters(a: readonly HartState[], b: readonly HartState[]): RegisterDifference[] {
  const found: RegisterDifference[] = [];
  for (const [hart, one] of a.entries()) {
    const other = b[hart];
    if (!other) break;
    const compare = (name: string, x: bigint, y: bigint) => {
      if (x !== y) found.push({ hart, name, a: x, b: y });
    };
    compare('pc', one.fields.pc, other.fields.pc);
    for (const [n, value] of one.x.entries()) compare(X_NAMES[n]!, value, other.x[n]!);
    for (const [n, value] of one.f.entries()) compare(`f${n}`, value, other.f[n]!);
    for (const [name, value] of Object.entries(one.fields))
      if (name !== 'pc') compare(name, value, other.fields[name as keyof HartState['fields']]);
  }
  return found;
}

/**
 * Where the content of two maps of `pages` pages differs, from the start of the first page on, at most `limit` ranges. With
 * `absentDiffers` a page that one of them does not have differs whatever the other holds: something else is below. Else it is zero.
 */
export function diffMaps(
  pool: Pool,
  pages: number,
  a: MapRoots,
  b: MapRoots,
  { limit, absentDiffers = false }: { readonly limit: number; readonly absentDiffers?: boolean },
): { readonly ranges: readonly Range[]; readonly more: boolean } {
  const [one, other] = [new FrameMap(pool, pages, { roots: a }), new FrameMap(pool, pages, { roots: b })];
  const zero = new Uint8Array(PAGE);
  const ranges: Range[] = [];
  for (const page of one.changed(b)) {
    const frames = [one.entry(page) & ENTRY_FRAME, other.entry(page) & ENTRY_FRAME] as const;
    const [x, y] = frames.map((frame) =>
      frame === 0 ? zero : pool.bytes.subarray(frame * PAGE, (frame + 1) * PAGE),
    ) as [Uint8Array, Uint8Array];
    const lacks = absentDiffers && frames.includes(0);
    for (const { at, length } of lacks ? [{ at: 0, length: PAGE }] : differingRanges(x, y)) {
      const from = page * PAGE + at;
      const last = ranges.at(-1);
      if (last && last.at + last.length === from)
        ranges[ranges.length - 1] = { at: last.at, length: last.length + length };
      else if (ranges.length >= limit) return { ranges, more: true };
      else ranges.push({ at: from, length });
    }
  }
  return { ranges, more: false };
}

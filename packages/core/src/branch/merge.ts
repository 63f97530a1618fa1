/**
 * Three-way merging: what two sides have made of a common base. One side is ours, into which the other, theirs, is merged. Pure; what it is
 * about and where it is written is the caller's.
 */

/** What becomes of an item. */
export type Verdict =
  /** Nobody has changed it. */
  | 'unchanged'
  /** Only ours has. */
  | 'kept'
  /** Both have, to the same. */
  | 'same'
  /** Only theirs has: ours becomes theirs. */
  | 'taken'
  /** Both have, differently. */
  | 'conflict';

/** Bytes from `at` on. */
export interface Range {
  readonly at: number;
  readonly length: number;
}

/** `T` is compared by `equal`. */
export function judge<T>(base: T, ours: T, theirs: T, equal: (a: T, b: T) => boolean = Object.is): Verdict {
  if (equal(ours, theirs)) return equal(base, ours) ? 'unchanged' : 'same';
  if (equal(base, theirs)) return 'kept';
  return equal(base, ours) ? 'taken' : 'conflict';
}

export interface MergedBytes {
  /** `merged`: ours has some of theirs now, and has kept some of its own. */
  readonly verdict: Verdict | 'merged';
  /** What ours becomes; ours itself where there is a conflict. */
  readonly bytes: Uint8Array;
  /** What both have changed, differently. */
  readonly conflicts: readonly Range[];
}

/**
 * Merges bytes of one length in units: a unit is taken or kept as a whole. `phase` is where the first byte stands within its unit, so that
 * units are those of the memory that the bytes are from.
 */
export function mergeBytes(
  base: Uint8Array,
  ours: Uint8Array,
  theirs: Uint8Array,
  { unit = 1, phase = 0 }: { readonly unit?: number; readonly phase?: number } = {},
): MergedBytes {
  if (base.length !== ours.length || ours.length !== theirs.length)
    throw new RangeError(
      `three sides of one length are merged, not ${base.length}, ${ours.length} and ${theirs.length}`,
    );
  const bytes = ours.slice();
  const seen = new Set<Verdict>();
  const conflicts: Range[] = [];
  for (let at = 0; at < base.length; ) {
    const end = Math.min(base.length, at + unit - ((at + phase) % unit));
    const part = (of: Uint8Array) => of.subarray(at, end);
    const verdict = judge(part(base), part(ours), part(theirs), equalBytes);
    seen.add(verdict);
    if (verdict === 'taken') bytes.set(part(theirs), at);
    if (verdict === 'conflict') append(conflicts, at, end);
    at = end;
  }
  if (conflicts.length > 0) return { verdict: 'conflict', bytes: ours.slice(), conflicts };
  seen.delete('unchanged');
  // What is the same on both sides takes no part in who wins.
  if (seen.size > 1) seen.delete('same');
  const [only = 'unchanged'] = seen;
  return { verdict: seen.size > 1 ? 'merged' : only, bytes, conflicts };
}

/** Where two arrays of one length differ, at most `limit` ranges of them. */
export function differingRanges(a: Uint8Array, b: Uint8Array, limit = Number.POSITIVE_INFINITY): Range[] {
  const ranges: Range[] = [];
  for (let at = 0; at < a.length && ranges.length <= limit; at++) if (a[at] !== b[at]) append(ranges, at, at + 1);
  return ranges.slice(0, limit);
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

/** Adds a range, to the one before where they touch. */
function append(ranges: Range[], from: number, to: number): void {
  const last = ranges.at(-1);
  if (last && last.at + last.length === from) ranges[ranges.length - 1] = { at: last.at, length: to - last.at };
  else ranges.push({ at: from, length: to - from });
}

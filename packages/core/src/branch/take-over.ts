/**
 * Taking over: what a clone did on its way is put into the original, which stands at the decision, when the original would have done
 * the same on that way. It would if all that the clone read is there what it was for the clone.
 */

import { MSTATUS, PRIVILEGE } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';
import { READ, WRITTEN } from './access-log.ts';
import { type Decision, DecisionError } from './decision.ts';
import type { PathPage, PathRefusal, PathResult } from './path.ts';
import { type UserPage, userPage } from './user-walk.ts';

/** Why the original has to run the way itself. Pages are virtual addresses / 4096. */
export type Refusal =
  | PathRefusal
  /** The clone has not come to the completion yet. */
  | { readonly reason: 'unfinished' }
  /** Registers that the way reads, or may have written, are not what they were for the clone; `frm` is the rounding mode, `FS` the unit. */
  | { readonly reason: 'registers'; readonly registers: readonly (number | 'frm' | 'FS')[] }
  /**
   * The original has other bytes where the clone read: at the first of them, and on these pages. Unless `exact` the clone read of the page,
   * perhaps other bytes.
   */
  | {
      readonly reason: 'stale-read';
      readonly exact: boolean;
      readonly address: bigint;
      readonly pages: readonly bigint[];
    }
  /** The original has other bytes on pages that the clone wrote, whose bytes were not told apart: nobody knows whose would be right. */
  | { readonly reason: 'conflict'; readonly address: bigint; readonly pages: readonly bigint[] }
  /** The original has not mapped a page that the clone touched, or may not write it as it did, or has another page there. */
  | { readonly reason: 'unmapped' | 'not-writable' | 'mapped-elsewhere'; readonly address: bigint };

export interface Taken {
  /** Steps that the clone made on its way, and the branch. */
  readonly stepsSaved: number;
  readonly bytesWritten: number;
}

/** The dead part of a stack: from an address up to sp. */
interface DeadStack {
  readonly bottom: bigint;
  readonly top: bigint;
}

/** Puts a result into the original, which stands at the decision on a hart, or says why that would not be right. */
export function takeOver(
  original: Machine,
  hart: number,
  decision: Decision,
  result: PathResult,
  stackBottom?: bigint,
): Taken | Refusal {
  const { hartSet, ram } = original;
  if (hartSet.get(hart, 'pc') !== decision.decisionPoint)
    throw new DecisionError('the original is not at the decision');
  const registers = differingRegisters(original, hart, decision, result);
  if (registers.length > 0) return { reason: 'registers', registers };

  const sp = hartSet.getX(hart, 2);
  const dead = { bottom: stackBottom ?? bottomOf(original, hart, sp), top: sp };
  const mapped = mapPages(original, hart, result);
  if ('reason' in mapped) return mapped;
  const refusal = differingMemory(original, result, mapped, dead);
  if (refusal) return refusal;

  let bytesWritten = 0;
  for (const [n, { after, ...page }] of result.pages.entries()) {
    if (!after) continue;
    const { page: physical, dirty } = mapped[n]!;
    const start = RAM_BASE + physical * PAGE;
    let wrote = false;
    for (const [from, to] of runsOf((at) => isWritten(page, after, at))) {
      ram.write(start + from, after.subarray(from, to));
      bytesWritten += to - from;
      wrote = true;
    }
    if (!wrote || !dirty) continue;
    const entry = new Uint8Array(8);
    new DataView(entry.buffer).setBigUint64(0, dirty.entry, true);
    ram.write(dirty.address, entry);
  }
  putRegisters(original, hart, decision, result);
  return { stepsSaved: result.steps + 1, bytesWritten };
}

const isDead = ({ bottom, top }: DeadStack, number: bigint, at: number) => {
  const address = (number << 12n) + BigInt(at);
  return address >= bottom && address < top;
};

/** Whether the path wrote a byte; where bytes were not told apart, one that it left as it was need not be written. */
function isWritten({ bytes, before }: Omit<PathPage, 'after'>, after: Uint8Array, at: number): boolean {
  return after[at] !== before[at] || ((bytes?.[at] ?? 0) & WRITTEN) !== 0;
}

function* runsOf(wanted: (at: number) => boolean): Generator<readonly [from: number, to: number]> {
  for (let at = 0; at < PAGE; at++) {
    if (!wanted(at)) continue;
    const from = at;
    while (at < PAGE && wanted(at)) at++;
    yield [from, at];
  }
}

/** The start of the page of sp; nothing is dead where nothing is translated. */
function bottomOf(original: Machine, hart: number, sp: bigint): bigint {
  const { hartSet } = original;
  const translated = hartSet.get(hart, 'privilege') === BigInt(PRIVILEGE.user) && hartSet.get(hart, 'satp') !== 0n;
  return translated ? sp & -4096n : sp;
}

function differingRegisters(original: Machine, hart: number, decision: Decision, result: PathResult) {
  const record = original.hartSet.record(hart);
  const { before, after, outcome } = result;
  const { reads, writes, sets } = decision.ways[outcome];
  const { live } = decision;
  const found: (number | 'frm' | 'FS')[] = [];
  const on = (record.get('mstatus') & MSTATUS.FS) !== 0n;
  const check = (register: number, own: bigint, was: bigint, is: bigint) => {
    if (own === was) return;
    // One that may have been given the value that it had already.
    const unclear = was === is && writes.has(register) && !sets.has(register) && live.has(register);
    if (reads.has(register) || unclear) found.push(register);
  };
  for (let n = 1; n < 32; n++) check(n, record.getX(n), before.x[n]!, after.x[n]!);
  if (on !== before.float.on) found.push('FS');
  else if (on) {
    for (let n = 0; n < 32; n++) check(32 + n, record.getF(n), before.float.f[n]!, after.float.f[n]!);
    if (record.get('frm') !== before.float.frm) found.push('frm');
  }
  return found;
}

/** The original's page for each of the clone's; where one is written, it is the same page of guest-physical memory. */
function mapPages(original: Machine, hart: number, { pages }: PathResult): UserPage[] | Refusal {
  const found: UserPage[] = [];
  const writtenPages = new Set(pages.filter(({ after }) => after).map(({ page }) => page));
  for (const { number, page, after } of pages) {
    const address = number << 12n;
    const own = userPage(original, hart, number);
    if (!own) return { reason: 'unmapped', address };
    if (after && !own.writable) return { reason: 'not-writable', address };
    // Two addresses of one page have to be that in the original as well.
    if (own.page !== page && (writtenPages.has(page) || writtenPages.has(own.page))) {
      return { reason: 'mapped-elsewhere', address };
    }
    found.push(own);
  }
  return found;
}

function differingMemory(
  original: Machine,
  { pages }: PathResult,
  mapped: readonly UserPage[],
  dead: DeadStack,
): Refusal | undefined {
  const own = new Uint8Array(PAGE);
  const stale: bigint[] = [];
  const conflicts: bigint[] = [];
  let exact = false;
  for (const [n, { number, before, bytes, read, written }] of pages.entries()) {
    original.ram.read(RAM_BASE + mapped[n]!.page * PAGE, own);
    let isStale = false;
    let isConflict = false;
    for (let at = 0; at < PAGE; at++) {
      if (own[at] === before[at]) continue;
      const address = (number << 12n) + BigInt(at);
      // What bytes say is exact; a page's word is for what lives only.
      const lives = !isDead(dead, number, at);
      const wasRead = ((bytes?.[at] ?? 0) & READ) !== 0;
      if (!isStale && (wasRead || (read && lives))) {
        if (stale.length === 0) exact = wasRead;
        stale.push(address);
        isStale = true;
      }
      if (!isConflict && written && lives) {
        conflicts.push(address);
        isConflict = true;
      }
    }
  }
  const pagesOf = (addresses: readonly bigint[]) => addresses.map((address) => address >> 12n);
  if (stale[0] !== undefined) return { reason: 'stale-read', exact, address: stale[0], pages: pagesOf(stale) };
  if (conflicts[0] !== undefined) return { reason: 'conflict', address: conflicts[0], pages: pagesOf(conflicts) };
  return undefined;
}

function putRegisters(original: Machine, hart: number, { ways }: Decision, result: PathResult): void {
  const { before, after, completion, flags, outcome } = result;
  const record = original.hartSet.record(hart);
  const { writes } = ways[outcome];
  const changed = (register: number, was: bigint, is: bigint) => was !== is || writes.has(register);
  for (let n = 1; n < 32; n++) if (changed(n, before.x[n]!, after.x[n]!)) record.setX(n, after.x[n]!);
  record.set('pc', completion);
  record.set('reservation', 0n);
  if (!before.float.on) return;
  let dirty = flags !== 0n;
  for (let n = 0; n < 32; n++) {
    const [was, is] = [before.float.f[n]!, after.float.f[n]!];
    if (!changed(32 + n, was, is)) continue;
    record.setF(n, is);
    dirty = true;
  }
  dirty ||= before.float.frm !== after.float.frm;
  record.set('frm', after.float.frm);
  record.set('fflags', record.get('fflags') | flags);
  if (dirty) record.set('mstatus', record.get('mstatus') | MSTATUS.FS);
}

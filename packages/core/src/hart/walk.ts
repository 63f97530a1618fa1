/**
 * Translation without side effects, for whoever looks at a guest from outside: nothing is filled, marked or raised.
 * The rules are those of `engine/library/access.ts`, for a load with the hart's present rights; or for a store that changes no flag of
 * a page table entry, because the page is dirty already.
 */

import { MSTATUS, PRIVILEGE } from './state.ts';

export interface WalkContext {
  get(field: 'privilege' | 'mstatus' | 'satp'): bigint;
  /** The eight bytes at a guest-physical address, or undefined outside RAM. */
  word(address: bigint): bigint | undefined;
}

/** Flags of an entry through which a store goes without changing it: W, A and D. */
const STORED = 0xc4n;

/** The guest-physical address behind a virtual one, or undefined where a load, or a store, would fault or change an entry. */
export function walk(context: WalkContext, address: bigint, store = false): bigint | undefined {
  const satp = context.get('satp');
  const privilege = Number(context.get('privilege'));
  const mode = satp >> 60n;
  if (privilege === PRIVILEGE.machine || mode === 0n) return address;
  const bits = mode === 9n ? 48 : 39;
  if (BigInt.asUintN(64, BigInt.asIntN(bits, address)) !== address) return undefined;
  let table = (satp & 0xfff_ffff_ffffn) << 12n;
  for (let level = mode === 9n ? 3n : 2n; level >= 0n; level--) {
    const shift = 12n + 9n * level;
    const pte = context.word(table + (((address >> shift) & 511n) << 3n));
    if (pte === undefined || (pte & 1n) === 0n || pte >> 54n !== 0n || (pte & 6n) === 4n) return undefined;
    const physical = ((pte >> 10n) & 0xfff_ffff_ffffn) << 12n;
    if ((pte & 10n) === 0n) {
      // A, D and U are reserved in a pointer.
      if ((pte & 0xd0n) !== 0n) return undefined;
      table = physical;
      continue;
    }
    const user = (pte & 16n) !== 0n;
    const status = context.get('mstatus');
    const readable = (pte & 2n) !== 0n || ((pte & 8n) !== 0n && (status & MSTATUS.MXR) !== 0n);
    const mine = privilege === PRIVILEGE.user ? user : !user || (status & MSTATUS.SUM) !== 0n;
    const offset = (1n << shift) - 1n;
    if (!(store ? (pte & STORED) === STORED : readable) || !mine || (physical & offset) !== 0n) return undefined;
    return physical | (address & offset);
  }
  return undefined;
}

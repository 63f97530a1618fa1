/** A page of a process as its own stores would find it, without side effects. */

import { MENVCFG, PRIVILEGE } from '../hart/state.ts';
import { readWord } from '../machine/guest-memory.ts';
import type { Machine } from '../machine/machine.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';

export interface UserPage {
  /** Guest-physical page. */
  readonly page: number;
  readonly writable: boolean;
  /** Where the entry is that says so, and what it has to be when the page is written; undefined when it is that already. */
  readonly dirty: { readonly address: number; readonly entry: bigint } | undefined;
}

const PTE = { V: 1n, R: 2n, W: 4n, X: 8n, U: 16n, A: 64n, D: 128n } as const;

/** The page at a virtual address / 4096 in user mode, or in M-mode; undefined where there is none in RAM that can be read. */
export function userPage(machine: Machine, hart: number, number: bigint): UserPage | undefined {
  const { hartSet, ram } = machine;
  const satp = hartSet.get(hart, 'satp');
  const mode = satp >> 60n;
  const inRam = (physical: bigint) => {
    const page = physical / BigInt(PAGE) - BigInt(RAM_BASE / PAGE);
    return page >= 0n && page < BigInt(ram.pages) ? Number(page) : undefined;
  };
  if (hartSet.get(hart, 'privilege') === BigInt(PRIVILEGE.machine) || mode === 0n) {
    const page = inRam(number << 12n);
    return page === undefined ? undefined : { page, writable: true, dirty: undefined };
  }
  // User addresses are those of the lower half.
  const levels = mode === 9n ? 4n : 3n;
  if (number >> (9n * levels - 1n) !== 0n) return undefined;
  let table = (satp & 0xfff_ffff_ffffn) << 12n;
  for (let level = levels - 1n; level >= 0n; level--) {
    const address = table + (((number >> (9n * level)) & 511n) << 3n);
    const pte = readWord(ram, address);
    if (pte === undefined || (pte & PTE.V) === 0n || pte >> 54n !== 0n || (pte & (PTE.R | PTE.W)) === PTE.W)
      return undefined;
    const next = ((pte >> 10n) & 0xfff_ffff_ffffn) << 12n;
    if ((pte & (PTE.R | PTE.X)) === 0n) {
      if ((pte & (PTE.U | PTE.A | PTE.D)) !== 0n) return undefined;
      table = next;
      continue;
    }
    const inside = (1n << (9n * level)) - 1n;
    if ((pte & PTE.U) === 0n || (next & (inside << 12n)) !== 0n) return undefined;
    const page = inRam(next | ((number & inside) << 12n));
    if (page === undefined) return undefined;
    const wanted = pte | PTE.A | PTE.D;
    // Without hardware that does it, the first store would be a page fault.
    const marks = wanted === pte || (hartSet.get(hart, 'menvcfg') & MENVCFG.ADUE) !== 0n;
    return {
      page,
      writable: (pte & PTE.W) !== 0n && marks,
      dirty: wanted === pte ? undefined : { address: Number(address), entry: wanted },
    };
  }
  return undefined;
}

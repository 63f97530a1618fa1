/**
 * Physical memory protection (privileged specification 3.7): 16 entries with a grain of 4 KiB, so that a page has one answer.
 *
 * Registers are kept as they were written; a read shows the grain (`engine/library/protection.ts`, which also has the harts' own `pageRights`).
 */

export const PMP_ENTRIES = 16;
/** log2 of the grain in units of 4 bytes: G = 10 is 4 KiB. */
const GRAIN = 10n;
const ADDRESS_MASK = (1n << 54n) - 1n;

const R = 1;
const W = 2;
const X = 4;
const MODE = 0x18;
const TOR = 0x08;
const NA4 = 0x10;
const NAPOT = 0x18;
const LOCK = 0x80;

export interface ProtectionRegisters {
  /** One byte an entry. */
  readonly config: Uint8Array;
  readonly address: BigUint64Array;
}

/** What a write of a configuration byte leaves, given what was there. */
function legalConfig(old: number, value: number): number {
  if (old & LOCK) return old;
  let next = value & (LOCK | MODE | R | W | X);
  // W without R is reserved; NA4 cannot be chosen with a coarser grain.
  if ((next & (R | W)) === W) next &= ~(R | W | X);
  if ((next & MODE) === NA4) next = (next & ~MODE) | (old & MODE);
  return next;
}

export function writeConfig(registers: ProtectionRegisters, first: number, value: bigint): void {
  for (let i = 0; i < 8; i++) {
    const byte = Number((value >> BigInt(8 * i)) & 0xffn);
    registers.config[first + i] = legalConfig(registers.config[first + i]!, byte);
  }
}

export function writeAddress(registers: ProtectionRegisters, index: number, value: bigint): void {
  const next = registers.config[index + 1] ?? 0;
  const lockedBelow = (next & LOCK) !== 0 && (next & MODE) === TOR;
  if (registers.config[index]! & LOCK || lockedBelow) return;
  registers.address[index] = value & ADDRESS_MASK;
}

/** Rights (R 1, W 2, X 4) on the 4 KiB page with this number, for M-mode or below. */
export function pageRights(registers: ProtectionRegisters, page: bigint, machine: boolean): number {
  const address = page << 10n;
  for (let i = 0; i < PMP_ENTRIES; i++) {
    const config = registers.config[i]!;
    let matches = false;
    if ((config & MODE) === TOR) {
      const grained = ~((1n << GRAIN) - 1n);
      const low = i === 0 ? 0n : registers.address[i - 1]! & grained;
      matches = address >= low && address < (registers.address[i]! & grained);
    } else if ((config & MODE) === NAPOT) {
      const value = registers.address[i]! | ((1n << (GRAIN - 1n)) - 1n);
      // The trailing ones say the size; they and the zero above them are not compared.
      const ignored = value ^ (value + 1n);
      matches = ((address ^ value) & ~ignored & ADDRESS_MASK) === 0n;
    }
    if (matches) return machine && !(config & LOCK) ? R | W | X : config & (R | W | X);
  }
  return machine ? R | W | X : 0;
}

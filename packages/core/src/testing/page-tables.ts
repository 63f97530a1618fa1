/** Page-table entries as test programs write them. */

export const PTE = { V: 1n, R: 2n, W: 4n, X: 8n, U: 16n, G: 32n, A: 64n, D: 128n } as const;
/** Everything that an entry can grant to S-mode, or with U to U-mode. */
export const ALL = PTE.V | PTE.R | PTE.W | PTE.X | PTE.A | PTE.D;

export function pte(physical: number | bigint, flags: bigint | number): bigint {
  return ((BigInt(physical) >> 12n) << 10n) | BigInt(flags);
}

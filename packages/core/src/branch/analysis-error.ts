/** Why a program's code gives no branch point as asked. */

export type AnalysisReason =
  /** The file is no 64-bit RISC-V ELF, or it is damaged. */
  | 'elf'
  /** A load bias that this file cannot be at. */
  | 'bias'
  | 'unknown-symbol'
  /** Several local functions have the name. */
  | 'ambiguous-symbol'
  /** Not in the program's code, or not where an instruction of the function starts. */
  | 'no-instruction'
  /** More instructions than the analysis takes on. */
  | 'too-large'
  | 'not-a-branch'
  /** Both outcomes of the branch are the same address. */
  | 'one-outcome'
  /** The decision can be reached without passing the fork point. */
  | 'not-dominated'
  /** The function can return from the fork point without passing the decision. */
  | 'avoidable'
  /** Fork point and decision are in different functions. */
  | 'other-function';

export class AnalysisError extends Error {
  readonly code = 'ERR_BRAID_ANALYSIS';
  readonly reason: AnalysisReason;
  constructor(reason: AnalysisReason, message: string) {
    super(message);
    this.name = 'AnalysisError';
    this.reason = reason;
  }
}

/** An address as messages show it. */
export function hex(address: bigint): string {
  return `0x${address.toString(16)}`;
}

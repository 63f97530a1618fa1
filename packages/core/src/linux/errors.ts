/** Why a Linux kernel cannot be read from outside. */

export type KernelReason =
  /** No hart translates addresses, or none has a kernel's trap vector. */
  | 'no-kernel'
  /** The kernel has no symbol table where it can be read, or a damaged one. */
  | 'symbols'
  /** A type or a member is neither described by the kernel nor found in its data. */
  | 'types'
  /** A function that the recording of threads stands on is not in this kernel. */
  | 'functions';

export class KernelError extends Error {
  readonly code = 'ERR_BRAID_KERNEL';
  readonly reason: KernelReason;
  constructor(reason: KernelReason, message: string) {
    super(message);
    this.name = 'KernelError';
    this.reason = reason;
  }
}

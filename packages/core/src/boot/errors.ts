/** What went wrong while a machine's start was being prepared. */

/**
 * A kernel, firmware, program or initial RAM disk that cannot be started as asked. The message says where the fault is, what
 * it is, and what to do about it.
 */
export class BootError extends Error {
  readonly code = 'ERR_BRAID_BOOT';
  constructor(where: string, why: string, remedy: string) {
    super(`${where}: ${why}; ${remedy}`);
    this.name = 'BootError';
  }
}

/** An address as messages show it. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** A size as messages show it: the largest unit of which there is at least one. */
export function size(bytes: number | bigint): string {
  const n = Number(bytes);
  for (const [unit, scale] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const) {
    if (n >= scale) return `${Number.isInteger(n / scale) ? n / scale : (n / scale).toFixed(1)} ${unit}`;
  }
  return n === 1 ? '1 byte' : `${n} bytes`;
}

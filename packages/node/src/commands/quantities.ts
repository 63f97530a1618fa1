/** Quantities as people read them. */

/** `1,234,567`: steps, in full, since people go back to them. */
export function formatCount(count: bigint | number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `12.3 M`: of a speed, three digits are enough. */
export function formatRate(perSecond: number): string {
  for (const [unit, size] of [
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const) {
    if (perSecond >= size * 0.9995) return `${threeDigits(perSecond / size)} ${unit}`;
  }
  return threeDigits(perSecond);
}

export function formatBytes(bytes: bigint | number): string {
  let size = Number(bytes);
  for (const unit of ['bytes', 'KiB', 'MiB', 'GiB']) {
    if (size < 999.5)
      return unit === 'bytes' ? `${size} ${size === 1 ? 'byte' : unit}` : `${threeDigits(size)} ${unit}`;
    size /= 1024;
  }
  return `${threeDigits(size)} TiB`;
}

/** `1.204551 s`: a moment of guest time, to the microsecond, or a duration. */
export function formatTime(ns: bigint): string {
  const us = ns / 1000n;
  return `${us / 1_000_000n}.${String(us % 1_000_000n).padStart(6, '0')} s`;
}

/** `1 keyframe`, `1,200 keyframes`. */
export function plural(count: bigint | number, what: string): string {
  return `${formatCount(count)} ${what}${BigInt(count) === 1n ? '' : 's'}`;
}

function threeDigits(value: number): string {
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

/** How a replay gets on, and what came of it, as text. */

import { formatPosition } from '@braid/core/machine/log.ts';
import { formatCount, formatRate, formatTime, plural } from './quantities.ts';
import type { Moment } from './recording-text.ts';

export interface ReplayProgress {
  readonly at: bigint;
  /** Where it is going, and where it came from: the beginning unless given. */
  readonly to: bigint;
  readonly from?: bigint;
  /** Guest time, at least. */
  readonly time: bigint;
  /** The host's time so far. */
  readonly seconds: number;
  /** States that were the same as recorded. */
  readonly verified: number;
}

/** What a replay has behind it at a step: keyframes, which are compared, and the last one's time. */
export function passed(keyframes: readonly Moment[], at: bigint): { readonly time: bigint; readonly verified: number } {
  let low = 0;
  for (let high = keyframes.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (keyframes[middle]!.at <= at) low = middle + 1;
    else high = middle;
  }
  // The first is where it begins.
  return { time: keyframes[Math.max(0, low - 1)]!.time, verified: Math.max(0, low - 1) };
}

/** `37 % at step 2,300,000,000, 12.4 s of guest time, 412 M steps/s, 34 states as recorded`. */
export function progressText({ at, to, from = 0n, time, seconds, verified }: ReplayProgress): string {
  const percent = to > from ? ((at - from) * 100n) / (to - from) : 100n;
  return (
    `${percent} % at step ${formatCount(at)}, ${formatTime(time)} of guest time, ${speed(at - from, seconds)}, ` +
    `${plural(verified, 'state')} as recorded`
  );
}

export interface ReplayResult extends Moment {
  readonly seconds: number;
  readonly verified: number;
}

/** What is said of a replay that has come to where it was to go. */
export function resultText({ at, time, position, seconds, verified }: ReplayResult): string {
  return (
    `replayed ${plural(at, 'step')} in ${seconds.toFixed(2)} s (${speed(at, seconds)}), up to ${formatTime(time)} of guest time ` +
    `at ${formatPosition(position)}: ${plural(verified, 'state')} as recorded`
  );
}

function speed(steps: bigint, seconds: number): string {
  return `${formatRate(seconds > 0 ? Number(steps) / seconds : 0)} steps/s`;
}

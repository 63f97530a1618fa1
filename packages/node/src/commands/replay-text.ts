/** How a replay gets on, and what came of it, as text. */

import { formatPosition } from '@braid/core/machine/log.ts';
import { escapeGuestText } from '@braid/core/text/escape.ts';
import type { ReplayOnlyReport } from '../pool/protocol.ts';
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

/** What came of a run of replay-only code; its output is apart from that. */
export function replayOnlyText({ code, hart, at, steps, truncated, error }: ReplayOnlyReport): string {
  const what = `replay-only code ${code} at step ${formatCount(at)} on hart ${hart}: ${plural(steps, 'step')}`;
  const cut = truncated ? ', only the first part of its output is kept' : '';
  return `${what}${cut}${error === undefined ? '' : `; it was given up: ${escapeGuestText(error)}`}`;
}

export function replayOnlyJson({ code, hart, at, steps, output, truncated, error }: ReplayOnlyReport): object {
  const texts: { stream: string; text: string }[] = [];
  for (let from = 0; from < output.length; ) {
    const { stream } = output[from]!;
    const end = output.findIndex((piece, n) => n > from && piece.stream !== stream);
    const pieces = output.slice(from, end < 0 ? output.length : end);
    texts.push({ stream, text: Buffer.concat(pieces.map(({ bytes }) => bytes)).toString() });
    from += pieces.length;
  }
  return { code: String(code), hart, step: Number(at), steps: Number(steps), output: texts, truncated, error };
}

function speed(steps: bigint, seconds: number): string {
  return `${formatRate(seconds > 0 ? Number(steps) / seconds : 0)} steps/s`;
}

/** A moment of a recording, as people say it: `--to MOMENT`. */

import type { Position } from '@braid/core/machine/log.ts';
import { escapeGuestText } from '@braid/core/text/escape.ts';
import { BraidError } from '../errors.ts';

/** What a moment is looked up among. */
export interface Named {
  readonly at: bigint;
  readonly name: string;
}

export type Destination =
  /** Steps since the recording began. */
  | { readonly at: bigint }
  | { readonly position: Position }
  | { /** Guest time since power-on, in ns. */ readonly time: bigint };

export const DESTINATION_HELP = `
A MOMENT is one of:
  NAME, NAME#2       a mark ("braid marks" lists them), or the second mark of this name
  begin, end         of the recording
  12345, 20M         steps since the recording began (K, M, G: powers of 1000)
  812:3:1200         a position: round, hart, step of the slice
  1.5s, 300ms, 20us  guest time since power-on
`;

const STEPS: Readonly<Record<string, bigint>> = { '': 1n, K: 1000n, M: 1_000_000n, G: 1_000_000_000n };
/** Digits behind the point that each unit of time has, in ns. */
const TIMES: Readonly<Record<string, number>> = { s: 9, ms: 6, us: 3, ns: 0 };

/** The moment that is meant; what is the name of a mark means the mark. */
export function destinationOf(text: string, marks: readonly Named[], end: bigint): Destination {
  const named = marks.filter(({ name }) => name === text);
  if (named.length > 0) return { at: named[0]!.at };
  const numbered = /^(.*)#(\d{1,9})$/s.exec(text);
  if (numbered) {
    const [, wanted, which] = numbered;
    const same = marks.filter(({ name }) => name === wanted);
    const mark = same[Number(which) - 1];
    if (mark) return { at: mark.at };
    if (same.length > 0) refuse(`there are ${same.length} marks "${wanted}"; the first is "${wanted}#1"`);
  }
  if (text === 'begin') return { at: 0n };
  if (text === 'end') return { at: end };
  const position = /^(\d{1,18}):(\d):(\d{1,10})$/.exec(text);
  if (position) {
    const [, round, hart, step] = position;
    return { position: { round: BigInt(round!), hart: Number(hart), step: Number(step) } };
  }
  const time = /^(\d{1,18})(?:\.(\d{1,9}))?(s|ms|us|ns)$/.exec(text);
  if (time) return { time: nanoseconds(time[1]!, time[2] ?? '', TIMES[time[3]!]!) };
  const steps = /^(\d{1,18})([KMG]?)$/i.exec(text);
  if (!steps) {
    const near = marks.find(({ name }) => name.includes(text));
    const hint = near
      ? `; do you mean "${escapeGuestText(near.name, { limit: 80 })}"?`
      : '; "braid marks" lists the marks';
    return refuse(`there is no mark "${text}", and it is no position, time or number of steps${hint}`);
  }
  const at = BigInt(steps[1]!) * STEPS[steps[2]!.toUpperCase()]!;
  if (at > end) refuse(`the recording ends at step ${end}, before step ${at}`);
  return { at };
}

/** Digits that stand for less than a nanosecond are left out. */
function nanoseconds(whole: string, fraction: string, digits: number): bigint {
  return BigInt(whole + fraction.slice(0, digits).padEnd(digits, '0'));
}

function refuse(why: string): never {
  throw new BraidError('ERR_BRAID_OPTION', why);
}

/** What the local interruptor remembers. The time itself is the machine's clock, not state of this device. */

import { Fields, FLAGS, U64S } from '../../state/check.ts';

export interface ClintState {
  readonly version: 1;
  /** Software interrupt pending, of each hart. */
  software: boolean[];
  /** Time compare register of each hart, in ticks. */
  compare: bigint[];
}

/** A compare value that never comes. */
export const NEVER = (1n << 64n) - 1n;

export function initialClint(harts: number): ClintState {
  return { version: 1, software: new Array(harts).fill(false), compare: new Array(harts).fill(NEVER) };
}

export function checkClint(record: unknown, harts: number, where = 'clint'): ClintState {
  const fields = new Fields(record, where);
  fields.version(1);
  const state: ClintState = {
    version: 1,
    software: fields.values('software', harts, harts, FLAGS),
    compare: fields.values('compare', harts, harts, U64S),
  };
  fields.end();
  return state;
}

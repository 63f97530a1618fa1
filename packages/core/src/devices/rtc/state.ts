/** What the clock remembers. */

import { Fields } from '../../state/check.ts';

export interface RtcState {
  readonly version: 1;
  /** Wall time in nanoseconds since 1970 at guest time 0, modulo 2^64. */
  epoch: bigint;
  /** Wall time at which the alarm goes off. */
  alarm: bigint;
  /** The alarm is set and has not gone off. */
  armed: boolean;
  interruptEnabled: boolean;
  interruptPending: boolean;
  /** Upper half of the time, latched when the lower was read. */
  timeHigh: number;
}

export function initialRtc(epoch: bigint): RtcState {
  return {
    version: 1,
    epoch,
    alarm: 0n,
    armed: false,
    interruptEnabled: false,
    interruptPending: false,
    timeHigh: 0,
  };
}

export function checkRtc(record: unknown, where = 'rtc'): RtcState {
  const fields = new Fields(record, where);
  fields.version(1);
  const state: RtcState = {
    version: 1,
    epoch: fields.u64('epoch'),
    alarm: fields.u64('alarm'),
    armed: fields.flag('armed'),
    interruptEnabled: fields.flag('interruptEnabled'),
    interruptPending: fields.flag('interruptPending'),
    timeHigh: fields.integer('timeHigh', 0, 0xffff_ffff),
  };
  fields.end();
  return state;
}

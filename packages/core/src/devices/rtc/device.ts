/**
 * The real-time clock: Goldfish RTC, as on QEMU's `virt`. Times are nanoseconds since 1970.
 *
 *   offset   register (32 bits each)
 *   0x00     time low: reading it latches the upper half
 *   0x04     time high
 *   0x08     alarm low: writing it sets the alarm
 *   0x0c     alarm high
 *   0x10     interrupt enabled
 *   0x14     clear alarm (write)
 *   0x18     alarm armed (read)
 *   0x1c     clear interrupt (write)
 *
 * The wall time is a start value plus guest time, so it is as deterministic as everything else; the guest may set it.
 */

import { type AccessSize, type Device, type DeviceContext, END_OF_TIME } from '../device.ts';
import { checkRtc, initialRtc, type RtcState } from './state.ts';

const TIME_LOW = 0x00;
const TIME_HIGH = 0x04;
const ALARM_LOW = 0x08;
const ALARM_HIGH = 0x0c;
const INTERRUPT_ENABLED = 0x10;
const CLEAR_ALARM = 0x14;
const ALARM_ARMED = 0x18;
const CLEAR_INTERRUPT = 0x1c;

const LOW = 0xffff_ffffn;
const U64 = (1n << 64n) - 1n;

export class Rtc implements Device<RtcState> {
  readonly #context: DeviceContext;
  #state: RtcState;

  /** `epochNs` is the wall time, in nanoseconds since 1970, at guest time 0. */
  constructor(context: DeviceContext, epochNs: bigint) {
    this.#context = context;
    this.#state = initialRtc(epochNs & U64);
  }

  /** The guest's wall time now, in nanoseconds since 1970. */
  wallTime(): bigint {
    return (this.#state.epoch + this.#context.now()) & U64;
  }

  read(offset: number, size: AccessSize): number {
    if (size !== 4) return 0;
    const state = this.#state;
    switch (offset) {
      case TIME_LOW: {
        const time = this.wallTime();
        state.timeHigh = Number(time >> 32n);
        return Number(time & LOW);
      }
      case TIME_HIGH:
        return state.timeHigh;
      case ALARM_LOW:
        return Number(state.alarm & LOW);
      case ALARM_HIGH:
        return Number(state.alarm >> 32n);
      case INTERRUPT_ENABLED:
        return state.interruptEnabled ? 1 : 0;
      case ALARM_ARMED:
        return state.armed ? 1 : 0;
      default:
        return 0;
    }
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 4) return;
    const state = this.#state;
    const word = BigInt(value >>> 0);
    switch (offset) {
      case TIME_LOW:
        this.#setTime((this.wallTime() & ~LOW) | word);
        this.#ring();
        break;
      case TIME_HIGH:
        this.#setTime((word << 32n) | (this.wallTime() & LOW));
        this.#ring();
        break;
      case ALARM_LOW:
        // The upper half was written before: the lower one completes the time and arms the alarm.
        state.alarm = (state.alarm & ~LOW) | word;
        state.armed = true;
        this.#ring();
        break;
      case ALARM_HIGH:
        state.alarm = (word << 32n) | (state.alarm & LOW);
        break;
      case INTERRUPT_ENABLED:
        state.interruptEnabled = (value & 1) !== 0;
        this.#updateInterrupt();
        break;
      case CLEAR_ALARM:
        state.armed = false;
        break;
      case CLEAR_INTERRUPT:
        state.interruptPending = false;
        this.#updateInterrupt();
        break;
    }
  }

  deadline(): bigint | undefined {
    if (!this.#state.armed) return undefined;
    const deadline = this.#context.now() + (this.#state.alarm - this.wallTime());
    return deadline < END_OF_TIME ? deadline : undefined;
  }

  advance(_now: bigint): Promise<void> | undefined {
    this.#ring();
    return undefined;
  }

  /** Back to power-on but for the time, which a battery keeps. */
  reset(): void {
    this.#state = initialRtc(this.#state.epoch);
    this.#updateInterrupt();
  }

  save(): RtcState {
    return { ...this.#state };
  }

  restore(state: unknown): void {
    this.#state = checkRtc(state);
    this.#updateInterrupt();
  }

  #setTime(time: bigint): void {
    this.#state.epoch = (time - this.#context.now()) & U64;
  }

  /** Lets the alarm go off if its time has come. */
  #ring(): void {
    const state = this.#state;
    if (!state.armed || this.wallTime() < state.alarm) return;
    state.armed = false;
    state.interruptPending = true;
    this.#updateInterrupt();
  }

  #updateInterrupt(): void {
    this.#context.interrupt(this.#state.interruptEnabled && this.#state.interruptPending);
  }
}

/**
 * The core-local interruptor (SiFive CLINT, the same as ACLINT's MSWI and MTIMER side by side): software interrupts between
 * harts and the machine timer.
 *
 *   offset             register
 *   0x0000 + 4 * hart  msip, bit 0 (32 bits)
 *   0x4000 + 8 * hart  mtimecmp (64 bits, each half writable)
 *   0xbff8             mtime (64 bits, each half writable)
 *
 * Time runs at 10 MHz: one tick is 100 ns of guest time.
 */

import { type AccessSize, type Device, END_OF_TIME } from '../device.ts';
import { type ClintState, checkClint, initialClint } from './state.ts';

/** Bytes of the register window. */
export const CLINT_SIZE = 0x1_0000;

/** Guest nanoseconds per tick of mtime. */
export const NANOSECONDS_PER_TICK = 100n;

const COMPARE_BASE = 0x4000;
const TIME_LOW = 0xbff8;
const TIME_HIGH = 0xbffc;
const LOW = 0xffff_ffffn;
const U64 = (1n << 64n) - 1n;

/** What the machine gives to the interruptor. */
export interface ClintContext {
  readonly harts: number;
  /** Guest time in nanoseconds since power-on. */
  now(): bigint;
  /** mtime: `now() / 100` plus whatever whole number of ticks the guest has set it off by, modulo 2^64. */
  ticks(): bigint;
  /** Sets mtime, for every hart and every way to read it. */
  setTime(ticks: bigint): void;
  /** Drive a hart's machine software and machine timer interrupts; calls that change nothing are free. */
  setSoftware(hart: number, level: boolean): void;
  setTimer(hart: number, level: boolean): void;
}

export class Clint implements Device<ClintState> {
  readonly #context: ClintContext;
  #state: ClintState;

  constructor(context: ClintContext) {
    this.#context = context;
    this.#state = initialClint(context.harts);
  }

  /** The time compare register of a hart, in ticks. */
  compare(hart: number): bigint {
    const compare = this.#state.compare[hart];
    if (compare === undefined) throw new RangeError(`there is no hart ${hart}`);
    return compare;
  }

  /** Sets the time compare register of a hart, as firmware in the monitor does for its guest. */
  setCompare(hart: number, ticks: bigint): void {
    if (this.#state.compare[hart] === undefined) throw new RangeError(`there is no hart ${hart}`);
    this.#state.compare[hart] = ticks & U64;
    this.#updateTimers();
  }

  read(offset: number, size: AccessSize): number {
    if (size !== 4 || offset % 4 !== 0) return 0;
    if (offset < COMPARE_BASE) return this.#state.software[offset / 4] === true ? 1 : 0;
    if (offset === TIME_LOW || offset === TIME_HIGH) return half(this.#context.ticks(), offset === TIME_HIGH);
    const compare = this.#state.compare[Math.floor((offset - COMPARE_BASE) / 8)];
    return compare === undefined ? 0 : half(compare, offset % 8 === 4);
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (size !== 4 || offset % 4 !== 0) return;
    const { software, compare } = this.#state;
    if (offset < COMPARE_BASE) {
      const hart = offset / 4;
      if (hart >= software.length) return;
      software[hart] = (value & 1) !== 0;
      this.#context.setSoftware(hart, software[hart]);
    } else if (offset === TIME_LOW || offset === TIME_HIGH) {
      this.#context.setTime(withHalf(this.#context.ticks(), offset === TIME_HIGH, value));
      this.#updateTimers();
    } else {
      const hart = Math.floor((offset - COMPARE_BASE) / 8);
      const before = compare[hart];
      if (before === undefined) return;
      compare[hart] = withHalf(before, offset % 8 === 4, value);
      this.#updateTimers();
    }
  }

  /** Guest time in nanoseconds at which the next timer interrupt rises. */
  deadline(): bigint | undefined {
    const time = this.#context.ticks() & U64;
    // After a time set close to its end mtime wraps to 0, which takes interrupts back.
    let ticks = U64 + 1n - time;
    for (const compare of this.#state.compare) if (compare > time && compare - time < ticks) ticks = compare - time;
    if (ticks > END_OF_TIME / NANOSECONDS_PER_TICK) return undefined;
    const deadline = (this.#context.now() / NANOSECONDS_PER_TICK + ticks) * NANOSECONDS_PER_TICK;
    return deadline < END_OF_TIME ? deadline : undefined;
  }

  advance(_now: bigint): Promise<void> | undefined {
    this.#updateTimers();
    return undefined;
  }

  reset(): void {
    this.#adopt(initialClint(this.#context.harts));
  }

  save(): ClintState {
    return { version: 1, software: [...this.#state.software], compare: [...this.#state.compare] };
  }

  /** Takes a record. The machine's clock must have been restored before, because the timer lines follow from it. */
  restore(state: unknown): void {
    this.#adopt(checkClint(state, this.#context.harts));
  }

  #adopt(state: ClintState): void {
    this.#state = state;
    for (const [hart, level] of state.software.entries()) this.#context.setSoftware(hart, level);
    this.#updateTimers();
  }

  #updateTimers(): void {
    const time = this.#context.ticks() & U64;
    for (const [hart, compare] of this.#state.compare.entries()) this.#context.setTimer(hart, time >= compare);
  }
}

function half(value: bigint, high: boolean): number {
  return Number(high ? (value >> 32n) & LOW : value & LOW);
}

function withHalf(value: bigint, high: boolean, bits: number): bigint {
  const word = BigInt(bits >>> 0);
  return high ? (word << 32n) | (value & LOW) : (value & U64 & ~LOW) | word;
}

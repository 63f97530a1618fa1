/**
 * Has the wait detector see what a running machine's console takes and gives. Its memory is bounded, as the detector's is.
 *
 * In virtual time a machine stands still while nobody gives it what it waits for: for the detector the host's time goes on then.
 */

import { type Channel, WaitDetector, type WaitOptions } from '@braid/core/branch/waits.ts';
import type { LoggedEvent } from '@braid/core/machine/log.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import type { Calls, Held, Setup } from '../pool/protocol.ts';
import { MAIN_PORT } from './assemble.ts';

export class WaitWatch {
  private readonly detector: WaitDetector;
  private readonly channel: Channel;
  /** How many events of the machine's log have been looked at. */
  private next: number;
  private readonly virtual: boolean;
  /** Host time that the machine stood still, in ns; and since when it does, in ms. */
  private stood = 0n;
  private since: number | undefined;

  constructor(
    machine: Machine,
    options: Omit<WaitOptions, 'output'>,
    { console, time }: Pick<Setup, 'console' | 'time'>,
  ) {
    this.detector = new WaitDetector(options);
    this.channel = console === 'serial' ? 'console' : MAIN_PORT;
    this.virtual = time === 'virtual';
    this.next = machine.log.length;
  }

  /** The machine runs, or becomes what ran elsewhere, from this host time (ms) on. */
  starts(now: number): void {
    if (this.virtual && this.since !== undefined) this.stood += BigInt(Math.round((now - this.since) * 1e6));
    this.since = undefined;
  }

  /** It has stopped; before its log is cut. */
  stops(machine: Machine, now: number): void {
    this.look(machine);
    this.since = now;
  }

  /** Looks at what has come in. */
  private look({ log }: Machine): void {
    if (this.next > log.length) this.next = 0;
    for (; this.next < log.length; this.next++) this.input(log.events[this.next]!);
  }

  output(machine: Machine, bytes: Uint8Array): void {
    this.look(machine);
    this.detector.output({ time: machine.now + this.stood, channel: this.channel, bytes });
  }

  /** The machine is at another place of its past, with an empty log. */
  renewed(): void {
    this.next = 0;
  }

  /** The machine becomes a clone: what that one was given and has put out. */
  adopted(machine: Machine, held: readonly Held[], events: readonly LoggedEvent[]): void {
    this.look(machine);
    let next = 0;
    for (const item of held) {
      if (item.kind !== 'console') continue;
      // An input at the time of an output was there before it.
      for (; next < events.length && events[next]!.time <= item.time; next++) this.input(events[next]!);
      this.detector.output({ time: item.time + this.stood, channel: this.channel, bytes: item.bytes });
    }
    for (const event of events.slice(next)) this.input(event);
  }

  proposals(machine: Machine): Calls['waits'][1] {
    this.look(machine);
    const expected = this.detector.expected(this.channel);
    return { proposals: this.detector.proposals(), ...(expected ? { expected } : {}) };
  }

  /** The agent's port is no console: what goes through it is numbered. */
  private input({ time, event }: LoggedEvent): void {
    const channel = event.kind === 'console' ? event.kind : event.kind === 'port' ? event.port : undefined;
    if (channel === this.channel) this.detector.input(time + this.stood, event);
  }
}

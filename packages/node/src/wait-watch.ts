/** Has the wait detector see what a running machine's console takes and gives. Its memory is bounded, as the detector's is. */

import { type Channel, WaitDetector, type WaitOptions } from '@braid/core/branch/waits.ts';
import type { LoggedEvent } from '@braid/core/machine/log.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import { MAIN_PORT } from './assemble.ts';
import type { Calls, ConsoleDevice, Held } from './protocol.ts';

export class WaitWatch {
  private readonly detector: WaitDetector;
  private readonly channel: Channel;
  /** How many events of the machine's log have been looked at. */
  private next: number;

  constructor(machine: Machine, options: Omit<WaitOptions, 'output'>, console: ConsoleDevice) {
    this.detector = new WaitDetector(options);
    this.channel = console === 'serial' ? 'console' : MAIN_PORT;
    this.next = machine.log.length;
  }

  /** Looks at what has come in. Before the log is cut, too. */
  look({ log }: Machine): void {
    if (this.next > log.length) this.next = 0;
    for (; this.next < log.length; this.next++) this.input(log.events[this.next]!);
  }

  output(machine: Machine, bytes: Uint8Array): void {
    this.look(machine);
    this.detector.output({ time: machine.now, channel: this.channel, bytes });
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
      this.detector.output({ time: item.time, channel: this.channel, bytes: item.bytes });
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
    if (channel === this.channel) this.detector.input(time, event);
  }
}

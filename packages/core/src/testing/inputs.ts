/** What comes into machines of tests from outside: events at random, and a journal of them that other runs follow. */

import { EventLog, type InputEvent, LogReader } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import type { Random } from './random.ts';

/** What has come into a machine from outside, whatever becomes of the machine in between. */
export class Journal {
  readonly log = new EventLog();
  private of: Machine | undefined;
  private known = 0;

  /** Takes what has entered since the last time; a machine that was born again has a log of its own. */
  gather(machine: Machine): void {
    if (machine !== this.of) this.known = 0;
    this.of = machine;
    for (const { position, time, event } of machine.log.events.slice(this.known))
      this.log.append(position, time, event);
    this.known = machine.log.length;
  }

  /** Has a machine that begins take its input from here. */
  feed(machine: Machine): void {
    machine.takeInputs();
    machine.follow(new LogReader(this.log));
  }
}

/** What may come from outside. */
export function randomEvent(choices: Random): InputEvent {
  const bytes = Uint8Array.from({ length: choices.below(40) }, () => choices.below(256));
  return choices.pick<InputEvent>([
    { kind: 'console', bytes },
    { kind: 'console', bytes },
    { kind: 'port', port: choices.below(2), bytes },
    { kind: 'port-open', port: choices.below(2), open: choices.chance(0.5) },
    { kind: 'resize', columns: choices.below(300), rows: choices.below(100) },
    { kind: 'time', advance: BigInt(choices.pick([0, 1, choices.below(3000), 1_000_000])) },
    { kind: 'skip-idle', on: choices.chance(0.7) },
    { kind: 'frame', bytes },
    { kind: 'link', up: choices.chance(0.5) },
    { kind: 'reseed', seed: choices.u64() },
    { kind: 'address', mac: Uint8Array.of(2, 0, 0, 0, 0, choices.below(256)) },
  ]);
}

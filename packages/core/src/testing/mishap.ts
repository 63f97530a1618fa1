/** A host whose ends of the console, the ports and the network fail. */

import type { NetBackend } from '../devices/virtio-net/backend.ts';
import type { Outputs } from '../machine/machine.ts';
import type { Random } from './random.ts';

export class MishapError extends Error {}

/** What a machine sends goes nowhere; while `choices` are there, some of the calls throw. */
export class Mishap implements Outputs, NetBackend {
  choices: Random | undefined;

  private happen(): void {
    if (this.choices?.chance(0.5)) throw new MishapError('the output has failed');
  }

  console(): void {
    this.happen();
  }

  terminal(): void {
    this.happen();
  }

  agent(): void {
    this.happen();
  }

  send(): void {
    this.happen();
  }
}

/**
 * The test finisher (SiFive), by which a guest ends its machine. The device tree's `syscon-poweroff` and `syscon-reboot` write to
 * the same register, so there is no other power switch.
 *
 *   written to offset 0   meaning
 *   0x5555                passed: power off
 *   0x3333 | code << 16   failed, with an exit code
 *   0x7777                reset
 */

import type { AccessSize, Device } from '../device.ts';
import { checkFinisher, type FinisherState, initialFinisher } from './state.ts';

const PASS = 0x5555;
const FAIL = 0x3333;
const RESET = 0x7777;

/** How a guest ended its machine; `code` is 0 unless it failed, then 0 to 65535 as the guest gave it. */
export interface Finish {
  readonly kind: 'poweroff' | 'reboot' | 'fail';
  readonly code: number;
}

export class Finisher implements Device<FinisherState> {
  readonly #finish: (finish: Finish) => void;

  /** `finish` is called during the guest's store; the machine stops when that instruction has retired. */
  constructor(finish: (finish: Finish) => void) {
    this.#finish = finish;
  }

  read(_offset: number, _size: AccessSize): number {
    return 0;
  }

  write(offset: number, size: AccessSize, value: number): void {
    if (offset !== 0 || size === 1) return;
    switch (value & 0xffff) {
      case PASS:
        this.#finish({ kind: 'poweroff', code: 0 });
        break;
      case FAIL:
        this.#finish({ kind: 'fail', code: value >>> 16 });
        break;
      case RESET:
        this.#finish({ kind: 'reboot', code: 0 });
        break;
    }
  }

  deadline(): bigint | undefined {
    return undefined;
  }

  advance(_now: bigint): Promise<void> | undefined {
    return undefined;
  }

  reset(): void {}

  save(): FinisherState {
    return initialFinisher();
  }

  restore(state: unknown): void {
    checkFinisher(state);
  }
}

/** A live machine as what a debugger debugs: while one is attached, it runs for the debugger's commands only. */

import { GdbError } from '@braid/core/gdb/errors.ts';
import type {
  DebugStop,
  DebugTarget,
  DebugTask,
  MemoryOptions,
  RegisterValues,
  Resume,
} from '@braid/core/gdb/target.ts';
import { formatPosition } from '@braid/core/machine/log.ts';
import type { Link } from '../pool/link.ts';
import type { Stats } from '../pool/protocol.ts';
import type { DebugCall } from '../runner/debug-session.ts';

export interface LiveTargetOptions {
  readonly harts: number;
  /** `monitor fork`: makes a clone for another debugger; gives what to type there. */
  readonly fork: () => Promise<string>;
}

export class LiveTarget implements DebugTarget {
  readonly reversible = false;
  readonly writable = true;
  readonly harts: number;
  readonly commands = [
    ['when', 'where the machine stands: position, steps, guest time'],
    ['hash', 'a hash of everything that the guest can see'],
    ['fork', 'a clone that stands here, for another gdb; it goes when that one leaves'],
  ] as const;
  private readonly link: Link;
  private readonly makeClone: () => Promise<string>;

  constructor(link: Link, { harts, fork }: LiveTargetOptions) {
    this.link = link;
    this.harts = harts;
    this.makeClone = fork;
  }

  private call<T>(call: DebugCall): Promise<T> {
    return this.link.call('debug', call) as Promise<T>;
  }

  attach(): Promise<DebugStop> {
    return this.call({ op: 'attach' });
  }

  detach(): Promise<void> {
    return this.call({ op: 'detach' });
  }

  tasks(): Promise<readonly DebugTask[]> {
    return this.call({ op: 'tasks' });
  }

  registers(hart: number): Promise<RegisterValues> {
    return this.call({ op: 'registers', hart });
  }

  setRegister(hart: number, name: string, value: bigint): Promise<void> {
    return this.call({ op: 'setRegister', hart, name, value });
  }

  read(address: bigint, length: number, options: MemoryOptions): Promise<Uint8Array> {
    return this.call({ op: 'read', address, length, options });
  }

  write(address: bigint, bytes: Uint8Array, options: MemoryOptions): Promise<void> {
    return this.call({ op: 'write', address, bytes, options });
  }

  async resume(how: Resume, signal: AbortSignal): Promise<DebugStop> {
    const stopped = this.call<DebugStop>({ op: 'resume', how });
    // A machine that is not there any more says so to the one who waits.
    const interrupt = () => void this.call({ op: 'interrupt' }).catch(() => {});
    if (signal.aborted) interrupt();
    signal.addEventListener('abort', interrupt, { once: true });
    try {
      return await stopped;
    } finally {
      signal.removeEventListener('abort', interrupt);
    }
  }

  async monitor([name]: readonly string[]): Promise<string> {
    switch (name) {
      case 'when':
        return describe(await this.link.call('stats', {}));
      case 'hash':
        return this.link.call('stateHash', {});
      case 'fork':
        return `a clone stands here; in another gdb: ${await this.makeClone()}`;
      case 'seek':
      case 'marks':
        throw new GdbError('a live machine has no past; record it, and debug the recording');
      default:
        throw new GdbError(`there is no command ${name}: see monitor help`);
    }
  }
}

function describe({ position, steps, guestSeconds, perHart }: Stats): string {
  const each = perHart.map(({ steps }, hart) => `hart ${hart} ${steps}`).join(', ');
  return `position ${formatPosition(position)}, ${steps} steps (${each}), guest time ${guestSeconds.toFixed(9)} s`;
}

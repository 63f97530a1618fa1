/** What somebody types on a machine's console. It is acknowledged when the guest has taken most of it: a bound on what waits in the thread. */

import type { Machine } from '@braid/core/machine/machine.ts';
import type { ConsoleDevice, Request } from '../pool/protocol.ts';
import { MAIN_PORT } from './assemble.ts';
import type { Reports } from './reports.ts';

/** Bytes that wait for the guest before the next are asked for. */
const INPUT_AHEAD = 64 * 1024;

export class TypedInput {
  /** Nobody will type any more. */
  ended = false;
  private readonly reports: Reports;
  private replies: number[] = [];

  constructor(reports: Reports) {
    this.reports = reports;
  }

  type(
    machine: Machine | undefined,
    console: ConsoleDevice | undefined,
    request: Extract<Request, { type: 'console' }>,
  ): void {
    const { bytes, more, reply } = request;
    machine?.input(console === 'serial' ? { kind: 'typed', bytes } : { kind: 'port', port: MAIN_PORT, bytes });
    machine?.expectInput(more);
    this.replies.push(reply);
    this.acknowledge(machine);
  }

  acknowledge(machine: Machine | undefined): void {
    if (this.replies.length === 0 || (machine && machine.backlog > INPUT_AHEAD)) return;
    for (const id of this.replies.splice(0)) this.reports.result(id, undefined);
  }
}

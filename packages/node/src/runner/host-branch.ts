/** A branch of a machine that the host has chosen, and its calls: to its fork point, to the decision, and to take over what a clone has come to. */

import { freeForkPoint } from '@braid/core/branch/fork-point.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import type { Pool } from '@braid/core/memory/pool.ts';
import { BraidError, fromRecord } from '../errors.ts';
import type { Calls } from '../pool/protocol.ts';
import type { Callers } from './callers.ts';
import type { Clones } from './clones.ts';
import { type Decided, DecisionWatch } from './decision-watch.ts';
import type { Recording } from './recording.ts';

/** The rest of the machine's thread, as this part sees it. */
export interface HostBranchHost {
  readonly callers: Callers;
  readonly recording: Recording;
  readonly clones: Pick<Clones, 'fork'>;
  /** Has the machine stand, whoever waits for it, until somebody has it run on. */
  pause(): void;
}

export class HostBranch {
  private readonly pool: Pool;
  private readonly host: HostBranchHost;
  /** The one under way, and the call that waits for its fork point. */
  private current: { readonly watch: DecisionWatch; readonly reach: number } | undefined;

  constructor(pool: Pool, host: HostBranchHost) {
    this.pool = pool;
    this.host = host;
  }

  get underWay(): boolean {
    return this.current !== undefined;
  }

  /** Which way the machine goes, while it stands at the decision. */
  get decided(): Decided | undefined {
    return this.current?.watch.end;
  }

  /** From now on the machine is stopped at the fork point, for a call that waits for that. */
  begin(machine: Machine, call: number, { decision, satp }: Calls['reach'][0]): void {
    if (this.current)
      throw new BraidError('ERR_BRAID_BRANCH', 'the machine has a branch of the host under way; await its end');
    this.current = { watch: new DecisionWatch(machine, decision, satp), reach: call };
  }

  /** The machine has stopped at breakpoints. */
  atBreakpoints(machine: Machine, hart: number, ids: readonly number[]): void {
    const { current, host } = this;
    const hit = current?.watch.hit(hart, ids);
    if (!current || !hit) return;
    const { callers } = host;
    if ('outcome' in hit) {
      host.pause();
      for (const { id } of callers.waits.takeNamed('decided')) callers.result(id, hit);
      return;
    }
    const { points, host: state } = host.clones.fork(machine, 2);
    const failure = points.find((point) => 'code' in point);
    if (!failure) return callers.result(current.reach, { activation: hit, points, host: state });
    for (const point of points) if ('ram' in point) freeForkPoint(this.pool, point);
    callers.fail(current.reach, fromRecord(failure));
  }

  takeOver({ result, stackBottom }: Calls['takeOver'][0]): Calls['takeOver'][1] {
    const { current } = this;
    this.current = undefined;
    if (!current) return { reason: 'unfinished' };
    const { watch } = current;
    watch.stop();
    if (!result) return { reason: 'unfinished' };
    return this.host.recording.across('takeover', () => watch.takeOver(result, stackBottom), {
      changed: (taken) => !('reason' in taken),
    });
  }
}

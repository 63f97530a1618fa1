/** A state of a machine, in its pool's memory. */

import type { ForkPoint as CorePoint } from '@braid/core/branch/fork-point.ts';
import { argument } from '@braid/core/check/calls.ts';
import { optional } from '@braid/core/check/schema.ts';
import type { Position } from '@braid/core/machine/log.ts';
import { checked } from './check.ts';
import type { BraidError } from './errors.ts';
import type { Machine } from './machine.ts';
import { FORK_OPTIONS, type ForkOptions } from './options.ts';
import type { Link } from './pool/link.ts';
import type { Pool } from './pool/pool.ts';
import { type Arrival, type HostState, type KnownPoint, UNKNOWN_POINT } from './pool/protocol.ts';

/** See `Machine.forkPoint`. */
export class ForkPoint implements AsyncDisposable {
  readonly pool: Pool;
  private readonly point: CorePoint;
  private readonly host: HostState;
  private readonly clone: (arrival: Arrival, options: ForkOptions) => Promise<Machine>;
  private readonly leaveImages: () => void;
  private readonly id: number;
  private readonly uses = new Set<Promise<unknown>>();
  private disposed = false;

  constructor(
    pool: Pool,
    point: CorePoint,
    host: HostState,
    clone: (arrival: Arrival, options: ForkOptions) => Promise<Machine>,
    leaveImages: () => void,
  ) {
    this.leaveImages = leaveImages;
    this.pool = pool;
    this.point = point;
    this.host = host;
    this.clone = clone;
    this.id = pool.keep(point);
  }

  /** What it was, as the threads of the pool know it. */
  get state(): CorePoint {
    return this.point;
  }

  /** Where the machine stood. */
  get position(): Position {
    const { round, hart, step } = this.point.record.schedule;
    return { round, hart, step };
  }

  /** The steps that the machine may make in all, if there is a limit. */
  get maxSteps(): bigint | undefined {
    return this.host.setup.maxSteps;
  }

  /** A machine in this state. */
  async fork(options: ForkOptions = {}): Promise<Machine> {
    const point = this.pool.copy(this.id);
    return this.clone({ point, host: this.host, inputs: [], clone: true }, options);
  }

  /** Does something with it in the thread of a machine, which may know it already. It stays until that is done. @internal */
  async use<T>(link: Link, work: (known: KnownPoint) => Promise<T>): Promise<T> {
    const { id, point } = this;
    const known = this.pool.knows(link, id) ? { id } : { id, point };
    // A machine that is under way comes to a thread that may not know it.
    const used = work(known).catch((error: BraidError) => {
      if (error.code !== UNKNOWN_POINT) throw error;
      return work({ id, point });
    });
    this.uses.add(used);
    try {
      return await used;
    } finally {
      this.uses.delete(used);
    }
  }

  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    const uses = [...this.uses];
    this.pool.retire(this.id);
    await Promise.allSettled(uses);
    this.pool.forget(this.id);
    this.leaveImages();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

checked<ForkPoint, 'use'>(ForkPoint.prototype, {
  rejects: { fork: [argument('options', optional(FORK_OPTIONS))] },
  throws: {},
});

/**
 * Branch points chosen by the host, on a pool's threads: while the original computes the condition, a clone goes ahead on each way, in other
 * threads where there are any; at the decision the original takes over what the right one has come to, or goes the way itself.
 *
 * What may be taken over, and when, is the core's business (`take-over.ts`, docs/decisions.md).
 */

import type { Decision } from '@braid/core/branch/decision.ts';
import type { PathRefusal, PathResult } from '@braid/core/branch/path.ts';
import type { Refusal } from '@braid/core/branch/take-over.ts';
import {
  either,
  flag,
  integer,
  list,
  oneOf,
  optional,
  record,
  refined,
  type Schema,
  value,
  wide,
} from '@braid/core/check/schema.ts';
import { U64, WAIT } from '../check.ts';
import type { Link, WaitOptions } from '../pool/link.ts';
import type { Pool } from '../pool/pool.ts';

export interface DecideOptions extends WaitOptions {
  /** Only in this address space; otherwise in any, whoever comes first. */
  readonly satp?: bigint;
  /** Clones make the calls that compute the condition as well. Otherwise they step over them. */
  readonly makeCalls?: boolean;
  /** Virtual pages whose bytes are told apart when clones read and write them; those that caused a refusal are added. */
  readonly learned?: Set<bigint>;
  /** The lowest address of the thread's stack: what lies between it and sp is dead. By default the start of sp's page. */
  readonly stackBottom?: bigint;
  /** Steps that a clone may make; 10^10 by default. */
  readonly limit?: number;
}

const BIGINTS: Schema<Set<bigint>> = value(
  'a Set of bigints',
  (given) => given instanceof Set && [...given].every((one) => typeof one === 'bigint'),
);
const REGISTERS: Schema<ReadonlySet<number>> = value(
  'a Set of numbers of registers',
  (given) => given instanceof Set && [...given].every((one) => Number.isInteger(one) && one >= 0 && one < 64),
);
const pair = <T>(item: Schema<T>): Schema<readonly [T, T]> =>
  refined(list(item) as Schema<unknown> as Schema<readonly [T, T]>, 'an array of two', ({ length }) => length === 2);

const DISTANCE = optional(wide(-(1n << 63n), (1n << 64n) - 1n));

export const DECISION: Schema<Decision> = record<Decision>({
  forkPoint: U64,
  decisionPoint: U64,
  outcomes: pair(U64),
  completes: pair(flag),
  completion: either(U64, oneOf('return')),
  calls: list(record<Decision['calls'][number]>({ address: U64, returns: U64, target: optional(U64) })),
  frame: record<Decision['frame']>({ forkPoint: DISTANCE, decisionPoint: DISTANCE, completion: DISTANCE }),
  ways: pair(record<Decision['ways'][number]>({ reads: REGISTERS, writes: REGISTERS, sets: REGISTERS })),
  live: REGISTERS,
  exits: list(U64),
});

export const DECIDE_OPTIONS: Schema<DecideOptions> = record<DecideOptions>({
  ...WAIT,
  satp: optional(U64),
  makeCalls: optional(flag),
  learned: optional(BIGINTS),
  stackBottom: optional(U64),
  limit: optional(integer(1)),
});

/** How it ended: `outcome` 0 says that the branch is taken. */
export type Decided =
  /** The original is at the completion, and has not made these steps. */
  | { readonly taken: true; readonly outcome: 0 | 1; readonly stepsSaved: number; readonly bytesWritten: number }
  /** The original goes the way itself. */
  | { readonly taken: false; readonly outcome: 0 | 1; readonly refusal: Refusal };

/** What this module needs of a machine. */
export interface DecideHost {
  readonly link: Link;
  readonly pool: Pool;
}

const LIMIT = 1e10;

export async function decide({ link, pool }: DecideHost, decision: Decision, options: DecideOptions): Promise<Decided> {
  const { signal, satp, makeCalls = false, learned = new Set(), stackBottom, limit = LIMIT } = options;
  const wait = signal ? { signal } : {};
  const links: Link[] = [];
  const giveUp = () => link.call('takeOver', { result: undefined }).catch(() => undefined);
  try {
    const reached = await link.call('reach', { decision, ...(satp === undefined ? {} : { satp }) }, wait);
    const { activation, points, host } = reached;
    const paths = points.map((point, outcome) => {
      pool.hold({ point });
      const clone = pool.link();
      links.push(clone);
      const way = { decision, activation, outcome: outcome as 0 | 1, limit, makeCalls, bytes: [...learned] };
      const end = clone.call('path', { point, host, way }).finally(() => pool.release(point));
      // A clone that is lost is none that could be taken over.
      return end.catch((): PathResult | PathRefusal | undefined => undefined);
    });
    const { outcome } = await link.call('decided', {}, wait);
    await links[1 - outcome]!.dispose();
    const result = await paths[outcome];
    if (!result || 'reason' in result) {
      await giveUp();
      return { taken: false, outcome, refusal: result ?? { reason: 'unfinished' } };
    }
    const end = await link.call('takeOver', { result, ...(stackBottom === undefined ? {} : { stackBottom }) });
    if (!('reason' in end)) return { taken: true, outcome, ...end };
    if ('pages' in end) for (const page of end.pages) learned.add(page);
    return { taken: false, outcome, refusal: end };
  } catch (error) {
    await giveUp();
    throw error;
  } finally {
    await Promise.all(links.map((clone) => clone.dispose()));
  }
}

/** Long work on a timeline, in this thread: it lets signals and writes through now and then, and says how far it is. */

import { setImmediate } from 'node:timers/promises';
import type { Progress } from '@braid/core/timeline/timeline.ts';

/** For so long, in ms, nothing else is done. */
const BREATH_MS = 20;

export interface WorkOptions {
  readonly onProgress?: (progress: Progress) => void;
  /** Ends it early: its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Awaited now and then: whoever cannot take more says so here. */
  readonly ready?: () => Promise<void>;
}

/** Does work to its end. */
export async function carryOut<R>(work: Generator<Progress, R>, options: WorkOptions = {}): Promise<R> {
  const { onProgress, signal, ready } = options;
  let breath = performance.now();
  for (;;) {
    const next = work.next();
    if (next.done) return next.value;
    onProgress?.(next.value);
    if (performance.now() - breath >= BREATH_MS) {
      await setImmediate();
      await ready?.();
      breath = performance.now();
    }
    if (signal?.aborted) {
      work.return(undefined as never);
      throw signal.reason;
    }
  }
}

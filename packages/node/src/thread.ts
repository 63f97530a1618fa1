/** The threads that machines run in. Apart from everything else, so that one can be started before anything else is loaded. */

import { Worker } from 'node:worker_threads';

/** The engine makes little garbage: a small nursery saves 4 MiB of resident memory. */
const LIMITS = { maxYoungGenerationSizeMb: 4 };

let warm: Worker | undefined;

export function startThread(): Worker {
  const worker = warm ?? new Worker(new URL('./worker.ts', import.meta.url), { resourceLimits: LIMITS });
  warm = undefined;
  return worker;
}

/** Starts the thread of the next machine ahead of `Machine.create`: to compile the engine takes some tens of milliseconds. */
export function warmUp(): void {
  if (warm) return;
  warm = startThread();
  warm.unref();
}

/** The pool of the next machine. Apart from everything else, so that its thread can be started before anything else is loaded. */

import { Pool } from './pool.ts';

let warm: Pool | undefined;

export function nextPool(): Pool {
  const pool = warm ?? new Pool();
  warm = undefined;
  return pool;
}

/** Starts the thread of the next machine ahead of `Machine.create`: to compile the engine takes some tens of milliseconds. */
export function warmUp(): void {
  warm ??= new Pool();
}

/**
 * Steps of one hart, for debuggers: the others run meanwhile, as the schedule has it, and not a step more.
 *
 * A hart that waits, or is stopped, makes its next step when something wakes it, which may be never: `limit` bounds the steps of all.
 */

import type { Machine } from './machine.ts';
import type { Stop } from './options.ts';

/**
 * Runs until a hart has made so many steps more, `count` being positive: the last one is the machine's last. Any other stop comes back
 * before that, as does the end of `limit` steps of all harts; `Machine.steps` tells.
 */
export function stepHart(machine: Machine, hart: number, count = 1, limit = Number.MAX_SAFE_INTEGER): Stop {
  const target = machine.steps(hart) + BigInt(count);
  const end = machine.totalSteps + BigInt(limit);
  for (;;) {
    const own = { hart, steps: Number(target - machine.steps(hart)) };
    const stop = machine.run(Number(end - machine.totalSteps), own);
    if (stop.reason !== 'attention') return stop;
  }
}

/**
 * Runs until a hart has made so many steps since power-on, of which it lacks at least one. Gives the moment just before the last of them,
 * in steps of all harts: where a step back of that hart leads to. Undefined when another stop, or `limit`, came before.
 */
export function beforeStepOf(machine: Machine, hart: number, steps: bigint, limit?: number): bigint | undefined {
  stepHart(machine, hart, Number(steps - machine.steps(hart)), limit);
  return machine.steps(hart) === steps ? machine.totalSteps - 1n : undefined;
}

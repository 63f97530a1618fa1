/** I2 and I4 on Linux: the boot of the default guest, disturbed in every way, equals the same boot in one piece. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { guestMissing, linuxMachine, recipeMachine, runSteps, SEED, sharedEngine } from '../testing/machines.ts';
import { disturb } from '../testing/perturbed.ts';
import { Random } from '../testing/random.ts';
import { record, replay } from '../timeline/logged-run.ts';
import { stateHash } from './hash.ts';
import { formatPosition } from './log.ts';
import type { Machine } from './machine.ts';

/** Far enough that user programs run and the agent has opened its port. */
const STEPS = 60e6;

const summary = (machine: Machine) => ({ hash: stateHash(machine), position: formatPosition(machine.position) });

describe(`the default guest (seed ${SEED})`, { skip: guestMissing }, () => {
  for (const [harts, slice] of [
    [1, undefined],
    [4, undefined],
    [3, 5000],
  ] as const) {
    test(`${harts} harts, slices of ${slice ?? 'the usual number of'} steps`, () => {
      const choices = new Random(SEED + harts);
      const machine = linuxMachine({ harts, ...(slice ? { slice } : {}) });
      const recording = record(machine);
      runSteps(machine, STEPS);
      const expected = summary(machine);
      machine.free();
      const engines = [sharedEngine(0), sharedEngine(1)];
      const other = recipeMachine({ harts: 8, sbi: true, seed: SEED, rounds: 1e6 });
      const again = disturb(replay(sharedEngine(), recording), STEPS, choices, { pieces: 16, engines, other });
      assert.deepEqual(summary(again), expected);
      again.free();
      other.free();
    });
  }
});

/**
 * Counters read where the step asks for attention before its instruction is executed: the fetch of a page evicts code, copies a page
 * table that a fork shares, or finds the second half of an instruction. What is read is the same with any caches and any forks.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ForkPoint, forkPoint, freeForkPoint } from '../branch/fork-point.ts';
import { stateHash } from '../machine/hash.ts';
import { Pool } from '../memory/pool.ts';
import { CLOCKS, type Clock, clockProgram } from '../testing/clock-program.ts';
import { bareMachine } from '../testing/machines.ts';
import { Engine } from './engine.ts';

const STEPS = 4000;
const T0 = 5;

/** What the program has read after every 331 steps, and the hash at the end. */
function readings(engine: Engine, clock: Clock, mode: 'M' | 'S', fork: boolean) {
  const machine = bareMachine(clockProgram({ harts: 1, mode, seed: 1, perPage: 0, clocks: [clock] }), {}, {}, engine);
  const points: ForkPoint[] = [];
  const read: bigint[] = [];
  for (let n = 0; n < STEPS / 331; n++) {
    machine.run(331);
    read.push(machine.hartSet.getX(0, T0));
    if (fork) points.push(forkPoint(machine));
  }
  const hash = stateHash(machine);
  for (const point of points) freeForkPoint(engine.pool, point);
  machine.free();
  return { read, hash };
}

describe('counters are those of the instruction that reads them', () => {
  const engines = [1, 5, Number.MAX_SAFE_INTEGER].flatMap((codePages) =>
    [false, true, { hotness: 1, batch: 1, patience: 1 }].map(
      (translate) => [codePages, new Engine(new Pool(20_000, codePages), 0, { translate })] as const,
    ),
  );
  for (const clock of CLOCKS) {
    for (const mode of ['M', 'S'] as const) {
      test(`${clock}, ${mode === 'S' ? 'in pages whose accessed flags are set' : 'without translation'}`, () => {
        const plain = readings(engines.at(-3)![1], clock, mode, false);
        assert.ok(plain.read.some((value) => value > 30n));
        for (const [codePages, engine] of engines)
          for (const fork of [false, true])
            assert.deepEqual(readings(engine, clock, mode, fork), plain, `${codePages} code pages, fork: ${fork}`);
      });
    }
  }
});

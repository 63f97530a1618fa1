/** What becomes hot: what is arrived at often enough for the time that has passed. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RAM_BASE } from '../../memory/layout.ts';
import { Pool } from '../../memory/pool.ts';
import { Assembler } from '../../testing/assembler.ts';
import { plainMachine } from '../../testing/bare.ts';
import { Engine } from '../engine.ts';
import type { TranslationLimits } from './translator.ts';

const TURN = 100;

/** How many regions there are after a loop of TURN steps has run for so long, in runs of ten turns. */
function regionsOf(limits: Partial<TranslationLimits>, turns: number): number {
  const a = new Assembler(RAM_BASE);
  a.label('turn');
  for (let n = 1; n < TURN; n++) a.op('addi');
  a.jump(0, 'turn');
  const engine = new Engine(new Pool(), 0, { translate: { batch: 1, ...limits } });
  const machine = plainMachine(a.bytes(), {}, engine);
  for (let n = 0; n < turns; n += 10) machine.run(10 * TURN);
  machine.free();
  return engine.translation.regions;
}

test('a loop becomes hot after as many turns as the limit says', () => {
  assert.equal(regionsOf({ hotness: 50 }, 40), 0);
  assert.equal(regionsOf({ hotness: 50 }, 60), 1);
});

test('what is seldom arrived at in a half-life never does', () => {
  // Ten arrivals each time before they count half: never more than twenty.
  assert.equal(regionsOf({ hotness: 50, halfLife: 10 * TURN }, 1000), 0);
  assert.equal(regionsOf({ hotness: 15, halfLife: 10 * TURN }, 1000), 1);
});

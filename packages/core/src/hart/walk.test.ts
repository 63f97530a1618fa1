/** Translation for whoever looks from outside, against what the hart itself does, on random page tables. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plainMachine } from '../testing/bare.ts';
import { SEED } from '../testing/machines.ts';
import { Random } from '../testing/random.ts';
import { WalkProgram } from '../testing/walk-program.ts';
import { MENVCFG, MSTATUS } from './state.ts';
import { walk } from './walk.ts';

/** `ld a1, 0(a0)`, in place of whatever the program would do next. */
const LOAD = Uint8Array.of(0x83, 0x35, 0x05, 0x00);
const AT = 0x80f0_0000;

test('a walk from outside finds what a load finds, and changes nothing', () => {
  const random = new Random(SEED);
  let found = 0;
  let faults = 0;
  for (let n = 0; n < 12; n++) {
    const machine = plainMachine(new WalkProgram(random, 500).image());
    const { hartSet, ram } = machine;
    const word = (address: bigint) => {
      const bytes = new Uint8Array(8);
      if (address >= 1n << 52n || !ram.read(Number(address), bytes)) return undefined;
      return new DataView(bytes.buffer).getBigUint64(0, true);
    };
    for (let i = 0; i < 200; i++) {
      // The hardware sets accessed flags here, so that they do not matter.
      machine.run(random.between(1, 100));
      const hart = hartSet.record(0);
      const levels = hart.get('satp') >> 60n === 9n ? 4 : 3;
      const choices = [
        [0, 1, 7, 15],
        [3, 5],
        [2, 3, 510],
        [0, 1, 256],
      ];
      let va = BigInt(8 * random.below(256));
      for (let level = 0; level < levels; level++) va |= BigInt(random.pick(choices[level]!)) << BigInt(12 + 9 * level);
      va = BigInt.asUintN(64, BigInt.asIntN(12 + 9 * levels, va));
      const user = random.chance(0.5);
      const rights = (random.chance(0.5) ? MSTATUS.SUM : 0n) | (random.chance(0.5) ? MSTATUS.MXR : 0n);
      const before = Object.fromEntries(
        (['pc', 'privilege', 'mstatus', 'mtvec', 'pmpcfg0'] as const).map((f) => [f, hart.get(f)]),
      );
      const context = { privilege: user ? 0n : 1n, mstatus: rights, satp: hart.get('satp') };
      const physical = walk({ get: (field) => context[field], word }, va);

      const [a0, a1] = [hart.getX(10), hart.getX(11)];
      ram.write(AT, LOAD);
      hart.set('pc', BigInt(AT));
      hart.set('privilege', 3n);
      hart.set('menvcfg', MENVCFG.ADUE);
      hart.set('mtvec', BigInt(AT + 64));
      hart.set('mstatus', MSTATUS.MPRV | rights | (user ? 0n : 1n << 11n));
      // Protection is not the walk's business.
      hart.set('pmpcfg0', 0x1f00_0000n);
      hart.set('pmpaddr3', (1n << 54n) - 1n);
      hart.setX(10, va);
      const expected = physical === undefined ? undefined : word(physical);
      machine.engine.dropCaches();
      machine.run(1);
      const after = hartSet.record(0);
      if (after.get('pc') === BigInt(AT + 4)) {
        found++;
        assert.equal(after.getX(11), expected);
      } else {
        faults++;
        assert.equal(expected, undefined, `0x${va.toString(16)}`);
      }
      after.setX(10, a0);
      after.setX(11, a1);
      for (const [field, value] of Object.entries(before)) after.set(field as 'pc', value);
      // Changed behind the engine's back: what it derived from the old value goes.
      machine.engine.dropCaches();
    }
    machine.free();
  }
  assert.ok(found > 100 && faults > 100, `${found} found, ${faults} faults`);
});

/** A step that is not made has not walked: no flag in a page table, and no watchpoint that tells of one. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RAM_BASE } from '../memory/layout.ts';
import { clockProgram } from '../testing/clock-program.ts';
import { bareMachine } from '../testing/machines.ts';
import { PTE } from '../testing/page-tables.ts';
import { Twin } from '../testing/perturbed.ts';
import type { Machine } from './machine.ts';
import type { Stop } from './options.ts';

const LAST_LEVEL = RAM_BASE + 0x10_3000;
const ECALL = 0x73;

/** A program in U-mode, and a page of it whose first instruction calls the system. */
function program(): { image: Uint8Array; page: number } {
  for (let seed = 0; ; seed++) {
    const image = clockProgram({ harts: 1, mode: 'U', seed, perPage: 1, callOuts: ['load'] });
    const words = new DataView(image.buffer);
    for (let at = 0x4000; at < 0xe000; at += 0x2000)
      if (words.getUint32(at, true) === ECALL) return { image, page: RAM_BASE + at };
  }
}

describe('a run that ends before an instruction that it has fetched', () => {
  const { image, page } = program();
  const entry = LAST_LEVEL + (page - RAM_BASE) / 512;
  const accessed = (machine: Machine) => {
    const bytes = new Uint8Array(8);
    assert.ok(machine.ram.read(entry, bytes));
    return (new DataView(bytes.buffer).getBigUint64(0, true) & PTE.A) !== 0n;
  };
  const ways: Record<string, (machine: Machine) => () => void> = {
    breakpoint: ({ breakpoints }) => {
      const id = breakpoints.add({ address: BigInt(page) });
      return () => breakpoints.delete(id);
    },
    'system-call': (machine) => {
      const id = machine.interceptions.add({
        kind: 'system-call',
        condition: () => machine.hartSet.get(0, 'pc') === BigInt(page),
      });
      return () => machine.interceptions.delete(id);
    },
  };
  for (const [reason, arm] of Object.entries(ways)) {
    test(`${reason}: it has not been walked to, and is when it is made`, () => {
      const machine = bareMachine(image);
      const twin = new Twin(bareMachine(image));
      const disarm = arm(machine);
      machine.watchpoints.add({ address: BigInt(entry), length: 8, on: 'write', physical: true });
      const stops: Stop['reason'][] = [];
      do stops.push(machine.run(10_000).reason);
      while (stops.at(-1) === 'watchpoint');
      assert.equal(stops.at(-1), reason);
      assert.equal(stops.length, 1, 'nothing was written');
      assert.equal(accessed(machine), false);
      twin.compare(machine);
      disarm();
      const at = machine.totalSteps;
      assert.equal(machine.run(10).reason, 'watchpoint');
      assert.equal(machine.totalSteps, at + 1n);
      assert.equal(accessed(machine), true);
      twin.compare(machine);
      machine.free();
      twin.free();
    });
  }
});

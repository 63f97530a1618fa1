/** What a machine is made from and how far it runs: values that no machine takes. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Engine } from '../engine/engine.ts';
import { Pool } from '../memory/pool.ts';
import { Machine } from './machine.ts';
import { checkOptions, type MachineOptions } from './options.ts';

const good: MachineOptions = {
  boot: { kind: 'bare', image: Uint8Array.of(0x6f, 0, 0, 0) },
  memory: 32 * 2 ** 20,
  harts: 1,
  seed: 1n,
};

test('options: what is wrong, the value, and what to give', () => {
  const cases: [object, RegExp][] = [
    [{ memory: 1 }, /^memory must be an integer from 33554432 to 3221225472: got 1$/],
    [{ memory: 2 ** 25 + 1 }, /^memory must be a multiple of 4 KiB/],
    [{ memory: '64M' }, /^memory must be .*: got "64M"$/],
    [{ harts: 9 }, /^harts must be an integer from 1 to 8: got 9$/],
    [{ harts: null }, /^harts must be .*: got null$/],
    [{ slice: 0 }, /^slice must be an integer from 1 to 2\^30: got 0$/],
    [{ stepsPerNanosecond: 1.5 }, /^stepsPerNanosecond must be .*: got 1.5$/],
    [{ seed: 1 }, /^seed must be a bigint from 0 to 2\^64 - 1: got 1$/],
    [{ seed: -1n }, /^seed must be .*: got -1n$/],
    [{ hints: { mark: -1 } }, /^hints\.mark must be/],
    [{ hints: { marks: 1 } }, /^hints\.marks is unknown: did you mean mark\?$/],
  ];
  for (const [wrong, message] of cases)
    assert.throws(() => checkOptions({ ...good, ...wrong } as MachineOptions), { code: 'ERR_BRAID_MACHINE', message });
});

test('a run of steps that cannot be counted down does not begin', () => {
  const machine = new Machine(new Engine(new Pool()), good);
  for (const steps of [Number.NaN, -1, 0.5, Number.POSITIVE_INFINITY, '5', null] as number[])
    assert.throws(() => machine.run(steps), {
      code: 'ERR_BRAID_MACHINE',
      message: /^steps must be an integer from 0 up/,
    });
  assert.equal(machine.totalSteps, 0n);
  assert.equal(machine.run(5).reason, 'steps');
  assert.equal(machine.totalSteps, 5n);
});

/** Tasks as threads, in the default guest. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bareMachine, guestMissing, linuxMachine, runSteps } from '../testing/machines.ts';
import { readMemory } from './inspect.ts';
import { LinuxTasks } from './linux-tasks.ts';

test('tasks of a guest, with what the kernel has saved of those that do not run', { skip: guestMissing }, () => {
  const machine = linuxMachine({ harts: 2 });
  runSteps(machine, 200_000_000);
  const tasks = new LinuxTasks(machine).list();
  const init = tasks.find(({ id }) => id === 1);
  assert.equal(init?.name, 'init');
  assert.ok(tasks.some(({ name }) => name === 'kthreadd'));
  assert.ok(tasks.filter(({ hart }) => hart !== undefined).length <= 2);
  const still = tasks.filter(({ hart }) => hart === undefined);
  assert.ok(still.length > 10);
  for (const { registers = {}, name } of still.filter(({ id }) => id !== 0)) {
    // It goes on in the kernel's code, on a stack of the kernel's.
    assert.ok(registers.pc! >> 63n === 1n && registers.sp! >> 63n === 1n, name);
    assert.equal(readMemory(machine, registers.pc!, 4, { hart: 0 }).length, 4);
    assert.equal(readMemory(machine, registers.sp!, 8, { hart: 0 }).length, 8);
  }
  machine.free();
});

test('no kernel, no tasks', () => {
  const machine = bareMachine(Uint8Array.of(0x6f, 0, 0, 0));
  assert.deepEqual(new LinuxTasks(machine).list(), []);
  machine.free();
});

/** A machine under a debugger's eyes: what is seen is right, and looking changes nothing. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stateHash } from '../machine/hash.ts';
import type { Machine } from '../machine/machine.ts';
import { guestMissing, linuxMachine } from '../testing/machines.ts';
import { readMemory, readRegisters, writeMemory } from './inspect.ts';

/** Runs until a hart is in user mode. */
function toUser(machine: Machine): number {
  for (;;) {
    machine.run(20_011);
    for (let hart = 0; hart < machine.harts; hart++) {
      if (machine.hartSet.get(hart, 'privilege') === 0n && machine.totalSteps > 50_000_000n) return hart;
    }
    assert.ok(machine.totalSteps < 2_000_000_000n, 'the guest gets to user mode');
  }
}

test('memory through the page tables, of the program and of its kernel', { skip: guestMissing }, () => {
  const machine = linuxMachine({ harts: 2 });
  const hart = toUser(machine);
  const before = stateHash(machine);
  const registers = readRegisters(machine, hart);
  assert.equal(registers.priv, 0n);
  const { pc = 0n, stvec = 0n, satp = 0n } = registers;
  // The program's own code, as its own loads find it.
  const code = readMemory(machine, pc, 16, { hart });
  const physical = machine.physical(hart, pc)!;
  assert.ok(code.length > 0);
  assert.deepEqual(readMemory(machine, physical, code.length, { hart, physical: true }), code);
  // The kernel's, which the program may not read; by the number of the address space too, seen from another hart.
  assert.equal(machine.physical(hart, stvec), undefined);
  const kernel = readMemory(machine, stvec, 64, { hart });
  assert.equal(kernel.length, 64);
  assert.ok(kernel.some((byte) => byte !== 0));
  assert.deepEqual(readMemory(machine, pc, code.length, { hart: 1 - hart, satp }), code);
  // Page 0 is mapped in no program; devices are not looked at.
  assert.equal(readMemory(machine, 0n, 16, { hart }).length, 0);
  assert.equal(readMemory(machine, 0x1000_0000n, 1, { hart, physical: true }).length, 0);
  assert.equal(readMemory(machine, 1n << 63n, 1, { hart, physical: true }).length, 0);
  assert.equal(stateHash(machine), before);
  machine.free();
});

test('memory is written whole or not at all', { skip: guestMissing }, () => {
  const machine = linuxMachine();
  const hart = toUser(machine);
  const pc = machine.hartSet.get(hart, 'pc');
  // Code that the program itself may not write.
  const before = readMemory(machine, pc, 4, { hart });
  writeMemory(machine, pc, Uint8Array.of(1, 2, 3, 4), { hart });
  assert.deepEqual([...readMemory(machine, pc, 4, { hart })], [1, 2, 3, 4]);
  writeMemory(machine, pc, before, { hart });
  const end = BigInt(0x8000_0000 + machine.options.memory);
  const hash = stateHash(machine);
  assert.throws(
    () => writeMemory(machine, end - 2n, new Uint8Array(4).fill(255), { hart, physical: true }),
    /no memory to write at 0x88000000/,
  );
  assert.equal(stateHash(machine), hash);
  machine.free();
});

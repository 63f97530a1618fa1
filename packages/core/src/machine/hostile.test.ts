/** Guests that flood their host: what a run holds and does for them is bounded, and bounding it changes nothing that they can see. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../devices/virtio-block/backend.ts';
import { type HostileProgram, hostilePrograms } from '../testing/hostile-programs.ts';
import { bareMachine, MEMORY, sharedEngine } from '../testing/machines.ts';
import type { Allowance } from './account.ts';
import { stateHash } from './hash.ts';
import { Machine } from './machine.ts';
import { restoreMachine, saveMachine } from './save.ts';

const MIB = 2 ** 20;
const DISK = 32 * MIB;
const ALLOWANCE: Allowance = { bytes: 256 * 1024, work: 4_000_000 };
/** What one instruction may add: a mebibyte of work, and a chain that is as long as can be. */
const BEYOND = { bytes: 3 * MIB, work: 40_000_000 };
const STEPS = 200_000;
/** Of guests whose every step is a lot of work. */
const FEW = 5000;

const disks = () => [{ backend: new MemoryBackend(new Uint8Array(DISK)) }];

function machineOf({ image, sbi = false, disk = false, symbols }: HostileProgram, received: (bytes: number) => void) {
  const output = (bytes: Uint8Array) => received(bytes.length);
  const outputs = { console: output, terminal: output, agent: output };
  const extra = disk ? { disks: disks() } : {};
  if (symbols === undefined) {
    return bareMachine(
      image,
      { ...extra, ...(sbi && { boot: { kind: 'linux', kernel: image, flat: true } as const }) },
      outputs,
    );
  }
  const tohost = Number(symbols.tohost);
  const machine = new Machine(
    sharedEngine(),
    { boot: { kind: 'bare', image }, memory: MEMORY, harts: 1, seed: 1n },
    outputs,
    { kind: 'restore', monitorSbi: false, symbols: { tohost, fromhost: Number(symbols.fromhost) } },
  );
  machine.ram.write(0x8000_0000, image);
  machine.hartSet.record(0).set('pc', 0x8000_0000n);
  machine.watchHostInterface();
  return machine;
}

describe('a flood is held and worked on in bounds', () => {
  for (const program of hostilePrograms()) {
    test(program.name, () => {
      let inRun = 0;
      let most = 0;
      let work = 0;
      let all = 0;
      const flooded = machineOf(program, (bytes) => {
        inRun += bytes;
        all += bytes;
      });
      flooded.account.allowance = ALLOWANCE;
      const goal = BigInt(
        program.disk || /chain|lines|entropy|network|itself|changes/.test(program.name) ? FEW : STEPS,
      );
      for (let runs = 0; flooded.totalSteps < goal; runs++) {
        assert.ok(runs < 1_000_000, 'runs come to nothing');
        inRun = 0;
        const { reason } = flooded.run(Number(goal - flooded.totalSteps));
        assert.ok(reason === 'steps' || reason === 'attention', reason);
        most = Math.max(most, inRun);
        work = Math.max(work, flooded.account.work);
      }
      assert.ok(most <= ALLOWANCE.bytes + BEYOND.bytes, `${most} bytes in a run`);
      assert.ok(work <= ALLOWANCE.work + BEYOND.work, `${work} units of work in a run`);

      let same = 0;
      const free = machineOf(program, (bytes) => {
        same += bytes;
      });
      assert.deepEqual(free.run(Number(goal)), { reason: 'steps' });
      assert.equal(stateHash(flooded), stateHash(free));
      assert.equal(all, same);
      flooded.free();
      free.free();
    });
  }
});

test('what a device has put off is part of the saved state, wherever the machine stops', () => {
  const programs = hostilePrograms().filter(({ name }) => /^(console|agent|entropy|network|disk)/.test(name));
  for (const program of programs) {
    const whole = machineOf(program, () => {});
    whole.run(9000);
    let machine = machineOf(program, () => {});
    let owed = 0;
    for (const steps of [100, 1, 1, 3, 895, 3000, 1, 4999]) {
      machine.run(steps);
      machine.run(0);
      const state = saveMachine(machine);
      if (JSON.stringify(state, (_, value) => (typeof value === 'bigint' ? 0 : value)).includes('"owed"')) owed++;
      const again = restoreMachine(sharedEngine(), state, program.disk ? { disks: disks() } : {});
      machine.free();
      machine = again;
    }
    assert.equal(stateHash(machine), stateHash(whole), program.name);
    if (/1 MiB|64 KiB|256/.test(program.name)) assert.ok(owed > 0, `${program.name}: nothing was put off`);
    machine.free();
    whole.free();
  }
});

test('what an agent sends in a slice is held in bounds, and the machine goes on', () => {
  const program = hostilePrograms().find(({ name }) => name === 'agent port: chains of 1 MiB')!;
  const machine = machineOf(program, () => {});
  let most = 0;
  for (let n = 0; n < 50; n++) {
    assert.deepEqual(machine.run(100_000), { reason: 'steps' });
    const { received } = machine.saveLink();
    most = Math.max(
      most,
      received.reduce((sum, { length }) => sum + length, 0),
    );
  }
  assert.ok(most <= 8 * machine.schedule.slice, `${most} bytes`);
  machine.free();
});

/** Disks whose data comes late by the host's time: the guest sees what it sees of ones that answer at once, whatever else comes meanwhile. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BlockBackend, MemoryBackend } from '../devices/virtio-block/backend.ts';
import { guestMissing, linuxMachine, runSteps, SEED } from '../testing/machines.ts';
import { Random } from '../testing/random.ts';
import { stateHash } from './hash.ts';
import { LogReader } from './log.ts';

const SIZE = 2 ** 20;
const WORK = [
  'dd if=/dev/vda bs=12k | md5sum',
  'dd if=/dev/zero of=/dev/vda bs=7000 count=40 conv=fsync',
  'echo 3 >/proc/sys/vm/drop_caches; md5sum /dev/vda',
  'blkdiscard -o 65536 -l 131072 /dev/vda; sync',
  'dd if=/dev/vda of=/dev/null bs=4k count=100 & dd if=/dev/vda of=/dev/null bs=64k skip=8 & wait; echo all is "done"',
];

const newDisk = () => new MemoryBackend(Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 9)) & 0xff));

/** Of its calls every other one answers late, while `late.on`. */
function lateDisk(inner: MemoryBackend, choices: Random, late: { on: boolean }): BlockBackend {
  const perhaps = (call: () => void) => {
    if (!late.on || choices.chance(0.5)) return call();
    return (async () => {
      for (let n = choices.below(3); n >= 0; n--) await Promise.resolve();
      call();
    })();
  };
  return {
    size: inner.size,
    readOnly: false,
    read: (offset, into) => perhaps(() => inner.read(offset, into)),
    write: (offset, bytes) => perhaps(() => inner.write(offset, bytes)),
    flush: () => perhaps(() => inner.flush()),
    zero: (offset, length) => perhaps(() => inner.zero(offset, length)),
  };
}

test(`disks that answer late are as ones that answer at once (seed ${SEED})`, { skip: guestMissing }, async () => {
  const choices = new Random(SEED);
  const late = { on: true };
  const options = { memory: 64 * 2 ** 20, harts: 2 };
  const memory = newDisk();
  let text = '';
  const machine = linuxMachine(
    { ...options, disks: [{ backend: lateDisk(memory, choices, late) }] },
    { console: (bytes) => (text += Buffer.from(bytes).toString('latin1')) },
  );
  const stalls = { boundary: 0, inside: 0 };
  /** What comes from outside while it waits enters where it stands, when its data is there. */
  const meanwhile = () => {
    if (choices.chance(0.5)) machine.input({ kind: 'time', advance: BigInt(choices.below(100_000)) });
    if (choices.chance(0.2)) machine.input({ kind: 'resize', columns: choices.below(200), rows: 50 });
    if (choices.chance(0.3)) machine.run(choices.below(100));
  };
  const until = async (pattern: string) => {
    while (!text.includes(pattern)) {
      assert.ok(machine.totalSteps < 2_000_000_000n, `no ${pattern} in\n${text.slice(-2000)}`);
      const stop = machine.run(choices.pick([1000, 200_000]));
      if (stop.reason !== 'stalled') continue;
      stalls[machine.position.step === 0 ? 'boundary' : 'inside']++;
      meanwhile();
      await stop.until;
    }
  };
  await until('# ');
  for (const [n, line] of WORK.entries()) {
    text = '';
    machine.input({ kind: 'console', bytes: new TextEncoder().encode(`${line}; echo end of $((${n}))\n`) });
    await until(`end of ${n}`);
    await until('# ');
  }
  assert.match(text, /all is done/);
  assert.ok(stalls.boundary > 5 && stalls.inside > 5, JSON.stringify(stalls));
  for (let stop = machine.run(0); stop.reason === 'stalled'; stop = machine.run(0)) await stop.until;
  late.on = false;

  const disk = newDisk();
  const again = linuxMachine({ ...options, disks: [{ backend: disk }] });
  again.follow(new LogReader(machine.log));
  runSteps(again, Number(machine.totalSteps));
  assert.equal(again.totalSteps, machine.totalSteps);
  assert.deepEqual(disk.bytes, memory.bytes);
  assert.equal(stateHash(again), stateHash(machine));
  for (const each of [machine, again]) each.free();
});

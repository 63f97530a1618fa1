/**
 * Registers and interrupt edges of every device, compared with QEMU's `virt` machine: random sequences of loads and
 * stores, after each of which the pending bits, the interrupt controller's requests and its claims must be the same.
 * Where they differ, and why, is in docs/devices.md; the cases show it.
 *
 * BRAID_SEED repeats a run; BRAID_FUZZ_PROGRAMS makes it longer.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { DeviceAccesses, recordText } from '../packages/core/src/testing/device-access.ts';
import { DEVICE_CASES } from '../packages/core/src/testing/device-cases.ts';
import { type DeviceKind, DeviceProgram } from '../packages/core/src/testing/device-program.ts';
import { SEED } from '../packages/core/src/testing/machines.ts';
import { Random } from '../packages/core/src/testing/random.ts';
import { qemuMissing, runBoth, runQemu } from './lib/qemu.ts';

const PROGRAMS = Number(process.env.BRAID_FUZZ_PROGRAMS ?? 6);
const STEPS = 300;

/** Time follows the instructions, so that waits of the guest are long enough however busy the host is. */
const CLOCK = ['-icount', 'shift=0,sleep=off', '-rtc', 'clock=vm'];
const ENTROPY = [
  ...['-global', 'virtio-mmio.force-legacy=false', '-object', 'rng-builtin,id=source'],
  ...['-device', 'virtio-rng-device,rng=source,bus=virtio-mmio-bus.6'],
];

for (const { name, run, expected, qemu = expected } of DEVICE_CASES) {
  test(`on QEMU: ${name}`, async (t) => {
    const missing = qemuMissing();
    if (missing) return t.skip(missing);
    const program = new DeviceAccesses();
    run(program);
    using ran = await runQemu(program.image(), undefined, [...CLOCK, ...ENTROPY]);
    assert.deepEqual(program.records(ran).map(recordText), qemu);
  });
}

for (const kind of ['uart', 'plic', 'clint', 'rtc', 'virtio'] satisfies DeviceKind[]) {
  test(`${kind}: random accesses read and interrupt as on QEMU`, async (t) => {
    const missing = qemuMissing();
    if (missing) return t.skip(missing);
    for (let n = 0; n < PROGRAMS; n++) {
      const seed = SEED * 1000 + n;
      const program = new DeviceProgram(new Random(seed), kind, STEPS);
      const { braid, qemu } = await runBoth(program.image(), {
        harts: 2,
        qemu: [...CLOCK, ...ENTROPY],
      });
      using ours = braid;
      using theirs = qemu;
      const a = program.records(ours);
      const b = program.records(theirs);
      for (const [i, what] of program.steps.entries()) {
        if (isDeepStrictEqual(a[i], b[i])) continue;
        const from = Math.max(0, i - 12);
        const before = program.steps.slice(from, i).map((step, j) => `  ${step}: ${recordText(a[from + j]!)}`);
        assert.fail(
          `seed ${seed}, step ${i}, ${what}: value, mip, pending, claim are ${recordText(a[i]!)}, and on QEMU ` +
            `${recordText(b[i]!)}; before:\n${before.join('\n')}`,
        );
      }
      const interrupts = a.filter(({ mip }) => mip !== 0n).length;
      t.diagnostic(`seed ${seed}: ${program.steps.length} steps, ${interrupts} with an interrupt pending`);
      // A few in a hundred, whatever the seed.
      assert.ok(interrupts > STEPS / 50);
    }
  });
}

/**
 * Registers and interrupt edges of every device, compared with QEMU's `virt` machine: random sequences of loads and
 * stores, after each of which the pending bits, the interrupt controller's requests and its claims must be the same.
 * docs/devices.md says where they may differ, and why.
 *
 * BRAID_SEED repeats a run; BRAID_FUZZ_PROGRAMS makes it longer.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  DEVICE_LOG,
  DEVICE_LOG_WORDS,
  type DeviceKind,
  DeviceProgram,
} from '../packages/core/src/testing/device-program.ts';
import { SEED } from '../packages/core/src/testing/machines.ts';
import { Random } from '../packages/core/src/testing/random.ts';
import { qemuMissing, runBoth } from './lib/qemu.ts';

const PROGRAMS = Number(process.env.BRAID_FUZZ_PROGRAMS ?? 6);
const STEPS = 300;

/** Time follows the instructions, so that waits of the guest are long enough however busy the host is. */
const CLOCK = ['-icount', 'shift=0,sleep=off', '-rtc', 'clock=vm'];
const ENTROPY = [
  ...['-global', 'virtio-mmio.force-legacy=false', '-object', 'rng-builtin,id=source'],
  ...['-device', 'virtio-rng-device,rng=source,bus=virtio-mmio-bus.6'],
];

for (const kind of ['uart', 'plic', 'clint', 'rtc', 'virtio'] satisfies DeviceKind[]) {
  test(`${kind}: random accesses read and interrupt as on QEMU`, async (t) => {
    const missing = qemuMissing();
    if (missing) return t.skip(missing);
    for (let n = 0; n < PROGRAMS; n++) {
      const seed = SEED * 1000 + n;
      const program = new DeviceProgram(new Random(seed), kind, STEPS);
      const { braid, qemu } = await runBoth(program.image(), {
        harts: 2,
        qemu: [...CLOCK, ...(kind === 'virtio' ? ENTROPY : [])],
      });
      using ours = braid;
      using theirs = qemu;
      const length = program.steps.length * DEVICE_LOG_WORDS * 8;
      const a = new BigUint64Array(ours.read(DEVICE_LOG, length).buffer);
      const b = new BigUint64Array(theirs.read(DEVICE_LOG, length).buffer);
      let interrupts = 0;
      for (const [i, what] of program.steps.entries()) {
        const entry = (log: BigUint64Array) =>
          [...log.subarray(i * DEVICE_LOG_WORDS, (i + 1) * DEVICE_LOG_WORDS)]
            .map((word) => word.toString(16))
            .join(' ');
        if (a[i * DEVICE_LOG_WORDS + 1] !== 0n) interrupts++;
        if (entry(a) === entry(b)) continue;
        const before = program.steps.slice(Math.max(0, i - 12), i).map((step, j) => {
          const at = Math.max(0, i - 12) + j;
          return `  ${step}: ${[...a.subarray(at * 4, at * 4 + 4)].map((word) => word.toString(16)).join(' ')}`;
        });
        assert.fail(
          `seed ${seed}, step ${i}, ${what}: value, mip, pending, claim are ${entry(a)}, and on QEMU ${entry(b)}; ` +
            `before:\n${before.join('\n')}`,
        );
      }
      t.diagnostic(`seed ${seed}: ${program.steps.length} steps, ${interrupts} with an interrupt pending`);
      assert.ok(interrupts > STEPS / 10);
    }
  });
}

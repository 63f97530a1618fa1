/** Times that a guest writes may be anything: what comes of them can be saved, restored and recorded. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PLATFORM } from '../boot/device-tree.ts';
import { END_OF_TIME } from '../devices/device.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from '../testing/assembler.ts';
import { CLINT } from '../testing/fragments.ts';
import { bareMachine, runs, sharedEngine } from '../testing/machines.ts';
import { stateHash } from './hash.ts';
import { restoreLog, saveLog } from './log.ts';
import { restoreMachine, saveMachine } from './save.ts';

const [t0, s0] = [5, 8] as const;
const RTC = { timeLow: 0x00, timeHigh: 0x04, alarmLow: 0x08, alarmHigh: 0x0c, interruptEnabled: 0x10 } as const;

/** Sets clocks and alarms, and waits. */
function program({ wall, alarm, time, compare }: Record<'wall' | 'alarm' | 'time' | 'compare', bigint>): Uint8Array {
  const a = new Assembler(RAM_BASE);
  const store = (address: number, value: bigint) => {
    a.li(s0, address);
    a.li(t0, BigInt.asIntN(32, value));
    a.op('sw', { rs1: s0, rs2: t0 });
  };
  const pair = (low: number, high: number, value: bigint) => {
    store(high, value >> 32n);
    store(low, value & 0xffff_ffffn);
  };
  const { base } = PLATFORM.rtc;
  store(PLATFORM.plic.base + 4 * PLATFORM.rtc.irq, 1n);
  store(PLATFORM.plic.base + 0x2000, 1n << BigInt(PLATFORM.rtc.irq));
  pair(base + RTC.timeLow, base + RTC.timeHigh, wall);
  store(base + RTC.interruptEnabled, 1n);
  pair(base + RTC.alarmLow, base + RTC.alarmHigh, alarm);
  pair(CLINT + 0xbff8, CLINT + 0xbffc, time);
  pair(CLINT + 0x4000, CLINT + 0x4004, compare);
  a.li(t0, (1 << 11) | (1 << 7));
  a.csrw(0x304, t0);
  a.op('wfi');
  a.label('end');
  a.jump(0, 'end');
  return a.bytes();
}

const u64 = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc
    .tuple(fc.integer({ min: 20, max: 64 }), fc.integer({ min: -200_000, max: 200_000 }))
    .map(([power, beside]) => BigInt.asUintN(64, (1n << BigInt(power)) + BigInt(beside))),
);

test('alarms and comparators of any value leave a machine that can be saved and restored', () => {
  let jumps = 0;
  fc.assert(
    fc.property(
      fc.record({ wall: u64, ahead: u64, time: u64, compare: u64 }),
      fc.constantFrom(1, 16),
      ({ wall, ahead, time, compare }, ratio) => {
        const values = { wall, alarm: BigInt.asUintN(64, wall + ahead), time, compare };
        const machine = bareMachine(program(values), { stepsPerNanosecond: ratio });
        for (let n = 0; n < 3; n++) machine.run(1000);
        if (machine.now > 1_000_000n) jumps++;
        assert.ok(machine.now < END_OF_TIME + 1_000_000n, `${machine.now} ns`);
        const again = restoreMachine(sharedEngine(), saveMachine(machine));
        assert.equal(stateHash(again), stateHash(machine));
        restoreLog(saveLog(machine.log));
        for (const one of [machine, again]) one.run(1000);
        assert.equal(stateHash(again), stateHash(machine));
        machine.free();
        again.free();
      },
    ),
    runs(150),
  );
  assert.ok(jumps > 10, `${jumps} jumps`);
});

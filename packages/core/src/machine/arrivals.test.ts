/** What comes from outside (I2, I6): a state does not tell how often the machine stood there before it came, nor does waiting end. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLATFORM } from '../boot/device-tree.ts';
import { MENVCFG } from '../hart/state.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from '../testing/assembler.ts';
import { CSR } from '../testing/csr.ts';
import { bareMachine, runSteps, sharedEngine } from '../testing/machines.ts';
import { stateOf } from '../testing/perturbed.ts';
import { LogReader } from './log.ts';
import { restoreMachine, saveMachine } from './save.ts';

const [t0, t1, s1] = [5, 6, 9] as const;

/**
 * Hart 0 sets its timer and sleeps without being woken by it; hart 1 works until that time has come, in its second slice, and sleeps; hart
 * 2 sleeps until somebody types.
 */
function threeSleepers(): Uint8Array {
  const a = new Assembler(RAM_BASE);
  const store = (op: 'sb' | 'sw', address: number, value: number) => {
    a.li(t0, address);
    a.li(t1, value);
    a.op(op, { rs1: t0, rs2: t1 });
  };
  const { plic, uart } = PLATFORM;
  a.csrr(t0, CSR.mhartid);
  a.li(t1, 1);
  a.branch('beq', t0, t1, 'works');
  a.li(t1, 2);
  a.branch('beq', t0, t1, 'listens');
  a.li(t0, MENVCFG.STCE);
  a.csrw(CSR.menvcfg, t0);
  a.li(t0, 62);
  a.csrw(CSR.stimecmp, t0);
  a.op('wfi');
  a.jump(0, 'awake');
  a.label('works');
  a.li(t0, 4000);
  a.label('work');
  a.op('addi', { rd: t0, rs1: t0, imm: -1 });
  a.branch('bne', t0, 0, 'work');
  a.op('wfi');
  a.jump(0, 'awake');
  a.label('listens');
  store('sw', plic.base + 4 * uart.irq, 1);
  store('sw', plic.base + 0x2000 + 0x80 * 4, 1 << uart.irq);
  store('sb', uart.base + 1, 1);
  a.li(t0, 0x800);
  a.csrw(CSR.mie, t0);
  a.op('wfi');
  a.label('awake');
  a.op('addi', { rd: s1, rs1: s1, imm: 1 });
  a.jump(0, 'awake');
  return a.bytes();
}

test('a machine that stood idle before input came is the one to which the input came at once', () => {
  const image = threeSleepers();
  const make = () => bareMachine(image, { harts: 3, slice: 5000 });
  const live = make();
  assert.equal(runSteps(live, 20_000).reason, 'idle');
  live.input({ kind: 'console', bytes: Uint8Array.of(65) });
  runSteps(live, 2000);
  const replay = make();
  replay.takeInputs();
  replay.follow(new LogReader(live.log));
  runSteps(replay, Number(live.totalSteps));
  assert.deepEqual(stateOf(replay), stateOf(live));
  for (const machine of [live, replay]) machine.free();
});

test('a run comes back from a machine that only the client of an agent wakes up, again and again', () => {
  const a = new Assembler(RAM_BASE);
  a.label('sleep');
  a.op('wfi');
  a.jump(0, 'sleep');
  const asleep = bareMachine(a.bytes());
  assert.equal(runSteps(asleep, 10).reason, 'idle');
  const { devices, ...state } = saveMachine(asleep);
  asleep.free();
  // The agent has opened its port, and says nothing.
  const { ports, ...rest } = devices.console as { ports: object[] };
  const console = { ...rest, ports: [ports[0], { ...ports[1], ready: true, guestOpen: true }] };
  const machine = restoreMachine(sharedEngine(), { ...state, devices: { ...devices, console } });
  machine.account.allowance = { bytes: 1e6, work: 1e6 };
  const before = machine.now;
  for (let n = 0; n < 3; n++) assert.equal(machine.run().reason, 'attention');
  assert.ok(machine.now > before, 'its time goes on');
  assert.ok(machine.log.length < 1000, `${machine.log.length} events`);
  machine.free();
});

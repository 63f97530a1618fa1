/** An output that throws changes nothing for the guest (I2): the step that has sent is made once, and what it does besides happens. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PLATFORM } from '../boot/device-tree.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from '../testing/assembler.ts';
import { CSR } from '../testing/csr.ts';
import { bareMachine, runSteps } from '../testing/machines.ts';
import { stateOf } from '../testing/perturbed.ts';

/** Each hart sends more than is held back, one byte at a time, and rests now and then. */
function talkers(): Uint8Array {
  const [t0, t1, t2] = [5, 6, 7] as const;
  const a = new Assembler(RAM_BASE);
  a.li(t0, PLATFORM.uart.base);
  a.li(t2, 5000);
  a.label('send');
  a.op('sb', { rs1: t0, rs2: t2 });
  a.op('addi', { rd: t2, rs1: t2, imm: -1 });
  a.csrr(t1, CSR.cycle);
  a.op('andi', { rd: t1, rs1: t1, imm: 63 });
  a.branch('bne', t1, 0, 'on');
  a.op('pause');
  a.label('on');
  a.branch('bne', t2, 0, 'send');
  a.op('wfi');
  a.jump(0, 'send');
  return a.bytes();
}

test('a console that throws, whenever something is sent', () => {
  const image = talkers();
  const options = { harts: 2, slice: 777 };
  const throwing = bareMachine(image, options, {
    console() {
      throw new Error('nobody listens');
    },
  });
  let thrown = 0;
  for (let n = 0; n < 400; n++) {
    const before = throwing.totalSteps;
    try {
      throwing.run(211);
    } catch (error) {
      assert.equal((error as Error).message, 'nobody listens');
      thrown++;
    }
    assert.ok(throwing.totalSteps >= before);
  }
  assert.ok(thrown > 10, `${thrown} times`);
  const quiet = bareMachine(image, options);
  runSteps(quiet, Number(throwing.totalSteps));
  assert.deepEqual(stateOf(throwing), stateOf(quiet));
  for (const machine of [throwing, quiet]) machine.free();
});

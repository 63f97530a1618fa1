/** Frames of signals on a program's stack. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deliveredAt, interruptedAt, signalText } from './signals.ts';
import type { ReadMemory } from './syscall-arguments.ts';

interface Frame {
  readonly sp: bigint;
  readonly number: number;
  readonly code: number;
  readonly fields: readonly number[];
  /** pc, sp, a0, a1, a2 of what it interrupts. */
  readonly before: readonly [bigint, bigint, bigint, bigint, bigint];
}

/** A stack from `0x1000` on. */
function stackOf(frames: readonly Frame[]): ReadMemory {
  const bytes = new Uint8Array(8192);
  const view = new DataView(bytes.buffer);
  for (const { sp, number, code, fields, before } of frames) {
    const at = Number(sp) - 0x1000;
    view.setInt32(at, number, true);
    view.setInt32(at + 8, code, true);
    for (const [n, field] of fields.entries()) view.setInt32(at + 16 + 4 * n, field, true);
    for (const [n, register] of [0, 2, 10, 11, 12].entries())
      view.setBigUint64(at + 128 + 176 + 8 * register, before[n]!, true);
  }
  return (address, length) => {
    const from = Number(address) - 0x1000;
    return from < 0 || from > bytes.length ? new Uint8Array(0) : bytes.subarray(from, from + length);
  };
}

const registers = (sp: bigint, number: number) => ({ pc: 0x500n, sp, a0: BigInt(number), a1: sp, a2: sp + 128n });

describe('signals that are delivered', () => {
  const usual: Frame = { sp: 0x1800n, number: 10, code: 0, fields: [7, 0], before: [0x104n, 0x2000n, 3n, 9n, 9n] };

  test('one: who sent it, and what the program would have gone on with', () => {
    const memory = stackOf([usual]);
    const found = deliveredAt(registers(0x1800n, 10), memory)!;
    assert.deepEqual([found.pc, found.a0, found.signals.length], [0x104n, 3n, 1]);
    assert.equal(signalText(found.signals[0]!), 'SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=7, si_uid=0}');
    assert.equal(interruptedAt(0x1800n, memory), 0x104n);
  });

  test('two at once, the second in the way of the first', () => {
    const second: Frame = {
      sp: 0x1200n,
      number: 17,
      code: 1,
      fields: [8, 1000, 3],
      before: [0x600n, 0x1800n, 10n, 0x1800n, 0x1880n],
    };
    const found = deliveredAt(registers(0x1200n, 17), stackOf([usual, second]))!;
    assert.deepEqual([found.pc, found.a0], [0x104n, 3n]);
    assert.deepEqual(
      found.signals.map(({ number }) => number),
      [10, 17],
    );
    const text = 'SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=8, si_uid=1000, si_status=3}';
    assert.equal(signalText(found.signals[1]!), text);
  });

  test('none: other registers, another number, no stack', () => {
    const memory = stackOf([usual]);
    assert.equal(deliveredAt({ ...registers(0x1800n, 10), a1: 1n }, memory), undefined);
    assert.equal(deliveredAt({ ...registers(0x1800n, 10), a2: 1n }, memory), undefined);
    assert.equal(deliveredAt(registers(0x1800n, 11), memory), undefined);
    assert.equal(deliveredAt(registers(0x1800n, 65), memory), undefined);
    assert.equal(deliveredAt(registers(0x9800n, 10), memory), undefined);
    assert.equal(interruptedAt(0x9800n, memory), undefined);
  });

  test('a stack that seems to hold one for ever ends', () => {
    const loop: Frame = { ...usual, before: [0x500n, 0x1800n, 10n, 0x1800n, 0x1880n] };
    assert.equal(deliveredAt(registers(0x1800n, 10), stackOf([loop]))!.signals.length, 64);
  });

  test('addresses and causes of faults', () => {
    const fault = { number: 11, code: 1, fields: { first: 16, second: 0, third: 0, address: 16n } };
    assert.equal(signalText(fault), 'SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x10}');
    assert.equal(signalText({ ...fault, number: 34, code: 77 }), 'SIGRT_2 {si_signo=SIGRT_2, si_code=77}');
  });
});

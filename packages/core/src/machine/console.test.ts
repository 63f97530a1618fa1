/** What a guest says on its serial port and through its monitor comes out in the order in which it was said. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildElf } from '../boot/testing.ts';
import { Assembler } from '../testing/assembler.ts';
import { MEMORY, sharedEngine } from '../testing/machines.ts';
import { Machine } from './machine.ts';
import type { Boot } from './options.ts';

const UART = 0x1000_0000;
const [T0, T1, A0, A7] = [5, 6, 10, 17];

function output(boot: Boot): string {
  let text = '';
  const machine = new Machine(
    sharedEngine(),
    { boot, memory: MEMORY, harts: 1, seed: 1n },
    { console: (bytes) => void (text += new TextDecoder().decode(bytes)) },
  );
  machine.watchHostInterface();
  assert.equal(machine.run(10_000).reason, 'exit');
  machine.free();
  return text;
}

/** Three letters through the serial port, with `say` between them, then `end`. */
function program(base: number, say: (a: Assembler, letter: number) => void, end: (a: Assembler) => void): Uint8Array {
  const a = new Assembler(base);
  for (const letter of 'ace') {
    a.li(T0, UART);
    a.li(T1, letter.charCodeAt(0));
    a.op('sb', { rs1: T0, rs2: T1 });
    say(a, letter.charCodeAt(0) + 1);
  }
  end(a);
  return a.bytes();
}

test('serial port and SBI console', () => {
  const call = (extension: number) => (a: Assembler, letter: number) => {
    a.li(A0, letter);
    a.li(A7, extension);
    a.op('ecall');
  };
  const data = program(0x8020_0000, call(1), (a) => call(8)(a, 0));
  assert.equal(output({ kind: 'linux', kernel: buildElf({ segments: [{ address: 0x8020_0000n, data }] }) }), 'abcdef');
});

test('serial port and host-target interface', () => {
  const TOHOST = 0x8000_1000;
  const store = (a: Assembler, value: bigint) => {
    a.li(T0, TOHOST);
    a.li(T1, value);
    a.op('sd', { rs1: T0, rs2: T1 });
  };
  const say = (a: Assembler, letter: number) => store(a, 0x0101_0000_0000_0000n | BigInt(letter));
  const data = program(0x8000_0000, say, (a) => store(a, 1n));
  const image = buildElf({
    entry: 0x8000_0000n,
    segments: [{ address: 0x8000_0000n, data }],
    symbols: { tohost: BigInt(TOHOST), fromhost: BigInt(TOHOST + 64) },
  });
  assert.equal(output({ kind: 'bare', image }), 'abcdef');
});

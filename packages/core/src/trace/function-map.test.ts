/** Functions of programs: where they begin and return, and where they are loaded. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { buildElf } from '../boot/testing.ts';
import { compileProgram, programsMissing } from '../testing/guest-program.ts';
import { TraceError } from './errors.ts';
import { functionMap, TracedProgram } from './function-map.ts';

/** Code from `0x1000` on, in halfwords. */
const code = (halves: readonly number[]) => (address: bigint) => halves[Number(address - 0x1000n) / 2];
const halves = (...words: number[]) => words.flatMap((word) => [word & 0xffff, word >>> 16]);

const C_RET = 0x8082;
const C_NOP = 1;
const [RET, NOP, JR_T0, LOWER] = [0x00008067, 0x00000013, 0x00028067, 0xfe010113];

describe('the map of functions', () => {
  test('returns are whole instructions of functions', () => {
    // In the second one, what looks like a short return is the upper half of an instruction.
    const all = [C_NOP, C_RET, ...halves(NOP, RET), ...halves(0x80820013, JR_T0), C_RET, C_RET];
    const map = functionMap(
      [
        { name: 'second', address: 0x100cn, end: 0x1016n },
        { name: 'first', address: 0x1000n, end: 0x100cn },
      ],
      code(all),
    );
    assert.deepEqual(
      map.functions.map(({ name }) => name),
      ['first', 'second'],
    );
    assert.deepEqual(map.returns, [0x1002n, 0x1008n, 0x1014n]);
  });

  test('who makes room on the stack, in each encoding', () => {
    const bodies = [
      [C_RET, C_RET],
      [0x1141, C_RET],
      [0x7139, C_RET],
      halves(LOWER),
      [0x0141, C_RET],
      [0x1161, C_RET],
      halves(0x00010013),
    ];
    for (const [n, frameless] of [true, false, false, false, false, false, true].entries()) {
      const { functions } = functionMap([{ name: 'f', address: 0x1000n, end: 0x1004n }], code(bodies[n]!));
      assert.equal(functions[0]!.frameless, frameless, `${n}`);
    }
  });

  test('of several at one address the longest', () => {
    const list = [4, 8, 6].map((size) => ({ name: `f${size}`, address: 0x1000n, end: 0x1000n + BigInt(size) }));
    assert.deepEqual(
      functionMap(list, code([])).functions.map(({ name }) => name),
      ['f8'],
    );
  });

  test('functions that lie over one another are read up to a bound', () => {
    // One more in front of each, all up to the end.
    const list = Array.from({ length: 100_000 }, (_, n) => {
      return { name: `f${n}`, address: 0x1000n + BigInt(2 * n), end: 0x1000n + 2_000_000n };
    });
    let reads = 0;
    const nops = () => {
      reads++;
      return C_NOP;
    };
    assert.throws(
      () => functionMap(list, nops),
      (error) => error instanceof TraceError && /more than 67108864 bytes of code/.test(error.message),
    );
    assert.ok(reads <= 2 ** 25, `${reads} reads`);
  });

  test('a file whose sections are one symbol table many times over is refused', () => {
    const names = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`f${n}`, 0x1000n]));
    const elf = buildElf({ segments: [{ address: 0x1000n, data: new Uint8Array(64) }], symbols: names });
    const count = 60_000;
    const many = new Uint8Array(elf.length + 64 * (count + 2));
    many.set(elf);
    const view = new DataView(many.buffer);
    const sections = Number(view.getBigUint64(40, true));
    // The first two sections as they are, then the table of symbols again and again.
    const header = (n: number) => elf.subarray(sections + 64 * n, sections + 64 * (n + 1));
    const table = [0, 1, 2].find((n) => header(n)[4] === 2)!;
    for (let n = 0; n < count; n++) many.set(n < 3 ? header(n) : header(table), elf.length + 64 * n);
    view.setBigUint64(40, BigInt(elf.length), true);
    view.setUint16(60, count, true);
    assert.throws(() => new TracedProgram(many), /more than 4194304 symbols/);
  });

  test('none at all is an error', () => {
    assert.throws(
      () => functionMap([], code([])),
      (error) => error instanceof TraceError && error.reason === 'program',
    );
  });
});

describe('a program', { skip: programsMissing }, () => {
  const source = `
    __attribute__((noinline)) long twice(long n) { return n * 2; }
    void _start(void) { for (;;) twice(3); }
  `;
  const flags = ['-O1', '-nostdlib', '-ffreestanding', '-fPIE', '-static-pie', '-w'];
  const program = () => new TracedProgram(compileProgram(source, flags));
  const BIAS = 0x2aaa_b000n;

  test('its functions, some of them, or none', () => {
    const { map, movable } = program();
    assert.deepEqual(map.functions.map(({ name }) => name).sort(), ['_start', 'twice']);
    assert.ok(movable);
    const file = compileProgram(source, ['-O1', '-nostdlib', '-ffreestanding', '-w']);
    const some = new TracedProgram(file, (name) => name === 'twice');
    assert.deepEqual(
      some.map.functions.map(({ name }) => name),
      ['twice'],
    );
    assert.ok(!some.movable);
    assert.throws(() => new TracedProgram(file, () => false), TraceError);
    assert.throws(() => new TracedProgram(file.subarray(0, 40)), /ELF/);
  });

  test('where it is loaded is told by what the kernel leaves above the stack', () => {
    const traced = program();
    const stack = new Uint8Array(300_000);
    const view = new DataView(stack.buffer);
    const base = 0x7fff_0000n;
    const memory = (address: bigint, length: number) => {
      const from = Number(address - base);
      return stack.subarray(from, from + length);
    };
    assert.equal(traced.findBias(base, memory), undefined);
    for (const at of [64, 65_536 - 24, 200_008]) {
      stack.fill(0);
      const pairs = [33n, 0x7000n, 6n, 4096n, 3n, 0x40n + BIAS, 9n, traced.entry + BIAS, 0n, 0n];
      for (const [n, word] of pairs.entries()) view.setBigUint64(at + 8 * n, word, true);
      assert.equal(traced.findBias(base + 24n, memory), BIAS, `${at}`);
      // An entry that this program cannot have is another program's.
      view.setBigUint64(at + 56, traced.entry + BIAS + 2n, true);
      assert.equal(traced.findBias(base + 24n, memory), undefined);
    }
  });

  test('another program’s code is told from its own', () => {
    const traced = program();
    const { address } = traced.map.functions.find(({ name }) => name === 'twice')!;
    // Only some of it is mapped.
    const own = (at: bigint, length: number) => {
      const there = at < address + BIAS + 4n ? Number(address + BIAS + 4n - at) : 0;
      return traced.bytes(at - BIAS, Math.min(length, Math.max(0, there))) ?? new Uint8Array(0);
    };
    const other = (at: bigint, length: number) => own(at, length).map((byte, n) => (n === 1 ? byte ^ 1 : byte));
    assert.ok(traced.isAt(address + BIAS, BIAS, own));
    assert.ok(!traced.isAt(address + BIAS, BIAS, other));
    assert.ok(!traced.isAt(address + BIAS, 0n, own));
    assert.ok(!traced.isAt(address + BIAS, BIAS, () => new Uint8Array(0)));
  });
});

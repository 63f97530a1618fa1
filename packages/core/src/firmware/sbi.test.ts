import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StateError } from '../state/errors.ts';
import { Sbi, type SbiHost } from './sbi.ts';

const RAM = 0x8000_0000;
const SIZE = 0x1_0000;
const MAX = (1n << 64n) - 1n;
const error = (code: number) => BigInt.asUintN(64, BigInt(code));

/** A host that writes down what it is asked to do. */
function fake(harts = 4) {
  const registers = Array.from({ length: harts }, () => new Array<bigint>(32).fill(0n));
  const ram = new Uint8Array(SIZE);
  const log: string[] = [];
  const typed: number[] = [];
  const pending = new Set<number>();
  const contains = (address: number, length: number) => address >= RAM && address + length <= RAM + SIZE;
  const note =
    (name: string) =>
    (...parts: unknown[]) => {
      log.push([name, ...parts.map((part) => (typeof part === 'object' ? show(part) : String(part)))].join(' '));
    };
  const host: SbiHost = {
    harts,
    memory: {
      contains,
      read(address, into) {
        if (!contains(address, into.length)) return false;
        into.set(ram.subarray(address - RAM, address - RAM + into.length));
        return true;
      },
      write(address, bytes) {
        if (!contains(address, bytes.length)) return false;
        ram.set(bytes, address - RAM);
        return true;
      },
    },
    getRegister: (hart, register) => registers[hart]![register]!,
    setRegister: (hart, register, value) => {
      assert.ok(value >= 0n && value <= MAX);
      registers[hart]![register] = value;
    },
    setSoftwareInterrupt: (hart) => {
      pending.add(hart);
      log.push(`ipi ${hart}`);
    },
    clearSoftwareInterrupt: (hart) => pending.delete(hart),
    setTimer: note('timer'),
    flushAddressSpace: note('flush'),
    flushInstructions: note('fence.i'),
    startHart: note('start'),
    stopHart: note('stop'),
    suspendHart: note('suspend'),
    finish: note('finish'),
    consoleWrite: (bytes) => void log.push(`write ${new TextDecoder('latin1').decode(bytes)}`),
    consoleRead: (max) => Uint8Array.from(typed.splice(0, max)),
    loadVirtual: (_hart, address) => (address === 0x1000n ? 0b1010n : undefined),
  };
  const sbi = new Sbi(host, { vendor: 1n, architecture: 2n, implementation: 3n });
  /** Makes a call; `[a0, a1]` after it. */
  const call = (extension: number | bigint, fn: number, ...args: (number | bigint)[]) =>
    callOn(0, extension, fn, ...args);
  const callOn = (hart: number, extension: number | bigint, fn: number, ...args: (number | bigint)[]) => {
    const r = registers[hart]!;
    r.fill(0x5a5an);
    args.forEach((value, i) => {
      r[10 + i] = BigInt.asUintN(64, BigInt(value));
    });
    r[16] = BigInt(fn);
    r[17] = BigInt.asUintN(64, BigInt(extension));
    const before = r.slice();
    sbi.call(hart);
    for (let i = 0; i < 32; i++) if (i !== 10 && i !== 11) assert.equal(r[i], before[i], `x${i} changed`);
    return [r[10], r[11]];
  };
  const taken = () => log.splice(0);
  return { sbi, call, callOn, taken, ram, typed, pending };
}

function show(value: unknown): string {
  return JSON.stringify(value, (_key, part) => (typeof part === 'bigint' ? `${part}` : part));
}

const TIME = 0x54494d45;
const IPI = 0x735049;
const RFENCE = 0x52464e43;
const HSM = 0x48534d;
const SRST = 0x53525354;
const DBCN = 0x4442434e;

test('base: versions, ids, and what is offered', () => {
  const { call } = fake();
  assert.deepEqual(call(0x10, 0), [0n, 0x200_0000n]);
  assert.deepEqual(call(0x10, 1), [0n, 0x62_7261_6964n]);
  assert.deepEqual(call(0x10, 2), [0n, 1n]);
  for (const id of [0x10, TIME, IPI, RFENCE, HSM, SRST, DBCN, 0, 8]) assert.deepEqual(call(0x10, 3, id), [0n, 1n]);
  for (const id of [9, 0x504d55, 0x46574654, MAX]) assert.deepEqual(call(0x10, 3, id), [0n, 0n]);
  assert.deepEqual(
    [4, 5, 6].map((fn) => call(0x10, fn)[1]),
    [1n, 2n, 3n],
  );
  assert.deepEqual(call(0x10, 7), [error(-2), 0n]);
});

test('what is not offered is not supported', () => {
  const { call, taken } = fake();
  for (const id of [9, 0xf, 0x504d55, MAX, 1n << 40n]) assert.equal(call(id, 0)[0], error(-2));
  for (const id of [TIME, IPI, SRST]) assert.equal(call(id, 1)[0], error(-2));
  for (const [id, fn] of [
    [RFENCE, 3],
    [RFENCE, 6],
    [RFENCE, 7],
    [HSM, 4],
    [DBCN, 3],
  ] as const) {
    assert.equal(call(id, fn)[0], error(-2));
  }
  assert.deepEqual(taken(), []);
});

test('time', () => {
  const { callOn, taken } = fake();
  assert.deepEqual(callOn(2, TIME, 0, MAX), [0n, 0n]);
  assert.deepEqual(taken(), [`timer 2 ${MAX}`]);
});

test('interrupts go to the harts of the mask that are not stopped', () => {
  const { call, taken } = fake();
  call(HSM, 0, 2, RAM, 0);
  call(HSM, 0, 3, RAM, 0);
  taken();
  assert.deepEqual(call(IPI, 0, 0b101, 0), [0n, 0n]);
  assert.deepEqual(taken(), ['ipi 0', 'ipi 2']);
  assert.deepEqual(call(IPI, 0, 0b11, 1), [0n, 0n]);
  assert.deepEqual(taken(), ['ipi 2']);
  assert.deepEqual(call(IPI, 0, 0, -1), [0n, 0n]);
  assert.deepEqual(taken(), ['ipi 0', 'ipi 2', 'ipi 3']);
  assert.deepEqual(call(IPI, 0, 0, 99), [0n, 0n]);
  for (const [mask, base] of [
    [0b10000, 0],
    [1, 4],
    [0b10, 3],
    [1n << 63n, 0],
    [1, MAX - 1n],
  ] as const) {
    assert.deepEqual(call(IPI, 0, mask, base), [error(-3), 0n]);
  }
  assert.deepEqual(taken(), []);
});

test('fences: of instructions, of ranges, of whole spaces, of one ASID', () => {
  const { call, taken } = fake();
  assert.deepEqual(call(RFENCE, 0, 0b11, 1), [0n, 0n]);
  assert.deepEqual(taken(), ['fence.i 1', 'fence.i 2']);
  assert.deepEqual(call(RFENCE, 1, 1, 0, 0x1000, 0x2000), [0n, 0n]);
  assert.deepEqual(taken(), ['flush 0 {"range":{"start":"4096","size":"8192"}}']);
  for (const [start, size] of [
    [0, 0],
    [0x1000, -1],
    [0, -1],
  ] as const) {
    assert.deepEqual(call(RFENCE, 1, 1, 0, start, size), [0n, 0n]);
    assert.deepEqual(taken(), ['flush 0 {}']);
  }
  assert.deepEqual(call(RFENCE, 2, 1, 0, 0, 0, 7), [0n, 0n]);
  assert.deepEqual(taken(), ['flush 0 {"asid":7}']);
  assert.deepEqual(call(RFENCE, 2, 1, 0, -4096, 4096, 0xffff), [0n, 0n]);
  assert.equal(taken().length, 1);
  assert.deepEqual(call(RFENCE, 2, 1, 0, 0, 0, 0x10000), [error(-3), 0n]);
  assert.deepEqual(call(RFENCE, 1, 0b10000, 0, 0, 0), [error(-3), 0n]);
  assert.deepEqual(call(RFENCE, 1, 1, 0, -4096, 8192), [error(-5), 0n]);
  assert.deepEqual(taken(), []);
});

test('harts start, stop and tell their state', () => {
  const { sbi, call, callOn, taken } = fake();
  const status = (hart: number) => call(HSM, 2, hart);
  assert.deepEqual(
    [0, 1].map((hart) => status(hart)[1]),
    [0n, 1n],
  );
  assert.deepEqual(call(HSM, 0, 1, RAM + 0x100, 77), [0n, 0n]);
  assert.deepEqual(taken(), [`start 1 ${RAM + 0x100} 77`]);
  assert.deepEqual(status(1), [0n, 0n]);
  assert.equal(sbi.running(1), true);
  assert.deepEqual(call(HSM, 0, 1, RAM, 0), [error(-6), 0n]);
  assert.deepEqual(call(HSM, 0, 0, RAM, 0), [error(-6), 0n]);
  for (const hart of [4, MAX]) {
    assert.deepEqual(call(HSM, 0, hart, RAM, 0), [error(-3), 0n]);
    assert.deepEqual(call(HSM, 2, hart), [error(-3), 0n]);
  }
  for (const pc of [0, RAM + 1, RAM + SIZE, MAX - 1n]) assert.deepEqual(call(HSM, 0, 2, pc, 0), [error(-5), 0n]);
  assert.deepEqual(callOn(1, HSM, 1), [0x5a5an, 0x5a5an]);
  assert.deepEqual(taken(), ['stop 1']);
  assert.deepEqual(status(1), [0n, 1n]);
  assert.equal(sbi.running(1), false);
  assert.deepEqual(call(HSM, 0, 1, RAM, 0), [0n, 0n]);
});

test('suspension keeps the registers or resumes elsewhere', () => {
  const { sbi, call, callOn, taken } = fake();
  call(HSM, 0, 1, RAM, 0);
  taken();
  assert.deepEqual(callOn(1, HSM, 3, 0, 0, 0), [0n, 0n]);
  assert.deepEqual(call(HSM, 2, 1), [0n, 4n]);
  assert.deepEqual(call(HSM, 0, 1, RAM, 0), [error(-3), 0n]);
  sbi.resume(1);
  assert.deepEqual(call(HSM, 2, 1), [0n, 0n]);
  assert.deepEqual(taken(), ['suspend 1']);
  // Bits above the 32 of the type are not part of it.
  assert.deepEqual(callOn(1, HSM, 3, 0xffff_ffff_8000_0000n, RAM + 4, 9), [0xffff_ffff_8000_0000n, BigInt(RAM + 4)]);
  sbi.resume(1);
  sbi.resume(1);
  assert.deepEqual(taken(), ['suspend 1', `start 1 ${RAM + 4} 9`]);
  assert.deepEqual(call(HSM, 3, 0x8000_0000, 3, 0), [error(-5), 0n]);
  for (const type of [1, 0x1000_0000, 0x8000_0001, 0x9000_0000])
    assert.deepEqual(call(HSM, 3, type, RAM, 0), [error(-3), 0n]);
});

test('reset: power off, reboot, failure', () => {
  const { call, taken } = fake();
  const finish = (type: number | bigint, reason: number) => {
    call(SRST, 0, type, reason);
    return taken();
  };
  assert.deepEqual(finish(0, 0), ['finish {"kind":"poweroff","code":0}']);
  assert.deepEqual(finish(0, 1), ['finish {"kind":"fail","code":1}']);
  assert.deepEqual(finish(1, 0), ['finish {"kind":"reboot","code":0}']);
  assert.deepEqual(finish(2, 1), ['finish {"kind":"reboot","code":1}']);
  for (const [type, reason] of [
    [3, 0],
    [0xf000_0000, 0],
    [0, 2],
    [0, 0xe000_0000],
  ] as const) {
    assert.deepEqual(call(SRST, 0, type, reason), [error(-3), 0n]);
  }
  assert.deepEqual(taken(), []);
});

test('debug console', () => {
  const { call, taken, ram, typed } = fake();
  ram.set(new TextEncoder().encode('hello'), 0x10);
  assert.deepEqual(call(DBCN, 0, 5, RAM + 0x10, 0), [0n, 5n]);
  assert.deepEqual(taken(), ['write hello']);
  assert.deepEqual(call(DBCN, 2, 0x141), [0n, 0n]);
  assert.deepEqual(taken(), ['write A']);
  typed.push(1, 2, 3);
  assert.deepEqual(call(DBCN, 1, 2, RAM, 0), [0n, 2n]);
  assert.deepEqual([...ram.subarray(0, 3)], [1, 2, 0]);
  assert.deepEqual(call(DBCN, 1, 100, RAM, 0), [0n, 1n]);
  assert.deepEqual(call(DBCN, 1, 100, RAM, 0), [0n, 0n]);
  assert.deepEqual(call(DBCN, 0, SIZE, RAM, 0), [0n, 4096n]);
  taken();
  for (const fn of [0, 1]) {
    for (const [length, address, high] of [
      [1, 0, 0],
      [2, RAM + SIZE - 1, 0],
      [-1, RAM, 0],
      [1, RAM, 1],
      [1, -1, 0],
    ] as const) {
      assert.deepEqual(call(DBCN, fn, length, address, high), [error(-3), 0n]);
    }
  }
  assert.deepEqual(taken(), []);
});

test('legacy calls change a0 alone', () => {
  const { call, taken, typed, pending } = fake();
  const legacy = (extension: number, ...args: (number | bigint)[]) => {
    const [a0, a1] = call(extension, 0, ...args);
    assert.equal(a1, args.length > 1 ? BigInt.asUintN(64, BigInt(args[1]!)) : 0x5a5an);
    return a0;
  };
  assert.equal(legacy(0, 123), 0n);
  assert.deepEqual(taken(), ['timer 0 123']);
  assert.equal(legacy(1, 0x42), 0n);
  assert.deepEqual(taken(), ['write B']);
  assert.equal(legacy(2), MAX);
  typed.push(200);
  assert.equal(legacy(2), 200n);
  pending.add(0);
  assert.equal(legacy(3), 1n);
  assert.equal(legacy(3), 0n);
  call(HSM, 0, 3, RAM, 0);
  taken();
  assert.equal(legacy(4, 0x1000), 0n);
  assert.deepEqual(taken(), ['ipi 3']);
  assert.equal(legacy(4, 0x2000), error(-5));
  assert.equal(legacy(5, 0), 0n);
  assert.deepEqual(taken(), ['fence.i 0', 'fence.i 1', 'fence.i 2', 'fence.i 3']);
  assert.equal(legacy(6, 0x1000, 0, 0), 0n);
  assert.deepEqual(taken(), ['flush 1 {}', 'flush 3 {}']);
  assert.equal(legacy(7, 0x1000, 0x1000, 0x1000, 5), 0n);
  assert.deepEqual(taken()[0], 'flush 1 {"range":{"start":"4096","size":"4096"},"asid":5}');
  legacy(8);
  assert.deepEqual(taken(), ['finish {"kind":"poweroff","code":0}']);
});

test('state is saved and restored; other records are refused', () => {
  const one = fake();
  one.call(HSM, 0, 1, RAM, 0);
  one.callOn(1, HSM, 3, 0x8000_0000, RAM + 8, 5);
  one.call(HSM, 0, 2, RAM, 0);
  one.callOn(2, HSM, 3, 0, 0, 0);
  const saved = one.sbi.save();
  const two = fake();
  two.sbi.restore(structuredClone(saved));
  assert.deepEqual(two.sbi.save(), saved);
  two.sbi.resume(1);
  assert.deepEqual(two.taken(), [`start 1 ${RAM + 8} 5`]);
  const bad: unknown[] = [
    null,
    {},
    { ...saved, version: 2 },
    { ...saved, harts: saved.harts.slice(1) },
    { ...saved, harts: saved.harts.map((hart) => ({ ...hart, state: 4 })) },
    { ...saved, harts: saved.harts.map((hart) => ({ ...hart, pc: 1n })) },
    { ...saved, harts: saved.harts.map((hart) => ({ ...hart, state: 3, pc: 0n })) },
  ];
  for (const record of bad) assert.throws(() => two.sbi.restore(record), StateError);
});

test('any call with any arguments returns', () => {
  const value = fc.oneof(
    fc.bigInt({ min: 0n, max: MAX }),
    fc.bigInt({ min: 0n, max: 8n }),
    fc.constantFrom(BigInt(RAM), MAX, 0x8000_0000n),
  );
  const extension = fc.oneof(fc.constantFrom(0x10, TIME, IPI, RFENCE, HSM, SRST, DBCN).map(BigInt), value);
  const calls = fc.array(fc.tuple(fc.nat(3), extension, fc.nat(7), fc.array(value, { maxLength: 6 })), {
    maxLength: 20,
  });
  fc.assert(
    fc.property(calls, (list) => {
      const { sbi, callOn } = fake();
      for (const [hart, id, fn, args] of list) callOn(hart, id, fn, ...args);
      const saved = sbi.save();
      sbi.restore(saved);
      assert.deepEqual(sbi.save(), saved);
    }),
    { numRuns: 500 },
  );
});

/** Hints of guest programs: what acts, what does not, and that nobody can tell engines, states and replays apart by them. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Engine, type EngineOptions } from '../engine/engine.ts';
import { CAUSE } from '../hart/state.ts';
import { HINT_MAGIC } from '../isa/hint.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';
import { Pool } from '../memory/pool.ts';
import { decodeState, encodeState } from '../state/encode.ts';
import { StateError } from '../state/errors.ts';
import { Assembler } from '../testing/assembler.ts';
import { CSR } from '../testing/csr.ts';
import { BASE } from '../testing/directed.ts';
import { bareMachine, reborn, runs, SEED, sharedEngine } from '../testing/machines.ts';
import { ALL, PTE, pte } from '../testing/page-tables.ts';
import { record, replay, restoreLoggedRun, saveLoggedRun } from '../timeline/logged-run.ts';
import { stateHash } from './hash.ts';
import type { Hint, HintQuotas } from './hints.ts';
import { formatPosition } from './log.ts';
import type { Machine } from './machine.ts';
import { MachineError, type MachineOptions } from './options.ts';
import { restoreMachine, saveMachine } from './save.ts';

const [t0, t1, t2, s0, s1, a0, a1, s2] = [5, 6, 7, 8, 9, 10, 11, 18] as const;
const NUMBER = { branch: 1, result: 2, done: 3, take: 4, mark: 5 } as const;
const ALL_HINTS: HintQuotas = { branch: 100, result: 100, done: 100, take: 100, mark: 100 };
const MIB = 2 ** 20;
const TEXT = RAM_BASE + 0x10_0000;

const ENGINES: Record<string, NonNullable<EngineOptions['translate']>> = {
  interpreter: false,
  'translator, at once': { hotness: 1, batch: 1, patience: 1 },
  'translator, after some turns': { hotness: 5, batch: 3, patience: 2 },
};
const made = new Map<string, Engine>();
function engineOf(name: string): Engine {
  const engine = made.get(name) ?? new Engine(new Pool(), 0, { translate: ENGINES[name]! });
  made.set(name, engine);
  return engine;
}

/** The magic in t1, the result register preset, and the hint. */
function hint(a: Assembler, number: number, first: number | bigint = 0, second: number | bigint = 0): void {
  a.li(a0, first);
  a.li(a1, second);
  a.li(t0, 0);
  a.op('braid.hint', { rs1: t1, imm: number });
}

/** A program in M-mode that `build` begins and that then stays where it is; traps are counted in s1 and passed over. */
function program(build: (a: Assembler) => void): Uint8Array {
  const a = new Assembler(RAM_BASE);
  a.la(t2, 'handler');
  a.csrw(CSR.mtvec, t2);
  a.li(t1, HINT_MAGIC);
  build(a);
  a.label('end');
  a.jump(0, 'end');
  a.org((a.here + 3n) & ~3n);
  a.label('handler');
  a.csrr(t2, CSR.mepc);
  a.op('addi', { rd: t2, rs1: t2, imm: 4 });
  a.csrw(CSR.mepc, t2);
  a.op('addi', { rd: s1, rs1: s1, imm: 1 });
  a.op('mret');
  return a.bytes();
}

/** The same machine on every engine. */
function onEveryEngine(
  what: string,
  build: (a: Assembler) => void,
  check: (machine: Machine) => void,
  options: Partial<MachineOptions> = { hints: ALL_HINTS },
): void {
  const image = program(build);
  for (const name of Object.keys(ENGINES)) {
    test(`${what} (${name})`, () => {
      const engine = engineOf(name);
      engine.dropCaches();
      const machine = bareMachine(image, options, {}, engine);
      try {
        check(machine);
      } finally {
        machine.free();
      }
    });
  }
}

/** Runs to the next hint. */
function nextHint(machine: Machine, steps = 10_000): Hint {
  const stop = machine.run(steps);
  assert.equal(stop.reason, 'hint');
  return (stop as { hint: Hint }).hint;
}

const x = (machine: Machine, n: number, hart = 0) => machine.hartSet.getX(hart, n);
const where = (machine: Machine) => ({ hash: stateHash(machine), position: formatPosition(machine.position) });

/** Runs so many steps, through hints that nobody answers. */
function pass(machine: Machine, steps: number): Hint[] {
  const hints: Hint[] = [];
  const end = machine.totalSteps + BigInt(steps);
  while (machine.totalSteps < end) {
    const stop = machine.run(Number(end - machine.totalSteps));
    if (stop.reason === 'hint') hints.push(stop.hint);
    else assert.equal(stop.reason, 'steps');
  }
  return hints;
}

describe('what acts', () => {
  onEveryEngine(
    'every hint stops the machine, with what it says, and its answer is in t0 before anything else runs',
    (a) => {
      hint(a, NUMBER.branch, 7);
      a.op('addi', { rd: s2, rs1: t0 });
      hint(a, NUMBER.result, TEXT, 5);
      a.op('add', { rd: s2, rs1: s2, rs2: t0 });
      hint(a, NUMBER.done, -3);
      hint(a, NUMBER.take, 64, 1);
      hint(a, NUMBER.mark, TEXT, 5);
      hint(a, NUMBER.mark, TEXT, 0);
    },
    (machine) => {
      machine.ram.write(TEXT, new TextEncoder().encode('grün'));
      const before = machine.schedule.position.round;
      assert.deepEqual(nextHint(machine), { kind: 'branch', hart: 0, count: 7 });
      assert.deepEqual(machine.position, { round: before + 1n, hart: 0, step: 0 });
      machine.input({ kind: 'hint', hart: 0, value: 5n });
      assert.equal(x(machine, t0), 0n);
      const steps = machine.totalSteps;
      assert.deepEqual(machine.run(0), { reason: 'steps' });
      assert.equal(x(machine, t0), 5n);
      assert.equal(machine.totalSteps, steps);
      const bytes = new TextEncoder().encode('grün');
      assert.deepEqual(nextHint(machine), { kind: 'result', hart: 0, address: BigInt(TEXT), bytes });
      machine.input({ kind: 'hint', hart: 0, value: 1n });
      assert.deepEqual(nextHint(machine), { kind: 'done', hart: 0, status: -3 });
      assert.equal(x(machine, s2), 6n);
      assert.deepEqual(nextHint(machine), { kind: 'take', hart: 0, index: 64, mode: 1 });
      assert.deepEqual(nextHint(machine), { kind: 'mark', hart: 0, name: 'grün' });
      assert.deepEqual(nextHint(machine), { kind: 'mark', hart: 0, name: '' });
      assert.deepEqual(machine.hints.quotas, { branch: 99, result: 99, done: 99, take: 99, mark: 98 });
      assert.equal(x(machine, t0), 0n, 'nobody answered');
      assert.deepEqual(pass(machine, 1000), []);
      assert.equal(x(machine, s1), 0n, 'no traps');
    },
  );

  onEveryEngine(
    'any register may hold the number, and in a loop the hint is one step as any other instruction',
    (a) => {
      a.li(s0, HINT_MAGIC);
      a.li(s2, 0);
      a.label('again');
      a.op('addi', { rd: s2, rs1: s2, imm: 1 });
      a.op('addi', { rd: a0, rs1: s2, imm: 0 });
      a.op('braid.hint', { rs1: s0, imm: NUMBER.done });
      a.op('xori', { rd: a1, rs1: s2, imm: 85 });
      a.jump(0, 'again');
    },
    (machine) => {
      nextHint(machine);
      for (let turn = 2; turn <= 60; turn++) {
        const before = machine.totalSteps;
        assert.deepEqual(nextHint(machine), { kind: 'done', hart: 0, status: turn });
        assert.equal(machine.totalSteps - before, 5n);
        assert.equal(x(machine, a1), BigInt((turn - 1) ^ 85));
      }
    },
  );

  onEveryEngine(
    'what is out of bounds is over with the result 0 and is not shown to the host',
    (a) => {
      const bad: [keyof typeof NUMBER, number | bigint, number | bigint][] = [
        ['branch', 0, 0],
        ['branch', 65, 0],
        ['branch', -1, 0],
        ['result', TEXT, MIB + 1],
        ['result', TEXT, -1],
        ['take', 65, 0],
        ['take', 1, 256],
        ['take', -1, 0],
        ['mark', TEXT, 257],
        ['mark', 0, 1n << 63n],
      ];
      for (const [name, first, second] of bad) {
        a.li(a0, first);
        a.li(a1, second);
        a.li(t0, 77);
        a.op('braid.hint', { rs1: t1, imm: NUMBER[name] });
        a.op('add', { rd: s2, rs1: s2, rs2: t0 });
      }
    },
    (machine) => {
      assert.deepEqual(pass(machine, 1000), []);
      assert.equal(x(machine, s2), 0n);
      assert.equal(x(machine, s1), 0n, 'no traps');
      assert.deepEqual(machine.hints.quotas, { branch: 97, result: 98, done: 100, take: 97, mark: 98 });
    },
  );

  onEveryEngine(
    'the longest result is taken, and the bytes are a copy',
    (a) => hint(a, NUMBER.result, TEXT + 4093, MIB),
    (machine) => {
      const bytes = Uint8Array.from({ length: MIB }, (_, i) => (i * 7919) >> 5);
      machine.ram.write(TEXT + 4093, bytes);
      const found = nextHint(machine) as Hint & { bytes: Uint8Array };
      machine.ram.write(TEXT + 4093, new Uint8Array(100));
      assert.equal(Buffer.compare(found.bytes, bytes), 0);
    },
  );
});

describe('what does not act', () => {
  const cases: Record<string, { rs1: number; value: bigint; imm: number; hints?: Partial<HintQuotas> }> = {
    'another number in rs1': { rs1: t1, value: HINT_MAGIC ^ 1n, imm: 1, hints: ALL_HINTS },
    'half of the number': { rs1: t1, value: HINT_MAGIC & 0xffff_ffffn, imm: 1, hints: ALL_HINTS },
    'no register': { rs1: 0, value: HINT_MAGIC, imm: 1, hints: ALL_HINTS },
    'hints that nobody has enabled': { rs1: t1, value: HINT_MAGIC, imm: 1 },
    'another hint enabled': { rs1: t1, value: HINT_MAGIC, imm: 1, hints: { mark: 5 } },
    'a quota of 0': { rs1: t1, value: HINT_MAGIC, imm: 5, hints: { ...ALL_HINTS, mark: 0 } },
    'number 0': { rs1: t1, value: HINT_MAGIC, imm: 0, hints: ALL_HINTS },
    'number 6, to which nobody listens': { rs1: t1, value: HINT_MAGIC, imm: 6, hints: ALL_HINTS },
    'number 7': { rs1: t1, value: HINT_MAGIC, imm: 7, hints: ALL_HINTS },
    'number 8': { rs1: t1, value: HINT_MAGIC, imm: 8, hints: ALL_HINTS },
    'number -1': { rs1: t1, value: HINT_MAGIC, imm: -1, hints: ALL_HINTS },
    'number 2047': { rs1: t1, value: HINT_MAGIC, imm: 2047, hints: ALL_HINTS },
  };
  /** Forty turns in which registers are changed around the instruction; in `bits` another one may stand for it. */
  const loop = (value: bigint, put: (a: Assembler) => void) =>
    program((a) => {
      a.li(t1, value);
      a.li(a0, 3);
      a.li(a1, 4);
      a.li(s2, 40);
      a.label('turn');
      a.op('addiw', { rd: s0, rs1: s0, imm: 11 });
      a.op('addi', { rd: t0, rs1: s0, imm: 0 });
      put(a);
      a.op('add', { rd: s0, rs1: s0, rs2: t0 });
      a.op('addi', { rd: s2, rs1: s2, imm: -1 });
      a.branch('bne', s2, 0, 'turn');
    });
  for (const [what, { rs1, value, imm, hints }] of Object.entries(cases)) {
    for (const name of Object.keys(ENGINES)) {
      test(`${what}: nothing but a step (${name})`, () => {
        const engine = engineOf(name);
        engine.dropCaches();
        const options = { slice: 57, ...(hints ? { hints } : {}) };
        const with_ = loop(value, (a) => a.op('braid.hint', { rs1, imm }));
        const machine = bareMachine(with_, options, {}, engine);
        const plain = bareMachine(
          loop(value, (a) => a.op('addi')),
          options,
        );
        for (const steps of [13, 40, 4, 1, 100, 90, 200]) {
          assert.deepEqual(machine.run(steps), { reason: 'steps' });
          plain.run(steps);
          // The programs differ, so the hashes do.
          assert.deepEqual(saveMachine(machine).harts, saveMachine(plain).harts);
          assert.deepEqual(machine.position, plain.position);
          assert.equal(machine.now, plain.now);
        }
        assert.deepEqual(machine.hints.quotas, plain.hints.quotas);
        machine.free();
        plain.free();
      });
    }
  }

  onEveryEngine(
    'a quota that is used up: the slices are whole again',
    (a) => {
      a.label('again');
      hint(a, NUMBER.done, 1);
      a.jump(0, 'again');
    },
    (machine) => {
      assert.equal(pass(machine, 500).length, 3);
      assert.deepEqual(machine.hints.quotas, { branch: 0, result: 0, done: 0, take: 0, mark: 0 });
      const { round, step } = machine.position;
      machine.run(machine.schedule.slice);
      assert.deepEqual(machine.position, { round: round + 1n, hart: 0, step });
    },
    { hints: { done: 3 }, slice: 50 },
  );
});

describe('pointers', () => {
  const TABLES = 0x8080_0000;
  const HANDLER = 0x80f0_0000;
  const SECOND = 2n;
  /** In U- or S-mode under Sv39, where the 2 MiB from 0 on are mapped page by page: page 0 has the program. */
  function paged(
    privilege: 0 | 1,
    pointer: number,
    length: number,
    hints: Partial<HintQuotas>,
    engine: Engine,
  ): Machine {
    const a = new Assembler(BASE);
    a.op('braid.hint', { rs1: t1, imm: NUMBER.result });
    a.label('end');
    a.jump(0, 'end');
    const machine = bareMachine(a.bytes(), { hints }, {}, engine);
    const put = (address: number, value: bigint) => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value, true);
      machine.ram.write(address, bytes);
    };
    put(TABLES, pte(TABLES + 0x1000, 1n));
    put(TABLES + 0x1000, pte(TABLES + 0x2000, 1n));
    const user = privilege === 0 ? PTE.U : 0n;
    put(TABLES + 0x2000, pte(BASE, ALL | user));
    put(TABLES + 0x2000 + 8, pte(RAM_BASE + 0x10_0000, ALL | user));
    machine.ram.write(HANDLER, Uint8Array.of(0x6f, 0, 0, 0));
    machine.ram.write(RAM_BASE + 0x10_0000, new Uint8Array(PAGE).fill(0xa1));
    machine.ram.write(RAM_BASE + 0x30_0000, new Uint8Array(PAGE).fill(0xb2));
    const hart = machine.hartSet.record(0);
    hart.set('pmpaddr0', (1n << 54n) - 1n);
    hart.set('pmpcfg0', 0x1fn);
    hart.set('satp', (8n << 60n) | BigInt(TABLES >>> 12));
    hart.set('mtvec', BigInt(HANDLER));
    hart.set('privilege', BigInt(privilege));
    hart.set('pc', 0n);
    hart.setX(t1, HINT_MAGIC);
    hart.setX(a0, BigInt(pointer));
    hart.setX(a1, BigInt(length));
    return machine;
  }
  const field = (machine: Machine, name: 'pc' | 'mcause' | 'mepc' | 'mtval') => machine.hartSet.get(0, name);
  /** Back from the handler, the page mapped: everything as at the fault but the table. */
  function mapSecond(machine: Machine, privilege: 0 | 1, flags: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, pte(RAM_BASE + 0x30_0000, flags), true);
    machine.ram.write(TABLES + 0x2000 + 8 * Number(SECOND), bytes);
    const hart = machine.hartSet.record(0);
    hart.set('privilege', BigInt(privilege));
    hart.set('pc', hart.get('mepc'));
  }

  for (const name of Object.keys(ENGINES)) {
    for (const privilege of [0, 1] as const) {
      const mode = 'US'[privilege];
      test(`a second page that is not there faults as a load, and then the hint acts (${mode}-mode, ${name})`, () => {
        const machine = paged(privilege, 0x1ff0, 0x20, { result: 1 }, engineOf(name));
        assert.deepEqual(machine.run(1), { reason: 'steps' });
        assert.equal(field(machine, 'pc'), BigInt(HANDLER));
        assert.equal(field(machine, 'mcause'), BigInt(CAUSE.loadPage));
        assert.equal(field(machine, 'mtval'), 0x2000n);
        assert.equal(field(machine, 'mepc'), 0n);
        assert.equal(machine.hints.quotas.result, 1);
        // Without the accessed flag, which is set as by a load.
        mapSecond(machine, privilege, PTE.V | PTE.R | (privilege === 0 ? PTE.U : 0n));
        const expected = new Uint8Array(0x20).fill(0xa1, 0, 0x10).fill(0xb2, 0x10);
        assert.deepEqual(nextHint(machine, 1), { kind: 'result', hart: 0, address: 0x1ff0n, bytes: expected });
        assert.equal(field(machine, 'pc'), 4n);
        assert.equal(machine.hints.quotas.result, 0);
        const entry = new Uint8Array(1);
        machine.ram.read(TABLES + 0x2000 + 8 * Number(SECOND), entry);
        assert.equal(BigInt(entry[0]!) & (PTE.A | PTE.D), PTE.A);
        machine.free();
      });
    }

    test(`a page of somebody else faults, unless the hint does not act (${name})`, () => {
      const machine = paged(0, 0x2000, 1, { result: 1 }, engineOf(name));
      machine.hartSet.record(0).set('mepc', 0n);
      mapSecond(machine, 0, ALL);
      machine.run(1);
      assert.equal(field(machine, 'mcause'), BigInt(CAUSE.loadPage));
      assert.equal(field(machine, 'mtval'), 0x2000n);
      machine.free();
      const without = paged(0, 0x2000, 1, { mark: 1 }, engineOf(name));
      without.run(1);
      assert.equal(field(without, 'pc'), 4n);
      without.free();
    });
  }

  onEveryEngine(
    'where there is no RAM the fault is that of a load',
    (a) => {
      // The serial port, nothing at all, the end of RAM, the last bytes of all.
      for (const at of [0x1000_0000, 0x4000_0000, RAM_BASE + 32 * MIB - 2, -2]) hint(a, NUMBER.mark, at, 4);
    },
    (machine) => {
      assert.deepEqual(pass(machine, 200), []);
      assert.equal(x(machine, s1), 4n);
      assert.equal(machine.hartSet.get(0, 'mcause'), BigInt(CAUSE.loadAccess));
      assert.equal(machine.hints.quotas.mark, 100);
    },
  );
});

describe('harts, states and replays', () => {
  test('the answer goes to the hart that asked, while others have their turns', () => {
    const image = program((a) => {
      a.label('again');
      a.csrr(a0, CSR.mhartid);
      a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.op('braid.hint', { rs1: t1, imm: NUMBER.branch });
      a.op('add', { rd: s2, rs1: s2, rs2: t0 });
      a.li(t0, 0);
      a.jump(0, 'again');
    });
    const machine = bareMachine(image, { harts: 3, slice: 40, hints: { branch: 30 } });
    for (let turn = 0; turn < 30; turn++) {
      const { hart, count } = nextHint(machine) as Hint & { count: number };
      assert.equal(hart, turn % 3);
      assert.equal(count, hart + 1);
      machine.input({ kind: 'hint', hart, value: BigInt(10 ** hart) });
    }
    pass(machine, 300);
    for (const hart of [0, 1, 2]) assert.equal(x(machine, s2, hart), BigInt(10 * 10 ** hart));
    machine.input({ kind: 'hint', hart: 3, value: 1n });
    assert.throws(() => machine.run(100), MachineError);
    machine.free();
  });

  const forever = program((a) => {
    a.label('again');
    hint(a, NUMBER.branch, 2);
    a.op('add', { rd: s2, rs1: s2, rs2: t0 });
    hint(a, NUMBER.mark, TEXT, 3);
    a.jump(0, 'again');
  });

  test('what is left of the quotas is part of a saved state and of the hash', () => {
    const machine = bareMachine(forever, { hints: { branch: 5, mark: 2 } });
    nextHint(machine);
    nextHint(machine);
    const expected = { branch: 4, result: 0, done: 0, take: 0, mark: 1 };
    assert.deepEqual(machine.hints.quotas, expected);
    const hash = stateHash(machine);
    const again = reborn(machine);
    assert.deepEqual(again.hints.quotas, expected);
    assert.equal(stateHash(again), hash);
    assert.deepEqual(
      pass(again, 300).map(({ kind }) => kind),
      ['branch', 'mark', 'branch', 'branch', 'branch'],
    );
    again.free();
    const [one, other] = [{ branch: 1 }, { branch: 2 }].map((hints) => {
      const machine = bareMachine(forever, { hints });
      const hash = stateHash(machine);
      machine.free();
      return hash;
    });
    assert.notEqual(one, other);
  });

  test('quotas, and records of them and of answers, are checked', () => {
    for (const hints of [{ branch: -1 }, { branch: 0.5 }, { mark: 2 ** 32 }, { leap: 1 }, { mark: NaN }] as object[]) {
      assert.throws(() => bareMachine(forever, { hints }), MachineError);
    }
    const machine = bareMachine(forever, { hints: { branch: 2 ** 32 - 1 } });
    const state = saveMachine(machine);
    const log = (event: unknown) => ({
      version: 1,
      initial: {},
      log: { version: 1, events: [{ position: { round: 0n, hart: 0, step: 0 }, time: 0n, event }] },
    });
    machine.free();
    const used = () => sharedEngine().pool.used;
    const before = used();
    const { mark: _, ...four } = state.hints;
    for (const hints of [undefined, {}, four, { ...state.hints, mark: -1 }, { ...state.hints, more: 1 }]) {
      assert.throws(() => restoreMachine(sharedEngine(), { ...state, hints }), StateError);
    }
    assert.throws(() => restoreMachine(sharedEngine(), { ...state, version: 1 }), StateError);
    assert.equal(used(), before);
    assert.throws(() => restoreLoggedRun(log({ kind: 'hint', hart: 8, value: 0n })), StateError);
    assert.throws(() => restoreLoggedRun(log({ kind: 'hint', hart: 0, value: -1n })), StateError);
    assert.throws(() => restoreLoggedRun(log({ kind: 'hint', hart: 0 })), StateError);
    assert.equal(restoreLoggedRun(log({ kind: 'hint', hart: 7, value: 2n ** 64n - 1n })).log.length, 1);
  });

  test('a replay gives the answers again, and its stops are those of the run', () => {
    const machine = bareMachine(forever, { slice: 23, harts: 2, hints: { branch: 40, mark: 40 } });
    pass(machine, 100);
    const recording = record(machine);
    const hints: Hint[] = [];
    const end = machine.totalSteps + 900n;
    while (machine.totalSteps < end) {
      const stop = machine.run(Number(end - machine.totalSteps));
      if (stop.reason !== 'hint') continue;
      hints.push(stop.hint);
      // Some are never answered.
      if (hints.length % 3 !== 0) machine.input({ kind: 'hint', hart: stop.hint.hart, value: BigInt(hints.length) });
    }
    assert.ok(hints.length > 50);
    const expected = where(machine);
    machine.free();
    const stored = restoreLoggedRun(decodeState(encodeState(saveLoggedRun(recording))));
    for (const pieces of [900, 7]) {
      const again = replay(sharedEngine(), stored);
      const found: Hint[] = [];
      for (let left = 900; left > 0; left -= pieces) found.push(...pass(again, Math.min(pieces, left)));
      assert.deepEqual(found, hints);
      assert.deepEqual(where(again), expected);
      assert.ok(again.following?.finished);
      again.free();
    }
  });
});

test(`misuse: random hints never throw, and engines and replays agree (seed ${SEED})`, () => {
  const address = fc.oneof(
    fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
    fc.integer({ min: 0, max: 100 }).map(BigInt),
    fc.integer({ min: -5000, max: 32 * MIB + 5000 }).map((n) => BigInt(RAM_BASE + n)),
    fc.constantFrom(-1n, -4096n, 0x1000_0000n, 0x8000_0000n - 1n, 1n << 55n),
  );
  const length = fc.oneof(
    fc.integer({ min: 0, max: 300 }).map(BigInt),
    fc.integer({ min: 0, max: 2 * MIB }).map(BigInt),
    fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  );
  const one = fc.record({
    number: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: -2048, max: 2047 })),
    rs1: fc.constantFrom(t1, t1, t1, t1, t2, 0),
    first: fc.oneof(fc.integer({ min: 0, max: 66 }).map(BigInt), address),
    second: fc.oneof(fc.constant(0n), length),
  });
  const quota = fc.integer({ min: 0, max: 12 });
  const quotas = fc.record({ branch: quota, result: quota, done: quota, take: quota, mark: quota });
  let shown = 0;
  fc.assert(
    fc.property(
      fc.array(one, { minLength: 1, maxLength: 12 }),
      quotas,
      fc.integer({ min: 1, max: 400 }),
      fc.integer({ min: 1, max: 2 }),
      (list, hints, slice, harts) => {
        const image = program((a) => {
          a.li(s0, 12);
          a.label('turn');
          for (const { number, rs1, first, second } of list) {
            a.li(a0, first);
            a.li(a1, second);
            a.op('braid.hint', { rs1, imm: number });
            a.op('xor', { rd: s2, rs1: s2, rs2: t0 });
          }
          a.op('addi', { rd: s0, rs1: s0, imm: -1 });
          a.branch('bne', s0, 0, 'turn');
        });
        const run = (name: string) => {
          const machine = bareMachine(image, { hints, slice, harts }, {}, engineOf(name));
          const recording = record(machine);
          const found: Hint[] = [];
          for (let turn = 0; machine.totalSteps < 4000n; turn++) {
            const stop = machine.run(Math.min(1 + ((turn * 37) % 300), 4000 - Number(machine.totalSteps)));
            if (stop.reason !== 'hint') continue;
            found.push(stop.hint);
            machine.input({ kind: 'hint', hart: stop.hint.hart, value: BigInt(found.length) * 0x1234_5678_9abcn });
          }
          const result = { found, ...where(machine) };
          machine.free();
          return { result, recording };
        };
        const [first, ...others] = Object.keys(ENGINES).map(run);
        shown += first!.result.found.length;
        for (const { result } of others) assert.deepEqual(result, first!.result);
        const again = replay(sharedEngine(), others[0]!.recording);
        const found = pass(again, 4000);
        assert.deepEqual({ found, ...where(again) }, first!.result);
        again.free();
      },
    ),
    runs(40),
  );
  assert.ok(shown > 40, `${shown} hints`);
  for (const name of Object.keys(ENGINES).slice(1)) assert.ok(engineOf(name).translation.regions > 0);
});

/** Functions written by hand, as blocks and branch points; and what is no such file. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { buildElf } from '../boot/testing.ts';
import { Assembler } from '../testing/assembler.ts';
import { AnalysisError, type AnalysisReason } from './analysis-error.ts';
import { type FunctionFlow, functionAt } from './flow.ts';
import { branchPointAt, branchPoints } from './points.ts';
import { ProgramCode } from './program-code.ts';

const seed = Number(process.env.BRAID_SEED ?? 1) >>> 0;
const BASE = 0x1_0000n;
const [ZERO, RA, SP, S0, S1, A0, A1, A5, A7] = [0, 1, 2, 8, 9, 10, 11, 15, 17] as const;

/** A program: labels without a dot become symbols, and functions if `functions` has them. */
function program(write: (a: Assembler) => void, functions: readonly string[]) {
  const a = new Assembler(BASE);
  write(a);
  const symbols = Object.fromEntries(functions.map((name) => [name, a.addressOf(name)]));
  const elf = buildElf({ segments: [{ address: BASE, data: a.bytes() }], symbols });
  const view = new DataView(elf.buffer);
  const table = Number(view.getBigUint64(40, true)) + 64;
  const from = Number(view.getBigUint64(table + 24, true));
  const ends = [...functions.map((name) => a.addressOf(name)), a.here];
  functions.forEach((_, n) => {
    const at = from + (n + 1) * 24;
    elf[at + 4] = 0x12; // global, function
    const next = ends.filter((end) => end > ends[n]!).reduce((x, y) => (x < y ? x : y), a.here);
    view.setBigUint64(at + 16, next - ends[n]!, true);
  });
  return { elf, at: (label: string) => a.addressOf(label) };
}

const ret = (a: Assembler) => a.op('jalr', { rs1: RA });
const li = (a: Assembler, rd: number, imm: number) => a.op('addi', { rd, imm });

/** Blocks as text: start, kinds and places of successors, how the function is left. */
function shape(flow: FunctionFlow): string[] {
  return flow.blocks.map(({ start, successors, leaves }) => {
    const edges = successors.map(({ kind, address }) => `${kind} ${address - flow.entry}`);
    return [`${start - flow.entry}:`, ...edges, ...(leaves ? [leaves] : [])].join(' ');
  });
}

function refused(reason: AnalysisReason, run: () => unknown): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof AnalysisError, String(error));
    assert.equal(error.code, 'ERR_BRAID_ANALYSIS');
    assert.equal(error.reason, reason, error.message);
    return true;
  });
}

const diamond = program(
  (a) => {
    a.label('f');
    a.op('addi', { rd: SP, rs1: SP, imm: -16 });
    a.op('sd', { rs1: SP, rs2: RA, imm: 8 });
    a.op('addi', { rd: S0, rs1: A0 });
    a.label('first');
    a.jump(RA, 'slow');
    a.label('back');
    a.op('addi', { rd: A5, rs1: A0, imm: -3 });
    a.label('decision');
    a.branch('beq', A5, ZERO, 'then');
    a.label('else');
    li(a, A0, 1);
    a.jump(ZERO, 'join');
    a.label('then');
    a.jump(RA, 'slow');
    a.label('join');
    a.op('ld', { rd: RA, rs1: SP, imm: 8 });
    a.op('addi', { rd: SP, rs1: SP, imm: 16 });
    a.label('last');
    ret(a);
    a.label('slow');
    li(a, A0, 7);
    ret(a);
  },
  ['f', 'slow'],
);

test('a condition that a call computes: fork in front of the call, meet behind both ways', () => {
  const flow = functionAt(diamond.elf, { symbol: 'f' });
  assert.equal(flow.name, 'f');
  assert.deepEqual(shape(flow), [
    '0: call-return 16',
    '16: taken 32 fallthrough 24',
    '24: jump 36',
    '32: call-return 36',
    '36: return',
  ]);
  const { at } = diamond;
  assert.deepEqual(branchPoints(flow), [
    {
      forkPoint: at('first'),
      decisionPoint: at('decision'),
      outcomes: [at('then'), at('else')],
      completes: [true, true],
      completion: at('join'),
      calls: [{ address: at('first'), returns: at('back'), target: at('slow') }],
      frame: { forkPoint: -16n, decisionPoint: -16n, completion: -16n },
    },
  ]);
});

test('an address within the function means the function, and a load bias is added to everything', () => {
  const { at } = diamond;
  assert.equal(functionAt(diamond.elf, { address: at('then') }).entry, at('f'));
  const movable = diamond.elf.slice();
  movable[16] = 3; // a shared object
  const bias = 0x7fff_0000_0000n;
  const [point] = branchPoints(functionAt(movable, { address: at('then') + bias }, bias));
  assert.equal(point!.completion, at('join') + bias);
  assert.equal(point!.calls[0]!.target, at('slow') + bias);
  refused('bias', () => functionAt(diamond.elf, { symbol: 'f' }, bias));
  refused('bias', () => functionAt(movable, { symbol: 'f' }, 12n));
});

test('a pair is completed, or refused for a reason', () => {
  const { elf, at } = diamond;
  const point = branchPointAt(elf, {
    forkPoint: { symbol: 'f', offset: 8n },
    decisionPoint: { symbol: 'f', offset: at('decision') - at('f') },
  });
  assert.equal(point.forkPoint, at('f') + 8n);
  assert.equal(point.completion, at('join'));
  assert.deepEqual(
    point.calls.map(({ address }) => address),
    [at('first')],
  );
  assert.deepEqual(branchPointAt(elf, { forkPoint: at('back'), decisionPoint: at('decision') }).calls, []);
  assert.equal(branchPointAt(elf, { decisionPoint: at('decision') }).forkPoint, at('first'));

  const pair = (forkPoint: bigint, decisionPoint: bigint) => () => branchPointAt(elf, { forkPoint, decisionPoint });
  refused('not-a-branch', pair(at('f'), at('back')));
  refused('no-instruction', pair(at('f'), at('decision') + 2n));
  refused('no-instruction', pair(at('f') + 2n, at('decision')));
  refused('not-dominated', pair(at('then'), at('decision')));
  refused('not-dominated', pair(at('else'), at('decision')));
  refused('other-function', pair(at('slow'), at('decision')));
  refused('no-instruction', pair(at('f'), 0x99n));
  refused('unknown-symbol', () => branchPointAt(elf, { decisionPoint: { symbol: 'g' } }));
});

test('a decision that the fork point can avoid, and one without two outcomes, are refused', () => {
  const { elf, at } = program(
    (a) => {
      a.label('f');
      a.branch('beq', A0, ZERO, 'out');
      a.label('second');
      a.branch('bne', A1, ZERO, 'out');
      a.label('same');
      a.branch('blt', A1, ZERO, 'out');
      a.label('out');
      ret(a);
    },
    ['f'],
  );
  refused('avoidable', () => branchPointAt(elf, { forkPoint: at('f'), decisionPoint: at('second') }));
  refused('one-outcome', () => branchPointAt(elf, { decisionPoint: at('same') }));
  assert.deepEqual(
    branchPoints(functionAt(elf, { symbol: 'f' })).map(({ decisionPoint }) => decisionPoint),
    [at('f'), at('second')],
  );
});

test('what does not come back is no way to the completion', () => {
  const { elf, at } = program(
    (a) => {
      a.label('f');
      a.branch('beq', A0, ZERO, 'dies');
      a.label('b');
      a.branch('beq', A1, ZERO, 'hangs');
      a.label('c');
      a.branch('beq', A5, ZERO, 'leaves');
      a.label('end');
      ret(a);
      a.label('dies');
      li(a, A7, 94);
      a.op('ecall');
      a.label('hangs');
      a.jump(ZERO, 'hangs');
      a.label('leaves');
      a.jump(RA, 'fatal');
      a.label('fatal');
      li(a, A0, 1);
      a.jump(ZERO, 'spin');
      a.label('spin');
      a.op('addi', { rd: A0, rs1: A0, imm: 1 });
      a.jump(ZERO, 'spin');
    },
    ['f', 'fatal', 'spin'],
  );
  const flow = functionAt(elf, { symbol: 'f' });
  assert.deepEqual(shape(flow), [
    '0: taken 16 fallthrough 4',
    '4: taken 24 fallthrough 8',
    '8: taken 28 fallthrough 12',
    '12: return',
    '16: never',
    '24: jump 24',
    '28: never',
  ]);
  const points = branchPoints(flow);
  assert.deepEqual(
    points.map(({ completion, completes }) => [completion, ...completes]),
    [
      [at('b'), false, true],
      [at('c'), false, true],
      [at('end'), false, true],
    ],
  );
});

test('returns at several places, tail calls and computed jumps meet in the caller', () => {
  const { elf, at } = program(
    (a) => {
      a.label('f');
      a.branch('beq', A0, ZERO, 'jump');
      a.branch('beq', A1, ZERO, 'tail');
      ret(a);
      a.label('tail');
      a.jump(ZERO, 'g');
      a.label('jump');
      a.op('jalr', { rs1: A5 });
      a.label('g');
      ret(a);
    },
    ['f', 'g'],
  );
  const flow = functionAt(elf, { symbol: 'f' });
  assert.deepEqual(shape(flow), [
    '0: taken 16 fallthrough 4',
    '4: taken 12 fallthrough 8',
    '8: return',
    '12: tail-call',
    '16: indirect',
  ]);
  assert.deepEqual(flow.unresolved, [at('jump')]);
  for (const point of branchPoints(flow)) {
    assert.equal(point.completion, 'return');
    assert.deepEqual(point.completes, [true, true]);
    assert.equal(point.frame.completion, 0n);
  }
});

test('a cold part is of the function, and a label is no other function', () => {
  const { elf, at } = program(
    (a) => {
      a.label('g');
      ret(a);
      a.label('f.cold');
      li(a, A0, 3);
      a.label('inner');
      a.jump(ZERO, 'join');
      a.label('f');
      a.branch('beq', A0, ZERO, 'f.cold');
      a.branch('beq', A1, ZERO, 'inner');
      a.label('join');
      ret(a);
    },
    ['g', 'f.cold', 'f'],
  );
  for (const place of [{ symbol: 'f' }, { address: at('inner') }]) {
    const flow = functionAt(elf, place);
    assert.equal(flow.entry, at('f'));
    assert.equal(flow.blocks.length, 5);
    assert.deepEqual(
      branchPoints(flow).map(({ completion }) => completion),
      [at('join'), at('join')],
    );
  }
});

/** The fork point and the calls of the one decision of a function `f`, as labels. */
function forkOf(write: (a: Assembler) => void): { fork: bigint; at: (label: string) => bigint; calls: bigint[] } {
  const { elf, at } = program(
    (a) => {
      a.label('f');
      write(a);
      a.label('decision');
      a.branch('bne', A5, ZERO, 'out');
      li(a, A0, 1);
      a.label('out');
      ret(a);
      a.label('g');
      ret(a);
    },
    ['f', 'g'],
  );
  const point = branchPointAt(elf, { decisionPoint: at('decision') });
  return { fork: point.forkPoint, at, calls: point.calls.map(({ address }) => address) };
}

test('a condition kept on the stack is followed to the call before it was put there', () => {
  const { fork, at, calls } = forkOf((a) => {
    a.label('wanted');
    a.jump(RA, 'g');
    a.op('sw', { rs1: S0, rs2: A0, imm: -20 });
    a.jump(RA, 'g');
    a.op('lw', { rd: A5, rs1: S0, imm: -20 });
  });
  assert.equal(fork, at('wanted'));
  assert.deepEqual(calls, [at('wanted')]);
});

test('a slot that only a callee can have filled is the result of the last call', () => {
  const { fork, at } = forkOf((a) => {
    a.jump(RA, 'g');
    a.op('addi', { rd: A0, rs1: SP, imm: 12 });
    a.label('wanted');
    a.jump(RA, 'g');
    a.op('lw', { rd: A5, rs1: SP, imm: 12 });
  });
  assert.equal(fork, at('wanted'));
});

test('a slot below a stack pointer that has moved is memory that the call before may have written', () => {
  const { fork, at } = forkOf((a) => {
    a.label('wanted');
    a.jump(RA, 'g');
    a.op('sub', { rd: SP, rs1: SP, rs2: S1 });
    a.op('lw', { rd: A5, rs1: SP, imm: 12 });
  });
  assert.equal(fork, at('wanted'));
});

test('two results of two calls: in front of the first', () => {
  const { fork, at, calls } = forkOf((a) => {
    a.jump(RA, 'g');
    a.label('wanted');
    a.jump(RA, 'g');
    a.op('addi', { rd: S1, rs1: A0 });
    a.label('second');
    a.jump(RA, 'g');
    a.op('sub', { rd: A5, rs1: S1, rs2: A0 });
  });
  assert.equal(fork, at('wanted'));
  assert.deepEqual(calls, [at('wanted'), at('second')]);
});

test('a system call, a floating-point result and memory behind a pointer count as well', () => {
  const system = forkOf((a) => {
    li(a, A7, 63);
    a.label('wanted');
    a.op('ecall');
    a.op('addi', { rd: A5, rs1: A0 });
  });
  assert.equal(system.fork, system.at('wanted'));
  const float = forkOf((a) => {
    a.label('wanted');
    a.jump(RA, 'g');
    a.op('fadd.d', { rd: 11, rs1: 10, rs2: 9 });
    a.op('flt.d', { rd: A5, rs1: 11, rs2: 9 });
  });
  assert.equal(float.fork, float.at('wanted'));
  const pointer = forkOf((a) => {
    a.label('wanted');
    a.jump(RA, 'g');
    a.op('lw', { rd: A5, rs1: S1, imm: 4 });
  });
  assert.equal(pointer.fork, pointer.at('wanted'));
});

test('nothing but the decision follows the fork point: not behind a call that does not matter, nor before a join', () => {
  const unrelated = forkOf((a) => {
    a.jump(RA, 'g');
    a.label('wanted');
    a.op('addi', { rd: A5, rs1: S1 });
  });
  assert.equal(unrelated.fork, unrelated.at('wanted'));
  assert.deepEqual(unrelated.calls, []);
  const loop = forkOf((a) => {
    a.jump(RA, 'g');
    a.label('wanted');
    a.op('addi', { rd: A5, rs1: A0 });
    a.label('again');
    a.op('addi', { rd: A5, rs1: A5, imm: -1 });
    a.branch('bne', A5, S1, 'again');
    a.label('after');
  });
  assert.equal(loop.fork, loop.at('after'));
});

test('a jump table is read, whatever the order of the instructions', () => {
  const { elf, at } = program(
    (a) => {
      a.label('f');
      a.op('addi', { rd: A0, rs1: A0, imm: -10 });
      a.la(A5, 'table');
      li(a, A1, 2);
      a.branch('bltu', A1, A0, 'out');
      a.op('slli', { rd: A0, rs1: A0, imm: 32 });
      a.op('srli', { rd: A0, rs1: A0, imm: 30 });
      a.op('add', { rd: A0, rs1: A0, rs2: A5 });
      a.op('lw', { rd: A0, rs1: A0 });
      a.op('add', { rd: A0, rs1: A5, rs2: A0 });
      a.label('jump');
      a.op('jalr', { rs1: A0 });
      a.label('table');
      for (const _ of [1, 2, 3]) a.word(0);
      a.label('x');
      li(a, A0, 1);
      a.label('y');
      li(a, A0, 2);
      a.label('out');
      ret(a);
    },
    ['f'],
  );
  const view = new DataView(elf.buffer);
  const segment = Number(view.getBigUint64(64 + 8, true));
  const table = segment + Number(at('table') - BASE);
  ['x', 'y', 'x'].forEach((label, n) => {
    view.setInt32(table + 4 * n, Number(at(label) - at('table')), true);
  });
  // The loader's segments may be written; a table is in one that is not.
  const writable = functionAt(elf, { symbol: 'f' });
  assert.deepEqual(writable.unresolved, [at('jump')]);
  view.setUint32(64 + 4, 5, true);
  const flow = functionAt(elf, { symbol: 'f' });
  assert.deepEqual(flow.unresolved, []);
  const block = flow.blocks[flow.find(at('jump'))!.block]!;
  assert.deepEqual(
    block.successors.map(({ kind, address }) => [kind, address]),
    [
      ['indirect', at('x')],
      ['indirect', at('y')],
    ],
  );
  assert.equal(branchPoints(flow)[0]!.completion, at('out'));
  // An entry that leads out of the function: the table is not believed.
  view.setInt32(table + 4, 0x7000_0000, true);
  assert.deepEqual(functionAt(elf, { symbol: 'f' }).unresolved, [at('jump')]);
});

test('a function that is too large, and one without an instruction, are refused', () => {
  const a = new Assembler(BASE);
  for (let n = 0; n <= 2 ** 16; n++) a.half(0x0001); // c.nop
  refused('too-large', () =>
    functionAt(buildElf({ segments: [{ address: BASE, data: a.bytes() }] }), { address: BASE }),
  );
  const nothing = buildElf({ segments: [{ address: BASE, data: new Uint8Array(8) }] });
  refused('no-instruction', () => functionAt(nothing, { address: BASE }));
  refused('no-instruction', () => functionAt(nothing, { address: BASE + 1n }));
  refused('no-instruction', () => functionAt(nothing, { address: 0n }));
});

test('a local name of several functions needs an address', () => {
  const { elf } = program(
    (a) => {
      a.label('a');
      ret(a);
      a.label('b');
      ret(a);
    },
    ['a', 'b'],
  );
  const view = new DataView(elf.buffer);
  const symbols = Number(view.getBigUint64(Number(view.getBigUint64(40, true)) + 64 + 24, true));
  for (const n of [1, 2]) elf[symbols + n * 24 + 4] = 2; // local functions
  view.setUint32(symbols + 48, view.getUint32(symbols + 24, true), true);
  refused('ambiguous-symbol', () => functionAt(elf, { symbol: 'a' }));
  assert.equal(functionAt(elf, { address: BASE + 4n }).entry, BASE + 4n);
});

/** Everything that can be asked of a file: it answers, or says `AnalysisError`. */
function askAll(elf: Uint8Array, bias: bigint): void {
  for (const place of [{ symbol: 'f' }, { symbol: 'slow' }, { address: BASE + bias }, { address: BASE + 40n }]) {
    try {
      branchPoints(functionAt(elf, place, bias));
    } catch (error) {
      if (!(error instanceof AnalysisError)) throw error;
    }
  }
}

test('damaged files give typed errors only', () => {
  const { elf } = diamond;
  refused('elf', () => new ProgramCode(new Uint8Array(0)));
  refused('elf', () => new ProgramCode(elf.subarray(0, 40)));
  for (let length = 0; length < elf.length; length++) askAll(elf.subarray(0, length), 0n);
  const change = fc.record({
    at: fc.integer({ min: 16, max: elf.length - 8 }),
    value: fc.oneof(fc.constantFrom(0n, 1n, 0xffffn, 1n << 63n, (1n << 64n) - 1n), fc.bigInt(0n, (1n << 64n) - 1n)),
    size: fc.constantFrom(1, 2, 4, 8),
  });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), fc.constantFrom(0n, 0x1000n), (changes, bias) => {
      const broken = elf.slice();
      const view = new DataView(broken.buffer);
      for (const { at, value, size } of changes) {
        for (let n = 0; n < size; n++) view.setUint8(at + n, Number((value >> BigInt(8 * n)) & 255n));
      }
      askAll(broken, bias);
    }),
    { numRuns: 3000, seed },
  );
});

test('random code is a function of some kind', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2, maxLength: 256 }), (data) => {
      askAll(buildElf({ segments: [{ address: BASE, data }], symbols: { f: BASE } }), 0n);
    }),
    { numRuns: 2000, seed },
  );
});

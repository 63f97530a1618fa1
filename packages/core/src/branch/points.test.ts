/**
 * Branch points of random functions against walks through them: a walk goes from instruction to instruction as a hart would, with
 * any outcome of each branch, and knows nothing of blocks.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { buildElf } from '../boot/testing.ts';
import { Assembler } from '../testing/assembler.ts';
import { Random } from '../testing/random.ts';
import { functionAt } from './flow.ts';
import { type BranchPoint, branchPoints } from './points.ts';

const seed = Number(process.env.BRAID_SEED ?? 1) >>> 0;
const BASE = 0x1_0000n;
const [ZERO, RA, S0, A0, A5, A7] = [0, 1, 8, 10, 15, 17] as const;

/** One step of a function; a number is the step that a branch or jump goes to. */
type Step =
  | { readonly kind: 'plain' | 'use' | 'keep' | 'load' | 'call' | 'return' | 'exit' | 'halfword' }
  | { readonly kind: 'branch' | 'jump'; readonly to: number };

const steps = fc.integer({ min: 1, max: 24 }).chain((length) => {
  const to = fc.integer({ min: 0, max: length });
  const kind = fc.constantFrom('plain', 'use', 'keep', 'load', 'call', 'call', 'return', 'exit', 'halfword');
  return fc.array(
    fc.oneof(
      { weight: 3, arbitrary: kind.map((kind): Step => ({ kind: kind as 'plain' })) },
      { weight: 2, arbitrary: to.map((to): Step => ({ kind: 'branch', to })) },
      { weight: 1, arbitrary: to.map((to): Step => ({ kind: 'jump', to })) },
    ),
    { minLength: length, maxLength: length },
  );
});

type Move = 'go' | 'return' | 'exit' | { readonly branch: bigint } | { readonly jump: bigint };

/** The function as a file, and what each instruction does to a walk. */
function build(list: readonly Step[]) {
  const a = new Assembler(BASE);
  const moves = new Map<bigint, { move: Move; next: bigint }>();
  const label = (n: number) => `step${n}`;
  const pending: (() => void)[] = [];
  const put = (move: () => Move, write: () => void) => {
    const at = a.here;
    write();
    const next = a.here;
    pending.push(() => moves.set(at, { move: move(), next }));
  };
  const emit = (step: Step, n: number): void => {
    a.label(label(n));
    switch (step.kind) {
      case 'plain':
        return put(
          () => 'go',
          () => a.op('addi', { rd: S0, rs1: S0, imm: 1 }),
        );
      case 'use':
        return put(
          () => 'go',
          () => a.op('addi', { rd: A5, rs1: A0 }),
        );
      case 'keep':
        return put(
          () => 'go',
          () => a.op('sd', { rs1: S0, rs2: A0, imm: -24 }),
        );
      case 'load':
        return put(
          () => 'go',
          () => a.op('ld', { rd: A5, rs1: S0, imm: -24 }),
        );
      case 'halfword':
        return put(
          () => 'go',
          () => a.half(0x0001),
        ); // c.nop
      case 'call':
        return put(
          () => 'go',
          () => a.jump(RA, 'callee'),
        );
      case 'return':
        return put(
          () => 'return',
          () => a.op('jalr', { rs1: RA }),
        );
      case 'exit':
        put(
          () => 'go',
          () => a.op('addi', { rd: A7, imm: 93 }),
        );
        return put(
          () => 'exit',
          () => a.op('ecall'),
        );
      case 'branch':
        return put(
          () => ({ branch: a.addressOf(label(step.to)) }),
          () => a.branch('bne', A5, ZERO, label(step.to)),
        );
      case 'jump':
        return put(
          () => ({ jump: a.addressOf(label(step.to)) }),
          () => a.jump(ZERO, label(step.to)),
        );
    }
  };
  list.forEach(emit);
  a.label(label(list.length));
  put(
    () => 'return',
    () => a.op('jalr', { rs1: RA }),
  );
  a.label('callee');
  const callee = a.here;
  a.op('jalr', { rs1: RA });
  for (const complete of pending) complete();
  const elf = buildElf({ segments: [{ address: BASE, data: a.bytes() }], symbols: { f: BASE, callee } });
  const view = new DataView(elf.buffer);
  const symbols = Number(view.getBigUint64(Number(view.getBigUint64(40, true)) + 64 + 24, true));
  for (const n of [1, 2]) elf[symbols + n * 24 + 4] = 0x12; // global functions
  return { elf, moves };
}

/** The addresses of one activation, and how it ended: `undefined` when the walk was cut off. */
function walk(moves: ReturnType<typeof build>['moves'], random: Random) {
  const path: bigint[] = [];
  for (let at = BASE; path.length < 400; ) {
    path.push(at);
    const { move, next } = moves.get(at)!;
    if (move === 'return' || move === 'exit') return { path, end: move };
    if (move === 'go') at = next;
    else if ('jump' in move) at = move.jump;
    else at = random.chance(0.5) ? move.branch : next;
  }
  return { path, end: undefined };
}

function check(point: BranchPoint, { path, end }: ReturnType<typeof walk>, isBranch: (at: bigint) => boolean): number {
  let checked = 0;
  path.forEach((at, n) => {
    if (at === point.forkPoint) {
      // Nothing but the decision follows, unless the walk is cut off.
      const next = path.findIndex((other, m) => m >= n && isBranch(other));
      assert.ok(next < 0 ? end === undefined : path[next] === point.decisionPoint, `fork at step ${n}`);
    }
    if (at !== point.decisionPoint || n + 1 === path.length) return;
    checked++;
    const before = path.lastIndexOf(point.forkPoint, n);
    assert.ok(before >= 0 && !path.slice(before, n).some(isBranch), `decision at step ${n}`);
    const outcome = point.outcomes.indexOf(path[n + 1]!);
    assert.ok(outcome >= 0);
    const completed = point.completion === 'return' ? end === 'return' : path.includes(point.completion, n + 1);
    if (end === 'return') assert.ok(completed, `decision at step ${n} is not completed`);
    if (!point.completes[outcome]) assert.ok(!completed, `outcome ${outcome} at step ${n} is completed`);
  });
  return checked;
}

test('on every walk through a function its branch points hold', (t) => {
  let decisions = 0;
  let points = 0;
  fc.assert(
    fc.property(steps, fc.integer(), (list, choices) => {
      const { elf, moves } = build(list);
      const random = new Random(choices);
      const found = branchPoints(functionAt(elf, { symbol: 'f' }));
      points += found.length;
      const isBranch = (at: bigint) => {
        const move = moves.get(at)!.move;
        return typeof move === 'object' && 'branch' in move && move.branch !== moves.get(at)!.next;
      };
      const decided = new Set<bigint>();
      for (let n = 0; n < 12; n++) {
        const walked = walk(moves, random);
        for (const at of walked.path) if (isBranch(at)) decided.add(at);
        for (const point of found) decisions += check(point, walked, isBranch);
      }
      for (const at of decided) assert.ok(found.some(({ decisionPoint }) => decisionPoint === at));
    }),
    { numRuns: 2000, seed },
  );
  t.diagnostic(`${points} branch points, ${decisions} decisions`);
});

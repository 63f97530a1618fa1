/** How far sp is from where it was at the entry: through frame pointers, joins and calls. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildElf } from '../boot/testing.ts';
import { Assembler } from '../testing/assembler.ts';
import { functionAt } from './flow.ts';
import { FrameOffsets } from './frame-offsets.ts';

const BASE = 0x1_0000n;
const [ZERO, RA, SP, T0, S0, A0] = [0, 1, 2, 5, 8, 10] as const;

/** The distance at each label. */
function distances(write: (a: Assembler) => void, ...labels: string[]) {
  const a = new Assembler(BASE);
  write(a);
  const elf = buildElf({ segments: [{ address: BASE, data: a.bytes() }], symbols: { f: BASE } });
  const frames = new FrameOffsets(functionAt(elf, { symbol: 'f' }));
  return labels.map((label) => frames.before(a.addressOf(label)));
}

const move = (a: Assembler, rd: number, rs1: number, imm: number) => a.op('addi', { rd, rs1, imm });
const ret = (a: Assembler) => a.op('jalr', { rs1: RA });

test('a frame pointer keeps the distance while sp is computed', () => {
  const found = distances(
    (a) => {
      move(a, SP, SP, -48);
      a.label('inside');
      move(a, S0, SP, 48);
      a.op('sub', { rd: SP, rs1: SP, rs2: A0 });
      a.label('computed');
      move(a, SP, S0, -48);
      a.label('again');
      move(a, SP, SP, 48);
      a.label('end');
      ret(a);
    },
    'inside',
    'computed',
    'again',
    'end',
  );
  assert.deepEqual(found, [-48n, undefined, -48n, 0n]);
});

test('where paths disagree, or a callee sets the frame up, nothing is known; a call leaves sp as it was', () => {
  const found = distances(
    (a) => {
      a.branch('beq', A0, ZERO, 'join');
      move(a, SP, SP, -16);
      a.label('before');
      a.jump(RA, 'callee');
      a.label('after');
      a.jump(T0, 'callee');
      a.label('saved');
      move(a, SP, SP, 16);
      a.label('join');
      ret(a);
      a.label('callee');
      ret(a);
    },
    'before',
    'after',
    'saved',
    'join',
  );
  assert.deepEqual(found, [-16n, -16n, undefined, undefined]);
});

test('a loop that moves sp ends with nothing known', () => {
  const found = distances(
    (a) => {
      a.label('again');
      move(a, SP, SP, -16);
      a.branch('bne', A0, ZERO, 'again');
      a.label('end');
      ret(a);
    },
    'again',
    'end',
  );
  assert.deepEqual(found, [undefined, undefined]);
});

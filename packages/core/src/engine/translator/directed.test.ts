/** Small programs that a translator gets wrong easily: each gives what the interpreter gives, at every place to stop. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { saveHart } from '../../hart/record.ts';
import { stateHash } from '../../machine/hash.ts';
import { RAM_BASE } from '../../memory/layout.ts';
import { Pool } from '../../memory/pool.ts';
import { Assembler, encode, rowOf } from '../../testing/assembler.ts';
import { plainMachine } from '../../testing/bare.ts';
import { CSR } from '../../testing/csr.ts';
import { Engine } from '../engine.ts';
import type { TranslationLimits } from './translator.ts';

const [ra, t0, t1, t2, s0, s1, s2] = [1, 5, 6, 7, 8, 9, 18] as const;
const EAGER: Partial<TranslationLimits> = { hotness: 1, batch: 1 };

let interpreter: Engine | undefined;

/** The program runs 40 turns of whatever `build` writes between the beginning of the loop and its end. */
function agrees(
  what: string,
  build: (a: Assembler) => void,
  { limits = EAGER, functions }: { limits?: Partial<TranslationLimits>; functions?: (a: Assembler) => void } = {},
): void {
  test(what, () => {
    const a = new Assembler(RAM_BASE);
    a.la(t0, 'handler');
    a.csrw(CSR.mtvec, t0);
    a.li(t0, 3 << 13);
    a.op('csrrs', { csr: CSR.mstatus, rs1: t0 });
    a.op('addi', { rd: s2, imm: 40 });
    a.label('turn');
    build(a);
    a.op('addi', { rd: s2, rs1: s2, imm: -1 });
    a.branch('bne', s2, 0, 'turn');
    a.label('end');
    a.jump(0, 'end');
    a.org((a.here + 3n) & ~3n);
    // Counts, and goes on behind the instruction, which has four bytes.
    a.label('handler');
    a.csrr(t2, CSR.mepc);
    a.op('addi', { rd: t2, rs1: t2, imm: 4 });
    a.csrw(CSR.mepc, t2);
    a.op('addi', { rd: s1, rs1: s1, imm: 1 });
    a.op('mret');
    functions?.(a);
    const image = a.bytes();
    const at = (engine: Engine, steps: number) => {
      const machine = plainMachine(image, {}, engine);
      machine.run(steps);
      const { x, f, fields } = saveHart(machine.hartSet.record(0));
      const found = { x, f, fields, hash: stateHash(machine) };
      machine.free();
      return found;
    };
    interpreter ??= new Engine(new Pool(), 0, { translate: false });
    const engine = new Engine(new Pool(), 0, { translate: limits });
    for (const steps of [1200, 1201, 1207, 400, 100]) {
      engine.dropCaches();
      assert.deepEqual(at(engine, steps), at(interpreter, steps), `after ${steps} steps`);
    }
    assert.ok(engine.translation.regions > 0);
  });
}

const addi = (rd: number, imm: number) => encode(rowOf('addi'), { rd, rs1: rd, imm });

agrees('rounding modes 5 and 6 are illegal', (a) => {
  for (const rm of [0, 5, 1, 6]) a.op('fadd.d', { rd: 1, rs1: 1, rs2: 2, rm });
  a.op('fcvt.l.d', { rd: s0, rs1: 1, rm: 5 });
  a.op('fmadd.s', { rd: 3, rs1: 1, rs2: 2, rs3: 3, rm: 6 });
});

agrees(
  'a jump to the second part of a far call goes where its register says',
  (a) => {
    const second = a.newLabel();
    const over = a.newLabel();
    a.la(t0, 'elsewhere');
    a.op('andi', { rd: t1, rs1: s2, imm: 1 });
    a.branch('bne', t1, 0, second);
    a.op('auipc', { rd: t0 });
    a.label(second);
    a.op('jalr', { rd: ra, rs1: t0, imm: 12 });
    a.jump(0, over);
    a.op('addi', { rd: s0, rs1: s0, imm: 1 });
    a.op('jalr', { rs1: ra });
    a.label('elsewhere');
    for (let n = 0; n < 3; n++) a.op('addi');
    a.op('addi', { rd: s0, rs1: s0, imm: 256 });
    a.op('jalr', { rs1: ra });
    a.label(over);
  },
  { limits: { hotness: 8, batch: 1 } },
);

/** Changes the constant of the `addi` at a label, then calls functions. */
function changeAndCall(changed: string, called: readonly string[]) {
  return (a: Assembler) => {
    a.la(t0, changed);
    a.op('andi', { rd: t1, rs1: s2, imm: 15 });
    a.op('slli', { rd: t1, rs1: t1, imm: 4 });
    // The upper half of `addi s0, s0, t1`.
    a.op('ori', { rd: t1, rs1: t1, imm: s0 >> 1 });
    a.op('sh', { rs1: t0, rs2: t1, imm: 2 });
    for (const name of called) {
      a.la(t0, name);
      a.op('jalr', { rd: ra, rs1: t0 });
    }
  };
}

agrees('a store into a region behind its first instruction', changeAndCall('changed', ['function']), {
  functions: (a) => {
    a.label('function');
    for (let n = 0; n < 6; n++) a.word(addi(s1, 1));
    a.label('changed');
    a.word(addi(s0, 1));
    a.op('jalr', { rs1: ra });
  },
});

for (const [what, distance] of [
  ['a store into the second page of a region', 12],
  ['a store to the second half of an instruction across the pages of a region', 10],
] as const) {
  agrees(what, changeAndCall('changed', ['beyond', 'function']), {
    functions: (a) => {
      a.org(RAM_BASE + 0x2000 - distance);
      a.label('function');
      if (distance === 10) {
        for (let n = 0; n < 2; n++) a.word(addi(s1, 1));
      } else for (let n = 0; n < 6; n++) a.word(addi(s1, 1));
      a.label('changed');
      a.word(addi(s0, 1));
      a.op('jalr', { rs1: ra });
      a.org(RAM_BASE + 0x2800);
      a.label('beyond');
      a.op('jalr', { rs1: ra });
    },
  });
}

agrees(
  'a store to the second half of an instruction across pages that is called',
  changeAndCall('changed', ['beyond', 'changed']),
  {
    functions: (a) => {
      a.org(RAM_BASE + 0x1ffe);
      a.label('changed');
      a.word(addi(s0, 1));
      a.op('jalr', { rs1: ra });
      a.org(RAM_BASE + 0x2800);
      a.label('beyond');
      a.op('jalr', { rs1: ra });
    },
  },
);

agrees(
  'one arm ends with a word in a register, the other leaves with all of it',
  (a) => {
    a.op('sltiu', { rd: t1, rs1: s2, imm: 12 });
    a.la(t0, 'function');
    a.op('jalr', { rd: ra, rs1: t0 });
  },
  {
    limits: { hotness: 8, batch: 1 },
    functions: (a) => {
      a.label('function');
      a.op('slli', { rd: s0, rs1: s2, imm: 40 });
      a.branch('beq', t1, 0, 'word');
      // No part of any region.
      a.op('ecall');
      a.op('jalr', { rs1: ra });
      a.label('word');
      a.op('addw', { rd: s0, rs1: s2, rs2: s2 });
      a.op('jalr', { rs1: ra });
    },
  },
);

agrees('results of word instructions are divided in place', (a) => {
  for (const name of ['remuw', 'remw', 'divw', 'divuw'] as const) {
    a.op('addiw', { rd: t0, rs1: s2, imm: 5 });
    a.op('addiw', { rd: t1, rs1: s2, imm: -20 });
    a.op(name, { rd: t0, rs1: t0, rs2: t1 });
    a.op('add', { rd: s0, rs1: s0, rs2: t0 });
    a.op('addw', { rd: t1, rs1: t1, rs2: t0 });
    a.op(name, { rd: t1, rs1: t0, rs2: t1 });
    a.op('xor', { rd: s0, rs1: s0, rs2: t1 });
  }
});

/**
 * What regions become: guest instructions and the text of their function, as in `golden/`. BLESS=1 rewrites the files; read what
 * it changes.
 */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { F, OFFSET, X } from '../../hart/state.ts';
import type { Row } from '../../isa/index.ts';
import { disassemble } from '../../isa/print.ts';
import { AREA, PAGE, REGION, WORKER_AREA } from '../../memory/layout.ts';
import { Pool } from '../../memory/pool.ts';
import { POOL_MEMORY } from '../../memory/routines.ts';
import { Assembler } from '../../testing/assembler.ts';
import { CSR } from '../../testing/csr.ts';
import { wasmText } from '../../testing/wasm-text.ts';
import { CodePages } from '../code-pages.ts';
import { SlotDecoder } from '../decode.ts';
import { generateInterpreter } from '../interpreter.ts';
import { SLOT } from '../slot.ts';
import { encodeRegions } from './module.ts';
import { findRegion } from './region.ts';

const [ra, a0, a1, a2, a3, a4] = [1, 10, 11, 12, 13, 14] as const;

/** Each begins at the start of a page, or `at` so many bytes behind it. */
const SNIPPETS: Record<string, { at?: number; write: (a: Assembler) => void }> = {
  straight: {
    write: (a) => {
      a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.op('add', { rd: a1, rs1: a0, rs2: a1 });
      a.op('subw', { rd: a2, rs1: a1, rs2: a0 });
      a.op('lui', { rd: a3, imm: 0x12345000 });
      a.op('ecall');
    },
  },
  diamond: {
    write: (a) => {
      a.branch('bne', a0, 0, 'else');
      a.op('addi', { rd: a1, rs1: a1, imm: 1 });
      a.jump(0, 'end');
      a.label('else');
      a.op('addi', { rd: a1, rs1: a1, imm: -1 });
      a.label('end');
      a.op('slli', { rd: a1, rs1: a1, imm: 3 });
      a.op('jalr', { rs1: ra });
    },
  },
  loop: {
    write: (a) => {
      a.label('again');
      a.op('add', { rd: a1, rs1: a1, rs2: a0 });
      a.op('addi', { rd: a0, rs1: a0, imm: -1 });
      a.branch('bne', a0, 0, 'again');
      a.op('jalr', { rs1: ra });
    },
  },
  nested: {
    write: (a) => {
      a.label('outer');
      a.op('addi', { rd: a2, imm: 10 });
      a.label('inner');
      a.op('addi', { rd: a2, rs1: a2, imm: -1 });
      a.op('add', { rd: a1, rs1: a1, rs2: a2 });
      a.branch('bne', a2, 0, 'inner');
      a.op('addi', { rd: a0, rs1: a0, imm: -1 });
      a.branch('bge', a0, 0, 'outer');
      a.op('jalr', { rs1: ra });
    },
  },
  irreducible: {
    write: (a) => {
      a.branch('beq', a0, 0, 'second');
      a.label('first');
      a.op('addi', { rd: a1, rs1: a1, imm: 1 });
      a.label('second');
      a.op('addi', { rd: a1, rs1: a1, imm: 2 });
      a.branch('blt', a1, a2, 'first');
      a.op('jalr', { rs1: ra });
    },
  },
  call: {
    write: (a) => {
      a.op('addi', { rd: a0, imm: 7 });
      a.jump(ra, 'elsewhere');
      a.op('add', { rd: a0, rs1: a0, rs2: a1 });
      a.op('ecall');
      a.label('elsewhere');
      a.op('ecall');
    },
  },
  'indirect-call': {
    write: (a) => {
      a.op('jalr', { rd: ra, rs1: a4, imm: 4 });
      a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.op('jalr', { rs1: a3 });
    },
  },
  memory: {
    write: (a) => {
      a.op('lw', { rd: a0, rs1: a1, imm: 8 });
      a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.op('sw', { rs1: a1, rs2: a0, imm: 8 });
      a.op('ecall');
    },
  },
  neighbours: {
    write: (a) => {
      a.op('ld', { rd: a0, rs1: a2, imm: 0 });
      a.op('ld', { rd: a1, rs1: a2, imm: 8 });
      a.op('sd', { rs1: a2, rs2: a0, imm: 16 });
      a.op('ecall');
    },
  },
  stream: {
    write: (a) => {
      a.label('again');
      a.op('lbu', { rd: a2, rs1: a0 });
      a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.op('add', { rd: a3, rs1: a3, rs2: a2 });
      a.branch('bne', a0, a1, 'again');
      a.op('ecall');
    },
  },
  float: {
    write: (a) => {
      a.op('fadd.d', { rd: 1, rs1: 1, rs2: 2, rm: 7 });
      a.op('fmadd.s', { rd: 3, rs1: 1, rs2: 2, rs3: 3, rm: 0 });
      a.op('ecall');
    },
  },
  atomic: {
    write: (a) => {
      a.op('amoadd.w', { rd: a0, rs1: a1, rs2: a2 });
      a.op('ecall');
    },
  },
  csr: {
    write: (a) => {
      a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.csrr(a1, CSR.instret);
      a.op('add', { rd: a0, rs1: a0, rs2: a1 });
      a.op('ecall');
    },
  },
  'across-pages': {
    at: PAGE - 6,
    write: (a) => {
      a.op('addi', { rd: a0, rs1: a0, imm: 1 });
      a.op('addi', { rd: a0, rs1: a0, imm: 2 });
      a.op('addi', { rd: a0, rs1: a0, imm: 3 });
      a.op('ecall');
    },
  },
};

/** Names of what lies in a worker's area. */
const fields = new Map<number, string>([
  ...Object.entries(OFFSET).map(([name, at]) => [at, name] as const),
  ...Array.from({ length: 32 }, (_, n) => [X + 8 * n, `x${n}`] as const),
  ...Array.from({ length: 32 }, (_, n) => [F + 8 * n, `f${n}`] as const),
  [AREA.regions + REGION.page, 'regions.page'],
  [AREA.regions + REGION.version, 'regions.version'],
]);

const interpreter = generateInterpreter(0, POOL_MEMORY, 1000);

/** Nothing is. */
const armed = { has: () => false };

function translated(code: Uint8Array, at: number): string {
  const pool = new Pool();
  const decoder = new SlotDecoder(pool, interpreter, armed);
  const codePages = new CodePages(pool, WORKER_AREA);
  const pages = [0, 1].map(() => {
    const frame = pool.allocate();
    return { frame, code: codePages.make(frame) };
  });
  code.forEach((byte, i) => {
    pool.bytes[pages[(at + i) >> 12]!.frame * PAGE + ((at + i) & (PAGE - 1))] = byte;
  });
  for (let i = 0; i < code.length; i += 4) {
    decoder.decode(pages[(at + i) >> 12]!.code + ((at + i) & (PAGE - 1)) * (SLOT.size / 2));
  }
  const region = findRegion(
    pool,
    { own: pages[0]!, before: undefined, behind: pages[1]!, address: 0, area: 0, armed },
    at,
  );
  const bytes = encodeRegions([region], {
    signatures: interpreter.signatures,
    // Rows move when one is added, their encodings do not.
    outOfLineOf: (row: Row) => row.match | 0,
    host: { fusedMulAdd: true },
  });
  assert.ok(WebAssembly.validate(bytes));
  const [text] = wasmText(bytes, {
    globals: ['area', 'place'],
    params: ['pc', 'budget', 'depth'],
    base: 'area',
    fieldAt: (offset) => fields.get(offset),
  });
  return text!;
}

for (const [name, { at = 0, write }] of Object.entries(SNIPPETS)) {
  test(`${name}: translated as in golden/${name}.wat (BLESS=1 rewrites it)`, () => {
    const a = new Assembler(at);
    write(a);
    const code = a.bytes();
    const view = new DataView(code.buffer);
    const guest = Array.from({ length: code.length / 4 }, (_, n) => {
      const pc = at + 4 * n;
      return `;; ${pc.toString(16).padStart(4, '0')}  ${disassemble(view.getInt32(4 * n, true), BigInt(pc), { aliases: true })}`;
    });
    const actual = `${guest.join('\n')}\n\n${translated(code, at)}\n`;
    const path = new URL(`golden/${name}.wat`, import.meta.url);
    if (process.env.BLESS === '1') writeFileSync(path, actual);
    assert.equal(actual, readFileSync(path, 'utf8'));
  });
}

// `node scripts/isa-doc.ts` writes docs/isa.md, the instructions that the table has; `--check` fails when the page is
// stale.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Extension, type Row, rows } from '../packages/core/src/isa/index.ts';
import { syntaxOf } from '../packages/core/src/isa/print.ts';

const PAGE = new URL('../docs/isa.md', import.meta.url);

/** In the order of the page. */
const EXTENSIONS: Record<Extension, string> = {
  I: 'The RV64I base.',
  M: 'Multiplication and division.',
  A: 'Atomic memory operations. `aq` and `rl` are free: every atomic access is sequentially consistent.',
  F: 'Single-precision floating point.',
  D: 'Double-precision floating point.',
  Zicsr: 'Access to control and status registers.',
  Zifencei: 'Instruction fetch fence.',
  Zihintpause: 'A hint that the hart spins.',
  Zba: 'Address generation.',
  Zbb: 'Basic bit manipulation.',
  Zbs: 'Single bits.',
  Zicond: 'Conditional zeroing.',
  Zicbom: 'Cache block management.',
  Zicboz: 'Cache block zeroing.',
  Privileged: 'Machine and supervisor instructions.',
  Xbraidhint:
    'Hints to the monitor ([hints.md](hints.md)): `slti` with `rd` = x0, which is set aside for custom use and does nothing elsewhere. ' +
    'It acts only when `rs1` holds a certain number, which x0 never does.',
};

const WORDS: Record<string, string> = {
  d: 'rd',
  s: 'rs1',
  t: 'rs2',
  D: 'fd',
  S: 'fs1',
  T: 'fs2',
  R: 'fs3',
  i: 'imm',
  x: 'shamt',
  u: 'imm',
  p: 'target',
  c: 'csr',
  m: '[, rm]',
  e: '[, rm]',
  P: 'pred',
  Q: 'succ',
};

function operandsOf(row: Row): string {
  return syntaxOf(row)
    .replaceAll(',', ', ')
    .replace(/[A-Za-z]/g, (letter) => WORDS[letter]!);
}

/** The 32 bits from high to low, split at the fields of the base formats; a dot is a bit that is not fixed. */
function pattern(row: Row): string {
  const bits = Array.from({ length: 32 }, (_, n) => {
    const bit = (1 << (31 - n)) >>> 0;
    if (!(row.mask & bit)) return '.';
    return row.match & bit ? '1' : '0';
  }).join('');
  return [
    bits.slice(0, 7),
    bits.slice(7, 12),
    bits.slice(12, 17),
    bits.slice(17, 20),
    bits.slice(20, 25),
    bits.slice(25),
  ].join(' ');
}

function section(extension: Extension): string {
  const own = rows.filter((row) => row.extension === extension);
  const lines = own.map((row) => `| \`${row.name}\` | ${operandsOf(row)} | ${row.format} | \`${pattern(row)}\` |`);
  const heading = `## ${extension}\n\n${EXTENSIONS[extension]}\n\n`;
  return `${heading}| instruction | operands | format | encoding |\n| --- | --- | --- | --- |\n${lines.join('\n')}\n`;
}

function page(): string {
  const present = (Object.keys(EXTENSIONS) as Extension[]).filter((name) => rows.some((row) => row.extension === name));
  return `# Instructions

This page is written by \`scripts/isa-doc.ts\` from the instruction table (\`packages/core/src/isa/\`), which is also
what the engine is generated from: what is not here is an illegal instruction. There are ${rows.length}, compressed
ones not counted.

An encoding is shown from bit 31 to bit 0 with gaps at the fields of the base formats; a dot is an operand bit.
When two rows fit an encoding, the one with fewer dots is meant. The formats are explained in \`row.ts\`.

${present.map(section).join('\n')}
## C

Each 16-bit instruction of RV64C, the double-precision loads and stores among them, runs as the 32-bit instruction that
it abbreviates (\`compressed.ts\`). HINTs do nothing. Reserved encodings, those of Zcb among them, are illegal.

## Zicbop

The prefetches are \`ori\` with \`rd\` = x0 and do nothing.
`;
}

export function isCurrent(): boolean {
  try {
    return readFileSync(PAGE, 'utf8') === page();
  } catch {
    return false;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!process.argv.includes('--check')) writeFileSync(PAGE, page());
  else if (!isCurrent()) {
    process.stderr.write('docs/isa.md is stale: run node scripts/isa-doc.ts\n');
    process.exitCode = 1;
  }
}

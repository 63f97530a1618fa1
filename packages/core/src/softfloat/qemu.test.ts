/**
 * The library against QEMU's user-mode emulation of the same instructions: hundreds of thousands of operand tuples, every
 * function, every rounding mode. QEMU's arithmetic is an implementation that shares nothing with ours.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { drawFrom, instantiate, type Operation, operandsOf, operations, randomBits } from './harness.ts';

const COMPILER = 'riscv64-linux-gnu-gcc';
const QEMU = 'qemu-riscv64';
const CASES_PER_MODE = 1500;

const available = (tool: string) => spawnSync(tool, ['--version']).status === 0;
const missing = [COMPILER, QEMU].filter((tool) => !available(tool));

const INSTRUCTIONS: Record<string, string> = {
  Add: 'fadd',
  Sub: 'fsub',
  Mul: 'fmul',
  Div: 'fdiv',
  Sqrt: 'fsqrt',
  MulAdd: 'fmadd',
  Min: 'fmin',
  Max: 'fmax',
  Eq: 'feq',
  Lt: 'flt',
  Le: 'fle',
  Classify: 'fclass',
};
const LETTERS: Record<string, string> = { F32: 's', F64: 'd', I32: 'w', U32: 'wu', I64: 'l', U64: 'lu' };

/** One operation as a case of the guest's switch, operands in t0, t1, t2 and the result in t0. */
function assembly({ name, operands, result, rounds }: Operation): string {
  const move = (single: boolean) => (single ? 'w' : 'd');
  const format = name.slice(0, 3).toUpperCase();
  const conversion = /^(...)To(...)$/i.exec(name);
  const opcode = conversion
    ? `fcvt.${LETTERS[conversion[2]!.toUpperCase()]}.${LETTERS[conversion[1]!.toUpperCase()]}`
    : `${INSTRUCTIONS[name.slice(3)]}.${LETTERS[format]}`;
  const lines: string[] = [];
  const sources = operands.map((type, i) => {
    if (!('bias' in type)) return `t${i}`;
    lines.push(`fmv.${move(type.width === 32)}.x ft${i}, t${i}`);
    return `ft${i}`;
  });
  const float = 'bias' in result;
  lines.push('fsflags zero');
  lines.push(`${opcode} ${[float ? 'ft0' : 't0', ...sources, ...(rounds ? ['dyn'] : [])].join(', ')}`);
  lines.push('frflags t1');
  if (float) lines.push(`fmv.x.${move(result.width === 32)} t0, ft0`);
  return lines.join('\\n');
}

function source(): string {
  const cases = operations.map(
    (operation, i) => `    case ${i}: asm volatile("${assembly(operation)}"
      : "+r"(a), "+r"(b), "+r"(c) : : "ft0", "ft1", "ft2"); break;`,
  );
  return `#include <stdio.h>
#include <stdint.h>
struct in { uint64_t op, a, b, c; } in[4096];
struct out { uint64_t value, flags; } out[4096];
int main(void) {
  size_t n;
  while ((n = fread(in, sizeof *in, 4096, stdin)) > 0) {
    for (size_t i = 0; i < n; i++) {
      register uint64_t a asm("t0") = in[i].a, b asm("t1") = in[i].b, c asm("t2") = in[i].c;
      asm volatile("fsrm %0" : : "r"(in[i].op >> 32));
      switch ((uint32_t)in[i].op) {
${cases.join('\n')}
      }
      out[i].value = a;
      out[i].flags = b;
    }
    fwrite(out, sizeof *out, n, stdout);
  }
  return 0;
}
`;
}

test('every function agrees with QEMU', { skip: missing.length > 0 && `not installed: ${missing.join(', ')}` }, () => {
  const seed = Number(process.env.BRAID_SEED ?? 1);
  const draw = drawFrom(randomBits(seed));
  const directory = mkdtempSync(join(tmpdir(), 'braid-softfloat-'));
  try {
    const program = join(directory, 'float');
    writeFileSync(`${program}.c`, source());
    const compiled = spawnSync(COMPILER, ['-O1', '-static', '-o', program, `${program}.c`], { encoding: 'utf8' });
    assert.equal(compiled.status, 0, compiled.stderr);

    const cases: { operation: Operation; args: bigint[] }[] = [];
    const records: bigint[] = [];
    operations.forEach((operation, number) => {
      for (let mode = 0; mode < 5; mode++) {
        for (let n = 0; n < CASES_PER_MODE; n++) {
          const args = operandsOf(operation, draw);
          records.push((BigInt(mode) << 32n) | BigInt(number), args[0]!, args[1] ?? 0n, args[2] ?? 0n);
          cases.push({ operation, args: operation.rounds ? [...args, BigInt(mode)] : args });
        }
      }
    });
    const input = Buffer.from(new BigUint64Array(records).buffer);
    const guest = spawnSync(QEMU, [program], { input, maxBuffer: input.length });
    assert.equal(guest.status, 0, String(guest.stderr));
    const answers = new BigUint64Array(new Uint8Array(guest.stdout).buffer);
    assert.equal(answers.length, cases.length * 2);

    const softfloat = instantiate();
    cases.forEach(({ operation, args }, i) => {
      const value = BigInt.asUintN(operation.result.width, answers[2 * i]!);
      const flags = Number(answers[2 * i + 1]!);
      // With NX accrued or not: different paths, the same answer.
      for (const accrued of [0, 1]) {
        const ours = softfloat.run(operation.name, args, accrued);
        if (ours.value === value && ours.flags === (flags | accrued)) continue;
        const text = (v: bigint, f: number) => `0x${v.toString(16)} flags ${f}`;
        const call = `${operation.name}(${args.map((v) => `0x${v.toString(16)}`).join(', ')}) from flags ${accrued}`;
        assert.fail(`${call}: ${text(ours.value, ours.flags)}, QEMU ${text(value, flags)} (seed ${seed})`);
      }
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

/**
 * Random programs over the unprivileged instructions, compared with QEMU: at least ten million random instructions a run.
 *
 * Both run the same flat image in M-mode on the `virt` machine. Integer, M, A (pairs of lr and sc too), compressed, F and D
 * with every rounding mode and the flags, Zba, Zbb, Zbs, misaligned loads and stores across pages, fcsr, and instructions
 * that do not exist. Zicond and the cache block operations are not in QEMU 7.2 and have directed tests only.
 *
 * BRAID_SEED repeats a run; BRAID_FUZZ_PROGRAMS makes it longer.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rows } from '../packages/core/src/isa/index.ts';
import { coveredRows, IsaProgram } from '../packages/core/src/testing/isa-program.ts';
import { SEED } from '../packages/core/src/testing/machines.ts';
import { Random } from '../packages/core/src/testing/random.ts';
import { compare, diagnose } from './lib/isa-compare.ts';
import { qemuMissing } from './lib/qemu.ts';

const PROGRAMS = Number(process.env.BRAID_FUZZ_PROGRAMS ?? 6);
const SIZE = { blocks: 512, snippets: 120, passes: 30 };
const AT_LEAST = 10_000_000n;

test('every unprivileged instruction that QEMU 7.2 has is among the random ones', () => {
  const covered = new Set(coveredRows);
  const left = rows.filter((row) => !covered.has(row)).map((row) => row.name);
  assert.deepEqual(left.sort(), [
    ...['cbo.clean', 'cbo.flush', 'cbo.inval', 'cbo.zero', 'czero.eqz', 'czero.nez'],
    ...['ebreak', 'ecall', 'mret', 'sfence.vma', 'sret', 'wfi'],
  ]);
});

test('random programs leave the same registers, flags, traps and memory as on QEMU', async (t) => {
  const missing = qemuMissing();
  if (missing) return t.skip(missing);
  let executed = 0n;
  for (let n = 0; n < PROGRAMS; n++) {
    const seed = SEED * 1000 + n;
    const program = new IsaProgram(new Random(seed), SIZE);
    const comparison = await compare(program);
    executed += comparison.executed;
    const { traps, differs } = comparison;
    t.diagnostic(`seed ${seed}: ${comparison.executed} random instructions, ${traps} traps`);
    if (differs >= 0) assert.fail(`seed ${seed}: ${await diagnose(program, differs)}`);
  }
  t.diagnostic(`${executed} random instructions in all`);
  assert.ok(PROGRAMS < 6 || executed >= AT_LEAST, `only ${executed} random instructions`);
});

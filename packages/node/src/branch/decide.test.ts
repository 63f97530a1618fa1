/** Branches of a C program in the guest, chosen by the host: clones go both ways in the pool's threads while the program computes the condition. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Decision, decisionOf } from '@braid/core/branch/decision.ts';
import { functionAt } from '@braid/core/branch/flow.ts';
import { branchPoints } from '@braid/core/branch/points.ts';
import { ProgramCode } from '@braid/core/branch/program-code.ts';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { type BraidError, Machine, Pool } from '../index.ts';
import { temporaryFolder } from '../testing.ts';

const COMPILER = 'riscv64-linux-gnu-gcc';
const missing = spawnSync(COMPILER, ['--version']).status === 0 ? guestMissing : `${COMPILER} is not installed`;

/** `wait` gives both ways a head start; for 3 the condition changes what its way reads. */
const SOURCE = `
#define API __attribute__((noinline, noclone))
#define PAGE __attribute__((aligned(4096)))
PAGE volatile long config = 3;
PAGE volatile long table[512];
PAGE volatile long result;
PAGE char text[64];
static long syscall3(long n, long a, long b, long c) {
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  register long a7 __asm__("a7") = n;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
  return a0;
}
API long slow_check(long x) {
  unsigned long h = x;
  for (long i = 0; i < 2000000; i++) h = h * 31 + (h >> 7) + i;
  table[8] = h;
  if (x == 3) config = config + x;
  return x & 1;
}
API void a(void) { for (long i = 0; i < 2000000; i++) { result = result * 7 + (i ^ config); } }
API void b(void) { for (long i = 0; i < 2000000; i++) result = result * 5 + i; }
API void choose(long x) {
  if (slow_check(x)) a();
  else b();
  result ^= x;
}
static void show(unsigned long value) {
  char *at = text + sizeof text;
  *--at = '\\n';
  do *--at = '0' + value % 10; while (value /= 10);
  syscall3(64, 1, (long)at, text + sizeof text - at);
}
void _start(void) {
  a(); b();
  text[0] = table[0] = 1;
  for (long x = 0; x < 5; x++) { choose(x); show(result); }
  syscall3(93, 0, 0, 0);
  for (;;) ;
}
`;

test('machines take over what clones have come to, and go the way themselves where that would be wrong', {
  skip: missing,
}, async (t) => {
  const folder = temporaryFolder((clean) => t.after(clean));
  const [source, binary] = [join(folder, 'choose.c'), join(folder, 'choose')];
  writeFileSync(source, SOURCE);
  const flags = ['-O2', '-static', '-nostdlib', '-ffreestanding', '-fno-stack-protector', '-Wl,--build-id=none'];
  const built = spawnSync(COMPILER, [...flags, '-o', binary, source], { encoding: 'utf8' });
  assert.equal(built.status, 0, built.stderr);
  const program = readFileSync(binary);
  const code = new ProgramCode(program);
  const flow = functionAt(code, { symbol: 'choose' });
  const decision: Decision = decisionOf(flow, branchPoints(flow)[0]!, code);

  await using pool = new Pool({ threads: 2 });
  const boot = async () => {
    const machine = await Machine.create({ memory: '96M', seed: 5, pool });
    await machine.boot();
    await machine.writeFile('/bin/choose', program);
    await machine.exec(['chmod', '+x', '/bin/choose']);
    return machine;
  };
  const alone = await boot();
  const expected = await alone.exec(['choose']);
  await alone.dispose();

  const machine = await boot();
  const running = machine.exec(['choose']);
  const ends: string[] = [];
  let saved = 0;
  for (let n = 0; n < 5; n++) {
    const end = await machine.decide(decision);
    ends.push(`${end.outcome} ${end.taken ? 'taken' : end.refusal.reason}`);
    if (end.taken) saved += end.stepsSaved;
  }
  await machine.resume();
  const result = await running;
  assert.equal(result.stdout, expected.stdout);
  assert.equal(result.exitCode, 0);
  // Outcome 0 is the branch that is taken: to b, as the compiler has it, or to a.
  assert.equal(ends.filter((end) => end.endsWith('taken')).length, 4, ends.join(', '));
  assert.match(ends[3]!, /stale-read|conflict/);
  assert.ok(saved > 20_000_000, `${saved} steps saved`);
  assert.ok(result.steps < expected.steps - 20_000_000n, `${result.steps} of ${expected.steps} steps`);

  // One at a time; a wait that is given up leaves nothing behind, nor does a machine that goes away.
  const idle = machine.exec(['sleep', '1000']).catch(() => {});
  const giveUp = new AbortController();
  const waiting = machine.decide(decision, { signal: giveUp.signal });
  await assert.rejects(machine.decide(decision), (error: BraidError) => error.code === 'ERR_BRAID_BRANCH');
  giveUp.abort();
  await assert.rejects(waiting, (error: Error) => error.name === 'AbortError');
  const { used } = pool.memory;
  assert.ok(used > 0);
  await machine.dispose();
  await idle;
  assert.equal(pool.memory.used, 0);
});

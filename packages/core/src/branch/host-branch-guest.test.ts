/** A branch of a C program in the default guest: clones run both ways while the program computes the condition. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Machine } from '../machine/machine.ts';
import { bootInto, compileProgram, FREESTANDING, programsMissing } from '../testing/guest-program.ts';
import { sharedEngine } from '../testing/machines.ts';
import { decisionOf } from './decision.ts';
import { functionAt } from './flow.ts';
import { type DecisionEnd, HostBranch } from './host-branch.ts';
import { branchPoints } from './points.ts';
import { ProgramCode } from './program-code.ts';

/** Programs are the guest's first and only one, without a library. */
const COMMON = `
#define API __attribute__((noinline, noclone))
#define PAGE __attribute__((aligned(4096)))
static long syscall3(long n, long a, long b, long c) {
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  register long a3 __asm__("a3") = 8;
  register long a7 __asm__("a7") = n;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a7) : "memory");
  return a0;
}
`;

/** Ways and condition take some ticks of the kernel's clock each. */
const DECIDE = `
PAGE volatile long config = 3;
PAGE volatile struct { long calls, beside; } counts;
PAGE volatile long result;
PAGE volatile long table[512];
PAGE char text[64];

API long slow_check(long x) {
  unsigned long h = x;
  for (long i = 0; i < TURNS; i++) h = h * 31 + (h >> 7) + i;
  counts.calls += h & 255;
  if (x == 3) config = config + x;
  if (x == 6) table[7] = h;
  return x & 1;
}
API void a(void) {
  for (long i = 0; i < TURNS; i++) { table[i & 63] += i ^ config; result = result * 7 + table[(i * 5) & 63]; }
}
API void b(void) {
  for (long i = 0; i < TURNS; i++) result = result * 5 + i;
  counts.beside = result;
}
API void gets(void) { result += syscall3(172, 0, 0, 0); }
API void choose(long x) {
  if (slow_check(x)) a();
  else b();
  result ^= x;
}
API void ask(long x) {
  if (slow_check(x)) gets();
  else b();
  result ^= x;
}
API long answer(void) {
  syscall3(64, 1, (long)"ready\\n", 6);
  syscall3(63, 0, (long)text, 8);
  return text[0] == 'y';
}
API void wait_for(long x) {
  if (answer()) a();
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
  choose(0);
  choose(1);
  ask(1);
  for (long x = 2; x < 9; x++) { choose(x); show(result); }
  ask(11);
  show(result);
  wait_for(12);
  show(result);
  syscall3(64, 1, (long)"that is all\\n", 12);
  for (;;) ;
}
`;

/** A thread that shares the memory of the branch, or a signal that comes while a way is run. */
const DISTURBED = `
PAGE volatile long result = 1, turns;
PAGE char stack[4096];
API long slow_check(void) {
  unsigned long h = 1;
  for (long i = 0; i < 1000; i++) h = h * 31 + i;
  return h | 1;
}
API void a(void) { for (long i = 0; i < 3000000; i++) result = result * 7 + i; }
API void choose(void) {
  if (slow_check()) a();
  result ^= 5;
}
static void handler(int n) { turns++; }
static void thread(void) {
  register long a0 __asm__("a0") = 0xd0f00;
  register long a1 __asm__("a1") = (long)(stack + sizeof stack);
  register long a2 __asm__("a2") = 0;
  register long a3 __asm__("a3") = 0x1234;
  register long a4 __asm__("a4") = 0;
  register long a7 __asm__("a7") = 220;
  __asm__ volatile("ecall\\n bnez a0, 2f\\n 1: addi t0, t0, 1\\n sd t0, (%1)\\n j 1b\\n 2:"
    : "+r"(a0) : "r"(&turns), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a7) : "t0", "memory");
}
static void signals(void) {
  struct { void (*handler)(int); long flags, mask; } action = { handler, 0, 0 };
  long every[4] = { 0, 1000, 0, 1000 };
  syscall3(134, 14, (long)&action, 0) ;
  syscall3(103, 0, (long)every, 0);
}
void _start(void) {
  a();
  turns++;
  BEGIN;
  choose();
  for (;;) ;
}
`;

const compile = (text: string) => compileProgram(`${COMMON}${text}`, FREESTANDING);

describe('a program in the default guest', { skip: programsMissing }, () => {
  for (const harts of [1, 2]) {
    test(`${harts} harts: results are taken over, and refused where they would be wrong`, () => {
      const program = compile(DECIDE.replaceAll('TURNS', '400000'));
      const code = new ProgramCode(program);
      let said = '';
      const boot = (): Machine => {
        said = '';
        return bootInto(program, { harts }, (text) => (said += text));
      };
      const until = (machine: Machine, text: string): string => {
        for (let n = 0; n < 400 && !said.includes(text); n++) machine.run(1e6);
        assert.ok(said.includes(text), said);
        return said;
      };
      const answer = { kind: 'console', bytes: new TextEncoder().encode('y\n') } as const;

      const alone = boot();
      until(alone, 'ready');
      alone.input(answer);
      const expected = until(alone, 'that is all');
      const needed = alone.totalSteps;
      alone.free();
      assert.match(expected, /^\d+$/m);

      const machine = boot();
      const branchOf = (symbol: string) => {
        const flow = functionAt(code, { symbol });
        const [point] = branchPoints(flow);
        return new HostBranch(decisionOf(flow, point!, code));
      };
      const choose = branchOf('choose');
      const engines = [sharedEngine(), sharedEngine(1)];
      const begin = (branch: HostBranch) => {
        const activation = branch.reach(machine, 2e9);
        assert.ok(!('reason' in activation));
        return branch.ahead(machine, activation, { engines });
      };
      const decide = (branch: HostBranch): DecisionEnd => {
        const end = begin(branch).run();
        assert.ok(!('reason' in end));
        return end;
      };
      const ends = Array.from({ length: 9 }, () => decide(choose));
      const reasons = ends.map((end) => (end.taken ? 'taken' : end.refusal.reason));
      // First the pages that the ways use are not there; then the counts are told apart; for x = 3 the condition changes what the way reads.
      const rest = ['taken', 'taken', 'taken', 'taken', 'taken'];
      assert.deepEqual(reasons, ['trap', 'trap', 'conflict', 'stale-read', ...rest]);
      // Both are at the start of a page of their own; the one below is that of x = 2, the other `config`.
      const refused = ends.slice(2, 4).map((end) => (!end.taken && 'pages' in end.refusal ? end.refusal : undefined));
      const [counts, config] = refused.map((refusal) => refusal?.address ?? 0n);
      assert.ok(counts && config && counts % 4096n === 0n && config % 4096n === 0n && counts !== config);
      assert.deepEqual([...choose.learned], [counts >> 12n, config >> 12n]);
      const asked = decide(branchOf('ask'));
      assert.ok(!asked.taken && asked.refusal.reason === 'trap' && asked.refusal.cause === 8n);

      // The original waits for somebody, and the clones use the time.
      const ahead = begin(branchOf('wait_for'));
      machine.input({ kind: 'skip-idle', on: false });
      for (let n = 0; n < 100 && !said.includes('ready'); n++) assert.ok('reason' in ahead.run(1e6));
      while (ahead.runClones(1e6));
      machine.input({ kind: 'skip-idle', on: true });
      machine.input(answer);
      const end = ahead.run();
      assert.ok(!('reason' in end) && end.taken && end.outcome === 1, JSON.stringify(said));

      assert.equal(until(machine, 'that is all'), expected);
      const saved = [...ends, end].reduce((sum, one) => sum + (one.taken ? one.stepsSaved : 0), 0);
      assert.ok(saved > 20e6 && machine.totalSteps + BigInt(saved) / 2n < needed, `${saved} steps saved`);
      machine.free();
    });
  }

  for (const [begin, harts, reason] of [
    ['thread()', 1, 'other-thread'],
    ['thread()', 2, 'other-thread'],
    ['signals()', 1, 'signal'],
    ['turns++', 1, 'taken'],
  ] as const) {
    test(`${begin}, ${harts} harts: ${reason}`, () => {
      const program = compile(DISTURBED.replace('BEGIN', begin));
      const code = new ProgramCode(program);
      const flow = functionAt(code, { symbol: 'choose' });
      const branch = new HostBranch(decisionOf(flow, branchPoints(flow)[0]!, code));
      const machine = bootInto(program, { harts });
      const activation = branch.reach(machine, 2e9);
      assert.ok(!('reason' in activation));
      const end = branch.ahead(machine, activation).run();
      assert.ok(!('reason' in end));
      assert.equal(
        end.taken ? 'taken' : end.refusal.reason,
        reason,
        JSON.stringify(end, (_, v) => (typeof v === 'bigint' ? `${v}` : v)),
      );
      machine.free();
    });
  }
});

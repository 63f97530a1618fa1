/**
 * Function coverage and profiles of a C program in the default guest. References: calls that the program itself has counted under QEMU's
 * user mode (gcc -finstrument-functions), and steps by single steps of the machine.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { MSTATUS } from '../hart/state.ts';
import { KernelImage } from '../linux/tasks.ts';
import { stateHash } from '../machine/hash.ts';
import type { Machine } from '../machine/machine.ts';
import { bootInto, compileProgram, FREESTANDING, programsMissing } from '../testing/guest-program.ts';
import { bareMachine, runSteps } from '../testing/machines.ts';
import { TraceError } from './errors.ts';
import { TracedProgram } from './function-map.ts';
import { KernelTrace, kernelFunctions, type ProgramOptions, ProgramTrace } from './functions.ts';
import { costOf, type FunctionProfile } from './profile.ts';
import { findKernelEdges } from './user-edges.ts';

const QEMU = 'qemu-riscv64';
const qemuMissing = spawnSync(QEMU, ['--version']).status !== 0 && `${QEMU} is not installed`;

const PROGRAM = `
#define API __attribute__((noipa))
#define QUIET __attribute__((noipa, no_instrument_function))
#define FUNCTIONS X(leaf) X(fib) X(even) X(odd) X(spin) X(outer) X(tail) X(jump) X(leap) X(handler) X(raise_it) \\
  X(make) X(inchild) X(pick_a) X(pick_b) X(indirect) X(never) X(nor_ever) X(program)
static QUIET long call(long n, long a, long b, long c, long d, long e) {
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  register long a3 __asm__("a3") = d;
  register long a4 __asm__("a4") = e;
  register long a7 __asm__("a7") = n;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a7) : "memory");
  return a0;
}
volatile long sink;
static void *there[5];
API long leaf(const char *s) { long n = 0; while (*s++) n++; return n; }
API __attribute__((optimize("no-optimize-sibling-calls"))) long fib(long n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
API long odd(long n);
API long even(long n) { sink++; return n == 0 ? 1 : odd(n - 1); }
API long odd(long n) { sink++; return n == 0 ? 0 : even(n - 1); }
API long spin(long n) { for (long i = 0; i < n; i++) sink += i; return sink; }
API long outer(long n) { return spin(n) + spin(2 * n) + 1; }
API long tail(long n) { sink = n; return spin(n); }
API void jump(int depth) { if (depth == 0) __builtin_longjmp(there, 1); jump(depth - 1); sink++; }
API void leap(void) { if (!__builtin_setjmp(there)) jump(5); spin(3); sink++; }
API void handler(int n) { spin(n); sink++; }
API void raise_it(void) { call(129, call(172, 0, 0, 0, 0, 0), 10, 0, 0, 0); sink++; }
API void inchild(long n) { spin(n); call(124, 0, 0, 0, 0, 0); sink++; }
API void make(void) {
  long child = call(220, 17, 0, 0, 0, 0);
  if (child == 0) { for (int i = 0; i < 4; i++) inchild(10000); call(94, 0, 0, 0, 0, 0); }
  for (int i = 0; i < 3; i++) { spin(10000); call(124, 0, 0, 0, 0, 0); }
  call(260, child, 0, 0, 0, 0);
}
API long pick_a(long n) { return n + 1; }
API long pick_b(long n) { return pick_a(n) * 2; }
API long indirect(long (*f)(long), long n) { return f(n) + 1; }
API void never(void) { sink = 99; }
API void nor_ever(void) { never(); }
API void program(void) {
  struct { void (*handler)(int); unsigned long flags, mask; } action = { handler, 0, 0 };
  for (int i = 0; i < 3; i++) sink += leaf("hello, world");
  fib(10);
  even(100);
  outer(1000);
  tail(500);
  leap();
  call(134, 10, (long)&action, 0, 8, 0);
  raise_it();
  raise_it();
  for (int i = 0; i < 6; i++) indirect(i & 1 ? pick_a : pick_b, i);
  make();
  if (sink == 12345678) nor_ever();
}
#ifdef COUNT
#define X(name) static long count_##name;
FUNCTIONS
#undef X
QUIET void __cyg_profile_func_enter(void *f, void *from) {
#define X(name) if (f == (void *)name) count_##name++;
FUNCTIONS
#undef X
}
QUIET void __cyg_profile_func_exit(void *f, void *from) {}
static QUIET void show(const char *name, long count) {
  char text[64], *at = text + sizeof text;
  *--at = '\\n';
  do *--at = '0' + count % 10; while (count /= 10);
  *--at = ' ';
  long length = 0;
  while (name[length]) length++;
  call(64, 1, (long)name, length, 0, 0);
  call(64, 1, (long)at, text + sizeof text - at, 0, 0);
}
#endif
QUIET void start(void) {
  program();
#ifdef COUNT
#define X(name) show(#name, count_##name);
FUNCTIONS
#undef X
  call(94, 0, 0, 0, 0, 0);
#endif
  call(64, 1, (long)"that is all\\n", 12, 0, 0);
  for (;;) call(73, 0, 0, 0, 0, 0);
}
__asm__(".globl _start\\n.type _start, @function\\n_start:\\n mv a0, sp\\n call start\\n.size _start, .-_start\\n");
`;

// Nothing sets up gp.
const FLAGS = [...FREESTANDING, '-Wl,--no-relax'];
const OWN =
  'leaf fib even odd spin outer tail jump leap handler raise_it make inchild pick_a pick_b indirect program'.split(' ');

interface Kernel {
  readonly edges: ReturnType<typeof findKernelEdges>;
  readonly symbols: KernelImage['symbols'];
}

/** Before the first program. */
const FROM = 20e6;

function finish(machine: Machine, said: () => string, limit = 600): void {
  for (let n = 0; n < limit && !said().includes('that is all'); n++) runSteps(machine, 1e6);
  assert.ok(said().includes('that is all'), said());
}

function boot(program: Uint8Array, harts = 1) {
  let text = '';
  const machine = bootInto(program, { harts }, (more) => (text += more));
  runSteps(machine, FROM);
  return { machine, said: () => text };
}

/** Who the tasks are, found out when the first program runs. */
function reader(machine: Machine) {
  let image: KernelImage | undefined;
  return (task: bigint) => {
    try {
      image ??= KernelImage.find(machine);
    } catch {
      return undefined;
    }
    return image.task(task);
  };
}

function profiled(file: Uint8Array, kernel: Kernel, options: Partial<ProgramOptions> = {}, harts = 1) {
  const { machine, said } = boot(file, harts);
  const trace = new ProgramTrace(new TracedProgram(file), { tasks: reader(machine), ...kernel, ...options });
  trace.begin(machine);
  finish(machine, said);
  trace.end(machine);
  return { machine, profile: trace.profile() };
}

const uses = ({ used }: FunctionProfile) => new Map(used.map((use) => [use.name, use]));

describe('functions of a program', { skip: programsMissing }, () => {
  let fixed: Uint8Array;
  let movable: Uint8Array;
  let kernel: Kernel;
  let plain: { steps: bigint; hash: string };

  before(() => {
    fixed = compileProgram(PROGRAM, FLAGS);
    movable = compileProgram(PROGRAM, [...FLAGS, '-static-pie', '-fPIE', '-Wl,--no-dynamic-linker']);
    const { machine, said } = boot(fixed);
    finish(machine, said);
    kernel = { edges: findKernelEdges(machine), symbols: KernelImage.find(machine).symbols };
    plain = { steps: machine.totalSteps, hash: stateHash(machine) };
    machine.free();
  });

  test('calls are those that the program counts itself, and the run is the same', { skip: qemuMissing }, (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'braid-trace-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'program');
    writeFileSync(path, compileProgram(PROGRAM, [...FLAGS, '-DCOUNT', '-finstrument-functions']), {
      mode: 0o755,
    });
    const { stdout } = spawnSync(QEMU, [path], { encoding: 'utf8', timeout: 20_000 });
    const counted = new Map(
      stdout
        .trim()
        .split('\n')
        .map((line) => [line.split(' ')[0]!, Number(line.split(' ')[1])]),
    );
    assert.equal(counted.size, OWN.length + 2, stdout);
    const { machine, profile } = profiled(fixed, kernel);
    assert.equal(machine.totalSteps, plain.steps);
    assert.equal(stateHash(machine), plain.hash);
    assert.equal(machine.breakpoints.size, 0);
    machine.free();
    const seen = uses(profile);
    // Counted by the process alone; its child makes these calls.
    const child = new Map([
      ['inchild', 4],
      ['spin', 4],
    ]);
    for (const [name, calls] of counted) {
      assert.equal(seen.get(name)?.calls ?? 0, calls + (child.get(name) ?? 0), name);
    }
    assert.deepEqual(profile.never.map(({ name }) => name).sort(), ['never', 'nor_ever']);
    assert.deepEqual(profile.notes, []);
  });

  test('steps are those of single steps', () => {
    const { machine } = boot(fixed);
    const program = new TracedProgram(fixed);
    const { functions } = program.map;
    const read = reader(machine);
    const toUser = (hart: number) => (machine.hartSet.get(hart, 'mstatus') & MSTATUS.SPP) === 0n;
    for (const address of kernel.edges.returns) machine.breakpoints.add({ address, condition: toUser });
    while (machine.run(1e6).reason !== 'breakpoint');
    machine.breakpoints.clear();
    const steps = new Map<string, number>();
    let kernelSteps = 0;
    const { hartSet } = machine;
    const mine = new Map<bigint, boolean>();
    while (machine.totalSteps < plain.steps) {
      const user = hartSet.get(0, 'privilege') === 0n;
      const pc = hartSet.get(0, 'pc');
      const [tp, scratch] = [hartSet.getX(0, 4), hartSet.get(0, 'sscratch')];
      const from = machine.totalSteps;
      machine.run(1);
      const made = Number(machine.totalSteps - from);
      if (made === 0) continue;
      if (user) {
        const name = functions.find(({ address, end }) => pc >= address && pc < end)?.name ?? 'elsewhere';
        steps.set(name, (steps.get(name) ?? 0) + made);
        continue;
      }
      const task = tp >> 63n ? tp : scratch;
      if (!mine.has(task)) mine.set(task, read(task)?.comm === 'program');
      if (mine.get(task)) kernelSteps += made;
    }
    machine.free();

    const { machine: other, profile } = profiled(fixed, kernel);
    other.free();
    const seen = uses(profile);
    const self = (name: string) => seen.get(name)?.self.user ?? 0;
    const exact = OWN.filter((name) => !['jump', 'leap'].includes(name));
    for (const name of exact) assert.equal(self(name), steps.get(name), name);
    // Behind longjmp the steps are still those of what has been left, up to the next call.
    assert.equal(self('jump') + self('leap'), steps.get('jump')! + steps.get('leap')!);
    // What the kernel has a handler return to belongs to whom the signal has interrupted, as it has no name.
    assert.ok(steps.get('elsewhere')! > 0);
    const whole = (names: readonly string[]) => names.reduce((sum, name) => sum + (steps.get(name) ?? 0), 0);
    assert.equal(self('call'), whole(['call', 'elsewhere']));
    // The page of the first instruction is not there yet, and nothing is known when that traps.
    assert.equal(profile.total.user, whole([...steps.keys()]) - 1);
    const ratio = profile.total.system / kernelSteps;
    assert.ok(ratio > 0.95 && ratio < 1.05, `${profile.total.system} and ${kernelSteps}`);
  });

  for (const [what, harts] of [
    ['at fixed addresses', 1],
    ['at fixed addresses', 4],
    ['anywhere', 1],
    ['anywhere', 4],
  ] as const) {
    test(`who calls whom, of a program ${what}; ${harts} harts`, () => {
      const { machine, profile } = profiled(what === 'anywhere' ? movable : fixed, kernel, {}, harts);
      machine.free();
      const seen = uses(profile);
      const callers = (name: string) =>
        Object.fromEntries(seen.get(name)!.callers.map((edge) => [edge.name ?? 'outside', edge.calls]));
      assert.deepEqual(callers('fib'), { program: 1, fib: 176 });
      assert.deepEqual(callers('spin'), { outer: 2, tail: 1, leap: 1, handler: 2, make: 3, inchild: 4 });
      assert.deepEqual(callers('jump'), { leap: 1, jump: 5 });
      assert.deepEqual(callers('handler'), { call: 2 });
      assert.deepEqual(callers('pick_a'), { indirect: 3, pick_b: 3 });
      // The child goes on in what its parent was in.
      assert.deepEqual(callers('inchild'), { make: 4 });
      assert.deepEqual(callers('program'), { start: 1 });
      const [spin, fib, program] = ['spin', 'fib', 'program'].map((name) => seen.get(name)!);
      assert.ok(spin!.self.user > 7 * 30_000 && spin!.total.user === spin!.self.user);
      assert.equal(fib!.total.user, fib!.self.user);
      const sum = profile.used.reduce((all, { self }) => all + self.user, 0);
      assert.ok(sum <= profile.total.user && program!.total.user > 0.99 * sum);
    });
  }

  test('other processes, and other programs at the same addresses, are not counted', () => {
    const nobody = profiled(fixed, kernel, { filter: { names: ['nobody'] } });
    nobody.machine.free();
    assert.deepEqual(nobody.profile.used, []);
    assert.deepEqual(nobody.profile.total, { user: 0, system: 0 });
    // A file that differs in one constant.
    const another = compileProgram(PROGRAM.replace('sink += leaf("hello', 'sink += 7 + leaf("hello'), [
      ...FLAGS,
      '-static',
    ]);
    const { machine, said } = boot(fixed);
    const trace = new ProgramTrace(new TracedProgram(another), { tasks: reader(machine), ...kernel });
    trace.begin(machine);
    finish(machine, said);
    trace.end(machine);
    machine.free();
    assert.deepEqual(trace.profile().used, []);
  });

  test('a process that takes the name that is looked for is counted from then on', () => {
    const renames = PROGRAM.replace('  leap();', '  call(167, 15, (long)"another", 0, 0, 0);\n  leap();');
    for (const flags of [FLAGS, [...FLAGS, '-static-pie', '-fPIE', '-Wl,--no-dynamic-linker']]) {
      const { machine, profile } = profiled(compileProgram(renames, flags), kernel, { filter: { names: ['another'] } });
      machine.free();
      const seen = uses(profile);
      assert.deepEqual([seen.get('jump')?.calls, seen.get('inchild')?.calls, seen.has('fib')], [6, 4, false]);
    }
  });

  test('begun while the program runs: what is called from then on', () => {
    for (const file of [fixed, movable]) {
      const { machine, said } = boot(file);
      const program = new TracedProgram(file);
      const tasks = reader(machine);
      // Up to its first calls, with some of them made.
      for (let n = 0; n < 4000; n++) {
        runSteps(machine, 1e5);
        const [task, user] = [machine.hartSet.get(0, 'sscratch'), machine.hartSet.get(0, 'privilege') === 0n];
        if (user && task !== 0n && tasks(task)?.comm === 'program') break;
      }
      const trace = new ProgramTrace(program, { tasks, symbols: kernel.symbols });
      trace.begin(machine);
      finish(machine, said);
      trace.end(machine);
      machine.free();
      const profile = trace.profile();
      assert.ok(!uses(profile).has('_start'));
      assert.ok(uses(profile).get('inchild')?.calls, JSON.stringify(profile.notes));
    }
  });

  test('what is missing is said', () => {
    const { symbols: _, ...rest } = kernel;
    const without = profiled(fixed, rest as Kernel);
    without.machine.free();
    assert.match(without.profile.notes.join(), /__switch_to/);
    assert.equal(without.profile.total.system, 0);
    const small = profiled(fixed, kernel, { limits: { paths: 5 } });
    small.machine.free();
    assert.match(small.profile.notes.join(), /\d+ calls are left out of the tree, which has 5 paths/);
    const { machine } = boot(movable);
    const trace = new ProgramTrace(new TracedProgram(movable), { tasks: () => undefined, ...kernel });
    trace.begin(machine);
    assert.throws(() => trace.begin(machine), TraceError);
    const other = bareMachine(new Uint8Array(4));
    assert.throws(() => trace.end(other), TraceError);
    other.free();
    trace.end(machine);
    trace.end(machine);
    assert.match(trace.profile().notes.join(), /where the program is loaded is not known/);
    machine.free();
  });

  test('functions of the kernel', () => {
    const { machine, said } = boot(fixed);
    finish(machine, said);
    const image = KernelImage.find(machine);
    const map = kernelFunctions(image.symbols.all(), (address, length) => image.memory.bytes(address, length));
    assert.ok(map.functions.length > 10_000 && map.returns.length > 10_000);
    assert.throws(() => kernelFunctions(image.symbols.all(), () => undefined), TraceError);
    machine.free();
    const again = boot(fixed);
    const trace = new KernelTrace(map, { tasks: () => ({ pid: 1, tgid: 1, comm: '' }), ...kernel });
    trace.begin(again.machine);
    finish(again.machine, again.said);
    trace.end(again.machine);
    assert.equal(again.machine.totalSteps, plain.steps);
    assert.equal(stateHash(again.machine), plain.hash);
    again.machine.free();
    const profile = trace.profile();
    const seen = uses(profile);
    const calls = (name: string) => seen.get(name)?.calls;
    assert.equal(calls('__riscv_sys_write') ?? calls('__se_sys_write') ?? calls('ksys_write'), 1);
    assert.ok(seen.get('ksys_write')!.callees.some(({ name }) => name === 'vfs_write'));
    assert.ok(profile.total.system > 20e6 && profile.total.user === 0);
    // Interrupts have a stack of their own, and come back from it.
    assert.ok(seen.get('call_on_irq_stack')!.calls > 0);
    assert.ok(costOf(seen.get('do_irq')!.total) < 0.1 * profile.total.system);
  });
});

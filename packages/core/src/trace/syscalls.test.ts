/** System calls of C programs in the default guest; the reference is what QEMU's user mode says of the same program. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { KernelImage } from '../linux/tasks.ts';
import { stateHash } from '../machine/hash.ts';
import type { Machine } from '../machine/machine.ts';
import { bootInto, compileProgram, programsMissing } from '../testing/guest-program.ts';
import { bareMachine, runSteps, SEED } from '../testing/machines.ts';
import { TraceError } from './errors.ts';
import { callText, syscallLine } from './syscall-text.ts';
import { type SyscallDone, type SyscallEvent, type SyscallOptions, SyscallTrace } from './syscalls.ts';
import { findKernelEdges } from './user-edges.ts';

const QEMU = 'qemu-riscv64';
const qemuMissing = spawnSync(QEMU, ['--version']).status !== 0 && `${QEMU} is not installed`;

const INCLUDES = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
`;

/** Calls that are the same everywhere, between two that mark them. */
const KNOWN = `
int main(void) {
  char buffer[64];
  struct stat st;
  struct iovec v[2] = {{"abc", 3}, {"defgh", 5}};
  write(-1, "begin", 5);
  mkdirat(AT_FDCWD, "braid-trace", 0755);
  int fd = openat(AT_FDCWD, "braid-trace/file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  write(fd, "hello\\tworld\\0\\1\\2" "3\\377, this is longer than thirty-two", 50);
  writev(fd, v, 2);
  lseek(fd, 6, SEEK_SET);
  read(fd, buffer, 10);
  pread64(fd, buffer, 5, 1);
  ftruncate(fd, 3);
  fstat(fd, &st);
  int other = dup3(fd, 20, O_CLOEXEC);
  fcntl(other, F_GETFD);
  fcntl(other, F_SETFD, 0);
  close(other);
  close(other);
  openat(AT_FDCWD, "no/such/file", O_RDONLY);
  char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(m, 4096, PROT_READ);
  munmap(m, 8192);
  mkdirat(AT_FDCWD, "braid-trace/folder", 0700);
  renameat2(AT_FDCWD, "braid-trace/folder", AT_FDCWD, "braid-trace/file", RENAME_NOREPLACE);
  unlinkat(AT_FDCWD, "braid-trace/folder", AT_REMOVEDIR);
  unlinkat(AT_FDCWD, "braid-trace/file", 0);
  close(fd);
  kill(1 << 30, SIGTERM);
  umask(022);
  sched_yield();
  clock_gettime(12345, 0);
  write(-1, "end", 3);
  write(1, "that is all\\n", 12);
  if (getpid() == 1) for (;;) pause();
}
`;

const DISTURBED = `
static volatile int seen;
static void handler(int n) { seen += n; }
static void *work(void *at) { for (int n = 0; n < 20; n++) { getpriority(PRIO, n); sched_yield(); } return at; }
int main(int argc, char **argv) {
  int status, p[2];
  char c;
  if (argc > 1) { write(1, "again\\n", 6); return 7; }
  write(-1, "begin", 5);
  pipe2(p, O_CLOEXEC);
  signal(SIGUSR1, handler);
  signal(SIGUSR2, handler);
  signal(SIGALRM, handler);
  kill(getpid(), SIGUSR1);
  sigset_t both;
  sigemptyset(&both); sigaddset(&both, SIGUSR1); sigaddset(&both, SIGUSR2);
  sigprocmask(SIG_BLOCK, &both, 0);
  kill(getpid(), SIGUSR1); kill(getpid(), SIGUSR2);
  sigprocmask(SIG_UNBLOCK, &both, 0);
  int child = fork();
  if (child == 0) { struct timespec soon = {0, 5000000}; nanosleep(&soon, 0); kill(1, SIGALRM); nanosleep(&soon, 0); write(p[1], "x", 1); _exit(3); }
  read(p[0], &c, 1);
  wait4(child, &status, 0, 0);
  siginterrupt(SIGALRM, 1);
  alarm(1);
  read(p[0], &c, 1);
  child = vfork();
  if (child == 0) { char *a[] = {"/program", "two", 0}; execve("/no/such", a, 0); execve("/program", a, 0); _exit(9); }
  wait4(child, &status, 0, 0);
  child = fork();
  if (child == 0) { *(volatile int *)16 = 1; }
  wait4(child, &status, 0, 0);
  child = fork();
  if (child == 0) { for (;;) pause(); }
  kill(child, SIGKILL);
  wait4(child, &status, 0, 0);
  pthread_t threads[3];
  for (int n = 0; n < 3; n++) pthread_create(threads + n, 0, work, 0);
  for (int n = 0; n < 3; n++) pthread_join(threads[n], 0);
  syscall(999, 1, 2, 3);
  write(-1, "end", 3);
  write(1, "that is all\\n", 12);
  for (;;) pause();
}
`;

const FLAGS = ['-O1', '-pthread'];

interface Booted {
  readonly machine: Machine;
  readonly said: () => string;
}

function boot(program: Uint8Array, harts = 1): Booted {
  let text = '';
  return { machine: bootInto(program, { harts }, (more) => (text += more)), said: () => text };
}

function finish({ machine, said }: Booted): void {
  for (let n = 0; n < 3000 && !said().includes('that is all'); n++) runSteps(machine, 1e5);
  assert.ok(said().includes('that is all'), said());
}

/** The kernel of these guests, which lies where it lies in all of them; and where its edges are. */
interface Kernel {
  readonly edges: ReturnType<typeof findKernelEdges>;
  readonly symbols: KernelImage['symbols'];
  /** Where it can be traced from: before its first program. */
  readonly from: bigint;
}

/** Runs a program and hears of all that it did, from its first instruction. */
function traced(program: Uint8Array, kernel: Kernel, options: Partial<SyscallOptions> = {}, harts = 1) {
  const events: SyscallEvent[] = [];
  const booted = boot(program, harts);
  const { machine } = booted;
  runSteps(machine, Number(kernel.from));
  let image: KernelImage | undefined;
  const tasks = (task: bigint) => {
    try {
      image ??= KernelImage.find(machine);
    } catch {
      return undefined;
    }
    return image.task(task);
  };
  const trace = new SyscallTrace({
    tasks,
    tell: (event) => events.push(event),
    symbols: kernel.symbols,
    edges: kernel.edges,
    ...options,
  });
  trace.begin(machine);
  finish(booted);
  trace.end(machine);
  return { machine, events, said: booted.said() };
}

const isCall = (event: SyscallEvent): event is SyscallDone => event.kind === 'call';
const marked = (events: readonly SyscallEvent[], text: string) =>
  events.findIndex((event) => isCall(event) && event.shown[1] === `"${text}"`);

/** Between the calls that mark begin and end. */
function between(events: readonly SyscallEvent[]): SyscallEvent[] {
  const [from, to] = [marked(events, 'begin'), marked(events, 'end')];
  assert.ok(from >= 0 && to > from);
  return events.slice(from + 1, to);
}

describe(`system calls (seed ${SEED})`, { skip: programsMissing }, () => {
  let known: Uint8Array;
  let disturbed: Uint8Array;
  let kernel: Kernel;
  /** Without a trace: how many steps, and what state. */
  let plain: { steps: bigint; hash: string };

  before(() => {
    known = compileProgram(`${INCLUDES}${KNOWN}`, FLAGS);
    disturbed = compileProgram(`${INCLUDES}#include <sys/resource.h>\n#define PRIO PRIO_PROCESS\n${DISTURBED}`, FLAGS);
    const booted = boot(known);
    finish(booted);
    const { machine } = booted;
    kernel = { edges: findKernelEdges(machine), symbols: KernelImage.find(machine).symbols, from: 20_000_000n };
    plain = { steps: machine.totalSteps, hash: stateHash(machine) };
    machine.free();
  });

  test('names, arguments and results are those that QEMU sees', { skip: qemuMissing }, (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'braid-trace-'));
    t.after(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'program'), known, { mode: 0o755 });
    const { stderr } = spawnSync(QEMU, ['-strace', './program'], { cwd: folder, encoding: 'utf8', timeout: 20_000 });
    const expected = stderr.split('\n').flatMap((line) => {
      const found = /^\d+ (\w+)\((.*)\) = (.*)$/.exec(line);
      return found ? [{ name: found[1]!, args: found[2]!.split(','), result: found[3]! }] : [];
    });
    const marks = expected.flatMap(({ name, args }, n) => (name === 'write' && args[0] === '-1' ? [n] : []));
    const reference = expected.slice(marks[0]! + 1, marks[1]);
    const { machine, events } = traced(known, kernel);
    machine.free();
    const calls = between(events).filter(isCall);
    assert.deepEqual(
      calls.map(({ name }) => name),
      reference.map(({ name }) => name),
    );
    assert.ok(calls.length >= 27, `${calls.length} calls`);
    let same = 0;
    const number = (text: string) => {
      if (text === 'NULL') return 0n;
      if (/^0[0-7]+$/.test(text)) return BigInt(`0o${text.slice(1)}`);
      return /^(0x[0-9a-f]+|-?\d+)$/.test(text)
        ? BigInt.asIntN(64, text.startsWith('-') ? -BigInt(text.slice(1)) : BigInt(text))
        : undefined;
    };
    for (const [n, call] of calls.entries()) {
      const { args, result } = reference[n]!;
      const text = callText(call);
      for (const [i, shown] of call.shown.entries()) {
        if (args[i] === undefined) continue;
        const [own, other] = [number(shown), number(args[i])];
        // Numbers on one side are addresses, or flags that have no names there.
        if ((own === undefined) !== (other === undefined)) continue;
        if (own === undefined) assert.equal(shown, args[i], text);
        else if (own > 0x10000n && other! > 0x10000n) continue;
        else assert.equal(own, other, text);
        same++;
      }
      const error = /errno=(\d+)/.exec(result);
      assert.ok(call.end.kind === 'returned');
      if (error) assert.equal(call.end.value, -BigInt(error[1]!), text);
      else if (call.name !== 'mmap') assert.equal(call.end.value, number(result), text);
    }
    assert.ok(same >= 55, `${same} arguments compared`);
  });

  test('what strace would show', () => {
    const { machine, events } = traced(known, kernel);
    machine.free();
    const lines = between(events).filter(isCall).map(callText);
    const expected = [
      'mkdirat(AT_FDCWD, "braid-trace", 0755) = 0',
      'openat(AT_FDCWD, "braid-trace/file", O_RDWR|O_CREAT|O_TRUNC|O_CLOEXEC, 0640) = 3',
      'write(3, "hello\\tworld\\0\\1\\0023\\377, this is longer"..., 50) = 50',
      'writev(3, [{iov_base="abc", iov_len=3}, {iov_base="defgh", iov_len=5}], 2) = 8',
      'lseek(3, 6, SEEK_SET) = 6',
      'read(3, "world\\0\\1\\0023\\377", 10) = 10',
      'pread64(3, "ello\\t", 5, 1) = 5',
      'ftruncate(3, 3) = 0',
      'newfstatat(3, "", {st_mode=S_IFREG|0640, st_size=3, ...}, AT_EMPTY_PATH) = 0',
      'dup3(3, 20, O_CLOEXEC) = 20',
      'fcntl(20, F_GETFD) = 1',
      'fcntl(20, F_SETFD, 0) = 0',
      'close(20) = 0',
      'close(20) = -1 EBADF (Bad file descriptor)',
      'openat(AT_FDCWD, "no/such/file", O_RDONLY) = -1 ENOENT (No such file or directory)',
    ];
    assert.deepEqual(lines.slice(0, expected.length), expected);
    for (const event of events) assert.match(syscallLine(event), /^\[program 1\] 0\.\d{9} /);
  });

  test('a run that is traced is the same run', () => {
    const { machine } = traced(known, kernel);
    assert.equal(machine.totalSteps, plain.steps);
    assert.equal(stateHash(machine), plain.hash);
    assert.equal(machine.breakpoints.size, 0);
    machine.free();
  });

  test('by process, by name, by call, and by who made whom', () => {
    const of = (options: Partial<SyscallOptions>) => {
      const { machine, events } = traced(disturbed, kernel, options);
      machine.free();
      return events;
    };
    const all = of({});
    const pids = (events: readonly SyscallEvent[]) => [...new Set(events.map(({ pid }) => pid))];
    assert.ok(pids(all).length >= 8, `${pids(all)}`);
    const own = of({ filter: { pids: [1], names: ['nobody'] } });
    assert.deepEqual(new Set(own.map(({ tgid }) => tgid)), new Set([1]));
    assert.equal(pids(own).length, 4); // with the threads
    const followed = of({ filter: { pids: [1], follow: true } });
    assert.deepEqual(followed.map(syscallLine), all.map(syscallLine));
    const some = of({ calls: ['wait4', 'execve'] }).filter(isCall);
    assert.deepEqual([...new Set(some.map(({ name }) => name))].sort(), ['execve', 'wait4']);
  });

  for (const harts of [1, 4]) {
    test(`signals, restarts, processes that come and go, threads; ${harts} harts`, () => {
      const { machine, events } = traced(disturbed, kernel, {}, harts);
      machine.free();
      const first = between(events).filter(({ pid }) => pid === 1);
      const told = first.map((event) =>
        isCall(event) ? callText(event) : syscallLine(event).replace(/^.*?(---|\+\+\+)/, '$1'),
      );
      const has = (pattern: RegExp) => {
        const n = told.findIndex((line) => pattern.test(line));
        assert.ok(n >= 0, `${pattern} in\n${told.join('\n')}`);
        return n;
      };
      const sent = (name: string) => `--- ${name} {si_signo=${name}, si_code=SI_USER, si_pid=1, si_uid=0} ---`;
      // The second of two signals at once is handled first, and neither is told again when its handler returns.
      const unblock = has(/^rt_sigprocmask\(SIG_UNBLOCK, \[USR1 USR2\]/);
      assert.deepEqual(told.slice(unblock + 1, unblock + 5), [
        sent('SIGUSR1'),
        sent('SIGUSR2'),
        'rt_sigreturn() = 10',
        'rt_sigreturn() = 0',
      ]);
      assert.equal(told.filter((line) => line === sent('SIGUSR1')).length, 2);
      // Made again behind the first handler, given up behind the second.
      const again = has(/^read\(3, 0x[0-9a-f]+, 1\) = \? \(to be restarted\)$/);
      assert.match(told[again + 1]!, /^--- SIGALRM \{si_signo=SIGALRM, si_code=SI_USER, si_pid=\d+, si_uid=0\} ---$/);
      assert.match(told[again + 2]!, /^rt_sigreturn\(\)/);
      assert.equal(told[again + 3], 'read(3, "x", 1) = 1');
      const given = has(/^read\(3, 0x[0-9a-f]+, 1\) = -1 EINTR/);
      assert.match(told[given + 1]!, /^--- SIGALRM .*SI_KERNEL/);
      has(/^wait4\(\d+, \{WIFEXITED\(s\) && WEXITSTATUS\(s\) == 3\}, 0, NULL\) = \d+$/);
      has(/^wait4\(\d+, \{WIFEXITED\(s\) && WEXITSTATUS\(s\) == 7\}/);
      has(/^wait4\(\d+, \{WIFSIGNALED\(s\) && WTERMSIG\(s\) == SIGSEGV\}/);
      has(/^wait4\(\d+, \{WIFSIGNALED\(s\) && WTERMSIG\(s\) == SIGKILL\}/);
      has(/^clone\(CLONE_VM\|CLONE_VFORK\|SIGCHLD, /);
      has(/^syscall_999\(0x1, 0x2, 0x3, /);

      const lines = between(events).map(syscallLine).join('\n');
      for (const pattern of [
        /\+\+\+ exited with 3 \+\+\+/,
        /\+\+\+ exited with 7 \+\+\+/,
        /\+\+\+ killed by SIGSEGV \+\+\+/,
        /\+\+\+ killed by SIGKILL \+\+\+/,
        / execve\("\/no\/such", \["\/program", "two"\], NULL\) = -1 ENOENT/,
        / execve\("\/program", \["\/program", "two"\], NULL\) = 0 /,
        / exit_group\(3\) = \?$/m,
        / write\(1, "again\\n", 6\) = 6 /,
      ])
        assert.match(lines, pattern);
      // The parent of a vfork waits while the child makes its calls.
      const vfork = between(events).find(
        (event): event is SyscallDone => isCall(event) && /VFORK/.test(event.shown[0] ?? ''),
      )!;
      const exec = between(events).find((event): event is SyscallDone => isCall(event) && event.name === 'execve')!;
      assert.ok(vfork.from.at < exec.from.at && exec.to.at < vfork.to.at);

      // Each thread has its own calls, in order, none of them lost.
      const threads = Map.groupBy(
        between(events).filter((event): event is SyscallDone => isCall(event) && event.name === 'getpriority'),
        ({ pid }) => pid,
      );
      assert.equal(threads.size, 3);
      for (const [pid, calls] of threads) {
        assert.deepEqual(
          calls.map(({ args, tgid }) => [args[1], tgid]),
          Array.from({ length: 20 }, (_, n) => [BigInt(n), 1]),
        );
        assert.ok(pid !== 1);
      }
      const harted = new Set(between(events).map(({ hart }) => hart));
      assert.ok(harts === 1 || harted.size > 1);
      for (const event of events)
        if (isCall(event)) assert.ok(event.to.at >= event.from.at && event.to.time >= event.from.time);
    });
  }

  test('what is under way at the end is told, and the trace may begin again', () => {
    const { machine, events } = traced(known, kernel);
    assert.match(syscallLine(events.at(-1)!), / ppoll\(.*\) = \? <unfinished \.\.\.> </);
    const trace = new SyscallTrace({ tasks: () => undefined, tell: () => {} });
    trace.begin(machine);
    assert.throws(() => trace.begin(machine), TraceError);
    const other = bareMachine(new Uint8Array(4));
    assert.throws(() => trace.end(other), TraceError);
    other.free();
    trace.end(machine);
    trace.end(machine);
    trace.begin(machine);
    trace.end(machine);
    machine.free();
  });

  test('a machine without a kernel is refused', () => {
    const machine = bareMachine(new Uint8Array([0x6f, 0, 0, 0]));
    machine.run(10);
    const trace = new SyscallTrace({ tasks: () => undefined, tell: () => {} });
    assert.throws(
      () => trace.begin(machine),
      (error) => error instanceof TraceError && error.reason === 'kernel',
    );
    machine.free();
  });
});

/** System calls of Debian 13's kernel against what its own tracer (ftrace) saw of the same run; and its functions. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelImage } from '../packages/core/src/linux/tasks.ts';
import { KernelTrace, kernelFunctions } from '../packages/core/src/trace/functions.ts';
import { syscallLine } from '../packages/core/src/trace/syscall-text.ts';
import { type SyscallDone, type SyscallEvent, SyscallTrace } from '../packages/core/src/trace/syscalls.ts';
import { findKernelEdges } from '../packages/core/src/trace/user-edges.ts';
import { PROMPT, Session } from './lib/session.ts';
import { stockInitrd, stockKernel, stockKernelMissing } from './lib/stock-kernel.ts';

const ENTER = /^\s*.+-(\d+)\s+\[\d+\]\s+\S+\s+[\d.]+: sys_enter: NR (\d+) \((.*)\)$/;
const EXIT = /^\s*.+-(\d+)\s+\[\d+\]\s+\S+\s+[\d.]+: sys_exit: NR (-?\d+) = (-?\d+)$/;

interface Call {
  readonly number: number;
  readonly args: string;
  /** Undefined where it did not return. */
  result: bigint | undefined;
}

/** Calls by task, in the order in which they were made. */
function callsOf(trace: string): Map<number, Call[]> {
  const calls = new Map<number, Call[]>();
  for (const line of trace.split('\r\n')) {
    const enter = ENTER.exec(line);
    const exit = EXIT.exec(line);
    const pid = Number((enter ?? exit)?.[1]);
    if (enter) {
      const list = calls.get(pid) ?? [];
      calls.set(pid, [...list, { number: Number(enter[2]), args: enter[3]!, result: undefined }]);
    } else if (exit) {
      const last = calls.get(pid)?.at(-1);
      if (last) last.result = BigInt(exit[3]!);
    }
  }
  return calls;
}

const restarts = (result: bigint | undefined) => result !== undefined && result <= -512n && result >= -516n;

test("system calls are those of the guest's own tracer, and functions those that it went through", {
  skip: stockKernelMissing(),
}, async () => {
  using session = new Session({
    boot: { kind: 'linux', kernel: stockKernel(), initrd: stockInitrd(), append: 'console=ttyS0 quiet' },
    memory: 256 * 2 ** 20,
    harts: 2,
    seed: 1n,
  });
  const { machine } = session;
  await session.until(PROMPT, 9e9);
  const shell = async (line: string) => {
    const before = session.output.length;
    session.type(`${line}; echo en""d\n`);
    await session.until(/end\r\n/, 9e9);
    await session.until(/# (\x1b\[6n)?$/, 1e9);
    return session.output.slice(before);
  };
  const kernel = KernelImage.find(machine);
  const { symbols } = kernel;
  const known = { tasks: (task: bigint) => kernel.task(task), symbols, edges: findKernelEdges(machine) };

  await shell('mount -t tracefs t /sys/kernel/tracing; cd /sys/kernel/tracing');
  await shell('for e in sys_enter sys_exit; do echo 1 > events/raw_syscalls/$e/enable; done');
  await shell('echo > trace');
  const events: SyscallEvent[] = [];
  const trace = new SyscallTrace({ ...known, tell: (event) => events.push(event) });
  trace.begin(machine);
  await shell('for i in 1 2 3; do (dd if=/dev/zero bs=64k count=3 2>/dev/null | md5sum) & done; wait; sleep 0.02');
  await shell("sh -c 'trap : USR1; (sleep 0.01; kill -USR1 $$) & wait; no/such/program; exit 3'");
  trace.end(machine);
  await shell('echo 0 > tracing_on');
  const theirs = callsOf(await shell('cat trace'));

  const calls = events.filter((event): event is SyscallDone => event.kind === 'call');
  const ours = Map.groupBy(
    calls.toSorted((a, b) => (a.from.at < b.from.at ? -1 : 1)),
    ({ pid }) => pid,
  );
  let compared = 0;
  for (const [pid, list] of ours) {
    const all = theirs.get(pid) ?? [];
    // The tracer began first, and ended last; what is under way at the beginning is not ours.
    const text = ({ number, args }: SyscallDone) => `${number} (${args.map((arg) => arg.toString(16)).join(', ')})`;
    const keys = all.map(({ number, args }) => `${number} (${args})`);
    const first = keys.findIndex((_, n) => list.slice(0, 3).every((call, i) => keys[n + i] === text(call)));
    assert.ok(first >= 0, `${pid}: ${list.slice(0, 3).map(text)} is not in ${keys.slice(0, 8)}`);
    for (const [n, call] of list.entries()) {
      const other = all[first + n];
      assert.equal(text(call), keys[first + n], `${pid}, ${n}`);
      const { result } = other!;
      if (call.end.kind === 'unfinished') continue;
      if (call.end.kind === 'restarted') assert.ok(restarts(result), `${syscallLine(call)}: ${result}`);
      else if (call.end.kind === 'exited') assert.equal(result, undefined, syscallLine(call));
      // What is given up because of a signal is told as EINTR.
      else assert.equal(call.end.value, restarts(result) ? -4n : result, syscallLine(call));
      compared++;
    }
  }
  assert.ok(compared > 400 && ours.size >= 10, `${compared} calls of ${ours.size} tasks`);
  const lines = events.map(syscallLine).join('\n');
  assert.match(lines, /--- SIGUSR1 \{si_signo=SIGUSR1, si_code=SI_USER, si_pid=\d+, si_uid=0\} ---/);
  assert.match(lines, /\+\+\+ exited with 3 \+\+\+/);

  // Two traces of one run: the kernel's functions, and the calls that lead to them.
  const map = kernelFunctions(symbols.all(), (address, length) => kernel.memory.bytes(address, length));
  const functions = new KernelTrace(map, known);
  const more: SyscallEvent[] = [];
  const again = new SyscallTrace({ ...known, calls: ['read', 'write'], tell: (event) => more.push(event) });
  functions.begin(machine);
  again.begin(machine);
  await shell('dd if=/dev/zero bs=64k count=9 2>/dev/null | md5sum');
  again.end(machine);
  functions.end(machine);
  const { used, total } = functions.profile();
  const use = (name: string) => used.find((one) => one.name === name)!;
  const count = (name: string) => more.filter((event) => event.kind === 'call' && event.name === name).length;
  assert.ok(Math.abs(use('ksys_read').calls - count('read')) <= 4, `${use('ksys_read').calls}, ${count('read')}`);
  assert.ok(Math.abs(use('ksys_write').calls - count('write')) <= 4, `${use('ksys_write').calls}, ${count('write')}`);
  assert.ok(use('ksys_read').callees.some(({ name }) => name === 'vfs_read'));
  assert.ok(use('do_irq').total.system < 0.5 * total.system);
});

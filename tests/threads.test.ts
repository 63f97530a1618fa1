/** The recorded activity of threads of Debian 13's kernel against what its own tracer (ftrace) saw of the same run. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { Activity } from '../packages/core/src/linux/activity.ts';
import type { RunSlice } from '../packages/core/src/linux/activity-queries.ts';
import { KernelImage } from '../packages/core/src/linux/tasks.ts';
import { PROMPT, Session } from './lib/session.ts';
import { stockInitrd, stockKernel, stockKernelMissing } from './lib/stock-kernel.ts';

const TRACE = /^\s*.+-(\d+)\s+\[(\d+)\]\s+\S+\s+([\d.]+): (\w+): (.*)$/;
const SWITCH = /^prev_comm=.* prev_pid=(\d+) prev_prio=\d+ prev_state=(\S+) ==> next_comm=.* next_pid=(\d+)/;

interface Switch {
  readonly hart: number;
  readonly from: number;
  readonly to: number;
  readonly state: string;
  readonly time: number;
}

/** The kernel's letters for why a task left. */
function letters({ why, state }: RunSlice): string[] {
  if (why === 'preempted') return ['R', 'R+'];
  if (why === 'yielded') return ['R'];
  if (why === 'exited') return ['X', 'Z'];
  if ((state & 1) !== 0) return ['S'];
  return (state & 0x402) === 0x402 ? ['I'] : ['D'];
}

/** Both lists from the first to the last element that they share, when those are told by `key`. */
function shared<A, B>(theirs: readonly A[], ours: readonly B[], key: (item: A | B) => string): [A[], B[]] {
  const keys = [theirs.map(key), ours.map(key)] as const;
  const probe = 8;
  for (let skip = 0; skip + probe < theirs.length; skip++) {
    const text = keys[0].slice(skip, skip + probe).join();
    const at = keys[1].findIndex((_, i) => keys[1].slice(i, i + probe).join() === text);
    if (at < 0) continue;
    const count = Math.min(theirs.length - skip, ours.length - at);
    return [theirs.slice(skip, skip + count), ours.slice(at, at + count)];
  }
  return [[], []];
}

test("threads, wake-ups and their order are those of the guest's own tracer", {
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
  const { symbols, types, layout } = kernel;
  assert.ok(types, 'this kernel describes its types');
  assert.deepEqual(KernelImage.find(machine, { types: false }).layout, layout, 'what tasks show is what types say');
  const text = symbols.all().map((s) => `${s.address.toString(16).padStart(16, '0')} ${s.type} ${s.name}\n`);
  const digest = createHash('md5').update(text.join('')).digest('hex');
  // The modules' symbols come behind the kernel's own.
  assert.match(await shell(`head -n ${text.length} /proc/kallsyms | md5sum`), new RegExp(digest));

  await shell('mount -t tracefs t /sys/kernel/tracing; cd /sys/kernel/tracing');
  await shell('for e in sched_switch sched_waking sched_wakeup_new; do echo 1 > events/sched/$e/enable; done');
  await shell('echo > trace');
  const activity = new Activity({ kernel });
  activity.begin(machine);
  await shell('for i in 1 2 3; do (dd if=/dev/zero bs=64k count=9 2>/dev/null | md5sum) & done; wait; sleep 0.02');
  await shell('echo 0 > tracing_on');
  activity.end(machine);
  const trace = await shell('cat trace');

  const switches: Switch[] = [];
  const wakings: { readonly waker: number; readonly woken: number; readonly hart: number }[] = [];
  for (const line of trace.split('\r\n')) {
    const [, pid, cpu, time, name, rest] = TRACE.exec(line) ?? [];
    const [, from, state, to] = (name === 'sched_switch' && SWITCH.exec(rest!)) || [];
    if (state) {
      switches.push({ hart: Number(cpu), from: Number(from), to: Number(to), state, time: Number(time) * 1e9 });
    } else if (name) {
      wakings.push({ waker: Number(pid), woken: Number(/ pid=(\d+)/.exec(rest!)![1]), hart: Number(cpu) });
    }
  }
  assert.ok(switches.length > 60 && wakings.length > 40, `${switches.length} switches, ${wakings.length} wake-ups`);

  for (const hart of [0, 1]) {
    const slices = [...activity.slices({ hart })];
    const ours = slices.slice(0, -1).map((slice, i) => ({ from: slice.task.pid, to: slices[i + 1]!.task.pid, slice }));
    const all = switches.filter((item) => item.hart === hart);
    const [theirs, same] = shared(all, ours, ({ from, to }) => `${from} ${to}`);
    // The tracer began first, and ended first.
    assert.ok(theirs.length > 30 && theirs.at(-1) === all.at(-1), `hart ${hart}: ${theirs.length} of ${all.length}`);
    for (const [i, { from, to, state, time }] of theirs.entries()) {
      const { slice, ...our } = same[i]!;
      assert.deepEqual(our, { from, to });
      assert.ok(
        letters(slice).includes(state),
        `${from} leaves with ${state}, and we have ${slice.why} ${slice.state}`,
      );
      // The two clocks began at different moments; the tracer's has microseconds, and an interrupt may come between.
      const gap = slice.to - time - (same[0]!.slice.to - theirs[0]!.time);
      assert.ok(Math.abs(gap) < 200_000, `${gap} ns`);
    }
  }
  const ours = [...activity.wakeups()].map(({ waker, task, hart }) => ({ waker: waker.pid, woken: task.pid, hart }));
  const [theirs, same] = shared(wakings, ours, ({ waker, woken, hart }) => `${waker} ${woken} ${hart}`);
  assert.ok(theirs.length > 40 && theirs.at(-1) === wakings.at(-1), `${theirs.length} of ${wakings.length}`);
  assert.deepEqual(same, theirs);
});

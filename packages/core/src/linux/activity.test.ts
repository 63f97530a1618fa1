import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { stateHash } from '../machine/hash.ts';
import type { Machine } from '../machine/machine.ts';
import { defaultGuest, guestMissing, linuxMachine, runSteps, sharedEngine } from '../testing/machines.ts';
import { MemorySink, memorySource, Recorder } from '../testing/recordings.ts';
import { Recording } from '../timeline/recording/reader.ts';
import { Timeline } from '../timeline/timeline.ts';
import { Activity } from './activity.ts';
import { commOf } from './activity-queries.ts';
import { summarize, summaryText } from './activity-summary.ts';
import { traceEvents, traceJson } from './chrome-trace.ts';
import { KernelError } from './errors.ts';
import { KernelImage } from './tasks.ts';

const COMPILER = 'riscv64-linux-gnu-gcc';
const noCompiler = spawnSync(COMPILER, ['--version']).status === 0 ? guestMissing : `${COMPILER} is not installed`;

class Guest {
  readonly machine: Machine;
  output = '';

  /** At its prompt, or at the start. */
  constructor(harts: number, initrd = defaultGuest().initrd, boot = true) {
    const { kernel } = defaultGuest();
    this.machine = linuxMachine(
      { harts, boot: { kind: 'linux', kernel, initrd, append: 'console=ttyS0 quiet' } },
      {
        console: (bytes) => {
          this.output += Buffer.from(bytes).toString('latin1');
        },
      },
    );
    if (boot) this.until(/~ ?# /);
  }

  until(text: RegExp): string {
    for (let i = 0; i < 4000 && !text.test(this.output); i++) runSteps(this.machine, 500_000);
    assert.match(this.output, text);
    return this.output;
  }

  type(line: string): void {
    this.output = '';
    this.machine.input({ kind: 'console', bytes: new TextEncoder().encode(`${line}\n`) });
  }

  /** What a line of shell printed, recorded. */
  record(line: string, activity: Activity): string {
    activity.begin(this.machine);
    this.type(`${line}; echo en""d`);
    const output = this.until(/end\r/);
    activity.end(this.machine);
    assert.equal(this.machine.breakpoints.size, 0);
    return output;
  }

  [Symbol.dispose](): void {
    this.machine.free();
  }
}

/** What holds of any recording. */
function check(activity: Activity): void {
  const ends = new Map<number, number>();
  const spans = new Map<object, [number, number][]>();
  for (const { hart, from, to, task } of activity.slices()) {
    assert.equal(from, ends.get(hart) ?? from, 'one task comes when another leaves');
    assert.ok(from <= to);
    ends.set(hart, to);
    if (task.pid !== 0) spans.set(task, [...(spans.get(task) ?? []), [from, to]]);
  }
  for (const { task, from, to } of activity.waits()) spans.set(task, [...(spans.get(task) ?? []), [from, to]]);
  for (const [task, list] of spans) {
    list.sort(([a, b], [c, d]) => a - c || b - d);
    for (const [i, [from]] of list.entries())
      if (i > 0)
        assert.equal(from, list[i - 1]![1], `${JSON.stringify(task, (_, v) => `${v}`)} rests or runs all the time`);
  }
  const { events } = JSON.parse([...traceJson(activity)].join('').replace('"traceEvents"', '"events"'));
  assert.equal(events.length, [...traceEvents(activity)].length);
  const tracks = new Map<string, { ts: number; dur: number }[]>();
  for (const event of events) {
    if (event.ph !== 'X') continue;
    const key = `${event.pid} ${event.tid}`;
    tracks.set(key, [...(tracks.get(key) ?? []), event]);
  }
  for (const list of tracks.values()) {
    const open: number[] = [];
    // A viewer draws what lies in another below it, and what overlaps not at all.
    for (const { ts, dur } of list.sort((a, b) => a.ts - b.ts || b.dur - a.dur)) {
      while (open.length > 0 && open.at(-1)! <= ts + 1e-6) open.pop();
      assert.ok(open.length === 0 || ts + dur <= open.at(-1)! + 1e-3, `${ts} + ${dur} in ${open}`);
      open.push(ts + dur);
    }
  }
}

for (const harts of [1, 4]) {
  test(`switches are those that the kernel counts, with ${harts} harts`, { skip: guestMissing }, () => {
    using guest = new Guest(harts);
    const activity = new Activity();
    const count = 'while read l; do case $l in *ctxt*|Pid*) echo $l;; esac; done < /proc/$$/status';
    const script = `sleep 0.01; for i in 1 2 3 4 5 6; do ls /proc/self/fd > /dev/null; done; ${count}`;
    const output = guest.record(`for n in 1 2 3 4 5; do sh -c '${script}' & done; wait`, activity);
    check(activity);
    const told = [...output.matchAll(/Pid: (\d+)\r\n/g)].map(([, pid]) => Number(pid));
    assert.equal(told.length, 5);
    const sums = { voluntary: 0, nonvoluntary: 0 };
    for (const [, kind, times] of output.matchAll(/^(voluntary|nonvoluntary)_ctxt_switches: (\d+)\r$/gm))
      sums[kind as 'voluntary'] += Number(times);
    const ours = { voluntary: 0, nonvoluntary: 0 };
    for (const pid of told) {
      const calls = [...activity.calls({ pid })];
      const opened = calls.findLastIndex(({ name, result }) => name === 'openat' && result! >= 0);
      const { from: read } = calls.slice(opened).find(({ name }) => name === 'read')!;
      for (const { to, why } of activity.slices({ pid }))
        if (to <= read) ours[why === 'blocked' ? 'voluntary' : 'nonvoluntary']++;
    }
    assert.deepEqual(ours, sums);
    assert.ok(ours.voluntary >= 10 && ours.nonvoluntary >= 1);
  });
}

test('who waits for whom is told: a pipe, a sleep, children, interrupts', { skip: guestMissing }, () => {
  using guest = new Guest(2);
  const activity = new Activity();
  guest.record('dd if=/dev/zero bs=64k count=20 2> /dev/null | md5sum > /dev/null; sleep 0.05; ls /bin', activity);
  check(activity);
  const waits = (comm: string) => [...activity.waits({ comm })].filter(({ kind, over }) => kind === 'blocked' && over);
  const writers = waits('dd');
  assert.ok(writers.length >= 15);
  for (const { in: where, waker } of writers) assert.deepEqual([where, commOf(waker!)], ['write', 'md5sum']);
  const [sleep] = waits('sleep');
  assert.equal(sleep!.in, 'clock_nanosleep');
  assert.ok(sleep!.to - sleep!.from >= 50e6 && sleep!.to - sleep!.from < 52e6);
  const [rings] = [...activity.wakeups({ comm: 'sleep', from: sleep!.to, to: sleep!.to })];
  assert.deepEqual([rings!.by, rings!.interrupt], ['interrupt: timer', true]);
  // The shell waits for its children, from before they began.
  const shell = waits('sh').filter(({ task }) => !task.kernel);
  assert.ok(shell.some(({ in: where, waker }) => where === 'wait4' && commOf(waker!) === 'sleep'));
  const born = [...activity.wakeups({ comm: 'ls' })].find(({ fork }) => fork)!;
  assert.deepEqual([commOf(born.waker), born.by], ['sh', 'clone']);
  assert.equal(commOf(born.task, born.time), 'sh', 'a task has the name that it had');
  const kinds = new Set([...activity.interrupts()].map(({ kind }) => kind));
  for (const kind of ['timer', 'device', 'other harts', 'softirq'] as const) assert.ok(kinds.has(kind), kind);
  // The serial port's number at the interrupt controller.
  assert.ok([...activity.interrupts()].some(({ kind, sources }) => kind === 'device' && sources.includes(10)));
  const ls = summarize(activity).tasks.find(({ comm }) => comm === 'ls')!;
  assert.ok(ls.exited && ls.ran > 0);
  const calls = [...activity.calls({ comm: 'ls' })];
  assert.ok(calls.some(({ name, result }) => name === 'getdents64' && result! > 0));
  assert.deepEqual([calls.at(-1)!.name, calls.at(-1)!.result], ['exit_group', undefined]);
  assert.ok([...activity.faults({ comm: 'ls' })].some(({ access, address }) => access === 'fetch' && address > 0));
  const text = summaryText(activity);
  assert.match(text, /^hart 0: busy \d+ %; interrupts: /m);
  assert.match(text, /dd .* write \d+x /);
});

/** A second archive behind the guest's own, with one program. */
function withProgram(initrd: Uint8Array, name: string, program: Uint8Array): Uint8Array {
  const entry = (path: string, mode: number, content: Uint8Array) => {
    const fields = [0, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, path.length + 1, 0];
    const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${path}\0`);
    const pad = (length: number) => Buffer.alloc((4 - (length % 4)) % 4);
    return [head, pad(head.length), content, pad(content.length)];
  };
  const parts = [...entry(name, 0o100755, program), ...entry('TRAILER!!!', 0, new Uint8Array())];
  return Buffer.concat([initrd, Buffer.alloc((4 - (initrd.length % 4)) % 4), ...parts]);
}

const THREADS = `
#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <stdio.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static int whose;
static volatile unsigned long work;
static void *play(void *arg) {
  int me = (int)(long)arg;
  prctl(PR_SET_NAME, me ? "pong" : "ping");
  for (int i = 0; i < 50; i++) {
    pthread_mutex_lock(&lock);
    while (whose != me) pthread_cond_wait(&turn, &lock);
    for (int k = 0; k < 1000; k++) work += k;
    whose = !me;
    pthread_cond_signal(&turn);
    pthread_mutex_unlock(&lock);
  }
  return 0;
}
int main(void) {
  pthread_t threads[2];
  for (long i = 0; i < 2; i++) pthread_create(&threads[i], 0, play, (void *)i);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], 0);
  puts("played");
}
`;

test('threads of a process are told apart, and wake each other', { skip: noCompiler }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'braid-threads-'));
  const [source, program] = [join(folder, 'threads.c'), join(folder, 'threads')];
  writeFileSync(source, THREADS);
  const made = spawnSync(COMPILER, ['-O1', '-static', '-pthread', '-o', program, source], { encoding: 'utf8' });
  assert.equal(made.status, 0, made.stderr);
  using guest = new Guest(2, withProgram(defaultGuest().initrd, 'threads', readFileSync(program)));
  rmSync(folder, { recursive: true });
  const activity = new Activity();
  assert.match(guest.record('/threads', activity), /played/);
  check(activity);
  const [ping, pong] = ['ping', 'pong'].map((name) => activity.tasks.find((task) => commOf(task) === name)!);
  assert.ok(ping!.pid !== pong!.pid && ping!.tgid === pong!.tgid && ping!.pid !== ping!.tgid);
  const waits = [...activity.waits({ pid: ping!.pid })].filter(({ in: where }) => where === 'futex');
  assert.ok(waits.length >= 30);
  assert.ok(waits.filter(({ waker }) => waker === pong).length >= 30);
  const summary = summarize(activity).tasks.find(({ pid }) => pid === ping!.pid)!;
  assert.equal(summary.blockedIn.futex!.times, waits.length);
});

test('a replay tells of the threads what the run itself did', { skip: guestMissing }, async () => {
  using guest = new Guest(2);
  const { machine } = guest;
  const sink = new MemorySink();
  const recorder = new Recorder(machine, sink);
  runSteps(machine, 0);
  await recorder.keyframe();
  const before = machine.totalSteps;
  const live = new Activity({ at: () => machine.stepsNow - before });
  guest.record('for i in 1 2 3; do ls /proc/self/fd | md5sum & done; wait; sleep 0.02', live);
  await recorder.keyframe();
  await recorder.events();
  const recording = Recording.open(memorySource(sink.bytes()), []);
  recorder.free();
  const timeline = new Timeline(sharedEngine(), recording);
  const go = (to: bigint) => {
    for (const _ of timeline.seek(to));
  };
  go(timeline.end);
  const kernel = KernelImage.find(timeline.machine);
  go(0n);
  const again = new Activity({ kernel, at: () => timeline.atNow });
  again.begin(timeline.machine);
  for (const work = timeline.run(); !work.next().done; );
  again.end(timeline.machine);
  assert.ok(live.events.length > 500);
  assert.deepEqual([...again.events], [...live.events]);
  assert.deepEqual(again.tasks, live.tasks);
  timeline.free();
});

test('a replay from power-on tells of every task since the first', { skip: guestMissing }, async () => {
  using guest = new Guest(2, defaultGuest().initrd, false);
  const { machine } = guest;
  const sink = new MemorySink();
  const recorder = new Recorder(machine, sink);
  runSteps(machine, 0);
  await recorder.keyframe();
  guest.until(/~ ?# /);
  await recorder.events();
  await recorder.keyframe();
  const timeline = new Timeline(sharedEngine(), Recording.open(memorySource(sink.bytes()), []));
  recorder.free();
  for (const _ of timeline.seek(timeline.end));
  const kernel = KernelImage.find(timeline.machine);
  for (const _ of timeline.seek(0n));
  const activity = new Activity({ kernel, at: () => timeline.atNow });
  activity.begin(timeline.machine);
  for (const work = timeline.run(); !work.next().done; );
  activity.end(timeline.machine);
  timeline.free();
  check(activity);
  const init = activity.tasks.find(({ pid }) => pid === 1)!;
  assert.equal(commOf(init), 'init');
  assert.ok(init.comms.length > 1 && !init.kernel, 'it was called otherwise before, and ran no program');
  const makers = new Map(
    [...activity.wakeups()].filter(({ fork }) => fork).map(({ task, waker }) => [task, waker.pid]),
  );
  for (const task of activity.tasks)
    if (task.pid > 2) assert.ok(makers.has(task) && (task.kernel || makers.get(task) !== 2), commOf(task));
  assert.equal(makers.get(init), 0);
});

test('a recording of threads changes nothing in the guest', { skip: guestMissing }, () => {
  const run = (activity?: Activity) => {
    using guest = new Guest(2);
    activity?.begin(guest.machine);
    guest.type('ls /proc/self/fd | md5sum; sleep 0.02; cat /proc/interrupts; echo don""e');
    runSteps(guest.machine, 20_000_000);
    activity?.end(guest.machine);
    return { hash: stateHash(guest.machine), output: guest.output };
  };
  const activity = new Activity();
  const recorded = run(activity);
  assert.match(recorded.output, /done\r/);
  assert.ok(activity.events.length > 500);
  assert.deepEqual(recorded, run());
});

test('a recording that is full says where it ends, and may go on in another', { skip: guestMissing }, () => {
  using guest = new Guest(1);
  const small = new Activity({ limit: 100 });
  guest.record('ls /bin', small);
  assert.equal(small.events.length, 101);
  check(small);
  assert.ok(small.events.full!.time > 0);
  assert.match(summaryText(small), /The recording of threads ends at .*100 events are full/);
  const less = new Activity({ without: ['calls', 'faults', 'interrupts'] });
  guest.record('sleep 0.01; ls /bin', less);
  check(less);
  const kinds = new Set([...less.events].map(({ kind }) => kind));
  for (const kind of ['call', 'return', 'fault', 'mended', 'irq', 'irq-end', 'softirq'] as const)
    assert.ok(!kinds.has(kind));
  assert.ok([...less.waits({ comm: 'sleep' })].some(({ in: where }) => where === 'clock_nanosleep'));
  assert.ok([...less.wakeups({ comm: 'sleep' })].some(({ by }) => by === 'interrupt: timer'));
  const twice = new Activity({ at: () => guest.machine.stepsNow + 10n ** 9n });
  guest.record('ls /bin', twice);
  const { length } = twice.events;
  const before = twice.events.at(length - 1);
  guest.record('ls /bin', twice);
  check(twice);
  assert.ok(twice.events.length > length && twice.events.at(length).step >= before.step && before.step > 1e9);
  assert.equal(twice.tasks.filter((task) => commOf(task) === 'sh' && task.pid === task.tgid && !task.kernel).length, 1);
});

test('a machine without a kernel is refused', { skip: guestMissing }, () => {
  const machine = linuxMachine();
  assert.throws(() => new Activity().begin(machine), KernelError);
  assert.equal(machine.breakpoints.size, 0);
  machine.free();
});

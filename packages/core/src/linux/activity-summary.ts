/** The activity of tasks in words: who had the harts, who waited for what. */

import { escapeGuestText } from '../text/escape.ts';
import { type ActivityQueries, commOf, type RecordedTask } from './activity-queries.ts';

export interface TaskSummary {
  readonly pid: number;
  readonly tgid: number;
  /** What it was called last. */
  readonly comm: string;
  /** A thread of the kernel. */
  readonly kernel: boolean;
  /** Guest time in ns on a hart, of slices that were over or cut off by the end. */
  ran: number;
  /** Times that it came to a hart, and left it for each reason. */
  switches: number;
  blocked: number;
  preempted: number;
  yielded: number;
  exited: boolean;
  wakeups: number;
  /** The longest time between being woken, or preempted, and running. */
  longestDelay: number;
  /** What it was blocked in, and how long; the kernel's own threads are in nothing. */
  readonly blockedIn: Record<string, { times: number; time: number; longest: number }>;
}

export interface ActivitySummary {
  readonly from: number;
  readonly to: number;
  readonly harts: readonly { busy: number; idle: number; interrupts: Record<string, number> }[];
  /** The busiest first; the idle tasks are in `harts`. */
  readonly tasks: readonly TaskSummary[];
  /** When the list of events was full, if it was. */
  readonly full: number | undefined;
}

/** Sums the whole recording up: plain data. */
export function summarize(activity: ActivityQueries): ActivitySummary {
  const { events } = activity;
  const tasks = new Map<RecordedTask, TaskSummary>();
  const of = (task: RecordedTask): TaskSummary => {
    const known = tasks.get(task);
    if (known) return known;
    const { pid, tgid, kernel } = task;
    const fresh = {
      pid,
      tgid,
      comm: commOf(task),
      kernel,
      ran: 0,
      switches: 0,
      blocked: 0,
      preempted: 0,
      yielded: 0,
      exited: false,
      wakeups: 0,
      longestDelay: 0,
      blockedIn: {},
    };
    tasks.set(task, fresh);
    return fresh;
  };
  const harts: { busy: number; idle: number; interrupts: Record<string, number> }[] = [];
  const hartOf = (hart: number) => {
    while (harts.length <= hart) harts.push({ busy: 0, idle: 0, interrupts: {} });
    return harts[hart]!;
  };
  for (const slice of activity.slices()) {
    const { task, hart, from, to, why } = slice;
    hartOf(hart)[task.pid === 0 ? 'idle' : 'busy'] += to - from;
    const sum = of(task);
    sum.ran += to - from;
    sum.switches++;
    if (why === 'exited') sum.exited = true;
    else if (why !== 'recording') sum[why]++;
  }
  for (const { task, kind, from, to, in: where } of activity.waits()) {
    const sum = of(task);
    if (kind === 'runnable') {
      sum.longestDelay = Math.max(sum.longestDelay, to - from);
      continue;
    }
    if (task.kernel) continue;
    const name = where || 'no system call';
    const sums = sum.blockedIn[name] ?? { times: 0, time: 0, longest: 0 };
    sums.times++;
    sums.time += to - from;
    sums.longest = Math.max(sums.longest, to - from);
    sum.blockedIn[name] = sums;
  }
  for (const { task } of activity.wakeups()) of(task).wakeups++;
  for (const { hart, kind } of activity.interrupts()) {
    const { interrupts } = hartOf(hart);
    interrupts[kind] = (interrupts[kind] ?? 0) + 1;
  }
  // In a forged guest an idle task may sleep and be woken up, too.
  const sorted = [...tasks.values()].filter(({ pid }) => pid !== 0).sort((a, b) => b.ran - a.ran || a.pid - b.pid);
  const [from, to] = events.length === 0 ? [0, 0] : [events.at(0).time, events.at(events.length - 1).time];
  return { from, to, harts, tasks: sorted, full: events.full?.time };
}

/** For people to read; `limit` tasks at most (default 40). */
export function summaryText(activity: ActivityQueries, limit = 40): string {
  const { from, to, harts, tasks, full } = summarize(activity);
  const lines = [`${duration(to - from)} of guest time from ${duration(from)} on, ${tasks.length} tasks`];
  // The kernel has many threads that wait for work all the time.
  const shown = tasks.filter(({ kernel, switches, wakeups }) => !kernel || switches > 0 || wakeups > 0);
  if (full !== undefined) {
    const { events } = activity;
    lines.push(
      `The recording of threads ends at ${duration(full)}: its ${events.limit} events are full. Ask for more of them, or for a shorter part.`,
    );
  }
  for (const [hart, { busy, idle, interrupts }] of harts.entries()) {
    const share = busy + idle === 0 ? 0 : Math.round((100 * busy) / (busy + idle));
    const counts = Object.entries(interrupts).map(([kind, count]) => `${count} ${kind}`);
    lines.push(`hart ${hart}: busy ${share} %${counts.length > 0 ? `; interrupts: ${counts.join(', ')}` : ''}`);
  }
  const rows = [['pid', 'name', 'ran', 'switches', 'waited', 'preempted', 'woken', 'longest delay', 'blocked in']];
  for (const sum of shown.slice(0, limit)) {
    const places = Object.entries(sum.blockedIn)
      .sort(([, a], [, b]) => b.time - a.time)
      .slice(0, 3);
    rows.push([
      `${sum.pid}`,
      escapeGuestText(sum.comm),
      duration(sum.ran),
      `${sum.switches}`,
      `${sum.blocked + sum.yielded}`,
      `${sum.preempted}`,
      `${sum.wakeups}`,
      duration(sum.longestDelay),
      [
        ...places.map(([name, { times, time }]) => `${name} ${times}x ${duration(time)}`),
        ...(sum.exited ? ['ended'] : []),
      ].join(', '),
    ]);
  }
  lines.push('', ...table(rows));
  if (shown.length > limit) lines.push(`... and ${shown.length - limit} more`);
  if (shown.length < tasks.length) lines.push(`${tasks.length - shown.length} threads of the kernel did nothing`);
  return `${lines.join('\n')}\n`;
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const left = (column: number) => column === 1 || column === widths.length - 1;
  return rows.map((row) =>
    row
      .map((cell, column) => (left(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
}

/** A time in ns, with three digits. */
export function duration(ns: number): string {
  const units: [number, string][] = [
    [1e9, 's'],
    [1e6, 'ms'],
    [1e3, 'us'],
  ];
  for (const [size, unit] of units) if (ns >= size) return `${Number((ns / size).toPrecision(3))} ${unit}`;
  return `${Math.round(ns)} ns`;
}

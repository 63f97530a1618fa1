/**
 * The activity of tasks in Chrome's trace event format, which Perfetto and Chrome's own viewer open.
 *
 * A track for each hart has the tasks that ran on it and, in them, interrupts. A track for each task has what it did and waited for,
 * and beside it its system calls and page faults. An arrow goes from who woke a task to where it ran next.
 */

import { escapeGuestText } from '../text/escape.ts';
import { type ActivityQueries, commOf, type RecordedTask } from './activity-queries.ts';

export interface TraceEvent {
  readonly ph: 'X' | 'M' | 's' | 'f' | 'b' | 'e';
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds of guest time. */
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly id?: string;
  readonly bp?: 'e';
  readonly args?: Readonly<Record<string, unknown>>;
}

/** The harts' process: above all numbers that Linux gives. */
const HARTS = 2 ** 22 + 1;

/** A name as a viewer can show it: what is no text is no JSON for all of them either. */
const shown = (task: RecordedTask, time?: number) => escapeGuestText(commOf(task, time));
const us = (ns: number) => ns / 1000;

/** The events, made while one iterates. Their order is of no importance to who reads them. */
export function* traceEvents(activity: ActivityQueries): Generator<TraceEvent> {
  yield* names(activity);
  for (const { task, hart, from, to, why, state, in: where } of activity.slices()) {
    if (task.pid === 0) continue;
    const args = { pid: task.pid, hart, ended: why, ...(where ? { in: where } : {}), ...(state ? { state } : {}) };
    const times = { ts: us(from), dur: us(to - from) };
    yield { ph: 'X', name: shown(task, from), pid: HARTS, tid: HARTS + hart, ...times, args };
    yield { ph: 'X', name: 'running', ...track(task), ...times, args };
  }
  for (const { task, from, to, kind, in: where, waker } of activity.waits()) {
    const name = kind === 'blocked' && where ? `blocked: ${where}` : kind;
    const args = waker ? { woken_by: `${shown(waker, to)} ${waker.pid}` } : {};
    yield { ph: 'X', name, ...track(task), ts: us(from), dur: us(to - from), args };
  }
  for (const { hart, kind, sources, from, to } of activity.interrupts()) {
    const args = sources.length > 0 ? { sources } : {};
    const name = kind === 'softirq' ? kind : `interrupt: ${kind}`;
    yield { ph: 'X', name, pid: HARTS, tid: HARTS + hart, ts: us(from), dur: us(to - from), args };
  }
  let id = 0;
  for (const { task, name, from, to, result } of activity.calls()) {
    const args = result === undefined ? {} : { result };
    yield* async(task, 'syscall', `c${id++}`, name, from, to, args);
  }
  for (const { task, from, to, address, access } of activity.faults()) {
    const args = { address: `0x${BigInt.asUintN(64, BigInt(address)).toString(16)}` };
    yield* async(task, 'fault', `f${id++}`, `page fault: ${access}`, from, to, args);
  }
  yield* arrows(activity);
}

/** The same as the text of a file, in pieces. */
export function* traceJson(activity: ActivityQueries): Generator<string> {
  yield '{"displayTimeUnit":"ns","traceEvents":[';
  let before = '\n';
  for (const event of traceEvents(activity)) {
    yield before + JSON.stringify(event);
    before = ',\n';
  }
  yield '\n]}\n';
}

const track = ({ pid, tgid }: RecordedTask) => ({ pid: tgid, tid: pid });

function* async(
  task: RecordedTask,
  cat: string,
  id: string,
  name: string,
  from: number,
  to: number,
  args: Readonly<Record<string, unknown>>,
): Generator<TraceEvent> {
  yield { ph: 'b', cat, id, name, ...track(task), ts: us(from), args };
  yield { ph: 'e', cat, id, name, ...track(task), ts: us(to) };
}

function* names({ events, tasks }: ActivityQueries): Generator<TraceEvent> {
  yield { ph: 'M', name: 'process_name', pid: HARTS, tid: HARTS, args: { name: 'harts' } };
  const harts = new Set<number>();
  for (const { kind, hart } of events) if (kind === 'end' || kind === 'start') harts.add(hart);
  for (const hart of harts) {
    yield { ph: 'M', name: 'thread_name', pid: HARTS, tid: HARTS + hart, args: { name: `hart ${hart}` } };
    yield { ph: 'M', name: 'thread_sort_index', pid: HARTS, tid: HARTS + hart, args: { sort_index: hart } };
  }
  for (const task of tasks) {
    if (task.pid === 0) continue;
    const args = { name: shown(task) };
    if (task.pid === task.tgid) yield { ph: 'M', name: 'process_name', ...track(task), args };
    yield { ph: 'M', name: 'thread_name', ...track(task), args };
  }
}

/** From each waking to where the task ran next. */
function* arrows(activity: ActivityQueries): Generator<TraceEvent> {
  const waiting = new Map<RecordedTask, TraceEvent>();
  const wakeups = activity.wakeups();
  let next = wakeups.next();
  let id = 0;
  for (const { task, from } of startsOf(activity)) {
    for (; !next.done && next.value.time <= from; next = wakeups.next()) {
      const { task: woken, waker, hart, time, interrupt } = next.value;
      const place = interrupt || waker.pid === 0 ? { pid: HARTS, tid: HARTS + hart } : track(waker);
      waiting.set(woken, { ph: 's', cat: 'wakeup', name: 'wakeup', id: `w${id++}`, ...place, ts: us(time) });
    }
    const start = waiting.get(task);
    if (!start) continue;
    waiting.delete(task);
    yield start;
    yield { ...start, ph: 'f', bp: 'e', ...track(task), ts: us(from) };
  }
}

function* startsOf({ events, tasks }: ActivityQueries): Generator<{ task: RecordedTask; from: number }> {
  for (const { kind, other, time } of events) if (kind === 'switch') yield { task: tasks[other]!, from: time };
}

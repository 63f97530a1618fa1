/** Questions to the recorded activity of tasks. Answers are made while one iterates, so they may be longer than memory. */

import { type ActivityEvent, type ActivityEvents, CONTEXT, type Leave, unpackLeave } from './activity-events.ts';
import { asComm } from './comm.ts';
import { syscallName } from './syscall-names.ts';

export interface RecordedTask {
  readonly address: bigint;
  readonly pid: number;
  readonly tgid: number;
  /** A thread of the kernel; it has run no program. */
  readonly kernel: boolean;
  /** What it was called, from when on. */
  readonly comms: { readonly time: number; readonly comm: string }[];
}

/** What an answer is limited to. Times are guest time in ns. */
export interface ActivityFilter {
  readonly pid?: number;
  readonly tgid?: number;
  readonly comm?: string;
  readonly hart?: number;
  readonly from?: number;
  readonly to?: number;
}

interface Span {
  readonly task: RecordedTask;
  readonly from: number;
  readonly to: number;
  readonly fromStep: number;
  readonly toStep: number;
}

/** A task on a hart. */
export interface RunSlice extends Span {
  readonly hart: number;
  /** Why it ended; `recording` where only the recording did. */
  readonly why: Leave | 'recording';
  /** The kernel's state of the task that left: 1 can be interrupted, 2 cannot ... */
  readonly state: number;
  /** What it was in: a system call by its name, or `page fault`; empty elsewhere. */
  readonly in: string;
}

/** A task on no hart. */
export interface WaitSlice extends Span {
  /** `blocked` until somebody wakes it, `runnable` until a hart takes it. */
  readonly kind: 'blocked' | 'runnable';
  /** What it is blocked in. */
  readonly in: string;
  readonly waker: RecordedTask | undefined;
  /** False where only the recording ended. */
  readonly over: boolean;
}

export interface Wakeup {
  readonly time: number;
  readonly step: number;
  /** Where the waking happened. */
  readonly hart: number;
  readonly task: RecordedTask;
  /** The task that did it, or that an interrupt found running. */
  readonly waker: RecordedTask;
  /** A system call of the waker, `page fault`, an interrupt, `softirq`; empty elsewhere. */
  readonly by: string;
  readonly interrupt: boolean;
  /** The logical processor that the woken task was on last. */
  readonly cpu: number;
  /** It is new. */
  readonly fork: boolean;
}

export interface Call extends Span {
  readonly number: number;
  readonly name: string;
  /** Undefined where it did not return. */
  readonly result: number | undefined;
}

export interface Fault extends Span {
  readonly address: number;
  readonly access: 'fetch' | 'load' | 'store' | 'other';
}

export interface Interrupt extends Span {
  readonly hart: number;
  readonly kind: 'timer' | 'device' | 'other harts' | 'softirq' | 'other';
  /** Numbers at the interrupt controller. */
  readonly sources: readonly number[];
}

const ACCESS: Readonly<Record<number, Fault['access']>> = { 12: 'fetch', 13: 'load', 15: 'store' };
const INTERRUPT: Readonly<Record<number, Interrupt['kind']>> = { 1: 'other harts', 5: 'timer', 9: 'device' };

/** What a context of an event is called. */
export function contextName(context: number): string {
  if (context === CONTEXT.none) return '';
  if (context === CONTEXT.fault) return 'page fault';
  if (context >= CONTEXT.call) return syscallName(context - CONTEXT.call);
  if (context === CONTEXT.softirq) return 'softirq';
  return `interrupt: ${INTERRUPT[context - CONTEXT.irq] ?? 'other'}`;
}

export function commOf(task: RecordedTask, time = Number.POSITIVE_INFINITY): string {
  return task.comms.findLast((name) => name.time <= time)?.comm ?? task.comms[0]!.comm;
}

export abstract class ActivityQueries {
  abstract readonly events: ActivityEvents;
  /** Every task that was seen, by number, in the order in which they were. */
  abstract readonly tasks: readonly RecordedTask[];

  /** Which tasks ran where and when, in the order in which they left. Idle is the task of pid 0. */
  *slices(filter: ActivityFilter = {}): Generator<RunSlice> {
    const open = new Map<number, { task: number; from: number; fromStep: number }>();
    for (const { kind, hart, task, other, time, step, value } of this.events) {
      if (kind !== 'start' && kind !== 'switch' && kind !== 'end') continue;
      const before = open.get(hart);
      if (before && kind !== 'start') {
        const { why, state, context } = unpackLeave(value);
        const over = kind === 'end';
        const slice: RunSlice = {
          task: this.tasks[before.task]!,
          hart,
          from: before.from,
          to: time,
          fromStep: before.fromStep,
          toStep: step,
          why: over ? 'recording' : why,
          state: over ? 0 : state,
          in: over ? '' : contextName(context),
        };
        if (matches(filter, slice, hart)) yield slice;
      }
      if (kind === 'end') open.delete(hart);
      else open.set(hart, { task: kind === 'start' ? task : other, from: time, fromStep: step });
    }
  }

  /** When tasks ran on no hart, and why, in the order of their ends; from the recording's beginning, where they rested then. */
  *waits(filter: Omit<ActivityFilter, 'hart'> = {}): Generator<WaitSlice> {
    const open = new Map<
      number,
      { kind: WaitSlice['kind']; from: number; fromStep: number; in: string; waker?: number }
    >();
    const close = (task: number, { time, step }: ActivityEvent, over = true): WaitSlice | undefined => {
      const wait = open.get(task);
      open.delete(task);
      if (!wait) return undefined;
      const { kind, from, fromStep } = wait;
      const waker = wait.waker === undefined ? undefined : this.tasks[wait.waker];
      const span = { task: this.tasks[task]!, from, to: time, fromStep, toStep: step };
      const slice = { ...span, kind, in: wait.in, waker, over };
      return matches(filter, slice) ? slice : undefined;
    };
    const rest = (task: number, { time, step, value }: ActivityEvent): void => {
      const { why, context } = unpackLeave(value);
      if (why === 'exited' || this.tasks[task]!.pid === 0) return;
      const kind = why === 'blocked' ? 'blocked' : 'runnable';
      open.set(task, { kind, from: time, fromStep: step, in: contextName(context) });
    };
    for (const event of this.events) {
      const { kind, task, other, time, step } = event;
      if (kind === 'resting') rest(task, event);
      if (kind === 'switch') {
        const over = close(other, event);
        if (over) yield over;
        rest(task, event);
      } else if (kind === 'wakeup') {
        const wait = open.get(task);
        // One that runs, or is about to, is woken for nothing; one that was never seen before has slept since then.
        if (wait ? wait.kind === 'runnable' : !this.isNew(task, time)) continue;
        if (wait) wait.waker = other;
        const over = close(task, event);
        if (over) yield over;
        open.set(task, { kind: 'runnable', from: time, fromStep: step, in: '', waker: other });
      } else if (kind === 'end') {
        for (const left of [...open.keys()]) {
          const slice = close(left, event, false);
          if (slice) yield slice;
        }
      }
    }
  }

  private isNew(task: number, time: number): boolean {
    return this.tasks[task]!.comms[0]!.time === time;
  }

  *wakeups(filter: ActivityFilter = {}): Generator<Wakeup> {
    let fork = -1;
    for (const { kind, hart, task, other, time, step, value } of this.events) {
      if (kind === 'fork') fork = task;
      if (kind !== 'wakeup') continue;
      const context = value % 0x10000;
      const wakeup = {
        time,
        step,
        hart,
        task: this.tasks[task]!,
        waker: this.tasks[other]!,
        by: contextName(context),
        interrupt: context >= CONTEXT.irq && context < CONTEXT.call,
        cpu: Math.floor(value / 0x10000),
        fork: fork === task,
      };
      fork = -1;
      if (matches(filter, { task: wakeup.task, from: time, to: time }, hart)) yield wakeup;
    }
  }

  /** System calls, in the order of their ends; those that did not return come last. */
  *calls(filter: Omit<ActivityFilter, 'hart'> = {}): Generator<Call> {
    const open = new Map<number, { number: number; from: number; fromStep: number }>();
    let [time, step] = [0, 0];
    const close = (task: number, result: number | undefined): Call | undefined => {
      const call = open.get(task);
      open.delete(task);
      if (!call) return undefined;
      const { number, from, fromStep } = call;
      const name = syscallName(number);
      const span = { task: this.tasks[task]!, from, to: time, fromStep, toStep: step, number, name, result };
      return matches(filter, span) ? span : undefined;
    };
    for (const event of this.events) {
      ({ time, step } = event);
      const over = event.kind === 'return' ? close(event.task, event.value) : undefined;
      if (over) yield over;
      if (event.kind === 'call') open.set(event.task, { number: event.other, from: time, fromStep: step });
    }
    for (const task of [...open.keys()]) {
      const over = close(task, undefined);
      if (over) yield over;
    }
  }

  /** Page faults, in the order of their ends. */
  *faults(filter: Omit<ActivityFilter, 'hart'> = {}): Generator<Fault> {
    const open = new Map<number, { cause: number; address: number; from: number; fromStep: number }[]>();
    for (const { kind, task, other, time, step, value } of this.events) {
      const faults = open.get(task) ?? [];
      if (kind === 'fault') open.set(task, [...faults, { cause: other, address: value, from: time, fromStep: step }]);
      if (kind !== 'mended') continue;
      const fault = faults.pop();
      if (!fault) continue;
      const { cause, address, from, fromStep } = fault;
      const access = ACCESS[cause] ?? 'other';
      const span = { task: this.tasks[task]!, from, to: time, fromStep, toStep: step, address, access };
      if (matches(filter, span)) yield span;
    }
  }

  /** Interrupts and what is done after them, in the order of their ends; `task` is what they found running. */
  *interrupts(filter: ActivityFilter = {}): Generator<Interrupt> {
    const open = new Map<
      number,
      { kind: Interrupt['kind']; sources: number[]; from: number; fromStep: number; task: number }[]
    >();
    for (const { kind, hart, task, other, time, step } of this.events) {
      const frames = open.get(hart) ?? [];
      open.set(hart, frames);
      if (kind === 'source') frames.at(-1)?.sources.push(other);
      if (kind === 'irq' || kind === 'softirq') {
        const what = kind === 'softirq' ? 'softirq' : (INTERRUPT[other] ?? 'other');
        frames.push({ kind: what, sources: [], from: time, fromStep: step, task });
      }
      if (kind !== 'irq-end' && kind !== 'softirq-end') continue;
      const frame = frames.pop();
      if (!frame) continue;
      const { sources, from, fromStep } = frame;
      const span = {
        task: this.tasks[frame.task]!,
        from,
        to: time,
        fromStep,
        toStep: step,
        hart,
        kind: frame.kind,
        sources,
      };
      if (matches(filter, span, hart)) yield span;
    }
  }
}

function matches(
  filter: ActivityFilter,
  span: { task: RecordedTask; from: number; to: number },
  hart?: number,
): boolean {
  const { task, from, to } = span;
  if (filter.pid !== undefined && task.pid !== filter.pid) return false;
  if (filter.tgid !== undefined && task.tgid !== filter.tgid) return false;
  if (filter.comm !== undefined && !task.comms.some(({ comm }) => comm === asComm(filter.comm!))) return false;
  if (filter.hart !== undefined && hart !== filter.hart) return false;
  return to >= (filter.from ?? Number.NEGATIVE_INFINITY) && from <= (filter.to ?? Number.POSITIVE_INFINITY);
}

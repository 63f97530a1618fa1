/** `braid threads`: which tasks of the guest's Linux ran where and when in a recording, what they waited for and who woke them. */

import { Activity } from '@braid/core/linux/activity.ts';
import { type ActivitySummary, summarize, summaryText, type TaskSummary } from '@braid/core/linux/activity-summary.ts';
import { traceJson } from '@braid/core/linux/chrome-trace.ts';
import { analyse, Lines, type SpanFlags } from './analysis.ts';
import { ResultFile } from './result-file.ts';
import { safeJson } from './say.ts';

export interface ThreadsFlags extends SpanFlags {
  readonly trace?: string;
  readonly top?: number;
  readonly events?: number;
  readonly json?: boolean;
}

export async function threads(path: string, flags: ThreadsFlags): Promise<number> {
  const { trace, top, events, json } = flags;
  using file = trace === undefined ? undefined : new ResultFile(trace);
  const out = new Lines();
  return await analyse(
    path,
    flags,
    out,
    ({ kernel, at }) => new Activity({ kernel, at, ...(events === undefined ? {} : { limit: events }) }),
    (activity) => {
      file?.write(traceJson(activity));
      if (json) out.add(safeJson(summaryJson(summarize(activity))));
      else out.add(summaryText(activity, top).trimEnd());
    },
  );
}

/** Times are seconds of guest time. */
function summaryJson({ from, to, harts, tasks, full }: ActivitySummary): object {
  return {
    from: seconds(from),
    to: seconds(to),
    ...(full === undefined ? {} : { full: seconds(full) }),
    harts: harts.map(({ busy, idle, interrupts }) => ({ busy: seconds(busy), idle: seconds(idle), interrupts })),
    tasks: tasks.map(taskJson),
  };
}

function taskJson({ comm: name, ran, longestDelay, blockedIn, ...counts }: TaskSummary): object {
  const places = Object.entries(blockedIn).map(([where, { times, time, longest }]) => ({
    in: where,
    times,
    seconds: seconds(time),
    longest: seconds(longest),
  }));
  return { name, ...counts, ran: seconds(ran), longestDelay: seconds(longestDelay), blockedIn: places };
}

function seconds(ns: number): number {
  return ns / 1e9;
}

/** `braid trace`: what programs of a recording did, found out afterwards. */

import type { KernelImage } from '@braid/core/linux/tasks.ts';
import type { TaskReader } from '@braid/core/trace/analysis.ts';
import { syscallLine, syscallRecord } from '@braid/core/trace/syscall-text.ts';
import { type SyscallEvent, SyscallTrace } from '@braid/core/trace/syscalls.ts';
import { analyse, Lines, type SpanFlags } from './analysis.ts';

export interface SyscallsFlags extends SpanFlags {
  readonly process: readonly string[];
  readonly pid: readonly number[];
  readonly follow?: boolean;
  readonly calls?: readonly string[];
  readonly json?: boolean;
}

export function traceSyscalls(path: string, flags: SyscallsFlags): Promise<number> {
  const { process: names, pid: pids, follow = false, calls, json } = flags;
  const out = new Lines();
  const some = names.length > 0 || pids.length > 0;
  return analyse(path, flags, out, ({ kernel, edges, timeline, machine }) => {
    const tell = (event: SyscallEvent) =>
      out.add(
        json ? JSON.stringify(moved(syscallRecord(event), timeline.atNow - machine.stepsNow)) : syscallLine(event),
      );
    return new SyscallTrace({
      tasks: tasksOf(kernel),
      symbols: kernel.symbols,
      edges,
      tell,
      ...(some ? { filter: { names, pids, follow } } : {}),
      ...(calls ? { calls } : {}),
    });
  });
}

/** Steps of the recording, instead of the machine's. */
function moved(record: Record<string, unknown>, by: bigint): Record<string, unknown> {
  return { ...record, at: `${BigInt(record.at as string) + by}` };
}

export function tasksOf(kernel: KernelImage): TaskReader {
  return (task) => kernel.task(task);
}

/** Where a kernel keeps what is asked about its tasks: byte offsets, from its own types. */

import { KernelError } from './errors.ts';
import type { KernelTypes } from './types.ts';

export interface TaskLayout {
  readonly cpu: number;
  readonly state: number;
  readonly stack: number;
  readonly tasks: number;
  readonly mm: number;
  readonly exitState: number;
  readonly pid: number;
  readonly tgid: number;
  readonly comm: number;
  readonly signal: number;
  /** Links the threads of a process, from `threadHead` in its `signal`. */
  readonly threadNode: number;
  readonly threadHead: number;
  /** Saved registers of a task that does not run: ra, sp, s0 to s11. */
  readonly thread: number;
}

/** The layout that the kernel's types say. Throws `KernelError` where they lack something. */
export function layoutFromTypes(types: KernelTypes): TaskLayout {
  const of = (path: string) => types.require('task_struct', path);
  const layout = {
    cpu: of('thread_info.cpu'),
    state: of('__state'),
    stack: of('stack'),
    tasks: of('tasks'),
    mm: of('mm'),
    exitState: of('exit_state'),
    pid: of('pid'),
    tgid: of('tgid'),
    comm: of('comm'),
    signal: of('signal'),
    threadNode: of('thread_node'),
    threadHead: types.require('signal_struct', 'thread_head'),
    thread: of('thread.ra'),
  };
  for (const [name, offset] of Object.entries(layout))
    if (offset > MAX_TASK) throw new KernelError('types', `${name} is ${offset} bytes into a task: that is no layout`);
  return layout;
}

/** No task_struct is larger; its vector state and counters are elsewhere. */
export const MAX_TASK = 16384;

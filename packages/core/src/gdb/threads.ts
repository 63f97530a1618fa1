/**
 * What gdb sees as threads: the harts, from 1 on, and behind them the tasks of the guest's kernel that do not run, where the target
 * knows tasks. A task that runs is the thread of its hart.
 */

import { escapeGuestText } from '../text/escape.ts';
import type { DebugTarget, DebugTask } from './target.ts';

/** Thread number of task 0: behind all harts, and easy to read the task's number from. */
export const FIRST_TASK = 10_000_000;

export type Thread =
  | { readonly id: number; readonly hart: number; readonly task?: DebugTask }
  | { readonly id: number; readonly hart?: undefined; readonly task: DebugTask };

/** Tasks in a list for gdb, at most. */
const MAX_TASKS = 10_000;

export class Threads {
  private readonly target: DebugTarget;
  private readonly withTasks: boolean;
  private known: Map<number, Thread> | undefined;

  constructor(target: DebugTarget, withTasks: boolean) {
    this.target = target;
    this.withTasks = withTasks;
  }

  /** The target has moved. */
  forget(): void {
    this.known = undefined;
  }

  async all(): Promise<readonly Thread[]> {
    return [...(await this.map()).values()];
  }

  async find(id: number): Promise<Thread | undefined> {
    if (id >= 1 && id <= this.target.harts && !this.withTasks) return { id, hart: id - 1 };
    return (await this.map()).get(id);
  }

  private async map(): Promise<Map<number, Thread>> {
    this.known ??= await this.look();
    return this.known;
  }

  private async look(): Promise<Map<number, Thread>> {
    const { target } = this;
    const tasks = this.withTasks && target.tasks ? (await target.tasks()).slice(0, MAX_TASKS) : [];
    const found = new Map<number, Thread>();
    for (let hart = 0; hart < target.harts; hart++) {
      const task = tasks.find((one) => one.hart === hart);
      found.set(hart + 1, { id: hart + 1, hart, ...(task ? { task } : {}) });
    }
    for (const task of tasks) {
      const id = FIRST_TASK + task.id;
      if (task.hart === undefined) found.set(id, { id, task });
    }
    return found;
  }
}

/** How people read it. */
export function threadName({ hart, task }: Thread): string {
  const who = task ? `${task.name} (${task.id})` : '';
  if (hart === undefined) return who;
  return who === '' ? `hart ${hart}` : `hart ${hart}: ${who}`;
}

/** The list as gdb reads it (`qXfer:threads:read`). */
export function threadsXml(threads: readonly Thread[]): string {
  const lines = threads.map((thread) => {
    const core = thread.hart === undefined ? '' : ` core="${thread.hart}"`;
    return `<thread id="${thread.id.toString(16)}"${core} name="${quote(threadName(thread))}"/>\n`;
  });
  return `<?xml version="1.0"?>\n<threads>\n${lines.join('')}</threads>\n`;
}

/** Text of the guest's as an XML attribute. */
function quote(text: string): string {
  return escapeGuestText(text).replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** The tasks of a guest's Linux as a debugger sees threads. */

import { KernelError } from '../linux/errors.ts';
import { KernelImage, type Task } from '../linux/tasks.ts';
import type { Machine } from '../machine/machine.ts';
import type { DebugTask, RegisterValues } from './target.ts';

export class LinuxTasks {
  private readonly machine: Machine;
  private kernel: KernelImage | undefined;

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** All of them; none while no kernel is found. The first call reads the kernel's whole image. */
  list(): DebugTask[] {
    try {
      this.kernel ??= KernelImage.find(this.machine);
    } catch (error) {
      if (error instanceof KernelError) return [];
      throw error;
    }
    const { kernel } = this;
    const harts = new Map<bigint, number>();
    for (let hart = 0; hart < this.machine.harts; hart++) {
      const task = kernel.currentTask(hart);
      if (task) harts.set(task.address, hart);
    }
    return kernel.tasks().map((task) => {
      const hart = harts.get(task.address);
      const which = { id: task.pid, name: task.comm };
      return hart === undefined ? { ...which, registers: savedOf(kernel, task) } : { ...which, hart };
    });
  }
}

/** What the kernel's switch of tasks has left: where it goes on, and what a function keeps for its caller. */
function savedOf(kernel: KernelImage, { address }: Task): RegisterValues {
  const saved = kernel.saved(address);
  if (!saved) return {};
  const { ra, sp, s } = saved;
  return { ra, sp, tp: address, pc: ra, priv: 1n, ...Object.fromEntries(s.map((value, n) => [`s${n}`, value])) };
}

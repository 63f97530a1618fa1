/** The worker's side of a debugger: while one is attached, the machine runs for its commands only. */

import { GdbError } from '@braid/core/gdb/errors.ts';
import { readMemory, readRegisters, writeMemory, writeRegister } from '@braid/core/gdb/inspect.ts';
import { LinuxTasks } from '@braid/core/gdb/linux-tasks.ts';
import { MachineDebug } from '@braid/core/gdb/machine-debug.ts';
import type { DebugStop, MemoryOptions, Resume } from '@braid/core/gdb/target.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import type { Stop } from '@braid/core/machine/options.ts';

/** What a debugger asks of a machine. */
export type DebugCall =
  /** Gives the stop at which the machine stands. */
  | { readonly op: 'attach' }
  | { readonly op: 'detach' }
  /** Gives the values. */
  | { readonly op: 'registers'; readonly hart: number }
  | { readonly op: 'setRegister'; readonly hart: number; readonly name: string; readonly value: bigint }
  /** Gives the bytes. */
  | { readonly op: 'read'; readonly address: bigint; readonly length: number; readonly options: MemoryOptions }
  | { readonly op: 'write'; readonly address: bigint; readonly bytes: Uint8Array; readonly options: MemoryOptions }
  /** Gives the tasks of the guest's Linux. */
  | { readonly op: 'tasks' }
  /** Gives the stop at which it is over. */
  | { readonly op: 'resume'; readonly how: Resume }
  /** Ends the command under way. */
  | { readonly op: 'interrupt' };

/** The rest of the worker, as a debugger's side sees it. */
export interface DebugHost {
  /** Whether a call still waits. */
  waiting(id: number): boolean;
  /** Answers a call. */
  answer(id: number, stop: DebugStop): void;
}

export class DebugSession {
  private readonly host: DebugHost;
  private debug: MachineDebug | undefined;
  /** The call of the last command. */
  private command = 0;
  private changed = false;

  constructor(host: DebugHost) {
    this.host = host;
  }

  get attached(): boolean {
    return this.debug !== undefined;
  }

  /** Whether the machine is to stand still on account of the debugger. */
  get standing(): boolean {
    return this.attached && !this.running;
  }

  private get running(): boolean {
    return this.attached && this.host.waiting(this.command);
  }

  private get attachment(): MachineDebug {
    if (!this.debug) throw new GdbError('no debugger is attached to the machine');
    return this.debug;
  }

  /** Where the machine stands. */
  get here(): DebugStop {
    return this.attachment.here;
  }

  /** Carries out what needs no run. Throws `GdbError`. */
  do(machine: Machine, call: Exclude<DebugCall, { op: 'resume' }>): unknown {
    if (call.op === 'attach') {
      if (this.debug) throw new GdbError('another debugger is attached to the machine');
      this.debug = new MachineDebug(machine);
      return this.here;
    }
    if (isLook(call)) return look(machine, call);
    switch (call.op) {
      case 'detach':
        this.interrupt();
        this.debug?.end();
        this.debug = undefined;
        return undefined;
      case 'setRegister':
        this.changed = true;
        return writeRegister(machine, call.hart, call.name, call.value);
      case 'write':
        this.changed = true;
        return writeMemory(machine, call.address, call.bytes, call.options);
      case 'interrupt':
        return this.interrupt();
    }
  }

  /** Whether the machine has been changed since this was asked last: no event says so. */
  takeChanged(): boolean {
    const { changed } = this;
    this.changed = false;
    return changed;
  }

  /** A command that the call waits for begins. Throws `GdbError`. */
  begin(id: number, how: Resume): void {
    if (this.running) throw new GdbError('the machine runs already');
    this.attachment.begin(how);
    this.command = id;
  }

  /** Ends the command under way, if there is one: because somebody wants it, or the machine is somewhere else all at once. */
  interrupt(): void {
    if (this.running) this.host.answer(this.command, this.attachment.interrupted());
  }

  /** How many steps the next run may make. */
  limit(most: number): number {
    return this.running ? this.attachment.limit(most) : most;
  }

  /** A run of the machine has come back. */
  ran(stop: Stop): void {
    if (!this.running) return;
    const hit = this.attachment.ran(stop);
    if (hit) this.host.answer(this.command, hit);
  }
}

/** What changes nothing, and asks for no debugger: on a replay's machine as well. */
export type Look = Extract<DebugCall, { op: 'registers' | 'read' | 'tasks' }>;

export function isLook(call: DebugCall): call is Look {
  return call.op === 'registers' || call.op === 'read' || call.op === 'tasks';
}

/** What is known of machines' kernels. */
const kernels = new WeakMap<Machine, LinuxTasks>();

export function look(machine: Machine, call: Look): unknown {
  switch (call.op) {
    case 'registers':
      return readRegisters(machine, call.hart);
    case 'read':
      return readMemory(machine, call.address, call.length, call.options);
    case 'tasks': {
      const kernel = kernels.get(machine) ?? new LinuxTasks(machine);
      kernels.set(machine, kernel);
      return kernel.list();
    }
  }
}

/** Hooks of a replay in its thread: where one is come to the replay stands until the main thread, whose function is called, lets it go on. */

import { ProgramCode } from '@braid/core/branch/program-code.ts';
import { readRegisters } from '@braid/core/gdb/inspect.ts';
import type { RegisterValues } from '@braid/core/gdb/target.ts';
import { KernelImage } from '@braid/core/linux/tasks.ts';
import { callFunction } from '@braid/core/timeline/guest-call.ts';
import {
  type HookedPlace,
  type HookPlace,
  Hooks,
  programSymbols,
  type SymbolSource,
} from '@braid/core/timeline/hooks.ts';
import type { Timeline } from '@braid/core/timeline/timeline.ts';
import { BraidError } from '../errors.ts';

/** Where somebody wants to be called. */
export interface HookRequest {
  readonly place:
    | { readonly address: bigint }
    | { readonly symbol: string }
    | { readonly syscall: string | number }
    | { readonly mark: string };
  /** ELF file of the program that has the symbol; without it the kernel has it. */
  readonly program?: Uint8Array;
  /** How many bytes above its own addresses the program is loaded. */
  readonly bias?: bigint;
  readonly satp?: bigint;
  /** Name of the process. */
  readonly process?: string;
}

/** The replay stands at a hook. */
export interface HookHit {
  readonly hook: number;
  readonly hart: number;
  readonly at: bigint;
  readonly time: bigint;
  readonly registers: RegisterValues;
  readonly syscall: HookedPlace['syscall'];
}

/** A call of a guest function, in a diversion. */
export interface GuestCall {
  readonly hart: number;
  readonly address: bigint | { readonly symbol: string };
  readonly program?: Uint8Array;
  readonly bias?: bigint;
  readonly args: readonly (bigint | string | Uint8Array)[];
  readonly steps?: number;
}

export interface GuestCallResult {
  readonly result: bigint;
  readonly steps: bigint;
  readonly output: { readonly stdout: string; readonly stderr: string; readonly console: string };
}

export class ReplayHooks {
  private readonly timeline: Timeline;
  private readonly hooks: Hooks;
  private readonly placed = new Map<number, () => void>();
  private counter = 0;
  private image: KernelImage | undefined;
  /** What has been come to and not been told yet. */
  readonly hits: HookHit[] = [];

  constructor(timeline: Timeline) {
    this.timeline = timeline;
    this.hooks = new Hooks(timeline.machine, { processOf: (hart) => this.kernel.currentTask(hart)?.comm });
    timeline.listeners.add((stop) => this.hooks.serve(stop));
  }

  /** The kernel that runs where the replay stands, once it is there. Throws `KernelError`. */
  private get kernel(): KernelImage {
    this.image ??= KernelImage.find(this.timeline.machine);
    return this.image;
  }

  add({ place, program, bias, satp, process }: HookRequest): number {
    const id = ++this.counter;
    const filter = { ...(satp === undefined ? {} : { satp }), ...(process === undefined ? {} : { process }) };
    // Whoever names a process wants to hear now if nobody can tell its name.
    if (process !== undefined) void this.kernel;
    const where: HookPlace =
      'address' in place ? place.address : 'symbol' in place ? { ...place, in: this.symbolsOf(program, bias) } : place;
    const off = this.hooks.on(where, (at) => this.hits.push(this.hitOf(id, at)), filter);
    this.placed.set(id, off);
    return id;
  }

  delete(id: number): void {
    this.placed.get(id)?.();
    this.placed.delete(id);
  }

  call({ hart, address, program, bias, args, steps }: GuestCall): GuestCallResult {
    const { machine } = this.timeline;
    const to = typeof address === 'bigint' ? address : this.symbolsOf(program, bias).address(address.symbol);
    if (to === undefined) throw new BraidError('ERR_BRAID_OPTION', 'there is no function of that name');
    const called = callFunction(machine, hart, to, args, steps === undefined ? {} : { steps });
    const text = (stream: 'stdout' | 'stderr' | 'console') => called.output.text(stream);
    const output = { stdout: text('stdout'), stderr: text('stderr'), console: text('console') };
    return { result: called.result, steps: called.steps, output };
  }

  private symbolsOf(program: Uint8Array | undefined, bias = 0n): SymbolSource {
    return program ? programSymbols(new ProgramCode(program, bias)) : this.kernel.symbols;
  }

  private hitOf(hook: number, { machine, hart, syscall }: HookedPlace): HookHit {
    const { at } = this.timeline;
    return { hook, hart, at, time: machine.now, registers: readRegisters(machine, hart), syscall };
  }
}

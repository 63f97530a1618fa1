/**
 * Hooks: functions of the host at places of a guest's run, for whoever wants to know what a program did there. Made for replays, where
 * one can come back and ask again; they work on any machine that somebody runs.
 *
 *     const hooks = new Hooks(machine, { symbols: [programSymbols(code)] });
 *     hooks.on({ symbol: 'insert' }, (at) => {
 *       console.log(at.register('a0'), at.call({ symbol: 'list_length' }, [at.register('a0')]).result);
 *     });
 *     hooks.run();
 *
 * A function is called while the machine stands before the place's instruction. It may read the machine, and call guest functions in
 * diversions; it changes nothing, and whether there are hooks changes nothing that the guest can see. What it throws comes out of `run`.
 *
 * Costs: a place, what a breakpoint does each time, also in processes that are not meant; a hook on a system call, a call of the host at
 * each system call of every process.
 */

import type { ProgramCode } from '../branch/program-code.ts';
import { PRIVILEGE, X_NAMES } from '../hart/state.ts';
import { syscallName, syscallNumber } from '../linux/syscall-names.ts';
import { readGuest } from '../machine/guest-memory.ts';
import type { Machine } from '../machine/machine.ts';
import type { Stop } from '../machine/options.ts';
import { decodeCString } from '../text/guest-text.ts';
import { type CallArgument, type CallOptions, type CallResult, callFunction } from './guest-call.ts';

/** Where names are looked up: a program's symbols, or a kernel's. */
export interface SymbolSource {
  address(name: string): bigint | undefined;
  /** 16 bits of the code at an address, of a user program: only processes that have it there are meant. */
  half?(address: bigint): number | undefined;
}

export type HookPlace =
  /** Before the instruction at a virtual address. */
  | bigint
  /** The same, by name; in a source of its own, or the first of the hooks' that knows it. */
  | { readonly symbol: string; readonly in?: SymbolSource }
  /** Before a system call of a program, by its name in Linux or its number. */
  | { readonly syscall: string | number }
  /** Behind `braid_mark` with this name, where the machine's quota let it act. */
  | { readonly mark: string };

/** What else has to be so. */
export interface HookFilter {
  /** The value of `satp`. */
  readonly satp?: bigint;
  /** The name of the process, as `HooksOptions.processOf` gives it. */
  readonly process?: string;
}

export interface HooksOptions {
  readonly symbols?: readonly SymbolSource[];
  /** The name of the process that a hart runs, where somebody can say it. */
  readonly processOf?: (hart: number) => string | undefined;
}

export class HookError extends Error {
  readonly code = 'ERR_BRAID_HOOK';
  constructor(message: string) {
    super(message);
    this.name = 'HookError';
  }
}

interface Hook {
  readonly place: HookPlace;
  readonly filter: HookFilter;
  readonly call: (at: HookedPlace) => void;
  /** Takes it away from the machine. */
  off: () => void;
}

const [A0, A7] = [10, 17];
const SYSCALL_ARGUMENTS = 6;
const MAX_TEXT = 4096;
/** Bytes of code by which a process is told to run a program. */
const COMPARED = 16;

/** The symbols of a program's code. */
export function programSymbols(code: ProgramCode): SymbolSource {
  return { address: (name) => code.symbol(name).address, half: (address) => code.half(address) };
}

/** A place that the machine stands at: good while the hook's function runs. */
export class HookedPlace {
  readonly machine: Machine;
  readonly hart: number;
  readonly place: HookPlace;
  private readonly hooks: Hooks;

  constructor(hooks: Hooks, machine: Machine, hart: number, place: HookPlace) {
    this.hooks = hooks;
    this.machine = machine;
    this.hart = hart;
    this.place = place;
  }

  get pc(): bigint {
    return this.machine.hartSet.get(this.hart, 'pc');
  }

  /** The system call that is about to be made. */
  get syscall(): { readonly number: number; readonly name: string; readonly args: readonly bigint[] } | undefined {
    if (typeof this.place !== 'object' || !('syscall' in this.place)) return undefined;
    const x = (n: number) => this.machine.hartSet.getX(this.hart, n);
    const number = Number(BigInt.asIntN(32, x(A7)));
    return { number, name: syscallName(number), args: Array.from({ length: SYSCALL_ARGUMENTS }, (_, n) => x(A0 + n)) };
  }

  /** A register by its name in the ABI. */
  register(name: string): bigint {
    const n = X_NAMES.indexOf(name);
    if (n < 0) throw new HookError(`there is no register ${name}: give one of ${X_NAMES.join(', ')}`);
    return this.machine.hartSet.getX(this.hart, n);
  }

  /** Memory at a virtual address: as many of the bytes as are there. */
  read(address: bigint, length: number): Uint8Array {
    return readGuest(this.machine, this.hart, address, length);
  }

  /** A text that ends with 0, at most 4096 bytes of it: guest bytes, so to be escaped before a person sees them. */
  text(address: bigint): string {
    return decodeCString(this.read(address, MAX_TEXT));
  }

  /** Calls a guest function in a diversion: see `callFunction`. */
  call<T = undefined>(
    address: bigint | { readonly symbol: string; readonly in?: SymbolSource },
    args: readonly CallArgument[] = [],
    options: CallOptions<T> = {},
  ): CallResult<T> {
    const to = typeof address === 'bigint' ? address : this.hooks.lookUp(address).address;
    return callFunction(this.machine, this.hart, to, args, options);
  }
}

export class Hooks {
  private readonly machine: Machine;
  private readonly options: HooksOptions;
  /** By id of a breakpoint, and of an interception. */
  private readonly breakpoints = new Map<number, Hook>();
  private readonly interceptions = new Map<number, Hook>();
  private readonly marks = new Set<Hook>();

  constructor(machine: Machine, options: HooksOptions = {}) {
    this.machine = machine;
    this.options = options;
  }

  /** Has a function called at a place, until what is given is called. Throws `HookError`, and what a source of symbols throws. */
  on(place: HookPlace, call: (at: HookedPlace) => void, filter: HookFilter = {}): () => void {
    if (filter.process !== undefined && !this.options.processOf)
      throw new HookError('nobody can tell processes by their names: give processOf, or filter by satp');
    const hook: Hook = { place, filter, call, off: () => {} };
    if (typeof place === 'object' && 'mark' in place) {
      this.marks.add(hook);
      hook.off = () => this.marks.delete(hook);
    } else if (typeof place === 'object' && 'syscall' in place) this.onSystemCall(hook, place.syscall);
    else this.onAddress(hook, place);
    return () => hook.off();
  }

  /** Takes all of them away. */
  clear(): void {
    for (const hook of [...this.breakpoints.values(), ...this.interceptions.values(), ...this.marks]) hook.off();
  }

  /** Runs the machine as `Machine.run` does, with the hooks' functions at their places. */
  run(steps = Number.MAX_SAFE_INTEGER): Stop {
    const { machine } = this;
    const end = machine.totalSteps + BigInt(steps);
    for (;;) {
      const stop = machine.run(Number(end - machine.totalSteps));
      if (!this.serve(stop)) return stop;
    }
  }

  /**
   * For whoever runs the machine: where a run has ended, calls the functions that this is a place of. True when nobody else has asked for
   * the stop, so that the machine is to be run on.
   */
  serve(stop: Stop): boolean {
    switch (stop.reason) {
      case 'breakpoint':
        return this.serveIds(this.breakpoints, stop.hart, stop.ids);
      case 'system-call':
        return this.serveIds(this.interceptions, stop.hart, stop.ids);
      case 'hint': {
        const { hint } = stop;
        if (hint.kind !== 'mark') return false;
        for (const hook of this.marks) {
          const { mark } = hook.place as { mark: string };
          if (mark === hint.name && this.isMeant(hook, hint.hart)) this.call(hook, hint.hart);
        }
        return false;
      }
      default:
        return false;
    }
  }

  /** The address of a symbol, and who knows it. Throws `HookError`. */
  lookUp({ symbol, in: source }: { readonly symbol: string; readonly in?: SymbolSource }): {
    readonly address: bigint;
    readonly source: SymbolSource;
  } {
    const { symbols = [] } = this.options;
    let why: unknown;
    for (const known of source ? [source] : symbols) {
      try {
        const address = known.address(symbol);
        if (address !== undefined) return { address, source: known };
      } catch (error) {
        why = error;
      }
    }
    if (why) throw why;
    throw new HookError(`no symbol ${symbol} is known: give the program or kernel that has it`);
  }

  private onAddress(hook: Hook, place: bigint | { readonly symbol: string; readonly in?: SymbolSource }): void {
    const { machine } = this;
    const found = typeof place === 'bigint' ? { address: place, source: undefined } : this.lookUp(place);
    const { address, source } = found;
    const code = source && codeAt(source, address);
    const id = machine.breakpoints.add({
      address,
      condition: (hart) => this.isMeant(hook, hart) && (!code || this.hasCode(hart, address, code)),
    });
    this.breakpoints.set(id, hook);
    hook.off = () => {
      this.breakpoints.delete(id);
      machine.breakpoints.delete(id);
    };
  }

  private onSystemCall(hook: Hook, syscall: string | number): void {
    const { machine } = this;
    const number = typeof syscall === 'number' ? syscall : syscallNumber(syscall);
    if (number === undefined) throw new HookError(`Linux has no system call ${syscall} on this architecture`);
    const wanted = BigInt(number);
    const id = machine.interceptions.add({
      kind: 'system-call',
      condition: (hart) => machine.hartSet.getX(hart, A7) === wanted && this.isMeant(hook, hart),
    });
    this.interceptions.set(id, hook);
    hook.off = () => {
      this.interceptions.delete(id);
      machine.interceptions.delete(id);
    };
  }

  private isMeant({ filter: { satp, process } }: Hook, hart: number): boolean {
    if (satp !== undefined && this.machine.hartSet.get(hart, 'satp') !== satp) return false;
    return process === undefined || this.options.processOf!(hart) === process;
  }

  /** Whether a program's code is what a hart executes at an address. */
  private hasCode(hart: number, address: bigint, code: Uint8Array): boolean {
    const { machine } = this;
    if (machine.hartSet.get(hart, 'privilege') === BigInt(PRIVILEGE.supervisor)) return false;
    const there = readGuest(machine, hart, address, code.length);
    // What follows on a page that has not been needed yet cannot be compared.
    return there.every((byte, n) => byte === code[n]);
  }

  private serveIds(hooks: ReadonlyMap<number, Hook>, hart: number, ids: readonly number[]): boolean {
    const mine = ids.map((id) => hooks.get(id));
    // One that another one's function has taken away is passed over.
    for (const [n, hook] of mine.entries()) if (hook && hooks.get(ids[n]!) === hook) this.call(hook, hart);
    return mine.every((hook) => hook !== undefined);
  }

  private call(hook: Hook, hart: number): void {
    hook.call(new HookedPlace(this, this.machine, hart, hook.place));
  }
}

/** The first bytes of code at an address of a user program; undefined where the source does not say. */
function codeAt(source: SymbolSource, address: bigint): Uint8Array | undefined {
  if (!source.half) return undefined;
  const bytes: number[] = [];
  for (let at = 0; at < COMPARED; at += 2) {
    const half = source.half(address + BigInt(at));
    if (half === undefined) break;
    bytes.push(half & 255, half >> 8);
  }
  return Uint8Array.from(bytes);
}

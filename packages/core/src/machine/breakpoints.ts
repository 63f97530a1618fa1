/**
 * A machine's breakpoints: virtual addresses before whose instructions a run ends. They are the host's: no part of the state,
 * neither saved nor hashed, and whether there are any changes nothing that the guest can see.
 *
 * A breakpoint is hit when its instruction is about to be executed, not when an interrupt or a page fault comes instead. After a stop
 * the next run begins with that instruction. Code without breakpoints runs at full speed; a place with one costs some
 * 0.4 us each time, also where its condition says no, and in other mappings of its frame. Setting one costs the fetch tables, taking
 * one away the translations of pages with breakpoints.
 */

import type { HostBreakpoints } from '../engine/armed.ts';
import type { Engine } from '../engine/engine.ts';
import { PRIVILEGE } from '../hart/state.ts';
import type { Harts } from './harts.ts';
import { MachineError, type Stop } from './options.ts';

export interface Breakpoint {
  /** Virtual address of an instruction; physical where nothing is translated. */
  readonly address: bigint;
  /** Only in this address space: the value of `satp` that the address is translated with, 0 where none is. */
  readonly satp?: bigint;
  /** Asked at each hit; may look at the hart's registers, and changes nothing. The run goes on where it says no. */
  readonly condition?: (hart: number) => boolean;
}

type Hit = Extract<Stop, { reason: 'breakpoint' }>;

export interface BreakpointMachine {
  readonly engine: Engine;
  readonly hartSet: Harts;
  readonly schedule: { readonly hart: number };
}

export class Breakpoints implements HostBreakpoints {
  private readonly machine: BreakpointMachine;
  private readonly byAddress = new Map<bigint, Map<number, Breakpoint>>();
  /** By page number: offsets in the page. */
  private readonly byPage = new Map<bigint, Set<number>>();
  private readonly addresses = new Map<number, bigint>();
  private nextId = 1;
  private hit: Hit | undefined;
  /** Where the machine stands since a hit, and no step has been made. */
  private standing: Hit | undefined;
  /** The place that has been asked about last, and the steps that were left of the run there: each is asked about once. */
  private asked: { address: bigint; left: number } | undefined;

  constructor(machine: BreakpointMachine) {
    this.machine = machine;
  }

  get size(): number {
    return this.addresses.size;
  }

  /** Sets a breakpoint; every address space of the machine finds its code anew. Throws `MachineError`. */
  add(breakpoint: Breakpoint): number {
    return this.addAll([breakpoint])[0]!;
  }

  /** Sets several at the cost of one, or none if one of them is wrong: their names, in order. Throws `MachineError`. */
  addAll(breakpoints: readonly Breakpoint[]): number[] {
    const fits = (value: bigint) => typeof value === 'bigint' && BigInt.asUintN(64, value) === value;
    for (const { address, satp } of breakpoints) {
      if (!fits(address) || (address & 1n) !== 0n)
        throw new MachineError('a breakpoint is at an even address of 64 bits');
      if (satp !== undefined && !fits(satp)) throw new MachineError('satp has 64 bits');
    }
    const places = this.byAddress.size;
    const ids = breakpoints.map((breakpoint) => this.enter(breakpoint));
    if (this.byAddress.size > places) this.machine.engine.breakpointsChanged('more');
    return ids;
  }

  private enter(breakpoint: Breakpoint): number {
    const { address } = breakpoint;
    const id = this.nextId++;
    this.addresses.set(id, address);
    const there = this.byAddress.get(address);
    if (there) {
      there.set(id, breakpoint);
      return id;
    }
    this.byAddress.set(address, new Map([[id, breakpoint]]));
    const offsets = this.byPage.get(address >> 12n) ?? new Set();
    this.byPage.set(address >> 12n, offsets.add(Number(address & 4095n)));
    return id;
  }

  /** Takes a breakpoint away; false when there is none of that name. */
  delete(id: number): boolean {
    return this.deleteAll([id]) === 1;
  }

  /** Takes several away at the cost of one: how many there were. */
  deleteAll(ids: readonly number[]): number {
    const places = this.byAddress.size;
    const found = ids.filter((id) => this.leave(id)).length;
    if (this.byAddress.size < places) this.machine.engine.breakpointsChanged('fewer');
    return found;
  }

  private leave(id: number): boolean {
    const address = this.addresses.get(id);
    if (address === undefined) return false;
    this.addresses.delete(id);
    const there = this.byAddress.get(address)!;
    there.delete(id);
    if (there.size > 0) return true;
    this.byAddress.delete(address);
    const offsets = this.byPage.get(address >> 12n)!;
    offsets.delete(Number(address & 4095n));
    if (offsets.size === 0) this.byPage.delete(address >> 12n);
    return true;
  }

  /** Takes all of them away. */
  clear(): void {
    if (this.size === 0) return;
    this.addresses.clear();
    this.byAddress.clear();
    this.byPage.clear();
    this.machine.engine.breakpointsChanged('fewer');
  }

  offsetsIn(page: bigint): Iterable<number> {
    return this.byPage.get(page) ?? [];
  }

  /** The machine has become another one: it stands at no breakpoint. */
  moved(): void {
    this.hit = undefined;
    this.standing = undefined;
  }

  /** A run of the engine begins, of so many steps at most. */
  begin(budget: number): void {
    // A stop that was not told, because an output threw, comes again.
    if (this.hit) this.standing = undefined;
    this.hit = undefined;
    const { standing } = this;
    const here = standing?.hart === this.machine.schedule.hart;
    this.asked = here ? { address: standing.address, left: budget - 1 } : undefined;
  }

  /** It is over. */
  end(steps: number): void {
    if (steps > 0 || this.hit) this.standing = this.hit;
  }

  /** The stop that it has come to, if it has; once. */
  take(): Hit | undefined {
    const { hit } = this;
    this.hit = undefined;
    return hit;
  }

  stopsAt(address: bigint): boolean {
    const { engine, schedule } = this.machine;
    const there = this.byAddress.get(address);
    if (!there) return false;
    const { left } = engine;
    if (this.asked?.left === left && this.asked.address === address) return false;
    this.asked = { address, left };
    const { hart } = schedule;
    const ids = [...there].filter(([, breakpoint]) => this.wants(breakpoint, hart)).map(([id]) => id);
    if (ids.length === 0) return false;
    this.hit = { reason: 'breakpoint', hart, address, ids };
    return true;
  }

  private wants({ satp, condition }: Breakpoint, hart: number): boolean {
    const { hartSet } = this.machine;
    if (satp !== undefined) {
      const machine = hartSet.get(hart, 'privilege') === BigInt(PRIVILEGE.machine);
      if (satp !== (machine ? 0n : hartSet.get(hart, 'satp'))) return false;
    }
    return condition ? condition(hart) : true;
  }
}

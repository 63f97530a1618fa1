/**
 * A machine's watchpoints: bytes of memory behind whose accesses a run ends. They are the host's: no part of the state, neither saved
 * nor hashed, and whether there are any changes nothing that the guest can see.
 *
 * A virtual watchpoint hears of accesses at its address, whatever memory is there; a physical one of accesses to its memory at
 * whatever address, page-table walks included, which write where they set accessed and dirty flags. Devices, the firmware and events write
 * physical memory: a virtual watchpoint is where the present address space of one of the harts has it. What they read is not heard of, nor
 * are fetches of instructions, a conditional store that fails, an access that traps, and what the host writes while nothing runs.
 *
 * Entries for watched pages are withheld from the shadow tables: each access there walks and calls the host, some 0.3 us, and a hit
 * some more since the run is left for it; code that touches other pages runs at full speed. Pages with a watchpoint for reading are slow
 * to write as well, because an atomic instruction reads through an entry for writing. Setting one costs the shadow tables.
 */

import type { AccessKind, AccessTrace, Engine } from '../engine/engine.ts';
import { addressOf } from '../engine/engine.ts';
import { MSTATUS, PRIVILEGE } from '../hart/state.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';
import type { Ram } from '../memory/ram.ts';
import type { AccessTraces } from './access-traces.ts';
import { translate, wholeView } from './guest-memory.ts';
import type { Harts } from './harts.ts';
import { MachineError, type Stop, type WatchAccess } from './options.ts';

export interface Watchpoint {
  /** Of the first byte. */
  readonly address: bigint;
  /** Bytes, 1 to 2^20. */
  readonly length: number;
  readonly on: 'write' | 'read' | 'access';
  /** The address is guest-physical. */
  readonly physical?: boolean;
  /** Only in this address space: the value of `satp` that an address is translated with, 0 where none is. For virtual ones. */
  readonly satp?: bigint;
  /**
   * Asked behind the instruction of each access; may look at the machine, and changes nothing. `Machine.stepsNow` is `WatchHit.steps`
   * meanwhile. The run goes on where it says no.
   */
  readonly hit?: (hit: WatchHit) => boolean;
}

/** An access to watched memory. */
export interface WatchHit {
  readonly id: number;
  /** Nothing where a device, the firmware or an event wrote. */
  readonly hart: number | undefined;
  /** Of the access: virtual for a virtual watchpoint. */
  readonly address: bigint;
  /** Bytes of the access. Of one that lies across two pages, those in the pages that are watched. */
  readonly length: number;
  readonly access: WatchAccess;
  /** Steps of all harts before the instruction; what is written between two steps belongs to the one before. */
  readonly steps: bigint;
}

export interface WatchedMachine {
  readonly engine: Engine;
  readonly hartSet: Harts;
  readonly schedule: { readonly hart: number };
  readonly ram: Ram;
  readonly traces: AccessTraces;
  readonly insideStep: boolean;
  readonly totalSteps: bigint;
}

const MAX_LENGTH = 2 ** 20;
const READ = 1;
const WRITE = 2;
const WATCHED = { read: READ, write: WRITE, access: READ | WRITE } as const;
const DONE = { read: READ, write: WRITE, update: READ | WRITE } as const;

/** What a watchpoint covers of a page: bytes `from` to `to`. */
interface Span {
  readonly id: number;
  readonly watchpoint: Watchpoint;
  readonly from: number;
  readonly to: number;
  readonly watched: number;
}

/** Spans by page number, behind a filter that most pages do not pass. */
class Pages {
  readonly spans = new Map<number, Span[]>();
  private readonly filter = new Uint8Array(4096);

  at(page: number): readonly Span[] | undefined {
    return this.filter[page & 4095] === 0 ? undefined : this.spans.get(page);
  }

  add(page: number, span: Span): void {
    this.filter[page & 4095] = 1;
    const there = this.spans.get(page);
    if (there) there.push(span);
    else this.spans.set(page, [span]);
  }

  delete(id: number): void {
    this.filter.fill(0);
    for (const [page, spans] of this.spans) {
      const others = spans.filter((span) => span.id !== id);
      if (others.length === 0) this.spans.delete(page);
      else {
        this.spans.set(page, others);
        this.filter[page & 4095] = 1;
      }
    }
  }
}

/**
 * A hit before anybody has been asked. An access of the instruction under way counts when it retires; what a walk writes, when its step
 * is made, if by a trap; what is made is made.
 */
interface Pending {
  hit: WatchHit;
  by: 'access' | 'walk' | 'made';
}

export class Watchpoints implements AccessTrace {
  /** Of the hit that is asked about: `WatchHit.steps`. */
  asking: bigint | undefined;
  private readonly machine: WatchedMachine;
  private readonly byId = new Map<number, Watchpoint>();
  private readonly virtual = new Pages();
  private readonly physical = new Pages();
  private nextId = 1;
  private running = false;
  private pending: Pending[] = [];
  /** Traps that the hart had taken when it made the accesses that are not certain. */
  private traps = 0n;

  constructor(machine: WatchedMachine) {
    this.machine = machine;
  }

  get size(): number {
    return this.byId.size;
  }

  /** Sets a watchpoint; the shadow tables are emptied. Throws `MachineError`. */
  add(watchpoint: Watchpoint): number {
    const { address, length, physical = false, satp, on } = watchpoint;
    const fits = (value: bigint) => typeof value === 'bigint' && BigInt.asUintN(64, value) === value;
    if (!Number.isInteger(length) || length < 1 || length > MAX_LENGTH)
      throw new MachineError(`a watchpoint of ${length} bytes: give 1 to 2^20`);
    if (!fits(address) || !fits(address + BigInt(length - 1)))
      throw new MachineError('a watchpoint lies at addresses of 64 bits');
    if (satp !== undefined && (physical || !fits(satp)))
      throw new MachineError('satp has 64 bits, and a physical address none');
    if (!Object.hasOwn(WATCHED, on)) throw new MachineError(`a watchpoint on ${on}: give write, read or access`);
    const id = this.nextId++;
    this.byId.set(id, watchpoint);
    const pages = physical ? this.physical : this.virtual;
    const offset = Number(address & 4095n);
    const first = Number(address >> 12n);
    const end = offset + length;
    for (let n = 0; n * PAGE < end; n++) {
      const from = Math.max(0, offset - n * PAGE);
      pages.add(first + n, { id, watchpoint, from, to: Math.min(PAGE, end - n * PAGE), watched: WATCHED[on] });
    }
    const { traces, ram } = this.machine;
    if (this.size === 1) {
      ram.onWrite.add(this.hearWrite);
      traces.add(this);
    } else traces.renew();
    return id;
  }

  /** Takes a watchpoint away; false when there is none of that name. */
  delete(id: number): boolean {
    const watchpoint = this.byId.get(id);
    if (!watchpoint) return false;
    this.byId.delete(id);
    (watchpoint.physical ? this.physical : this.virtual).delete(id);
    if (this.size > 0) return true;
    const { traces, ram } = this.machine;
    ram.onWrite.delete(this.hearWrite);
    traces.delete(this);
    return true;
  }

  /** Takes all of them away. */
  clear(): void {
    for (const id of [...this.byId.keys()]) this.delete(id);
  }

  /** Runs the machine. Only what happens meanwhile is a hit. */
  during<T>(run: () => T): T {
    const outer = this.running;
    this.running = true;
    try {
      return run();
    } finally {
      this.running = outer;
      // A step that an exception has broken off is done again.
      if (this.pending.length > 0) this.pending = this.pending.filter(({ by }) => by === 'made');
    }
  }

  /** The engine comes back; the step that it was at has been made or not. An access of an instruction that then trapped was none. */
  end(made: boolean): void {
    if (this.pending.length === 0) return;
    const { hartSet, schedule } = this.machine;
    const retired = made && hartSet.get(schedule.hart, 'traps') === this.traps;
    const counts = { access: retired, walk: made, made: true };
    this.pending = this.pending.filter(({ by }) => counts[by]);
    for (const pending of this.pending) pending.by = 'made';
  }

  /** The machine has another state: what was about to be told has not happened. */
  renew(): void {
    this.pending = [];
  }

  /** The stop that the run has come to, if it has; once. */
  take(): Extract<Stop, { reason: 'watchpoint' }> | undefined {
    const { pending } = this;
    if (pending.length === 0) return undefined;
    this.pending = [];
    const hits = pending.map(({ hit }) => hit).filter((hit) => this.wants(hit));
    const [first] = hits;
    if (!first) return undefined;
    const { hart, address, access } = first;
    return { reason: 'watchpoint', hart, address, access, ids: [...new Set(hits.map(({ id }) => id))] };
  }

  private wants(hit: WatchHit): boolean {
    const watchpoint = this.byId.get(hit.id);
    if (!watchpoint?.hit) return watchpoint !== undefined;
    this.asking = hit.steps;
    try {
      return watchpoint.hit(hit);
    } finally {
      this.asking = undefined;
    }
  }

  touched(low: number, high: number, page: number, access: AccessKind, size: number): boolean {
    if (access === 'fetch') return true;
    if (access === 'walk') {
      this.written(addressOf(low, high), size, this.machine.schedule.hart, 'walk');
      return true;
    }
    const number = (high >>> 0) * 2 ** 20 + (low >>> 12);
    const physicalPage = page < 0 ? Number(this.machine.engine.get('mailbox') >> 12n) : RAM_BASE / PAGE + page;
    const there = this.virtual.at(number);
    const behind = this.physical.at(physicalPage);
    if (!there && !behind) return true;
    let watched = 0;
    const done = DONE[access];
    const offset = low & (PAGE - 1);
    const look = (spans: readonly Span[], address: () => bigint) => {
      for (const span of spans) {
        watched |= span.watched;
        if ((span.watched & done) === 0 || offset >= span.to || offset + size <= span.from || size === 0) continue;
        const { satp } = span.watchpoint;
        if (satp !== undefined && satp !== this.spaceOf(this.machine.schedule.hart)) continue;
        this.note(span.id, this.machine.schedule.hart, address(), size, access, 'access');
      }
    };
    if (there) look(there, () => addressOf(low, high));
    if (behind) look(behind, () => BigInt(physicalPage) * BigInt(PAGE) + BigInt(offset));
    return access === 'read' ? (watched & READ) === 0 : watched === 0;
  }

  private readonly hearWrite = (address: number, length: number): void => {
    if (this.running) this.written(BigInt(address), length, undefined, 'made');
  };

  /** Bytes of one page of physical memory are written, by a walk or not by a hart. */
  private written(address: bigint, length: number, hart: number | undefined, by: 'walk' | 'made'): void {
    const offset = Number(address & 4095n);
    const page = Number(address >> 12n);
    const meets = ({ from, to, watched }: Span) => (watched & WRITE) !== 0 && offset < to && offset + length > from;
    for (const span of this.physical.at(page) ?? [])
      if (meets(span)) this.note(span.id, hart, address, length, 'write', by);
    for (const [number, spans] of this.virtual.spans) {
      for (const span of spans) {
        if (!meets(span)) continue;
        const start = BigInt(number) << 12n;
        if (this.leadsTo(start, page, span.watchpoint.satp))
          this.note(span.id, hart, start + BigInt(offset), length, 'write', by);
      }
    }
  }

  /** Whether a page of virtual memory is a physical one in a hart's present address space. */
  private leadsTo(start: bigint, page: number, satp: bigint | undefined): boolean {
    const { hartSet, ram } = this.machine;
    for (let hart = 0; hart < hartSet.count; hart++) {
      const space = this.spaceOf(hart);
      if (satp !== undefined && satp !== space) continue;
      const physical = translate(ram, wholeView(space), start);
      if (physical !== undefined && physical >> 12n === BigInt(page)) return true;
    }
    return false;
  }

  /** What a hart's addresses of data are translated with, 0 where they are not. */
  private spaceOf(hart: number): bigint {
    const { hartSet } = this.machine;
    const status = hartSet.get(hart, 'mstatus');
    const privilege = status & MSTATUS.MPRV ? (status >> 11n) & 3n : hartSet.get(hart, 'privilege');
    return privilege === BigInt(PRIVILEGE.machine) ? 0n : hartSet.get(hart, 'satp');
  }

  private note(
    id: number,
    hart: number | undefined,
    address: bigint,
    length: number,
    access: WatchAccess,
    by: Pending['by'],
  ): void {
    const { engine, insideStep, totalSteps } = this.machine;
    // The state behind so many steps has what was written there.
    const steps = insideStep || totalSteps === 0n ? totalSteps : totalSteps - 1n;
    if (by === 'access') this.traps = engine.get('traps');
    const hit: WatchHit = { id, hart, address, length, access, steps };
    // An instruction's access may be told in parts. What is not made yet is all of one instruction.
    const last = this.pending.findLast(({ hit }) => hit.id === id);
    const joins = by === 'access' && last?.by === by && last.hit.address + BigInt(last.hit.length) === address;
    if (last && joins) last.hit = { ...last.hit, length: last.hit.length + length };
    else this.pending.push({ hit, by });
    engine.attention();
  }
}

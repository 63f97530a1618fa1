/**
 * A clone on one way of a branch: from the fork point to its decision, where its outcome is forced, and on to the completion, while it
 * is listened to. What it ends with is plain data.
 *
 * Between decision and completion only the thread's own instructions may have had a part. An interrupt of it is let pass when the
 * thread comes back to where it was with the registers that it had; anything else that somebody but it did ends the clone with
 * a refusal.
 */

import type { Engine } from '../engine/engine.ts';
import { MSTATUS, PRIVILEGE } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';
import type { Stop } from '../machine/options.ts';
import type { Attachments } from '../machine/save.ts';
import { freeMap, type MapRoots } from '../memory/frame-map.ts';
import { ENTRY_FRAME, LEAF_PAGES, PAGE } from '../memory/layout.ts';
import { type Pool, PoolFullError } from '../memory/pool.ts';
import { AccessLog } from './access-log.ts';
import { type Activation, type Decision, isThread, stackPointer } from './decision.ts';
import { type ForkPoint, machineFrom, rootsOf } from './fork-point.ts';

/** Why a clone's way is no path that could be taken over. */
export type PathRefusal =
  /** An exception, a system call included, at an address; `cause` as scause (or mcause) has it. */
  | { readonly reason: 'trap'; readonly cause: bigint; readonly address: bigint }
  /** The kernel did not come back from an interrupt to where the thread was: a signal handler ran. */
  | { readonly reason: 'signal' }
  /** Another thread of the same process ran. */
  | { readonly reason: 'other-thread' }
  /** Somebody else wrote pages that the path read or wrote: their virtual addresses / 4096. */
  | { readonly reason: 'disturbed'; readonly by: readonly bigint[] }
  /** A virtual page became another physical one. */
  | { readonly reason: 'remapped' }
  /** It accessed a device, read a counter or the clock, or the accrued floating-point flags, or executed a hint. */
  | { readonly reason: 'device' | 'counter' | 'float-flags' | 'hint' }
  /** The machine ended, or waits for something from outside. */
  | { readonly reason: 'ended' | 'waits' }
  /** It has made as many steps as it may, or the pool has no frame for it. */
  | { readonly reason: 'limit' | 'pool-full' };

/** A page that the path touched. */
export interface PathPage {
  /** Virtual address / 4096, and the guest-physical page. */
  readonly number: bigint;
  readonly page: number;
  readonly read: boolean;
  readonly written: boolean;
  /** READ and WRITTEN of `access-log.ts` by byte, where bytes were told apart. */
  readonly bytes: Uint8Array | undefined;
  /** Its content at the clone's decision, and at the completion if it was written. */
  readonly before: Uint8Array;
  readonly after: Uint8Array | undefined;
}

export interface FloatState {
  readonly f: readonly bigint[];
  readonly frm: bigint;
  readonly on: boolean;
}

/** The way of a clone that came to the completion: plain data. */
export interface PathResult {
  readonly outcome: 0 | 1;
  /** Where it came to. */
  readonly completion: bigint;
  /** From the decision on, the thread's and whatever else the machine made. */
  readonly steps: number;
  readonly before: { readonly x: readonly bigint[]; readonly float: FloatState };
  readonly after: { readonly x: readonly bigint[]; readonly float: FloatState };
  /** Floating-point flags that it raised. */
  readonly flags: bigint;
  readonly pages: readonly PathPage[];
}

export interface PathOptions {
  readonly attachments: Attachments;
  readonly limit: number;
  readonly makeCalls: boolean;
  readonly byBytes: (page: bigint) => boolean;
}

/** A thread's registers when an interrupt came, and where. */
interface Interrupted {
  readonly breakpoint: number;
  readonly x: readonly bigint[];
}

const SUPERVISOR_CAUSES = [1n, 5n, 9n];
const INTERRUPT = 1n << 63n;

export class BranchPath {
  /** The result or a refusal, once there is one. */
  end: PathResult | PathRefusal | undefined;
  readonly outcome: 0 | 1;
  private readonly decision: Decision;
  private readonly activation: Activation;
  private readonly options: PathOptions;
  private readonly pool: Pool;
  private machine: Machine | undefined;
  /** By id, what a breakpoint is for. */
  private readonly roles = new Map<number, 'call' | 'decision' | 'completion' | 'trap' | 'firmware'>();
  /** Since the decision. */
  private way:
    | {
        readonly log: AccessLog;
        readonly ram: MapRoots;
        readonly before: PathResult['before'];
        readonly startSteps: bigint;
      }
    | undefined;
  private interrupted: Interrupted | undefined;
  private readonly start: bigint;
  /** What the thread has observed that is no state of its own. */
  private observed = 0n;

  /** A clone of a fork point at the branch's, which it uses up. */
  constructor(
    engine: Engine,
    point: ForkPoint,
    decision: Decision,
    activation: Activation,
    outcome: 0 | 1,
    options: PathOptions,
  ) {
    this.decision = decision;
    this.activation = activation;
    this.outcome = outcome;
    this.options = options;
    this.pool = engine.pool;
    const machine = machineFrom(engine, point, options.attachments);
    this.machine = machine;
    this.start = machine.totalSteps;
    const at = (address: bigint, role: 'call' | 'decision', sp: bigint) =>
      this.roles.set(machine.breakpoints.add({ address, condition: this.inFrame(machine, sp) }), role);
    if (!options.makeCalls) for (const { address } of decision.calls) at(address, 'call', activation.sp);
    at(decision.decisionPoint, 'decision', stackPointer(decision, activation, decision.frame.decisionPoint!));
  }

  /** Runs on for at most so many steps. */
  run(steps: number): 'running' | 'done' {
    const { machine } = this;
    if (!machine || this.end) return 'done';
    const { engine } = machine;
    const limit = machine.totalSteps + BigInt(steps);
    try {
      while (!this.end) {
        const made = Number(machine.totalSteps - this.start);
        if (made >= this.options.limit) return this.refuse({ reason: 'limit' });
        const left = Number(limit - machine.totalSteps);
        if (left <= 0) return 'running';
        engine.set('observed', 0n);
        const stop = machine.run(Math.min(left, this.options.limit - made));
        if (this.way && !this.interrupted) this.observed |= engine.get('observed');
        this.look(machine, stop);
      }
    } catch (error) {
      if (!(error instanceof PoolFullError)) throw error;
      this.refuse({ reason: 'pool-full' });
    }
    return 'done';
  }

  /** Frames that hold the clone's maps. */
  get roots(): readonly number[] {
    return [...(this.machine ? rootsOf(this.machine) : []), ...(this.way?.ram ?? [])];
  }

  /** Gives the clone back; its end stays. */
  free(): void {
    const { machine, way } = this;
    this.machine = undefined;
    this.way = undefined;
    if (!machine) return;
    way?.log.end();
    if (way) freeMap(this.pool, way.ram);
    machine.free();
  }

  private inFrame(machine: Machine, sp: bigint): (hart: number) => boolean {
    return (hart) => isThread(machine, hart, this.activation) && machine.hartSet.getX(hart, 2) === sp;
  }

  private refuse(refusal: PathRefusal): 'done' {
    this.end = refusal;
    this.free();
    return 'done';
  }

  private look(machine: Machine, stop: Stop): void {
    switch (stop.reason) {
      case 'breakpoint':
        this.hit(machine, stop.hart, stop.ids);
        return;
      case 'exit':
        this.refuse({ reason: 'ended' });
        return;
      case 'idle':
      case 'stalled':
        this.refuse({ reason: 'waits' });
        return;
      case 'hint':
        this.refuse({ reason: 'hint' });
    }
  }

  private hit(machine: Machine, hart: number, ids: readonly number[]): void {
    const roles = ids.map((id) => this.roles.get(id));
    if (roles.includes('decision')) this.force(machine, hart);
    else if (roles.includes('call')) {
      const pc = machine.hartSet.get(hart, 'pc');
      machine.hartSet.record(hart).set('pc', this.decision.calls.find(({ address }) => address === pc)!.returns);
    } else if (roles.includes('trap')) this.trapped(machine, hart);
    else if (roles.includes('firmware')) {
      this.refuse({
        reason: 'trap',
        cause: machine.hartSet.get(hart, 'mcause'),
        address: machine.hartSet.get(hart, 'mepc'),
      });
    } else {
      if (this.interrupted && ids.includes(this.interrupted.breakpoint)) this.resumed(machine, hart);
      if (roles.includes('completion') && !this.end) this.complete(machine, hart);
    }
  }

  /** At the decision: the clone goes its way, whatever the condition says. */
  private force(machine: Machine, hart: number): void {
    const { decision, activation } = this;
    const { hartSet, breakpoints } = machine;
    breakpoints.clear();
    this.roles.clear();
    const before = registersOf(machine, hart);
    if (this.othersRun(machine, hart)) {
      this.refuse({ reason: 'other-thread' });
      return;
    }
    const record = hartSet.record(hart);
    record.set('pc', decision.outcomes[this.outcome]);
    if (before.float.on) {
      // Flags that it raises are to be seen; a kernel keeps them only of what it believes to be dirty.
      record.set('fflags', 0n);
      record.set('mstatus', record.get('mstatus') | MSTATUS.FS);
    }
    const distance = decision.frame.completion!;
    const sp = stackPointer(decision, activation, distance);
    const ends = decision.completion === 'return' ? decision.exits : [decision.completion];
    for (const address of ends) {
      this.roles.set(breakpoints.add({ address, condition: this.inFrame(machine, sp) }), 'completion');
    }
    if (activation.privilege === BigInt(PRIVILEGE.user)) this.watchTraps(machine, hart);
    if (!machine.monitorSbi) this.watchFirmware(machine, hart);
    this.way = {
      ram: machine.ram.share(),
      before,
      startSteps: machine.totalSteps,
      log: new AccessLog(machine, activation, this.options.byBytes),
    };
  }

  /** Stops where the kernel is entered from the thread's process. */
  private watchTraps(machine: Machine, hart: number): void {
    const { hartSet, breakpoints } = machine;
    const vector = hartSet.get(hart, 'stvec');
    const base = vector & ~3n;
    const entries = vector & 1n ? [base, ...SUPERVISOR_CAUSES.map((cause) => base + 4n * cause)] : [base];
    const condition = (of: number) =>
      hartSet.get(of, 'satp') === this.activation.satp && (hartSet.get(of, 'mstatus') & MSTATUS.SPP) === 0n;
    for (const address of entries) this.roles.set(breakpoints.add({ address, condition }), 'trap');
  }

  /** Stops at the entry to M-mode. What a firmware of the guest's own, or the program's handler, does for the thread is not known. */
  private watchFirmware(machine: Machine, hart: number): void {
    const { hartSet, breakpoints } = machine;
    const { privilege, satp } = this.activation;
    const vector = hartSet.get(hart, 'mtvec');
    const base = vector & ~3n;
    const causes = vector & 1n ? [3n, 7n, 11n] : [];
    const from = privilege << 11n;
    const condition = (of: number) =>
      (hartSet.get(of, 'mstatus') & MSTATUS.MPP) === from &&
      (privilege !== 0n ? of === hart : hartSet.get(of, 'satp') === satp);
    for (const address of [base, ...causes.map((cause) => base + 4n * cause)]) {
      this.roles.set(breakpoints.add({ address, condition }), 'firmware');
    }
  }

  private trapped(machine: Machine, hart: number): void {
    const { hartSet, breakpoints } = machine;
    const { activation } = this;
    if (hartSet.getX(hart, 4) !== activation.tp) {
      this.refuse({ reason: 'other-thread' });
      return;
    }
    const cause = hartSet.get(hart, 'scause');
    const address = hartSet.get(hart, 'sepc');
    if (this.interrupted) this.refuse({ reason: 'signal' });
    else if ((cause & INTERRUPT) === 0n) this.refuse({ reason: 'trap', cause, address });
    else {
      const condition = (of: number) => isThread(machine, of, activation);
      const x = Array.from({ length: 32 }, (_, n) => hartSet.getX(hart, n));
      this.interrupted = { breakpoint: breakpoints.add({ address, condition }), x };
    }
  }

  private resumed(machine: Machine, hart: number): void {
    const { breakpoint, x } = this.interrupted!;
    this.interrupted = undefined;
    machine.breakpoints.delete(breakpoint);
    if (x.some((value, n) => value !== machine.hartSet.getX(hart, n))) this.refuse({ reason: 'signal' });
  }

  /** Whether another hart is in the same process at this moment. */
  private othersRun(machine: Machine, own: number): boolean {
    const { privilege, satp } = this.activation;
    if (privilege !== BigInt(PRIVILEGE.user)) return false;
    for (let hart = 0; hart < machine.harts; hart++) {
      const user = machine.hartSet.get(hart, 'privilege') === privilege;
      if (hart !== own && user && machine.hartSet.get(hart, 'satp') === satp) return true;
    }
    return false;
  }

  private complete(machine: Machine, hart: number): void {
    const { outcome, way } = this;
    const refusal = this.objection(machine, hart);
    if (refusal) {
      this.refuse(refusal);
      return;
    }
    const { log, ram, before, startSteps } = way!;
    const pages = [...log.pages].map(([number, { page, read, written, bytes }]): PathPage => {
      const after = contentOf(this.pool, machine.ram.roots, page);
      const was = contentOf(this.pool, ram, page);
      const wrote = written || bytes?.some((marks) => marks & 2);
      return { number, page, read, written, bytes, before: was, after: wrote ? after : undefined };
    });
    this.end = {
      outcome,
      completion: machine.hartSet.get(hart, 'pc'),
      steps: Number(machine.totalSteps - startSteps),
      before,
      after: registersOf(machine, hart),
      flags: before.float.on ? machine.hartSet.get(hart, 'fflags') : 0n,
      pages,
    };
    this.free();
  }

  private objection(machine: Machine, hart: number): PathRefusal | undefined {
    const { activation, observed } = this;
    const { log } = this.way!;
    if (this.interrupted) return { reason: 'signal' };
    if (this.othersRun(machine, hart)) return { reason: 'other-thread' };
    if (log.device) return { reason: 'device' };
    if (observed & (1n << activation.privilege)) return { reason: 'counter' };
    if (observed & (16n << activation.privilege)) return { reason: 'float-flags' };
    if (log.remapped) return { reason: 'remapped' };
    const by = [...log.pages].filter(([, { page }]) => log.foreign.has(page)).map(([number]) => number);
    return by.length > 0 ? { reason: 'disturbed', by } : undefined;
  }
}

function registersOf(machine: Machine, hart: number): PathResult['before'] {
  const record = machine.hartSet.record(hart);
  const numbers = Array.from({ length: 32 }, (_, n) => n);
  return {
    x: numbers.map((n) => record.getX(n)),
    float: {
      f: numbers.map((n) => record.getF(n)),
      frm: record.get('frm'),
      on: (record.get('mstatus') & MSTATUS.FS) !== 0n,
    },
  };
}

/** A copy of a page of a map, by the map's roots; zeros where it is absent. */
function contentOf(pool: Pool, roots: MapRoots, page: number): Uint8Array {
  const leaf = pool.words[(roots[0]! * PAGE) / 4 + Math.floor(page / LEAF_PAGES)]!;
  const entry = leaf === 0 ? 0 : pool.words[(leaf * PAGE) / 4 + (page % LEAF_PAGES)]!;
  const frame = entry & ENTRY_FRAME;
  return frame === 0 ? new Uint8Array(PAGE) : pool.bytes.slice(frame * PAGE, (frame + 1) * PAGE);
}

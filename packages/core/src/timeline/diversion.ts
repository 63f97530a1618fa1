/**
 * A diversion: a second machine that leaves a place of the first one's timeline, to do something that the first one did not do. It runs on the
 * same engine, shares the first one's frames, and is thrown away; the first machine goes on as if nothing had happened.
 *
 *     const diversion = Diversion.of(machine, hart);
 *     try {
 *       diversion.machine.breakpoints.add(...);         // what it is to come to
 *       const stop = diversion.run();
 *     } finally {
 *       diversion.free();
 *     }
 *
 * Nothing comes from outside while it runs: no typing, no packets (what it sends is lost), nothing from the host's end of the guest agent;
 * idle gaps are jumped over. It ends at the latest when it has made its steps, and with an error that says why where what it was made for
 * cannot come any more. Cost: a fork, a machine, and the shadow tables of both.
 */

import { type ForkPoint, forkPoint, machineFrom } from '../branch/fork-point.ts';
import type { BlockBackend } from '../devices/virtio-block/backend.ts';
import { OverlayBackend } from '../disk/overlay.ts';
import type { Engine } from '../engine/engine.ts';
import { CAUSE, MSTATUS, PRIVILEGE } from '../hart/state.ts';
import { EventLog, formatPosition, LogReader } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import type { Stop } from '../machine/options.ts';
import type { Attachments } from '../machine/save.ts';
import type { PageSource } from '../memory/frame-map.ts';
import { PoolFullError } from '../memory/pool.ts';
import { CapturedOutput, ProgramWrites } from './captured-output.ts';
import { type GuestThread, isThreadOf, rootOf, threadOf } from './guest-thread.ts';

export interface DiversionOptions {
  /** Steps of all harts, at most. Default 10^9. */
  readonly steps?: number;
  /** Guest time in ns, at most. Default 10 s. */
  readonly time?: bigint;
  /** Bytes of output that are kept. Default 1 MiB. */
  readonly output?: number;
}

export type DiversionReason =
  /** It has made as many steps, or used as much guest time, as it may. */
  | 'steps'
  | 'time'
  /** The process ended by itself, by a fault, or by a signal that it sent. */
  | 'exit'
  | 'fault'
  | 'signal'
  /** Every hart waits, and nothing will come. */
  | 'waits'
  /** The machine was turned off. */
  | 'machine-exit'
  /** The host has the data of a disk only later. */
  | 'disk'
  | 'pool-full'
  /** It cannot begin here, or with these arguments. */
  | 'place';

/** A diversion that did not come to what it was made for. The machine that it left is as it was. */
export class DiversionError extends Error {
  readonly code = 'ERR_BRAID_DIVERSION';
  readonly reason: DiversionReason;
  /** What was said before it ended. */
  readonly output: CapturedOutput;

  constructor(reason: DiversionReason, message: string, output = new CapturedOutput(0), cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'DiversionError';
    this.reason = reason;
    this.output = output;
  }
}

/** A stop that somebody has set up in the diversion. */
export type DiversionStop = Extract<Stop, { reason: 'breakpoint' | 'watchpoint' | 'system-call' | 'replay-only' }>;

/** Steps between two looks at the limits. */
const TURN = 1_000_000;
/** A thread that has not been back in user mode for so long after a fault is gone: 100 ms. */
const PATIENCE = 100_000_000n;

const [A0, A7] = [10, 17];
const EXIT_THREAD = 93n;
const EXIT_GROUP = 94n;
/** System calls that send signals: kill, tkill, tgkill. */
const KILLS = new Set([129n, 130n, 131n]);

export class Diversion {
  readonly machine: Machine;
  /** The one that it was made for. */
  readonly hart: number;
  readonly thread: GuestThread;
  readonly output: CapturedOutput;
  /** What it does, for errors. */
  purpose = 'the diversion';
  private readonly steps: number;
  private readonly time: bigint;
  private readonly begin: { readonly steps: bigint; readonly now: bigint };
  private readonly where: string;
  private readonly writes: ProgramWrites;
  private readonly systemCalls: number;
  /** Set when the process is about to end by itself. */
  private ending: bigint | undefined;
  /** The last trap of the thread, if it may be its last one. */
  private last: { readonly why: 'fault' | 'signal'; readonly text: string; readonly now: bigint } | undefined;

  /**
   * From a fork point, which is used up, for what one of its harts runs. `attachments` has the disks' bases, as for `machineFrom`, and
   * `source` what the fork point's remote pages come from.
   * Throws `PoolFullError` and `MachineError`, as that does.
   */
  constructor(
    engine: Engine,
    point: ForkPoint,
    attachments: Attachments,
    hart: number,
    { steps = 1e9, time = 10_000_000_000n, output = 2 ** 20 }: DiversionOptions = {},
    source?: PageSource,
  ) {
    this.output = new CapturedOutput(output);
    const outputs = {
      console: (bytes: Uint8Array) => this.output.add('console', bytes),
      terminal: (bytes: Uint8Array) => this.output.add('terminal', bytes),
    };
    this.machine = machineFrom(engine, point, attachments, outputs, { source });
    const { machine } = this;
    this.hart = hart;
    this.steps = steps;
    this.time = time;
    this.begin = { steps: machine.totalSteps, now: machine.now };
    this.where = formatPosition(machine.position);
    this.thread = threadOf(machine, hart);
    // A log without events: nothing enters, and the agent's client hears nothing.
    machine.follow(new LogReader(new EventLog()));
    machine.skipIdle = true;
    machine.mayJump = (until) => until - this.begin.now <= this.time;
    this.writes = new ProgramWrites(machine, this.thread.root, this.output);
    this.systemCalls = machine.interceptions.add({ kind: 'system-call', condition: (hart) => this.called(hart) });
    this.watchTraps();
  }

  /** From a machine as it stands. Throws `PoolFullError`, and `MachineError` for a machine that cannot be forked. */
  static of(machine: Machine, hart: number, options?: DiversionOptions): Diversion {
    const { epoch } = machine.options;
    const disks = (machine.options.disks ?? []).map((disk) => ({ ...disk, backend: baseOf(disk.backend) }));
    const attachments = { disks, ...(epoch === undefined ? {} : { epoch }) };
    return new Diversion(machine.engine, forkPoint(machine), attachments, hart, options, machine.ram.source);
  }

  /** Steps that it has made. */
  get made(): bigint {
    return this.machine.totalSteps - this.begin.steps;
  }

  /** Runs to the next stop that somebody has set up. Throws `DiversionError` when there is none. */
  run(): DiversionStop {
    const { machine } = this;
    for (;;) {
      const left = this.steps - Number(this.made);
      if (left <= 0) throw this.error('steps', `it has made ${this.steps} steps, as many as it may`);
      const elapsed = machine.now - this.begin.now;
      if (this.last && machine.now - this.last.now > PATIENCE) throw this.error(this.last.why, this.last.text);
      if (elapsed > this.time) throw this.outOfTime();
      const stop = this.runMachine(Math.min(left, TURN));
      switch (stop.reason) {
        case 'steps':
        case 'attention':
        case 'hint':
          break;
        case 'exit':
          throw this.error(
            'machine-exit',
            `the machine ended (${stop.exit.kind}, code ${stop.exit.code})${this.last ? `: ${this.last.text}` : ''}`,
          );
        case 'stalled':
          // Nobody waits for it: it may fail.
          stop.until.catch(() => {});
          throw this.error('disk', 'it reads from a disk whose data the host does not have at once');
        case 'idle':
          if (stop.until !== undefined) throw this.outOfTime();
          throw this.error('waits', 'every hart waits, and nothing comes from outside');
        case 'system-call': {
          if (!stop.ids.includes(this.systemCalls)) return stop;
          if (this.ending !== undefined)
            throw this.error('exit', `the program ends, with status ${this.ending & 255n}, before it comes to that`);
          this.writes.listen(stop.hart);
          const ids = stop.ids.filter((id) => id !== this.systemCalls);
          if (ids.length > 0) return { ...stop, ids };
          break;
        }
        default:
          return stop;
      }
    }
  }

  /** It is over: gives its frames back. */
  free(): void {
    this.machine.free();
  }

  /** An error of this diversion. */
  error(reason: DiversionReason, why: string, cause?: unknown): DiversionError {
    return new DiversionError(reason, `${this.purpose} at ${this.where}: ${why}`, this.output, cause);
  }

  private outOfTime(): DiversionError {
    if (this.last) return this.error(this.last.why, this.last.text);
    return this.error('time', `it has used ${this.time} ns of guest time, as much as it may`);
  }

  private runMachine(steps: number): Stop {
    try {
      return this.machine.run(steps);
    } catch (error) {
      if (error instanceof PoolFullError) throw this.error('pool-full', error.message, error);
      throw error;
    }
  }

  /** Before each system call of the machine: whether it has to stand. */
  private called(hart: number): boolean {
    const { machine, thread } = this;
    if (rootOf(machine, hart) !== thread.root) return false;
    const number = machine.hartSet.getX(hart, A7);
    if (number === EXIT_GROUP || (number === EXIT_THREAD && isThreadOf(machine, hart, thread))) {
      this.ending = machine.hartSet.getX(hart, A0);
      return true;
    }
    return this.writes.begins(hart);
  }

  /** Has every trap out of the thread looked at, where a kernel takes them. */
  private watchTraps(): void {
    const { machine, thread } = this;
    if (thread.root === 0n) return;
    const vectors = new Set<bigint>();
    for (let hart = 0; hart < machine.harts; hart++) vectors.add(machine.hartSet.get(hart, 'stvec') & ~3n);
    for (const address of vectors) {
      machine.breakpoints.add({
        address,
        condition: (hart) => {
          const { hartSet } = machine;
          const fromUser = (hartSet.get(hart, 'mstatus') & MSTATUS.SPP) === 0n;
          const inKernel = hartSet.get(hart, 'privilege') === BigInt(PRIVILEGE.supervisor);
          if (fromUser && inKernel && isThreadOf(machine, hart, thread)) this.trapped(hart);
          return false;
        },
      });
    }
  }

  private trapped(hart: number): void {
    const { hartSet, now } = this.machine;
    const cause = hartSet.get(hart, 'scause');
    const hex = (field: 'sepc' | 'stval') => `0x${hartSet.get(hart, field).toString(16)}`;
    this.last = undefined;
    if (cause === BigInt(CAUSE.ecallUser)) {
      const number = hartSet.getX(hart, A7);
      if (KILLS.has(number))
        this.last = { why: 'signal', text: `the program sent a signal at ${hex('sepc')}, and was not seen again`, now };
    } else if (cause >> 63n === 0n) {
      const text = `an exception (cause ${cause}, value ${hex('stval')}) at ${hex('sepc')}, after which the program was not seen again`;
      this.last = { why: 'fault', text, now };
    }
  }
}

/** What a disk of a machine holds below what a fork shares, to be read only; to be given back by nobody. */
function baseOf(backend: BlockBackend): BlockBackend {
  return {
    size: backend.size,
    readOnly: backend.readOnly,
    read: (offset, into) =>
      backend instanceof OverlayBackend ? backend.readBelow(offset, into) : backend.read(offset, into),
    write: () => {
      throw new TypeError('a diversion writes to its own overlay');
    },
    flush: () => {},
  };
}

/**
 * A machine in its thread: its calls, and the parts that they go to.
 *
 * The machine runs while somebody waits for it (a program, a file, a goal), or after `run` until `pause`; otherwise it stands
 * still, exactly where the last wait ended. So in virtual time a sequence of calls, each made after the one before has been
 * answered, takes the machine through the same positions every time, however the host's time goes.
 *
 * Three rules make that so. The agent is spoken to at slice boundaries only (`GuestCalls`). What a callback of the guest completes is
 * answered at the following boundary, where the machine stops if nobody else waits (`Callers`). And the host's messages, which
 * come at any time, are looked at between runs of a few milliseconds, whose lengths change nothing that the guest can see (`Turns`).
 *
 * What goes out, in order: `Reports`. How it ends: `Ending`. Forks of it, and being one: `Clones`.
 */

import { type ForkPoint, rootsOf } from '@braid/core/branch/fork-point.ts';
import { mergeDisk } from '@braid/core/branch/merge-disk.ts';
import type { Engine } from '@braid/core/engine/engine.ts';
import { GdbError } from '@braid/core/gdb/errors.ts';
import { stateHash } from '@braid/core/machine/hash.ts';
import { comparePositions, formatPosition } from '@braid/core/machine/log.ts';
import type { Machine, Outputs } from '@braid/core/machine/machine.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { saveMachine } from '@braid/core/machine/save.ts';
import { commitDisks, flushDisks, thawDisks } from '../disk/overlays.ts';
import { stampDisk } from '../disk/stamp.ts';
import { BraidError } from '../errors.ts';
import type {
  CallName,
  Calls,
  ExecLimit,
  HostState,
  LeftDisk,
  Made,
  Request,
  Setup,
  TimeMode,
} from '../pool/protocol.ts';
import { type Assembled, assemble, type DiskFile } from './assemble.ts';
import { Callers } from './callers.ts';
import { Clones, type ClonesHost } from './clones.ts';
import { type Found, Watch } from './conditions.ts';
import { DebugSession } from './debug-session.ts';
import { Ending, exitedError } from './ending.ts';
import { GuestCalls } from './guest-calls.ts';
import { HintPost } from './hint-post.ts';
import { HostBranch, type HostBranchHost } from './host-branch.ts';
import { Recording, recordingInfo } from './recording.ts';
import { Reports } from './reports.ts';
import { physical, signature, stats } from './results.ts';
import { TextWatch } from './searched-text.ts';
import type { Runner, RunnerHost } from './thread.ts';
import { Turns, type TurnsHost } from './turns.ts';
import { TypedInput } from './typed-input.ts';
import { WaitWatch } from './wait-watch.ts';
import type { Wait } from './waits.ts';

export class MachineRunner implements Runner, ClonesHost, HostBranchHost, TurnsHost {
  readonly engine: Engine;
  machine: Machine | undefined;
  setup: HostState['setup'] | undefined;
  files: readonly DiskFile[] = [];
  private readonly host: RunnerHost;
  readonly reports: Reports;
  readonly callers: Callers;
  readonly ending: Ending;
  readonly recording: Recording;
  readonly typed: TypedInput;
  readonly guest: GuestCalls;
  readonly hints: HintPost;
  readonly clones: Clones;
  readonly hostBranch: HostBranch;
  readonly debugging: DebugSession;
  waitWatch: WaitWatch | undefined;
  readonly turns: Turns;
  /** Of programs that the agent has not been asked for yet, by the numbers of their calls. */
  private readonly limits = new Map<number, ExecLimit>();

  /** `points`: fork points of the worker, by their numbers. */
  constructor(engine: Engine, points: Map<number, ForkPoint>, host: RunnerHost) {
    this.engine = engine;
    this.host = host;
    const reports = new Reports(host);
    const callers = new Callers(
      reports,
      () => this.machine?.interrupt(),
      () => this.made().position,
    );
    const waiting = (id: number) => callers.waiting(id);
    this.reports = reports;
    this.callers = callers;
    this.ending = new Ending(reports);
    this.recording = new Recording(host);
    this.typed = new TypedInput(reports);
    this.hints = new HintPost((hint) => reports.say({ type: 'hint', hint }));
    this.guest = new GuestCalls({
      waiting,
      act: (action) => callers.act(action),
      answer: (id, value) => callers.answer(id, value),
      output: (id, stream, bytes) => this.programOutput(id, stream, bytes),
      asked: (id) => this.limited(id),
      exited: (id, how) => {
        this.recording.mark('exit', how);
        callers.see((watch) => watch.seeExit(id));
      },
    });
    this.debugging = new DebugSession({ waiting, answer: (id, stop) => callers.result(id, stop) });
    this.clones = new Clones(points, this);
    this.hostBranch = new HostBranch(engine.pool, this);
    this.turns = new Turns(this);
  }

  get roots(): readonly number[] {
    return this.machine ? rootsOf(this.machine) : [];
  }

  get frames(): readonly number[] {
    return [];
  }

  step(): boolean {
    return this.turns.step();
  }

  abandon(): void {
    this.turns.end();
    for (const file of this.files) file.close();
  }

  // --- Requests

  handle(request: Request): void {
    switch (request.type) {
      case 'call':
        return this.call(request.id, request.name, request.args);
      case 'cancel':
        return this.cancel(request.id);
      case 'console':
        return this.typed.type(this.machine, this.setup?.console, request);
      case 'input-end':
        this.typed.ended = true;
        return;
      case 'written':
        return this.recording.recorder?.written(request);
      case 'resize':
        return this.machine?.input({ kind: 'resize', columns: request.columns, rows: request.rows });
      case 'taken':
        return this.reports.taken(request.bytes);
      case 'input':
        return this.guest.input(request);
      case 'signal':
        return this.guest.with(request.id, (program) => program.signal(request.signal));
      case 'terminal':
        return this.guest.with(request.id, (program) => program.resize(request.rows, request.cols));
    }
  }

  private call<K extends CallName>(id: number, name: K, args: Calls[K][0]): void {
    try {
      const now = this.start(id, name, args as never);
      if (now !== LATER) this.callers.result(id, now);
    } catch (error) {
      this.callers.fail(id, error);
    }
  }

  /** The result of a call, or `LATER`. */
  private start(id: number, name: CallName, args: never): unknown {
    if (name === 'create') return this.create(args);
    if (name === 'arrive') return this.clones.arrive(args);
    if (name === 'dispose' || name === 'commit') this.reports.say({ type: 'writing', id });
    if (name === 'dispose') return this.dispose(args);
    const machine = this.made();
    switch (name) {
      case 'commit':
        return this.commit(machine);
      case 'takeOver':
        return this.hostBranch.takeOver(args);
      case 'decided':
        // It stands there, and is to.
        if (this.hostBranch.decided) return this.hostBranch.decided;
        break;
      case 'fork': {
        const { count, rehearsal } = args as Calls['fork'][0];
        if (!rehearsal) this.recording.mark('fork', count === 1 ? '' : `${count} times`);
        return this.clones.fork(machine, count);
      }
      case 'leave':
        return this.clones.leave(machine, args);
      case 'adopt':
        return this.clones.adopt(machine, args);
      case 'reset':
        return this.clones.reset(machine, args);
      case 'mergeDisk': {
        const { disk, base, theirs } = args as Calls['mergeDisk'][0];
        return this.recording.across('host', () => mergeDisk(machine, disk, base, theirs), {
          name: 'a disk was merged',
        });
      }
      case 'recordingInfo':
        return recordingInfo(machine, this.setup!);
      case 'physical':
        return physical(machine, args);
      case 'record':
        return this.recording.begin(machine, args);
      case 'mark':
        return this.recording.nameMoment((args as Calls['mark'][0]).name);
      case 'stopRecording':
        return this.recording.stop((args as Calls['stopRecording'][0]).why);
      case 'hear':
        return this.hints.hear((args as Calls['hear'][0]).heard);
      case 'answer':
        return this.hints.answer(machine, args);
      case 'debug':
        return this.debug(machine, id, args);
      case 'stateHash':
        return stateHash(machine);
      case 'stats':
        return { ...stats(machine), hostSeconds: this.turns.hostMs / 1000, panic: this.ending.panic };
      case 'signature':
        return signature(machine);
      case 'save':
        return {
          version: 2,
          console: this.setup!.console,
          reader: machine.platform.uart.reader,
          ...(this.turns.wallTime.epoch === undefined ? {} : { wallEpoch: this.turns.wallTime.epoch }),
          disks: machine.platform.backends.map(({ inner }) => stampDisk(inner)),
          machine: saveMachine(machine),
        };
      case 'setTime':
        this.setTime((args as Calls['setTime'][0]).time);
        return undefined;
      case 'pause':
        this.turns.paused = true;
        this.turns.free = false;
        return machine.position;
    }
    if (name === 'waits') return this.waitWatch?.proposals(machine) ?? { proposals: [] };
    if (name === 'watchWaits') {
      this.waitWatch = new WaitWatch(machine, args, this.setup!);
      return undefined;
    }
    if (name === 'complete') return this.complete(machine, id, args);
    if (name === 'resume') {
      this.turns.paused = false;
      return undefined;
    }
    if (machine.exit) {
      if (name === 'wait' || name === 'shutdown') return machine.exit;
      throw exitedError(machine.exit);
    }
    if (this.ending.panic !== undefined) throw this.ending.panicError;
    this.turns.paused = false;
    switch (name) {
      case 'run':
        this.turns.free = true;
        return undefined;
      case 'step':
        return this.wait({ id, name, until: machine.totalSteps + (args as Calls['step'][0]).steps });
      case 'runUntil': {
        const goal = args as Calls['runUntil'][0];
        if ('steps' in goal) {
          if (goal.steps < machine.totalSteps) {
            throw new BraidError('ERR_BRAID_POSITION', `the machine has made ${machine.totalSteps} steps already`);
          }
          return this.wait({ id, name, until: goal.steps });
        }
        if ('position' in goal) {
          if (comparePositions(goal.position, machine.position) < 0) {
            throw new BraidError('ERR_BRAID_POSITION', `the machine is at ${formatPosition(machine.position)} already`);
          }
          return this.wait({ id, name, position: goal.position });
        }
        return this.wait({ id, name, pattern: new TextWatch(goal.pattern) });
      }
      case 'wait':
        return this.wait({ id, name, ended: (exit) => exit, ...(args as Calls['wait'][0]) });
      case 'shutdown':
        this.guest.ask(machine, id, name, args);
        return this.wait({ id, name, ended: (exit) => exit });
      case 'reach':
        this.hostBranch.begin(machine, id, args);
        return this.wait({ id, name });
      case 'decided':
        return this.wait({ id, name });
      case 'spawn':
        return this.spawn(machine, id, args);
      default:
        this.guest.ask(machine, id, name, args);
        return this.wait({ id, name });
    }
  }

  private spawn(machine: Machine, id: number, args: Calls['spawn'][0]): unknown {
    const { argv, limit, ...request } = args;
    this.guest.ask(machine, id, 'spawn', { argv, ...request } as never);
    if (!limit) return this.wait({ id, name: 'spawn' });
    this.limits.set(id, limit);
    const exceeded = (found: Found) => {
      if (found.by !== 'steps' && found.by !== 'guestTime') return undefined;
      this.guest.cancel(id);
      return limitError(argv[0]!, found.by, limit);
    };
    return this.wait({ id, name: 'spawn', exceeded });
  }

  /** The guest has been asked for a program: its limit counts from the next boundary on, where the machine is the same in every run. */
  private limited(id: number): void {
    const limit = this.limits.get(id);
    if (!limit) return;
    this.limits.delete(id);
    this.callers.act(() => {
      if (this.machine) this.callers.waits.watch(id, new Watch(limit, this.machine));
    });
    this.machine?.interrupt();
  }

  private debug(machine: Machine, id: number, call: Calls['debug'][0]): unknown {
    const { debugging } = this;
    if ((call.op === 'resume' || call.op === 'detach') && debugging.takeChanged()) {
      this.recording.across('host', () => {}, { name: 'a debugger changed the machine' });
    }
    if (call.op !== 'resume') return debugging.do(machine, call);
    debugging.begin(id, call.how);
    if (machine.exit) return debugging.here;
    this.turns.paused = false;
    return this.wait({ id, name: 'debug', live: true, ended: () => debugging.here });
  }

  private complete(machine: Machine, id: number, args: Calls['complete'][0]): unknown {
    const { conditions, hold = false, standing = false } = args;
    const watch = new Watch(conditions, machine);
    const ended = (exit: Exit) => watch.reached(machine, this.ending.found(exit));
    if (machine.exit) return ended(machine.exit);
    if (this.ending.panic !== undefined) throw this.ending.panicError;
    this.turns.paused = standing;
    const { exited } = conditions;
    if (exited !== undefined && this.guest.isOver(exited) && watch.seeExit(exited)) machine.interrupt();
    return this.wait({ id, name: 'complete', watch, hold, ended });
  }

  private made(): Machine {
    if (!this.machine) throw new BraidError('ERR_BRAID_DISPOSED', 'the machine has been disposed of');
    return this.machine;
  }

  private create(setup: Setup): Made {
    const { boot: _, state: __, ...rest } = setup;
    const assembled = assemble(this.engine, setup, this.outputs);
    if (setup.time === 'wall') this.turns.wallTime.epoch = assembled.wallEpoch;
    return this.begin(assembled, rest);
  }

  begin({ machine, console, files, skipIdle, disks }: Assembled, setup: HostState['setup']): Made {
    this.machine = machine;
    this.files = files;
    this.turns.begin(machine, skipIdle);
    this.setup = { ...setup, console, disks };
    const { options, symbols } = machine;
    return {
      seed: options.seed,
      memory: options.memory,
      harts: options.harts,
      console,
      hasSignature: symbols.signature !== undefined,
      writesDisks: !this.clones.held.active && machine.platform.backends.some(({ readOnly }) => !readOnly),
    };
  }

  private setTime(time: TimeMode): void {
    if (time === this.setup!.time) return;
    this.setup = { ...this.setup!, time };
    this.turns.changePace();
    this.turns.wallTime.begin(undefined);
  }

  private dispose({ frozen }: Calls['dispose'][0]): Calls['dispose'][1] {
    const { machine } = this;
    this.recording.stop('the machine was disposed of');
    const left: LeftDisk[] = [];
    let failure: unknown;
    const attempt = (work: () => void) => {
      try {
        work();
      } catch (error) {
        failure = error;
      }
    };
    // What is in overlays goes to the images, or to their journals while others read the images.
    if (machine && !this.clones.held.active) attempt(() => (frozen ? flushDisks(machine) : commitDisks(machine)));
    for (const file of this.files) {
      attempt(() => {
        const lock = frozen ? file.handOver() : file.close();
        if (lock !== undefined) left.push({ path: file.path, lock });
      });
    }
    this.end(new BraidError('ERR_BRAID_DISPOSED', 'the machine has been disposed of'));
    machine?.free();
    if (failure) throw failure;
    return left;
  }

  private commit(machine: Machine): void {
    commitDisks(machine);
    thawDisks(machine);
  }

  // --- For the other parts

  /** There is no machine any more. */
  end(error: BraidError): void {
    this.turns.end();
    this.reports.flush();
    this.machine = undefined;
    this.files = [];
    this.failAll(error);
    this.host.gone();
  }

  requireFree(): void {
    if (this.hostBranch.underWay)
      throw new BraidError('ERR_BRAID_BRANCH', 'a branch of the host is under way in the machine');
    if (this.debugging.attached) throw new GdbError('a debugger is attached to the machine; have it detach first');
  }

  renewed(machine: Machine): void {
    this.debugging.interrupt();
    this.waitWatch?.renewed();
    this.turns.renewed(machine);
    this.ending.renew();
  }

  pause(): void {
    this.turns.paused = true;
  }

  halt(error: BraidError): void {
    this.pause();
    this.machine?.interrupt();
    this.failAll(error);
  }

  wake(): void {
    this.host.wake();
  }

  called(): boolean {
    return this.host.called();
  }

  // --- Waiting

  private wait(wait: Wait): typeof LATER {
    this.callers.waits.add(wait);
    this.ending.awaited();
    return LATER;
  }

  private cancel(id: number): void {
    this.callers.waits.delete(id);
    this.limits.delete(id);
    this.guest.cancel(id);
  }

  failAll(error: BraidError): void {
    this.callers.failAll(error);
    this.limits.clear();
    this.guest.clear();
  }

  // --- Output

  get outputs(): Outputs {
    const output = (bytes: Uint8Array) => this.output(bytes);
    return { console: output, terminal: output };
  }

  output(bytes: Uint8Array): void {
    const { machine, callers, recording } = this;
    const { held } = this.clones;
    if (held.active) held.add({ kind: 'console', bytes: bytes.slice(), time: this.made().now });
    if (machine) this.waitWatch?.output(machine, bytes);
    callers.seeConsole(bytes);
    if (recording.recorder?.console(bytes)) machine?.interrupt();
    this.reports.console(bytes);
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    this.ending.see(text, () => this.made().totalSteps);
  }

  programOutput(id: number, stream: 'stdout' | 'stderr', bytes: Uint8Array): void {
    if (!this.callers.waiting(id)) return;
    this.callers.see((watch) => watch.seeOutput(id, bytes));
    this.reports.output(id, stream, bytes);
  }
}

function limitError(program: string, by: 'steps' | 'guestTime', { steps, guestTime }: ExecLimit): BraidError {
  const why =
    by === 'steps'
      ? `${program} has made more than ${steps} steps; give maxSteps to allow more`
      : `${program} has taken more than ${guestTime} ns of guest time; give maxGuestTime to allow more`;
  return new BraidError('ERR_BRAID_EXEC_LIMIT', why, { kind: by });
}

const LATER = Symbol('later');

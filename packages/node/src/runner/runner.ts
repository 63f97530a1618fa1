/**
 * A machine in its worker: the core's machine, when it runs, and who waits for what.
 *
 * The machine runs while somebody waits for it (a program, a file, a goal), or after `run` until `pause`; otherwise it stands
 * still, exactly where the last wait ended. So in virtual time a sequence of calls, each made after the one before has been
 * answered, takes the machine through the same positions every time, however the host's time goes.
 *
 * Three rules make that so. The agent is spoken to at slice boundaries only. What a callback of the guest completes is answered
 * at the following boundary, where the machine stops if nobody else waits. And the host's messages, which come at any time,
 * are looked at between runs of a few milliseconds, whose lengths change nothing that the guest can see.
 */

import type { ExecHandle, ExecHandlers } from '@braid/core/agent/client.ts';
import { AgentError } from '@braid/core/agent/errors.ts';
import {
  becomeForkPoint,
  type ForkPoint,
  forkPoint,
  freeForkPoint,
  identify,
  rootsOf,
  shareForkPoint,
} from '@braid/core/branch/fork-point.ts';
import { mergeDisk } from '@braid/core/branch/merge-disk.ts';
import type { Refusal, Taken } from '@braid/core/branch/take-over.ts';
import type { Engine } from '@braid/core/engine/engine.ts';
import { GdbError } from '@braid/core/gdb/errors.ts';
import { stateHash } from '@braid/core/machine/hash.ts';
import { comparePositions, formatPosition, type Position } from '@braid/core/machine/log.ts';
import type { Machine, Outputs } from '@braid/core/machine/machine.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { saveMachine } from '@braid/core/machine/save.ts';
import { commitDisks, flushDisks, thawDisks } from '../disk/overlays.ts';
import { agentErrorOf, BraidError, type ErrorRecord, fromRecord, toRecord } from '../errors.ts';
import {
  type CallName,
  type Calls,
  type Departed,
  type Held,
  type HostState,
  type LeftDisk,
  type Made,
  type Request,
  type Setup,
  UNKNOWN_POINT,
} from '../pool/protocol.ts';
import type { DiskFile } from './assemble.ts';
import { type Assembled, assemble, MAIN_PORT, reassemble } from './assemble.ts';
import { type Found, Watch } from './conditions.ts';
import { DebugSession } from './debug-session.ts';
import { DecisionWatch } from './decision-watch.ts';
import { GuestCalls } from './guest-calls.ts';
import { HintPost } from './hint-post.ts';
import { RunLength, WallTime } from './pace.ts';
import { PanicWatch } from './panic.ts';
import { Recorder } from './recorder.ts';
import { Reports } from './reports.ts';
import { physical, signature, stats } from './results.ts';
import type { Runner, RunnerHost } from './thread.ts';
import { WaitWatch } from './wait-watch.ts';
import { type Wait, Waits } from './waits.ts';

/** Events kept while nobody records: a machine that runs for days must not fill the memory. */
const LOG_LIMIT = 65_536;
/** Typed input that waits for the guest before the next is asked for. */
const INPUT_AHEAD = 64 * 1024;
/** Steps that a kernel gets to say why it panicked. */
const PANIC_STEPS = 5_000_000n;
/** What a clone may send outside before it is adopted. */
const HELD_LIMIT = 64 * 2 ** 20;

export class MachineRunner implements Runner {
  private readonly engine: Engine;
  private readonly host: RunnerHost;
  private readonly reports: Reports;
  private readonly points: Map<number, ForkPoint>;
  private machine: Machine | undefined;
  private setup: HostState['setup'] | undefined;
  private files: readonly DiskFile[] = [];

  private readonly waits = new Waits();
  private waitWatch: WaitWatch | undefined;
  private readonly guest: GuestCalls;
  private readonly hints: HintPost;
  private readonly debugging = new DebugSession({
    waiting: (id) => this.waits.has(id),
    answer: (id, stop) => {
      this.waits.delete(id);
      this.result(id, stop);
    },
  });
  /** A branch chosen by the host, and the call that waits for its fork point. */
  private decision: { readonly watch: DecisionWatch; readonly reach: number } | undefined;
  /** To be done at the next slice boundary. */
  private actions: (() => void)[] = [];
  /** Answers that wait for the next slice boundary. */
  private answers: (() => void)[] = [];
  private free = false;
  private inputEnded = false;
  private paused = false;
  private readonly panic = new PanicWatch();
  private recorder: Recorder | undefined;
  /** What a clone holds back. */
  private held: Held[] | undefined;
  private before: HostState['before'] = [];
  private heldBytes = 0;
  private exitReported = false;
  /** After a panic, the steps at which the kernel has had its say. */
  private panicEnd: bigint | undefined;
  private consoleWrites: number[] = [];
  private haltReported = false;

  private timer: NodeJS.Timeout | undefined;
  private stalled = false;
  private runLength = new RunLength();
  private readonly wallTime = new WallTime();
  private hostMs = 0;
  /** What the machine was last told. */
  private skipIdle: boolean | undefined;

  /** `points`: fork points of the worker, by their numbers. */
  constructor(engine: Engine, points: Map<number, ForkPoint>, host: RunnerHost) {
    this.engine = engine;
    this.points = points;
    this.host = host;
    this.reports = new Reports(host);
    this.hints = new HintPost((hint) => this.reports.say({ type: 'hint', hint }));
    this.guest = new GuestCalls({
      act: (action) => this.actions.push(action),
      answer: (id, value) => this.answer(id, value),
      waiting: (id) => this.waits.has(id),
      output: (id, stream, bytes) => this.programOutput(id, stream, bytes),
      exited: (id, exit) => {
        this.recorder?.mark('exit', exit);
        this.see((watch) => watch.seeExit(id));
      },
    });
  }

  private programOutput(id: number, stream: 'stdout' | 'stderr', bytes: Uint8Array): void {
    if (!this.waits.has(id)) return;
    this.see((watch) => watch.seeOutput(id, bytes));
    this.reports.output(id, stream, bytes);
  }

  /** Shows something to those who wait for it; they look where the slice ends. */
  private see(show: (watch: Watch) => boolean): void {
    for (const { watch } of this.waits.watched) if (show(watch)) this.machine?.interrupt();
  }

  /** Takes a request. The machine goes on with `step`. */
  handle(request: Request): void {
    switch (request.type) {
      case 'call':
        return this.call(request.id, request.name, request.args);
      case 'cancel':
        return this.cancel(request.id);
      case 'console': {
        const { bytes } = request;
        const serial = this.setup?.console === 'serial';
        this.machine?.input(serial ? { kind: 'console', bytes } : { kind: 'port', port: MAIN_PORT, bytes });
        this.consoleWrites.push(request.reply);
        return this.acknowledgeConsole();
      }
      case 'input-end':
        this.inputEnded = true;
        return;
      case 'written':
        return this.recorder?.written(request);
      case 'resize':
        return this.machine?.input({ kind: 'resize', columns: request.columns, rows: request.rows });
      case 'taken':
        return this.reports.taken(request.bytes);
      case 'input': {
        const done = (outcome: unknown) =>
          this.answer(request.reply, () => (outcome instanceof AgentError ? outcome : undefined));
        const act = (program: ExecHandle) => {
          if (request.bytes) program.write(request.bytes, done);
          else program.end(done);
        };
        return this.guest.with(request.id, act, done);
      }
      case 'signal':
        return this.guest.with(request.id, (program) => program.signal(request.signal));
      case 'terminal':
        return this.guest.with(request.id, (program) => program.resize(request.rows, request.cols));
    }
  }

  /** Typed input is acknowledged when the guest has taken most of it: a bound on what waits here. */
  private acknowledgeConsole(): void {
    if (this.consoleWrites.length === 0 || (this.machine && this.machine.backlog > INPUT_AHEAD)) return;
    for (const id of this.consoleWrites.splice(0)) this.reports.result(id, undefined);
  }

  private call<K extends CallName>(id: number, name: K, args: Calls[K][0]): void {
    try {
      const now = this.start(id, name, args as never);
      if (now !== LATER) this.result(id, now);
    } catch (error) {
      this.fail(id, error);
    }
  }

  /** The result of a call, or `LATER`. */
  private start(id: number, name: CallName, args: never): unknown {
    if (name === 'create') return this.create(args);
    if (name === 'arrive') return this.arrive(args);
    if (name === 'dispose') return this.dispose(args);
    const machine = this.made();
    switch (name) {
      case 'commit':
        return this.commit(machine);
      case 'takeOver':
        return this.takeOver(args);
      case 'decided':
        // It stands there, and is to.
        if (this.decision?.watch.end) return this.decision.watch.end;
        break;
      case 'fork':
        return this.fork(machine, args);
      case 'leave':
        return this.leave(machine, args);
      case 'adopt':
        return this.adopt(machine, args);
      case 'reset':
        return this.reset(machine, args);
      case 'mergeDisk': {
        const { disk, base, theirs } = args as Calls['mergeDisk'][0];
        this.recorder?.flush();
        const merged = mergeDisk(machine, disk, base, theirs);
        this.recorder?.replaced('host', 'a disk was merged');
        return merged;
      }
      case 'recordingInfo':
        return this.recordingInfo(machine);
      case 'physical':
        return physical(machine, args);
      case 'record':
        return this.record(machine, args);
      case 'mark':
        if (!this.recorder) throw new BraidError('ERR_BRAID_OPTION', 'the machine is not being recorded');
        this.recorder.mark('host', (args as Calls['mark'][0]).name);
        return this.recorder.at;
      case 'stopRecording':
        return this.stopRecording((args as Calls['stopRecording'][0]).why);
      case 'hear':
        return this.hints.hear((args as Calls['hear'][0]).heard);
      case 'answer':
        return this.hints.answer(machine, args);
      case 'debug':
        return this.debug(machine, id, args);
      case 'stateHash':
        return stateHash(machine);
      case 'stats':
        return { ...stats(machine), hostSeconds: this.hostMs / 1000, panic: this.panic.message };
      case 'signature':
        return signature(machine);
      case 'save':
        return { version: 1, console: this.setup!.console, machine: saveMachine(machine) };
      case 'setTime':
        this.setup = { ...this.setup!, time: (args as Calls['setTime'][0]).time };
        this.runLength = new RunLength();
        return undefined;
      case 'pause':
        this.paused = true;
        this.free = false;
        return machine.position;
    }
    if (name === 'waits') return this.waitWatch?.proposals(machine) ?? { proposals: [] };
    if (name === 'watchWaits') {
      this.waitWatch = new WaitWatch(machine, args, this.setup!);
      return undefined;
    }
    if (name === 'complete') return this.complete(machine, id, args);
    if (name === 'resume') {
      this.paused = false;
      return undefined;
    }
    if (machine.exit) {
      if (name === 'wait' || name === 'shutdown') return machine.exit;
      throw this.exitedError(machine.exit);
    }
    if (this.panic.message !== undefined) throw this.panicError();
    this.paused = false;
    switch (name) {
      case 'run':
        this.free = true;
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
        return this.wait({ id, name, pattern: { expression: goal.pattern, text: '' } });
      }
      case 'wait':
        return this.wait({ id, name, ended: (exit) => exit, ...(args as Calls['wait'][0]) });
      case 'shutdown':
        this.guest.ask(machine, id, name, args);
        return this.wait({ id, name, ended: (exit) => exit });
      case 'reach':
        return this.reach(machine, id, args);
      case 'decided':
        return this.wait({ id, name });
      default:
        this.guest.ask(machine, id, name, args);
        return this.wait({ id, name });
    }
  }

  private debug(machine: Machine, id: number, call: Calls['debug'][0]): unknown {
    const { debugging } = this;
    if ((call.op === 'resume' || call.op === 'detach') && debugging.takeChanged()) {
      this.recorder?.flush();
      this.recorder?.replaced('host', 'a debugger changed the machine');
    }
    if (call.op !== 'resume') return debugging.do(machine, call);
    debugging.begin(id, call.how);
    if (machine.exit) return debugging.here;
    this.paused = false;
    return this.wait({ id, name: 'debug', live: true, ended: () => debugging.here });
  }

  private complete(machine: Machine, id: number, args: Calls['complete'][0]): unknown {
    const { conditions, hold = false, standing = false } = args;
    const watch = new Watch(conditions, machine);
    const ended = (exit: Exit) => watch.reached(machine, this.endOf(exit));
    if (machine.exit) return ended(machine.exit);
    if (this.panic.message !== undefined) throw this.panicError();
    this.paused = standing;
    const { exited } = conditions;
    if (exited !== undefined && this.guest.isOver(exited) && watch.seeExit(exited)) machine.interrupt();
    return this.wait({ id, name: 'complete', watch, hold, ended });
  }

  private endOf(exit: Exit): Found {
    const { message } = this.panic;
    return message === undefined ? { by: 'exit', exit } : { by: 'panic', message };
  }

  /** Ends waits whose conditions hold, as `look` finds. */
  private endWatched(machine: Machine, look: (watch: Watch) => Found | undefined): boolean {
    let some = false;
    for (const { id, watch, hold } of this.waits.watched) {
      const found = look(watch);
      if (!found) continue;
      some = true;
      this.waits.delete(id);
      if (hold) this.paused = true;
      this.result(id, watch.reached(machine, found));
    }
    return some;
  }

  private made(): Machine {
    if (!this.machine) throw new BraidError('ERR_BRAID_DISPOSED', 'the machine has been disposed of');
    return this.machine;
  }

  private create(setup: Setup): Made {
    const { boot: _, state: __, ...rest } = setup;
    return this.begin(assemble(this.engine, setup, this.outputs), rest);
  }

  private get outputs(): Outputs {
    const output = (bytes: Uint8Array) => this.output(bytes);
    return { console: output, terminal: output };
  }

  private begin({ machine, console, files, skipIdle, disks }: Assembled, setup: HostState['setup']): Made {
    this.machine = machine;
    this.files = files;
    this.skipIdle = skipIdle;
    this.runLength = new RunLength();
    this.setup = { ...setup, console, disks };
    const { options, symbols } = machine;
    return {
      seed: options.seed,
      memory: options.memory,
      harts: options.harts,
      console,
      hasSignature: symbols.signature !== undefined,
      writesDisks: !this.held && machine.platform.backends.some(({ readOnly }) => !readOnly),
    };
  }

  private dispose({ frozen }: Calls['dispose'][0]): Calls['dispose'][1] {
    const { machine } = this;
    this.stopRecording('the machine was disposed of');
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
    if (machine && !this.held) attempt(() => (frozen ? flushDisks(machine) : commitDisks(machine)));
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

  // --- Recording

  private record(machine: Machine, options: Calls['record'][0]): undefined {
    if (this.recorder) throw new BraidError('ERR_BRAID_OPTION', 'the machine is being recorded already');
    this.recorder = new Recorder(machine, options, (item) => this.host.report({ type: 'recorded', item }));
    return undefined;
  }

  private stopRecording(why: string): undefined {
    this.recorder?.stop(why);
    this.recorder = undefined;
    return undefined;
  }

  private recordingInfo(machine: Machine): Calls['recordingInfo'][1] {
    const { options, platform } = machine;
    const { console, time, disks, epoch } = this.setup!;
    return {
      console,
      time,
      epoch,
      memory: options.memory,
      harts: options.harts,
      seed: options.seed,
      disks: platform.backends.map(({ size, readOnly }, n) => {
        const source = disks[n]!;
        return { size, readOnly, name: 'path' in source ? source.path : `disk ${n}` };
      }),
    };
  }

  private commit(machine: Machine): void {
    commitDisks(machine);
    thawDisks(machine);
  }

  /** There is no machine any more. */
  private end(error: BraidError): void {
    clearTimeout(this.timer);
    this.reports.flush();
    this.machine = undefined;
    this.files = [];
    this.failAll(error);
    this.host.gone();
  }

  // --- Forks

  get roots(): readonly number[] {
    return this.machine ? rootsOf(this.machine) : [];
  }

  get frames(): readonly number[] {
    return [];
  }

  private hostState(locks: HostState['locks'] = []): HostState {
    const { inputEnded, held, before } = this;
    const hints = this.hints.state;
    return { setup: this.setup!, inputEnded, panic: this.panic.message, held, before, locks, hints };
  }

  private fork(machine: Machine, { count }: Calls['fork'][0]): Calls['fork'][1] {
    const points: (ForkPoint | ErrorRecord)[] = [];
    for (let n = 0; n < count; n++) {
      try {
        const first = points[0];
        points.push(first && 'ram' in first ? shareForkPoint(this.engine.pool, first) : forkPoint(machine));
      } catch (error) {
        points.push(toRecord(error));
      }
    }
    const before = this.held ? [...this.before, [...this.held]] : [];
    return { points, host: { ...this.hostState(), held: undefined, before } };
  }

  /** Makes the machine from a fork point: a clone, or the machine that was somewhere else before. */
  private arrive({ point, host, inputs, clone, seed, mac, connected }: Calls['arrive'][0]): Made {
    this.held = clone ? [] : host.held && [...host.held];
    this.before = host.before;
    this.inputEnded = host.inputEnded;
    this.panic.message = host.panic;
    // Of a hint that a clone's parent waits with, the clone has heard nothing.
    this.hints.state = clone ? { heard: false, pending: undefined } : host.hints;
    const handlersOf = (key: string) => this.inherited(clone ? key : key.slice(1));
    const options = { clone: this.held !== undefined, locks: host.locks, handlersOf };
    const assembled = reassemble(this.engine, host.setup, point, this.outputs, options);
    const { machine } = assembled;
    if (clone) {
      const own = { ...(seed === undefined ? {} : { seed }), ...(mac === undefined ? {} : { mac }) };
      identify(machine, connected === undefined ? own : { ...own, connected });
    }
    for (const input of inputs) machine.input(input);
    this.exitReported = machine.exit !== undefined;
    return this.begin(assembled, host.setup);
  }

  /** Handlers for a program of the parent, by its name there: what it says is held back. Only a clone has such programs. */
  private inherited(key: string): ExecHandlers | undefined {
    if (!this.held) return undefined;
    return {
      key: `^${key}`,
      attached: (handle) => this.guest.inherit(key, handle),
      output: (stream, bytes) => {
        this.see((watch) => watch.seeOutput(key, bytes));
        this.hold({ kind: 'output', key, stream, bytes: bytes.slice() }, bytes.length);
      },
      exit: (outcome) => {
        this.guest.disinherit(key);
        this.see((watch) => watch.seeExit(key));
        const record = outcome instanceof AgentError ? toRecord(outcome) : outcome;
        this.hold({ kind: 'exit', key, outcome: record, at: this.made().totalSteps }, 0);
      },
    };
  }

  private hold(item: Held, bytes: number): void {
    this.held!.push(item);
    this.heldBytes += bytes;
    if (this.heldBytes <= HELD_LIMIT) return;
    this.paused = true;
    this.machine?.interrupt();
    const why = `the clone has sent more than ${HELD_LIMIT} bytes outside; adopt it sooner, or have it say less`;
    this.failAll(new BraidError('ERR_BRAID_HELD', why));
  }

  private leave(machine: Machine, args: Calls['leave'][0]): Departed {
    if (this.decision) throw new BraidError('ERR_BRAID_BRANCH', 'a branch of the host is under way in the machine');
    if (this.debugging.attached) throw new GdbError('a debugger is attached to the machine; have it detach first');
    this.stopRecording('the machine was adopted by its parent');
    const point = forkPoint(machine);
    const events = args.for === 'adopt' ? machine.log.events : [];
    const files = this.files.values();
    const locks = this.setup!.disks.map((disk) => ('bytes' in disk ? undefined : files.next().value?.handOver()));
    const departed = { point, host: this.hostState(locks), inputs: machine.takeInputs(), events };
    const why =
      args.for === 'move' ? 'the machine has moved' : 'the machine has been adopted by its parent, and lives on there';
    this.end(new BraidError('ERR_BRAID_ADOPTED', why));
    machine.free();
    return departed;
  }

  private adopt(machine: Machine, { point, ...clone }: Calls['adopt'][0]): Position {
    const { waitWatch } = this;
    waitWatch?.starts(performance.now());
    waitWatch?.adopted(machine, clone.held, clone.events);
    // It has seen the outputs already.
    this.waitWatch = undefined;
    const prefix = '^'.repeat(clone.levels);
    const handlersOf = (key: string) =>
      key.startsWith(prefix) ? this.handlersOf(machine, key.slice(clone.levels)) : undefined;
    try {
      this.recorder?.flush();
      this.become(machine, point, { keepInput: true, handlersOf }, clone);
      this.recorder?.replaced('adopt');
    } finally {
      freeForkPoint(this.engine.pool, point);
      waitWatch?.renewed();
      this.waitWatch = waitWatch;
    }
    return machine.position;
  }

  private reset(machine: Machine, { id, point }: Calls['reset'][0]): Position {
    if (point) this.points.set(id, point);
    const known = this.points.get(id);
    if (!known) throw new BraidError(UNKNOWN_POINT, 'the thread does not know the fork point');
    this.recorder?.flush();
    this.become(machine, known, { handlersOf: (key) => this.handlersOf(machine, key) });
    this.recorder?.replaced('reset');
    return machine.position;
  }

  /** A program by the name that it has here: one that somebody here has started, or the parent. */
  private handlersOf(machine: Machine, key: string): ExecHandlers | undefined {
    return key.startsWith('^') ? this.inherited(key.slice(1)) : this.guest.handlersOf(machine, key);
  }

  private become(
    machine: Machine,
    point: ForkPoint,
    options: NonNullable<Parameters<typeof becomeForkPoint>[2]>,
    clone?: Omit<Calls['adopt'][0], 'point'>,
  ): void {
    const handles = becomeForkPoint(machine, point, options);
    this.debugging.interrupt();
    this.waitWatch?.renewed();
    // What the clone was about to hear comes first: the answer to a hint is one of it.
    for (const input of [...(clone?.inputs ?? []), ...machine.takeInputs()]) machine.input(input);
    this.skipIdle = machine.skipIdle;
    this.exitReported = false;
    this.haltReported = false;
    this.panicEnd = undefined;
    this.hints.become(clone?.hint);
    for (const item of clone?.held ?? []) this.sendOn(item);
    this.guest.reattach(handles);
    // What has happened in the clone has happened: its answers wait for no boundary.
    for (const answer of this.answers.splice(0)) answer();
    // What was to be said to the agent of before is said to nobody.
    this.host.wake();
  }

  /** Sends on what a clone of ours has held back. */
  private sendOn(item: Held): void {
    if (item.kind === 'console') return this.output(item.bytes);
    const { key } = item;
    if (key.startsWith('^')) return this.hold({ ...item, key: key.slice(1) }, 'bytes' in item ? item.bytes.length : 0);
    if (item.kind === 'output') this.programOutput(Number(key), item.stream, item.bytes);
    else this.guest.exited(Number(key), 'message' in item.outcome ? agentErrorOf(item.outcome) : item.outcome, item.at);
  }

  // --- Branches chosen by the host

  private reach(machine: Machine, id: number, { decision, satp }: Calls['reach'][0]): typeof LATER {
    if (this.decision)
      throw new BraidError('ERR_BRAID_BRANCH', 'the machine has a branch of the host under way; await its end');
    this.decision = { watch: new DecisionWatch(machine, decision, satp), reach: id };
    return this.wait({ id, name: 'reach' });
  }

  /** The machine stands at a breakpoint. */
  private atBreakpoint(machine: Machine, hart: number, ids: readonly number[]): void {
    const { decision } = this;
    const hit = decision?.watch.hit(hart, ids);
    if (!decision || !hit) return;
    if ('outcome' in hit) {
      // It stands here, whoever else waits for it, until somebody has it run on.
      this.paused = true;
      for (const { id } of this.waits.takeNamed('decided')) this.result(id, hit);
      return;
    }
    const { points, host } = this.fork(machine, { count: 2 });
    const failure = points.find((point) => 'code' in point);
    this.waits.delete(decision.reach);
    if (!failure) return this.result(decision.reach, { activation: hit, points, host });
    for (const point of points) if ('ram' in point) freeForkPoint(this.engine.pool, point);
    this.fail(decision.reach, fromRecord(failure));
  }

  private takeOver({ result, stackBottom }: Calls['takeOver'][0]): Calls['takeOver'][1] {
    const { decision } = this;
    this.decision = undefined;
    if (!decision) return { reason: 'unfinished' };
    decision.watch.stop();
    this.recorder?.flush();
    const taken: Taken | Refusal = result ? decision.watch.takeOver(result, stackBottom) : { reason: 'unfinished' };
    if (!('reason' in taken)) this.recorder?.replaced('takeover');
    return taken;
  }

  // --- Waiting

  private wait(wait: Wait): typeof LATER {
    this.waits.add(wait);
    this.haltReported = false;
    return LATER;
  }

  /** From a callback: the answer goes out at the next boundary; that of an agent may be an error. */
  private answer(id: number, value: () => unknown): void {
    this.answers.push(() => {
      this.waits.delete(id);
      const outcome = value();
      if (outcome instanceof AgentError) this.fail(id, outcome);
      else this.result(id, outcome);
    });
    this.machine?.interrupt();
  }

  private cancel(id: number): void {
    this.waits.delete(id);
    this.guest.cancel(id);
  }

  private result(id: number, value: unknown): void {
    this.reports.result(id, value);
  }

  private fail(id: number, error: unknown): void {
    this.reports.error(id, error);
  }

  private failAll(error: BraidError): void {
    for (const { id } of this.waits.takeAll()) this.fail(id, error);
    this.guest.clear();
  }

  private reportPanic(): void {
    this.reports.say({ type: 'panic', message: this.panic.message! });
  }

  private exitedError(exit: Exit): BraidError {
    const how = {
      poweroff: 'it was powered off',
      reboot: 'it asked for a reboot',
      fail: 'it reported a failure',
      tohost: 'its program ended',
    };
    return new BraidError('ERR_BRAID_EXITED', `the machine is over: ${how[exit.kind]} (code ${exit.code})`, { exit });
  }

  private panicError(): BraidError {
    return new BraidError('ERR_BRAID_PANIC', `the guest's kernel panicked: ${this.panic.message}`);
  }

  // --- Output

  private output(bytes: Uint8Array): void {
    const { machine } = this;
    if (this.held) this.hold({ kind: 'console', bytes: bytes.slice(), time: this.made().now }, bytes.length);
    if (machine) this.waitWatch?.output(machine, bytes);
    this.see((watch) => watch.seeConsole(bytes));
    this.reports.console(bytes);
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    for (const id of this.waits.see(text)) this.answer(id, () => this.machine?.position);
    this.recorder?.console(text);
    if (!this.panic.see(text)) return;
    this.recorder?.mark('panic', this.panic.message!);
    this.panicEnd = this.made().totalSteps + PANIC_STEPS;
  }

  // --- Running

  /** A turn of the machine; false when it has no reason for another: it waits for messages, a timer, or the host's data. */
  step(): boolean {
    clearTimeout(this.timer);
    this.timer = undefined;
    try {
      const more = this.turn();
      if (!more) this.recorder?.flush();
      return more;
    } catch (error) {
      this.reports.flush();
      this.paused = true;
      this.free = false;
      const { code, message, kind } = toRecord(error);
      this.failAll(new BraidError(code, message, { cause: error, ...(kind === undefined ? {} : { kind }) }));
      if (!(error as Partial<BraidError>).code) throw error;
      return false;
    } finally {
      this.reports.flush();
    }
  }

  /** One run of the machine, or what has to happen instead; false when there is nothing to do now. */
  private turn(): boolean {
    const { machine } = this;
    if (!machine || this.stalled) return false;
    if (machine.exit) return this.ended(machine.exit);
    if (machine.schedule.atBoundary && this.atBoundary()) return true;
    this.reachGoals(machine);
    const inSlice = !machine.schedule.atBoundary && (this.actions.length > 0 || this.answers.length > 0);
    const wanted = this.free || this.waits.size > 0 || inSlice;
    const held = this.paused || this.debugging.standing || this.hints.waiting;
    if (!wanted || held || this.reports.behind || this.recorder?.behind) {
      this.wallTime.stop();
      return false;
    }
    if (inSlice) machine.interrupt();
    this.chooseIdle(machine);
    const watched = this.waits.watched;
    machine.mayJump =
      watched.length === 0 ? undefined : (until) => watched.every(({ watch }) => !watch.idle(machine, until));
    if (this.setup!.time === 'wall' && !this.wallTime.keepPace(machine)) {
      this.sleep(machine.now);
      return false;
    }
    return this.run(machine);
  }

  /** Does what has to be done between slices; true when there was something. */
  private atBoundary(): boolean {
    if (this.answers.length === 0 && this.actions.length === 0) return false;
    for (const answer of this.answers.splice(0)) answer();
    for (const action of this.actions.splice(0)) action();
    return true;
  }

  private run(machine: Machine): boolean {
    const limit = this.stepLimit(machine);
    const before = machine.totalSteps;
    const from = performance.now();
    const { runLength } = this;
    const most = limit !== undefined && limit < BigInt(runLength.steps) ? Number(limit) : runLength.steps;
    const steps = this.debugging.limit(most);
    this.waitWatch?.starts(from);
    this.recorder?.beforeRun();
    const stop = machine.run(steps);
    const spent = performance.now() - from;
    this.hostMs += spent;
    if (stop.reason === 'steps' && steps === runLength.steps) {
      runLength.learn(Number(machine.totalSteps - before), spent);
    }
    const { log } = machine;
    this.waitWatch?.stops(machine, from + spent);
    this.recorder?.afterRun(spent);
    if (log.events.length > LOG_LIMIT) {
      this.recorder?.logDropped();
      log.events.length = 0;
    }
    this.wallTime.ran(machine, stop.reason === 'idle');
    this.acknowledgeConsole();
    this.reports.flush();
    this.debugging.ran(stop);
    switch (stop.reason) {
      case 'hint': {
        const { hint } = stop;
        if (hint.kind === 'mark') this.recorder?.mark('guest', hint.name);
        if (hint.kind === 'done') this.endWatched(machine, (watch) => watch.hint(hint.status));
        this.hints.take(machine, hint);
        return true;
      }
      case 'breakpoint':
        this.atBreakpoint(machine, stop.hart, stop.ids);
        return true;
      case 'stalled':
        this.stalled = true;
        stop.until.finally(() => {
          this.stalled = false;
          this.host.wake();
        });
        return false;
      case 'idle':
        return this.idle(machine, stop.until);
      default:
        return true;
    }
  }

  /** Every hart waits. Sleeps until something is due, or for ever; true to go on at once. */
  private idle(machine: Machine, until: bigint | undefined): boolean {
    if (this.atBoundary()) return true;
    if (this.endWatched(machine, (watch) => watch.holds(machine) ?? watch.idle(machine, until))) return true;
    if (until === undefined && machine.backlog === 0) {
      const live = this.free || (!this.inputEnded && this.waits.live);
      if (!this.haltReported) {
        this.haltReported = true;
        this.reports.say({ type: 'halt' });
      }
      if (!live) {
        this.failAll(
          new BraidError(
            'ERR_BRAID_HALTED',
            'the machine has halted: every hart waits, and nothing can wake one any more',
          ),
        );
      }
      return false;
    }
    if (this.setup!.time === 'virtual' || until === undefined) return false;
    if (this.wallTime.jump(machine, until)) return true;
    this.sleep(until);
    return false;
  }

  private ended(exit: Exit): boolean {
    if (!this.exitReported) {
      this.exitReported = true;
      this.recorder?.mark('exit', exit.kind);
      if (this.panic.message !== undefined) this.reportPanic();
      // A machine that is powered off has what it wrote on the medium, or in a journal while clones read the images.
      if (!this.held) flushDisks(this.made());
      this.reports.say({ type: 'exit', exit });
    }
    for (const answer of this.answers.splice(0)) answer();
    for (const { id, ended } of this.waits.takeEnded()) this.result(id, ended?.(exit));
    this.failAll(this.panic.message === undefined ? this.exitedError(exit) : this.panicError());
    // What was still to be said to the agent: nobody listens.
    for (const action of this.actions.splice(0)) action();
    return false;
  }

  /** Ends the waits whose goal is where the machine stands. */
  private reachGoals(machine: Machine): void {
    const total = machine.totalSteps;
    const { maxSteps } = this.setup!;
    for (const { id } of this.waits.takeReached(machine)) this.result(id, machine.position);
    if (!this.paused) this.endWatched(machine, (watch) => watch.holds(machine));
    if (this.panicEnd !== undefined && total >= this.panicEnd && !this.paused) {
      this.paused = true;
      this.reportPanic();
      this.endWatched(machine, () => ({ by: 'panic', message: this.panic.message! }));
      this.failAll(this.panicError());
    }
    if (maxSteps !== undefined && total >= maxSteps) {
      this.free = false;
      for (const answer of this.answers.splice(0)) answer();
      this.actions = [];
      this.failAll(
        new BraidError('ERR_BRAID_MAX_STEPS', `the machine has made the ${maxSteps} steps that it was allowed`),
      );
    }
  }

  /** How many steps the next run may make. */
  private stepLimit(machine: Machine): bigint | undefined {
    const ends = [this.setup!.maxSteps, this.panicEnd, this.waits.stepLimit(machine)].filter(
      (end) => end !== undefined,
    );
    if (ends.length === 0) return undefined;
    return ends.reduce((first, end) => (end < first ? end : first)) - machine.totalSteps;
  }

  /** Idle gaps are jumped over while somebody waits, in virtual time. */
  private chooseIdle(machine: Machine): void {
    const on = this.setup!.time === 'virtual' && this.waits.active;
    if (on === this.skipIdle) return;
    this.skipIdle = on;
    machine.input({ kind: 'skip-idle', on });
  }

  /** Until the host's clock reaches a guest time. */
  private sleep(until: bigint): void {
    this.timer = setTimeout(() => this.host.wake(), this.wallTime.delay(until));
  }
}

const LATER = Symbol('later');

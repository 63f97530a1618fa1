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

import type { ExecHandle } from '@braid/core/agent/client.ts';
import { AgentError } from '@braid/core/agent/errors.ts';
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
import { BraidError, toRecord } from '../errors.ts';
import type { CallName, Calls, HostState, LeftDisk, Made, Request, Setup } from '../pool/protocol.ts';
import { type Assembled, assemble, type DiskFile } from './assemble.ts';
import { Callers } from './callers.ts';
import { Clones, type ClonesHost } from './clones.ts';
import { type Found, Watch } from './conditions.ts';
import { DebugSession } from './debug-session.ts';
import { Ending, exitedError } from './ending.ts';
import { GuestCalls } from './guest-calls.ts';
import { HintPost } from './hint-post.ts';
import { HostBranch, type HostBranchHost } from './host-branch.ts';
import { RunLength, WallTime } from './pace.ts';
import { Recording, recordingInfo } from './recording.ts';
import { Reports } from './reports.ts';
import { physical, signature, stats } from './results.ts';
import type { Runner, RunnerHost } from './thread.ts';
import { TypedInput } from './typed-input.ts';
import { WaitWatch } from './wait-watch.ts';
import type { Wait } from './waits.ts';

/** Events kept while nobody records: a machine that runs for days must not fill the memory. */
const LOG_LIMIT = 65_536;

export class MachineRunner implements Runner, ClonesHost, HostBranchHost {
  readonly engine: Engine;
  machine: Machine | undefined;
  setup: HostState['setup'] | undefined;
  files: readonly DiskFile[] = [];
  private readonly host: RunnerHost;
  private readonly reports: Reports;
  readonly callers: Callers;
  readonly ending: Ending;
  readonly recording: Recording;
  readonly typed: TypedInput;
  readonly guest: GuestCalls;
  readonly hints: HintPost;
  private readonly clones: Clones;
  private readonly hostBranch: HostBranch;
  private readonly debugging: DebugSession;
  waitWatch: WaitWatch | undefined;

  /** It runs whether anybody waits or not. */
  private free = false;
  /** It stands still whoever waits. */
  private paused = false;
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
    this.host = host;
    const reports = new Reports(host);
    const callers = new Callers(reports, () => this.machine?.interrupt());
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
      exited: (id, how) => {
        this.recording.mark('exit', how);
        callers.see((watch) => watch.seeExit(id));
      },
    });
    this.debugging = new DebugSession({ waiting, answer: (id, stop) => callers.result(id, stop) });
    this.clones = new Clones(points, this);
    this.hostBranch = new HostBranch(engine.pool, this);
  }

  get roots(): readonly number[] {
    return this.machine ? rootsOf(this.machine) : [];
  }

  get frames(): readonly number[] {
    return [];
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
      case 'input': {
        const done = (outcome: unknown) =>
          this.callers.answer(request.reply, () => (outcome instanceof AgentError ? outcome : undefined));
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
      case 'fork':
        return this.fork(machine, (args as Calls['fork'][0]).count);
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
        return { ...stats(machine), hostSeconds: this.hostMs / 1000, panic: this.ending.panic };
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
      throw exitedError(machine.exit);
    }
    if (this.ending.panic !== undefined) throw this.ending.panicError;
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
        this.hostBranch.begin(machine, id, args);
        return this.wait({ id, name });
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
      this.recording.across('host', () => {}, { name: 'a debugger changed the machine' });
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
    const ended = (exit: Exit) => watch.reached(machine, this.ending.found(exit));
    if (machine.exit) return ended(machine.exit);
    if (this.ending.panic !== undefined) throw this.ending.panicError;
    this.paused = standing;
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
    return this.begin(assemble(this.engine, setup, this.outputs), rest);
  }

  begin({ machine, console, files, skipIdle, disks }: Assembled, setup: HostState['setup']): Made {
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
      writesDisks: !this.clones.held.active && machine.platform.backends.some(({ readOnly }) => !readOnly),
    };
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
    clearTimeout(this.timer);
    this.reports.flush();
    this.machine = undefined;
    this.files = [];
    this.failAll(error);
    this.host.gone();
  }

  fork(machine: Machine, count: number): Calls['fork'][1] {
    return this.clones.fork(machine, count);
  }

  requireFree(): void {
    if (this.hostBranch.underWay)
      throw new BraidError('ERR_BRAID_BRANCH', 'a branch of the host is under way in the machine');
    if (this.debugging.attached) throw new GdbError('a debugger is attached to the machine; have it detach first');
  }

  renewed(machine: Machine): void {
    this.debugging.interrupt();
    this.waitWatch?.renewed();
    this.skipIdle = machine.skipIdle;
    this.ending.renew();
  }

  pause(): void {
    this.paused = true;
  }

  halt(error: BraidError): void {
    this.pause();
    this.machine?.interrupt();
    this.failAll(error);
  }

  wake(): void {
    this.host.wake();
  }

  // --- Waiting

  private wait(wait: Wait): typeof LATER {
    this.callers.waits.add(wait);
    this.ending.awaited();
    return LATER;
  }

  /** Ends waits whose conditions hold, as `look` finds. */
  private endWatched(machine: Machine, look: (watch: Watch) => Found | undefined): boolean {
    let some = false;
    for (const { id, watch, hold } of this.callers.waits.watched) {
      const found = look(watch);
      if (!found) continue;
      some = true;
      if (hold) this.paused = true;
      this.callers.result(id, watch.reached(machine, found));
    }
    return some;
  }

  private cancel(id: number): void {
    this.callers.waits.delete(id);
    this.guest.cancel(id);
  }

  private failAll(error: BraidError): void {
    this.callers.failAll(error);
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
    callers.see((watch) => watch.seeConsole(bytes));
    this.reports.console(bytes);
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    for (const id of callers.waits.see(text)) callers.answer(id, () => this.machine?.position);
    recording.recorder?.console(text);
    const panic = this.ending.see(text, () => this.made().totalSteps);
    if (panic !== undefined) recording.mark('panic', panic);
  }

  programOutput(id: number, stream: 'stdout' | 'stderr', bytes: Uint8Array): void {
    if (!this.callers.waiting(id)) return;
    this.callers.see((watch) => watch.seeOutput(id, bytes));
    this.reports.output(id, stream, bytes);
  }

  // --- Running

  /** A turn of the machine; false when it has no reason for another: it waits for messages, a timer, or the host's data. */
  step(): boolean {
    clearTimeout(this.timer);
    this.timer = undefined;
    try {
      const more = this.turn();
      if (!more) this.recording.recorder?.flush();
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
    const { machine, callers } = this;
    if (!machine || this.stalled) return false;
    if (machine.exit) return this.ended(machine.exit);
    if (machine.schedule.atBoundary && callers.settle()) return true;
    this.reachGoals(machine);
    const inSlice = !machine.schedule.atBoundary && callers.due;
    const wanted = this.free || callers.waits.size > 0 || inSlice;
    const held = this.paused || this.debugging.standing || this.hints.waiting;
    if (!wanted || held || this.reports.behind || this.recording.recorder?.behind) {
      this.wallTime.stop();
      return false;
    }
    if (inSlice) machine.interrupt();
    this.chooseIdle(machine);
    const { watched } = callers.waits;
    machine.mayJump =
      watched.length === 0 ? undefined : (until) => watched.every(({ watch }) => !watch.idle(machine, until));
    if (this.setup!.time === 'wall' && !this.wallTime.keepPace(machine)) {
      this.sleep(machine.now);
      return false;
    }
    return this.run(machine);
  }

  private run(machine: Machine): boolean {
    const limit = this.stepLimit(machine);
    const before = machine.totalSteps;
    const from = performance.now();
    const { runLength } = this;
    const most = limit !== undefined && limit < BigInt(runLength.steps) ? Number(limit) : runLength.steps;
    const steps = this.debugging.limit(most);
    this.waitWatch?.starts(from);
    this.recording.recorder?.beforeRun();
    const stop = machine.run(steps);
    const spent = performance.now() - from;
    this.hostMs += spent;
    if (stop.reason === 'steps' && steps === runLength.steps) {
      runLength.learn(Number(machine.totalSteps - before), spent);
    }
    const { log } = machine;
    this.waitWatch?.stops(machine, from + spent);
    this.recording.recorder?.afterRun(spent);
    if (log.events.length > LOG_LIMIT) {
      this.recording.recorder?.logDropped();
      log.events.length = 0;
    }
    this.wallTime.ran(machine, stop.reason === 'idle');
    this.typed.acknowledge(machine);
    this.reports.flush();
    this.debugging.ran(stop);
    switch (stop.reason) {
      case 'hint': {
        const { hint } = stop;
        if (hint.kind === 'mark') this.recording.mark('guest', hint.name);
        if (hint.kind === 'done') this.endWatched(machine, (watch) => watch.hint(hint.status));
        this.hints.take(machine, hint);
        return true;
      }
      case 'breakpoint':
        this.hostBranch.atBreakpoints(machine, stop.hart, stop.ids);
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
    if (this.callers.settle()) return true;
    if (this.endWatched(machine, (watch) => watch.holds(machine) ?? watch.idle(machine, until))) return true;
    if (until === undefined && machine.backlog === 0) {
      const live = this.free || (!this.typed.ended && this.callers.waits.live);
      this.ending.sayHalt();
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
    const { callers, ending } = this;
    ending.sayExit(exit, () => {
      this.recording.mark('exit', exit.kind);
      // A machine that is powered off has what it wrote on the medium, or in a journal while clones read the images.
      if (!this.clones.held.active) flushDisks(this.made());
    });
    callers.giveAnswers();
    for (const { id, ended } of callers.waits.takeEnded()) callers.result(id, ended?.(exit));
    this.failAll(ending.error(exit));
    // What was still to be said to the agent: nobody listens.
    callers.takeActions();
    return false;
  }

  /** Ends the waits whose goal is where the machine stands. */
  private reachGoals(machine: Machine): void {
    const { callers, ending } = this;
    const total = machine.totalSteps;
    const { maxSteps } = this.setup!;
    for (const { id } of callers.waits.takeReached(machine)) callers.result(id, machine.position);
    if (!this.paused) this.endWatched(machine, (watch) => watch.holds(machine));
    if (ending.stepLimit !== undefined && total >= ending.stepLimit && !this.paused) {
      this.paused = true;
      ending.sayPanic();
      this.endWatched(machine, () => ({ by: 'panic', message: ending.panic! }));
      this.failAll(ending.panicError);
    }
    if (maxSteps !== undefined && total >= maxSteps) {
      this.free = false;
      callers.giveAnswers();
      callers.dropActions();
      this.failAll(
        new BraidError('ERR_BRAID_MAX_STEPS', `the machine has made the ${maxSteps} steps that it was allowed`),
      );
    }
  }

  /** How many steps the next run may make. */
  private stepLimit(machine: Machine): bigint | undefined {
    const ends = [this.setup!.maxSteps, this.ending.stepLimit, this.callers.waits.stepLimit(machine)].filter(
      (end) => end !== undefined,
    );
    if (ends.length === 0) return undefined;
    return ends.reduce((first, end) => (end < first ? end : first)) - machine.totalSteps;
  }

  /** Idle gaps are jumped over while somebody waits, in virtual time. */
  private chooseIdle(machine: Machine): void {
    const on = this.setup!.time === 'virtual' && this.callers.waits.active;
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

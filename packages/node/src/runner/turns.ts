/**
 * A machine's turns in its thread: when it runs and how far, what becomes of each stop, and the waits that end there.
 *
 * How long a run takes, and how many there are, changes nothing that the guest can see.
 */

import type { Machine } from '@braid/core/machine/machine.ts';
import type { Exit, Stop } from '@braid/core/machine/options.ts';
import { flushDisks } from '../disk/overlays.ts';
import { BraidError, toRecord } from '../errors.ts';
import type { HostState } from '../pool/protocol.ts';
import type { Callers } from './callers.ts';
import type { Clones } from './clones.ts';
import type { Found, Watch } from './conditions.ts';
import type { DebugSession } from './debug-session.ts';
import type { Ending } from './ending.ts';
import type { HintPost } from './hint-post.ts';
import type { HostBranch } from './host-branch.ts';
import { RUN_ALLOWANCE, RunLength, WallTime } from './pace.ts';
import type { Recording } from './recording.ts';
import type { Reports } from './reports.ts';
import type { TypedInput } from './typed-input.ts';
import type { WaitWatch } from './wait-watch.ts';

/** Events kept while nobody records: a machine that runs for days must not fill the memory. */
const LOG_LIMIT = 65_536;
/** A run is made in so many pieces: each costs some microseconds, half a percent of the run in all. */
const PIECES = 4;
const LOG_BYTES = 4 * 2 ** 20;

/** The rest of the machine's thread, as this part sees it. */
export interface TurnsHost {
  readonly machine: Machine | undefined;
  readonly setup: HostState['setup'] | undefined;
  readonly reports: Reports;
  readonly callers: Callers;
  readonly ending: Ending;
  readonly recording: Recording;
  readonly typed: TypedInput;
  readonly hints: HintPost;
  readonly clones: Clones;
  readonly guest: { readonly awaitsInput: boolean };
  readonly hostBranch: HostBranch;
  readonly debugging: DebugSession;
  readonly waitWatch: WaitWatch | undefined;
  /** Whoever waits for the machine fails. */
  failAll(error: BraidError): void;
  wake(): void;
  /** Whether a message waits. */
  called(): boolean;
}

export class Turns {
  private readonly host: TurnsHost;
  /** It runs whether anybody waits or not. */
  free = false;
  /** It stands still whoever waits. */
  paused = false;
  /** Host time (ms) that it has run. */
  hostMs = 0;
  /** What the machine was last told. */
  private skipIdle: boolean | undefined;
  private timer: NodeJS.Timeout | undefined;
  private stalled = false;
  /** Input that waited when every hart did, the last time. */
  private refused = 0;
  private runLength = new RunLength();
  readonly wallTime = new WallTime();

  constructor(host: TurnsHost) {
    this.host = host;
  }

  /** The machine is a new one, or another one; `skipIdle` is what it was last told. */
  begin(machine: Machine, skipIdle: boolean | undefined): void {
    machine.account.allowance = RUN_ALLOWANCE;
    this.skipIdle = skipIdle;
    this.changePace();
  }

  /** The machine has become another one. */
  renewed(machine: Machine): void {
    this.skipIdle = machine.skipIdle;
    this.wallTime.stop(false);
  }

  /** Guest time goes otherwise from now on. */
  changePace(): void {
    this.runLength = new RunLength();
  }

  /** There are no more. */
  end(): void {
    clearTimeout(this.timer);
  }

  /** A turn of the machine; false when it has no reason for another: it waits for messages, a timer, or the host's data. */
  step(): boolean {
    clearTimeout(this.timer);
    this.timer = undefined;
    try {
      const more = this.turn();
      if (!more) this.host.recording.recorder?.rest();
      return more;
    } catch (error) {
      this.host.reports.flush();
      this.paused = true;
      this.free = false;
      const { code, message, kind } = toRecord(error);
      this.host.failAll(new BraidError(code, message, { cause: error, ...(kind === undefined ? {} : { kind }) }));
      if (!(error as Partial<BraidError>).code) throw error;
      return false;
    } finally {
      this.host.reports.flush();
    }
  }

  /** One run of the machine, or what has to happen instead; false when there is nothing to do now. */
  private turn(): boolean {
    const { machine, callers, guest, debugging, hints, reports, recording } = this.host;
    if (!machine || this.stalled) return false;
    if (machine.exit) return this.ended(machine, machine.exit);
    if (machine.schedule.atBoundary && callers.settle()) return true;
    this.reachGoals(machine);
    const inSlice = !machine.schedule.atBoundary && callers.due;
    const wanted = this.free || callers.waits.size > 0 || inSlice;
    const dry = this.host.setup!.time === 'virtual' && guest.awaitsInput;
    const held = this.paused || debugging.standing || hints.waiting || dry;
    if (!wanted || held || reports.behind || recording.recorder?.behind) {
      this.wallTime.stop(debugging.standing);
      return false;
    }
    if (inSlice) machine.interrupt();
    this.chooseIdle(machine);
    const { watched } = callers.waits;
    machine.timeLimit = callers.waits.timeLimit;
    machine.mayJump =
      watched.length === 0 ? undefined : (until) => watched.every(({ watch }) => !watch.idle(machine, until));
    if (this.host.setup!.time === 'wall' && !this.wallTime.keepPace(machine)) {
      this.sleep(machine.now);
      return false;
    }
    return this.run(machine);
  }

  private run(machine: Machine): boolean {
    const { host, runLength } = this;
    const { debugging, recording, hints } = host;
    const limit = this.stepLimit(machine);
    const before = machine.totalSteps;
    const from = performance.now();
    const most = limit !== undefined && limit < BigInt(runLength.steps) ? Number(limit) : runLength.steps;
    const steps = debugging.limit(most);
    host.waitWatch?.starts(from);
    recording.recorder?.beforeRun();
    const stop = this.runPieces(machine, steps);
    const spent = performance.now() - from;
    this.hostMs += spent;
    const made = Number(machine.totalSteps - before);
    if (stop.reason === 'steps' && made === runLength.steps) runLength.learn(made, spent);
    const { log } = machine;
    host.waitWatch?.stops(machine, from + spent);
    if (machine.schedule.atBoundary) recording.recorder?.markConsole();
    recording.recorder?.afterRun(spent);
    if (log.length > LOG_LIMIT || log.bytes > LOG_BYTES) {
      recording.recorder?.logDropped();
      log.clear();
    }
    this.wallTime.ran(machine, stop.reason === 'idle');
    host.typed.acknowledge(machine);
    host.reports.flush();
    debugging.ran(stop);
    switch (stop.reason) {
      case 'hint': {
        const { hint } = stop;
        if (hint.kind === 'mark') recording.mark('guest', hint.name);
        if (hint.kind === 'done') this.endWatched(machine, (watch) => watch.hint(hint.status));
        hints.take(machine, hint);
        return true;
      }
      case 'breakpoint':
        host.hostBranch.atBreakpoints(machine, stop.hart, stop.ids);
        return true;
      case 'stalled':
        this.stalled = true;
        stop.until.finally(() => {
          this.stalled = false;
          host.wake();
        });
        return false;
      case 'idle':
        return this.idle(machine, stop.until);
      default:
        return true;
    }
  }

  /** Runs so many steps, or fewer when a message comes: a call waits for one piece of a run and not for all of it. */
  private runPieces(machine: Machine, steps: number): Stop {
    const piece = Math.ceil(this.runLength.steps / PIECES);
    for (let left = steps; ; ) {
      const next = Math.min(left, piece);
      const stop = machine.run(next);
      left -= next;
      if (stop.reason !== 'steps' || left === 0 || this.host.called()) return stop;
    }
  }

  /** Every hart waits. Sleeps until something is due, or for ever; true to go on at once. */
  private idle(machine: Machine, until: bigint | undefined): boolean {
    const { callers, ending, typed, setup } = this.host;
    ending.rests();
    if (callers.settle()) return true;
    if (this.endWatched(machine, (watch) => watch.holds(machine) ?? watch.idle(machine, until))) return true;
    const { backlog } = machine;
    const refused = backlog > 0 && backlog === this.refused;
    this.refused = backlog;
    // Input that came in the meantime is offered once more; what is refused then waits for a guest that never reads it.
    if (until === undefined && backlog > 0 && !refused) return true;
    if (until === undefined) {
      const live = this.free || (!typed.ended && callers.waits.live);
      ending.sayHalt();
      if (!live) {
        this.host.failAll(
          new BraidError(
            'ERR_BRAID_HALTED',
            'the machine has halted: every hart waits, and nothing can wake one any more',
          ),
        );
      }
      return false;
    }
    if (setup!.time === 'virtual') return false;
    if (this.wallTime.jump(machine, until)) return true;
    this.sleep(until);
    return false;
  }

  private ended(machine: Machine, exit: Exit): boolean {
    const { callers, ending, recording, clones } = this.host;
    ending.sayExit(exit, () => {
      if (ending.panic !== undefined) recording.mark('panic', ending.panic);
      recording.mark('exit', exit.kind);
      // A machine that is powered off has what it wrote on the medium, or in a journal while clones read the images.
      if (!clones.held.active) flushDisks(machine);
    });
    callers.giveAnswers();
    for (const { id, ended } of callers.waits.takeEnded()) callers.result(id, ended?.(exit));
    this.host.failAll(ending.error(exit));
    // What was still to be said to the agent: nobody listens.
    callers.takeActions();
    return false;
  }

  /** Ends the waits whose goal is where the machine stands. */
  private reachGoals(machine: Machine): void {
    const { callers, ending, recording } = this.host;
    const total = machine.totalSteps;
    const { maxSteps } = this.host.setup!;
    for (const { id } of callers.waits.takeReached(machine)) callers.result(id, machine.position);
    if (!this.paused) this.endWatched(machine, (watch) => watch.holds(machine));
    if (!this.paused && ending.panics(machine)) {
      this.paused = true;
      recording.mark('panic', ending.panic!);
      ending.sayPanic();
      this.endWatched(machine, () => ({ by: 'panic', message: ending.panic! }));
      this.host.failAll(ending.panicError);
    }
    if (maxSteps !== undefined && total >= maxSteps) {
      this.free = false;
      callers.giveAnswers();
      callers.dropActions();
      this.host.failAll(
        new BraidError('ERR_BRAID_MAX_STEPS', `the machine has made the ${maxSteps} steps that it was allowed`),
      );
    }
  }

  /** Ends waits whose conditions hold, as `look` finds. */
  private endWatched(machine: Machine, look: (watch: Watch) => Found | undefined): boolean {
    let some = false;
    const { callers } = this.host;
    for (const { id, watch, hold, exceeded } of callers.waits.watched) {
      const found = look(watch);
      if (!found) continue;
      if (exceeded) {
        const error = exceeded(found);
        if (error) callers.fail(id, error);
        some ||= error !== undefined;
        continue;
      }
      some = true;
      if (hold) this.paused = true;
      callers.result(id, watch.reached(machine, found));
    }
    return some;
  }

  /** How many steps the next run may make. */
  private stepLimit(machine: Machine): bigint | undefined {
    const { setup, ending, callers } = this.host;
    const ends = [setup!.maxSteps, ending.stepLimit, callers.waits.stepLimit(machine)].filter(
      (end) => end !== undefined,
    );
    if (ends.length === 0) return undefined;
    return ends.reduce((first, end) => (end < first ? end : first)) - machine.totalSteps;
  }

  /** Idle gaps are jumped over while somebody waits, in virtual time. */
  private chooseIdle(machine: Machine): void {
    const on = this.host.setup!.time === 'virtual' && this.host.callers.waits.active;
    if (on === this.skipIdle) return;
    this.skipIdle = on;
    machine.input({ kind: 'skip-idle', on });
  }

  /** Until the host's clock reaches a guest time. */
  private sleep(until: bigint): void {
    this.timer = setTimeout(() => this.host.wake(), this.wallTime.delay(until));
  }
}

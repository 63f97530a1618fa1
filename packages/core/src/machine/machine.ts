/**
 * A machine: harts, RAM and devices under a schedule and a clock. Synchronous and deterministic; whoever runs it brings what
 * comes from outside as input events and takes what goes out from `outputs`.
 *
 * How a run goes: `run` makes slices in the schedule's order. At each boundary inputs enter (and are logged); then the hart runs
 * in the engine until its slice, a deadline of a device or timer, or the caller's limit ends. A limit, like any other stop,
 * changes nothing that the guest can see.
 */

import type { AgentClient } from '../agent/client.ts';
import type { ExecHandle, ExecHandlers } from '../agent/program.ts';
import { type BootSymbols, planBoot } from '../boot/layout.ts';
import { integer } from '../check/schema.ts';
import type { DmaMemory } from '../devices/device.ts';
import { AGENT } from '../devices/virtio-console/device.ts';
import type { AccessTrace, Engine, EngineHost, RunResult } from '../engine/engine.ts';
import { Sbi } from '../firmware/sbi.ts';
import { EXIT, HINT } from '../hart/state.ts';
import type { MapRoots, PageSource } from '../memory/frame-map.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Ram } from '../memory/ram.ts';
import { AccessTraces } from './access-traces.ts';
import { Account, WORK } from './account.ts';
import { Breakpoints } from './breakpoints.ts';
import { Clock } from './clock.ts';
import { hartView, translate } from './guest-memory.ts';
import { Harts } from './harts.ts';
import { type HintCaller, Hints } from './hints.ts';
import { serveHtif } from './htif.ts';
import { type Input, Inputs, type LinkState } from './inputs.ts';
import { Interceptions } from './interceptions.ts';
import { EventLog, type LogReader, type Position } from './log.ts';
import {
  type Configuration,
  checkOptions,
  type Exit,
  MachineError,
  type MachineOptions,
  type Stop,
} from './options.ts';
import { Platform } from './platform.ts';
import { writeProtection } from './protection.ts';
import { sbiHost } from './sbi-host.ts';
import { defaultSlice, Schedule } from './schedule.ts';
import { Undo } from './undo.ts';
import { Watchpoints } from './watchpoints.ts';

/**
 * Where a machine's output goes. Called while it runs; the arrays are the receiver's to keep. What a call throws comes out of `run` behind
 * the instruction under way, which is done, and the next run goes on there.
 */
export interface Outputs {
  /** The serial port, and the firmware's console. */
  console?(bytes: Uint8Array): void;
  /** The virtio console's port 0. */
  terminal?(bytes: Uint8Array): void;
  /** The guest agent's port, besides the client. */
  agent?(bytes: Uint8Array): void;
}

/** How a machine comes to its first state. */
export type Start =
  | { readonly kind: 'boot' }
  /** Somebody will bring the state; RAM may be there already, and its absent pages may come from a source. */
  | {
      readonly kind: 'restore';
      readonly monitorSbi: boolean;
      readonly symbols: BootSymbols;
      readonly source?: PageSource;
      readonly ram?: MapRoots;
    };

const MAX_BUDGET = 2 ** 30;
/** What a run counts down from: with any other number it would not find its end. */
const STEPS = integer(0);
/** There is no shorter form of it. */
const ECALL_BYTES = 4n;
/** More steps than the guest time of a run takes, pauses included. */
const FAR = 1n << 60n;

export class Machine implements EngineHost {
  readonly options: Configuration;
  readonly engine: Engine;
  readonly ram: Ram;
  readonly hartSet: Harts;
  readonly schedule: Schedule;
  readonly clock: Clock;
  readonly platform: Platform;
  readonly sbi: Sbi;
  readonly symbols: BootSymbols;
  readonly monitorSbi: boolean;
  readonly hints: Hints;
  /** Everything that came from outside since the machine was made. */
  readonly log = new EventLog();
  /** The host's end of the guest agent. Its requests enter as logged events at slice boundaries. */
  readonly agent: AgentClient;
  readonly breakpoints: Breakpoints;
  readonly watchpoints: Watchpoints;
  /** Who hears of accesses to memory. */
  readonly traces = new AccessTraces(() => this.engine.traceChanged(this));
  readonly interceptions: Interceptions;
  /** What the run under way has cost the host, and what a run may. */
  readonly account = new Account(() => this.engine.attention());
  /** Idle gaps are jumped over. Changed by an event. */
  skipIdle = false;
  /** In the order of the harts: out of the schedule until somebody starts them. */
  readonly stopped: boolean[];
  exit: Exit | undefined;
  /** Asked before an idle gap is jumped over, up to a guest time; on false the run comes back as idle. Never changes what the guest sees. */
  mayJump: ((until: bigint) => boolean) | undefined;
  /** Guest time at which runs come back with `steps`: at the first step that reaches it. Never changes what the guest sees. */
  timeLimit: bigint | undefined;

  /** Work that the pool may have no room for. */
  readonly undo = new Undo(this);

  private readonly outputs: Outputs;
  private readonly inputs: Inputs;
  private wanted = false;
  /** Budget of the run under way: what the clock does not know yet. */
  private budget = 0;
  private broken: unknown;
  /** What the host has thrown in the work of a device. */
  private thrown: { readonly error: unknown } | undefined;

  /** Throws `MachineError` and `BootError`, and `PoolFullError` when the pool has no room. */
  constructor(engine: Engine, options: MachineOptions, outputs: Outputs = {}, start: Start = { kind: 'boot' }) {
    checkOptions(options);
    this.engine = engine;
    const { boot: _files, ...configuration } = options;
    this.options = configuration;
    this.outputs = outputs;
    const plan = start.kind === 'boot' ? planBoot(options) : undefined;
    const { ram: roots, source } = start.kind === 'restore' ? start : {};
    this.ram = new Ram(engine.pool, options.memory, roots ? { roots, source } : { source });
    this.ram.tracer = engine;
    this.hartSet = new Harts(engine, options.harts);
    this.breakpoints = new Breakpoints(this);
    this.watchpoints = new Watchpoints(this);
    this.interceptions = new Interceptions(this);
    this.clock = new Clock(options.stepsPerNanosecond ?? 1);
    this.schedule = new Schedule(options.harts, options.slice ?? defaultSlice(options.harts), options.pause);
    this.stopped = new Array(options.harts).fill(false);
    this.hints = new Hints(options.hints);
    this.monitorSbi = start.kind === 'restore' ? start.monitorSbi : plan!.start.mode === 'S';
    this.symbols = start.kind === 'restore' ? start.symbols : plan!.symbols;
    this.platform = new Platform(options, {
      memory: this.dma(),
      now: () => this.now,
      ticks: () => this.clock.ticksAt(this.now),
      setTime: (ticks) => this.setTime(ticks),
      setPending: (hart, bits, level) => this.hartSet.setPending(hart, bits, level),
      setSupervisorExternal: (hart, level) => this.hartSet.setSupervisorExternal(hart, level),
      finish: (exit) => this.finish(exit),
      whole: (device, work) => this.undo.whole([device], work),
      worked: (units) => this.account.worked(units),
      console: (bytes) => this.send('console', bytes),
      port: (port, bytes) =>
        this.undo.tell(() => {
          if (port === AGENT) this.inputs.received(bytes);
          this.send(port === AGENT ? 'agent' : 'terminal', bytes);
        }),
      frame: (bytes) => this.undo.tell(() => this.guarded(() => options.net?.backend.send(bytes))),
    });
    const finish = (exit: Exit) => this.finish(exit);
    this.sbi = new Sbi(sbiHost(this, { memory: this.dma(), finish }));
    this.inputs = new Inputs(this);
    this.agent = this.inputs.agent;
    if (plan) {
      try {
        for (const { address, data } of plan.writes) this.ram.write(address, data);
      } catch (error) {
        this.ram.free();
        throw error;
      }
      for (let hart = 0; hart < options.harts; hart++) {
        const record = this.hartSet.record(hart);
        if (plan.start.mode === 'S') record.enterSupervisor();
        record.set('pc', plan.start.pc);
        record.setX(10, BigInt(hart));
        record.setX(11, plan.start.a1);
        record.setX(12, plan.start.a2);
        this.stopped[hart] = plan.start.harts === 'first' && hart > 0;
      }
    }
  }

  get harts(): number {
    return this.options.harts;
  }

  /** Between steps; during a step, where the step began. */
  get position(): Position {
    return this.schedule.position;
  }

  /** Guest time in ns since power-on. */
  get now(): bigint {
    if (!this.insideStep) return this.clock.now;
    return this.clock.after(this.made + this.engine.gained);
  }

  /** Steps that a hart has made; inside a callback, before the instruction under way. */
  steps(hart: number): bigint {
    const end = this.hartSet.get(hart, 'stepsEnd');
    return this.insideStep && hart === this.schedule.hart ? end - BigInt(this.engine.left + 1) : end;
  }

  /** Steps of the run under way, before its last instruction. */
  private get made(): number {
    const { engine } = this;
    return this.budget - engine.cut - engine.left - 1;
  }

  /** Whether an instruction is under way: inside a callback of the engine. */
  get insideStep(): boolean {
    return this.budget !== 0;
  }

  /** Steps of all harts. */
  get totalSteps(): bigint {
    let sum = 0n;
    for (let hart = 0; hart < this.harts; hart++) sum += this.steps(hart);
    return sum;
  }

  /** `totalSteps`; while a watchpoint asks, which it does behind the instruction, those before that. */
  get stepsNow(): bigint {
    return this.watchpoints.asking ?? this.totalSteps;
  }

  /** Instructions retired by a hart: its steps but the traps. */
  instructions(hart: number): bigint {
    return this.steps(hart) - this.hartSet.get(hart, 'traps');
  }

  /** Queues an event; it enters at the next slice boundary, or as far as there is room at the following ones. */
  input(event: Input): void {
    this.inputs.add(event);
  }

  /** Whether more will be typed: see `Inputs.expect`. A run that waits for it stops as `stalled`. */
  expectInput(more: boolean): void {
    this.inputs.expect(more);
  }

  /** Bytes of queued input that have not entered. */
  get backlog(): number {
    return this.inputs.backlog;
  }

  /** Makes `run` come back at the next slice boundary. May be called from an output. */
  interrupt(): void {
    this.wanted = true;
  }

  /**
   * Takes inputs from a log instead of from outside; without a reader from outside again. What the log gives enters the machine's own
   * log too. What `input` has queued waits meanwhile, and the agent's client hears nothing.
   */
  follow(reader: LogReader | undefined): void {
    this.inputs.following = reader;
  }

  /** The log that inputs are taken from, while they are. */
  get following(): LogReader | undefined {
    return this.inputs.following;
  }

  /**
   * Runs for at most `steps` steps; with `own`, until one of the harts has made so many, whatever the others make meanwhile. Comes back
   * earlier as `Stop` says.
   */
  run(steps = Number.MAX_SAFE_INTEGER, own?: { readonly hart: number; readonly steps: number }): Stop {
    if (this.broken !== undefined)
      throw new MachineError(`the machine has failed in the middle of a step (${this.broken}): restore a saved one`);
    const wrong = STEPS.complaint(steps, 'steps');
    if (wrong !== undefined) throw new MachineError(wrong);
    this.engine.attach(this);
    this.account.begin();
    return this.watchpoints.during(() => this.runOn(steps, own?.hart, own?.steps));
  }

  private runOn(steps: number, own = -1, ownSteps = Number.POSITIVE_INFINITY): Stop {
    let left = steps;
    let ownLeft = ownSteps;
    for (;;) {
      const stop = this.settle();
      if (stop) return stop;
      if (left === 0 || ownLeft === 0 || this.stepsUntil(this.timeLimit) <= 0) return { reason: 'steps' };
      if (this.account.spent) return { reason: 'attention' };
      const isOwn = this.schedule.hart === own;
      const made = this.runHart(isOwn ? Math.min(left, ownLeft) : left);
      left -= made;
      if (isOwn) ownLeft -= made;
    }
  }

  /**
   * Does what is due at this position, and gives the stop that belongs here. Every stop comes from here or after it, so the state at a
   * position is one state: a run that stops there, for whatever reason, leaves what a run that passes by has there. Only while host data
   * is late has some of it still to happen; that stop comes before all others, which are told when it has.
   */
  private settle(): Stop | undefined {
    const due = this.exit ? undefined : this.doDue();
    const { thrown } = this;
    this.thrown = undefined;
    if (thrown) throw thrown.error;
    if (due?.reason === 'stalled') return due;
    const heard = this.watchpoints.take() ?? this.breakpoints.take() ?? this.interceptions.take();
    if (heard) return heard;
    const hint = this.hints.take();
    if (hint) return { reason: 'hint', hint };
    if (this.exit) return { reason: 'exit', exit: this.exit };
    if (!this.wanted || !this.schedule.atBoundary) return due;
    this.wanted = false;
    return { reason: 'attention' };
  }

  /** At a boundary inputs enter and the next hart's turn begins; everywhere devices and the hart's timer do what is due. */
  private doDue(): Stop | undefined {
    const stop = this.schedule.atBoundary ? this.beginSlice() : undefined;
    if (stop) return stop;
    const late = this.platform.advance(this.clock.now);
    if (late) return { reason: 'stalled', until: late };
    this.hartSet.updateTimer(this.schedule.hart, this.clock.ticksAt(this.clock.now));
    return undefined;
  }

  /** Runs the hart whose turn it is, up to the next thing that anybody has to look at. */
  private runHart(limit: number): number {
    const { engine, hartSet, schedule, clock } = this;
    const hart = schedule.hart;
    hartSet.load(hart);
    const deadline = this.deadline(hart);
    this.budget = Math.min(
      limit,
      schedule.left,
      Math.max(1, this.stepsUntil(deadline)),
      this.stepsUntil(this.timeLimit),
    );
    const before = engine.get('stepsEnd');
    engine.set('clockEnd', clock.steps + BigInt(this.budget));
    engine.set('deadline', this.inSteps(deadline));
    engine.set('timeLimit', this.inSteps(this.timeLimit));
    engine.set('pauseSteps', BigInt(schedule.pause.steps));
    engine.set('pausesLeft', BigInt(schedule.pausesLeft));
    engine.set('stepsPerTick', clock.stepsPerTick);
    engine.set('timeOffset', clock.tickOffset);
    engine.set('stepsEnd', before + BigInt(this.budget));
    this.breakpoints.begin(this.budget);
    this.interceptions.begin(this.budget);
    const { steps, exit, failure } = this.runEngine(before);
    this.count(before, steps);
    this.breakpoints.end(steps);
    this.watchpoints.end(failure === undefined && exit !== EXIT.breakpoint);
    this.interceptions.end(steps);
    if (failure !== undefined) throw failure;
    this.platform.uart.flushOutput();
    const over = schedule.left <= 0 || this.stopped[hart] === true;
    if (over || this.givesWay(exit)) this.endTurn(!over && exit === EXIT.pause);
    return steps;
  }

  /** Whether the hart whose run has ended gives its slice up. */
  private givesWay(exit: number): boolean {
    switch (exit) {
      case EXIT.none:
      case EXIT.breakpoint:
        return false;
      case EXIT.pause: {
        const { pause, hart } = this.schedule;
        if (pause.spins === 0 || this.anyCanRun(hart)) return true;
        this.schedule.pausesLeft = pause.spins;
        return false;
      }
      default:
        return true;
    }
  }

  /** While all harts spin only time leads on. */
  private endTurn(byPause: boolean): void {
    const { schedule, clock } = this;
    this.breakReservation();
    if (schedule.endTurn(byPause))
      clock.advance(Math.min(schedule.pause.turn, Math.max(0, this.stepsUntil(this.idleDeadline()))));
  }

  /** Whether a hart can run, one not counted. */
  private anyCanRun(but = -1): boolean {
    for (let hart = 0; hart < this.harts; hart++) if (hart !== but && this.runnable(hart)) return true;
    return false;
  }

  private runEngine(before: bigint): RunResult {
    const { engine } = this;
    try {
      return engine.run(this.budget);
    } catch (error) {
      // A trap of generated code comes in the middle of a step: nobody knows where the machine is. What a callback throws comes before.
      if (error instanceof WebAssembly.RuntimeError) this.broken = error;
      else this.count(before, this.made);
      throw error;
    }
  }

  /** So many steps were made, of the hart in the window, which had made `before`. */
  private count(before: bigint, steps: number): void {
    this.budget = 0;
    this.engine.set('stepsEnd', before + BigInt(steps));
    this.clock.advance(steps + this.engine.gained);
    this.schedule.step += steps;
    this.schedule.pausesLeft = this.engine.pausesLeft;
  }

  private breakReservation(): void {
    this.hartSet.set(this.schedule.hart, 'reservation', 0n);
  }

  /** When a device or the hart's own timer is due. */
  private deadline(hart: number): bigint | undefined {
    const next = this.platform.deadline();
    const own = this.timerDeadline(hart);
    return own !== undefined && own > this.clock.now && (next === undefined || own < next) ? own : next;
  }

  /** Steps until a guest time has come: at most MAX_BUDGET, and 0 or less when it has. */
  private stepsUntil(time: bigint | undefined): number {
    if (time === undefined) return MAX_BUDGET;
    const steps = this.clock.stepsUntil(time);
    return steps > BigInt(MAX_BUDGET) ? MAX_BUDGET : Number(steps);
  }

  /** A guest time as steps; far away for none. */
  private inSteps(time: bigint | undefined): bigint {
    const { clock } = this;
    return time === undefined ? clock.steps + FAR : time * BigInt(clock.stepsPerNanosecond);
  }

  private timerDeadline(hart: number): bigint | undefined {
    const compare = this.hartSet.supervisorCompare(hart);
    return compare === undefined ? undefined : this.clock.deadline(compare, this.clock.now);
  }

  /** At a boundary: lets inputs in and finds the next hart that can run. A stop when there is none. */
  private beginSlice(): Stop | undefined {
    const { schedule, hartSet, clock } = this;
    for (;;) {
      const lateInput = this.inputs.letIn();
      if (lateInput) return { reason: 'stalled', until: lateInput };
      // All that the agent has said is heard before the slice begins, if need be by several runs.
      if (this.inputs.unheard) {
        if (this.account.spent) return { reason: 'attention' };
        continue;
      }
      const hart = schedule.hart;
      if (this.runnable(hart)) {
        if (hartSet.get(hart, 'waiting') !== 0n) {
          hartSet.set(hart, 'waiting', 0n);
          this.sbi.resume(hart);
        }
        return undefined;
      }
      if (this.anyCanRun()) {
        this.breakReservation();
        schedule.endSlice();
        continue;
      }
      const late = this.platform.advance(clock.now);
      if (late) return { reason: 'stalled', until: late };
      if (this.anyCanRun()) continue;
      const own = this.idleDeadline();
      const client = this.inputs.deadline();
      const next = client !== undefined && (own === undefined || client < own) ? client : own;
      if (next !== undefined && this.mayJump?.(next) === false) return { reason: 'idle', until: next };
      // The client may wake up again and again, without an end.
      if (this.account.spent) return { reason: 'attention' };
      if (this.skipIdle && client !== undefined && (own === undefined || client < own)) {
        // The client is outside the machine: its waking up is an event.
        this.account.worked(WORK.jump);
        this.inputs.admit({ kind: 'time', advance: client > clock.now ? client - clock.now : 1n });
      } else if (this.skipIdle && own !== undefined) {
        clock.now = own;
      } else {
        return { reason: 'idle', until: next };
      }
    }
  }

  /**
   * At a boundary, before something enters: looks at the harts as if nothing came, since the lines of their timers follow the time when
   * they are looked at. So a state does not tell whether the machine stood here before that came.
   */
  lookAround(): void {
    if (!this.runnable(this.schedule.hart)) this.anyCanRun();
  }

  private runnable(hart: number): boolean {
    if (this.stopped[hart]) return false;
    this.hartSet.updateTimer(hart, this.clock.ticksAt(this.clock.now));
    return this.hartSet.get(hart, 'waiting') === 0n || this.hartSet.pending(hart);
  }

  /** When something inside the machine ends an idle gap by itself: later than now. */
  private idleDeadline(): bigint | undefined {
    let next = this.platform.deadline();
    for (let hart = 0; hart < this.harts; hart++) {
      if (this.stopped[hart]) continue;
      const own = this.timerDeadline(hart);
      // A timer that has come and is not enabled wakes nobody.
      if (own !== undefined && own > this.clock.now && (next === undefined || own < next)) next = own;
    }
    return next;
  }

  /** RAM as devices and firmware write it: a reservation does not outlive such a write (I4). */
  private dma(): DmaMemory {
    const { ram } = this;
    return {
      contains: (address, length) => ram.contains(address, length),
      read: (address, into) => ram.read(address, into),
      write: (address, bytes) => {
        this.hartSet.set(this.schedule.hart, 'reservation', 0n);
        return this.undo.write(address, bytes);
      },
    };
  }

  private send(to: keyof Outputs, bytes: Uint8Array): void {
    this.account.sent(bytes.length);
    this.guarded(() => this.outputs[to]?.(bytes));
  }

  /** Calls the host out of the work of a device, which is done whole whatever the host throws: that is told when the step has been made. */
  private guarded(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.thrown ??= { error };
      this.engine.attention();
    }
  }

  private finish(exit: Exit): void {
    this.exit ??= exit;
    this.engine.attention();
  }

  private setTime(ticks: bigint): void {
    const { clock } = this;
    clock.tickOffset = BigInt.asUintN(64, clock.tickOffset + ticks - clock.ticksAt(this.now));
    this.engine.set('timeOffset', clock.tickOffset);
    this.engine.attention();
  }

  // EngineHost: what generated code asks for.

  readDevice(address: number, size: number): boolean {
    const { bus } = this.platform;
    if (!bus.read(address, size)) return false;
    this.account.worked(WORK.access);
    this.engine.setMailbox(bus.low, bus.high);
    return true;
  }

  writeDevice(address: number, size: number): boolean {
    const [low, high] = this.engine.mailbox;
    const { bus } = this.platform;
    const moved = this.undo.needed
      ? this.undo.whole(bus.devicesAt(address, size), () => bus.write(address, size, low, high))
      : bus.write(address, size, low, high);
    this.account.worked(WORK.access);
    // The device is due at another time: the run comes back for a new budget.
    if (moved) this.engine.attention();
    return moved !== undefined;
  }

  timerChanged(): void {
    const { hart } = this.schedule;
    // The instruction is still under way; the timer is compared with the time at which it began.
    this.hartSet.updateTimer(hart, this.clock.ticksAt(this.now));
    this.engine.attention();
  }

  watched(): void {
    const { tohost, fromhost } = this.symbols;
    this.account.worked(WORK.call);
    serveHtif({
      tohost: tohost!,
      fromhost,
      read: (address, into) => this.ram.read(address, into),
      write: (address, bytes) => this.ram.write(address, bytes),
      exit: (code) => this.finish({ kind: 'tohost', code }),
      console: (bytes) => this.platform.uart.print(bytes),
    });
  }

  get hears(): number {
    return this.interceptions.hears;
  }

  systemCall(): void {
    this.interceptions.systemCall();
  }

  hint(number: number, host: number): number {
    if (this.interceptions.hint(number)) return HINT.ignored;
    this.account.worked(WORK.call);
    return this.hints.execute(number, host, this.hintCaller());
  }

  private hintCaller(): HintCaller {
    const { engine, schedule } = this;
    return {
      hart: schedule.hart,
      getX: (n) => engine.getX(n),
      setX: (n, value) => engine.setX(n, value),
      load: (address) => engine.set('mailbox', address),
      bytes: (at, length) => engine.pool.bytes.subarray(at, at + length),
    };
  }

  get trace(): AccessTrace | undefined {
    return this.traces.current;
  }

  unload(): void {
    this.hartSet.unload();
  }

  worked(units: number): void {
    this.account.worked(units);
  }

  protectionWrite(csr: number): void {
    this.account.worked(WORK.protection);
    writeProtection(this.engine, csr);
  }

  monitorCall(): void {
    this.account.worked(WORK.call);
    const { engine, platform, schedule } = this;
    const next = engine.get('pc');
    try {
      this.undo.whole([platform.uart], () => this.sbi.call(schedule.hart));
    } catch (error) {
      engine.set('pc', next - ECALL_BYTES);
      throw error;
    }
  }

  /** The guest-physical address behind a hart's virtual one, without side effects; undefined where a load would fault. */
  physical(hart: number, address: bigint): bigint | undefined {
    return translate(this.ram, hartView(this, hart), address);
  }

  /** Has stores to `tohost` noticed, in a program that has it. Called once RAM is filled. */
  watchHostInterface(): void {
    const { tohost } = this.symbols;
    if (tohost === undefined) return;
    this.engine.attach(this);
    this.engine.watch(this.ram.prepare(Math.floor((tohost - RAM_BASE) / 4096), true));
  }

  saveLink(): LinkState {
    return this.inputs.saveLink();
  }

  /** See `AgentClient.restore`. */
  restoreLink(link: LinkState, handlersOf?: (key: string) => ExecHandlers | undefined): Map<string, ExecHandle> {
    return this.inputs.restoreLink(link, handlersOf);
  }

  /** Throws `MachineError` when a state of this configuration cannot be the machine's. */
  requireConfiguration(of: Required<Pick<Configuration, 'memory' | 'harts' | 'slice' | 'pause'>>): void {
    const { memory, harts } = this.options;
    const { slice, pause } = this.schedule;
    const samePause = of.pause.steps === pause.steps && of.pause.spins === pause.spins;
    if (of.memory !== memory || of.harts !== harts || of.slice !== slice || !samePause) {
      throw new MachineError('the state is that of a machine with other harts, memory, slices or pauses');
    }
  }

  /** Input that has been queued and has not entered. */
  takeInputs(): Input[] {
    return this.inputs.takeAll();
  }

  /** All of the state has been replaced: what had happened to the machine before has not. */
  renew(): void {
    this.watchpoints.renew();
    this.broken = undefined;
    this.breakpoints.moved();
    this.wanted = false;
    this.thrown = undefined;
    this.inputs.following = undefined;
    this.interceptions.renew();
    this.log.clear();
  }

  /** Gives the machine's frames back to the pool. It cannot be used afterwards. */
  free(): void {
    this.breakpoints.clear();
    this.watchpoints.clear();
    this.engine.detach(this);
    this.ram.free();
    for (const { inner } of this.platform.backends) inner.release?.();
  }
}

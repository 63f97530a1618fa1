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
import type { Engine } from '@braid/core/engine/engine.ts';
import { stateHash } from '@braid/core/machine/hash.ts';
import { comparePositions, formatPosition } from '@braid/core/machine/log.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { saveMachine } from '@braid/core/machine/save.ts';
import { assemble, MAIN_PORT } from './assemble.ts';
import { BraidError, toRecord } from './errors.ts';
import type { FileBackend } from './files.ts';
import { GuestCalls } from './guest-calls.ts';
import { RunLength, WallTime } from './pace.ts';
import { PanicWatch } from './panic.ts';
import {
  type CallName,
  type Calls,
  type ConsoleDevice,
  type Made,
  OUTPUT_AHEAD,
  type Report,
  type Request,
  type Setup,
} from './protocol.ts';
import { signature, stats } from './results.ts';
import { type Wait, Waits } from './waits.ts';

/** Events kept while nobody records: a machine that runs for days must not fill the memory. */
const LOG_LIMIT = 65_536;
/** Typed input that waits for the guest before the next is asked for. */
const INPUT_AHEAD = 64 * 1024;
/** Steps that a kernel gets to say why it panicked. */
const PANIC_STEPS = 5_000_000n;

export interface RunnerHost {
  report(report: Report, transfer?: ArrayBuffer[]): void;
  /** Reads what has arrived, without waiting; calls `Runner.handle` for each request. */
  drain(): void;
}

export class Runner {
  private readonly engine: Engine;
  private readonly host: RunnerHost;
  private machine: Machine | undefined;
  private setup: Setup | undefined;
  private consoleDevice: ConsoleDevice = 'serial';
  private files: readonly FileBackend[] = [];

  private readonly waits = new Waits();
  private readonly guest: GuestCalls;
  /** To be done at the next slice boundary. */
  private actions: (() => void)[] = [];
  /** Answers that wait for the next slice boundary. */
  private answers: (() => void)[] = [];
  private free = false;
  private inputEnded = false;
  private paused = false;
  /** Output that has not been taken. */
  private ahead = 0;
  private pendingConsole: Uint8Array[] = [];
  private readonly panic = new PanicWatch();
  private exitReported = false;
  /** After a panic, the steps at which the kernel has had its say. */
  private panicEnd: bigint | undefined;
  private consoleWrites: number[] = [];
  private haltReported = false;

  private looping = false;
  private timer: NodeJS.Timeout | undefined;
  private stalled = false;
  private runLength = new RunLength(false);
  private readonly wallTime = new WallTime();
  private hostMs = 0;
  /** What the machine was last told. */
  private skipIdle: boolean | undefined;

  constructor(engine: Engine, host: RunnerHost) {
    this.engine = engine;
    this.host = host;
    this.guest = new GuestCalls({
      act: (action) => this.actions.push(action),
      answer: (id, value) => this.answer(id, value),
      waiting: (id) => this.waits.has(id),
      output: (id, stream, bytes) => {
        this.ahead += bytes.length;
        this.flushConsole();
        this.host.report({ type: 'output', id, stream, bytes });
      },
    });
  }

  /** Takes a request. The machine goes on with `advance`. */
  handle(request: Request): void {
    switch (request.type) {
      case 'call':
        return this.call(request.id, request.name, request.args);
      case 'cancel':
        return this.cancel(request.id);
      case 'console': {
        const { bytes } = request;
        const serial = this.consoleDevice === 'serial';
        this.machine?.input(serial ? { kind: 'console', bytes } : { kind: 'port', port: MAIN_PORT, bytes });
        this.consoleWrites.push(request.reply);
        return this.acknowledgeConsole();
      }
      case 'input-end':
        this.inputEnded = true;
        return;
      case 'resize':
        return this.machine?.input({ kind: 'resize', columns: request.columns, rows: request.rows });
      case 'taken':
        this.ahead -= request.bytes;
        return;
      case 'input': {
        const done = (outcome: unknown) =>
          this.answer(request.reply, () => (outcome instanceof AgentError ? Promise.reject(outcome) : undefined));
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
    for (const id of this.consoleWrites.splice(0)) this.host.report({ type: 'result', id, value: undefined });
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
    if (name === 'dispose') return this.dispose();
    const machine = this.made();
    switch (name) {
      case 'stateHash':
        return stateHash(machine);
      case 'stats':
        return { ...stats(machine), hostSeconds: this.hostMs / 1000, panic: this.panic.message };
      case 'signature':
        return signature(machine);
      case 'save':
        return { version: 1, console: this.consoleDevice, machine: saveMachine(machine) };
      case 'pause':
        this.paused = true;
        this.free = false;
        return machine.position;
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
      default:
        this.guest.ask(machine, id, name, args);
        return this.wait({ id, name });
    }
  }

  private made(): Machine {
    if (!this.machine) throw new BraidError('ERR_BRAID_DISPOSED', 'the machine has been disposed of');
    return this.machine;
  }

  private create(setup: Setup): Made {
    const output = (bytes: Uint8Array) => this.output(bytes);
    const assembled = assemble(this.engine, setup, { console: output, terminal: output });
    this.machine = assembled.machine;
    this.consoleDevice = assembled.consoleDevice;
    this.files = assembled.files;
    this.skipIdle = assembled.skipIdle;
    this.runLength = new RunLength(setup.time === 'wall');
    const { boot: _, state: __, ...rest } = setup;
    this.setup = rest;
    const { options, symbols } = this.machine;
    return {
      seed: options.seed,
      memory: options.memory,
      harts: options.harts,
      console: this.consoleDevice,
      hasSignature: symbols.signature !== undefined,
    };
  }

  private dispose(): void {
    clearTimeout(this.timer);
    const { machine } = this;
    this.machine = undefined;
    let failure: unknown;
    for (const file of this.files) {
      try {
        file.close();
      } catch (error) {
        failure = error;
      }
    }
    this.files = [];
    machine?.free();
    this.failAll(new BraidError('ERR_BRAID_DISPOSED', 'the machine has been disposed of'));
    if (failure) throw failure;
  }

  // --- Waiting

  private wait(wait: Wait): typeof LATER {
    this.waits.add(wait);
    this.haltReported = false;
    return LATER;
  }

  /** From a callback: the answer goes out at the next boundary. A rejected promise stands for an error. */
  private answer(id: number, value: () => unknown): void {
    this.answers.push(() => {
      this.waits.delete(id);
      const outcome = value();
      if (outcome instanceof Promise) outcome.catch((error: unknown) => this.fail(id, error));
      else this.result(id, outcome);
    });
    this.machine?.interrupt();
  }

  private cancel(id: number): void {
    this.waits.delete(id);
    this.guest.cancel(id);
  }

  private result(id: number, value: unknown): void {
    this.flushConsole();
    this.host.report({ type: 'result', id, value });
  }

  private fail(id: number, error: unknown): void {
    this.flushConsole();
    this.host.report({ type: 'error', id, error: toRecord(error) });
  }

  private failAll(error: BraidError): void {
    for (const { id } of this.waits.takeAll()) this.fail(id, error);
    this.guest.clear();
  }

  private reportPanic(): void {
    this.flushConsole();
    this.host.report({ type: 'panic', message: this.panic.message! });
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
    this.pendingConsole.push(bytes);
    this.ahead += bytes.length;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    for (const id of this.waits.see(text)) this.answer(id, () => this.machine?.position);
    if (this.panic.see(text)) this.panicEnd = this.made().totalSteps + PANIC_STEPS;
  }

  private flushConsole(): void {
    const parts = this.pendingConsole;
    if (parts.length === 0) return;
    this.pendingConsole = [];
    const bytes = parts.length === 1 ? parts[0]! : new Uint8Array(Buffer.concat(parts));
    this.host.report({ type: 'console', bytes }, [bytes.buffer as ArrayBuffer]);
  }

  // --- Running

  /** Runs as long as there is reason to. Comes back to wait for messages, a timer, or the host's data. */
  advance(): void {
    if (this.looping) return;
    this.looping = true;
    clearTimeout(this.timer);
    this.timer = undefined;
    try {
      while (this.turn()) this.host.drain();
    } catch (error) {
      this.flushConsole();
      this.paused = true;
      this.free = false;
      const { code, message, kind } = toRecord(error);
      this.failAll(new BraidError(code, message, { cause: error, ...(kind === undefined ? {} : { kind }) }));
      if (!(error as Partial<BraidError>).code) throw error;
    } finally {
      this.looping = false;
      this.flushConsole();
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
    if (!wanted || this.paused || this.ahead > OUTPUT_AHEAD) {
      this.wallTime.stop();
      return false;
    }
    if (inSlice) machine.interrupt();
    this.chooseIdle(machine);
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
    const steps = limit !== undefined && limit < BigInt(runLength.steps) ? Number(limit) : runLength.steps;
    const stop = machine.run(steps);
    const spent = performance.now() - from;
    this.hostMs += spent;
    if (stop.reason === 'steps' && steps === runLength.steps) {
      runLength.learn(Number(machine.totalSteps - before), spent);
    }
    const { log } = machine;
    if (log.events.length > LOG_LIMIT) log.events.length = 0;
    this.wallTime.ran(machine, stop.reason === 'idle');
    this.acknowledgeConsole();
    this.flushConsole();
    switch (stop.reason) {
      case 'stalled':
        this.stalled = true;
        stop.until.finally(() => {
          this.stalled = false;
          this.advance();
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
    if (until === undefined && machine.backlog === 0) {
      const live = this.free || (!this.inputEnded && this.waits.live);
      if (!this.haltReported) {
        this.haltReported = true;
        this.host.report({ type: 'halt' });
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
      this.flushConsole();
      if (this.panic.message !== undefined) this.reportPanic();
      this.host.report({ type: 'exit', exit });
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
    if (this.panicEnd !== undefined && total >= this.panicEnd && !this.paused) {
      this.paused = true;
      this.reportPanic();
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
    this.timer = setTimeout(() => this.advance(), this.wallTime.delay(until));
  }
}

const LATER = Symbol('later');

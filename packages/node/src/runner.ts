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
import { escapeGuestText } from '@braid/core/agent/escape.ts';
import { MemoryBackend } from '@braid/core/devices/virtio-block/backend.ts';
import type { Engine } from '@braid/core/engine/engine.ts';
import { stateHash } from '@braid/core/machine/hash.ts';
import { comparePositions, formatPosition, type Position } from '@braid/core/machine/log.ts';
import { Machine } from '@braid/core/machine/machine.ts';
import type { DiskOptions, Exit } from '@braid/core/machine/options.ts';
import { restoreMachine, saveMachine } from '@braid/core/machine/save.ts';
import { BraidError, toRecord } from './errors.ts';
import { FileBackend } from './files.ts';
import {
  type CallName,
  type Calls,
  type ConsoleDevice,
  type Made,
  OUTPUT_AHEAD,
  type Report,
  type Request,
  type Setup,
  type Stats,
} from './protocol.ts';

/** Host time of a run between two looks at the messages, in ms: short where somebody types or time is paced. */
const RUN_MS = 8;
const RUN_MS_PACED = 2;
const FIRST_RUN = 200_000;
const MAX_RUN = 50_000_000;
/** Wall time: how far the guest's clock may be ahead before the machine sleeps, in ns. */
const AHEAD = 2_000_000n;
const MAX_TIMER_MS = 2 ** 31 - 1;
const MAIN_PORT = 0;
/** Events kept while nobody records: a machine that runs for days must not fill the memory. */
const LOG_LIMIT = 65_536;
const PANIC = 'Kernel panic - not syncing';
const SEEN_LIMIT = 64 * 1024;
/** Typed input that waits for the guest before the next is asked for. */
const INPUT_AHEAD = 64 * 1024;
/** Guest time that a guest may take to power off. */
const SHUTDOWN_SECONDS = 90;
/** Steps that a kernel gets to say why it panicked. */
const PANIC_STEPS = 5_000_000n;

export interface RunnerHost {
  report(report: Report, transfer?: ArrayBuffer[]): void;
  /** Reads what has arrived, without waiting; calls `Runner.handle` for each request. */
  drain(): void;
}

/** Somebody who waits for the machine. */
interface Wait {
  readonly id: number;
  readonly name: CallName;
  /** Ends the wait when the machine ends; without it, that is an error. */
  ended?(exit: Exit): unknown;
  /** Steps of all harts at which it is over. */
  readonly until?: bigint;
  readonly position?: Position;
  pattern?: { readonly expression: string | RegExp; text: string };
  /** Input may come from outside. */
  readonly live?: boolean;
  /** Idle gaps are not jumped over on account of this one. */
  readonly passive?: boolean;
}

export class Runner {
  private readonly engine: Engine;
  private readonly host: RunnerHost;
  private machine: Machine | undefined;
  private setup: Setup | undefined;
  private consoleDevice: ConsoleDevice = 'serial';
  private files: FileBackend[] = [];

  private readonly waits = new Map<number, Wait>();
  private readonly programs = new Map<number, ExecHandle>();
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
  private panicText: string | undefined;
  private recent = '';
  private exitReported = false;
  /** After a panic, the steps at which the kernel has had its say. */
  private panicEnd: bigint | undefined;
  private consoleWrites: number[] = [];
  /** Where a correction of time was queued: it enters at the end of that slice. */
  private correctedAt: Position | undefined;
  private haltReported = false;

  private looping = false;
  private timer: NodeJS.Timeout | undefined;
  private stalled = false;
  private runSteps = FIRST_RUN;
  private hostMs = 0;
  /** Wall time: host time (ms) at which guest time was 0. */
  private origin = 0;
  private paced = false;
  /** What the machine was last told. */
  private skipIdle: boolean | undefined;

  constructor(engine: Engine, host: RunnerHost) {
    this.engine = engine;
    this.host = host;
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
        return this.withProgram(request.id, done, (program) => {
          if (request.bytes) program.write(request.bytes, done);
          else program.end(done);
        });
      }
      case 'signal':
        return this.withProgram(request.id, undefined, (program) => program.signal(request.signal));
      case 'terminal':
        return this.withProgram(request.id, undefined, (program) => program.resize(request.rows, request.cols));
    }
  }

  /** Typed input is acknowledged when the guest has taken most of it: a bound on what waits here. */
  private acknowledgeConsole(): void {
    if (this.consoleWrites.length === 0 || (this.machine && this.machine.backlog > INPUT_AHEAD)) return;
    for (const id of this.consoleWrites.splice(0)) this.host.report({ type: 'result', id, value: undefined });
  }

  private withProgram(
    id: number,
    gone: ((error: AgentError) => void) | undefined,
    act: (program: ExecHandle) => void,
  ): void {
    this.actions.push(() => {
      const program = this.programs.get(id);
      if (program) act(program);
      else gone?.(new AgentError('gone', 'exec', 'the program is over'));
    });
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
        return this.stats();
      case 'signature':
        return this.signature();
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
    if (this.panicText !== undefined) throw this.panicError();
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
      case 'boot':
        return this.ask(id, name, (done) => machine.agent.ping(done));
      case 'readFile': {
        const { path, limit } = args as Calls['readFile'][0];
        return this.ask(id, name, (done) => machine.agent.readFile(path, done, limit === undefined ? {} : { limit }));
      }
      case 'writeFile': {
        const { path, bytes } = args as Calls['writeFile'][0];
        return this.ask(id, name, (done) => machine.agent.writeFile(path, bytes, done));
      }
      case 'shutdown': {
        const { mode } = args as Calls['shutdown'][0];
        this.actions.push(() =>
          machine.agent.shutdown(mode, (outcome) => {
            if (outcome instanceof AgentError) this.answer(id, () => Promise.reject(outcome));
            else this.limitShutdown(machine, id);
          }),
        );
        return this.wait({ id, name, ended: (exit) => exit });
      }
      case 'spawn':
        return this.spawn(id, args as Calls['spawn'][0]);
    }
    return undefined;
  }

  /** A guest that agreed to power off and does not: a program in it, which powering off would end, says when it is time. */
  private limitShutdown(machine: Machine, id: number): void {
    const exit = (outcome: { readonly code?: number } | AgentError) => {
      if (outcome instanceof AgentError || outcome.code !== 0) return;
      const why = `it is still running ${SHUTDOWN_SECONDS} s after it agreed to power off`;
      this.answer(id, () => Promise.reject(new AgentError('timeout', 'guest-shutdown', why)));
    };
    machine.agent.exec({ argv: ['sleep', String(SHUTDOWN_SECONDS)] }, { output: () => {}, exit });
  }

  private made(): Machine {
    if (!this.machine) throw new BraidError('ERR_BRAID_DISPOSED', 'the machine has been disposed of');
    return this.machine;
  }

  private create(setup: Setup): Made {
    const disks: DiskOptions[] = [];
    try {
      for (const source of setup.disks) disks.push({ backend: this.openDisk(source) });
      const outputs = {
        console: (bytes: Uint8Array) => this.output(bytes),
        terminal: (bytes: Uint8Array) => this.output(bytes),
      };
      const { memory, harts, seed, epoch } = setup;
      const slice = setup.slice === undefined ? {} : { slice: setup.slice };
      if (setup.state === undefined) {
        const options = { boot: setup.boot!, memory, harts, seed, epoch, disks, ...slice };
        this.machine = new Machine(this.engine, options, outputs);
        // The files are in the machine's memory now.
        options.boot = { kind: 'bare', image: new Uint8Array(0) };
        this.machine.watchHostInterface();
        this.consoleDevice = setup.console;
        if (setup.console === 'virtio') this.machine.input({ kind: 'port-open', port: MAIN_PORT, open: true });
      } else {
        const { machine, console } = checkSaved(setup.state);
        this.machine = restoreMachine(this.engine, machine, { disks, epoch }, outputs);
        this.consoleDevice = console;
        this.skipIdle = this.machine.skipIdle;
      }
    } catch (error) {
      for (const file of this.files.splice(0)) file.close();
      throw error;
    }
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

  private openDisk(source: Setup['disks'][number]) {
    if ('bytes' in source) {
      const { length } = source.bytes;
      if (length === 0 || length % 512 !== 0) {
        throw new BraidError('ERR_BRAID_OPTION', `a disk of ${length} bytes: give a multiple of 512`);
      }
      return new MemoryBackend(source.bytes, source.readOnly);
    }
    const file = new FileBackend(source.path, source.readOnly);
    this.files.push(file);
    return file;
  }

  private dispose(): void {
    clearTimeout(this.timer);
    const { machine } = this;
    this.machine = undefined;
    let failure: unknown;
    for (const file of this.files.splice(0)) {
      try {
        file.close();
      } catch (error) {
        failure = error;
      }
    }
    machine?.free();
    this.failAll(new BraidError('ERR_BRAID_DISPOSED', 'the machine has been disposed of'));
    if (failure) throw failure;
  }

  // --- Waiting

  private wait(wait: Wait): typeof LATER {
    this.waits.set(wait.id, wait);
    this.haltReported = false;
    return LATER;
  }

  /** Waits for an answer of the agent. */
  private ask<T>(id: number, name: CallName, request: (done: (outcome: T | AgentError) => void) => void): typeof LATER {
    this.actions.push(() => {
      if (!this.waits.has(id)) return;
      request((outcome) => this.answer(id, () => (outcome instanceof AgentError ? Promise.reject(outcome) : outcome)));
    });
    return this.wait({ id, name });
  }

  private spawn(id: number, request: Calls['spawn'][0]): typeof LATER {
    this.actions.push(() => {
      if (!this.waits.has(id)) return;
      const machine = this.made();
      const before = machine.totalSteps;
      const program = machine.agent.exec(request, {
        output: (stream, bytes) => {
          if (!this.waits.has(id)) return;
          this.ahead += bytes.length;
          this.flushConsole();
          this.host.report({ type: 'output', id, stream, bytes });
        },
        exit: (outcome) => {
          this.programs.delete(id);
          const steps = machine.totalSteps - before;
          this.answer(id, () => (outcome instanceof AgentError ? Promise.reject(outcome) : { ...outcome, steps }));
        },
      });
      if (this.waits.has(id)) this.programs.set(id, program);
    });
    return this.wait({ id, name: 'spawn' });
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
    const program = this.programs.get(id);
    // Nobody will read what it writes: it ends, at the machine's next chance.
    if (program) this.actions.push(() => program.signal(9));
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
    for (const { id } of this.waits.values()) this.fail(id, error);
    this.waits.clear();
    this.programs.clear();
  }

  private reportPanic(): void {
    this.flushConsole();
    this.host.report({ type: 'panic', message: this.panicText! });
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
    return new BraidError('ERR_BRAID_PANIC', `the guest's kernel panicked: ${this.panicText}`);
  }

  // --- Output

  private output(bytes: Uint8Array): void {
    this.pendingConsole.push(bytes);
    this.ahead += bytes.length;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    for (const wait of this.waits.values()) {
      if (wait.pattern) this.match(wait, text);
    }
    this.recent += text;
    const at = this.recent.indexOf(PANIC);
    if (at >= 0 && this.panicText === undefined) {
      const end = this.recent.indexOf('\n', at);
      if (end < 0 && this.recent.length - at < 300) return;
      const line = this.recent.slice(at + PANIC.length, end < 0 ? undefined : end);
      this.panicText = escapeGuestText(line.replace(/^:?\s*/, '').trimEnd(), { limit: 300 });
      this.panicEnd = this.made().totalSteps + PANIC_STEPS;
    }
    if (this.panicText !== undefined || at < 0) this.recent = this.recent.slice(-PANIC.length);
  }

  private match(wait: Wait, text: string): void {
    const { pattern, id } = wait;
    pattern!.text += text;
    const { expression } = pattern!;
    const utf8 = Buffer.from(pattern!.text, 'latin1').toString();
    const found = typeof expression === 'string' ? utf8.includes(expression) : utf8.search(expression) >= 0;
    if (found) {
      delete wait.pattern;
      this.answer(id, () => this.machine?.position);
    } else if (pattern!.text.length > SEEN_LIMIT) pattern!.text = pattern!.text.slice(-SEEN_LIMIT / 2);
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
      this.paced = false;
      return false;
    }
    if (inSlice) machine.interrupt();
    this.chooseIdle(machine);
    if (this.setup!.time === 'wall' && !this.keepPace(machine)) return false;
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
    const steps = limit !== undefined && limit < BigInt(this.runSteps) ? Number(limit) : this.runSteps;
    const stop = machine.run(steps);
    const spent = performance.now() - from;
    this.hostMs += spent;
    if (stop.reason === 'steps' && steps === this.runSteps) {
      const target = this.setup!.time === 'wall' ? RUN_MS_PACED : RUN_MS;
      const next = (Number(machine.totalSteps - before) * target) / Math.max(spent, 0.05);
      this.runSteps = Math.round(Math.min(MAX_RUN, Math.max(FIRST_RUN / 4, (this.runSteps + next) / 2)));
    }
    const { log } = machine;
    if (log.events.length > LOG_LIMIT) log.events.length = 0;
    const { correctedAt } = this;
    if (
      correctedAt &&
      (stop.reason === 'idle' || comparePositions({ ...machine.position, step: 0 }, correctedAt) > 0)
    ) {
      this.correctedAt = undefined;
    }
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
      const live = this.free || (!this.inputEnded && [...this.waits.values()].some((wait) => wait.live));
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
    // A timer of ours is good to a millisecond or two, and a disk answers in microseconds of guest time: short gaps are jumped.
    if (until - this.hostTime() <= AHEAD) {
      machine.input({ kind: 'time', advance: until - machine.now });
      return true;
    }
    this.sleep(until);
    return false;
  }

  private ended(exit: Exit): boolean {
    if (!this.exitReported) {
      this.exitReported = true;
      this.flushConsole();
      if (this.panicText !== undefined) this.reportPanic();
      this.host.report({ type: 'exit', exit });
    }
    for (const answer of this.answers.splice(0)) answer();
    for (const wait of [...this.waits.values()]) {
      if (!wait.ended) continue;
      this.waits.delete(wait.id);
      this.result(wait.id, wait.ended(exit));
    }
    this.failAll(this.panicText === undefined ? this.exitedError(exit) : this.panicError());
    // What was still to be said to the agent: nobody listens.
    for (const action of this.actions.splice(0)) action();
    return false;
  }

  /** Ends the waits whose goal is where the machine stands. */
  private reachGoals(machine: Machine): void {
    const total = machine.totalSteps;
    const { maxSteps } = this.setup!;
    for (const wait of [...this.waits.values()]) {
      const there = wait.until === total || (wait.position && comparePositions(wait.position, machine.position) <= 0);
      if (!there) continue;
      this.waits.delete(wait.id);
      this.result(wait.id, machine.position);
    }
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
    const total = machine.totalSteps;
    const { position } = machine;
    let end = this.setup!.maxSteps;
    const consider = (steps: bigint) => {
      if (end === undefined || steps < end) end = steps;
    };
    for (const wait of this.waits.values()) {
      if (wait.until !== undefined) consider(wait.until);
      if (!wait.position) continue;
      if (wait.position.round === position.round && wait.position.hart === position.hart) {
        consider(total + BigInt(wait.position.step - position.step));
      } else if (position.step === 0) consider(total + 1n);
      else machine.interrupt(); // no further than the next slice
    }
    if (this.panicEnd !== undefined) consider(this.panicEnd);
    return end === undefined ? undefined : end - total;
  }

  /** Idle gaps are jumped over while somebody waits, in virtual time. */
  private chooseIdle(machine: Machine): void {
    const on = this.setup!.time === 'virtual' && [...this.waits.values()].some((wait) => !wait.passive);
    if (on === this.skipIdle) return;
    this.skipIdle = on;
    machine.input({ kind: 'skip-idle', on });
  }

  // --- Wall time

  private keepPace(machine: Machine): boolean {
    const now = performance.now();
    if (!this.paced) {
      // Guest time stands still while the machine does.
      this.paced = true;
      this.origin = now - Number(machine.now) / 1e6;
      return true;
    }
    const difference = this.hostTime() - machine.now;
    if (difference > 0n) {
      if (!this.correctedAt) {
        this.correctedAt = { ...machine.position, step: 0 };
        machine.input({ kind: 'time', advance: difference });
      }
      return true;
    }
    if (-difference <= AHEAD) return true;
    this.sleep(machine.now);
    return false;
  }

  /** Guest time by the host's clock. */
  private hostTime(): bigint {
    return BigInt(Math.round((performance.now() - this.origin) * 1e6));
  }

  /** Until the host's clock reaches a guest time. */
  private sleep(until: bigint): void {
    const ms = this.origin + Number(until) / 1e6 - performance.now();
    this.timer = setTimeout(() => this.advance(), Math.min(MAX_TIMER_MS, Math.max(0, ms)));
  }

  // --- Results

  private stats(): Stats {
    const machine = this.made();
    const perHart = Array.from({ length: machine.harts }, (_, hart) => ({
      steps: machine.steps(hart),
      instructions: machine.instructions(hart),
    }));
    return {
      steps: machine.totalSteps,
      instructions: perHart.reduce((sum, hart) => sum + hart.instructions, 0n),
      hostSeconds: this.hostMs / 1000,
      guestSeconds: Number(machine.now) / 1e9,
      perHart,
      position: machine.position,
      exit: machine.exit,
      panic: this.panicText,
      seed: machine.options.seed,
    };
  }

  private signature(): Uint8Array {
    const machine = this.made();
    const { signature } = machine.symbols;
    if (!signature) {
      throw new BraidError('ERR_BRAID_OPTION', 'the program has no symbols begin_signature and end_signature');
    }
    const bytes = new Uint8Array(signature.end - signature.begin);
    machine.ram.read(signature.begin, bytes);
    return bytes;
  }
}

const LATER = Symbol('later');

/** A record of `save`, as far as it is ours; the rest is checked by the core. */
function checkSaved(value: unknown): { machine: unknown; console: ConsoleDevice } {
  const record = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const { version, console, machine } = record;
  if (version !== 1) throw new BraidError('ERR_BRAID_STATE', 'this is no saved machine of this version of Braid');
  if (console !== 'serial' && console !== 'virtio')
    throw new BraidError('ERR_BRAID_STATE', 'saved machine: console is unknown');
  return { machine, console };
}

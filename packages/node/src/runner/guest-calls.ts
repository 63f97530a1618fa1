/**
 * What calls ask of the guest by way of its agent: files, programs, to power off. The agent is spoken to at slice boundaries
 * only, and what it answers is passed on at the next one.
 */

import type { ExecHandle, ExecHandlers } from '@braid/core/agent/client.ts';
import { AgentError } from '@braid/core/agent/errors.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import type { CallName, Calls, ProgramInput } from '../pool/protocol.ts';
import type { ProgramKey } from './conditions.ts';

/** Guest time that a guest may take to power off. */
const SHUTDOWN_SECONDS = 90;

/** What the calls need of the runner. */
export interface GuestCallsHost {
  /** Does something at the next slice boundary, where the agent may be spoken to. */
  act(action: () => void): void;
  /** Answers a call at the next slice boundary, perhaps with an error. */
  answer(id: number, value: () => unknown): void;
  /** Whether a call still waits. */
  waiting(id: number): boolean;
  output(id: number, stream: 'stdout' | 'stderr', bytes: Uint8Array): void;
  /** The agent is asked for a program of a call. */
  asked(id: number): void;
  /** A program is over; `how` is for people. */
  exited(id: number, how: string): void;
}

export class GuestCalls {
  private readonly host: GuestCallsHost;
  /** Programs, by the number of the call that started them. */
  private readonly running = new Map<number, ExecHandle>();
  /** Programs of the parent, in a clone: by their names there. */
  private readonly inherited = new Map<string, ExecHandle>();
  /** Of ours whose next input is awaited: whether all that has come of it is with the guest. */
  private readonly awaited = new Map<number, boolean>();
  /** What each is called, and the machine's steps when it was asked for. */
  private readonly started = new Map<number, { readonly name: string; readonly steps: bigint }>();

  constructor(host: GuestCallsHost) {
    this.host = host;
  }

  /** Passes on what a call asks, at the next boundary; the call waits for the answer. */
  ask(machine: Machine, id: number, name: CallName, args: never): void {
    const { agent } = machine;
    switch (name) {
      case 'boot':
        return this.request(id, (done) => agent.ping(done));
      case 'readFile': {
        const { path, limit } = args as Calls['readFile'][0];
        return this.request(id, (done) => agent.readFile(path, done, limit === undefined ? {} : { limit }));
      }
      case 'writeFile': {
        const { path, bytes } = args as Calls['writeFile'][0];
        return this.request(id, (done) => agent.writeFile(path, bytes, done));
      }
      case 'reseed': {
        const { bytes } = args as Calls['reseed'][0];
        return this.request(id, (done) => agent.reseed(bytes, done));
      }
      case 'killAll': {
        const { program } = args as Calls['killAll'][0];
        const done = (outcome: unknown) => this.answer(id, outcome);
        return this.with(program, (handle) => handle.kill(done), done);
      }
      case 'shutdown':
        return this.shutdown(machine, id, args);
      case 'spawn':
        return this.spawn(machine, id, args);
    }
  }

  /** A request whose outcome is the answer. */
  private request<T>(id: number, send: (done: (outcome: T | AgentError) => void) => void): void {
    this.host.act(() => {
      if (!this.host.waiting(id)) return;
      send((outcome) => this.answer(id, outcome));
    });
  }

  private answer(id: number, outcome: unknown): void {
    this.host.answer(id, () => outcome);
  }

  private shutdown(machine: Machine, id: number, { mode }: Calls['shutdown'][0]): void {
    this.host.act(() =>
      machine.agent.shutdown(mode, (outcome) => {
        if (outcome instanceof AgentError) this.answer(id, outcome);
        else this.limitShutdown(machine, id);
      }),
    );
  }

  /** A guest that agreed to power off and does not: a program in it, which powering off would end, says when it is time. */
  private limitShutdown(machine: Machine, id: number): void {
    const exit = (outcome: { readonly code?: number } | AgentError) => {
      if (outcome instanceof AgentError || outcome.code !== 0) return;
      const why = `it is still running ${SHUTDOWN_SECONDS} s after it agreed to power off`;
      this.answer(id, new AgentError('timeout', 'guest-shutdown', why));
    };
    machine.agent.exec({ argv: ['sleep', String(SHUTDOWN_SECONDS)] }, { output: () => {}, exit });
  }

  private spawn(machine: Machine, id: number, request: Calls['spawn'][0]): void {
    this.host.act(() => {
      if (!this.host.waiting(id)) return;
      this.started.set(id, { name: request.argv[0] ?? '', steps: machine.totalSteps });
      if (request.awaitsInput) this.awaited.set(id, true);
      const program = machine.agent.exec(request, this.handlers(machine, id));
      if (this.host.waiting(id)) this.running.set(id, program);
    });
  }

  /** Whether a program has been given all the input that has come, and the next is on its way. */
  get awaitsInput(): boolean {
    for (const [id, dry] of this.awaited) if (dry && this.host.waiting(id)) return true;
    return false;
  }

  /** Input of a program, or its end, at the next boundary; answered at the one where the agent has taken it. */
  input({ id, bytes, reply }: ProgramInput): void {
    const { awaited } = this;
    const own = typeof id === 'number' ? id : undefined;
    const dry = (dry: boolean) => {
      if (own !== undefined && awaited.has(own)) awaited.set(own, dry);
    };
    const done = (outcome: unknown) => {
      this.host.answer(reply, () => {
        if (!(outcome instanceof AgentError)) return dry(true);
        // It reads no more.
        if (own !== undefined) awaited.delete(own);
        return outcome;
      });
    };
    const act = (program: ExecHandle) => {
      dry(false);
      if (bytes) return program.write(bytes, done);
      if (own !== undefined) awaited.delete(own);
      program.end(done);
    };
    this.with(id, act, done);
  }

  private handlers(machine: Machine, id: number): ExecHandlers {
    return {
      key: String(id),
      asked: () => this.host.asked(id),
      output: (stream, bytes) => {
        if (this.host.waiting(id)) this.host.output(id, stream, bytes);
      },
      exit: (outcome) => this.exited(id, outcome, machine.totalSteps),
    };
  }

  /** A program is over, at so many steps of the machine. */
  exited(id: number, outcome: Parameters<ExecHandlers['exit']>[0], at: bigint): void {
    this.running.delete(id);
    this.awaited.delete(id);
    const { name = '', steps: from = at } = this.started.get(id) ?? {};
    const steps = at - from;
    this.started.delete(id);
    const failed = outcome instanceof AgentError;
    this.host.exited(id, `${name}: ${failed ? outcome.message : (outcome.code ?? `signal ${outcome.signal}`)}`);
    this.answer(id, failed ? outcome : { ...outcome, steps });
  }

  /** Handlers for a program of ours by its name, when the machine has become another one in which it runs too. */
  handlersOf(machine: Machine, key: string): ExecHandlers | undefined {
    const id = Number(key);
    return this.host.waiting(id) && this.started.has(id) ? this.handlers(machine, id) : undefined;
  }

  /** The machine has become another one, with programs of ours by their names. Those that it does not have are gone. */
  reattach(handles: ReadonlyMap<string, ExecHandle>): void {
    for (const id of [...this.started.keys()]) {
      const handle = handles.get(String(id));
      if (handle) this.running.set(id, handle);
      else this.lose(id);
    }
  }

  private lose(id: number): void {
    this.running.delete(id);
    this.awaited.delete(id);
    this.started.delete(id);
    const why = 'the machine has become one in which the program does not run';
    if (this.host.waiting(id)) this.answer(id, new AgentError('gone', 'exec', why));
  }

  /** Whether a program, of ours or of the parent, is over. */
  isOver(key: ProgramKey): boolean {
    return typeof key === 'string' ? !this.inherited.has(key) : !this.host.waiting(key);
  }

  /** A program of the parent is over. */
  disinherit(key: string): void {
    this.inherited.delete(key);
  }

  /** A clone speaks to a program of its parent. */
  inherit(key: string, handle: ExecHandle): void {
    this.inherited.set(key, handle);
  }

  /** Does something with a program, at the next boundary. */
  with(id: ProgramKey, act: (program: ExecHandle) => void, gone?: (error: AgentError) => void): void {
    this.host.act(() => {
      const program = typeof id === 'string' ? this.inherited.get(id) : this.running.get(id);
      if (program) act(program);
      else gone?.(new AgentError('gone', 'exec', 'the program is over'));
    });
  }

  /** Nobody will read what it writes: it ends, at the machine's next chance. */
  cancel(id: number): void {
    this.awaited.delete(id);
    const program = this.running.get(id);
    if (program) this.host.act(() => program.kill());
  }

  /** Forgets them all. */
  clear(): void {
    this.running.clear();
    this.inherited.clear();
    this.awaited.clear();
    this.started.clear();
  }
}

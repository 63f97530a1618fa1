/**
 * The connection to the agent: which request is sent when, and which answer belongs to it.
 *
 *     closed --open--> syncing --answer to guest-sync-delimited--> ready
 *                         ^------- timeout, nonsense, braid-agent-ready -----|
 *
 * In `syncing` a sync is repeated until it is answered: a port can open before anybody reads it. In `ready` one request is in
 * flight at a time and answers come in order; a request without its answer can only be given up together with everything that
 * may still come, which is what a sync does. Requests made earlier wait.
 */

import { AgentError } from './errors.ts';
import { LINE_LIMIT, LineBuffer, type LineState } from './line-buffer.ts';
import {
  asObject,
  encodeLine,
  integerOf,
  type Json,
  member,
  type Parsed,
  type ParsedObject,
  parseLine,
  textOf,
} from './messages.ts';

/** The port, as the machine gives it to the client. Neither function calls back into the client. */
export interface AgentIo {
  /** Takes as many of the bytes as fit now, from the first on; how many. */
  send(bytes: Uint8Array): number;
  /** Guest time in ns; never decreases. */
  now(): bigint;
}

/** Called once with what was asked for, or with the reason why there is none. */
export type Done<T> = (outcome: T | AgentError) => void;

export interface RequestOptions {
  /** Guest time in ns after which the request fails, waiting for its turn included. Without it, it waits for ever. */
  readonly timeout?: bigint;
}

const MS = 1_000_000n;
/** Between repeated syncs: doubling, as an agent that is not there yet may be long in coming. */
const SYNC_FIRST = 10n * MS;
const SYNC_LAST = 1000n * MS;
/** The agent has answered a sync: it owes the answer to guest-info. */
const INFO_TIMEOUT = 5000n * MS;
/** A shutdown is answered only when it fails. */
const SHUTDOWN_WAIT = 2000n * MS;

/** What an agent is asked first. */
const INTRODUCTION = 'guest-info';

/** Bytes of a file or of input in one request: a multiple of 3 that gives lines below 100 KB. */
export const CHUNK = 63 * 1024;

interface Command {
  readonly name: string;
  /** Guest time at which it fails. */
  readonly until?: bigint | undefined;
  /** Guest time before which it is not sent; others pass it. */
  readonly after?: bigint;
  /** It refers to something that the agent holds (a file, a program): of no use to another agent. */
  readonly bound?: boolean;
  /** Success has no answer. */
  readonly silent?: boolean;
  readonly lineLimit?: number;
  /** Name and arguments when its turn has come, or why it cannot be sent. */
  message(): { readonly name: string; readonly args?: Json } | AgentError;
  /** The checked answer is up to whoever made the request. */
  readonly done: Done<Parsed>;
}

/** Who is told what the agent says of its own accord, and of the agent's coming and going. */
export interface ConnectionUser {
  /** What the agent of this connection answers to guest-info, before anything else is asked. */
  introduced(answer: Parsed | AgentError): void;
  /** The answer to a request of another client of the same agent, in whose place this one is now. */
  inherited(name: string, answer: Parsed | AgentError): void;
  /** An event; false when it means nothing. */
  event(name: Parsed, data: ParsedObject | undefined): boolean;
  /** The agent is gone. The calls that say so are for later. */
  lose(why: string): (() => void)[];
  /** Guest times at which `advance` has something to do. */
  deadlines(): Iterable<bigint>;
  /** Guest time is `now`, and requests are being answered. */
  advance(now: bigint): void;
}

/** How a connection stands: what the other end expects of whoever goes on with it. */
export interface ConnectionState {
  readonly phase: 'closed' | 'syncing' | 'ready';
  readonly line: LineState;
  readonly out: Uint8Array;
  readonly counter: number;
  readonly syncFrom: number;
  readonly syncAt: bigint;
  readonly syncAfter: bigint;
  /** The request whose answer is to come. */
  readonly current: { readonly name: string; readonly id: number; readonly until: bigint | undefined } | undefined;
  /** Whether guest-info has still to be asked. */
  readonly unknown: boolean;
}

export class Connection {
  /** Lines from the agent that meant nothing and were ignored. */
  ignored = 0;
  readonly #io: AgentIo;
  readonly #user: ConnectionUser;
  #phase: 'closed' | 'syncing' | 'ready' = 'closed';
  readonly #line = new LineBuffer();

  #queue: Command[] = [];
  #current: { command: Command; id: number; until: bigint | undefined } | undefined;
  /** Bytes of requests that the port has not taken yet. */
  #out: Uint8Array = new Uint8Array(0);

  /** The number of the next request; answers name theirs. */
  #counter = 1;
  /** Numbers of the syncs sent since `syncing` began: from this one on. */
  #syncFrom = 0;
  #syncAt = 0n;
  #syncAfter = SYNC_FIRST;

  constructor(io: AgentIo, user: ConnectionUser) {
    this.#io = io;
    this.#user = user;
  }

  /** Whether requests are being answered. */
  get ready(): boolean {
    return this.#phase === 'ready';
  }

  /** Guest time in ns. */
  now(): bigint {
    return this.#io.now();
  }

  /** A number that no request has had. */
  number(): number {
    return this.#counter++;
  }

  // --- What the machine calls, by way of the client

  /** The guest has opened or closed the port. */
  connected(open: boolean): void {
    if (open === (this.#phase !== 'closed')) return;
    if (open) this.#synchronize(this.#lose('the port was opened anew'));
    else {
      this.#phase = 'closed';
      this.#out = new Uint8Array(0);
      for (const call of this.#lose('the agent closed its port')) call();
    }
  }

  /** Bytes that the guest has written to the port. Takes up to so many lines of them; how many bytes and lines those were. */
  receive(bytes: Uint8Array, most = Number.POSITIVE_INFINITY): { readonly taken: number; readonly lines: number } {
    let lines = 0;
    const all = () => ({ taken: bytes.length, lines });
    if (this.#phase === 'closed') return all();
    let rest = bytes;
    while (rest.length > 0 && lines < most) {
      const newline = rest.indexOf(0x0a);
      const part = newline < 0 ? rest : rest.subarray(0, newline);
      rest = newline < 0 ? new Uint8Array(0) : rest.subarray(newline + 1);
      const limit = this.#current?.command.lineLimit ?? LINE_LIMIT;
      const fits = this.#line.append(part, limit);
      if (!fits) this.#nonsense(`it sent a line of more than ${limit} bytes`);
      if (newline < 0) continue;
      lines++;
      const { line, delimited } = this.#line.take();
      if (line !== undefined) this.#handle(line, delimited);
      // A callback may have closed the connection.
      if ((this.#phase as string) === 'closed') return all();
    }
    this.pump();
    return { taken: bytes.length - rest.length, lines };
  }

  /** The guest has written more than is listened to: the line under way, and what was to come of it, is lost. */
  flooded(): void {
    if (this.#phase === 'closed') return;
    this.#line.skip();
    this.#nonsense('it sent more at once than a guest can have to say');
  }

  /** Sends what waits, as far as the port takes it. */
  pump(): void {
    this.#flush();
    this.#next();
  }

  /** Guest time in ns at which `advance` has something to do. */
  deadline(): bigint | undefined {
    let first = this.#phase === 'syncing' ? this.#syncAt : undefined;
    const consider = (time: bigint | undefined) => {
      if (time !== undefined && (first === undefined || time < first)) first = time;
    };
    consider(this.#current?.until);
    for (const command of this.#queue) consider(command.until);
    if (this.#phase === 'ready') {
      // Those that are due wait for the one under way.
      for (const { after } of this.#queue) if (after !== undefined && after > this.now()) consider(after);
      for (const time of this.#user.deadlines()) consider(time);
    }
    return first;
  }

  /** Does what is due at guest time `now`. */
  advance(now: bigint): void {
    const calls: (() => void)[] = [];
    const late = (command: Command) => {
      calls.push(() => command.done(new AgentError('timeout', command.name, 'it did not answer in time')));
    };
    this.#queue = this.#queue.filter((command) => {
      if (command.until === undefined || command.until > now) return true;
      late(command);
      return false;
    });
    const current = this.#current;
    if (current?.until !== undefined && current.until <= now) {
      this.#current = undefined;
      if (current.command.silent && this.#out.length === 0) calls.push(() => current.command.done({}));
      else {
        late(current.command);
        // Its answer may still come: everything up to the answer of a new sync is thrown away.
        this.#synchronize([]);
      }
    }
    if (this.#phase === 'syncing' && this.#syncAt <= now) this.#sync();
    if (this.#phase === 'ready') this.#user.advance(now);
    for (const call of calls) call();
    this.pump();
  }

  /** Gives up: everything under way and waiting fails, and the client is closed. */
  close(why: string): void {
    this.#phase = 'closed';
    this.#out = new Uint8Array(0);
    const calls = this.#lose(why);
    for (const command of this.#queue.splice(0)) {
      calls.push(() => command.done(new AgentError('gone', command.name, why)));
    }
    for (const call of calls) call();
  }

  save(): ConnectionState {
    const current = this.#current;
    return {
      phase: this.#phase,
      line: this.#line.save(),
      out: this.#out,
      counter: this.#counter,
      syncFrom: this.#syncFrom,
      syncAt: this.#syncAt,
      syncAfter: this.#syncAfter,
      current: current && { name: current.command.name, id: current.id, until: current.until },
      unknown: this.#queue.some(({ name }) => name === INTRODUCTION),
    };
  }

  /**
   * Goes on where another client of the same agent stood. Requests of this one that were under way fail; those that wait, wait on. The
   * answer to a request of the other client is taken and thrown away.
   */
  restore(state: ConnectionState): void {
    const calls = this.#lose('the machine has become another one');
    this.#phase = state.phase;
    this.#line.restore(state.line);
    this.#out = state.out;
    this.#counter = state.counter;
    this.#syncFrom = state.syncFrom;
    this.#syncAt = state.syncAt;
    this.#syncAfter = state.syncAfter;
    const { current } = state;
    if (current) {
      const done: Done<Parsed> = (answer) => {
        if (current.name === INTRODUCTION) this.#user.introduced(answer);
        else this.#user.inherited(current.name, answer);
      };
      this.#current = { command: { name: current.name, message: () => ({ name: current.name }), done }, ...current };
    }
    this.#queue = this.#queue.filter(({ name }) => name !== INTRODUCTION);
    if (state.unknown) this.#introduce();
    for (const call of calls) call();
  }

  // --- Requests and answers

  command(name: string, args: Json | undefined, options: RequestOptions) {
    return {
      name,
      until: options.timeout === undefined ? undefined : this.#io.now() + options.timeout,
      message: () => (args === undefined ? { name } : { name, args }),
    };
  }

  ask(name: string, args: Json | undefined, options: RequestOptions, done: Done<Parsed>): void {
    this.enqueue({ ...this.command(name, args, options), done });
  }

  enqueue(command: Command): void {
    this.#queue.push(command);
    this.#next();
  }

  /** Sends the next request when its turn has come. */
  #next(): void {
    while (this.#phase === 'ready' && this.#current === undefined && this.#out.length === 0) {
      const due = this.#queue.findIndex(({ after }) => after === undefined || after <= this.now());
      if (due < 0) return;
      const [command] = this.#queue.splice(due, 1) as [Command];
      const message = command.message();
      if (message instanceof AgentError) {
        command.done(message);
        continue;
      }
      const id = this.number();
      let { until } = command;
      if (command.silent) {
        const patience = this.#io.now() + SHUTDOWN_WAIT;
        if (until === undefined || until > patience) until = patience;
      }
      this.#current = { command, id, until };
      this.#out = encodeLine({ execute: message.name, arguments: message.args, id });
      this.#flush();
    }
  }

  #flush(): void {
    while (this.#out.length > 0) {
      const taken = this.#io.send(this.#out);
      if (taken <= 0) return;
      this.#out = this.#out.slice(taken);
    }
  }

  /** Begins anew with the agent; then makes the calls. */
  #synchronize(calls: readonly (() => void)[]): void {
    this.#phase = 'syncing';
    this.#syncFrom = this.#counter;
    this.#syncAfter = SYNC_FIRST;
    // What is left of a request that was cut short is void: the sync's first byte says so.
    this.#out = new Uint8Array(0);
    this.#sync();
    for (const call of calls) call();
  }

  #sync(): void {
    // An earlier one that the port has not even taken serves as well.
    if (this.#out.length === 0) {
      const id = this.number();
      const line = encodeLine({ execute: 'guest-sync-delimited', arguments: { id }, id });
      // The byte makes the agent forget a line that was cut short; the newline ends it for agents that do not know the byte.
      this.#out = Uint8Array.of(0xff, 0x0a, ...line);
    }
    this.#syncAt = this.#io.now() + this.#syncAfter;
    this.#syncAfter = this.#syncAfter * 2n > SYNC_LAST ? SYNC_LAST : this.#syncAfter * 2n;
    this.#flush();
  }

  /** The agent of this connection is gone: what depended on it fails. The calls that say so are for later. */
  #lose(why: string): (() => void)[] {
    const calls: (() => void)[] = [];
    const fail = (command: Command) => {
      calls.push(() => command.done(command.silent ? {} : new AgentError('gone', command.name, why)));
    };
    this.#line.reset();
    const current = this.#current;
    this.#current = undefined;
    if (current !== undefined) fail(current.command);
    this.#queue = this.#queue.filter((command) => {
      if (!command.bound) return true;
      fail(command);
      return false;
    });
    calls.push(...this.#user.lose(why));
    return calls;
  }

  /** The agent said something that makes no sense. */
  #nonsense(why: string): void {
    const current = this.#current;
    if (this.#phase !== 'ready' || current === undefined) {
      this.ignored++;
      return;
    }
    this.#current = undefined;
    this.#synchronize([() => current.command.done(new AgentError('protocol', current.command.name, why))]);
  }

  #handle(line: Uint8Array, delimited: boolean): void {
    if (line.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)) return;
    const message = parseLine(line);
    if (message === undefined) return this.#nonsense('it sent a line that is not a JSON object');
    const event = member(message, 'event');
    if (event !== undefined) return this.#event(event, asObject(member(message, 'data')));
    if (this.#phase === 'syncing') return this.#synced(message, delimited);
    // The answer to a sync that had been repeated.
    if (delimited) return;
    this.#answer(message);
  }

  #synced(message: ParsedObject, delimited: boolean): void {
    const id = integerOf(message, 'return');
    if (!delimited || id === undefined || id < this.#syncFrom || id >= this.#counter) {
      this.ignored++;
      return;
    }
    this.#phase = 'ready';
    this.#introduce();
    this.#next();
  }

  #introduce(): void {
    this.#queue.unshift({
      ...this.command(INTRODUCTION, undefined, { timeout: INFO_TIMEOUT }),
      bound: true,
      done: (answer) => this.#user.introduced(answer),
    });
  }

  #answer(message: ParsedObject): void {
    const current = this.#current;
    const id = member(message, 'id');
    if (current === undefined || (typeof id === 'number' && id < current.id)) {
      this.ignored++; // late
      return;
    }
    if (id !== undefined && id !== current.id) return this.#nonsense('it answered a request that was not made');
    const value = member(message, 'return');
    const error = asObject(member(message, 'error'));
    if ((value === undefined) === (error === undefined))
      return this.#nonsense('it sent neither an answer nor an error');
    if (this.#out.length > 0) return this.#nonsense('it answered before it was asked');
    this.#current = undefined;
    if (value !== undefined) current.command.done(value);
    else {
      const kind = textOf(error, 'class') === 'CommandNotFound' ? 'unsupported' : 'refused';
      const why = textOf(error, 'desc') ?? 'it gave no reason';
      current.command.done(new AgentError(kind, current.command.name, why));
    }
    this.#next();
  }

  #event(name: Parsed, data: ParsedObject | undefined): void {
    if (name === 'braid-agent-ready') {
      if (this.#phase === 'ready') return this.#synchronize(this.#lose('the agent was started anew'));
      // We wait for one, and it listens now: what was sent before may be lost.
      this.#syncAfter = SYNC_FIRST;
      return this.#sync();
    }
    if (!this.#user.event(name, data)) this.ignored++;
  }
}

/** A `done` of a plain command, from that of a request: errors pass, answers become what `value` makes of them. */
export function reply<T>(done: Done<T>, value: (answer: Parsed) => T): Done<Parsed> {
  return (answer) => done(answer instanceof AgentError ? answer : value(answer));
}

/**
 * The host's end of the guest agent's port (QEMU guest agent protocol, QEMU's qga/qapi-schema.json, and Braid's pushed exec).
 *
 * A state machine driven by bytes and by guest time; it has no timers and no promises, so what it sends and when is a function
 * of what it was given and when. It runs in the machine's thread at slice boundaries:
 *
 *     connected(true)   the guest opened the port        closed -> syncing
 *     receive(bytes)    the guest wrote to the port
 *     pump()            the port may take bytes again
 *     advance(now)      `deadline()` has come
 *     connected(false)  the guest closed the port        -> closed
 *
 *     closed --open--> syncing --answer to guest-sync-delimited--> ready
 *                         ^------- timeout, nonsense, braid-agent-ready -----|
 *
 * In `syncing` a sync is repeated until it is answered: a port can open before anybody reads it. In `ready` one request is in
 * flight at a time and answers come in order; a request without its answer can only be given up together with everything that
 * may still come, which is what a sync does. Requests made earlier wait.
 *
 * The agent is hostile. Lines are bounded, answers are checked, and whatever it sends, the outcome is an `AgentError` for a
 * request or nothing at all. Callbacks are called from within the calls above and may make requests; what they throw passes
 * through. Each is called exactly once, for a request whose arguments are wrong before the request returns.
 */

import { decodeBase64, encodeBase64 } from './base64.ts';
import { AgentError } from './errors.ts';
import {
  asInteger,
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

export interface AgentInfo {
  readonly version: string;
  /** Names of the commands that are enabled. */
  readonly commands: ReadonlySet<string>;
}

export interface ExecRequest {
  /** The program, looked up in the guest's PATH, and its arguments. */
  readonly argv: readonly string[];
  /** `NAME=VALUE`, added to the agent's environment. */
  readonly env?: readonly string[];
  readonly cwd?: string;
  /** All of the program's standard input, or `stream` to write it bit by bit; without it, the program reads nothing. */
  readonly input?: Uint8Array | 'stream';
  /** Gives the program a terminal of this size; all output is then `stdout`. */
  readonly terminal?: { readonly rows: number; readonly cols: number };
}

export type ExecStream = 'stdout' | 'stderr';

/** How a program ended. */
export interface ExecExit {
  /** Its exit code, when it ended by itself. */
  readonly code?: number;
  /** The number of the signal that ended it. */
  readonly signal?: number;
  /** The agent did not keep all of its output (stock agents only). */
  readonly truncated?: boolean;
}

export interface ExecHandlers {
  output(stream: ExecStream, bytes: Uint8Array): void;
  /** The last call: the program is over, or could not be started, or nobody knows what became of it. */
  exit: Done<ExecExit>;
}

/** A program that runs, or will. Calls after its end do nothing and report `gone`. */
export interface ExecHandle {
  /** Appends to the program's input; `done` once the agent has taken it. Only after `input: 'stream'` or with a terminal. */
  write(bytes: Uint8Array, done?: Done<void>): void;
  /** Ends the program's input. */
  end(done?: Done<void>): void;
  signal(signal: number, done?: Done<void>): void;
  resize(rows: number, cols: number, done?: Done<void>): void;
}

export type ShutdownMode = 'powerdown' | 'halt' | 'reboot';

const MS = 1_000_000n;
/** Between repeated syncs: doubling, as an agent that is not there yet may be long in coming. */
const SYNC_FIRST = 10n * MS;
const SYNC_LAST = 1000n * MS;
/** Between polls of a stock agent's guest-exec-status, doubling. */
const POLL_FIRST = 10n * MS;
const POLL_LAST = 200n * MS;
/** The agent has answered a sync: it owes the answer to guest-info. */
const INFO_TIMEOUT = 5000n * MS;
/** A shutdown is answered only when it fails. */
const SHUTDOWN_WAIT = 2000n * MS;

const LINE_LIMIT = 2 ** 20;
/** A stock agent gives all output, up to 16 MiB a stream, in one line. */
const STATUS_LINE_LIMIT = 48 * 2 ** 20;
/** Bytes of a file or of input in one request: a multiple of 3 that gives lines below 100 KB. */
const CHUNK = 63 * 1024;
/** Input that the agent holds for a program before we wait until the program has read it. */
const INPUT_AHEAD = 256 * 1024;
const FILE_LIMIT = 256 * 2 ** 20;

interface Command {
  readonly name: string;
  /** Guest time at which it fails. */
  readonly until?: bigint | undefined;
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

/** A running program, by any kind of agent. */
interface Program {
  readonly request: ExecRequest;
  readonly handlers: ExecHandlers;
  /** What the agent calls it, once started. */
  id: number | undefined;
  over: boolean;
  /** Whether the agent pushes its output and exit; known when it is started. */
  pushed: boolean;
  /** Calls of the handle from before the start. */
  waiting: (() => void)[];
  input: { bytes: Uint8Array; eof: boolean; done: Done<void> | undefined }[];
  inputState: 'open' | 'sending' | 'full' | 'closed';
  /** Of a program that is polled: when next, or undefined while a poll is under way. */
  pollAt: bigint | undefined;
  pollAfter: bigint;
}

export class AgentClient {
  /** Lines from the agent that meant nothing and were ignored. */
  ignored = 0;
  readonly #io: AgentIo;
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

  /** Whether the agent has braid-exec. */
  #pushes = false;
  readonly #running = new Map<number, Program>();
  readonly #polled = new Set<Program>();

  constructor(io: AgentIo) {
    this.#io = io;
  }

  /** Whether requests are being answered. */
  get ready(): boolean {
    return this.#phase === 'ready';
  }

  // --- What the machine calls

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

  /** Bytes that the guest has written to the port. */
  receive(bytes: Uint8Array): void {
    if (this.#phase === 'closed') return;
    for (let rest = bytes; rest.length > 0; ) {
      const newline = rest.indexOf(0x0a);
      const part = newline < 0 ? rest : rest.subarray(0, newline);
      rest = newline < 0 ? new Uint8Array(0) : rest.subarray(newline + 1);
      const limit = this.#current?.command.lineLimit ?? LINE_LIMIT;
      const fits = this.#line.append(part, limit);
      if (!fits) this.#nonsense(`it sent a line of more than ${limit} bytes`);
      if (newline < 0) continue;
      const { line, delimited } = this.#line.take();
      if (line !== undefined) this.#handle(line, delimited);
      // A callback may have closed the connection.
      if ((this.#phase as string) === 'closed') return;
    }
    this.pump();
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
    if (this.#phase === 'ready') for (const program of this.#polled) consider(program.pollAt);
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
    if (this.#phase === 'ready') {
      for (const program of this.#polled) {
        if (program.pollAt !== undefined && program.pollAt <= now) this.#poll(program);
      }
    }
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

  // --- Requests

  /** Finds out whether the agent answers: it gives back a number of ours. The sync that begins a connection is our own affair. */
  sync(done: Done<void>, options: RequestOptions = {}): void {
    const id = this.#counter++;
    this.#ask('guest-sync', { id }, options, (answer) => {
      if (answer instanceof AgentError) return done(answer);
      done(answer === id ? undefined : new AgentError('protocol', 'guest-sync', 'it answered with another number'));
    });
  }

  ping(done: Done<void>, options: RequestOptions = {}): void {
    this.#ask(
      'guest-ping',
      undefined,
      options,
      reply(done, () => {}),
    );
  }

  info(done: Done<AgentInfo>, options: RequestOptions = {}): void {
    this.#ask('guest-info', undefined, options, (answer) => done(parseInfo(answer)));
  }

  /** Turns the guest off. Success is that no refusal came: a guest that is going down does not answer. */
  shutdown(mode: ShutdownMode, done: Done<void>, options: RequestOptions = {}): void {
    const command = this.#command('guest-shutdown', { mode }, options);
    this.#enqueue({ ...command, silent: true, done: reply(done, () => {}) });
  }

  /** Sets the guest's clock, in ns since 1970. */
  setTime(time: bigint, done: Done<void>, options: RequestOptions = {}): void {
    this.#ask(
      'guest-set-time',
      { time },
      options,
      reply(done, () => {}),
    );
  }

  /** Reads a whole file of at most `limit` bytes (256 MiB if not given). */
  readFile(path: string, done: Done<Uint8Array>, options: RequestOptions & { readonly limit?: number } = {}): void {
    const limit = options.limit ?? FILE_LIMIT;
    const chunks: Uint8Array[] = [];
    let total = 0;
    this.#withFile(path, 'r', options, done, (handle, step, finish) => {
      const next = () => {
        step('guest-file-read', { handle, count: CHUNK }, (answer) => {
          const object = asObject(answer);
          const bytes = decodeBase64(textOf(object, 'buf-b64') ?? '!');
          const eof = member(object, 'eof');
          if (bytes === undefined || typeof eof !== 'boolean' || integerOf(object, 'count') !== bytes.length) {
            return finish(new AgentError('protocol', 'guest-file-read', 'its answer makes no sense'));
          }
          if (bytes.length === 0 && !eof) {
            return finish(
              new AgentError('protocol', 'guest-file-read', 'it reads nothing and does not say that the file ends'),
            );
          }
          total += bytes.length;
          if (total > limit) {
            return finish(new AgentError('limit', 'guest-file-read', `${path} has more than ${limit} bytes`));
          }
          chunks.push(bytes);
          if (!eof) return next();
          const whole = new Uint8Array(total);
          let at = 0;
          for (const chunk of chunks) {
            whole.set(chunk, at);
            at += chunk.length;
          }
          finish(whole);
        });
      };
      next();
    });
  }

  /** Writes a whole file, replacing one that is there. The bytes must not change until `done`. */
  writeFile(path: string, bytes: Uint8Array, done: Done<void>, options: RequestOptions = {}): void {
    this.#withFile(path, 'w', options, done, (handle, step, finish) => {
      const next = (at: number) => {
        if (at === bytes.length) return finish(undefined);
        const chunk = bytes.subarray(at, at + CHUNK);
        step('guest-file-write', { handle, 'buf-b64': encodeBase64(chunk) }, (answer) => {
          const count = integerOf(asObject(answer), 'count');
          if (count === undefined || count <= 0 || count > chunk.length) {
            return finish(new AgentError('protocol', 'guest-file-write', 'its answer makes no sense'));
          }
          next(at + count);
        });
      };
      next(0);
    });
  }

  /**
   * Runs a program. With Braid's agent, output and exit come as they happen; with a stock agent the program is polled at growing
   * distances of guest time, its output comes at its end, and it can have neither a terminal nor streamed input.
   */
  exec(request: ExecRequest, handlers: ExecHandlers, options: RequestOptions = {}): ExecHandle {
    const program: Program = {
      request,
      handlers,
      id: undefined,
      over: false,
      pushed: false,
      waiting: [],
      input: [],
      inputState: 'open',
      pollAt: undefined,
      pollAfter: POLL_FIRST,
    };
    const handle = this.#handleOf(program);
    const wrong = wrongRequest(request);
    if (wrong !== undefined) {
      program.over = true;
      handlers.exit(new AgentError('request', 'exec', wrong));
      return handle;
    }
    this.#enqueue({
      ...this.#command('exec', undefined, options),
      message: () => {
        program.pushed = this.#pushes;
        if (program.pushed) return { name: 'braid-exec', args: execArguments(request) };
        if (request.terminal !== undefined || request.input === 'stream') {
          const what = request.terminal !== undefined ? 'a terminal' : 'streamed input';
          return new AgentError('unsupported', 'exec', `this agent cannot give a program ${what}`);
        }
        return { name: 'guest-exec', args: stockArguments(request) };
      },
      done: (answer) => this.#started(program, answer),
    });
    if (request.input instanceof Uint8Array) {
      program.waiting.push(() => {
        if (!program.pushed || program.over) return; // it was part of the request, or there is no program
        this.#input(program, request.input as Uint8Array, false, undefined);
        this.#input(program, new Uint8Array(0), true, undefined);
      });
    }
    return handle;
  }

  // --- Programs

  #started(program: Program, answer: Parsed | AgentError): void {
    if (answer instanceof AgentError) return this.#end(program, answer);
    const id = integerOf(asObject(answer), program.pushed ? 'id' : 'pid');
    if (id === undefined || id < 0 || this.#running.has(id)) {
      return this.#end(program, new AgentError('protocol', 'exec', 'its answer makes no sense'));
    }
    program.id = id;
    if (program.pushed) this.#running.set(id, program);
    else {
      this.#polled.add(program);
      program.pollAt = this.#io.now() + program.pollAfter;
    }
    for (const call of program.waiting.splice(0)) call();
  }

  #handleOf(program: Program): ExecHandle {
    const gone = () => new AgentError('gone', 'exec', 'the program is over');
    /** Runs a call now, or when the program has started; not at all when it is over. */
    const act = (done: Done<void> | undefined, call: (id: number) => void) => {
      if (program.over) return done?.(gone());
      const run = () => (program.over ? done?.(gone()) : call(program.id!));
      if (program.id === undefined) program.waiting.push(run);
      else run();
    };
    const control = (name: string, done: Done<void> | undefined, args: (id: number) => Json) => {
      act(done, (id) => {
        if (program.pushed) {
          this.#enqueue({
            ...this.#command(name, args(id), {}),
            bound: true,
            done: reply(done ?? (() => {}), () => {}),
          });
        } else if (name === 'braid-exec-signal') {
          const { signal } = args(id) as { signal: number };
          const argv = ['sh', '-c', 'kill -"$0" "$1"', `${signal}`, `${id}`];
          const exit: Done<ExecExit> = (result) => done?.(result instanceof AgentError ? result : undefined);
          this.exec({ argv }, { output: () => {}, exit });
        } else done?.(new AgentError('unsupported', name, 'this agent cannot do it'));
      });
    };
    const streams = program.request.input === 'stream' || program.request.terminal !== undefined;
    const input = (bytes: Uint8Array, eof: boolean, done: Done<void> | undefined) => {
      if (!streams)
        done?.(new AgentError('request', 'braid-exec-input', 'the program was started without streamed input'));
      else act(done, () => this.#input(program, bytes, eof, done));
    };
    return {
      write: (bytes, done) => input(bytes, false, done),
      end: (done) => input(new Uint8Array(0), true, done),
      signal: (signal, done) => control('braid-exec-signal', done, (id) => ({ id, signal })),
      resize: (rows, cols, done) => control('braid-exec-resize', done, (id) => ({ id, rows, cols })),
    };
  }

  #input(program: Program, bytes: Uint8Array, eof: boolean, done: Done<void> | undefined): void {
    program.input.push({ bytes, eof, done });
    this.#feed(program);
  }

  /** Sends the next piece of a program's input, one request at a time so that signals can pass between pieces. */
  #feed(program: Program): void {
    if (program.inputState === 'closed') return this.#dropInput(program, 'the program reads no more');
    const item = program.input[0];
    if (program.inputState !== 'open' || item === undefined || program.over) return;
    const piece = item.bytes.subarray(0, CHUNK);
    item.bytes = item.bytes.subarray(piece.length);
    const last = item.bytes.length === 0;
    const eof = item.eof && last;
    program.inputState = 'sending';
    this.#enqueue({
      ...this.#command('braid-exec-input', { id: program.id!, data: encodeBase64(piece), eof }, {}),
      bound: true,
      done: (answer) => {
        if (answer instanceof AgentError) {
          program.inputState = 'closed';
          return this.#dropInput(program, answer.message);
        }
        const queued = integerOf(asObject(answer), 'queued') ?? 0;
        program.inputState = queued > INPUT_AHEAD ? 'full' : 'open';
        if (last && program.input[0] === item) {
          program.input.shift();
          item.done?.(undefined);
        }
        this.#feed(program);
      },
    });
  }

  #dropInput(program: Program, why: string): void {
    for (const { done } of program.input.splice(0)) done?.(new AgentError('gone', 'braid-exec-input', why));
  }

  /** Asks a stock agent how a program is doing. */
  #poll(program: Program): void {
    program.pollAt = undefined;
    const name = 'guest-exec-status';
    this.#enqueue({
      ...this.#command(name, { pid: program.id! }, {}),
      bound: true,
      lineLimit: STATUS_LINE_LIMIT,
      done: (answer) => {
        if (program.over) return;
        if (answer instanceof AgentError) return this.#end(program, answer);
        const nonsense = () => this.#end(program, new AgentError('protocol', name, 'its answer makes no sense'));
        const status = asObject(answer);
        const exited = member(status, 'exited');
        if (exited === false) {
          program.pollAfter = program.pollAfter * 2n > POLL_LAST ? POLL_LAST : program.pollAfter * 2n;
          program.pollAt = this.#io.now() + program.pollAfter;
          return;
        }
        const exit = parseExit(status);
        const outputs = (['out-data', 'err-data'] as const).map((key) => {
          const text = member(status, key);
          return text === undefined ? new Uint8Array(0) : typeof text === 'string' ? decodeBase64(text) : undefined;
        });
        if (exited !== true || exit === undefined || outputs.includes(undefined)) return nonsense();
        const truncated = member(status, 'out-truncated') === true || member(status, 'err-truncated') === true;
        outputs.forEach((bytes, i) => {
          if (bytes!.length > 0) program.handlers.output(i === 0 ? 'stdout' : 'stderr', bytes!);
        });
        this.#end(program, truncated ? { ...exit, truncated } : exit);
      },
    });
  }

  #end(program: Program, outcome: ExecExit | AgentError): void {
    if (program.over) return;
    program.over = true;
    if (program.id !== undefined && this.#running.get(program.id) === program) this.#running.delete(program.id);
    this.#polled.delete(program);
    this.#dropInput(program, 'the program is over');
    for (const call of program.waiting.splice(0)) call();
    program.handlers.exit(outcome);
  }

  // --- Files

  /** Opens a file, does `work`, closes the file whatever happened, and reports. */
  #withFile<T>(
    path: string,
    mode: string,
    options: RequestOptions,
    done: Done<T>,
    work: (
      handle: number,
      step: (name: string, args: Json, answered: (answer: Parsed) => void) => void,
      finish: Done<T>,
    ) => void,
  ): void {
    if (path.includes('\0'))
      return done(new AgentError('request', 'guest-file-open', 'the path contains a zero character'));
    const open = this.#command('guest-file-open', { path, mode }, options);
    const bound = (name: string, args: Json, answered: Done<Parsed>) => {
      this.#enqueue({ ...this.#command(name, args, {}), until: open.until, bound: true, done: answered });
    };
    this.#enqueue({
      ...open,
      done: (answer) => {
        if (answer instanceof AgentError) return done(answer);
        const handle = asInteger(answer);
        if (handle === undefined) return done(new AgentError('protocol', open.name, 'its answer makes no sense'));
        const finish: Done<T> = (outcome) => {
          if (outcome instanceof AgentError) {
            // Nobody waits for the file to be closed; a new agent has no such file.
            const command = this.#command('guest-file-close', { handle }, {});
            if (outcome.kind !== 'gone') this.#enqueue({ ...command, bound: true, done: () => {} });
            return done(outcome);
          }
          // All of it is written only when that has worked.
          bound('guest-file-close', { handle }, (closed) => {
            done(closed instanceof AgentError && mode !== 'r' ? closed : outcome);
          });
        };
        const step = (name: string, args: Json, answered: (answer: Parsed) => void) => {
          bound(name, args, (result) => (result instanceof AgentError ? finish(result) : answered(result)));
        };
        work(handle, step, finish);
      },
    });
  }

  // --- Requests and answers

  #command(name: string, args: Json | undefined, options: RequestOptions) {
    return {
      name,
      until: options.timeout === undefined ? undefined : this.#io.now() + options.timeout,
      message: () => (args === undefined ? { name } : { name, args }),
    };
  }

  #ask(name: string, args: Json | undefined, options: RequestOptions, done: Done<Parsed>): void {
    this.#enqueue({ ...this.#command(name, args, options), done });
  }

  #enqueue(command: Command): void {
    this.#queue.push(command);
    this.#next();
  }

  /** Sends the next request when its turn has come. */
  #next(): void {
    while (this.#phase === 'ready' && this.#current === undefined && this.#out.length === 0) {
      const command = this.#queue.shift();
      if (command === undefined) return;
      const message = command.message();
      if (message instanceof AgentError) {
        command.done(message);
        continue;
      }
      const id = this.#counter++;
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
      const id = this.#counter++;
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
    for (const program of [...this.#running.values(), ...this.#polled]) {
      calls.push(() => this.#end(program, new AgentError('gone', 'exec', why)));
    }
    this.#running.clear();
    this.#polled.clear();
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
    this.#queue.unshift({
      ...this.#command('guest-info', undefined, { timeout: INFO_TIMEOUT }),
      bound: true,
      done: (answer) => {
        const info = parseInfo(answer);
        this.#pushes = !(info instanceof AgentError) && info.commands.has('braid-exec');
      },
    });
    this.#next();
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
    const program = this.#running.get(integerOf(data, 'id') ?? -1);
    if (program !== undefined) {
      if (name === 'braid-exec-output') {
        const stream = textOf(data, 'stream');
        const bytes = decodeBase64(textOf(data, 'data') ?? '!');
        if ((stream === 'stdout' || stream === 'stderr') && bytes !== undefined) {
          if (bytes.length > 0) program.handlers.output(stream, bytes);
          return;
        }
        // Output with a hole in it must not pass for the output.
        return this.#end(program, new AgentError('protocol', 'exec', 'it sent output that makes no sense'));
      }
      if (name === 'braid-exec-exit') {
        const exit = parseExit(data);
        return this.#end(program, exit ?? new AgentError('protocol', 'exec', 'it sent an exit that makes no sense'));
      }
      if (name === 'braid-exec-input-drained') {
        if (program.inputState === 'full') program.inputState = 'open';
        return this.#feed(program);
      }
    }
    this.ignored++;
  }
}

/** An incoming line in the making. The byte 0xff, which no JSON text has, voids what came before it. */
class LineBuffer {
  #bytes: Uint8Array = new Uint8Array(4096);
  #length = 0;
  #delimited = false;
  #skipping = false;

  /** Adds to the line; false when it has just become longer than `limit`, and the rest of it is skipped. */
  append(part: Uint8Array, limit: number): boolean {
    const mark = part.lastIndexOf(0xff);
    if (mark >= 0) {
      this.reset();
      this.#delimited = true;
    }
    const bytes = part.subarray(mark + 1);
    if (this.#skipping) return true;
    const length = this.#length + bytes.length;
    if (length > limit) {
      this.#skipping = true;
      this.#length = 0;
      return false;
    }
    if (length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(length, this.#bytes.length * 2));
      larger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = length;
    return true;
  }

  /** The line that has ended, undefined for one that was skipped; and whether 0xff came before it. */
  take(): { line: Uint8Array | undefined; delimited: boolean } {
    const taken = { line: this.#skipping ? undefined : this.#bytes.slice(0, this.#length), delimited: this.#delimited };
    this.reset();
    return taken;
  }

  reset(): void {
    this.#length = 0;
    this.#delimited = false;
    this.#skipping = false;
    // One long line must not hold its memory for ever.
    if (this.#bytes.length > LINE_LIMIT) this.#bytes = new Uint8Array(4096);
  }
}

/** A `done` of a plain command, from that of a request: errors pass, answers become what `value` makes of them. */
function reply<T>(done: Done<T>, value: (answer: Parsed) => T): Done<Parsed> {
  return (answer) => done(answer instanceof AgentError ? answer : value(answer));
}

function parseInfo(answer: Parsed | AgentError): AgentInfo | AgentError {
  if (answer instanceof AgentError) return answer;
  const object = asObject(answer);
  const version = textOf(object, 'version');
  const list = member(object, 'supported_commands');
  if (version === undefined || !Array.isArray(list)) {
    return new AgentError('protocol', 'guest-info', 'its answer makes no sense');
  }
  const commands = new Set<string>();
  for (const item of list) {
    const command = asObject(item);
    const name = textOf(command, 'name');
    if (name !== undefined && member(command, 'enabled') === true) commands.add(name);
  }
  return { version, commands };
}

function parseExit(data: ParsedObject | undefined): ExecExit | undefined {
  const code = integerOf(data, 'exitcode');
  const signal = integerOf(data, 'signal');
  if (code !== undefined && signal === undefined && code >= 0 && code <= 0xffff_ffff) return { code };
  if (signal !== undefined && code === undefined && signal > 0 && signal <= 127) return { signal };
  return undefined;
}

function wrongRequest({ argv, env, cwd, terminal }: ExecRequest): string | undefined {
  if (argv.length === 0 || argv[0] === '') return 'there is no program to run';
  if ([...argv, ...(env ?? []), cwd ?? ''].some((text) => text.includes('\0')))
    return 'a text contains a zero character';
  if (env?.some((variable) => variable.indexOf('=') < 1)) return 'a variable is not NAME=VALUE';
  const size = (n: number) => Number.isInteger(n) && n > 0 && n < 65536;
  if (terminal !== undefined && !(size(terminal.rows) && size(terminal.cols)))
    return 'a terminal cannot have that size';
  return undefined;
}

function execArguments({ argv, env, cwd, input, terminal }: ExecRequest): Json {
  return {
    argv,
    ...(env === undefined ? {} : { env }),
    ...(cwd === undefined ? {} : { cwd }),
    ...(terminal === undefined ? {} : { terminal: { rows: terminal.rows, cols: terminal.cols } }),
    input: input !== undefined,
  };
}

/** The same for guest-exec, which knows no folder and whose environment replaces the agent's: programs that do know help. */
function stockArguments({ argv, env, cwd, input }: ExecRequest): Json {
  let words = argv;
  if (cwd !== undefined) words = ['sh', '-c', 'cd -- "$0" && exec "$@"', cwd, ...words];
  if (env !== undefined && env.length > 0) words = ['env', ...env, ...words];
  return {
    path: words[0]!,
    arg: words.slice(1),
    ...(input instanceof Uint8Array ? { 'input-data': encodeBase64(input) } : {}),
    'capture-output': true,
  };
}

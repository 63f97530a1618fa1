/**
 * Programs run by way of the agent: started, fed, told about. Braid's agent pushes output and exit as events; how a stock agent
 * is asked for them is in `polling.ts`.
 */

import { decodeBase64, encodeBase64 } from './base64.ts';
import { CHUNK, type Connection, type Done, type RequestOptions, reply } from './connection.ts';
import { AgentError } from './errors.ts';
import { asObject, integerOf, type Json, member, type Parsed, type ParsedObject, textOf } from './messages.ts';
import { Polling, stockArguments } from './polling.ts';
import {
  type ExecExit,
  type ExecHandle,
  type ExecHandlers,
  type ExecRequest,
  type Program,
  parseExit,
  wrongRequest,
} from './program.ts';

/** Input that the agent holds for a program before we wait until the program has read it. */
const INPUT_AHEAD = 256 * 1024;
const SIGKILL = 9;
/** What a request for a program is called. */
export const START = 'exec';

/** What is known of the agent and of named programs that push. */
export interface ProgramsState {
  readonly pushes: boolean;
  readonly running: readonly {
    readonly key: string;
    readonly id: number;
    /** Whether input may be written to it, and whether the agent waits for it to be read first. */
    readonly streams: boolean;
    readonly full: boolean;
  }[];
  /** One whose start is the request under way. */
  readonly starting: { readonly key: string; readonly streams: boolean } | undefined;
}

export class Programs {
  /** Whether the agent has braid-exec. */
  pushes = false;
  readonly #connection: Connection;
  readonly #running = new Map<number, Program>();
  readonly #polling: Polling;
  /** The program whose start is the request under way. */
  #starting: Program | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#polling = new Polling(connection, (program, outcome) => this.#end(program, outcome));
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
    };
    const handle = this.#handleOf(program);
    const wrong = wrongRequest(request);
    if (wrong !== undefined) {
      program.over = true;
      handlers.exit(new AgentError('request', 'exec', wrong));
      return handle;
    }
    this.#connection.enqueue({
      ...this.#connection.command(START, undefined, options),
      message: () => {
        program.pushed = this.pushes;
        handlers.asked?.();
        if (program.pushed) {
          this.#starting = program;
          return { name: 'braid-exec', args: execArguments(request) };
        }
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

  save(): ProgramsState {
    const running = [...this.#running.values()].flatMap(({ id, handlers: { key }, request, inputState }) =>
      key === undefined
        ? []
        : [{ key, id: id!, streams: streamsInput(request), full: inputState !== 'open' && inputState !== 'sending' }],
    );
    const { handlers, request, waiting } = this.#starting ?? {};
    // One that is to be given something as soon as it runs is lost to another client, which has nothing to give.
    const starting =
      handlers?.key === undefined || waiting!.length > 0
        ? undefined
        : { key: handlers.key, streams: streamsInput(request!) };
    return { pushes: this.pushes, running, starting };
  }

  /** Forgets named programs without a word: what becomes of them is the business of whoever named them. */
  detach(): void {
    for (const [id, program] of this.#running) {
      if (program.handlers.key === undefined) continue;
      this.#running.delete(id);
      program.over = true;
      this.#dropInput(program, 'the machine has become another one');
    }
    if (this.#starting?.handlers.key === undefined || this.#starting.waiting.length > 0) return;
    this.#starting.over = true;
    this.#starting = undefined;
  }

  /** Takes over programs of another client of the same agent, by the names in their new handlers; those without any are forgotten. */
  restore(state: ProgramsState, handlersOf: (key: string) => ExecHandlers | undefined): Map<string, ExecHandle> {
    this.pushes = state.pushes;
    const handles = new Map<string, ExecHandle>();
    const { starting } = state;
    for (const { key, id, streams, full } of [
      ...state.running,
      ...(starting ? [{ ...starting, id: undefined, full: false }] : []),
    ]) {
      const handlers = handlersOf(key);
      if (!handlers) continue;
      const program: Program = {
        request: { argv: [key], ...(streams ? { input: 'stream' } : {}) },
        handlers,
        id,
        over: false,
        pushed: true,
        waiting: [],
        input: [],
        inputState: full ? 'full' : 'open',
      };
      if (id === undefined) this.#starting = program;
      else this.#running.set(id, program);
      const handle = this.#handleOf(program);
      handles.set(handlers.key ?? key, handle);
      handlers.attached?.(handle);
    }
    return handles;
  }

  /** The answer to a start that another client asked for, as far as its program is known by a name. */
  answered(answer: Parsed | AgentError): void {
    if (this.#starting) this.#started(this.#starting, answer);
  }

  // --- What the connection tells

  /** Guest times at which `advance` has something to do. */
  deadlines(): Iterable<bigint> {
    return this.#polling.deadlines();
  }

  advance(now: bigint): void {
    this.#polling.advance(now);
  }

  /** The agent is gone, and with it all that is known of its programs. The calls that say so are for later. */
  lose(why: string): (() => void)[] {
    const programs = [...this.#running.values(), ...this.#polling.clear()];
    this.#running.clear();
    return programs.map((program) => () => this.#end(program, new AgentError('gone', 'exec', why)));
  }

  /** Takes an event of a program; false for one that means nothing. */
  event(name: Parsed, data: ParsedObject | undefined): boolean {
    const program = this.#running.get(integerOf(data, 'id') ?? -1);
    if (program === undefined) return false;
    switch (name) {
      case 'braid-exec-output':
        this.#output(program, textOf(data, 'stream'), decodeBase64(textOf(data, 'data') ?? '!'));
        return true;
      case 'braid-exec-exit': {
        const exit = parseExit(data);
        this.#end(program, exit ?? new AgentError('protocol', 'exec', 'it sent an exit that makes no sense'));
        return true;
      }
      case 'braid-exec-input-drained':
        if (program.inputState === 'full') program.inputState = 'open';
        this.#feed(program);
        return true;
      default:
        return false;
    }
  }

  #output(program: Program, stream: string | undefined, bytes: Uint8Array | undefined): void {
    if ((stream === 'stdout' || stream === 'stderr') && bytes !== undefined) {
      if (bytes.length > 0) program.handlers.output(stream, bytes);
      // Output with a hole in it must not pass for the output.
    } else this.#end(program, new AgentError('protocol', 'exec', 'it sent output that makes no sense'));
  }

  // --- One program

  #started(program: Program, answer: Parsed | AgentError): void {
    if (this.#starting === program) this.#starting = undefined;
    if (program.over) return;
    if (answer instanceof AgentError) return this.#end(program, answer);
    const id = integerOf(asObject(answer), program.pushed ? 'id' : 'pid');
    if (id === undefined || id < 0 || this.#running.has(id)) {
      return this.#end(program, new AgentError('protocol', 'exec', 'its answer makes no sense'));
    }
    program.id = id;
    if (program.pushed) this.#running.set(id, program);
    else this.#polling.add(program);
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
          this.#connection.enqueue({
            ...this.#connection.command(name, args(id), {}),
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
    const streams = streamsInput(program.request);
    const input = (bytes: Uint8Array, eof: boolean, done: Done<void> | undefined) => {
      if (!streams)
        done?.(new AgentError('request', 'braid-exec-input', 'the program was started without streamed input'));
      else act(done, () => this.#input(program, bytes, eof, done));
    };
    const signal = (number: number, done?: Done<void>) => {
      control('braid-exec-signal', done, (id) => ({ id, signal: number }));
    };
    return {
      write: (bytes, done) => input(bytes, false, done),
      end: (done) => input(new Uint8Array(0), true, done),
      signal,
      kill: (done) => act(done, (id) => this.#kill(program, id, signal, done)),
      resize: (rows, cols, done) => control('braid-exec-resize', done, (id) => ({ id, rows, cols })),
    };
  }

  #kill(program: Program, id: number, signal: ExecHandle['signal'], done: Done<void> = () => {}): void {
    const why = "it cannot end processes that have left the program's session; all others are ended";
    const unreached = new AgentError('unsupported', 'braid-exec-kill', why);
    const signalAll = () => signal(SIGKILL, (failed) => done(failed ?? unreached));
    if (!program.pushed) return signalAll();
    this.#connection.enqueue({
      ...this.#connection.command('braid-exec-kill', { id }, {}),
      bound: true,
      done: (answer) => {
        // An agent from before this command.
        if (answer instanceof AgentError) return answer.kind === 'unsupported' ? signalAll() : done(answer);
        done(member(asObject(answer), 'all') === true ? undefined : unreached);
      },
    });
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
    this.#connection.enqueue({
      ...this.#connection.command('braid-exec-input', { id: program.id!, data: encodeBase64(piece), eof }, {}),
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

  #end(program: Program, outcome: ExecExit | AgentError): void {
    if (program.over) return;
    program.over = true;
    if (program.id !== undefined && this.#running.get(program.id) === program) this.#running.delete(program.id);
    this.#polling.delete(program);
    this.#dropInput(program, 'the program is over');
    for (const call of program.waiting.splice(0)) call();
    program.handlers.exit(outcome);
  }
}

function streamsInput({ input, terminal }: ExecRequest): boolean {
  return input === 'stream' || terminal !== undefined;
}

/** Arguments of braid-exec. */
function execArguments({ argv, env, cwd, input, terminal }: ExecRequest): Json {
  return {
    argv,
    ...(env === undefined ? {} : { env }),
    ...(cwd === undefined ? {} : { cwd }),
    ...(terminal === undefined ? {} : { terminal: { rows: terminal.rows, cols: terminal.cols } }),
    input: input !== undefined,
  };
}

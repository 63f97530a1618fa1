/**
 * The host's end of the guest agent's port (QEMU guest agent protocol, QEMU's qga/qapi-schema.json, and Braid's pushed exec).
 *
 * A state machine driven by bytes and by guest time; it has no timers and no promises, so what it sends and when is a function
 * of what it was given and when. It runs in the machine's thread at slice boundaries:
 *
 *     connected(true)   the guest opened the port
 *     receive(bytes)    the guest wrote to the port
 *     pump()            the port may take bytes again
 *     advance(now)      `deadline()` has come
 *     connected(false)  the guest closed the port
 *
 * The agent is hostile. Lines are bounded, answers are checked, and whatever it sends, the outcome is an `AgentError` for a
 * request or nothing at all. Callbacks are called from within the calls above and may make requests; what they throw passes
 * through. Each is called exactly once, for a request whose arguments are wrong before the request returns.
 */

import { encodeBase64 } from './base64.ts';
import { type AgentIo, Connection, type ConnectionState, type Done, type RequestOptions, reply } from './connection.ts';
import { AgentError } from './errors.ts';
import { Programs, type ProgramsState, START } from './exec.ts';
import { readFile, writeFile } from './files.ts';
import { asObject, member, type Parsed, textOf } from './messages.ts';
import type { ExecHandle, ExecHandlers, ExecRequest } from './program.ts';

export type { Done } from './connection.ts';
export type { ExecExit, ExecHandle, ExecHandlers, ExecRequest } from './program.ts';

export interface AgentInfo {
  readonly version: string;
  /** Names of the commands that are enabled. */
  readonly commands: ReadonlySet<string>;
}

/** How a client stands with its agent, without those who wait for it: plain data. */
export interface AgentState {
  readonly connection: ConnectionState;
  readonly programs: ProgramsState;
}

export type ShutdownMode = 'powerdown' | 'halt' | 'reboot';

export class AgentClient {
  readonly #connection: Connection;
  readonly #programs: Programs;

  constructor(io: AgentIo) {
    this.#connection = new Connection(io, {
      introduced: (answer) => {
        const info = parseInfo(answer);
        this.#programs.pushes = !(info instanceof AgentError) && info.commands.has('braid-exec');
      },
      inherited: (name, answer) => {
        if (name === START) this.#programs.answered(answer);
      },
      event: (name, data) => this.#programs.event(name, data),
      lose: (why) => this.#programs.lose(why),
      deadlines: () => this.#programs.deadlines(),
      advance: (now) => this.#programs.advance(now),
    });
    this.#programs = new Programs(this.#connection);
  }

  /** Whether requests are being answered. */
  get ready(): boolean {
    return this.#connection.ready;
  }

  /** Lines from the agent that meant nothing and were ignored. */
  get ignored(): number {
    return this.#connection.ignored;
  }

  // --- What the machine calls

  /** The guest has opened or closed the port. */
  connected(open: boolean): void {
    this.#connection.connected(open);
  }

  /** Bytes that the guest has written to the port. */
  receive(bytes: Uint8Array, lines?: number): { readonly taken: number; readonly lines: number } {
    return this.#connection.receive(bytes, lines);
  }

  /** The guest has written more to the port than is listened to: what came last is lost. */
  flooded(): void {
    this.#connection.flooded();
  }

  /** Sends what waits, as far as the port takes it. */
  pump(): void {
    this.#connection.pump();
  }

  /** Guest time in ns at which `advance` has something to do. */
  deadline(): bigint | undefined {
    return this.#connection.deadline();
  }

  /** Does what is due at guest time `now`. */
  advance(now: bigint): void {
    this.#connection.advance(now);
  }

  /** Gives up: everything under way and waiting fails, and the client is closed. */
  close(why: string): void {
    this.#connection.close(why);
  }

  save(): AgentState {
    return { connection: this.#connection.save(), programs: this.#programs.save() };
  }

  /**
   * Goes on where another client of the same agent stood: a copy of the machine sends nothing that the machine would not have sent.
   * Requests under way here fail, named programs are forgotten without a word; programs of the other client that `handlersOf` knows by
   * their names are this one's now.
   */
  restore(
    state: AgentState,
    handlersOf: (key: string) => ExecHandlers | undefined = () => undefined,
  ): Map<string, ExecHandle> {
    this.#programs.detach();
    this.#connection.restore(state.connection);
    return this.#programs.restore(state.programs, handlersOf);
  }

  // --- Requests

  /** Finds out whether the agent answers: it gives back a number of ours. The sync that begins a connection is our own affair. */
  sync(done: Done<void>, options: RequestOptions = {}): void {
    const id = this.#connection.number();
    this.#connection.ask('guest-sync', { id }, options, (answer) => {
      if (answer instanceof AgentError) return done(answer);
      done(answer === id ? undefined : new AgentError('protocol', 'guest-sync', 'it answered with another number'));
    });
  }

  ping(done: Done<void>, options: RequestOptions = {}): void {
    this.#connection.ask(
      'guest-ping',
      undefined,
      options,
      reply(done, () => {}),
    );
  }

  info(done: Done<AgentInfo>, options: RequestOptions = {}): void {
    this.#connection.ask('guest-info', undefined, options, (answer) => done(parseInfo(answer)));
  }

  /** Turns the guest off. Success is that no refusal came: a guest that is going down does not answer. */
  shutdown(mode: ShutdownMode, done: Done<void>, options: RequestOptions = {}): void {
    const command = this.#connection.command('guest-shutdown', { mode }, options);
    this.#connection.enqueue({ ...command, silent: true, done: reply(done, () => {}) });
  }

  /** Sets the guest's clock, in ns since 1970. */
  setTime(time: bigint, done: Done<void>, options: RequestOptions = {}): void {
    this.#connection.ask(
      'guest-set-time',
      { time },
      options,
      reply(done, () => {}),
    );
  }

  /** Mixes bytes into the random numbers of the guest's kernel, from the next one on. A stock agent refuses. */
  reseed(bytes: Uint8Array, done: Done<void>, options: RequestOptions = {}): void {
    this.#connection.ask(
      'braid-reseed',
      { data: encodeBase64(bytes) },
      options,
      reply(done, () => {}),
    );
  }

  /** Reads a whole file of at most `limit` bytes (256 MiB if not given). */
  readFile(path: string, done: Done<Uint8Array>, options: RequestOptions & { readonly limit?: number } = {}): void {
    readFile(this.#connection, path, done, options);
  }

  /** Writes a whole file, replacing one that is there. The bytes must not change until `done`. */
  writeFile(path: string, bytes: Uint8Array, done: Done<void>, options: RequestOptions = {}): void {
    writeFile(this.#connection, path, bytes, done, options);
  }

  /**
   * Runs a program. With Braid's agent, output and exit come as they happen; with a stock agent the program is polled at growing
   * distances of guest time, its output comes at its end, and it can have neither a terminal nor streamed input.
   */
  exec(request: ExecRequest, handlers: ExecHandlers, options: RequestOptions = {}): ExecHandle {
    return this.#programs.exec(request, handlers, options);
  }
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

/** Programs of a guest, as its agent runs them: to start one, and to say what it is called in a machine's clones. */

import { argument } from '@braid/core/check/calls.ts';
import {
  callback,
  guestText,
  integer,
  list,
  map,
  optional,
  record,
  refined,
  type Schema,
  value,
  whole,
} from '@braid/core/check/schema.ts';
import { unlessAborted } from './abort.ts';
import { GUEST_PATH } from './branch/guest-files.ts';
import { checked, DATA, WAIT } from './check.ts';
import { BraidError } from './errors.ts';
import type { Machine } from './machine.ts';
import { bytesOf, type Sink } from './output.ts';
import { INPUT, type InputPieces, isPieces, PieceReader } from './pieces.ts';
import type { Link, ProgramExit, WaitOptions } from './pool/link.ts';
import type { Spawn } from './pool/protocol.ts';
import type { ProgramKey } from './runner/conditions.ts';

export interface SpawnOptions extends WaitOptions {
  /** Added to the agent's environment. A variable that is undefined is left out. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** All of the program's input, or `stream` for `stdin` of the handle. Without it the program reads nothing. */
  readonly input?: string | Uint8Array | 'stream';
  /** Gives the program a terminal of this size; all its output is then `stdout`. */
  readonly terminal?: { readonly columns: number; readonly rows: number };
  /**
   * Steps of all harts that the machine may make for it, counted from where the agent is asked to start it. Beyond, the program is ended and
   * the call rejects with `ERR_BRAID_EXEC_LIMIT`, kind `steps`. Where that is depends on the machine alone.
   */
  readonly maxSteps?: bigint | number;
  /** The same in ns of guest time; kind `guestTime`. Idle time that would go beyond ends it at once. */
  readonly maxGuestTime?: bigint | number;
}

export interface ExecOptions extends WaitOptions, Omit<SpawnOptions, 'input'> {
  /**
   * All of the program's input. A stream is read as the program reads, a piece at a time. In virtual time the machine stands still while the
   * next piece is awaited: what the guest does depends on the pieces, and not on when they come. In wall time it runs on.
   */
  readonly input?: string | Uint8Array | InputPieces;
  /**
   * Called with output as it comes, which is then not collected. What it throws or rejects with ends the program, and the call rejects
   * with that.
   */
  readonly onStdout?: Sink;
  readonly onStderr?: Sink;
  /** Bytes of each stream that are collected, at most; by default 64 MiB. */
  readonly maxOutput?: number;
}

export interface ExecResult extends ProgramExit {
  readonly stdout: string;
  readonly stderr: string;
}

const SIDE: Schema<number> = integer(1, 65_535);
const SIZE = record<{ readonly columns: number; readonly rows: number }>({ columns: SIDE, rows: SIDE });
const VARIABLE = refined(guestText, 'the name of a variable: not empty, without "="', (name) => /^[^=]+$/s.test(name));
const SPAWN_FIELDS = {
  ...WAIT,
  env: optional(map(VARIABLE, optional(guestText))),
  cwd: optional(GUEST_PATH),
  terminal: optional(SIZE),
  maxSteps: optional(whole(1n)),
  maxGuestTime: optional(whole(1n)),
};

export const SPAWN_OPTIONS: Schema<SpawnOptions> = record<SpawnOptions>({ ...SPAWN_FIELDS, input: optional(DATA) });

export const EXEC_OPTIONS: Schema<ExecOptions> = record<ExecOptions>({
  ...SPAWN_FIELDS,
  input: optional(INPUT),
  onStdout: optional(callback),
  onStderr: optional(callback),
  maxOutput: optional(integer(0)),
});

/** A program and its arguments. */
export const ARGV: Schema<readonly string[]> = refined(
  list(guestText, { least: 1 }),
  'an array that begins with a program',
  ([program]) => program !== '',
);

const SIGNAL_NUMBER = integer(0, 64);

/** A program in the guest. */
export interface Program {
  readonly stdin: WritableStream<Uint8Array | string>;
  readonly stdout: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly stderr: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly exited: Promise<ProgramExit>;
  /** Sends a signal, by number, to its process group. */
  kill(signal?: number): void;
  /**
   * Ends it with every process that it has started, those in sessions of their own included. Rejects with `ERR_BRAID_AGENT`, kind
   * `unsupported`, where the agent cannot reach these: a stock agent, or a guest without control groups of version 2. All others
   * are ended then too. An aborted call ends its program in the same way.
   */
  killAll(): Promise<void>;
  /** Changes the size of its terminal. */
  resize(columns: number, rows: number): void;
}

/** Which call of which machine started a program. */
const started = new WeakMap<Program, { readonly machine: Machine; readonly id: number }>();

export const PROGRAM: Schema<Program> = value('a program that spawn gave', (given) => started.has(given as Program));

const MAX_OUTPUT = 64 * 2 ** 20;
/** Bytes of input for an agent that takes it in one request. */
const WHOLE_INPUT = 16 * 2 ** 20;

function definedOf(env: NonNullable<SpawnOptions['env']>): [string, string][] {
  return Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
}

/** See the methods of `Machine`. */
export class Programs {
  private readonly machine: Machine;
  private readonly link: Link;

  constructor(machine: Machine, link: Link) {
    this.machine = machine;
    this.link = link;
  }

  async exec(argv: readonly string[], { input, ...options }: ExecOptions = {}): Promise<ExecResult> {
    // Here all of it is a text, the word that asks `spawn` for a stream too.
    if (!isPieces(input)) return this.collect(argv, options, input === undefined ? {} : { input: bytesOf(input) });
    const reader = new PieceReader(input);
    try {
      return await this.collect(argv, options, { input: 'stream', awaitsInput: true }, reader);
    } catch (error) {
      // A stock agent takes no stream.
      if ((error as Partial<BraidError>).kind !== 'unsupported') throw error;
      return await this.collect(argv, options, { input: await reader.rest(WHOLE_INPUT) });
    } finally {
      reader.close();
    }
  }

  /** Runs a program with some input, or what a reader gives, and collects its output. */
  private async collect(
    argv: readonly string[],
    options: Omit<ExecOptions, 'input'>,
    input: Pick<Spawn, 'input' | 'awaitsInput'>,
    reader?: PieceReader,
  ): Promise<ExecResult> {
    const { onStdout, onStderr, maxOutput = MAX_OUTPUT, ...rest } = options;
    const limit = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, limit.signal]) : limit.signal;
    const collected: Record<'stdout' | 'stderr', Uint8Array[]> = { stdout: [], stderr: [] };
    const collect = (name: 'stdout' | 'stderr'): Sink => {
      let total = 0;
      return (bytes) => {
        total += bytes.length;
        if (total <= maxOutput) collected[name].push(bytes);
        else {
          const why = `${argv[0]} wrote more than ${maxOutput} bytes to its ${name}; give maxOutput, or take it as it comes`;
          limit.abort(new BraidError('ERR_BRAID_OUTPUT_LIMIT', why));
        }
      };
    };
    const { id, outputs, exited } = this.start(argv, { ...rest, signal }, input);
    const failed = (error: unknown) => limit.abort(error);
    // A program may end, or read no more, before its input does.
    const send = (bytes?: Uint8Array) =>
      this.link.input(id, bytes).then(
        () => true,
        () => false,
      );
    reader?.feed(send).then((all) => all && send(), failed);
    outputs.stdout.to(onStdout ?? collect('stdout'), failed);
    outputs.stderr.to(onStderr ?? collect('stderr'), failed);
    try {
      const exit = await exited;
      await unlessAborted(Promise.all([outputs.stdout.drained(), outputs.stderr.drained()]), signal);
      signal.throwIfAborted();
      const text = (name: 'stdout' | 'stderr') => Buffer.concat(collected[name]).toString();
      return { ...exit, stdout: text('stdout'), stderr: text('stderr') };
    } catch (error) {
      outputs.stdout.abandon();
      outputs.stderr.abandon();
      throw error;
    }
  }

  spawn(argv: readonly string[], options: SpawnOptions = {}): Program {
    const { input, ...rest } = options;
    const all = input === undefined ? {} : { input: input === 'stream' ? (input as 'stream') : bytesOf(input) };
    const { id, outputs, exited } = this.start(argv, rest, all);
    const send = (bytes: Uint8Array | undefined) => this.link.input(id, bytes);
    const program: Program = {
      stdin: new WritableStream({ write: (chunk) => send(bytesOf(chunk)), close: () => send(undefined) }),
      stdout: outputs.stdout.readable,
      stderr: outputs.stderr.readable,
      exited,
      kill: (signal = 15) => this.link.post({ type: 'signal', id, signal }),
      killAll: () => this.link.call('killAll', { program: id }),
      resize: (columns, rows) => this.link.post({ type: 'terminal', id, rows, cols: columns }),
    };
    checked<Program>(program, {
      rejects: {},
      throws: {
        kill: [argument('signal', optional(SIGNAL_NUMBER))],
        resize: [argument('columns', SIDE), argument('rows', SIDE)],
      },
    });
    started.set(program, { machine: this.machine, id });
    return program;
  }

  typeInto(program: Program, input: Uint8Array | string): Promise<void> {
    return this.link.input(this.keyOf(program), bytesOf(input));
  }

  keyOf(program: Program): ProgramKey {
    const start = started.get(program);
    let name = '';
    for (let machine: Machine | undefined = this.machine; start && machine; machine = machine.parent) {
      if (machine === start.machine) return name === '' ? start.id : name.slice(1) + start.id;
      name += '^';
    }
    throw new BraidError('ERR_BRAID_OPTION', 'the program is of another machine');
  }

  private start(
    argv: readonly string[],
    options: Omit<SpawnOptions, 'input'>,
    input: Pick<Spawn, 'input' | 'awaitsInput'>,
  ) {
    const { env, cwd, terminal, maxSteps, maxGuestTime, signal } = options;
    const limit = {
      ...(maxSteps === undefined ? {} : { steps: BigInt(maxSteps) }),
      ...(maxGuestTime === undefined ? {} : { guestTime: BigInt(maxGuestTime) }),
    };
    const request: Spawn = {
      argv: [...argv],
      ...(env === undefined ? {} : { env: definedOf(env).map(([name, value]) => `${name}=${value}`) }),
      ...(cwd === undefined ? {} : { cwd }),
      ...input,
      ...(terminal === undefined ? {} : { terminal: { rows: terminal.rows, cols: terminal.columns } }),
      ...(Object.keys(limit).length === 0 ? {} : { limit }),
    };
    return this.link.spawn(request, signal ? { signal } : {});
  }
}

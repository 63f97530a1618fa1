/** A program in the guest: what is asked for, what is told about it, and what is remembered of it. */

import type { Done } from './connection.ts';
import { integerOf, type ParsedObject } from './messages.ts';

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
  /** Names the program to a client that goes on where this one stands; without a name it forgets the program. */
  readonly key?: string;
  /** Told how to speak to a program that has been taken over by its name. */
  attached?(handle: ExecHandle): void;
  /** The request is on its way to an agent that answers: from here on it is up to the guest. */
  asked?(): void;
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
  /**
   * Ends the program with every process that it has started, those in sessions of their own included. An agent that cannot reach
   * these (a stock one, or Braid's where the guest has no control groups of version 2) ends the rest and reports `unsupported`.
   */
  kill(done?: Done<void>): void;
  resize(rows: number, cols: number, done?: Done<void>): void;
}

/** A running program, by any kind of agent. */
export interface Program {
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
}

/** How a program ended, as both kinds of agent say it. */
export function parseExit(data: ParsedObject | undefined): ExecExit | undefined {
  const code = integerOf(data, 'exitcode');
  const signal = integerOf(data, 'signal');
  if (code !== undefined && signal === undefined && code >= 0 && code <= 0xffff_ffff) return { code };
  if (signal !== undefined && code === undefined && signal > 0 && signal <= 127) return { signal };
  return undefined;
}

/** Why a program cannot be run as it was asked for. */
export function wrongRequest({ argv, env, cwd, terminal }: ExecRequest): string | undefined {
  if (argv.length === 0 || argv[0] === '') return 'there is no program to run';
  if ([...argv, ...(env ?? []), cwd ?? ''].some((text) => text.includes('\0')))
    return 'a text contains a zero character';
  if (env?.some((variable) => variable.indexOf('=') < 1)) return 'a variable is not NAME=VALUE';
  const size = (n: number) => Number.isInteger(n) && n > 0 && n < 65536;
  if (terminal !== undefined && !(size(terminal.rows) && size(terminal.cols)))
    return 'a terminal cannot have that size';
  return undefined;
}

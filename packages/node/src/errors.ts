/** Errors of the library. Each has a `code`; those of the core (`ERR_BRAID_BOOT` and so on) keep theirs on the way here. */

import { AgentError } from '@braid/core/agent/errors.ts';
import type { Exit } from '@braid/core/machine/options.ts';

export type ErrorCode =
  /** An option that cannot work. */
  | 'ERR_BRAID_OPTION'
  /** A file that cannot be read, or is not what it should be. */
  | 'ERR_BRAID_FILE'
  /** A result could not be written. */
  | 'ERR_BRAID_RESULT'
  /** What a machine wrote to a disk could not be made durable. */
  | 'ERR_BRAID_DISK'
  /** Somebody else writes the disk. */
  | 'ERR_BRAID_DISK_LOCKED'
  /** A disk's journal is damaged, or belongs to another image. */
  | 'ERR_BRAID_JOURNAL'
  /** A recording that cannot be written, or is damaged. */
  | 'ERR_BRAID_RECORDING'
  /** The machine is over: powered off, or its program has ended. */
  | 'ERR_BRAID_EXITED'
  /** The guest's kernel panicked. */
  | 'ERR_BRAID_PANIC'
  /** Every hart waits, and nothing that could wake one will ever come. */
  | 'ERR_BRAID_HALTED'
  /** The limit `maxSteps` is reached. */
  | 'ERR_BRAID_MAX_STEPS'
  /** A program wrote more than the caller allows. */
  | 'ERR_BRAID_OUTPUT_LIMIT'
  /** A program took more steps or guest time than the caller allows. */
  | 'ERR_BRAID_EXEC_LIMIT'
  /** The position asked for has been passed. */
  | 'ERR_BRAID_POSITION'
  /** A branch that cannot be had, or not so. */
  | 'ERR_BRAID_BRANCH'
  /** Memory of a guest's process that cannot be read or written. */
  | 'ERR_BRAID_MEMORY'
  /** The machine was disposed of. */
  | 'ERR_BRAID_DISPOSED'
  /** The worker that ran the machine failed. */
  | 'ERR_BRAID_WORKER'
  /** One of the core's. */
  | (string & {});

export class BraidError extends Error {
  readonly code: ErrorCode;
  /** What an agent's error is about (`refused`, `timeout`, ...). */
  readonly kind?: string;
  /** How the machine ended, when that is what happened. */
  readonly exit?: Exit;

  constructor(code: ErrorCode, message: string, more: { kind?: string; exit?: Exit; cause?: unknown } = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'BraidError';
    this.code = code;
    if (more.kind !== undefined) this.kind = more.kind;
    if (more.exit !== undefined) this.exit = more.exit;
  }
}

/** An error as it travels between threads. */
export interface ErrorRecord {
  readonly code: string;
  readonly message: string;
  readonly kind?: string;
  readonly exit?: Exit;
  /** Of an error that nobody expected. */
  readonly stack?: string;
}

export function toRecord(error: unknown): ErrorRecord {
  if (!(error instanceof Error)) return { code: 'ERR_BRAID_WORKER', message: String(error) };
  const { code, kind, exit } = error as Partial<BraidError>;
  const ours = typeof code === 'string' && code.startsWith('ERR_BRAID_');
  return {
    code: ours ? code : 'ERR_BRAID_WORKER',
    message: ours ? error.message : `${error.name}: ${error.message}`,
    ...(typeof kind === 'string' ? { kind } : {}),
    ...(exit === undefined ? {} : { exit }),
    ...(ours || error.stack === undefined ? {} : { stack: error.stack }),
  };
}

/** An error of the agent that has travelled. */
export function agentErrorOf({ kind, message }: ErrorRecord): AgentError {
  const error = new AgentError((kind ?? 'gone') as AgentError['kind'], 'exec', '');
  error.message = message;
  return error;
}

export function fromRecord(record: ErrorRecord): BraidError {
  const { code, message, stack, ...more } = record;
  const error = new BraidError(code, message, more);
  if (stack !== undefined) error.stack = stack;
  return error;
}

/**
 * Programs run by a stock agent (guest-exec), which says what became of one only when it is asked: so it is asked, at growing
 * distances of guest time, and gives all output at the end.
 */

import { decodeBase64, encodeBase64 } from './base64.ts';
import type { Connection } from './connection.ts';
import { AgentError } from './errors.ts';
import { asObject, type Json, member } from './messages.ts';
import { type ExecExit, type ExecRequest, type Program, parseExit } from './program.ts';

const MS = 1_000_000n;
/** Between two polls, doubling. */
const POLL_FIRST = 10n * MS;
const POLL_LAST = 200n * MS;
/** All output, up to 16 MiB a stream, comes in one line. */
const STATUS_LINE_LIMIT = 48 * 2 ** 20;

/** When a program is polled next, or undefined while a poll is under way; and after how long the time after that. */
interface Turn {
  at: bigint | undefined;
  after: bigint;
}

export class Polling {
  readonly #connection: Connection;
  readonly #end: (program: Program, outcome: ExecExit | AgentError) => void;
  readonly #turns = new Map<Program, Turn>();

  /** `end` is called for a program that is over. */
  constructor(connection: Connection, end: (program: Program, outcome: ExecExit | AgentError) => void) {
    this.#connection = connection;
    this.#end = end;
  }

  add(program: Program): void {
    this.#turns.set(program, { at: this.#connection.now() + POLL_FIRST, after: POLL_FIRST });
  }

  delete(program: Program): void {
    this.#turns.delete(program);
  }

  /** Forgets all programs; which they were. */
  clear(): Program[] {
    const programs = [...this.#turns.keys()];
    this.#turns.clear();
    return programs;
  }

  /** Guest times at which somebody is polled. */
  *deadlines(): Iterable<bigint> {
    for (const { at } of this.#turns.values()) if (at !== undefined) yield at;
  }

  /** Polls whose turn has come at guest time `now`. */
  advance(now: bigint): void {
    for (const [program, turn] of this.#turns) if (turn.at !== undefined && turn.at <= now) this.#poll(program, turn);
  }

  /** Asks a stock agent how a program is doing. */
  #poll(program: Program, turn: Turn): void {
    turn.at = undefined;
    const name = 'guest-exec-status';
    this.#connection.enqueue({
      ...this.#connection.command(name, { pid: program.id! }, {}),
      bound: true,
      lineLimit: STATUS_LINE_LIMIT,
      done: (answer) => {
        if (program.over) return;
        if (answer instanceof AgentError) return this.#end(program, answer);
        const nonsense = () => this.#end(program, new AgentError('protocol', name, 'its answer makes no sense'));
        const status = asObject(answer);
        const exited = member(status, 'exited');
        if (exited === false) {
          turn.after = turn.after * 2n > POLL_LAST ? POLL_LAST : turn.after * 2n;
          turn.at = this.#connection.now() + turn.after;
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
}

/** Arguments of guest-exec, which knows no folder and whose environment replaces the agent's: programs that do know help. */
export function stockArguments({ argv, env, cwd, input }: ExecRequest): Json {
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

/** What a search does in a clone to get from one state to the next: run a command, type something, or what a function says. */

import { BraidError } from '../errors.ts';
import type { Machine } from '../machine.ts';
import type { ExecOptions } from '../programs.ts';

/** A command with its options. */
export interface CommandMove extends Pick<ExecOptions, 'env' | 'cwd'> {
  readonly input?: string | Uint8Array;
  readonly argv: readonly string[];
  /** For people; the command itself without it. */
  readonly name?: string;
}

/** Something that is typed on the console. */
export interface TypeMove {
  readonly type: string | Uint8Array;
  /** Text of the console, from then on, at which the move is done. What is typed may be echoed. */
  readonly until?: string | RegExp;
  /** Without `until`: steps after which it is done. 10 million if there is neither. */
  readonly steps?: bigint | number;
  readonly name?: string;
}

/** A function that does something with the clone. What it returns is the `value` of the result. */
export type FunctionMove = (clone: Machine, signal: AbortSignal) => unknown;

/** A command: its words, or more about it; something to type; or a function. */
export type Move = readonly string[] | CommandMove | TypeMove | FunctionMove;

/** What came of a move. */
export interface MoveResult {
  /** Of a command, unless the machine ended first. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
  /** What the guest wrote to its console meanwhile: the first MiB of it. */
  readonly console: string;
  /** What a function returned. */
  readonly value: unknown;
}

/** Bytes that are kept of what one move writes. */
const OUTPUT_LIMIT = 2 ** 20;
const TYPE_STEPS = 10_000_000n;

/** Makes a move in a clone; `into` is filled as far as it comes. */
export async function makeMove(
  clone: Machine,
  move: Move,
  signal: AbortSignal,
  into: { -readonly [K in keyof MoveResult]: MoveResult[K] },
): Promise<void> {
  if (typeof move === 'function') {
    into.value = await move(clone, signal);
    return;
  }
  if ('type' in move) {
    const { type, until, steps = TYPE_STEPS } = move;
    const typed = clone.type(type);
    const done = until === undefined ? clone.step(steps, { signal }) : clone.runUntil({ pattern: until }, { signal });
    await Promise.all([typed, done]);
    return;
  }
  const { argv, name: _, ...options } = 'argv' in move ? move : { argv: move };
  const { exitCode, stdout, stderr } = await clone.exec(argv, { ...options, signal, maxOutput: OUTPUT_LIMIT });
  Object.assign(into, { exitCode, stdout, stderr });
}

export function checkMove(move: unknown): Move {
  const isMove =
    typeof move === 'function' ||
    (typeof move === 'object' && move !== null && (Array.isArray(move) || 'argv' in move || 'type' in move));
  if (isMove) return move as Move;
  const what = "a move is a command's words, {argv}, {type} or a function";
  throw new BraidError('ERR_BRAID_OPTION', `${what}, not ${typeof move}; for others give the option "move"`);
}

/** A move for people. */
export function nameMove(move: unknown): string {
  if (typeof move === 'function') return move.name;
  if (typeof move !== 'object' || move === null) return String(move);
  if (Array.isArray(move)) return move.join(' ');
  const { name, argv, type } = move as { name?: string; argv?: readonly string[]; type?: string | Uint8Array };
  return name ?? argv?.join(' ') ?? (typeof type === 'string' ? type : Buffer.from(type ?? []).toString('latin1'));
}

/** Collects what a clone writes on its console. */
export function collectConsole(clone: Machine): () => string {
  const parts: Uint8Array[] = [];
  let room = OUTPUT_LIMIT;
  clone.onConsole((bytes) => {
    if (room > 0) parts.push(bytes.slice(0, room));
    room -= bytes.length;
  });
  return () => Buffer.concat(parts).toString();
}

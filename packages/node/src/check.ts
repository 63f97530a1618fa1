/** The checks of arguments in this package: what they share, and the error that a bad one gets. */

import { type Argument, type Arguments, type CallsOf, checkCalls, complaint } from '@braid/core/check/calls.ts';
import {
  anything,
  bytes,
  either,
  type Fields,
  integer,
  optional,
  pattern,
  record,
  refined,
  type Schema,
  text,
  value,
  whole,
  wide,
} from '@braid/core/check/schema.ts';
import type { Position } from '@braid/core/machine/log.ts';
import { BraidError } from './errors.ts';

/** Steps, or ns of guest time. */
export const COUNT: Schema<bigint | number> = whole(0n);
export const U64: Schema<bigint> = wide(0n, (1n << 64n) - 1n);
export const SEED: Schema<bigint | number> = whole(0n, (1n << 64n) - 1n);
export const HART: Schema<number> = integer(0, 7);
const SIGNAL: Schema<AbortSignal> = value('an AbortSignal', (given) => given instanceof AbortSignal);
export const WAIT: Fields<{ readonly signal?: AbortSignal }> = { signal: optional(SIGNAL) };
/** Text or bytes to be sent to the guest. */
export const DATA: Schema<string | Uint8Array> = either(text, bytes);
export const PATTERN: Schema<string | RegExp> = pattern;
/** A path on this computer. */
export const HOST_PATH: Schema<string> = refined(
  text,
  'the path of a file',
  (path) => path !== '' && !path.includes('\0'),
);
export const POSITION: Schema<Position> = record<Position>({
  round: wide(0n, (1n << 63n) - 1n),
  hart: HART,
  step: integer(0, 2 ** 31),
});

/** Plain data of which only the outside is looked at here: its reader checks the rest. */
export function dataOf<T>(what: string): Schema<T> {
  return refined<T>(anything, what, (given) => typeof given === 'object' && given !== null && !Array.isArray(given));
}

export function instance<T>(what: string, type: new (...args: never[]) => T): Schema<T> {
  return value(what, (given) => given instanceof type);
}

/** Any of a class whose constructor is private. */
export function instanceOf<T>(what: string, type: { readonly prototype: T }): Schema<T> {
  return value(what, (given) => given instanceof (type as unknown as new () => T));
}

const optionError = (why: string): BraidError => new BraidError('ERR_BRAID_OPTION', why);

/** Has the methods of a class check their arguments. */
export function checked<T extends object, Except extends string = never>(target: T, calls: CallsOf<T, Except>): void {
  checkCalls<T, Except>(target, calls, optionError);
}

/** Throws `ERR_BRAID_OPTION` for a bad argument of a function. */
export function requireArguments<P extends readonly unknown[]>(described: Arguments<P>, ...given: NoInfer<P>): void {
  const wrong = complaint(described as unknown as readonly Argument<never>[], given);
  if (wrong !== undefined) throw optionError(wrong);
}

/** Throws `ERR_BRAID_OPTION` for a bad value. */
export function requireValue<T>(schema: Schema<T>, given: unknown, name: string): asserts given is T {
  const wrong = schema.complaint(given, name);
  if (wrong !== undefined) throw optionError(wrong);
}

/** The public calls of a class: their arguments are checked before the call begins. */

import type { Schema } from './schema.ts';

/** An argument by its name, for messages. */
export interface Argument<in out T> {
  readonly name: string;
  readonly schema: Schema<T>;
}

/** Those of a call, in order. A call with more of them ignores the rest, as functions do. */
export type Arguments<P extends readonly unknown[]> = { readonly [K in keyof P]-?: Argument<P[K]> };

// biome-ignore lint/suspicious/noExplicitAny: any function
type Callable = (...args: any[]) => unknown;

type ArgumentsOf<F> = F extends (...args: infer P) => unknown ? Arguments<P> : never;

/** Methods with arguments; `Gives` is what they return. */
type Methods<T, Gives> = {
  [K in keyof T & string]: T[K] extends Callable
    ? Parameters<T[K]> extends []
      ? never
      : ReturnType<T[K]> extends Gives
        ? K
        : never
    : never;
}[keyof T & string];

type Rejecting<T> = Methods<T, Promise<unknown>>;

/** A row for each method of a class that has arguments; `Except` are those that are nobody's to call from outside. */
export interface CallsOf<T, Except extends string = never> {
  /** Calls that give a promise: it rejects. */
  readonly rejects: { readonly [K in Exclude<Rejecting<T>, Except>]: ArgumentsOf<T[K]> };
  /** Calls that give something else: they throw. */
  readonly throws: { readonly [K in Exclude<Methods<T, unknown>, Rejecting<T> | Except>]: ArgumentsOf<T[K]> };
}

export function argument<T>(name: string, schema: Schema<T>): Argument<T> {
  return { name, schema };
}

/** What is wrong with the first bad one among the arguments of a call. */
export function complaint(described: readonly Argument<never>[], given: readonly unknown[]): string | undefined {
  for (const [n, { name, schema }] of described.entries()) {
    const found = schema.complaint(given[n], name);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * From now on the methods of a prototype (or, for static ones, a constructor) check their arguments. A call with a bad one fails with what
 * `failure` makes of the complaint, and does nothing. Costs a few microseconds a call.
 */
export function checkCalls<T extends object, Except extends string = never>(
  target: T,
  { rejects, throws }: CallsOf<T, Except>,
  failure: (complaint: string) => Error,
): void {
  const wrap = (rows: object, fail: (error: Error) => unknown) => {
    for (const [name, row] of Object.entries(rows)) {
      const method = Reflect.get(target, name) as Callable;
      const checked = {
        [name](this: unknown, ...args: unknown[]): unknown {
          const wrong = complaint(row as readonly Argument<never>[], args);
          return wrong === undefined ? Reflect.apply(method, this, args) : fail(failure(wrong));
        },
      };
      Object.defineProperty(target, name, { value: checked[name], writable: true, configurable: true });
    }
  };
  wrap(rejects, (error) => Promise.reject(error));
  wrap(throws, (error) => {
    throw error;
  });
}

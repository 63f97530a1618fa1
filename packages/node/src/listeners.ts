/** Functions of the caller's that are told something and that no call waits for. */

/**
 * Tells a listener. What it throws, or what a promise that it gives rejects with, ends nothing: `failed` gets it, which by default warns
 * (`process.emitWarning`).
 */
export function tell<T>(
  listener: ((detail: T) => unknown) | undefined,
  detail: T,
  failed: (error: unknown) => void = warn,
): void {
  try {
    const work = listener?.(detail);
    if (isThenable(work)) work.then(undefined, failed);
  } catch (error) {
    failed(error);
  }
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as Partial<PromiseLike<unknown>> | null | undefined)?.then === 'function';
}

/** Says on stderr that a listener has failed. */
export function warn(error: unknown): void {
  const why = error instanceof Error ? error.message : String(error);
  const warning = new Error(`a listener has failed: ${why}`, { cause: error });
  if (error instanceof Error && error.stack !== undefined) warning.stack = error.stack;
  warning.name = 'BraidListenerWarning';
  process.emitWarning(warning);
}

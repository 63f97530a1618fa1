/**
 * Speculation: while a machine waits for something from outside, clones of it run ahead, one for each answer that might come. The machine
 * stands still meanwhile. When the answer comes, the clone that assumed it is adopted, its held output goes out, and the others are
 * stopped; an answer that nobody assumed goes to the machine as usual. Either way the machine is where it would have been had nobody
 * guessed, to the bit.
 */

import { argument } from '@braid/core/check/calls.ts';
import { callback, either, flag, list, oneOf, optional, record, type Schema } from '@braid/core/check/schema.ts';
import { comparePositions } from '@braid/core/machine/log.ts';
import { unlessAborted } from '../abort.ts';
import { COUNT, checked, DATA, instanceOf, PATTERN, requireArguments, requireValue, WAIT } from '../check.ts';
import { BraidError } from '../errors.ts';
import { Machine } from '../machine.ts';
import { bytesOf } from '../output.ts';
import { PROGRAM, type Program } from '../programs.ts';
import type { Reached } from '../runner/conditions.ts';
import { conditionsOf, RUN_CONDITIONS, type RunConditions } from './completion.ts';

export type Answer = string | Uint8Array;

/** A wait for something from outside, and where the answer goes. */
export type Wanted =
  /** The console: its output matches. */
  | { readonly console: string | RegExp }
  /**
   * A program started with `input: 'stream'` or a terminal: its output matches or, without a pattern, every hart waits. `now`: it waits here
   * and now.
   */
  | { readonly program: Program; readonly output?: string | RegExp; readonly now?: boolean }
  /** The console: every hart waits. */
  | 'idle';

export interface SpeculateOptions {
  /** What is waited for. Without it the machine waits already, here and now, for its console. */
  readonly on?: Wanted;
  /** The answers to assume, or a function that gives them while the machine waits. `waited` has the text that matched. */
  readonly guesses?: readonly Answer[] | ((waited: Reached) => readonly Answer[] | Promise<readonly Answer[]>);
  /** Takes guesses from what the console was answered before; see `Machine.watchWaits`, which has to be on. */
  readonly auto?: boolean;
  /** Where the machine goes with the answer: by default to where it waits again. */
  readonly until?: RunConditions;
  /** What each clone may run ahead, at most. By default 20 G steps. A clone stops when it waits for input, too. */
  readonly budget?: Pick<RunConditions, 'steps' | 'guestTime'>;
  /** Every hart waits for so many ns of guest time: the guest waits for input. 100 ms by default. */
  readonly quiet?: bigint | number;
  /** The machine stands still once `until` is reached, even if other calls wait for it. */
  readonly hold?: boolean;
  /** Gives up: no clones, the machine stands where it waits. */
  readonly signal?: AbortSignal;
}

export interface Speculated {
  /** Whether the answer was one of the guesses. */
  readonly hit: boolean;
  /** Which of them. */
  readonly guess?: number;
  /** Whether the clone that assumed it was adopted. */
  readonly adopted: boolean;
  /** Steps that this clone had made by then. */
  readonly stepsSaved: bigint;
  /** Why the clone could not be made, or could not be adopted: the machine has gone the way itself. */
  readonly failure?: BraidError;
  /** What ended the run with the answer, and where. */
  readonly reached: Reached;
}

const WANTED: Schema<Wanted> = either(
  record<{ readonly console: string | RegExp }>({ console: PATTERN }),
  record<Extract<Wanted, { readonly program: Program }>>({
    program: PROGRAM,
    output: optional(PATTERN),
    now: optional(flag),
  }),
  oneOf('idle'),
);

type AllOptions = SpeculateOptions & { readonly answer?: (waited: Reached) => Answer | Promise<Answer> };

const OPTIONS: Schema<AllOptions> = record<AllOptions>({
  ...WAIT,
  on: optional(WANTED),
  guesses: optional(either(list(DATA), callback)),
  auto: optional(flag),
  until: optional(RUN_CONDITIONS),
  budget: optional(
    record<NonNullable<SpeculateOptions['budget']>>({ steps: optional(COUNT), guestTime: optional(COUNT) }),
  ),
  quiet: optional(COUNT),
  hold: optional(flag),
  answer: optional(callback),
});
const ARGUMENTS = [
  argument('machine', instanceOf<Machine>('a Machine', Machine)),
  argument('options', OPTIONS),
] as const;
const GUESSES = list(DATA);

const BUDGET_STEPS = 20_000_000_000n;

/**
 * Runs the machine until it waits for `on`, and lets clones run ahead. With `answer`, a function of the host that gives the answer, all of it
 * is done when the promise resolves; otherwise the answer is given to `answer` of the result.
 */
export async function speculate(
  machine: Machine,
  options: SpeculateOptions & { readonly answer: (waited: Reached) => Answer | Promise<Answer> },
): Promise<Speculated>;
export async function speculate(machine: Machine, options: SpeculateOptions): Promise<Speculation>;
export async function speculate(machine: Machine, options: AllOptions): Promise<Speculation | Speculated> {
  requireArguments(ARGUMENTS, machine, options);
  const { on, signal } = options;
  const waited = await machine.runTo(waitOf(machine, options), { hold: true, ...(signal ? { signal } : {}) });
  if (waited.by === 'exit') throw new BraidError('ERR_BRAID_EXITED', 'the machine is over', { exit: waited.exit });
  if (waited.by === 'panic') throw new BraidError('ERR_BRAID_PANIC', `the guest's kernel panicked: ${waited.message}`);
  const program = typeof on === 'object' && 'program' in on ? on.program : undefined;
  const speculation = new Speculation(machine, waited, program, options);
  if (!options.answer) {
    await speculation.begin();
    return speculation;
  }
  const { answer } = options;
  const answered = (async () => answer(waited))();
  answered.catch(() => {}); // looked at below
  const began = speculation.begin();
  try {
    // The answer may be there before the clones are; that guessing fails is said if it fails before.
    return await speculation.answer(await Promise.race([answered, began.then(() => answered)]));
  } catch (error) {
    await speculation.cancel();
    throw error;
  } finally {
    await began.catch(() => {});
  }
}

function waitOf(machine: Machine, { on, quiet }: SpeculateOptions) {
  if (on === undefined || (typeof on === 'object' && 'program' in on && on.now)) return { steps: 0n };
  if (on !== 'idle' && 'console' in on) return conditionsOf(machine, { console: on.console });
  if (on !== 'idle' && on.output !== undefined)
    return conditionsOf(machine, { output: { program: on.program, pattern: on.output } });
  return conditionsOf(machine, { idle: quiet ?? true });
}

/** A clone that runs ahead, once it has been made. */
interface Ahead {
  clone?: Machine;
  failure?: BraidError;
  /** Resolves when it has stopped, to why it cannot be adopted if so. */
  stopped?: Promise<BraidError | undefined>;
  /** Resolves when it has been given all of its guess. */
  given?: Promise<unknown>;
}

/** A machine that waits, and its clones that do not. */
export class Speculation implements AsyncDisposable {
  /** What the machine waits for, and where. */
  readonly waited: Reached;
  private readonly machine: Machine;
  private readonly program: Program | undefined;
  private readonly options: SpeculateOptions;
  private guessed: readonly Uint8Array[] = [];
  /** In the order of the guesses. */
  private ahead: readonly Ahead[] = [];
  private over = false;
  private readonly aborted = () => void this.cancel();

  constructor(machine: Machine, waited: Reached, program: Program | undefined, options: SpeculateOptions) {
    this.machine = machine;
    this.waited = waited;
    this.program = program;
    this.options = options;
  }

  /** The guesses that clones run with, each once. */
  get guesses(): readonly Uint8Array[] {
    return this.guessed;
  }

  /** Makes the clones. */
  async begin(): Promise<void> {
    const { guesses = [], auto, signal } = this.options;
    // At once where nothing has to be waited for: the answer may be there already.
    const given = typeof guesses === 'function' ? await this.guess(guesses, signal) : guesses;
    requireValue(GUESSES, given, 'guesses');
    const proposed = auto ? ((await this.machine.waits()).expected?.guesses ?? []) : [];
    this.guessed = distinct([...given.map(bytesOf), ...proposed]);
    if (this.over) return;
    signal?.addEventListener('abort', this.aborted, { once: true });
    if (signal?.aborted) return this.cancel();
    this.ahead = this.guessed.map(() => ({}));
    await Promise.all(this.ahead.map((ahead, n) => this.start(ahead, this.guessed[n]!)));
  }

  /** What a function guesses; nothing when the wait is given up before. */
  private guess(
    guesses: Extract<SpeculateOptions['guesses'], (waited: Reached) => unknown>,
    signal: AbortSignal | undefined,
  ): readonly Answer[] | Promise<readonly Answer[]> {
    if (!signal) return guesses(this.waited);
    return unlessAborted(guesses(this.waited), signal).catch((error) => {
      if (signal.aborted) return [];
      throw error;
    });
  }

  /** Makes a clone, which runs from then on. */
  private async start(ahead: Ahead, guess: Uint8Array): Promise<void> {
    const [clone] = await this.machine.fork(1, { connected: true });
    if (!clone || clone instanceof BraidError) {
      if (clone) ahead.failure = clone;
      return;
    }
    if (this.over) return void (await clone.dispose());
    const { until, budget, quiet } = this.options;
    const limits = least({ steps: BUDGET_STEPS, ...budget }, until);
    ahead.clone = clone;
    ahead.given = this.give(clone, guess);
    ahead.stopped = clone.runTo(conditionsOf(clone, { ...until, idle: quiet ?? true, ...limits })).then(
      () => undefined,
      (error: BraidError) => error,
    );
  }

  /** Gives an answer to a machine. */
  private give(machine: Machine, bytes: Uint8Array): Promise<unknown> {
    const given = this.program ? machine.typeInto(this.program, bytes) : machine.type(bytes);
    given.catch(() => {}); // whoever looks at it hears of it
    return given;
  }

  /** The answer has come. Resolves when the machine has got to where `until` says. */
  async answer(answer: Answer): Promise<Speculated> {
    if (this.over) throw new BraidError('ERR_BRAID_OPTION', 'this wait has had its answer, or was given up');
    this.over = true;
    const bytes = bytesOf(answer);
    const guess = this.guessed.findIndex((one) => Buffer.compare(one, bytes) === 0);
    const ahead = this.ahead[guess];
    const freed = this.free(ahead);
    try {
      const hit = guess >= 0 ? { hit: true, guess } : { hit: false };
      const won = ahead?.clone && (await this.adopt(ahead, ahead.clone));
      if (won && !(won instanceof BraidError)) return { ...hit, adopted: true, ...won };
      const why = won ?? ahead?.failure;
      const failure = why ? { failure: why } : {};
      this.give(this.machine, bytes);
      const reached = await this.goOn();
      return { ...hit, adopted: false, stepsSaved: 0n, ...failure, reached };
    } finally {
      await freed;
    }
  }

  private goOn(standing = false): Promise<Reached> {
    const { until, quiet, hold = false } = this.options;
    const conditions = conditionsOf(this.machine, until ?? { idle: quiet ?? true });
    return this.machine.runTo(conditions, { hold, ...(standing ? { standing } : {}) });
  }

  /** Goes on where a clone is. An error: that one cannot be adopted, and nothing has happened to the machine. */
  private async adopt(
    { stopped, given }: Ahead,
    clone: Machine,
  ): Promise<Omit<Speculated, 'hit' | 'adopted'> | BraidError> {
    const { machine } = this;
    // A clone that has not been given all of its guess would lose the rest.
    const taken = given!.then(
      () => undefined,
      (error: BraidError) => error,
    );
    const notTaken = new BraidError('ERR_BRAID_SPECULATION', 'the guest has not taken all of the guess');
    const failure = await Promise.race([taken, stopped!.then((error) => error ?? Promise.race([taken, notTaken]))]);
    if (failure) {
      await clone.dispose().catch(() => {});
      return failure;
    }
    const before = await machine.stats();
    const reached = this.goOn(true);
    reached.catch(() => {});
    try {
      await machine.adopt(clone);
    } catch (error) {
      // Its thread may have died: then the machine stands where it stood.
      const { position } = await machine.stats();
      if (!(error instanceof BraidError) || comparePositions(position, this.waited.position) !== 0) throw error;
      return error;
    }
    const { steps } = await machine.stats();
    await machine.resume();
    return { stepsSaved: steps - before.steps, reached: await reached };
  }

  /** Stops the clones, but for one, and gives their memory back. */
  private async free(but?: Ahead): Promise<void> {
    this.options.signal?.removeEventListener('abort', this.aborted);
    const losers = this.ahead.filter((ahead) => ahead !== but);
    this.ahead = [];
    await Promise.all(losers.map(({ clone }) => clone?.dispose().catch(() => {})));
  }

  /** No answer will come: the clones go, and the machine stands where it waits. */
  async cancel(): Promise<void> {
    this.over = true;
    await this.free();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancel();
  }
}

/** The lesser of each limit. */
function least(
  a: SpeculateOptions['budget'] & object,
  b: RunConditions = {},
): Pick<RunConditions, 'steps' | 'guestTime'> {
  const lesser = (x: bigint | number | undefined, y: bigint | number | undefined) =>
    x === undefined ? y : y === undefined || x < y ? x : y;
  const steps = lesser(a.steps, b.steps);
  const guestTime = lesser(a.guestTime, b.guestTime);
  return { ...(steps === undefined ? {} : { steps }), ...(guestTime === undefined ? {} : { guestTime }) };
}

function distinct(all: readonly Uint8Array[]): Uint8Array[] {
  return all.filter((bytes, n) => all.findIndex((other) => Buffer.compare(other, bytes) === 0) === n);
}

checked<Speculation>(Speculation.prototype, { rejects: { answer: [argument('answer', DATA)] }, throws: {} });

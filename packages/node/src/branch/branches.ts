/**
 * Branches that programs of the guest ask for (`braid.h`): the clones, what they result in, and which of them the original takes.
 *
 * At `braid_branch` the machine is forked; the clones run on their own until they are complete, the original goes on or waits for the
 * host's choice. What a clone declares (`braid_result`) and the files that the host has named are kept until the original takes it: it
 * then becomes the clone, or has them put in place where it stands. Whatever is not taken is stopped at once.
 *
 * The guest is hostile: clones, depth, steps and bytes are bounded, and a hint that makes no sense here has the result 0.
 */

import { argument } from '@braid/core/check/calls.ts';
import { callback, integer, oneOf, optional, record, type Schema, whole } from '@braid/core/check/schema.ts';
import type { Hint } from '@braid/core/machine/hints.ts';
import type { InputEvent, Patch, Position } from '@braid/core/machine/log.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { checked } from '../check.ts';
import { BraidError } from '../errors.ts';
import { tell } from '../listeners.ts';
import type { Machine } from '../machine.ts';
import type { ForkOptions } from '../options.ts';
import type { Link } from '../pool/link.ts';
import { type Content, GUEST_PATHS, putFile, readContent } from './guest-files.ts';

/** How the original converges: it becomes the clone, or goes on with what the clone gave. */
export type Convergence = 'adopt' | 'copy';

export interface BranchOptions {
  /** Clones that there may be at the same time, those of clones included; by default 16. What would pass it does not branch. */
  readonly limit?: number;
  /** 1, the default: clones do not branch again. 2: they may, once; and so on. */
  readonly depth?: number;
  /** Steps that a clone may make; by default 10^10. */
  readonly budget?: bigint | number;
  /** What a `braid_take` does that leaves it to the host; by default `copy`. */
  readonly take?: Convergence;
  /** Paths of files that belong to what a branch gives. */
  readonly files?: readonly string[];
  /** Who a clone is, by its index from 1 on. By default all are exactly the original. */
  readonly fork?: (index: number) => Pick<ForkOptions, 'seed' | 'mac'>;
  /** The host chooses instead of the guest: the original waits at its branch point for the index, or 0 for none. */
  readonly choose?: (branching: Branching) => Choice | Promise<Choice>;
  /** The machine has branched. */
  readonly onBranching?: (branching: Branching) => void;
  /** A hint got the result 0, and why. */
  readonly onRefused?: (error: BraidError) => void;
}

/** A branch by its index, and what the original does with it; `copy` by default. */
export type Choice = number | { readonly index: number; readonly how: Convergence };

/** How a clone ended. */
export type BranchCompletion =
  /** It said so: `braid_done`. */
  | { readonly kind: 'done'; readonly status: number }
  /** The machine is over. */
  | { readonly kind: 'exit'; readonly exit: Exit }
  /** Its kernel panicked; it waits for nothing that could come; it used its steps up; it was lost or never made. */
  | { readonly kind: 'panic' | 'halt' | 'budget' | 'failed'; readonly error: BraidError }
  /** Nobody wanted it any more. */
  | { readonly kind: 'stopped' };

/** What became of a branching. */
export interface Converged {
  /** The branch that was taken, or 0. */
  readonly index: number;
  readonly how: Convergence | 'none';
}

/** What this module needs of a machine. */
export interface BranchHost {
  readonly machine: Machine;
  readonly link: Link;
  /** Becomes a clone; a hint that the clone waits with waits on. */
  become(clone: Machine): Promise<{ readonly position: Position; readonly waits: boolean }>;
  fork(
    count: number,
    options: (index: number) => ForkOptions,
    inputs: (index: number) => readonly InputEvent[],
  ): Promise<(BranchHost | BraidError)[]>;
}

/** Has a program ask again after a while (`braid.h`). An older program takes it for 0. */
const LATER = 1n << 32n;
/** What a clone may declare. */
const MAX_RESULTS = 1024;
const MAX_RESULT_BYTES = 16 * 2 ** 20;
const MAX_CLONES = 1024;
const MAX_DEPTH = 16;

export const BRANCH_OPTIONS: Schema<BranchOptions> = record<BranchOptions>({
  limit: optional(integer(1, MAX_CLONES)),
  depth: optional(integer(1, MAX_DEPTH)),
  budget: optional(whole(1n)),
  take: optional(oneOf('adopt', 'copy')),
  files: GUEST_PATHS,
  fork: optional(callback),
  choose: optional(callback),
  onBranching: optional(callback),
  onRefused: optional(callback),
});

/** Modes of `braid_take`. */
const MODES: readonly (Convergence | undefined)[] = [undefined, 'copy', 'adopt'];

/** One of the clones. */
export class Branch {
  readonly index: number;
  /** None if it could not be made. */
  readonly machine: Machine | undefined;
  /** Resolves when the clone stands still for good, with what it gives. */
  readonly completed: Promise<BranchCompletion>;
  private readonly results: Patch[] = [];
  private readonly complete: (completion: BranchCompletion) => void;
  private completion: BranchCompletion | undefined;
  private bytes = 0;

  constructor(index: number, machine: Machine | undefined) {
    this.index = index;
    this.machine = machine;
    const { promise, resolve } = Promise.withResolvers<BranchCompletion>();
    this.completed = promise;
    this.complete = resolve;
  }

  /** What the clone has declared, in its order, by addresses of the process that did. */
  get result(): readonly Patch[] {
    return this.results;
  }

  /** All bytes that it has declared, one after the other. */
  get output(): Uint8Array {
    return Buffer.concat(this.results.map(({ bytes }) => bytes));
  }

  /** How it ended, if it has. */
  get state(): BranchCompletion | undefined {
    return this.completion;
  }

  /** @internal */
  declare(patch: Patch): boolean {
    if (this.results.length >= MAX_RESULTS || this.bytes + patch.bytes.length > MAX_RESULT_BYTES) return false;
    this.bytes += patch.bytes.length;
    this.results.push(patch);
    return true;
  }

  /** @internal */
  end(completion: BranchCompletion): void {
    this.completion ??= completion;
    this.complete(this.completion);
  }
}

/** A clone while it is there. */
class Clone {
  readonly branch: Branch;
  readonly files = new Map<string, Content>();
  private readonly host: BranchHost;
  private readonly inner: Branches;
  private readonly running = new AbortController();
  private readonly left: () => void;

  constructor(branch: Branch, host: BranchHost, inner: Branches, left: () => void) {
    this.branch = branch;
    this.host = host;
    this.inner = inner;
    this.left = left;
  }

  async run(budget: bigint): Promise<void> {
    try {
      await this.inner.begin();
      await this.host.machine.step(budget, { signal: this.running.signal });
      this.branch.end({ kind: 'budget', error: branchError(`branch ${this.branch.index} has made ${budget} steps`) });
    } catch (error) {
      if (this.running.signal.aborted) return;
      const completion = endedBy(error);
      this.branch.end(completion);
      // What it holds may be what others lack.
      if (completion.kind === 'failed') await this.stop();
    }
  }

  /** It stands still, and what it gives is known. */
  done(status: number): void {
    this.running.abort();
    this.branch.end({ kind: 'done', status });
  }

  async failed(error: unknown): Promise<void> {
    this.branch.end({ kind: 'failed', error: braidError(error) });
    await this.stop();
  }

  /** It is to be the original. */
  async release(): Promise<void> {
    this.running.abort();
    await this.inner.release();
    this.left();
  }

  async stop(): Promise<void> {
    await this.release();
    this.branch.end({ kind: 'stopped' });
    // One that is lost already has nothing to be stopped.
    await this.host.machine.dispose().catch(() => {});
  }
}

/** The clones of one `braid_branch`. */
export class Branching {
  readonly branches: readonly Branch[];
  /** What became of it. Fails as `choose` fails. */
  readonly result: Promise<Converged>;
  private readonly clones: Map<number, Clone>;
  private readonly into: (clone: Branch) => Promise<Position>;
  private readonly settle: PromiseWithResolvers<Converged>;
  private over = false;
  /** What has been put in place. @internal */
  copied: Branch | undefined;

  /** @internal */
  constructor(branches: readonly Branch[], clones: Map<number, Clone>, into: (clone: Branch) => Promise<Position>) {
    this.branches = branches;
    this.clones = clones;
    this.into = into;
    this.settle = Promise.withResolvers();
    this.result = this.settle.promise;
    this.result.catch(() => {}); // whoever looks at it hears of it
  }

  /** Whether one of the branches may still be taken. */
  get open(): boolean {
    return !this.over;
  }

  /** Has the original, wherever it is, become a clone, whether that is complete or not. */
  async adopt(index: number): Promise<Position> {
    const branch = this.branches[index - 1];
    if (this.over || !branch?.machine || !this.clones.has(index))
      throw branchError(`there is no branch ${index} to adopt`);
    const { state } = branch;
    if (state?.kind === 'panic' || state?.kind === 'failed')
      throw branchError(`branch ${index} cannot be adopted: ${state.error.message}`);
    return this.into(branch);
  }

  /** Stops all clones: none of them will be taken. */
  async discard(): Promise<void> {
    await this.close({ index: 0, how: 'none' });
  }

  /** @internal */
  clone(index: number): Clone | undefined {
    return this.clones.get(index);
  }

  /** A clone is not one of these any more. @internal */
  async part(index: number): Promise<void> {
    const clone = this.clones.get(index);
    this.clones.delete(index);
    await clone?.release();
  }

  /** @internal */
  async close(outcome: Converged | BraidError): Promise<void> {
    if (this.over) return;
    this.over = true;
    const clones = [...this.clones.values()];
    this.clones.clear();
    await Promise.all(clones.map((clone) => clone.stop()));
    if (outcome instanceof BraidError) this.settle.reject(outcome);
    else this.settle.resolve(outcome);
  }
}

/** What nested branches have in common. */
interface Room {
  left: number;
}

interface Inner {
  readonly room: Room;
  readonly depth: number;
  readonly index: number;
  /** The clone that hears of its own hints here. */
  clone: Clone | undefined;
}

/** An answer that is not there yet; 0 if it fails. */
interface Later {
  readonly kind: Hint['kind'];
  answer: bigint | undefined;
}

/** See `Machine.branches`. */
export class Branches implements AsyncDisposable {
  private readonly host: BranchHost;
  private readonly options: BranchOptions;
  private readonly room: Room;
  private readonly depth: number;
  private readonly inner: Inner | undefined;
  private readonly budget: bigint;
  private readonly files: readonly string[];
  private forget: (() => void)[] = [];
  private latest: Branching | undefined;
  private listening = false;
  /** Counts what makes the answer to an earlier hint void. */
  private turn = 0;
  /** What a program that was told to ask again is told then. */
  private later: Later | undefined;

  /** @internal */
  constructor(host: BranchHost, options: BranchOptions, inner?: Inner) {
    const { limit = 16, depth = 1, budget = 10_000_000_000n, files = [] } = options;
    this.host = host;
    this.options = options;
    this.inner = inner;
    this.room = inner?.room ?? { left: limit };
    this.depth = inner?.depth ?? depth;
    this.budget = BigInt(budget);
    this.files = [...new Set(files)];
  }

  /** Whether hints of the guest are heard here. */
  get open(): boolean {
    return this.listening;
  }

  /** The clones of the last `braid_branch`. */
  get current(): Branching | undefined {
    return this.latest;
  }

  /** @internal */
  async begin(): Promise<void> {
    const { link } = this.host;
    this.listening = true;
    this.forget = [
      link.on('hint', (hint) => this.heard(hint as Hint)),
      ...['exit', 'panic', 'closed'].map((event) => link.on(event, () => void this.abandon())),
    ];
    await link.call('hear', { heard: true });
  }

  /** Branches no more. Clones that nobody has taken are stopped; a program that waits gets the result 0. */
  async dispose(): Promise<void> {
    if (!this.listening) return;
    await this.release();
    // A machine that is over has nobody to be told.
    await this.host.link.call('hear', { heard: false }).catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  /** As `dispose`, of a machine that becomes another one: a hint that waits goes on waiting. @internal */
  async release(): Promise<void> {
    for (const forget of this.forget.splice(0)) forget();
    this.listening = false;
    await this.abandon();
  }

  /** The machine is not what has branched any more: its clones are stopped, and a hint that waits is gone. @internal */
  async abandon(): Promise<void> {
    this.turn++;
    this.later = undefined;
    await this.latest?.discard();
  }

  /** The machine waits with a hint. */
  private heard(hint: Hint): void {
    if (hint.kind === 'mark') return;
    const turn = ++this.turn;
    this.answerTo(hint).then(
      (value) => {
        if (value !== undefined && turn === this.turn) return this.answer(value);
        return undefined;
      },
      (error: unknown) => {
        this.refused(error);
        if (turn === this.turn) this.answer(0n);
      },
    );
  }

  /** The machine may be gone by then: who waits for it hears of that. */
  private async answer(value: bigint, writes?: readonly Patch[]): Promise<boolean> {
    try {
      return await this.host.link.call('answer', { value, ...(writes?.length ? { writes } : {}) });
    } catch {
      return false;
    }
  }

  /** The answer to a hint; undefined for one that is not answered, or has been. */
  private async answerTo(hint: Exclude<Hint, { kind: 'mark' }>): Promise<bigint | undefined> {
    const { later } = this;
    // A clone that is complete stays where it is.
    if (this.inner?.clone?.branch.state) return undefined;
    if (later?.kind === hint.kind && later.answer === undefined) return LATER;
    if (later?.answer === undefined && later) throw branchError('a hint while another one is under way');
    this.later = undefined;
    if (later?.kind === hint.kind) return later.answer;
    switch (hint.kind) {
      case 'branch':
        return this.branch(hint);
      case 'take':
        return this.take(hint);
      case 'result':
        if (!this.inner) throw branchError('a result without a branch: this is the original');
        if (!this.inner.clone!.branch.declare({ address: hint.address, bytes: hint.bytes }))
          throw branchError(
            `branch ${this.inner.index} gives more than ${MAX_RESULT_BYTES} bytes, or in too many pieces`,
          );
        return 1n;
      case 'done':
        return this.done(hint.status);
    }
  }

  /** Has the program ask again until `work` is over, which gives the answer. */
  private postpone(kind: Hint['kind'], work: () => Promise<bigint>): void {
    const later: Later = { kind, answer: undefined };
    this.later = later;
    const failed = (error: unknown) => {
      this.refused(error);
      return 0n;
    };
    work()
      .catch(failed)
      .then((answer) => {
        later.answer = answer;
      });
  }

  private refused(error: unknown): void {
    tell(this.options.onRefused, braidError(error), (failure) => this.host.link.fault(failure));
  }

  // --- In a clone

  private async done(status: number): Promise<bigint | undefined> {
    const { inner } = this;
    if (!inner) throw branchError('done without a branch: this is the original');
    const clone = inner.clone!;
    await this.latest?.discard();
    if (this.files.length === 0) {
      clone.done(status);
      return undefined;
    }
    // Their content is read while the program waits; there the clone stands still.
    this.postpone('done', async () => {
      try {
        for (const path of this.files) clone.files.set(path, await readContent(this.host.machine, path));
        clone.done(status);
      } catch (error) {
        await clone.failed(error);
      }
      return 1n;
    });
    return LATER;
  }

  // --- In the original

  private async branch({ count, hart }: Hint & { kind: 'branch' }): Promise<bigint | undefined> {
    await this.latest?.discard();
    const { room, options } = this;
    if (this.depth < 1) throw branchError('a clone that would branch: see the option depth');
    if (count > room.left)
      throw branchError(`${count} branches, and there is room for ${room.left}: see the option limit`);
    room.left -= count;
    const turn = this.turn;
    const made = await this.host
      .fork(
        count,
        (n) => options.fork?.(n + 1) ?? {},
        (n) => [{ kind: 'hint', hart, value: BigInt(n + 1) }],
      )
      .catch((error: unknown) => {
        room.left += count;
        throw error;
      });
    const clones = new Map<number, Clone>();
    const branches = made.map((one, n) => this.branchOf(one, n + 1, clones));
    const branching = new Branching(branches, clones, (branch) => this.adopt(branching, branch));
    this.latest = branching;
    // The machine has been reset, or is gone.
    if (turn !== this.turn) {
      await branching.discard();
      return undefined;
    }
    for (const clone of clones.values()) void clone.run(this.budget);
    tell(options.onBranching, branching, (failure) => this.host.link.fault(failure));
    return options.choose ? this.choose(branching, options.choose) : 0n;
  }

  private branchOf(made: BranchHost | BraidError, index: number, clones: Map<number, Clone>): Branch {
    const left = () => {
      this.room.left++;
    };
    if (made instanceof BraidError) {
      left();
      const branch = new Branch(index, undefined);
      branch.end({ kind: 'failed', error: made });
      return branch;
    }
    const branch = new Branch(index, made.machine);
    const inner: Inner = { room: this.room, depth: this.depth - 1, index, clone: undefined };
    const { choose: _, onBranching: __, ...options } = this.options;
    const clone = new Clone(branch, made, new Branches(made, options, inner), once(left));
    inner.clone = clone;
    clones.set(index, clone);
    return branch;
  }

  private async choose(
    branching: Branching,
    choose: (branching: Branching) => Choice | Promise<Choice>,
  ): Promise<bigint | undefined> {
    const { turn } = this;
    let choice: Choice;
    try {
      choice = await choose(branching);
    } catch (error) {
      const failure = error instanceof BraidError ? error : branchError(`choose has failed: ${error}`, error);
      await branching.close(failure);
      throw failure;
    }
    if (turn !== this.turn) return undefined;
    const { index, how } = typeof choice === 'number' ? { index: choice, how: 'copy' as const } : choice;
    try {
      // A process that has become several tells by the sign that it is the original.
      return await this.converge(branching, index, how, { kind: 'branch', answer: BigInt.asUintN(64, BigInt(-index)) });
    } catch (error) {
      await branching.close(braidError(error));
      throw error;
    }
  }

  private async take({ index, mode }: Hint & { kind: 'take' }): Promise<bigint | undefined> {
    const branching = this.latest;
    // What the host has chosen may be asked for again, at another address.
    const copied = branching?.copied;
    if (copied && copied.index === index && mode !== 2) {
      if (await this.answer(1n, copied.result)) return undefined;
      throw unwritable(copied);
    }
    if (!branching?.open) throw branchError('there is nothing to take: no branch, or it is over');
    const how = mode === 0 ? (this.options.take ?? 'copy') : MODES[mode];
    if (!how) throw branchError(`there is no way ${mode} to take a branch`);
    const { turn } = this;
    await branching.branches[index - 1]?.completed;
    return turn === this.turn ? this.converge(branching, index, how, { kind: 'take', answer: 1n }) : undefined;
  }

  /** Takes a branch that is complete. The result is the answer, if that has not been given. */
  private async converge(
    branching: Branching,
    index: number,
    how: Convergence,
    { kind, answer }: { readonly kind: 'branch' | 'take'; readonly answer: bigint },
  ): Promise<bigint | undefined> {
    if (index === 0) {
      await branching.discard();
      return answer;
    }
    const branch = branching.branches[index - 1];
    if (!branch) throw branchError(`there is no branch ${index} of ${branching.branches.length}`);
    if (how === 'adopt') {
      await branching.adopt(index);
      return undefined;
    }
    const clone = branching.clone(index);
    const ended = branch.state?.kind;
    if (ended !== 'done' || !clone) throw branchError(`branch ${index} has not been done: ${ended ?? 'it goes on'}`);
    const { files } = clone;
    const { turn } = this;
    const put = await this.answer(files.size > 0 ? LATER : answer, branch.result);
    if (turn !== this.turn) return undefined;
    if (!put) throw unwritable(branch);
    branching.copied = branch;
    const converged = { index, how } as const;
    if (files.size === 0) {
      await branching.close(converged);
      return undefined;
    }
    this.postpone(kind, async () => {
      for (const [path, content] of files) await putFile(this.host.machine, path, content);
      await branching.close(converged);
      return answer;
    });
    return undefined;
  }

  private async adopt(branching: Branching, { index, machine, state }: Branch): Promise<Position> {
    this.turn++;
    this.later = undefined;
    await branching.part(index);
    // Where files were read the program asks again by itself.
    if (state?.kind === 'done') this.later = { kind: 'done', answer: 1n };
    try {
      const { position, waits } = await this.host.become(machine!);
      if (waits) {
        this.later = undefined;
        await this.answer(state?.kind === 'done' ? 1n : 0n);
      }
      await branching.close({ index, how: 'adopt' });
      return position;
    } catch (error) {
      await machine!.dispose().catch(() => {});
      await branching.close(braidError(error));
      throw error;
    }
  }
}

function endedBy(error: unknown): BranchCompletion {
  const failure = braidError(error);
  if (failure.code === 'ERR_BRAID_EXITED' && failure.exit) return { kind: 'exit', exit: failure.exit };
  const kinds = { ERR_BRAID_PANIC: 'panic', ERR_BRAID_HALTED: 'halt', ERR_BRAID_MAX_STEPS: 'budget' } as const;
  return { kind: kinds[failure.code as keyof typeof kinds] ?? 'failed', error: failure };
}

function unwritable({ index }: Branch): BraidError {
  return branchError(`what branch ${index} gives cannot be written: the process may not write there itself`);
}

function branchError(why: string, cause?: unknown): BraidError {
  return new BraidError('ERR_BRAID_BRANCH', why, cause === undefined ? {} : { cause });
}

function braidError(error: unknown): BraidError {
  return error instanceof BraidError ? error : branchError(String(error), error);
}

function once(act: () => void): () => void {
  let done = false;
  return () => {
    if (!done) act();
    done = true;
  };
}

checked<Branching, 'part' | 'clone' | 'close'>(Branching.prototype, {
  rejects: { adopt: [argument('index', integer(1, MAX_CLONES))] },
  throws: {},
});

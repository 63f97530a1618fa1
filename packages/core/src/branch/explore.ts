/**
 * A search over states that are forked from each other. The host says what a state is (a machine, or anything else that can make a move
 * and be given back); the search decides what is tried in which order, within which budget, and what is kept.
 *
 * The result is a function of what the moves do, never of timing: neither how many run at once, nor who is done first on the host's
 * clock, changes a node, a number or the order of anything in the tree. It is defined so:
 *
 *  - The search goes in *rounds*. A round takes nodes that are open, in the order of the strategy, and makes all their moves:
 *      breadth-first  the nodes of the least depth, by index; at most `width`, if given
 *      depth-first    the `width` (or 1) lowest indices, compared place by place: always deeper first
 *      best-first     the `width` (or 1) best: highest score, then fewest steps from the root, then lowest index
 *      beam           the `width` best of the open nodes, which are those of one level; the others are pruned
 *  - The moves of a round run side by side in guest steps, each from the total of its parent (explore-horizon.ts). The round ends at a
 *    *horizon*: the least total of a node that `stop` accepts, or the total at which the round has used up the budget of steps,
 *    whichever is less. What is not done there is cut off there: it is `pruned` or `over budget`, has made the steps up to there, and
 *    nothing else is known of it. So first means: in the earliest round, fewest steps from the root, then the lowest index.
 *  - A round makes no more nodes than the budget has left; those are its first by index. Nodes at the depth of the budget are looked at
 *    and not expanded.
 *  - Of nodes with the same key of `dedupe`, the first keeps it: an earlier round, fewest steps, lowest index.
 *  - The search ends with the round that accepts a node, with the budget, or when nothing is open.
 *
 * Hosts with time on their hands expand nodes that may be next before their turn; what comes of it is used or given back, unseen.
 * With `race` the host's clock decides instead: the first that is accepted wins, and what is not done by then is pruned.
 */

import { horizonOf, type Lane } from './explore-horizon.ts';
import {
  compareBest,
  compareFirst,
  compareIndex,
  type Releasable,
  type SearchEnd,
  type SearchNode,
  SearchTree,
  TreeNode,
} from './explore-tree.ts';

/** A state as the search uses it. Calls for one state may overlap. */
export interface Explored<M, S> extends Releasable {
  /**
   * Forks a child for each move and makes the move in it; this state stays as it is. There is one promise for each move, and each
   * settles by itself: an error concerns that child alone (its `steps`, if it has a bigint of that name, are what it had made).
   */
  branch(moves: readonly M[], context: BranchContext): readonly Promise<Branched<S>>[];
}

export interface BranchContext {
  /** Aborted when the results can no longer matter. */
  readonly signal: AbortSignal;
  /**
   * A move that has made more steps than this need not go on: it gives the count that it has come to. The limit gets lower while
   * others are done, so it is worth asking again from time to time. Nothing: no limit.
   */
  limit(): bigint | undefined;
}

/** A move that was made. */
export interface Branched<S> {
  readonly state: S;
  /** Guest steps that the move made. */
  readonly steps: bigint;
  /** Why no further move can be made: the machine is over. */
  readonly ended?: string;
}

export type Strategy = 'breadth-first' | 'depth-first' | 'best-first' | 'beam';

/** What may be asked about a node: a function of its state and its path, or the result depends on timing. */
type Ask<M, S, T> = (node: SearchNode<M, S>, signal: AbortSignal) => T | Promise<T>;

export interface ExploreOptions<M, S extends Releasable> {
  /** What can be tried at a node, in the order of the children. */
  readonly moves: Ask<M, S, Iterable<M>>;
  /** How good a node is: higher is better. Best-first and beam need it. */
  readonly score?: Ask<M, S, number>;
  /** Whether a node is what was looked for. */
  readonly stop?: Ask<M, S, boolean>;
  /** States with one key are the same: only the first is expanded. */
  readonly dedupe?: Ask<M, S, string>;
  readonly strategy: Strategy;
  /** Nodes that a round expands; the beam needs it. */
  readonly width?: number;
  readonly budget?: Budget;
  /** Moves, and questions about nodes, that go on at once: 1 unless given. */
  readonly parallel?: number;
  /** Let the host's clock decide who is first. */
  readonly race?: boolean;
  /**
   * Which states the tree holds at the end: that of the winner (or, without one, of the best; the default), those on the path there,
   * all whose end was reached, or none.
   */
  readonly keep?: 'winner' | 'path' | 'all' | 'none';
  readonly signal?: AbortSignal;
  /** Called when something is new; the numbers are of the moment, and depend on timing. */
  readonly onProgress?: (progress: Progress<M, S>) => void;
  /** A move for people. */
  readonly name?: (move: M) => string;
}

export interface Budget {
  /** Guest steps of all moves together. */
  readonly steps?: bigint;
  /** Nodes besides the root. */
  readonly nodes?: number;
  readonly depth?: number;
}

export interface Progress<M, S extends Releasable> {
  /** Nodes whose move is done. */
  readonly nodes: number;
  /** States that are held, besides the root's. */
  readonly live: number;
  /** Moves and questions that go on. */
  readonly running: number;
  readonly steps: bigint;
  readonly budget: Budget;
  readonly best: SearchNode<M, S> | undefined;
  /** The tree up to the last round. */
  readonly tree: SearchTree<M, S>;
  /** What the round that goes on makes, as far as its moves are listed: not part of the tree yet, and some of it may never be. */
  readonly round: readonly SearchNode<M, S>[];
}

/** A search that cannot be done as asked, or a host or an answer that breaks the rules. */
export class ExploreError extends Error {
  readonly code = 'ERR_BRAID_EXPLORE';
  constructor(why: string) {
    super(why);
    this.name = 'ExploreError';
  }
}

/**
 * Searches from a state. The root's state stays the caller's. Rejects when the signal aborts (with its reason), when a callback about
 * the root throws or `onProgress` does; every state but the root's is given back then. It settles after all calls of the host have.
 */
export async function explore<M, S extends Explored<M, S>>(
  root: S,
  options: ExploreOptions<M, S>,
): Promise<SearchTree<M, S>> {
  check(options);
  return new Search(root, options).run();
}

function check<M, S extends Releasable>({ strategy, score, width, parallel, budget = {} }: ExploreOptions<M, S>): void {
  if (!Object.hasOwn(ORDERS, strategy)) throw new ExploreError(`there is no strategy ${strategy}`);
  const scored = strategy === 'beam' || strategy === 'best-first';
  if (scored && !score) throw new ExploreError(`${strategy} needs a score`);
  if (strategy === 'beam' && width === undefined) throw new ExploreError('a beam needs a width');
  const counts = { width, parallel, 'budget.nodes': budget.nodes, 'budget.depth': budget.depth };
  for (const [name, count] of Object.entries(counts)) {
    const least = name.startsWith('budget') ? 0 : 1;
    if (count !== undefined && !(Number.isSafeInteger(count) && count >= least))
      throw new ExploreError(`${name} is ${count}, which is not a whole number from ${least}`);
  }
  if (budget.steps !== undefined && budget.steps < 0n) throw new ExploreError('budget.steps is negative');
}

/** In which order open nodes are expanded. */
const ORDERS: Record<Strategy, <M, S>(a: SearchNode<M, S>, b: SearchNode<M, S>) => number> = {
  'breadth-first': (a, b) => a.depth - b.depth || compareIndex(a, b),
  'depth-first': compareIndex,
  'best-first': compareBest,
  beam: compareBest,
};

/** A child on its way into the tree. */
interface Job<M, S> extends Lane {
  readonly node: TreeNode<M, S>;
  /** Its round makes it for certain. */
  counted: boolean;
  state: 'waiting' | 'running' | 'done';
  steps: bigint;
  /** What was said about it, if that was asked. */
  stop: boolean;
  key: string | undefined;
  failed: boolean;
}

/** The moves of a node, being made. */
interface Expansion<M, S> {
  readonly node: TreeNode<M, S>;
  state: 'new' | 'listing' | 'listed';
  jobs: Job<M, S>[];
  /** Why its moves could not be listed. */
  failed: { readonly error: unknown } | undefined;
  /** It is its turn. */
  chosen: boolean;
  /** Its children are not wanted any more. */
  dead: boolean;
}

/** What is expanded now. */
interface Round<M, S> {
  readonly chosen: Expansion<M, S>[];
  /** The expansions whose jobs are in `jobs`: all those before them are listed. */
  listed: number;
  /** The nodes that the round makes, as far as known. */
  jobs: Job<M, S>[];
  /** Jobs before this one are done. */
  done: number;
  /** Jobs before this one are started. */
  started: number;
  /** The horizon is not above this. */
  bound: bigint | undefined;
  /** Jobs done when the bound was last computed from the steps made. */
  bounded: number;
  /** With `race`: in the order of the host's clock. */
  readonly arrived: Job<M, S>[];
  raced: boolean;
}

class Search<M, S extends Explored<M, S>> {
  private readonly options: ExploreOptions<M, S>;
  private readonly budget: Budget;
  private readonly parallel: number;
  private readonly keep: 'winner' | 'path' | 'all' | 'none';
  private readonly order: (a: SearchNode<M, S>, b: SearchNode<M, S>) => number;
  private readonly list: TreeNode<M, S>[];
  private readonly tree: SearchTree<M, S>;
  private readonly root: TreeNode<M, S>;
  /** Open nodes, in the order of the strategy. */
  private frontier: TreeNode<M, S>[] = [];
  private readonly expansions = new Map<TreeNode<M, S>, Expansion<M, S>>();
  private round: Round<M, S> | undefined;
  private readonly seen = new Set<string>();
  /** Children whose states are wanted, by node: what keeps a path. */
  private readonly living = new Map<TreeNode<M, S>, number>();
  private readonly controller = new AbortController();
  private closed = false;
  private running = 0;
  private live = 0;
  private readonly releases = new Set<Promise<void>>();
  private wake = () => {};

  constructor(state: S, options: ExploreOptions<M, S>) {
    this.options = options;
    this.budget = options.budget ?? {};
    this.parallel = options.parallel ?? 1;
    this.keep = options.keep ?? 'winner';
    this.order = ORDERS[options.strategy];
    this.root = new TreeNode<M, S>();
    this.root.state = state;
    this.list = [this.root];
    const { strategy, race = false, name } = options;
    this.tree = new SearchTree(this.list, { strategy, race, ...(name ? { name } : {}) });
  }

  async run(): Promise<SearchTree<M, S>> {
    const { signal } = this.options;
    const abort = () => {
      this.close(signal!.reason);
      this.wake();
    };
    signal?.throwIfAborted();
    signal?.addEventListener('abort', abort);
    try {
      const end = (await this.begin()) ?? (await this.rounds());
      this.tree.end = end;
      this.close();
      await this.settled();
      this.progress();
      return this.tree;
    } catch (error) {
      this.close(error);
      await this.settled();
      await this.tree[Symbol.asyncDispose]();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Asks about the root. */
  private async begin(): Promise<SearchEnd | undefined> {
    const { root } = this;
    const { stop, score, key } = await this.ask(root);
    this.options.signal?.throwIfAborted();
    root.score = score;
    if (key !== undefined) this.seen.add(key);
    if (score !== undefined) this.tree.best = root;
    if (stop) {
      root.outcome = 'stopped';
      this.tree.winner = root;
      return 'found';
    }
    if (this.budget.depth === 0) root.outcome = 'over budget';
    else this.open(root);
    return undefined;
  }

  private async rounds(): Promise<SearchEnd> {
    const { nodes } = this.budget;
    for (;;) {
      if (this.frontier.length === 0) return 'exhausted';
      if (nodes !== undefined && this.list.length > nodes) return 'nodes';
      if (this.remaining() === 0n) return 'steps';
      const round = this.choose();
      this.round = round;
      for (;;) {
        this.options.signal?.throwIfAborted();
        this.start(round);
        if (this.finished(round)) break;
        this.progress();
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
      }
      this.round = undefined;
      const end = this.record(round);
      if (end) return end;
    }
  }

  /** Takes the nodes of the next round from the frontier. */
  private choose(): Round<M, S> {
    const { strategy, width } = this.options;
    let count = width ?? 1;
    if (strategy === 'breadth-first') {
      const depth = this.frontier[0]!.depth;
      const next = this.frontier.findIndex((node) => node.depth > depth);
      const level = next < 0 ? this.frontier.length : next;
      count = Math.min(level, width ?? level);
    }
    const chosen = this.frontier.splice(0, count);
    if (strategy === 'beam') {
      for (const node of this.frontier.splice(0)) {
        node.outcome = 'pruned';
        this.discard(node);
      }
    }
    const expansions = chosen.map((node) => this.expansion(node));
    for (const expansion of expansions) expansion.chosen = true;
    return {
      chosen: expansions,
      listed: 0,
      jobs: [],
      done: 0,
      started: 0,
      bound: undefined,
      bounded: 0,
      arrived: [],
      raced: false,
    };
  }

  private expansion(node: TreeNode<M, S>): Expansion<M, S> {
    let expansion = this.expansions.get(node);
    if (!expansion) {
      expansion = { node, state: 'new', jobs: [], failed: undefined, chosen: false, dead: false };
      this.expansions.set(node, expansion);
    }
    return expansion;
  }

  /** Starts what the round needs, then what may be needed next, as far as there is room. */
  private start(round: Round<M, S>): void {
    for (;;) {
      this.extend(round);
      while (round.started < round.jobs.length && round.jobs[round.started]!.state !== 'waiting') round.started++;
      if (this.running >= this.parallel) return;
      const job = round.jobs[round.started];
      if (job) {
        if (round.bound !== undefined && job.start > round.bound) this.done(job);
        else this.branch(this.expansions.get(job.node.parent!)!, job, this.room(round));
        continue;
      }
      const unlisted = round.chosen.find((expansion) => expansion.state === 'new');
      if (unlisted) void this.listMoves(unlisted);
      else if (!this.startEarly(round)) return;
    }
  }

  /** Nodes that the round may make. */
  private room(round: Round<M, S>): number {
    const { nodes } = this.budget;
    return nodes === undefined ? Number.POSITIVE_INFINITY : nodes + 1 - this.list.length - round.started;
  }

  /** Adds the jobs whose place in the round is certain. */
  private extend(round: Round<M, S>): void {
    const { nodes } = this.budget;
    const room = nodes === undefined ? Number.POSITIVE_INFINITY : nodes + 1 - this.list.length;
    while (round.listed < round.chosen.length && round.chosen[round.listed]!.state === 'listed') {
      for (const job of round.chosen[round.listed]!.jobs) {
        if (round.jobs.length >= room) break;
        round.jobs.push(job);
        job.counted = true;
        if (job.state === 'done') this.arrive(round, job);
      }
      round.listed++;
    }
  }

  /** Starts one call for a node that may be chosen next. Says whether there was any. */
  private startEarly(round: Round<M, S>): boolean {
    const { budget, parallel, order } = this;
    const over = round.bound !== undefined || round.raced;
    const full = budget.nodes !== undefined && this.list.length + round.jobs.length > budget.nodes;
    if (parallel === 1 || over || full) return false;
    let held = 0;
    for (const { jobs, state, chosen } of this.expansions.values()) {
      if (chosen) continue;
      const started = jobs.filter((job) => job.state !== 'waiting').length;
      held += state === 'listing' || jobs.length === 0 ? 1 : started;
    }
    if (held >= parallel) return false;
    const ready = round.jobs.filter((job) => job.state === 'done' && this.goesOn(job)).map(({ node }) => node);
    const { strategy, width = parallel } = this.options;
    const most = strategy === 'beam' ? Math.min(width, parallel) : parallel;
    for (const node of [...this.frontier.slice(0, parallel), ...ready].sort(order).slice(0, most)) {
      const expansion = this.expansion(node);
      if (expansion.state === 'new') {
        void this.listMoves(expansion);
        return true;
      }
      const job = expansion.jobs.find((job) => job.state === 'waiting');
      if (job) {
        this.branch(expansion, job, parallel - held);
        return true;
      }
    }
    return false;
  }

  /** Whether a child that is done would be open. */
  private goesOn({ node, failed, stop, key }: Job<M, S>): boolean {
    if (!node.state || failed || stop || node.ended !== undefined) return false;
    return node.depth !== this.budget.depth && !(key !== undefined && this.seen.has(key));
  }

  private async listMoves(expansion: Expansion<M, S>): Promise<void> {
    const { node } = expansion;
    expansion.state = 'listing';
    this.enter(expansion, 1);
    try {
      const moves = Array.from(await this.options.moves(node, this.controller.signal));
      expansion.jobs = moves.map((move, place) => ({
        node: new TreeNode(node, place, move),
        start: node.total,
        counted: false,
        state: 'waiting',
        steps: 0n,
        stop: false,
        key: undefined,
        failed: false,
      }));
    } catch (error) {
      expansion.failed = { error };
    }
    expansion.state = 'listed';
    this.leave(expansion);
  }

  /** Makes the move of a job, and those of the jobs after it that have room. */
  private branch(expansion: Expansion<M, S>, first: Job<M, S>, most: number): void {
    const place = first.node.index.at(-1)!;
    const free = Math.min(this.parallel - this.running, most);
    const jobs = expansion.jobs.slice(place, place + free).filter((job) => job.state === 'waiting');
    for (const job of jobs) {
      job.state = 'running';
      job.node.outcome = 'running';
    }
    this.enter(expansion, jobs.length);
    const context = { signal: this.controller.signal, limit: () => this.limit(expansion) };
    let children: readonly Promise<Branched<S>>[];
    try {
      children = expansion.node.state!.branch(
        jobs.map(({ node }) => node.move!),
        context,
      );
      if (children.length !== jobs.length) {
        for (const child of children) child.then(({ state }) => state.release()).catch(() => {});
        throw new ExploreError(`the host gave ${children.length} children for ${jobs.length} moves`);
      }
    } catch (error) {
      children = jobs.map(() => Promise.reject(error));
    }
    jobs.forEach((job, i) => void this.finish(expansion, job, children[i]!));
  }

  private async finish(expansion: Expansion<M, S>, job: Job<M, S>, child: Promise<Branched<S>>): Promise<void> {
    const { node } = job;
    try {
      const { state, steps, ended } = await child;
      node.state = state;
      this.live++;
      if (typeof steps !== 'bigint' || steps < 0n) throw new ExploreError('the host counts steps as a bigint from 0');
      const limit = this.limit(expansion);
      if (!this.unwanted(expansion)) {
        job.steps = steps;
        node.spend(steps);
        node.ended = ended;
        if (limit === undefined || steps <= limit) {
          const said = await this.ask(node);
          if (!this.unwanted(expansion)) {
            job.stop = said.stop;
            job.key = said.key;
            node.score = said.score;
          }
        }
      }
    } catch (error) {
      const steps = (error as { steps?: unknown } | undefined)?.steps;
      if (!this.unwanted(expansion)) {
        if (!node.state && typeof steps === 'bigint' && steps > 0n) job.steps = steps;
        job.failed = true;
        node.error = error;
      }
      this.drop(node);
    }
    if (this.unwanted(expansion)) this.drop(node);
    else {
      node.outcome = job.failed ? 'failed' : job.stop ? 'stopped' : node.ended === undefined ? 'open' : 'ended';
      this.done(job);
    }
    this.leave(expansion);
  }

  /** Whether nothing that its calls still bring may be seen. */
  private unwanted(expansion: Expansion<M, S>): boolean {
    return this.closed || expansion.dead;
  }

  /** What the callbacks say about a node. */
  private async ask(
    node: TreeNode<M, S>,
  ): Promise<{ stop: boolean; score: number | undefined; key: string | undefined }> {
    const { options } = this;
    const { signal } = this.controller;
    const stop = options.stop !== undefined && (await options.stop(node, signal));
    const score = await options.score?.(node, signal);
    if (options.score && (typeof score !== 'number' || Number.isNaN(score)))
      throw new ExploreError(`a score is a number, not ${score}`);
    const goesOn = !stop && node.ended === undefined;
    return { stop, score, key: goesOn ? await options.dedupe?.(node, signal) : undefined };
  }

  private enter(expansion: Expansion<M, S>, calls: number): void {
    expansion.node.calls += calls;
    this.running += calls;
  }

  private leave(expansion: Expansion<M, S>): void {
    expansion.node.calls--;
    this.running--;
    if (expansion.dead) this.tryRelease(expansion.node);
    this.wake();
  }

  private done(job: Job<M, S>): void {
    job.state = 'done';
    if (job.counted) this.arrive(this.round!, job);
  }

  /** Lowers the bound of the round by a job that is done. */
  private arrive(round: Round<M, S>, job: Job<M, S>): void {
    round.arrived.push(job);
    const remaining = this.remaining();
    if (this.options.race) {
      const steps = round.arrived.reduce((sum, { steps }) => sum + steps, 0n);
      round.raced ||= job.stop || (remaining !== undefined && steps > remaining);
      return;
    }
    const total = job.start + job.steps;
    if (job.stop && (round.bound === undefined || total < round.bound)) round.bound = total;
    if (remaining === undefined) return;
    // Each time that there is an eighth more to go by: a round of many is not quadratic.
    if (round.arrived.length < round.bounded + round.bounded / 8) return;
    round.bounded = round.arrived.length;
    const horizon = horizonOf(round.arrived, remaining);
    if (horizon !== undefined && (round.bound === undefined || horizon < round.bound)) round.bound = horizon;
  }

  /** Steps that are left of the budget. */
  private remaining(): bigint | undefined {
    const { steps } = this.budget;
    return steps === undefined ? undefined : steps - this.tree.steps;
  }

  /** Steps of a move of this node beyond which nothing matters. */
  private limit(expansion: Expansion<M, S>): bigint | undefined {
    const remaining = this.remaining();
    const { round } = this;
    if (round?.bound === undefined || !expansion.chosen) return remaining;
    const left = round.bound - expansion.node.total;
    const own = left > 0n ? left : 0n;
    return remaining === undefined || own < remaining ? own : remaining;
  }

  private finished(round: Round<M, S>): boolean {
    while (round.done < round.jobs.length && round.jobs[round.done]!.state === 'done') round.done++;
    return round.raced || (round.listed === round.chosen.length && round.done === round.jobs.length);
  }

  /** Puts the children of a round into the tree. */
  private record(round: Round<M, S>): SearchEnd | undefined {
    const { tree, budget } = this;
    const { winner, cut, out } = this.options.race ? this.raced(round) : this.cut(round);
    for (const { node, failed, jobs, state } of round.chosen) {
      if (failed && node === this.root) throw failed.error;
      if (state !== 'listed') continue;
      node.error = failed?.error;
      node.outcome = failed ? 'failed' : 'expanded';
      if (!failed) node.moves = jobs.length;
    }
    let open: Job<M, S>[] = [];
    for (const job of round.jobs) {
      const { node } = job;
      const up = cut(job);
      if (up !== undefined) {
        // What is known of it depends on when it was stopped.
        node.spend(up);
        node.outcome = out;
        node.cutOff = true;
        node.score = node.ended = node.error = undefined;
      } else {
        node.spend(job.steps);
        if (node.outcome === 'open') open.push(job);
        if (job.failed) node.score = node.ended = undefined;
      }
      tree.steps += node.steps;
      node.parent!.children.push(node);
      this.list.push(node);
    }
    open = this.withoutDuplicates(open);
    for (const { node } of open) {
      if (node.depth === budget.depth) node.outcome = 'over budget';
      else this.open(node);
    }
    tree.winner = winner?.node;
    const before = tree.best as TreeNode<M, S> | undefined;
    this.rank(round);
    for (const { node } of round.jobs) {
      if (node.state) this.living.set(node.parent!, (this.living.get(node.parent!) ?? 0) + 1);
    }
    for (const { node } of round.jobs) if (node.outcome !== 'open') this.discard(node);
    if (before && before !== tree.best) this.tryRelease(before);
    for (const expansion of round.chosen) {
      expansion.dead = true;
      this.expansions.delete(expansion.node);
      for (const job of expansion.jobs) if (!job.counted && job.state === 'done') this.drop(job.node);
      this.tryRelease(expansion.node);
    }
    this.progress();
    if (winner) return 'found';
    if (round.jobs.some(({ node }) => node.cutOff)) return 'steps';
    return round.chosen.some(({ jobs }) => jobs.some(({ counted }) => !counted)) ? 'nodes' : undefined;
  }

  /** The winner of a round, the steps at which each job was cut off, and what that makes of it. */
  private cut({ jobs }: Round<M, S>) {
    const remaining = this.remaining();
    const within = (job: Job<M, S>, horizon: bigint | undefined) =>
      horizon === undefined || (job.start + job.steps <= horizon && job.start < horizon);
    let horizon = remaining === undefined ? undefined : horizonOf(jobs, remaining);
    let winner: Job<M, S> | undefined;
    for (const job of jobs) {
      if (job.stop && within(job, horizon) && (!winner || compareFirst(job.node, winner.node) < 0)) winner = job;
    }
    if (winner) horizon = winner.node.total;
    const cut = (job: Job<M, S>): bigint | undefined => {
      if (job === winner || within(job, horizon)) return undefined;
      const steps = horizon! - job.start;
      return steps > 0n ? steps : 0n;
    };
    return { winner, cut, out: winner ? ('pruned' as const) : ('over budget' as const) };
  }

  /** The same when the host's clock decides. */
  private raced({ arrived }: Round<M, S>) {
    const remaining = this.remaining();
    const counted = new Set<Job<M, S>>();
    let winner: Job<M, S> | undefined;
    let steps = 0n;
    for (const job of arrived) {
      steps += job.steps;
      if (remaining !== undefined && steps > remaining) break;
      counted.add(job);
      if (job.stop) {
        winner = job;
        break;
      }
    }
    const cut = (job: Job<M, S>) => (counted.has(job) ? undefined : 0n);
    return { winner, cut, out: winner ? ('pruned' as const) : ('over budget' as const) };
  }

  /** Those whose key is new. */
  private withoutDuplicates(open: Job<M, S>[]): Job<M, S>[] {
    if (!this.options.dedupe) return open;
    return open
      .toSorted((a, b) => compareFirst(a.node, b.node))
      .filter(({ node, key }) => {
        if (key === undefined) return true;
        if (this.seen.has(key)) {
          node.outcome = 'duplicate';
          node.score = undefined;
          return false;
        }
        this.seen.add(key);
        return true;
      });
  }

  /** Finds the best again, now that there are more nodes. */
  private rank(round: Round<M, S>): void {
    const { tree } = this;
    for (const { node } of round.jobs) {
      if (node.score !== undefined && (!tree.best || compareBest(node, tree.best) < 0)) tree.best = node;
    }
  }

  private open(node: TreeNode<M, S>): void {
    let [low, high] = [0, this.frontier.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.order(this.frontier[middle]!, node) < 0) low = middle + 1;
      else high = middle;
    }
    this.frontier.splice(low, 0, node);
  }

  /** A node is not expanded: what was done for it early is given back, and its own state too if nobody wants it. */
  private discard(node: TreeNode<M, S>): void {
    const expansion = this.expansions.get(node);
    if (expansion) {
      expansion.dead = true;
      this.expansions.delete(node);
      for (const job of expansion.jobs) if (job.state === 'done') this.drop(job.node);
    }
    this.tryRelease(node);
  }

  /** Gives back the state of a node that nobody wants; on a kept path, its parents' too. */
  private tryRelease(node: TreeNode<M, S>): void {
    if (!node.state || node === this.root || this.wanted(node)) return;
    this.drop(node);
    const parent = node.parent!;
    this.living.set(parent, this.living.get(parent)! - 1);
    this.tryRelease(parent);
  }

  private wanted(node: TreeNode<M, S>): boolean {
    const { keep, tree, closed } = this;
    if (node.calls > 0) return true;
    if (keep === 'all' && !node.cutOff) return true;
    if (keep !== 'none' && node === (tree.winner ?? tree.best)) return true;
    if (keep === 'path' && (this.living.get(node) ?? 0) > 0) return true;
    return node.outcome === 'open' && !closed;
  }

  private drop(node: TreeNode<M, S>): void {
    const { state } = node;
    if (!state) return;
    node.state = undefined;
    this.live--;
    // A state that cannot be given back is gone with what held it, and the search goes on without it.
    const release = (async () => state.release())()
      .catch(() => {})
      .finally(() => this.releases.delete(release));
    this.releases.add(release);
  }

  /** Nothing is started any more, and what goes on is told so. */
  private close(reason?: unknown): void {
    if (this.closed) return;
    this.closed = true;
    this.controller.abort(reason);
  }

  /** Waits for the calls that go on, and gives back what the tree does not keep. */
  private async settled(): Promise<void> {
    while (this.running > 0) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    for (const { jobs } of this.expansions.values()) for (const { node } of jobs) this.drop(node);
    for (const node of this.list.toReversed()) this.tryRelease(node);
    await Promise.all(this.releases);
  }

  private progress(): void {
    const { onProgress } = this.options;
    if (!onProgress) return;
    const { tree, live, running, budget, round } = this;
    const steps = round?.arrived.reduce((sum, { steps }) => sum + steps, tree.steps) ?? tree.steps;
    const nodes = tree.nodes.length + (round?.arrived.length ?? 0);
    const making = round?.jobs.map(({ node }) => node) ?? [];
    onProgress({ nodes, live, running, steps, budget, best: tree.chosen, tree, round: making });
  }
}

/**
 * Searches from a machine: what is tried at a state is tried in clones of it, side by side in the machine's pool, and the machine itself
 * stands by. See docs/explore.md. What comes out is a function of the machine's state and of the options, not of time: not of how many
 * threads there are, nor of who is done first.
 *
 * A state is a fork point: it costs the memory that its clone wrote, until the tree lets go of it. A clone lives while it makes its move
 * and while the callbacks ask about what it has become.
 */

import {
  type Budget,
  explore as exploreStates,
  type Progress as StatesProgress,
  type Strategy,
} from '@braid/core/branch/explore.ts';
import type { SearchNode, SearchTree } from '@braid/core/branch/explore-tree.ts';
import { reopen } from '@braid/core/branch/reopen.ts';
import { renderTree, type TreeTextOptions } from '@braid/core/branch/tree-text.ts';
import { argument } from '@braid/core/check/calls.ts';
import {
  callback,
  either,
  flag,
  integer,
  list,
  oneOf,
  optional,
  record,
  text,
  whole,
  wide,
} from '@braid/core/check/schema.ts';
import type { Position } from '@braid/core/machine/log.ts';
import { unlessAborted } from '../abort.ts';
import { checked, dataOf, instanceOf, requireArguments, WAIT } from '../check.ts';
import { BraidError } from '../errors.ts';
import { Machine } from '../machine.ts';
import type { WaitOptions } from '../pool/link.ts';
import { MachineState, NO_LIMIT, type Setting } from './explore-state.ts';
import { checkMove, collectConsole, type Move, type MoveResult, makeMove, nameMove } from './moves.ts';

/** A state that a search has reached, and how: the move, its cost, the score and what became of it. */
export type ExploreNode<M = Move> = SearchNode<M, unknown>;

export type ExploreProgress<M = Move, R = MoveResult> = StatesProgress<M, MachineState<M, R>>;

/** What a callback is asked about. */
export interface View<M = Move, R = MoveResult> {
  readonly node: ExploreNode<M>;
  /** What came of the move that led here. Nothing led to the root. */
  readonly result: R | undefined;
  /** Aborted when nobody needs the answer any more. */
  readonly signal: AbortSignal;
  /** A clone in this state, for as long as the callback runs. What is done in it is not part of the state. */
  machine(): Promise<Machine>;
}

type Ask<M, R, T> = (view: View<M, R>) => T | Promise<T>;

/** Makes a move in a clone. What it returns is the result; its cost is the steps that the clone makes meanwhile. */
export type MakeMove<M, R> = (clone: Machine, move: M, signal: AbortSignal) => R | Promise<R>;

export interface ExploreOptions<M = Move, R = MoveResult> {
  /** What can be tried in a state, in the order of the children. */
  readonly moves: Ask<M, R, Iterable<M>>;
  /** How good a state is: higher is better. Best-first and beam need it. */
  readonly score?: Ask<M, R, number>;
  /** Whether a state is what is looked for. The search ends there. */
  readonly stop?: Ask<M, R, boolean>;
  /** Of states with the same key only the first is expanded. */
  readonly dedupe?: Ask<M, R, string>;
  /** `breadth-first` without it. */
  readonly strategy?: Strategy;
  /** States that are expanded at once: the beam needs it. */
  readonly width?: number;
  readonly budget?: Budget;
  /** Steps that one move may make: 1 G unless given. A move that does not end fails there. */
  readonly moveSteps?: bigint | number;
  /** Moves that go on at once: as many as the pool may have threads, unless given. */
  readonly parallel?: number;
  /** Let the host's clock decide who is first. */
  readonly race?: boolean;
  /** Whose states are kept: the winner's (or the best's; the default), those on the way there, all, or none. Others are made again. */
  readonly keep?: 'winner' | 'path' | 'all' | 'none';
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ExploreProgress<M, R>) => void;
  /** For moves that are not commands, typed text or functions: how one is made. */
  readonly move?: MakeMove<M, R>;
  /** A move for people. */
  readonly name?: (move: M) => string;
}

/** What `braid explore` runs: the default export of a module, or what a function that is the default export gives for its arguments. */
export interface ExploreScript extends ExploreOptions {
  /** Brings the machine, whose guest is up, to the state that the search begins from. */
  setup?(machine: Machine): Promise<void>;
}

// biome-ignore lint/suspicious/noExplicitAny: the same for moves of all kinds
type AnyOptions = ExploreOptions<any, any>;

const OPTIONS = record<AnyOptions & Pick<ExploreScript, 'setup'>>({
  ...WAIT,
  moves: callback,
  score: optional(callback),
  stop: optional(callback),
  dedupe: optional(callback),
  strategy: optional(oneOf('breadth-first', 'depth-first', 'best-first', 'beam')),
  width: optional(integer(1)),
  budget: optional(
    record<Budget>({
      steps: optional(wide(0n, NO_LIMIT)),
      nodes: optional(integer(0)),
      depth: optional(integer(0)),
    }),
  ),
  moveSteps: optional(whole(1n)),
  parallel: optional(integer(1)),
  race: optional(flag),
  keep: optional(oneOf('winner', 'path', 'all', 'none')),
  onProgress: optional(callback),
  move: optional(callback),
  name: optional(callback),
  setup: optional(callback),
});
const ARGUMENTS = [
  argument('machine', instanceOf<Machine>('a Machine', Machine)),
  argument('options', OPTIONS),
] as const;

const MOVE_STEPS = 1_000_000_000n;

/**
 * Searches from the state that the machine is in; the machine stays as it is. Rejects when the signal aborts, when a callback throws
 * about the root, and for options that cannot work; whatever goes wrong with one move is the outcome of its node.
 */
export function explore(machine: Machine, options: ExploreOptions): Promise<Exploration<Move, MoveResult>>;
export function explore<M, R>(
  machine: Machine,
  options: ExploreOptions<M, R> & { readonly move: MakeMove<M, R> },
): Promise<Exploration<M, R>>;
export async function explore<M, R>(machine: Machine, options: ExploreOptions<M, R>): Promise<Exploration<M, R>> {
  requireArguments(ARGUMENTS, machine, options);
  const { moveSteps = MOVE_STEPS, strategy = 'breadth-first', parallel = machine.pool.threadLimit } = options;
  const { moves, score, stop, dedupe, move, name = nameMove, ...rest } = options;
  const results = new WeakMap<ExploreNode<M>, R>();
  const make = move ? custom(move) : (standard as unknown as Setting<M, R>['make']);
  const [{ steps }, point] = await Promise.all([machine.stats(), machine.forkPoint()]);
  const setting: Setting<M, R> = { make, moveSteps: BigInt(moveSteps), maxSteps: point.maxSteps ?? NO_LIMIT };
  const root = new MachineState(setting, point, steps);
  /** States about which nobody asks for a key. */
  const over = new WeakSet<MachineState<M, R>>();
  const ask =
    <T>(question: Ask<M, R, T>, isLast: (answer: T, state: MachineState<M, R>) => boolean) =>
    async (node: SearchNode<M, MachineState<M, R>>, signal: AbortSignal): Promise<T> => {
      const state = node.state!;
      const { result } = state;
      if (result !== undefined) results.set(node, result);
      let last = true;
      try {
        const answer = await unlessAborted(question({ node, result, signal, machine: () => state.machine() }), signal);
        if (stopped(node, answer)) over.add(state);
        last = isLast(answer, state);
        return answer;
      } finally {
        if (last) await state.park();
      }
    };
  const stopped = (node: ExploreNode<M>, answer: unknown) => answer === true || node.ended !== undefined;
  try {
    const tree = await exploreStates<M, MachineState<M, R>>(root, {
      ...rest,
      strategy,
      parallel,
      name,
      moves: ask(moves, () => true),
      stop: ask(stop ?? (() => false), (_, state) => !score && (!dedupe || over.has(state))),
      ...(score ? { score: ask(score, (_, state) => !dedupe || over.has(state)) } : {}),
      ...(dedupe ? { dedupe: ask(dedupe, () => true) } : {}),
    });
    return new Exploration(machine, tree, results);
  } catch (error) {
    await root.release();
    throw error;
  }
}

function custom<M, R>(move: MakeMove<M, R>): Setting<M, R>['make'] {
  return async (clone, what, signal) => {
    try {
      return { result: await move(clone, what, signal) };
    } catch (error) {
      return { result: undefined as R, error };
    }
  };
}

const standard: Setting<Move, MoveResult>['make'] = async (clone, move, signal) => {
  const result = { exitCode: undefined, stdout: '', stderr: '', console: '', value: undefined };
  const console = collectConsole(clone);
  try {
    await makeMove(clone, checkMove(move), signal, result);
    return { result: { ...result, console: console() } };
  } catch (error) {
    return { result: { ...result, console: console() }, error: error ?? new Error('the move failed') };
  }
};

/** What a search has found: its tree. It holds the states that are kept until it is disposed of. */
export class Exploration<M = Move, R = MoveResult> implements AsyncDisposable {
  /** The machine that the search began from. */
  readonly machine: Machine;
  /** A move for people. */
  readonly name: (move: M) => string;
  private readonly tree: SearchTree<M, MachineState<M, R>>;
  private readonly results: WeakMap<ExploreNode<M>, R>;

  constructor(machine: Machine, tree: SearchTree<M, MachineState<M, R>>, results: WeakMap<ExploreNode<M>, R>) {
    this.machine = machine;
    this.name = tree.name;
    this.tree = tree;
    this.results = results;
  }

  /** Why the search ended: `found`, or nothing was left, or the budget of steps or nodes was used up. */
  get end(): SearchTree<M, MachineState<M, R>>['end'] {
    return this.tree.end;
  }

  /** Guest steps of all moves. */
  get steps(): bigint {
    return this.tree.steps;
  }

  /** Every node, the root first, in the order of the search. */
  get nodes(): readonly ExploreNode<M>[] {
    return this.tree.nodes;
  }

  get root(): ExploreNode<M> {
    return this.tree.root;
  }

  /** The first that `stop` accepted. */
  get winner(): ExploreNode<M> | undefined {
    return this.tree.winner;
  }

  /** The one with the highest score. */
  get best(): ExploreNode<M> | undefined {
    return this.tree.best;
  }

  /** The node with this index: `2.0`, `[2, 0]` or `root`. */
  at(index: string | readonly number[]): ExploreNode<M> | undefined {
    return this.tree.at(index);
  }

  /** What came of the move that led to a node, if that move was made to its end. */
  result(node: ExploreNode<M> | undefined): R | undefined {
    return node && !node.cutOff ? this.results.get(node) : undefined;
  }

  /** The moves from the root to a node. */
  path(node: ExploreNode<M>): M[] {
    const path: M[] = [];
    for (let at = node; at.parent; at = at.parent) path.unshift(at.move!);
    return path;
  }

  /**
   * A machine in the state of a node, in virtual time; it is the caller's. If the state is not kept the moves that lead there are made
   * again. It is a clone: `machine.adopt` takes it.
   */
  async open(node: ExploreNode<M>, options: { readonly signal?: AbortSignal } = {}): Promise<Machine> {
    const own = node as SearchNode<M, MachineState<M, R>>;
    if (own.state) return own.state.fork();
    const state = await reopen(this.tree, own, options.signal ?? new AbortController().signal);
    try {
      return await state.fork();
    } finally {
      await state.release();
    }
  }

  /** The machine that the search began from becomes what a node is: the winner, unless another is given. */
  async adopt(node: ExploreNode<M> | undefined = this.winner): Promise<Position> {
    if (!node) throw new BraidError('ERR_BRAID_OPTION', 'there is no winner to adopt; give a node, such as the best');
    return this.machine.adopt(await this.open(node));
  }

  /** The tree as lines for a terminal. */
  render(options?: TreeTextOptions): string[] {
    return renderTree(this.tree, options);
  }

  /** Plain data: steps as decimal strings, moves by name, errors by message. */
  toJSON(): object {
    return this.tree.toJSON();
  }

  /** Gives back all states that are kept. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.tree[Symbol.asyncDispose]();
    await (this.tree.root.state as MachineState<M, R> | undefined)?.release();
  }
}

const NODE = dataOf<ExploreNode<unknown>>('a node of the search');

checked<Exploration<unknown, unknown>, 'name'>(Exploration.prototype, {
  rejects: {
    open: [argument('node', NODE), argument('options', optional(record<WaitOptions>(WAIT)))],
    adopt: [argument('node', optional(NODE))],
  },
  throws: {
    at: [argument('index', either(text, list(integer(0))))],
    result: [argument('node', optional(NODE))],
    path: [argument('node', NODE)],
    render: [
      argument(
        'options',
        optional(
          record<TreeTextOptions>({
            width: optional(integer(1)),
            limit: optional(integer(1)),
            color: optional(flag),
          }),
        ),
      ),
    ],
  },
});

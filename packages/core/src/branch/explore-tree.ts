/** What a search leaves behind: every node it looked at, how it got there, and the states that it still holds. */

/** How it stands with a node. */
export type NodeOutcome =
  /** Made and not expanded (yet). */
  | 'open'
  /** Its move is being made: only in what a search says of its progress. */
  | 'running'
  /** Its moves were made; they are its children. */
  | 'expanded'
  /** The predicate `stop` accepted it. */
  | 'stopped'
  /** The machine is over: no move can be made. */
  | 'ended'
  /** The host could not make the move, or what was asked about the node threw. */
  | 'failed'
  /** Left behind by better ones: not in the beam, or cut off where the winner of its round was done. */
  | 'pruned'
  /** Its state was reached before. */
  | 'duplicate'
  /** The budget of steps ran out in it, or that of depth ends at it. */
  | 'over budget';

/** Why a search ended. */
export type SearchEnd =
  /** A node was accepted. */
  | 'found'
  /** Nothing is left to expand. */
  | 'exhausted'
  /** The steps of the budget are made. */
  | 'steps'
  /** The nodes of the budget are made. */
  | 'nodes';

/** A state that the search reached. It is written by the search alone. */
export interface SearchNode<M, S> {
  /** The moves' places in their lists, from the root: `[]` is the root, `[2, 0]` the first child of its third. */
  readonly index: readonly number[];
  readonly parent: SearchNode<M, S> | undefined;
  /** What led here from the parent; the root has none. */
  readonly move: M | undefined;
  readonly depth: number;
  /** Guest steps of this move: for a move that was cut off, up to there. */
  readonly steps: bigint;
  /** Guest steps from the root to here. */
  readonly total: bigint;
  readonly score: number | undefined;
  readonly outcome: NodeOutcome;
  /** Its move was not done where its round, or the budget, ended. */
  readonly cutOff: boolean;
  /** Why the machine is over, in the host's words. */
  readonly ended: string | undefined;
  /** Why it failed. */
  readonly error: unknown;
  /** How many moves were listed for it; there are fewer children when the budget ended in between. */
  readonly moves: number | undefined;
  readonly children: readonly SearchNode<M, S>[];
  /** Its state, as long as the search, and later the tree, holds it. */
  readonly state: S | undefined;
}

/** The same, as the search writes it. */
export class TreeNode<M, S> implements SearchNode<M, S> {
  readonly index: readonly number[];
  readonly parent: TreeNode<M, S> | undefined;
  readonly move: M | undefined;
  readonly depth: number;
  steps = 0n;
  total = 0n;
  score: number | undefined;
  outcome: NodeOutcome = 'open';
  cutOff = false;
  ended: string | undefined;
  error: unknown;
  moves: number | undefined;
  readonly children: TreeNode<M, S>[] = [];
  state: S | undefined;
  /** Calls for its state that go on. */
  calls = 0;

  constructor(parent?: TreeNode<M, S>, place?: number, move?: M) {
    this.parent = parent;
    this.index = parent && place !== undefined ? [...parent.index, place] : [];
    this.depth = this.index.length;
    this.move = move;
    this.total = parent?.total ?? 0n;
  }

  /** How many steps the move made. */
  spend(steps: bigint): void {
    this.steps = steps;
    this.total = this.parent!.total + steps;
  }
}

/** A state that is given back when nobody needs it. */
export interface Releasable {
  release(): Promise<void>;
}

/**
 * The tree of a search. It holds states (see the option `keep`) until they are taken out with `take`, or the tree is disposed of. The
 * root's state is the caller's: the tree never gives it back.
 */
export class SearchTree<M, S extends Releasable> implements AsyncDisposable {
  readonly strategy: string;
  /** Whether the host's clock decided who was first. */
  readonly race: boolean;
  /** Every node, the root first, in the order of the search: round by round, by index within a round. */
  readonly nodes: readonly SearchNode<M, S>[];
  /** The first that was accepted. */
  winner: SearchNode<M, S> | undefined;
  /** The one with the highest score; of equals, the one with the fewest steps, then the lowest index. */
  best: SearchNode<M, S> | undefined;
  end: SearchEnd = 'exhausted';
  /** Guest steps of all nodes. */
  steps = 0n;
  /** A move for people. */
  readonly name: (move: M) => string;
  private readonly list: TreeNode<M, S>[];

  constructor(list: TreeNode<M, S>[], options: { strategy: string; race: boolean; name?: (move: M) => string }) {
    this.list = list;
    this.nodes = list;
    this.strategy = options.strategy;
    this.race = options.race;
    this.name = options.name ?? nameOf;
  }

  get root(): SearchNode<M, S> {
    return this.nodes[0]!;
  }

  /** The winner, or the best if there is none. */
  get chosen(): SearchNode<M, S> | undefined {
    return this.winner ?? this.best;
  }

  /** The node with this index, written as numbers or as `2.0`; the root is `[]` or `root`. */
  at(index: readonly number[] | string): SearchNode<M, S> | undefined {
    const path = typeof index === 'string' ? parseIndex(index) : index;
    let node: SearchNode<M, S> | undefined = this.root;
    // Children are made in the order of their moves, all of them or the first ones.
    for (const place of path ?? []) node = node?.children[place];
    return path && node;
  }

  /** Takes over a state that the tree holds: it is the caller's from now on. */
  take(node: SearchNode<M, S>): S | undefined {
    const own = node as TreeNode<M, S>;
    const { state } = own;
    if (own !== this.list[0]) own.state = undefined;
    return state;
  }

  /** Plain data: steps as decimal strings, moves by name, errors by message. */
  toJSON(): object {
    const id = (node: SearchNode<M, S> | undefined) =>
      node ? { [node === this.winner ? 'winner' : 'best']: formatIndex(node) } : {};
    return {
      strategy: this.strategy,
      ...(this.race ? { race: true } : {}),
      end: this.end,
      steps: String(this.steps),
      ...(this.best !== this.winner ? id(this.best) : {}),
      ...id(this.winner),
      nodes: this.nodes.map((node) => ({
        index: formatIndex(node),
        ...(node.move === undefined ? {} : { move: this.name(node.move) }),
        steps: String(node.steps),
        total: String(node.total),
        ...(node.score === undefined ? {} : { score: node.score }),
        outcome: node.outcome,
        ...(node.ended === undefined ? {} : { ended: node.ended }),
        ...(node.error === undefined ? {} : { error: messageOf(node.error) }),
        ...(node.moves === undefined ? {} : { moves: node.moves }),
      })),
    };
  }

  /** Gives back every state that the tree still holds. */
  async [Symbol.asyncDispose](): Promise<void> {
    const states = this.list.slice(1).flatMap((node) => this.take(node) ?? []);
    await Promise.allSettled(states.map(async (state) => state.release()));
  }
}

/** An index for people: `2.0.1`, or `root`. */
export function formatIndex(node: { readonly index: readonly number[] }): string {
  return node.index.join('.') || 'root';
}

function parseIndex(text: string): number[] | undefined {
  if (text === 'root') return [];
  const parts = text.split('.');
  return parts.every((part) => /^\d{1,9}$/.test(part)) ? parts.map(Number) : undefined;
}

/** What an error says. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Moves that are text, numbers or bytes name themselves. */
function nameOf(move: unknown): string {
  if (move instanceof Uint8Array) return Array.from(move, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return typeof move === 'object' || typeof move === 'function' ? '' : String(move);
}

/** Lexicographic. */
export function compareIndex(
  a: { readonly index: readonly number[] },
  b: { readonly index: readonly number[] },
): number {
  const common = Math.min(a.index.length, b.index.length);
  for (let i = 0; i < common; i++) {
    const difference = a.index[i]! - b.index[i]!;
    if (difference !== 0) return difference;
  }
  return a.index.length - b.index.length;
}

/** Who is first: fewest steps from the root, then the lowest index. */
export function compareFirst<M, S>(a: SearchNode<M, S>, b: SearchNode<M, S>): number {
  const [x, y] = [a.total, b.total];
  return x < y ? -1 : x > y ? 1 : compareIndex(a, b);
}

/** Who is better: the higher score, then who is first. Nodes without a score come last. */
export function compareBest<M, S>(a: SearchNode<M, S>, b: SearchNode<M, S>): number {
  const [x, y] = [a.score ?? Number.NEGATIVE_INFINITY, b.score ?? Number.NEGATIVE_INFINITY];
  return x > y ? -1 : x < y ? 1 : compareFirst(a, b);
}

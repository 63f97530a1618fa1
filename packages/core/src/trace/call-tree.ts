/**
 * Who calls whom, and what it costs: a tree of call paths, and the stack of activations of each task, kept from entries and returns.
 *
 * An activation is known by the stack pointer and the return address at its entry. That stacks grow downwards and are left in order
 * tells the rest:
 *
 * ```text
 *   entry, sp below the top's                  a call
 *   entry, same sp, same ra, other function    a tail call: shown as a call, and both return at once
 *   entry, same sp, same ra, same function     a loop to its first instruction: no call
 *   entry, same sp, ra within the top          a call by the top, if it makes no room on the stack
 *   entry or return, sp above an activation's  it has been left without its return: longjmp, an exception
 *   sp far away                                another stack (a signal's, a coroutine's): a call, until a return fits
 * ```
 *
 * So what is lost without a return costs a little inexactness: its steps up to the next entry or return count as its own. Coroutines
 * that switch stacks are nested in the order in which they run. Memory is bounded: see `Limits`.
 */

/** Steps: of the program itself, and of the kernel on its behalf. */
export interface Cost {
  readonly user: number;
  readonly system: number;
}

export interface CallNode {
  /** Index of the function; -1 at the root. */
  readonly function: number;
  readonly parent: CallNode | undefined;
  readonly children: Map<number, CallNode>;
  calls: number;
  /** Steps of this path's last function itself. */
  user: number;
  system: number;
}

export interface CallLimits {
  /** Paths that are told apart. Calls on others count for the function, and their steps for the caller. */
  readonly paths: number;
  /** Activations of a task at a time. Deeper ones are not seen. */
  readonly depth: number;
}

const LIMITS: CallLimits = { paths: 2 ** 20, depth: 2 ** 16 };

const makeNode = (index: number, parent: CallNode | undefined): CallNode => ({
  function: index,
  parent,
  children: new Map(),
  calls: 0,
  user: 0,
  system: 0,
});

interface Activation {
  readonly function: number;
  readonly sp: bigint;
  readonly ra: bigint;
  readonly node: CallNode;
}

export class CallTree {
  readonly root = makeNode(-1, undefined);
  /** Calls by function, those too that the tree has no room for. */
  readonly calls: number[];
  /** Calls that the limits have left out of the tree. */
  left = 0;
  readonly limits: CallLimits;
  private paths = 0;

  constructor(functions: number, limits: Partial<CallLimits> = {}) {
    this.calls = new Array(functions).fill(0);
    this.limits = { ...LIMITS, ...limits };
  }

  /** The path that a call leads to; the caller's own where there is no room for another. */
  child(node: CallNode, index: number): CallNode {
    this.calls[index]!++;
    let child = node.children.get(index);
    if (!child) {
      if (this.paths >= this.limits.paths) {
        this.left++;
        return node;
      }
      this.paths++;
      child = makeNode(index, node);
      node.children.set(index, child);
    }
    child.calls++;
    return child;
  }
}

/** Where a function is, as the program is loaded. */
export interface Range {
  readonly address: bigint;
  readonly end: bigint;
  /** What it calls may be entered with its own stack pointer. */
  readonly frameless: boolean;
}

/** The activations of one task. */
export class CallStack {
  private readonly tree: CallTree;
  private readonly range: (index: number) => Range;
  /** Two stack pointers so far from each other are of different stacks. */
  private readonly reach: bigint;
  private readonly stack: Activation[] = [];

  constructor(tree: CallTree, range: (index: number) => Range, reach: bigint) {
    this.tree = tree;
    this.range = range;
    this.reach = reach;
  }

  /** The path that runs. */
  get node(): CallNode {
    return this.stack.at(-1)?.node ?? this.tree.root;
  }

  /** The task comes to the first instruction of a function. */
  enter(index: number, sp: bigint, ra: bigint): void {
    const { stack, tree } = this;
    for (let top = stack.at(-1); top && this.near(top.sp, sp) && top.sp <= sp; top = stack.at(-1)) {
      if (top.sp === sp) {
        if (top.ra === ra) {
          if (top.function === index) return;
          this.closeLoop(index, sp, ra);
          break;
        }
        const { address, end, frameless } = this.range(top.function);
        if (frameless && ra > address && ra <= end) break;
      }
      stack.pop();
    }
    if (stack.length >= tree.limits.depth) {
      tree.calls[index]!++;
      tree.left++;
      return;
    }
    stack.push({ function: index, sp, ra, node: tree.child(this.node, index) });
  }

  /** The task is about to return through `ra`. */
  leave(sp: bigint, ra: bigint): void {
    const { stack } = this;
    for (let n = stack.length - 1; n >= 0; n--) {
      const one = stack[n]!;
      if (one.sp === sp && one.ra === ra) {
        while (n > 0 && stack[n - 1]!.sp === sp && stack[n - 1]!.ra === ra) n--;
        stack.length = n;
        return;
      }
      if (this.near(one.sp, sp) && one.sp > sp) return;
    }
  }

  /** A task that has been made of this one goes on from here. */
  copy(): CallStack {
    const copy = new CallStack(this.tree, this.range, this.reach);
    for (const one of this.stack) copy.stack.push(one);
    return copy;
  }

  /** Whether a stack pointer is of the stack that the last activation is on. */
  reaches(sp: bigint): boolean {
    const top = this.stack.at(-1);
    return top !== undefined && this.near(top.sp, sp);
  }

  /** Functions that go on in each other for ever take no room. */
  private closeLoop(index: number, sp: bigint, ra: bigint): void {
    const { stack } = this;
    for (let n = stack.length - 1; n >= 0 && stack[n]!.sp === sp && stack[n]!.ra === ra; n--) {
      if (stack[n]!.function !== index) continue;
      stack.length = n;
      return;
    }
  }

  private near(a: bigint, b: bigint): boolean {
    return a - b <= this.reach && b - a <= this.reach;
  }
}

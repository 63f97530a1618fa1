/** Call paths from entries and returns. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { runs } from '../testing/machines.ts';
import { type CallNode, CallStack, CallTree } from './call-tree.ts';

/** Function n is at 0x1000 * (n + 1), and 0x100 long; the last one makes no room on the stack. */
const range = (index: number) => {
  const address = BigInt(0x1000 * (index + 1));
  return { address, end: address + 0x100n, frameless: index === FRAMELESS };
};
const FRAMELESS = 7;
/** An address within a function. */
const within = (index: number, offset = 0x10): bigint => range(index).address + BigInt(offset);
const OUTSIDE = 0x999000n;
const TOP = 0x7fff0000n;

function pathOf(node: CallNode): number[] {
  const path: number[] = [];
  for (let at: CallNode | undefined = node; at?.parent; at = at.parent) path.unshift(at.function);
  return path;
}

function stackOf(functions = 8, limits = {}) {
  const tree = new CallTree(functions, limits);
  const stack = new CallStack(tree, range, 0x10000n);
  return { tree, stack, path: () => pathOf(stack.node) };
}

describe('activations', () => {
  test('calls and returns', () => {
    const { tree, stack, path } = stackOf();
    stack.enter(0, TOP, OUTSIDE);
    stack.enter(1, TOP - 32n, within(0));
    assert.deepEqual(path(), [0, 1]);
    stack.leave(TOP - 32n, within(0));
    assert.deepEqual(path(), [0]);
    stack.enter(1, TOP - 32n, within(0, 0x20));
    stack.leave(TOP - 32n, within(0, 0x20));
    stack.leave(TOP, OUTSIDE);
    assert.deepEqual(path(), []);
    assert.deepEqual(tree.calls.slice(0, 2), [1, 2]);
    assert.equal(tree.root.children.get(0)!.children.get(1)!.calls, 2);
  });

  test('recursion, also by a function without a frame', () => {
    const { stack, path } = stackOf();
    stack.enter(0, TOP, OUTSIDE);
    stack.enter(0, TOP - 16n, within(0));
    assert.deepEqual(path(), [0, 0]);
    stack.enter(7, TOP - 32n, within(0));
    stack.enter(7, TOP - 32n, within(7));
    stack.enter(1, TOP - 32n, within(7, 0x30));
    assert.deepEqual(path(), [0, 0, 7, 7, 1]);
    stack.leave(TOP - 32n, within(7, 0x30));
    stack.leave(TOP - 32n, within(7));
    assert.deepEqual(path(), [0, 0, 7]);
    stack.leave(TOP - 32n, within(0));
    stack.leave(TOP - 16n, within(0));
    assert.deepEqual(path(), [0]);
  });

  test('a tail call goes on with the return address, and both return', () => {
    const { stack, path } = stackOf();
    stack.enter(0, TOP, OUTSIDE);
    stack.enter(1, TOP - 32n, within(0));
    stack.enter(2, TOP - 32n, within(0));
    assert.deepEqual(path(), [0, 1, 2]);
    stack.leave(TOP - 32n, within(0));
    assert.deepEqual(path(), [0]);
  });

  test('functions that tail-call each other for ever take no room; a loop to the first instruction is no call', () => {
    const { tree, stack, path } = stackOf();
    stack.enter(0, TOP, OUTSIDE);
    for (let n = 0; n < 100; n++) stack.enter(1 + (n % 3), TOP - 32n, within(0));
    assert.deepEqual(path(), [0, 1]);
    assert.deepEqual(tree.calls.slice(0, 4), [1, 34, 33, 33]);
    for (let n = 0; n < 100; n++) stack.enter(1, TOP - 32n, within(0));
    assert.equal(tree.calls[1], 34);
  });

  test('what longjmp has left goes at the next entry or return', () => {
    const { stack, path } = stackOf();
    stack.enter(0, TOP, OUTSIDE);
    for (const [n, depth] of [32n, 64n, 96n].entries()) stack.enter(n + 1, TOP - depth, within(n));
    stack.enter(5, TOP - 48n, within(1));
    assert.deepEqual(path(), [0, 1, 5]);
    stack.leave(TOP, OUTSIDE);
    assert.deepEqual(path(), []);
    stack.enter(0, TOP, OUTSIDE);
    stack.enter(1, TOP - 32n, within(0));
    // Without its return, and the same place is called from again.
    stack.enter(2, TOP - 32n, within(0, 0x40));
    assert.deepEqual(path(), [0, 2]);
  });

  test('another stack, above or below, until it returns', () => {
    for (const far of [TOP + 0x100000n, TOP - 0x100000n]) {
      const { stack, path } = stackOf();
      stack.enter(0, TOP, OUTSIDE);
      stack.enter(1, far, OUTSIDE);
      stack.enter(2, far - 32n, within(1));
      assert.deepEqual(path(), [0, 1, 2]);
      stack.leave(far - 32n, within(1));
      stack.leave(far, OUTSIDE);
      assert.deepEqual(path(), [0]);
      // One that never returns goes with the stack that it came on.
      stack.enter(1, far, OUTSIDE);
      stack.leave(TOP, OUTSIDE);
      assert.deepEqual(path(), []);
    }
  });

  test('returns of calls that were made before are nobody’s', () => {
    const { stack, path } = stackOf();
    stack.leave(TOP, OUTSIDE);
    stack.enter(0, TOP - 64n, OUTSIDE);
    stack.leave(TOP - 64n, within(3));
    assert.deepEqual(path(), [0]);
    stack.leave(TOP - 128n, OUTSIDE);
    assert.deepEqual(path(), [0]);
  });

  test('paths and depth are bounded, and what is left out is counted', () => {
    const few = stackOf(8, { paths: 2 });
    for (let n = 0; n < 4; n++) few.stack.enter(n, TOP - BigInt(32 * n), n === 0 ? OUTSIDE : within(n - 1));
    assert.deepEqual(few.path(), [0, 1]);
    assert.deepEqual([few.tree.left, few.tree.calls[3]], [2, 1]);
    few.stack.leave(TOP - 64n, within(1));
    few.stack.leave(TOP - 32n, within(0));
    assert.deepEqual(few.path(), [0]);
    const flat = stackOf(8, { depth: 3 });
    for (let n = 0; n < 5; n++) flat.stack.enter(0, TOP - BigInt(32 * n), within(0));
    for (let n = 4; n >= 1; n--) flat.stack.leave(TOP - BigInt(32 * n), within(0));
    assert.deepEqual(flat.path(), [0]);
    assert.deepEqual([flat.tree.left, flat.tree.calls[0]], [2, 5]);
  });

  test('a copy goes on by itself', () => {
    const { stack, path } = stackOf();
    stack.enter(0, TOP, OUTSIDE);
    const copy = stack.copy();
    copy.enter(1, TOP - 32n, within(0));
    assert.deepEqual(path(), [0]);
    assert.deepEqual(pathOf(copy.node), [0, 1]);
    assert.deepEqual([stack.reaches(TOP - 100n), stack.reaches(TOP - 0x100000n)], [true, false]);
  });

  test('any program that keeps to its stack is followed exactly', () => {
    const frameOf = (index: number) => (index === FRAMELESS ? 0 : 16 * (index + 1));
    // A step is a call, a tail call, a return, or a jump that leaves several activations at once.
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ do: fc.constant('call' as const), to: fc.nat(7) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('tail' as const), to: fc.nat(7) }) },
      { weight: 4, arbitrary: fc.record({ do: fc.constant('return' as const) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('jump' as const), by: fc.nat(5) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const { tree, stack, path } = stackOf();
        /** Activations with a frame each: the functions that have gone on in each other in it. */
        const model = [{ sp: TOP, ra: OUTSIDE, chain: [0] }];
        const calls = new Array<number>(8).fill(0);
        let exact = true;
        const enter = () => {
          const { sp, ra, chain } = model.at(-1)!;
          calls[chain.at(-1)!]!++;
          stack.enter(chain.at(-1)!, sp, ra);
          exact = true;
        };
        // Where no room is made on the stack, what has been left cannot be told from what goes on.
        const lands = (by: number) => model.at(-1 - by)!.chain.at(-1) !== FRAMELESS;
        enter();
        for (const [n, one] of steps.entries()) {
          const top = model.at(-1)!;
          if (one.do === 'call') {
            // Calls are at places of their own. Who goes on in another function has taken its own frame away first.
            const from = top.chain.at(-1)!;
            model.push({ sp: top.sp - BigInt(frameOf(from)), ra: within(from, 2 + n), chain: [one.to] });
            enter();
          } else if (one.do === 'tail' && !top.chain.includes(one.to)) {
            top.chain.push(one.to);
            enter();
          } else if (one.do === 'return' && model.length > 1) {
            model.pop();
            stack.leave(top.sp, top.ra);
            exact = true;
          } else if (one.do === 'jump' && model.length > one.by + 1 && lands(one.by)) {
            model.length -= one.by;
            exact = one.by === 0 && exact;
          }
          if (exact) {
            assert.deepEqual(
              path(),
              model.flatMap(({ chain }) => chain),
            );
          }
        }
        assert.deepEqual(tree.calls, calls);
      }),
      runs(2000),
    );
  });
});

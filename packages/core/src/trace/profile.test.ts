/** What is said of a call tree. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type CallNode, CallTree } from './call-tree.ts';
import { profileOf } from './profile.ts';
import { coverageLines, foldedLines, profileLines, profileRecords, treeLines } from './profile-text.ts';

const functions = ['main', 'walk', 'visit node', 'evil\x1b[2J;name', 'never'].map((name, n) => ({
  name,
  address: BigInt(0x1000 + 0x100 * n),
  end: BigInt(0x1100 + 0x100 * n),
}));

/** main calls walk twice; walk calls itself and, twice each, what visits; that calls main once. */
function sample() {
  const tree = new CallTree(functions.length);
  const add = (parent: CallNode, index: number, user: number, system = 0) => {
    const node = tree.child(parent, index);
    node.user += user;
    node.system += system;
    return node;
  };
  tree.root.user = 7;
  const main = add(tree.root, 0, 10, 5);
  const walk = add(main, 1, 100);
  add(main, 1, 100);
  const inner = add(walk, 1, 30);
  const visit = add(inner, 2, 400);
  add(inner, 2, 0, 200);
  add(walk, 2, 50);
  const again = add(visit, 0, 3);
  add(again, 3, 1);
  return profileOf(functions, tree, ['something is missing']);
}

describe('profiles', () => {
  test('calls, own steps, and steps with what was called, recursion counted once', () => {
    const { used, total, never } = sample();
    const seen = used.map(({ name, calls, self, total: all }) => [
      name,
      calls,
      self.user,
      self.system,
      all.user,
      all.system,
    ]);
    assert.deepEqual(seen, [
      ['visit node', 3, 450, 200, 454, 200],
      ['walk', 3, 230, 0, 684, 200],
      ['main', 2, 13, 5, 694, 205],
      ['evil\x1b[2J;name', 1, 1, 0, 1, 0],
    ]);
    assert.deepEqual(total, { user: 701, system: 205 });
    assert.deepEqual(
      never.map(({ name }) => name),
      ['never'],
    );
    const walk = used.find(({ name }) => name === 'walk')!;
    assert.deepEqual(
      walk.callers.map(({ name, calls, total: all }) => [name, calls, all.user]),
      [
        ['main', 2, 684],
        ['walk', 1, 434],
      ],
    );
    assert.deepEqual(
      walk.callees.map(({ name, calls }) => [name, calls]),
      [
        ['visit node', 3],
        ['walk', 1],
      ],
    );
    assert.equal(used.find(({ name }) => name === 'main')!.callers[0]!.name, undefined);
  });

  test('tables', () => {
    const profile = sample();
    assert.deepEqual(
      [...profileLines(profile)],
      [
        'self %  self  in kernel  total  total %  calls  function',
        '  71.7   450        200    654     72.2      3  visit node',
        '  25.4   230          0    884     97.6      3  walk',
        '   2.0    13          5    899     99.2      2  main',
        '   0.1     1          0      1      0.1      1  evil\\x1b[2J;name',
        '701 steps, and 205 in the kernel',
        'note: something is missing',
      ],
    );
    assert.deepEqual([...coverageLines(profile)], ['4 of 5 functions were called (80.0 %)', 'never  0x1400  never']);
    assert.deepEqual(
      [...treeLines(profile, 0.05)],
      [
        '100.0 % 906 (outside)',
        ' 99.2 % 899   main (1)',
        ' 97.6 % 884     walk (2)',
        ' 70.0 % 634       walk (1)',
        ' 66.7 % 604         visit node (2)',
        '  5.5 %  50       visit node (1)',
      ],
    );
    assert.equal([...treeLines(profile, 0, 1)].length, 2);
  });

  test('folded stacks add up to everything, by each measure', () => {
    const profile = sample();
    const sum = (lines: Iterable<string>) => [...lines].reduce((all, line) => all + Number(line.split(' ')[1]), 0);
    assert.equal(sum(foldedLines(profile)), 906);
    assert.equal(sum(foldedLines(profile, 'user')), 701);
    assert.equal(sum(foldedLines(profile, 'system')), 205);
    const lines = [...foldedLines(profile, 'user')];
    assert.ok(lines.includes('(outside);main;walk;walk;visit_node;main;evil\\x1b[2J:name 1'), lines.join('\n'));
    for (const line of lines) assert.match(line, /^[^ ]+ \d+$/);
  });

  test('records', () => {
    const records = [...profileRecords(sample())];
    assert.deepEqual(
      records.map(({ kind, name, calls }) => [kind, name, calls]),
      [
        ['function', 'visit node', 3],
        ['function', 'walk', 3],
        ['function', 'main', 2],
        ['function', 'evil\\x1b[2J;name', 1],
        ['function', 'never', 0],
        ['summary', undefined, undefined],
      ],
    );
    assert.deepEqual(records.at(-1), {
      kind: 'summary',
      used: 4,
      never: 1,
      total: { user: 701, system: 205 },
      notes: ['something is missing'],
    });
    assert.equal(JSON.parse(JSON.stringify(records))[0].callees[0].name, 'main');
  });

  test('a path as deep as a program’s stack allows', () => {
    const tree = new CallTree(functions.length);
    let node = tree.root;
    for (let n = 0; n < 60_000; n++) {
      node = tree.child(node, n % 2);
      node.user = 1;
    }
    const profile = profileOf(functions, tree, []);
    assert.deepEqual(profile.used[0]!.total, { user: 60_000, system: 0 });
    assert.deepEqual(profile.used[1]!.total, { user: 59_999, system: 0 });
    assert.equal([...treeLines(profile, 0)].length, 65);
  });

  test('nothing at all', () => {
    const profile = profileOf(functions, new CallTree(functions.length), []);
    assert.equal([...coverageLines(profile)][0], '0 of 5 functions were called (0.0 %)');
    assert.deepEqual([...foldedLines(profile)], []);
    assert.equal([...profileLines(profile)][1], '0 steps, and 0 in the kernel');
    assert.equal([...treeLines(profile)][0], '    - % 0 (outside)');
  });
});

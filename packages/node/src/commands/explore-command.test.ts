/** `braid explore` and `braid tour` as processes. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { braid, endlessProgram, temporaryFolder } from '../testing.ts';

const linux = { skip: guestMissing };
const repair = fileURLToPath(new URL('../../../../examples/repair/search.ts', import.meta.url));

/** Adds up to the argument, with the machine's steps. */
const SCRIPT = `export default ([goal]) => ({
  setup: (machine) => machine.step(5n),
  moves: () => [1, 2, 4],
  move: async (clone, steps) => (await clone.step(BigInt(steps))).step,
  stop: ({ result }) => result === 5 + Number(goal),
  score: ({ result = 0 }) => -Math.abs(5 + Number(goal) - result),
  budget: { depth: 3 },
});`;

test('the tour, away from a terminal', linux, async () => {
  const { code, stdout, stderr } = await braid(['tour', '--seed', '1']);
  assert.deepEqual([code, stderr], [0, '']);
  assert.match(stdout, /5 of its 7 tests pass[\s\S]*╞═ \+ 5 6-count-space {2}score 7[\s\S]*State hash [0-9a-f]{32}/);
  assert.doesNotMatch(stdout, /\x1b/);
});

test('a search that finds: the tree, the way there, the same as JSON', linux, async () => {
  const [text, json] = await Promise.all([
    braid(['explore', repair, '--seed', '1']),
    braid(['explore', repair, '--seed', '1', '--json', '--parallel', '1']),
  ]);
  assert.equal(text.code, 0, text.stderr);
  assert.match(text.stdout, /^root[\s\S]*\* 5 6-count-space {2}score 7 [\s\S]*Winner: 6-count-space\nfound: 8 nodes/);
  assert.match(text.stderr, /winner 7 at 5/);
  assert.equal(json.stderr, '');
  const { winner, path, steps, result, nodes } = JSON.parse(json.stdout);
  assert.deepEqual([winner, path, result.exitCode, nodes.length], ['5', ['6-count-space'], 0, 8]);
  assert.match(text.stdout, new RegExp(`, ${steps} steps`));
});

test('options go before what the script says; exit codes', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const file = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const script = file('search.mjs', SCRIPT);
  const bare = ['--bare', file('quiet', endlessProgram('quiet')), '--memory', '32M', '--seed', '1'];
  const run = (...args: string[]) => braid(['explore', ...args]);
  const [found, best, none, narrow, steps, race] = await Promise.all([
    run(script, ...bare, '--', '7'),
    run(script, ...bare, '--strategy', 'best-first', '--', '7'),
    run(script, ...bare, '--', '100'),
    run(script, ...bare, '--budget-depth', '2', '--json', '--', '7'),
    run(script, ...bare, '--budget-steps', '3', '--json', '--', '7'),
    run(script, ...bare, '--race', '--json', '--', '1'),
  ]);
  assert.equal(found.code, 0, found.stderr);
  assert.match(found.stdout, /Winner: 1, 2, 4\nfound: /);
  assert.match(best.stdout, /Winner: 4, 2, 1\nfound: 10 nodes/);
  assert.equal(none.code, 1);
  assert.match(none.stdout, /\nBest: 4, 4, 4\nexhausted: 40 nodes/);
  assert.deepEqual([narrow.code, JSON.parse(narrow.stdout).end], [1, 'exhausted']);
  assert.deepEqual([steps.code, JSON.parse(steps.stdout).end], [1, 'steps']);
  assert.deepEqual([race.code, JSON.parse(race.stdout).race], [0, true]);

  const [missing, broken, empty, beam, strategy, shell, help] = await Promise.all([
    run(join(folder, 'none.mjs')),
    run(file('broken.mjs', 'export default {')),
    run(file('empty.mjs', 'export const moves = () => []')),
    run(script, ...bare, '--strategy', 'beam', '--', '7'),
    run(script, '--strategy', 'widest'),
    run(script, '--shell'),
    run('--help'),
  ]);
  assert.match(missing.stderr, /none\.mjs: there is no such file/);
  assert.match(broken.stderr, /broken\.mjs failed: .*SyntaxError/);
  assert.match(empty.stderr, /default export/);
  assert.match(beam.stderr, /a beam needs a width/);
  assert.match(strategy.stderr, /Give one of/);
  assert.match(shell.stderr, /--shell needs a terminal/);
  for (const { code } of [missing, broken, empty, beam, strategy, shell]) assert.equal(code, 2);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /--budget-steps[\s\S]*Exit codes/);
});

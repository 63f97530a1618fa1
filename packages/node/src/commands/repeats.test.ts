/** Options of the command line that are given twice. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { braid } from '../testing.ts';

const TWICE = [
  ['run', '--memory', '64M', '--memory', '128M'],
  ['run', '--seed=1', '--seed=1'],
  ['run', '--gdb', '--gdb', 'here'],
  ['run', '--kernel', 'a', '--append', 'x', '--append', 'y'],
  ['tour', '--harts', '1', '--harts', '2'],
  ['explore', 'script.mjs', '--width', '1', '--width', '2'],
  ['bisect', '--every', '1M', '--every', '2M', '--', '--versus'],
  ['bisect', '--', '--memory', '64M', '--memory', '64M', '--versus', '--memory', '64M'],
  ['replay', 'none.rec', '--to', '1', '--to', '2'],
  ['gdb', 'none.rec', '--port', '1', '--port', '2'],
  ['threads', 'none.rec', '--top', '1', '--top', '2'],
  ['trace', 'syscalls', 'none.rec', '--from', '1', '--from', '2'],
];

for (const args of TWICE)
  test(`refused: ${args.join(' ')}`, async () => {
    const { code, stderr } = await braid(args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /error: option '--.*' is given twice; give it once/);
  });

test('those that may be repeated are, and flags without a value too', async () => {
  const repeated = [
    ['run', '--disk', '/none/a', '--disk', '/none/b', '--json', '--json'],
    ['trace', 'syscalls', '/none.rec', '--process', 'a', '--process', 'b', '--pid', '1', '--pid', '2'],
    ['replay', '/none.rec', '--replay-only', '1', '2'],
  ];
  for (const args of repeated) {
    const { code, stderr } = await braid(args);
    assert.equal(code, 2);
    assert.match(stderr, /there is no such file/);
  }
});

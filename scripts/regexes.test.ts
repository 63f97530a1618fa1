import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseSync, Visitor } from 'oxc-parser';
import { slowRegex } from './regexes.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

test('expressions that are slow are found, and others are not', () => {
  for (const slow of [/(a+)+/, /(?:a|ab)*c/, /(\x1b(?:\[\d{0,32})?){1,32}$/, /\s*\s*x/, /\d+(?:x?)\d+/, /([^"]*,)*"/])
    assert.ok(slowRegex(slow.source), slow.source);
  for (const linear of [
    /^\d{1,9}$/,
    /\B(?=(\d{3})+$)/,
    /[a-z]+-\d+/,
    /^([0-9a-f]{2}:){5}$/,
    /x(\.\d+)?$/,
    /\[[^\]]*\]/,
  ])
    assert.equal(slowRegex(linear.source), undefined, linear.source);
});

test('those of the packages are linear', () => {
  const files = execFileSync('git', ['ls-files', 'packages'], { cwd: root, encoding: 'utf8' }).split('\n');
  const sources = files.filter((name) => /\.(ts|mjs)$/.test(name) && !/\.test\.ts$|testing/.test(name));
  const complaints: string[] = [];
  for (const name of sources) {
    const text = readFileSync(new URL(name, `file://${root}`), 'utf8');
    const complain = (offset: number, what: string) =>
      complaints.push(`${name}:${text.slice(0, offset).split('\n').length} ${what}`);
    const made = (callee: { type: string; name?: string }, offset: number) => {
      // One that is put together at run time cannot be looked at here; those of marks are their caller's.
      if (!name.endsWith('/machine-recording.ts') && callee.type === 'Identifier' && callee.name === 'RegExp')
        complain(offset, 'makes an expression');
    };
    new Visitor({
      Literal(node) {
        if (!('regex' in node) || !node.regex) return;
        const found = slowRegex(node.regex.pattern);
        if (found) complain(node.start, found);
      },
      NewExpression: ({ callee, start }) => made(callee as never, start),
      CallExpression: ({ callee, start }) => made(callee as never, start),
    }).visit(parseSync(name, text).program);
  }
  assert.deepEqual(complaints, []);
});

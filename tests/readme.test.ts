/** The README's example of the library runs as it stands there. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

test("the library's example in the README", (t) => {
  const example = /```ts\n(.*?)```/s.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.[1];
  assert.ok(example, 'the README has no example');
  // Inside the project, where `@braid/node` is found; the folder is ignored by git.
  const folder = join(root, '.work');
  mkdirSync(folder, { recursive: true });
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'readme-example.ts');
  writeFileSync(file, example);
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8', timeout: 120_000 });
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^0 riscv64 \d+n [0-9a-f]{32}\n$/);
});

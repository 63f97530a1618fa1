/** The pass of tests with every machine recorded: what belongs to it, and that it notices a replay that goes wrong. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

const { NOT_RECORDED, RECORDED }: { NOT_RECORDED: object; RECORDED: object } = await import(
  new URL('./recorded-tests.mjs', import.meta.url).href
);

function* testFiles(folder: string): Generator<string> {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory() && entry.name !== 'node_modules') yield* testFiles(path);
    else if (entry.name.endsWith('.test.ts')) yield path;
  }
}

test('every file whose tests make machines is among those that are recorded, or has a reason not to be', () => {
  const making = [...testFiles('packages/node/src'), ...testFiles('tests')].filter((file) =>
    /\bMachine\.(create|restore)\(/.test(readFileSync(join(root, file), 'utf8')),
  );
  const known = (file: string) => file in RECORDED || Object.keys(NOT_RECORDED).some((path) => file.startsWith(path));
  assert.deepEqual(
    making.filter((file) => !known(file)),
    [],
  );
  assert.deepEqual(
    Object.keys(RECORDED).filter((file) => !making.includes(file)),
    [],
  );
});

/** A process with a machine that is recorded; `meanwhile` is done to its file. */
function recorded(meanwhile: string): { status: number | null; stderr: string; counts: Record<string, number> } {
  const folder = mkdtempSync(join(tmpdir(), 'braid-preload-'));
  const program = `
    import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
    import { join } from 'node:path';
    import { Machine } from '${new URL('../packages/node/src/index.ts', import.meta.url)}';
    import { endlessProgram } from '${new URL('../packages/node/src/testing.ts', import.meta.url)}';
    const machine = await Machine.create({ bare: endlessProgram('quiet'), memory: '32M' });
    await machine.step(300_000n);
    const [name] = readdirSync(process.env.TMPDIR).filter((name) => name.startsWith('braid-everything-'));
    const path = join(process.env.TMPDIR, name, '0');
    ${meanwhile}
    await machine.dispose().catch(() => {});
  `;
  try {
    const report = join(folder, 'report');
    const env = { ...process.env, NODE_TEST_CONTEXT: 'child', TMPDIR: folder, BRAID_RECORD_EVERYTHING: report };
    const preload = new URL('./record-everything.mjs', import.meta.url).href;
    const main = join(folder, 'main.mjs');
    writeFileSync(main, program);
    const args = ['--import', preload, main];
    const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, env, encoding: 'utf8' });
    assert.ok(existsSync(report), stderr);
    return { status, stderr, counts: JSON.parse(readFileSync(report, 'utf8')) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('a machine of a process that is recorded is replayed, and a replay that goes wrong is not overlooked', () => {
  const good = recorded('');
  assert.equal(good.status, 0, good.stderr);
  const { keyframes: _, ...counts } = good.counts;
  assert.deepEqual(counts, { machines: 1, replayed: 1, steps: 300_000, refused: 0, failed: 0, left: 0 });
  // What is written later comes behind what is zero here.
  const bad = recorded(`
    const bytes = readFileSync(path);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(path, bytes);
  `);
  assert.equal(bad.status, 1);
  assert.match(bad.stderr, /A recording is not repeated: .*(it is not complete|ERR_BRAID|damaged)/);
  assert.deepEqual([bad.counts.replayed, bad.counts.failed], [0, 1]);
});

// `npm test [-- PATTERN...] [-- --FLAG...]`: every test of the project, with types, style and dead code among them
// (scripts/lint.test.ts). A PATTERN keeps the files whose path contains it; flags go to Node's test runner.
//
// Tests of the machine run again with engines that translate more, and not at all, unless BRAID_TRANSLATE says how to. Tests of machines in
// Node run again with every machine recorded, and replayed when it is disposed of (recorded-tests.mjs).
//
// Random tests derive their seeds from BRAID_SEED; the base is printed once, so that a failure can be repeated.

import { randomInt } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fail, findNode, runChild } from '../packages/node/bin/runtime.mjs';
import { runRecorded } from './recorded-tests.mjs';
import { ensureSetup, ROOT } from './setup.mjs';

const FOLDERS = ['packages', 'scripts', 'guest', 'bench', 'fuzz', 'tests'];
/** By BRAID_TRANSLATE: the files that run again. Those in folders below make engines of their own. */
const MACHINE =
  /^(packages\/core\/src\/((engine|hart|machine|timeline)\/(?!workers|counters)[^/]*|branch\/(fork-point|decision))|fuzz\/(isa-user|privileged))\.test\.ts$/;
const AGAIN = {
  0: MACHINE,
  soon: MACHINE,
  // Modules of one region each are slow to make: small programs only.
  eager: /^packages\/core\/src\/(engine\/(?!exactness|workers|counters)|hart\/)[^/]*\.test\.ts$/,
};
/** Milliseconds that a file, and each test in it, may take: one that waits for ever fails by its name, and the others run. */
const LIMIT = 10 * 60_000;
const SKIPPED = new Set(['node_modules', 'prebuilt']);

function* testFiles(folder) {
  for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory() && !entry.name.startsWith('.') && !SKIPPED.has(entry.name)) yield* testFiles(path);
    else if (entry.isFile() && entry.name.endsWith('.test.ts')) yield path;
  }
}

async function main() {
  ensureSetup();
  const node = findNode();
  const args = process.argv.slice(2);
  const flags = args.filter((arg) => arg.startsWith('-'));
  const patterns = args.filter((arg) => !arg.startsWith('-'));
  const present = new Set(readdirSync(ROOT));
  const files = FOLDERS.filter((folder) => present.has(folder))
    .flatMap((folder) => [...testFiles(folder)])
    .filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern)))
    .sort();
  if (files.length === 0) throw new Error(`No test file's path contains ${patterns.join(' or ')}.`);

  const seed = process.env.BRAID_SEED || String(randomInt(2 ** 31));
  process.stdout.write(`seed base ${seed} (BRAID_SEED=${seed} npm test repeats it)\n`);
  const options = ['--test', '--test-concurrency=2', `--test-timeout=${LIMIT}`, '--test-reporter=spec', ...flags];
  const failed = [];
  const run = async (some, settings, more = []) => {
    if (some.length === 0) return;
    const env = { ...process.env, BRAID_SEED: seed, ...settings };
    await runChild(node.path, [...more, ...options, ...some], { cwd: ROOT, env });
    if (process.exitCode !== 0) failed.push(process.exitCode);
  };
  await run(files, {});
  if (!process.env.BRAID_TRANSLATE) {
    for (const [mode, again] of Object.entries(AGAIN)) {
      const some = files.filter((file) => again.test(file));
      if (some.length > 0) process.stdout.write(`\nagain with BRAID_TRANSLATE=${mode}\n`);
      await run(some, { BRAID_TRANSLATE: mode });
    }
    const recorded = await runRecorded(files, (some, more, settings) => {
      process.stdout.write('\nagain with every machine recorded\n');
      return run(some, settings, more);
    });
    if (recorded) process.stdout.write(`recorded and replayed: ${JSON.stringify(recorded)}\n`);
    // A pass that records nothing proves nothing.
    if (recorded && !(recorded.replayed > 0)) failed.push(1);
  }
  process.exitCode = failed[0] ?? 0;
}

await main().catch(fail);

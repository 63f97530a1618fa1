// Style, types and dead code as tests, so that `npm test` has one summary and one exit code.
// The tools are devDependencies: an installation without them skips, `npm run lint` runs the same three.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The script behind a package's command; it runs on this same Node, whatever the platform. */
function commandScript(packageName: string, command: string): string | undefined {
  const manifest = join(root, 'node_modules', packageName, 'package.json');
  if (!existsSync(manifest)) return undefined;
  const { bin } = createRequire(import.meta.url)(manifest);
  return join(dirname(manifest), typeof bin === 'string' ? bin : bin[command]);
}

function check(packageName: string, command: string, args: string[]): void {
  const script = commandScript(packageName, command);
  const title = `${command} ${args.join(' ')}`.trim();
  test(title, { skip: script === undefined && `${packageName} is not installed` }, async () => {
    const { code, output } = await new Promise<{ code: number; output: string }>((resolve) => {
      execFile(
        process.execPath,
        [script!, ...args],
        { cwd: root, maxBuffer: 1 << 26, env: { ...process.env, NO_COLOR: '1' } },
        (error, stdout, stderr) => resolve({ code: error ? 1 : 0, output: stdout + stderr }),
      );
    });
    assert.equal(code, 0, `${title} fails; npm run lint shows the same:\n${output}`);
  });
}

check('@biomejs/biome', 'biome', ['check', '.']);
check('typescript', 'tsc', ['-p', 'tsconfig.json']);
check('knip', 'knip', []);

describe('package-lock.json', () => {
  interface Entry {
    resolved?: string;
    optionalDependencies?: Record<string, string>;
  }
  const packages: Record<string, Entry> = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;

  test('names no registry', () => {
    const urls = Object.values(packages).map((entry) => entry.resolved ?? '');
    assert.deepEqual(
      urls.filter((url) => url.includes('://')),
      [],
    );
  });

  // A lock written while a registry could not be asked about another platform's package leaves it out without a
  // word, and `npm ci` then refuses the lock everywhere.
  test('has the packages of every platform', () => {
    const wanted = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
    assert.deepEqual(
      wanted.filter((name) => !Object.keys(packages).some((path) => path.endsWith(`node_modules/${name}`))),
      [],
    );
  });
});

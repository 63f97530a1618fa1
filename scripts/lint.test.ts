// Style, types and dead code as tests, so that `npm test` has one summary and one exit code.
// The tools are devDependencies: an installation without them skips, `npm run lint` runs the same three.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
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

test('the lock file names no registry', () => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const urls = Object.values<{ resolved?: string }>(packages).map((entry) => entry.resolved ?? '');
  assert.deepEqual(
    urls.filter((url) => url.includes('://')),
    [],
  );
});

// What `npm start`, `npm test` and `npm run bench` do first on a fresh clone: install what the lock file names.
//
// Plain JavaScript for Node >= 20, and no dependency: it runs before there are any.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findNode } from '../packages/node/bin/runtime.mjs';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

const readJson = (...path) => JSON.parse(readFileSync(join(ROOT, ...path), 'utf8'));

/**
 * Whether node_modules is what package-lock.json says. Contents are compared and not times of modification, which
 * a checkout changes. A few milliseconds. Optional packages may be absent: most are for other platforms.
 */
export function isInstalled() {
  const omitsDev = process.env.NODE_ENV === 'production' || /\bdev\b/.test(process.env.npm_config_omit ?? '');
  let installed;
  try {
    installed = readJson('node_modules', '.package-lock.json').packages; // npm's own record of what it put there
  } catch {
    return false;
  }
  return Object.entries(readJson('package-lock.json').packages).every(([path, wanted]) => {
    const found = installed[path];
    if (found) return found.version === wanted.version && found.integrity === wanted.integrity;
    return path === '' || wanted.optional || wanted.devOptional || (wanted.dev && omitsDev);
  });
}

/** Installs the locked dependencies if they are not there. Throws an error made for people when that fails. */
export function ensureSetup() {
  if (isInstalled()) return;
  process.stderr.write('Setting up: installing the locked dependencies (npm ci), once.\n');
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const { npm_execpath: npm, npm_node_execpath: node } = process.env; // set when npm started us
  const options = { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'], env: withoutLocalBin() };
  const result =
    npm && node
      ? spawnSync(node, [npm, ...args], options)
      : spawnSync('npm', args, { ...options, shell: process.platform === 'win32' });
  if (result.status === 0) return warmUp();
  throw new Error(
    `${result.error ? result.error.message : gist(result.stderr)}\n\nBraid could not install its dependencies.\n` +
      'Next step: connect to the network and run "npm ci" in the project, once. Offline, "npm ci --offline" is enough\n' +
      "if npm's cache has the packages.",
  );
}

/** A machine of one step, so that the first real start finds Braid compiled already. Whether it works is not ours to say. */
function warmUp() {
  const braid = join(ROOT, 'packages', 'node', 'bin', 'braid.mjs');
  spawnSync(findNode().path, [braid, 'run', '--max-steps', '1'], { stdio: 'ignore', timeout: 20_000 });
}

/** npm's first complaints, without its usage text. */
function gist(stderr) {
  const lines = stderr.split('\n').filter((line) => /^npm error +(?!at )\S/.test(line));
  return lines.slice(0, 8).join('\n') || stderr.trim();
}

/** The environment without our node_modules/.bin: npm must not run on a Node that it is about to replace. */
function withoutLocalBin() {
  const local = join(ROOT, 'node_modules', '.bin');
  const env = { ...process.env };
  const key = Object.keys(env).find((name) => name.toUpperCase() === 'PATH') ?? 'PATH';
  env[key] = (env[key] ?? '')
    .split(delimiter)
    .filter((folder) => folder !== local)
    .join(delimiter);
  return env;
}

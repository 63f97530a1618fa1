/** `braid explore`: a search that a script describes, from a machine that is booted for it. */

import { realpathSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { Strategy } from '@braid/core/branch/explore.ts';
import { escapeGuestText } from '@braid/core/text/escape.ts';
import { type Exploration, type ExploreScript, explore } from '../branch/explore.ts';
import { nameMove } from '../branch/moves.ts';
import { BraidError } from '../errors.ts';
import { requireRegular } from '../files.ts';
import { Machine } from '../machine.ts';
import { createOptions, type RunFlags } from './flags.ts';
import { LiveTree } from './live-tree.ts';
import { shell } from './run.ts';
import { print, printJson, tell } from './say.ts';

export interface ExploreFlags extends RunFlags {
  readonly strategy?: Strategy;
  readonly width?: number;
  readonly budgetSteps?: bigint;
  readonly budgetNodes?: number;
  readonly budgetDepth?: number;
  readonly moveSteps?: bigint;
  readonly parallel?: number;
  readonly race?: boolean;
  readonly shell?: boolean;
}

/** No state was found that the script accepts. */
const NOT_FOUND = 1;
/** Lines of the tree that is printed at the end. */
const TREE_LINES = 40;

export async function exploreCommand(
  path: string,
  image: string | undefined,
  flags: ExploreFlags,
  args: readonly string[],
): Promise<number> {
  const isTerminal = Boolean(process.stdin.isTTY && process.stdout.isTTY);
  if (flags.shell && !isTerminal) throw new BraidError('ERR_BRAID_OPTION', '--shell needs a terminal; leave it out');
  if (flags.signature !== undefined || flags.stats !== undefined)
    throw new BraidError('ERR_BRAID_OPTION', 'a search has no --stats and no --signature; leave them out');
  const script = await loadScript(path, args);
  await using machine = await Machine.create(createOptions(image, flags, flags.time ?? 'virtual'));
  machine.pool.warmUp();
  if (flags.seed === undefined) tell(`seed ${machine.seed}`);
  if (flags.bare === undefined) await machine.boot();
  await script.setup?.(machine);

  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort(new BraidError('ERR_BRAID_EXPLORE', 'the search was interrupted'));
  process.once('SIGINT', interrupt);
  try {
    await using found = await search(machine, withFlags(script, flags), flags, interrupted.signal);
    if (flags.json) printJson(report(found));
    else printTree(found);
    const node = found.winner ?? (script.stop ? undefined : found.best);
    if (!node || node === found.root) return NOT_FOUND;
    if (!flags.shell) return 0;
    await found.adopt(node);
  } finally {
    process.off('SIGINT', interrupt);
  }
  return await shell(machine, flags);
}

/** The search, which shows how it gets on. */
async function search(machine: Machine, script: ExploreScript, flags: ExploreFlags, signal: AbortSignal) {
  using live = new LiveTree(process.stderr);
  const onProgress = flags.json ? {} : { onProgress: live.update };
  return explore(machine, { ...script, ...onProgress, signal });
}

function printTree(found: Exploration): void {
  const { columns, isTTY } = process.stdout;
  const width = isTTY && columns ? columns - 1 : 100;
  for (const line of found.render({ width, limit: TREE_LINES, color: Boolean(isTTY) })) print(`${line}`);
  const { winner, best, end, nodes, steps } = found;
  const node = winner ?? best;
  const way = node ? found.path(node).map((move) => escapeGuestText(nameMove(move), { limit: 60 })) : [];
  if (way.length > 0) print(`${winner ? 'Winner' : 'Best'}: ${way.join(', ')}`);
  print(`${end}: ${nodes.length} nodes, ${steps} steps`);
}

function report(found: Exploration): object {
  const node = found.winner ?? found.best;
  const { exitCode, stdout, stderr, console } = found.result(node) ?? {};
  const path = node && found.path(node).map((move) => found.name(move));
  return { ...found.toJSON(), path, result: { exitCode, stdout, stderr, console } };
}

/** What the command line says goes before what the script says. */
function withFlags(script: ExploreScript, flags: ExploreFlags): ExploreScript {
  const { strategy, width, budgetSteps, budgetNodes, budgetDepth, moveSteps, parallel, race } = flags;
  const given = { strategy, width, moveSteps, parallel, race };
  const budget = { steps: budgetSteps, nodes: budgetNodes, depth: budgetDepth };
  return { ...script, ...defined(given), budget: { ...script.budget, ...defined(budget) } };
}

function defined<T extends object>(record: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as never;
}

async function loadScript(path: string, args: readonly string[]): Promise<ExploreScript> {
  requireRegular('script', path);
  const url = pathToFileURL(realpathSync(path)).href;
  let exported: unknown;
  try {
    exported = ((await import(url)) as { default?: unknown }).default;
    if (typeof exported === 'function') exported = await exported(args);
  } catch (error) {
    const { stack, message } = error as Error;
    throw new BraidError('ERR_BRAID_FILE', `${path} failed: ${stack ?? message}`, { cause: error });
  }
  const script = (typeof exported === 'object' && exported !== null ? exported : {}) as ExploreScript;
  if (typeof script.moves !== 'function') {
    const what = 'an object with a function "moves", or a function that gives one';
    throw new BraidError('ERR_BRAID_OPTION', `${path} has no search as its default export: ${what}`);
  }
  return script;
}

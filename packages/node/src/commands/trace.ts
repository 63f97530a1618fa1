/** `braid trace`: what programs of a recording did, found out afterwards. */

import type { KernelImage } from '@braid/core/linux/tasks.ts';
import type { TaskReader } from '@braid/core/trace/analysis.ts';
import { type FunctionMap, TracedProgram } from '@braid/core/trace/function-map.ts';
import { KernelTrace, kernelFunctions, ProgramTrace } from '@braid/core/trace/functions.ts';
import type { FunctionProfile } from '@braid/core/trace/profile.ts';
import { coverageLines, foldedLines, profileLines, profileRecords, treeLines } from '@braid/core/trace/profile-text.ts';
import { syscallLine, syscallRecord } from '@braid/core/trace/syscall-text.ts';
import { type SyscallEvent, SyscallTrace } from '@braid/core/trace/syscalls.ts';
import { BraidError } from '../errors.ts';
import { readWhole } from '../files.ts';
import { analyse, Lines, type SpanFlags } from './analysis.ts';
import { ResultFile } from './result-file.ts';
import { safeJson } from './say.ts';

/** Whose doings. */
interface WhoFlags {
  readonly process: readonly string[];
  readonly pid: readonly number[];
}

export interface SyscallsFlags extends SpanFlags, WhoFlags {
  readonly follow?: boolean;
  readonly calls?: readonly string[];
  readonly json?: boolean;
}

export function traceSyscalls(path: string, flags: SyscallsFlags): Promise<number> {
  const { follow = false, calls, json } = flags;
  const out = new Lines();
  return analyse(path, flags, out, ({ kernel, edges, stepsBefore }) => {
    const text = (event: SyscallEvent) =>
      json ? safeJson(moved(syscallRecord(event), stepsBefore)) : syscallLine(event);
    return new SyscallTrace({
      tasks: tasksOf(kernel),
      symbols: kernel.symbols,
      edges,
      tell: (event) => out.add(text(event)),
      ...filterOf(flags, { follow }),
      ...(calls ? { calls } : {}),
    });
  });
}

/** Steps of the recording, instead of the machine's. */
function moved(record: Record<string, unknown>, by: bigint): Record<string, unknown> {
  return { ...record, at: `${BigInt(record.at as string) + by}` };
}

export interface FunctionsFlags extends SpanFlags, WhoFlags {
  readonly elf?: string;
  readonly kernel?: boolean;
  readonly tree?: boolean;
  readonly coverage?: boolean;
  readonly folded?: string;
  readonly json?: boolean;
}

/** Functions that are shown of a profile. */
const MOST_FUNCTIONS = 60;
/** Bytes of a program with its debug information. */
const LARGEST_PROGRAM = 2 ** 30;

export async function traceFunctions(path: string, flags: FunctionsFlags): Promise<number> {
  const { elf, kernel: ofKernel = false, folded } = flags;
  if ((elf === undefined) !== ofKernel)
    throw new BraidError(
      'ERR_BRAID_OPTION',
      'give --elf PROGRAM, the file that ran, or --kernel for the kernel itself',
    );
  const program = elf === undefined ? undefined : await programOf(elf);
  using file = folded === undefined ? undefined : new ResultFile(folded);
  const out = new Lines();
  let map: FunctionMap | undefined;
  return await analyse(
    path,
    flags,
    out,
    ({ kernel, edges }) => {
      const options = { tasks: tasksOf(kernel), symbols: kernel.symbols, edges, ...filterOf(flags) };
      return program ? new ProgramTrace(program, options) : new KernelTrace(map!, options);
    },
    (analysis) => {
      const profile = analysis.profile();
      file?.write(lineByLine(foldedLines(profile)));
      for (const line of shownLines(profile, flags)) out.add(line);
    },
    (found) => {
      if (!program) map = mapOf(found);
    },
  );
}

async function programOf(path: string): Promise<TracedProgram> {
  const bytes = await readWhole('program', path, LARGEST_PROGRAM);
  try {
    return new TracedProgram(bytes);
  } catch (cause) {
    const why = `program ${path}: ${(cause as Error).message}; give the file that ran in the guest, with its symbols`;
    throw new BraidError('ERR_BRAID_FILE', why, { cause });
  }
}

function* shownLines(profile: FunctionProfile, { json, tree, coverage }: FunctionsFlags): Generator<string> {
  if (json) {
    for (const record of profileRecords(profile)) yield safeJson(record);
    return;
  }
  if (tree) yield* treeLines(profile);
  if (coverage) yield* coverageLines(profile);
  if (tree || coverage) return;
  const { used } = profile;
  yield* profileLines({ ...profile, used: used.slice(0, MOST_FUNCTIONS) });
  if (used.length > MOST_FUNCTIONS) yield `and ${used.length - MOST_FUNCTIONS} functions more: --json has all`;
}

function* lineByLine(lines: Iterable<string>): Generator<string> {
  for (const line of lines) yield `${line}\n`;
}

function mapOf(kernel: KernelImage): FunctionMap {
  return kernelFunctions(kernel.symbols.all(), (address, length) => kernel.memory.bytes(address, length));
}

/** Nothing, where everybody's are wanted. */
function filterOf<T extends object>({ process: names, pid: pids }: WhoFlags, more?: T) {
  if (names.length === 0 && pids.length === 0) return {};
  return {
    filter: { ...(names.length > 0 ? { names } : {}), ...(pids.length > 0 ? { pids } : {}), ...more },
  };
}

function tasksOf(kernel: KernelImage): TaskReader {
  return (task) => kernel.task(task);
}

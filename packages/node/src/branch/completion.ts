/**
 * When a branch is complete: one of several conditions holds, the machine has ended, or its kernel has panicked. What a machine's thread can
 * see by itself it looks at where slices end. Files and processes are looked at every so often in guest time, in a fork of the machine
 * that is thrown away: the machine itself does not notice. So for the same machine the result is the same, at the same position.
 */

import { argument } from '@braid/core/check/calls.ts';
import {
  bytes,
  callback,
  either,
  type Fields,
  flag,
  optional,
  record,
  refined,
  type Schema,
  text,
  value,
  whole,
  wide,
} from '@braid/core/check/schema.ts';
import { COUNT, instanceOf, PATTERN, requireArguments, WAIT } from '../check.ts';
import { BraidError } from '../errors.ts';
import { Machine } from '../machine.ts';
import type { WaitOptions } from '../pool/link.ts';
import { PROGRAM, type Program } from '../programs.ts';
import type { Conditions, Reached } from '../runner/conditions.ts';
import { GUEST_PATH } from './guest-files.ts';

/** What a machine's thread can see by itself. */
export interface RunConditions {
  /** In console output from now on; where a slice ends, `$` matches at the end of what is there. */
  readonly console?: string | RegExp;
  /** In a program's output from now on. */
  readonly output?: { readonly program: Program; readonly pattern: string | RegExp };
  /** Guest-physical memory, in RAM, equals these bytes, or differs from them. */
  readonly memory?:
    | { readonly address: bigint; readonly equals: Uint8Array }
    | { readonly address: bigint; readonly differs: Uint8Array };
  /** A guest program gives the hint `braid_done`, which the host has to enable. */
  readonly done?: boolean;
  /** Every hart waits, and nothing is due for so many ns of guest time (`true`: 100 ms). */
  readonly idle?: true | bigint | number;
  /** So many steps of all harts. */
  readonly steps?: bigint | number;
  /** So many ns of guest time. An idle gap that goes beyond ends it at once. */
  readonly guestTime?: bigint | number;
}

export interface CompletionOptions extends RunConditions, WaitOptions {
  /** A file is there, or its content is as `matches` says, which is given nothing for a file that is not there. */
  readonly file?: { readonly path: string; readonly matches?: (content: Uint8Array | undefined) => boolean };
  /** A program that was started through the agent is over; or whether any process of a name (as in /proc/PID/comm) runs. */
  readonly process?: Program | { readonly name: string; readonly running: boolean };
  /** Guest time in ns between two looks at file and process; 100 ms by default. */
  readonly every?: bigint | number;
  /** The machine stands still once it is complete, even if other calls wait for it. */
  readonly hold?: boolean;
}

/** Which condition it was, where that is, and how far from the start. */
export type Completion = Exclude<Reached, { by: 'tick' }> | (Omit<Reached, 'by'> & { readonly by: 'file' | 'process' });

const TRUE: Schema<true> = value('true', (given) => given === true);
const ADDRESS = wide(0n, (1n << 52n) - 1n);
const MAX_COMPARED = 65_536;
const COMPARED = refined(bytes, `1 to ${MAX_COMPARED} bytes`, ({ length }) => length > 0 && length <= MAX_COMPARED);

const RUN_FIELDS: Fields<RunConditions> = {
  console: optional(PATTERN),
  output: optional(record<NonNullable<RunConditions['output']>>({ program: PROGRAM, pattern: PATTERN })),
  memory: optional(
    either(
      record<{ readonly address: bigint; readonly equals: Uint8Array }>({ address: ADDRESS, equals: COMPARED }),
      record<{ readonly address: bigint; readonly differs: Uint8Array }>({ address: ADDRESS, differs: COMPARED }),
    ),
  ),
  done: optional(flag),
  idle: optional(either(TRUE, COUNT)),
  steps: optional(COUNT),
  guestTime: optional(COUNT),
};

export const RUN_CONDITIONS: Schema<RunConditions> = record(RUN_FIELDS);

const COMPLETION_OPTIONS = record<CompletionOptions>({
  ...RUN_FIELDS,
  ...WAIT,
  file: optional(record<NonNullable<CompletionOptions['file']>>({ path: GUEST_PATH, matches: optional(callback) })),
  process: optional(
    either(PROGRAM, record<{ readonly name: string; readonly running: boolean }>({ name: text, running: flag })),
  ),
  every: optional(whole(1n)),
  hold: optional(flag),
});

const ARGUMENTS = [
  argument('machine', instanceOf<Machine>('a Machine', Machine)),
  argument('options', COMPLETION_OPTIONS),
] as const;

/** Every hart waits for so long, in ns of guest time: the guest waits for something from outside. */
const QUIET = 100_000_000n;
const EVERY = 100_000_000n;
/** Steps that a fork gets to say how a file or a process is. */
const PROBE_STEPS = 5_000_000_000n;
/** Names are bytes: the first 15 are kept, spaces count, and there may be line ends among them. */
const FIND = `LC_ALL=C; name=$(printf '%.15s.' "$0"); name=\${name%.}
for c in /proc/[0-9]*/comm; do
  n=
  while IFS= read -r line; do n="$n$line
"; done <"$c"
  [ "$n" = "$name
" ] && exit 0
done 2>/dev/null
exit 1`;

/** Runs a machine until it is complete. Throws an error of the probe when the guest cannot say how a file or a process is. */
export async function complete(machine: Machine, options: CompletionOptions): Promise<Completion> {
  requireArguments(ARGUMENTS, machine, options);
  const { file, process, every = EVERY, hold = false, signal } = options;
  const exited = process !== undefined && !('name' in process) ? { exited: machine.keyOf(process) } : {};
  const named = process !== undefined && 'name' in process ? process : undefined;
  const conditions = { ...conditionsOf(machine, options), ...exited };
  if (!file && !named) {
    const reached = await machine.runTo(conditions, { hold, ...(signal ? { signal } : {}) });
    return reached.by === 'exited' ? { ...reached, by: 'process' } : reached;
  }
  const over = new AbortController();
  const until = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
  let result: Reached | undefined;
  const main = machine.runTo(conditions, { hold, signal: until }).then((reached) => {
    result = reached;
    over.abort();
  });
  main.catch(() => over.abort());
  const tick = () => machine.runTo({ tick: BigInt(every) }, { hold: true, signal: until }).catch(() => undefined);
  const start = await machine.stats();
  try {
    for (let at = await tick(); at; at = await tick()) {
      const by = await look(machine, file, named);
      if (result) break;
      if (!by) continue;
      over.abort();
      await main.catch(() => {});
      if (!hold) await machine.resume();
      const { steps, guestSeconds } = await machine.stats();
      const guestTime = BigInt(Math.round((guestSeconds - start.guestSeconds) * 1e9));
      return { by, position: at.position, steps: steps - start.steps, guestTime };
    }
  } catch (error) {
    over.abort();
    await main.catch(() => {});
    throw error;
  }
  await main;
  const reached = result!;
  return reached.by === 'exited' ? { ...reached, by: 'process' } : reached;
}

/** Which of file and process is as asked for. */
async function look(
  machine: Machine,
  file: CompletionOptions['file'],
  process: { readonly name: string; readonly running: boolean } | undefined,
): Promise<'file' | 'process' | undefined> {
  const [probe] = await machine.fork(1);
  if (!probe || probe instanceof BraidError) throw probe ?? new Error('no fork');
  try {
    if (file) {
      const content = await limited(probe, (signal) => contentOf(probe, file.path, signal));
      if (file.matches ? file.matches(content) : content) return 'file';
    }
    if (!process) return undefined;
    const argv = ['sh', '-c', FIND, process.name];
    const { exitCode } = await limited(probe, (signal) => probe.exec(argv, { signal }));
    return (exitCode === 0) === process.running ? 'process' : undefined;
  } finally {
    await probe.dispose();
  }
}

/** A question to a fork, which may not run for ever because of it. */
async function limited<T>(probe: Machine, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const late = new AbortController();
  const why = new BraidError('ERR_BRAID_PROBE', "the guest's agent does not say how a file or a process is");
  const limit = probe.runTo({ steps: PROBE_STEPS }, { signal: late.signal }).then(
    () => late.abort(why),
    () => {},
  );
  try {
    return await ask(late.signal);
  } finally {
    late.abort();
    await limit;
  }
}

async function contentOf(probe: Machine, path: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
  try {
    return await probe.readFile(path, { signal });
  } catch (error) {
    if ((error as Partial<BraidError>).kind === 'refused') return undefined;
    throw error;
  }
}

/** As the machine's thread takes them. */
export function conditionsOf(machine: Machine, options: RunConditions): Conditions {
  const { console, output, memory, done, idle, steps, guestTime } = options;
  return {
    ...(console === undefined ? {} : { console }),
    ...(output ? { output: { program: machine.keyOf(output.program), pattern: output.pattern } } : {}),
    ...(memory ? { memory: memoryOf(memory) } : {}),
    ...(done === undefined ? {} : { done }),
    ...(idle === undefined ? {} : { idle: idle === true ? QUIET : BigInt(idle) }),
    ...(steps === undefined ? {} : { steps: BigInt(steps) }),
    ...(guestTime === undefined ? {} : { guestTime: BigInt(guestTime) }),
  };
}

function memoryOf(memory: NonNullable<RunConditions['memory']>): NonNullable<Conditions['memory']> {
  const differs = 'differs' in memory;
  const bytes = differs ? memory.differs : memory.equals;
  const { address } = memory;
  return { address, bytes, differs };
}

/** Options of the command line that make a machine. */

import { type Command, InvalidArgumentError } from 'commander';
import { BraidError } from '../errors.ts';
import type { CreateOptions } from '../options.ts';

export interface RunFlags {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly bare?: string;
  readonly firmware?: string;
  readonly disk: readonly string[];
  readonly memory: string;
  readonly harts: number;
  readonly engine: string;
  readonly time?: 'virtual' | 'wall';
  readonly seed?: bigint;
  readonly maxSteps?: bigint;
  readonly epoch?: bigint;
  readonly stats?: string;
  readonly signature?: string;
  readonly net: string;
  readonly json?: boolean;
  readonly input?: boolean;
  readonly tty?: boolean;
  /** In ns of guest time. */
  readonly execTimeout?: bigint;
  readonly execMaxSteps?: bigint;
  readonly record?: string;
  readonly keyframeMs?: number;
  readonly gdb?: string | true;
  readonly mark?: readonly string[];
  readonly guestMarks?: number;
}

const ENGINES = ['interpreter'] as const;

export function addMachineOptions(command: Command): Command {
  return command
    .option(
      '--kernel <file[,flat]>',
      'Linux image or ELF, possibly gzipped, instead of the one that ships; or a flat binary that starts at 0x80200000',
    )
    .option('--initrd <file>', 'initial RAM disk')
    .option('--append <line>', "kernel command line (with the kernel that ships: added to Braid's own)")
    .option('--bare <file>', 'ELF or flat binary for M-mode; ends at the test finisher or at a write to tohost')
    .option('--firmware <file>', 'M-mode firmware such as OpenSBI, which starts the kernel')
    .option('--disk <file[,ro][,raw]>', 'raw disk image, read and written in place; may be repeated', collect, [])
    .option('--memory <size>', 'RAM: 32M to 3G', '256M')
    .option('--harts <n>', 'processors: 1 to 8', integer, 1)
    .option('--engine <name>', `how guest code is executed: ${ENGINES.join(', ')}`, 'interpreter')
    .option(
      '--time <mode>',
      'virtual: idle time is skipped; wall: real time (the default on a terminal, and when a pipe types)',
      timeMode,
    )
    .option('--seed <n>', 'where all randomness comes from: 64 bits; drawn and reported without it', u64)
    .option('--epoch <time>', "the guest's date at power-on: 2026-01-01T00:00:00Z, or seconds since 1970", epoch)
    .option('--max-steps <n>', 'end the machine after so many steps (K, M, G: powers of 1000)', count)
    .option('--net <kind>', 'network: none', 'none')
    .option('--stats <file>', 'write what happened to a file, as JSON')
    .option('--signature <file>', "write a bare program's begin_signature..end_signature, a word a line")
    .option('--json', 'print the same as --stats on standard output at the end');
}

/** How the command of a run is run. */
export function addCommandOptions(command: Command): Command {
  return command
    .option('-i, --input', 'the command reads our standard input (in virtual time the machine waits for it)')
    .option('-t, --tty', 'the command gets a terminal, and our keys')
    .option(
      '--exec-timeout <time>',
      "end the command after so much of the guest's time: 500ms, 10s, 5m; counted from where the guest is asked to start it",
      duration,
    )
    .option(
      '--exec-max-steps <n>',
      'end the command after so many steps of the machine (K, M, G: powers of 1000)',
      limit,
    );
}

/** What a run is recorded to, and who debugs it. */
export function addRecordOptions(command: Command): Command {
  return command
    .option(
      '--record <file>',
      'record the run, for "braid replay", "braid gdb" and others; a recording there is replaced',
    )
    .option(
      '--keyframe-ms <n>',
      'with --record: milliseconds between states of the machine in it: fewer make going backwards faster, and recording costlier',
      integer,
    )
    .option(
      '--mark <text>',
      'with --record: mark the moments at which the console says this; may be repeated',
      collect,
      [],
    )
    .option(
      '--guest-marks <n>',
      'let programs in the guest name so many moments (braid_mark); part of the machine',
      integer,
    )
    .option(
      '--gdb [where]',
      'wait for gdb before the first step: at a Unix socket of this path, a TCP port of 127.0.0.1, or a socket in a new folder',
    );
}

const STRATEGIES = ['breadth-first', 'depth-first', 'best-first', 'beam'] as const;

/** How a search goes: each goes before what its script says. */
export function addExploreOptions(command: Command): Command {
  return command
    .option('--strategy <name>', `in which order states are expanded: ${STRATEGIES.join(', ')}`, strategy)
    .option('--width <n>', 'how many states are expanded at once', integer)
    .option('--budget-steps <n>', 'guest steps of all moves together (K, M, G: powers of 1000)', count)
    .option('--budget-nodes <n>', 'states besides the first', integer)
    .option('--budget-depth <n>', 'moves in a row', integer)
    .option('--move-steps <n>', 'guest steps of one move', count)
    .option('--parallel <n>', 'moves that go on at once: the result is the same; one a core by default', integer)
    .option('--race', "let the host's clock decide who is first")
    .option('--shell', 'go on in the state that was found, on this terminal');
}

function strategy(text: string): string {
  if (!(STRATEGIES as readonly string[]).includes(text))
    throw new InvalidArgumentError(`Give one of: ${STRATEGIES.join(', ')}.`);
  return text;
}

/** What the library is asked for. */
export function createOptions(image: string | undefined, flags: RunFlags, time: 'virtual' | 'wall'): CreateOptions {
  const refuse = (why: string): never => {
    throw new BraidError('ERR_BRAID_OPTION', why);
  };
  if (!(ENGINES as readonly string[]).includes(flags.engine)) {
    refuse(`there is no engine "${flags.engine}"; engines are: ${ENGINES.join(', ')}`);
  }
  if (flags.net !== 'none') refuse(`there is no network "${flags.net}"; give none`);
  if (image !== undefined && flags.bare !== undefined) refuse('give an image or --bare, not both');
  if (flags.initrd !== undefined && flags.bare !== undefined) refuse('a bare program has no --initrd; leave it out');
  if (flags.signature !== undefined && flags.bare === undefined)
    refuse('--signature is for --bare programs; add --bare FILE');
  const disks = [...(image === undefined ? [] : [image]), ...flags.disk].map(diskFlag);
  const { initrd, bare, firmware, seed, epoch: when, maxSteps } = flags;
  const flat = flags.kernel?.match(/[,.]flat$/) ? true : undefined;
  const kernel = flags.kernel?.replace(/,flat$/, '');
  const root = image !== undefined && kernel === undefined && firmware === undefined;
  const append = [
    ...(root ? [`root=/dev/vda ${disks[0]!.readOnly ? 'ro' : 'rw'}`] : []),
    ...(flags.append === undefined ? [] : [flags.append]),
  ];
  return {
    ...defined({ kernel, flat, initrd, bare, firmware, seed, epoch: when, maxSteps }),
    ...(append.length > 0 ? { append: append.join(' ') } : {}),
    disks,
    memory: flags.memory,
    harts: flags.harts,
    time,
  };
}

/** A path, and after it how the disk is used. */
function diskFlag(text: string): { path: string; readOnly: boolean; raw: boolean } {
  if (text.endsWith(',ro')) return { ...diskFlag(text.slice(0, -3)), readOnly: true };
  if (text.endsWith(',raw')) return { ...diskFlag(text.slice(0, -4)), raw: true };
  return { path: text, readOnly: false, raw: false };
}

function defined<T extends object>(record: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as never;
}

function collect(value: string, all: readonly string[]): string[] {
  return [...all, value];
}

function integer(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Give a whole number.');
  return Number(text);
}

function u64(text: string): bigint {
  if (!/^(\d+|0x[0-9a-f]+)$/i.test(text) || BigInt(text) >= 1n << 64n) {
    throw new InvalidArgumentError('Give a number of 64 bits, such as 42 or 0xfeed.');
  }
  return BigInt(text);
}

const COUNT_UNITS: Readonly<Record<string, bigint>> = { '': 1n, K: 1000n, M: 1_000_000n, G: 1_000_000_000n };

export function count(text: string): bigint {
  const match = /^(\d{1,18})([KMG]?)$/i.exec(text);
  if (!match) throw new InvalidArgumentError('Give a number of steps, such as 500000 or 2G.');
  return BigInt(match[1]!) * COUNT_UNITS[match[2]!.toUpperCase()]!;
}

/** A count that ends something, so not 0. */
function limit(text: string): bigint {
  const steps = count(text);
  if (steps === 0n) throw new InvalidArgumentError('Give 1 or more.');
  return steps;
}

const TIME_UNITS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
};

/** In ns. */
function duration(text: string): bigint {
  const match = /^(\d{1,9})(ns|us|ms|s|m)$/.exec(text);
  if (!match || Number(match[1]) === 0)
    throw new InvalidArgumentError('Give a time with its unit (ns, us, ms, s, m), such as 500ms or 10s.');
  return BigInt(match[1]!) * TIME_UNITS[match[2]!]!;
}

function timeMode(text: string): string {
  if (text !== 'virtual' && text !== 'wall') throw new InvalidArgumentError('Give virtual or wall.');
  return text;
}

function epoch(text: string): bigint {
  const ns = /^\d{1,10}$/.test(text) ? BigInt(text) * 1_000_000_000n : undefined;
  const date = Date.parse(text);
  if (ns === undefined && !(date >= 0))
    throw new InvalidArgumentError('Give a date such as 2026-01-01T00:00:00Z, or seconds since 1970.');
  return ns ?? BigInt(date) * 1_000_000n;
}

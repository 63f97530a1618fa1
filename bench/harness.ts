// What every benchmark shares: running Braid and its peers by turns, the report, and child processes watched from outside
// (time to a pattern on their output, CPU time, peak memory). The report's forms for people are in lib/table.ts and lib/plot.ts.
//
//   using report = new Report('boot');
//   const times = await alternate(3, { braid: () => bootBraid(), qemu: qemu && (() => bootQemu(qemu)) });
//   report.add({ name: 'to the prompt', unit: 's', better: 'lower', results: times, group: 'boot', must: 1.2 });
//   report.must('boot', 'qemu', 1); // the geometric mean of that group's ratios
//   report.print();
//
// A ratio above 1 always means that Braid is better, whichever way the unit counts. A peer that fails or hangs loses that run of its own, and
// no row of others; a benchmark that fails shows the rows that it has.

import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatPlot } from './lib/plot.ts';
import { format, formatTable } from './lib/table.ts';

/** Where --save puts a report. */
const RESULTS = fileURLToPath(new URL('../docs/results', import.meta.url));

/** What is printed with --json, one object. */
export interface BenchReport {
  bench: string;
  host: { cpu: string; cores: number; node: string };
  /** What a reader of the figures has to know. */
  note?: string;
  rows: Row[];
  /** For each group of rows, the geometric mean of their ratios to each peer. */
  geomean: Record<string, Record<string, number>>;
  /** What the project promises of these means. A peer that is not on this machine is left out. */
  musts?: GroupMust[];
  /** Runs of peers that failed, and how: no row has them. */
  failures?: readonly string[];
  /** The benchmark failed before its end: rows are missing. */
  unfinished?: true;
}

/** At least `bound` times better than the peer, and whether this run's geometric mean is. */
export interface GroupMust {
  group: string;
  peer: string;
  bound: number;
  met: boolean;
}

export interface Row {
  name: string;
  unit: string;
  better: 'lower' | 'higher';
  /** Braid's median. */
  value: number;
  /** Braid's least and greatest. */
  spread: [min: number, max: number];
  /** Peers' medians. A peer that is not on this machine is left out. */
  peers: Record<string, number>;
  peerSpread: Record<string, [min: number, max: number]>;
  /** Peer by peer, how many times better Braid is. */
  ratio: Record<string, number>;
  group?: string;
  /** The promised bound, and whether this run kept it. */
  must?: { bound: number; met: boolean };
}

export interface Result {
  median: number;
  spread: [min: number, max: number];
  samples: number[];
}

/** Medians by competitor; `braid` is always there. */
export type Results = { braid: Result } & Record<string, Result>;

type Measure = () => number | Promise<number>;

export function median(samples: readonly number[]): number {
  if (samples.length === 0) throw new RangeError('no samples');
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function geometricMean(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('no values');
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

export function summarize(samples: number[]): Result {
  return { median: median(samples), spread: [Math.min(...samples), Math.max(...samples)], samples };
}

/** The same of samples that each competitor has gathered, and of those that have any. */
export function summarizeAll(samples: Readonly<Record<string, number[]>>): Results {
  const measured = Object.entries(samples).filter(([, values]) => values.length > 0);
  return Object.fromEntries(measured.map(([name, values]) => [name, summarize(values)])) as Results;
}

const failures: string[] = [];

/** What a peer does; undefined when it fails or hangs, which is noted in the report and on stderr. */
export async function attempt<Outcome>(
  peer: string,
  work: () => Outcome | Promise<Outcome>,
): Promise<Outcome | undefined> {
  try {
    return await work();
  } catch (error) {
    const [why] = (error as Error).message.split('\n');
    failures.push(`${peer}: ${why}`);
    process.stderr.write(`${peer} failed: ${(error as Error).message}\n`);
    return undefined;
  }
}

/** A peer that has failed so often in one row is not run again for it: each time may have cost minutes. */
const MOST_FAILURES = 2;

/**
 * Measures the competitors by turns, `reps` times each (at least 3), in an order that turns round every time, so
 * that a host that slows down or speeds up favours nobody. An undefined competitor is absent, and so is a peer that
 * fails each time. Braid's own failure is thrown.
 */
export async function alternate(
  reps: number,
  competitors: { braid: Measure } & Record<string, Measure | undefined>,
): Promise<Results> {
  if (!(reps >= 3)) throw new RangeError(`a median needs at least 3 runs, not ${reps}`);
  const present = Object.entries(competitors).filter((entry): entry is [string, Measure] => entry[1] !== undefined);
  const samples: Record<string, number[]> = Object.fromEntries(present.map(([name]) => [name, []]));
  const failed = new Map<string, number>();
  for (let rep = 0; rep < reps; rep++) {
    const order = rep % 2 ? [...present].reverse() : present;
    for (const [name, measure] of order) {
      const failures = failed.get(name) ?? 0;
      if (failures === MOST_FAILURES) continue;
      const sample = name === 'braid' ? await measure() : await attempt(name, measure);
      if (sample === undefined) failed.set(name, failures + 1);
      else samples[name]!.push(sample);
    }
  }
  return summarizeAll(samples);
}

export interface RowInput {
  name: string;
  unit: string;
  better: 'lower' | 'higher';
  /** From `alternate`, or Braid's own samples when there is no peer. */
  results: Results | number[];
  group?: string;
  /** A bound that the project promises: at most it, or at least it when more is better. */
  must?: number;
}

export function makeRow({ name, unit, better, results, group, must }: RowInput): Row {
  const { braid, ...others } = Array.isArray(results) ? { braid: summarize(results) } : results;
  const peers: Record<string, number> = {};
  const peerSpread: Row['peerSpread'] = {};
  const ratio: Record<string, number> = {};
  for (const [peer, result] of Object.entries(others as Record<string, Result>)) {
    peers[peer] = result.median;
    peerSpread[peer] = result.spread;
    ratio[peer] = better === 'lower' ? result.median / braid.median : braid.median / result.median;
  }
  const met = must !== undefined && (better === 'lower' ? braid.median <= must : braid.median >= must);
  return {
    name,
    unit,
    better,
    value: braid.median,
    spread: braid.spread,
    peers,
    peerSpread,
    ratio,
    ...(group !== undefined && { group }),
    ...(must !== undefined && { must: { bound: must, met } }),
  };
}

/** The ratios of each group's rows, averaged. A row without a peer says nothing about that peer. */
export function geomeans(rows: readonly Row[]): BenchReport['geomean'] {
  const ratios: Record<string, Record<string, number[]>> = {};
  for (const { group, ratio } of rows) {
    if (group === undefined) continue;
    const peers = (ratios[group] ??= {});
    for (const [peer, value] of Object.entries(ratio)) (peers[peer] ??= []).push(value);
  }
  const mean = (peers: Record<string, number[]>) =>
    Object.fromEntries(Object.entries(peers).map(([peer, values]) => [peer, geometricMean(values)]));
  return Object.fromEntries(Object.entries(ratios).map(([group, peers]) => [group, mean(peers)]));
}

/** A benchmark's rows. One that leaves its scope without having been printed shows what it has: the benchmark failed. */
export class Report implements Disposable {
  readonly bench: string;
  readonly rows: Row[] = [];
  private readonly note: string | undefined;
  private readonly bounds: Omit<GroupMust, 'met'>[] = [];
  private readonly earlier = failures.length;
  private printed = false;

  constructor(bench: string, note?: string) {
    this.bench = bench;
    this.note = note;
  }

  /** Adds a row, and shows on a terminal's stderr that the work goes on. */
  add(input: RowInput): Row {
    const row = makeRow(input);
    this.rows.push(row);
    if (process.stderr.isTTY) process.stderr.write(`${row.name}: ${format(row.value)} ${row.unit}\n`);
    return row;
  }

  /** Promises that the geometric mean of a group's ratios to a peer is at least this. */
  must(group: string, peer: string, bound: number): void {
    this.bounds.push({ group, peer, bound });
  }

  toJSON(): BenchReport {
    const host = { cpu: cpus()[0]?.model ?? 'unknown', cores: availableParallelism(), node: process.version };
    const geomean = geomeans(this.rows);
    const musts = this.bounds.flatMap((must) => {
      const mean = geomean[must.group]?.[must.peer];
      return mean === undefined ? [] : [{ ...must, met: mean >= must.bound }];
    });
    const failed = failures.slice(this.earlier);
    return {
      bench: this.bench,
      host,
      ...(this.note !== undefined && { note: this.note }),
      rows: this.rows,
      geomean,
      ...(musts.length > 0 && { musts }),
      ...(failed.length > 0 && { failures: failed }),
    };
  }

  /** As a table, or as one JSON object with `--json`. With `--save`, it is kept in docs/results as well. */
  print(): void {
    this.write(this.toJSON());
    if (process.argv.includes('--save')) this.save(RESULTS);
  }

  [Symbol.dispose](): void {
    if (!this.printed && this.rows.length > 0) this.write({ ...this.toJSON(), unfinished: true });
  }

  private write(report: BenchReport): void {
    this.printed = true;
    process.stdout.write(`${process.argv.includes('--json') ? JSON.stringify(report) : formatTable(report)}\n`);
  }

  /** Writes it into a folder: the object, and a picture of the ratios when there are any. */
  save(folder: string): void {
    mkdirSync(folder, { recursive: true });
    const report = this.toJSON();
    writeFileSync(join(folder, `${this.bench}.json`), `${JSON.stringify(report)}\n`);
    if (report.rows.some(({ ratio }) => Object.keys(ratio).length > 0))
      writeFileSync(join(folder, `${this.bench}.svg`), formatPlot(report));
  }
}

/** Whether `--quick` asks for less work in each run (never for fewer runs than a median needs). */
export const quick = process.argv.includes('--quick');

const missing = new Set<string>();

/** The path of a command on PATH. When it is absent, undefined and one note on stderr: rows go without that peer. */
export function findPeer(command: string): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, command);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not in this folder
    }
  }
  if (!missing.has(command)) process.stderr.write(`${command} is not installed: no comparison with it.\n`);
  missing.add(command);
  return undefined;
}

export const findQemu = (): string | undefined => findPeer('qemu-system-riscv64');

/** What a process and its descendants have used (Linux only: from /proc). */
export interface Usage {
  /** User and system time, that of ended children included. */
  cpuSeconds: number;
  /** The sum of the processes' resident sets, now and at their peaks. */
  rssBytes: number;
  peakRssBytes: number;
}

/** The usage of the processes below and including `pid`; of one that has ended, zero. */
export function usageOf(pid: number): Usage {
  const total: Usage = { cpuSeconds: 0, rssBytes: 0, peakRssBytes: 0 };
  for (const process of processTree(pid)) {
    total.cpuSeconds += process.ticks / TICKS_PER_SECOND;
    const status = readProc(`${process.pid}/status`) ?? '';
    total.rssBytes += 1024 * Number(/^VmRSS:\s*(\d+) kB/m.exec(status)?.[1] ?? 0);
    total.peakRssBytes += 1024 * Number(/^VmHWM:\s*(\d+) kB/m.exec(status)?.[1] ?? 0);
  }
  return total;
}

const TICKS_PER_SECOND = 100; // USER_HZ, fixed in Linux's interface

interface ProcessEntry {
  pid: number;
  parent: number;
  ticks: number;
}

function processTree(pid: number): ProcessEntry[] {
  const entries = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => processEntry(Number(name)))
    .filter((entry) => entry !== undefined);
  const tree = entries.filter((entry) => entry.pid === pid);
  for (const entry of tree) tree.push(...entries.filter((other) => other.parent === entry.pid)); // grows as it goes
  return tree;
}

/** From /proc/PID/stat: after the name in parentheses, field 4 is the parent and 14-17 are times. */
function processEntry(pid: number): ProcessEntry | undefined {
  const stat = readProc(`${pid}/stat`);
  if (stat === undefined) return undefined;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return { pid, parent: Number(fields[1]), ticks };
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(`/proc/${path}`, 'latin1');
  } catch {
    return undefined; // it has ended
  }
}

export interface WatchOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
}

/**
 * A child process under a watch that starts with it:
 *
 *   await using child = new Watched(qemu, ['-M', 'virt', ...]);
 *   const seconds = await child.until('login: ', 60);
 *   const { cpuSeconds, peakRssBytes } = child.usage();
 *
 * Leaving the scope kills the child and its descendants: a function that ends with `return child.until(...)` needs
 * `return await`. For the seconds alone there is `secondsUntil`.
 */
export class Watched implements AsyncDisposable {
  /** Everything that it wrote, stdout and stderr as they came. */
  output = '';
  private readonly startedAt: number;
  private readonly child: ChildProcess;
  private readonly ended: Promise<void>;
  private failure: string | undefined; // why no more output will come: all that could write have ended
  private searched = 0; // output before this has been matched
  private wake: () => void = () => {};

  constructor(command: string, args: readonly string[], { cwd, env }: WatchOptions = {}) {
    this.startedAt = performance.now();
    // A process group of its own, so that kill() reaches what it starts.
    this.child = spawn(command, args, { cwd, env, stdio: ['pipe', 'pipe', 'pipe'], detached: true });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
        this.wake();
      });
    }
    this.child.stdin!.on('error', () => {}); // it may end before it has read what it was sent
    this.ended = new Promise((resolve) => {
      const end = (failure: string) => {
        this.failure ??= failure;
        this.wake();
        resolve();
      };
      this.child.on('error', (error) => end(`could not start: ${error.message}`));
      this.child.on('close', (code, signal) => end(`ended (${signal ?? `exit code ${code}`})`));
    });
  }

  /** Seconds since it was started. */
  get seconds(): number {
    return (performance.now() - this.startedAt) / 1000;
  }

  /**
   * Waits for `pattern` in the output after the last match, and resolves with the seconds from the start to it.
   * Rejects, with the end of the output, when the child ends first or `timeout` seconds pass.
   */
  async until(pattern: string | RegExp, timeout = 60): Promise<number> {
    const deadline = this.seconds + timeout;
    const timer = setTimeout(() => this.wake(), timeout * 1000 + 1);
    try {
      for (;;) {
        const rest = this.output.slice(this.searched);
        const found = typeof pattern === 'string' ? rest.indexOf(pattern) : rest.search(pattern);
        if (found >= 0) {
          const length = typeof pattern === 'string' ? pattern.length : rest.match(pattern)![0].length;
          this.searched += found + length;
          return this.seconds;
        }
        const why = this.failure ?? (this.seconds >= deadline ? `took more than ${timeout} s` : undefined);
        if (why) throw new Error(`no ${pattern} from ${this.child.spawnfile}: it ${why}\n${this.output.slice(-2000)}`);
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Writes to its standard input. */
  send(text: string): void {
    this.child.stdin!.write(text);
  }

  usage(): Usage {
    return usageOf(this.child.pid ?? 0);
  }

  /** Stops it and its descendants where they are, until resume(). */
  pause(): void {
    this.signal('SIGSTOP');
  }

  resume(): void {
    this.signal('SIGCONT');
  }

  /** Waits for its end, `timeout` seconds at most; resolves with its exit code, or null when a signal ended it. */
  async exit(timeout = 60): Promise<number | null> {
    const late = AbortSignal.timeout(timeout * 1000);
    const gaveUp = new Promise<never>((_, reject) => {
      const why = `${this.child.spawnfile} did not end within ${timeout} s`;
      late.addEventListener('abort', () => reject(new Error(`${why}\n${this.output.slice(-2000)}`)));
    });
    await Promise.race([this.ended, gaveUp]);
    return this.child.exitCode;
  }

  /** Kills it and its descendants, and waits until it is gone. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended;
  }

  private signal(name: NodeJS.Signals): void {
    if (this.failure === undefined && this.child.pid !== undefined) process.kill(-this.child.pid, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** Seconds from the start of a process to a pattern on its output; then it is killed. */
export async function secondsUntil(
  command: string,
  args: readonly string[],
  pattern: string | RegExp,
  { timeout, ...options }: WatchOptions & { timeout?: number } = {},
): Promise<number> {
  await using child = new Watched(command, args, options);
  return await child.until(pattern, timeout);
}

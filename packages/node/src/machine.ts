/**
 * A machine, as programs use it. It runs in a thread of its own; what is here are its controls.
 *
 * In virtual time (the default) the machine runs while a call waits for it and stands still in between, exactly where the last
 * call ended: the same calls, one after the other, with the same seed, give the same machine every time. `run` lets it run on
 * its own.
 */

import type { Worker } from 'node:worker_threads';
import type { ExecExit } from '@braid/core/agent/client.ts';
import type { Position } from '@braid/core/machine/log.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { BraidError, fromRecord } from './errors.ts';
import { type AttachOptions, attachmentsOf, type CreateOptions, setupOf } from './options.ts';
import { OutputQueue, type Sink } from './output.ts';
import type { CallName, Calls, ConsoleDevice, Goal, Made, Report, Request, Spawn, Stats } from './protocol.ts';
import { startThread } from './thread.ts';

export interface WaitOptions {
  /** Ends the wait with the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface SpawnOptions extends WaitOptions {
  /** Added to the agent's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** All of the program's input, or `stream` for `stdin` of the handle. Without it the program reads nothing. */
  readonly input?: string | Uint8Array | 'stream';
  /** Gives the program a terminal of this size; all its output is then `stdout`. */
  readonly terminal?: { readonly columns: number; readonly rows: number };
}

export interface ExecOptions extends WaitOptions, Omit<SpawnOptions, 'input'> {
  readonly input?: string | Uint8Array;
  /** Called with output as it comes, which is then not collected. */
  readonly onStdout?: Sink;
  readonly onStderr?: Sink;
  /** Bytes of each stream that are collected, at most; by default 64 MiB. */
  readonly maxOutput?: number;
}

/** How a program ended. */
export interface ProgramExit {
  /** Its exit code, or 128 and the number of the signal that ended it. */
  readonly exitCode: number;
  readonly signal?: number;
  /** Steps of the machine from the request to the end. */
  readonly steps: bigint;
}

export interface ExecResult extends ProgramExit {
  readonly stdout: string;
  readonly stderr: string;
}

/** A program in the guest. */
export interface Program {
  readonly stdin: WritableStream<Uint8Array | string>;
  readonly stdout: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly stderr: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly exited: Promise<ProgramExit>;
  /** Sends a signal, by number, to its process group. */
  kill(signal?: number): void;
  /** Changes the size of its terminal. */
  resize(columns: number, rows: number): void;
}

export interface MachineEvents {
  /** The machine is over. */
  exit: Exit;
  /** The guest's kernel said that it panicked. */
  panic: string;
  /** Every hart waits, and nothing in the machine will wake one. */
  halt: undefined;
}

export interface SavedMachine {
  readonly version: 1;
  readonly console: ConsoleDevice;
  readonly machine: unknown;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

interface Outputs {
  readonly stdout: OutputQueue;
  readonly stderr: OutputQueue;
}

const MAX_OUTPUT = 64 * 2 ** 20;
/** Console output that is kept while nobody reads it. */
const CONSOLE_KEPT = 64 * 1024;
const DISPOSE_MS = 10_000;

export class Machine implements AsyncDisposable {
  readonly seed: bigint;
  readonly memory: number;
  readonly harts: number;
  /** Whether the program has a signature (`signature`). */
  readonly hasSignature: boolean;
  /** The guest's console. */
  readonly console: {
    readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
    readonly writable: WritableStream<Uint8Array | string>;
  };
  private readonly link: Link;

  private constructor(link: Link, made: Made) {
    this.link = link;
    this.seed = made.seed;
    this.memory = made.memory;
    this.harts = made.harts;
    this.hasSignature = made.hasSignature;
    const { console } = link;
    const writable = new WritableStream<Uint8Array | string>({ write: (chunk) => this.type(chunk) });
    this.console = {
      get readable() {
        return console.readable;
      },
      writable,
    };
  }

  /** Makes a machine; it stands still at power-on. */
  static async create(options: CreateOptions = {}): Promise<Machine> {
    const link = new Link(startThread());
    try {
      const setup = await setupOf(options);
      const read = [options.kernel ?? '', options.initrd ?? '', options.firmware, options.bare];
      // Files that were read here have no other use: they move to the thread.
      if (read.every((file) => !(file instanceof Uint8Array))) link.transfer(Object.values(setup.boot ?? {}));
      return new Machine(link, await link.call('create', setup));
    } catch (error) {
      await link.terminate();
      throw error;
    }
  }

  /** Makes a machine from a saved one. Its disks are attached again, in the same order. */
  static async restore(saved: SavedMachine, options: AttachOptions = {}): Promise<Machine> {
    const link = new Link(startThread());
    try {
      const setup = {
        state: saved,
        memory: 0,
        harts: 1,
        seed: 0n,
        console: 'serial',
        ...attachmentsOf(options),
      } as const;
      return new Machine(link, await link.call('create', setup));
    } catch (error) {
      await link.terminate();
      throw error;
    }
  }

  /** Runs until the guest is up: its agent answers. */
  boot(options?: WaitOptions): Promise<void> {
    return this.link.call('boot', {}, options);
  }

  /** Lets the machine run, whether anybody waits or not, until `pause`. In virtual time its clock stands still while it is idle. */
  run(): Promise<void> {
    return this.link.call('run', {});
  }

  /** Stops the machine where it is; calls that wait go on with the next one that runs it. */
  pause(): Promise<Position> {
    return this.link.call('pause', {});
  }

  /** Makes exactly so many steps. */
  step(steps: bigint | number = 1n, options?: WaitOptions): Promise<Position> {
    return this.link.call('step', { steps: BigInt(steps) }, options);
  }

  /** Runs until the goal is reached; where that was. */
  runUntil(goal: Goal, options?: WaitOptions): Promise<Position> {
    return this.link.call('runUntil', goal, options);
  }

  /** Runs until the machine ends. `live`: somebody may still type, so a guest that only waits for it has not halted. */
  wait(options: WaitOptions & { readonly live?: boolean; readonly passive?: boolean } = {}): Promise<Exit> {
    const { signal, ...args } = options;
    return this.link.call('wait', args, signal ? { signal } : {});
  }

  /** Runs a program to its end and collects its output. */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const { onStdout, onStderr, maxOutput = MAX_OUTPUT, ...rest } = options;
    const limit = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, limit.signal]) : limit.signal;
    const collected: Record<'stdout' | 'stderr', Uint8Array[]> = { stdout: [], stderr: [] };
    const collect = (name: 'stdout' | 'stderr'): Sink => {
      let total = 0;
      return (bytes) => {
        total += bytes.length;
        if (total <= maxOutput) collected[name].push(bytes);
        else {
          const why = `${argv[0]} wrote more than ${maxOutput} bytes to its ${name}; give maxOutput, or take it as it comes`;
          limit.abort(new BraidError('ERR_BRAID_OUTPUT_LIMIT', why));
        }
      };
    };
    const { outputs, exited } = this.start(argv, { ...rest, signal });
    outputs.stdout.to(onStdout ?? collect('stdout'));
    outputs.stderr.to(onStderr ?? collect('stderr'));
    const exit = await exited;
    const text = (name: 'stdout' | 'stderr') => Buffer.concat(collected[name]).toString();
    return { ...exit, stdout: text('stdout'), stderr: text('stderr') };
  }

  /** Starts a program. Its output has to be read: unread, it holds the machine up. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): Program {
    const { id, outputs, exited } = this.start(argv, options);
    const send = (bytes: Uint8Array | undefined) => this.link.input(id, bytes);
    return {
      stdin: new WritableStream({ write: (chunk) => send(bytesOf(chunk)), close: () => send(undefined) }),
      stdout: outputs.stdout.readable,
      stderr: outputs.stderr.readable,
      exited,
      kill: (signal = 15) => this.link.post({ type: 'signal', id, signal }),
      resize: (columns, rows) => this.link.post({ type: 'terminal', id, rows, cols: columns }),
    };
  }

  private start(argv: readonly string[], options: SpawnOptions) {
    const { env, cwd, input, terminal, signal } = options;
    const request: Spawn = {
      argv: [...argv],
      ...(env === undefined ? {} : { env: Object.entries(env).map(([name, value]) => `${name}=${value}`) }),
      ...(cwd === undefined ? {} : { cwd }),
      ...(input === undefined ? {} : { input: input === 'stream' ? input : bytesOf(input) }),
      ...(terminal === undefined ? {} : { terminal: { rows: terminal.rows, cols: terminal.columns } }),
    };
    return this.link.spawn(request, signal ? { signal } : {});
  }

  readFile(path: string, options: WaitOptions & { readonly limit?: number } = {}): Promise<Uint8Array> {
    const { limit, ...wait } = options;
    return this.link.call('readFile', { path, ...(limit === undefined ? {} : { limit }) }, wait);
  }

  writeFile(path: string, content: Uint8Array | string, options?: WaitOptions): Promise<void> {
    return this.link.call('writeFile', { path, bytes: bytesOf(content) }, options);
  }

  /** Asks the guest to power off, through its agent, and waits until it has. */
  shutdown(options: WaitOptions & { readonly mode?: 'powerdown' | 'reboot' | 'halt' } = {}): Promise<Exit> {
    const { mode = 'powerdown', ...wait } = options;
    return this.link.call('shutdown', { mode }, wait);
  }

  /** Types on the console; resolves when there is room for more. */
  type(input: Uint8Array | string): Promise<void> {
    return this.link.type(bytesOf(input));
  }

  /** Nobody will type any more: a guest that only waits for input has halted. */
  endInput(): void {
    this.link.post({ type: 'input-end' });
  }

  /** Tells the guest the size of its console (the virtio console: a serial line has none). */
  resize(columns: number, rows: number): void {
    this.link.post({ type: 'resize', columns, rows });
  }

  /** Has the console's output go to a function instead of `console.readable`. */
  onConsole(sink: Sink): void {
    this.link.console.to(sink);
  }

  /** The machine as plain data, for `restore` or `encodeState`. Disks are not part of it. */
  save(): Promise<SavedMachine> {
    return this.link.call('save', {}) as Promise<SavedMachine>;
  }

  /** A hash of everything that the guest can see. */
  stateHash(): Promise<string> {
    return this.link.call('stateHash', {});
  }

  stats(): Promise<Stats> {
    return this.link.call('stats', {});
  }

  /** What a bare program left between `begin_signature` and `end_signature`. */
  signature(): Promise<Uint8Array> {
    return this.link.call('signature', {});
  }

  /** Listens to an event; the result ends that. */
  on<K extends keyof MachineEvents>(event: K, listener: (detail: MachineEvents[K]) => void): () => void {
    return this.link.on(event, listener as (detail: unknown) => void);
  }

  /** Ends the machine, as it stands, and its thread. What the guest has written to disks is flushed. */
  async dispose(): Promise<void> {
    await this.link.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === 'string' ? new TextEncoder().encode(data) : data.slice();
}

/** The main thread's end of the worker: requests in batches, answers to whom they belong. */
class Link {
  readonly console: OutputQueue;
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private readonly programs = new Map<number, Outputs>();
  private readonly listeners = new Map<string, Set<(detail: unknown) => void>>();
  private outbox: Request[] = [];
  private moving: ArrayBuffer[] = [];
  private counter = 0;
  private taken = 0;
  /** Runs by itself: keeps the process alive. */
  private free = false;
  private closed: BraidError | undefined;
  private disposing: Promise<void> | undefined;

  constructor(worker: Worker) {
    this.worker = worker;
    this.console = new OutputQueue((bytes) => this.acknowledge(bytes), CONSOLE_KEPT);
    worker.on('message', (report: Report) => this.receive(report));
    worker.on('error', (error) => {
      this.close(new BraidError('ERR_BRAID_WORKER', `the machine's thread failed: ${error.message}`, { cause: error }));
    });
    worker.on('exit', () => this.close(new BraidError('ERR_BRAID_WORKER', "the machine's thread has ended")));
    worker.unref();
  }

  post(request: Request): void {
    if (this.closed) return;
    if (this.outbox.length === 0) queueMicrotask(() => this.send());
    this.outbox.push(request);
  }

  /** With the next batch, arrays among `values` move instead of being copied. */
  transfer(values: readonly unknown[]): void {
    for (const value of values) {
      if (
        value instanceof Uint8Array &&
        value.buffer instanceof ArrayBuffer &&
        value.length === value.buffer.byteLength
      ) {
        this.moving.push(value.buffer);
      }
    }
  }

  private send(): void {
    if (this.closed) return;
    if (this.taken > 0) this.outbox.unshift({ type: 'taken', bytes: this.taken });
    this.taken = 0;
    this.worker.postMessage(this.outbox, this.moving);
    this.moving = [];
    this.outbox = [];
  }

  private acknowledge(bytes: number): void {
    // Few messages: the rest goes with the next one.
    this.taken += bytes;
    if (this.taken >= 64 * 1024) this.post({ type: 'taken', bytes: 0 });
  }

  call<K extends CallName>(name: K, args: Calls[K][0], options: WaitOptions = {}): Promise<Calls[K][1]> {
    if (name === 'run') this.free = true;
    if (name === 'pause') this.free = false;
    return this.wait(options, (id) => ({ type: 'call', id, name, args }) as Request).promise as Promise<Calls[K][1]>;
  }

  type(bytes: Uint8Array): Promise<void> {
    return this.wait({}, (reply) => ({ type: 'console', bytes, reply })).promise as Promise<void>;
  }

  input(program: number, bytes: Uint8Array | undefined): Promise<void> {
    return this.wait({}, (reply) => ({ type: 'input', id: program, bytes, reply })).promise as Promise<void>;
  }

  spawn(args: Spawn, options: WaitOptions): { id: number; outputs: Outputs; exited: Promise<ProgramExit> } {
    const outputs: Outputs = {
      stdout: new OutputQueue((bytes) => this.acknowledge(bytes)),
      stderr: new OutputQueue((bytes) => this.acknowledge(bytes)),
    };
    const { id, promise } = this.wait(options, (id) => ({ type: 'call', id, name: 'spawn', args }));
    this.programs.set(id, outputs);
    const exited = promise.finally(() => {
      this.programs.delete(id);
      outputs.stdout.end();
      outputs.stderr.end();
    }) as Promise<ExecExit & { steps: bigint }>;
    const exit = exited.then(({ code, signal, steps }) => ({
      exitCode: signal === undefined ? code! : 128 + signal,
      ...(signal === undefined ? {} : { signal }),
      steps,
    }));
    exit.catch(() => {}); // whoever looks at it hears of it
    return { id, outputs, exited: exit };
  }

  private wait({ signal }: WaitOptions, request: (id: number) => Request): { id: number; promise: Promise<unknown> } {
    const id = ++this.counter;
    const promise = new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      if (this.closed) return reject(this.closed);
      const aborted = () => {
        this.post({ type: 'cancel', id });
        this.settle(id)?.reject(signal!.reason);
      };
      signal?.addEventListener('abort', aborted, { once: true });
      const done = () => signal?.removeEventListener('abort', aborted);
      this.pending.set(id, {
        resolve: (value) => {
          done();
          resolve(value);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      });
      this.keepAlive();
      this.post(request(id));
    });
    return { id, promise };
  }

  private settle(id: number): Pending | undefined {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    this.keepAlive();
    return pending;
  }

  private keepAlive(): void {
    if (this.pending.size > 0 || this.free) this.worker.ref();
    else this.worker.unref();
  }

  private receive(report: Report): void {
    switch (report.type) {
      case 'result':
        return this.settle(report.id)?.resolve(report.value);
      case 'error':
        return this.settle(report.id)?.reject(fromRecord(report.error));
      case 'console':
        return this.console.push(report.bytes);
      case 'output': {
        const outputs = this.programs.get(report.id);
        if (outputs) outputs[report.stream].push(report.bytes);
        else this.acknowledge(report.bytes.length);
        return;
      }
      case 'exit':
        this.free = false;
        this.keepAlive();
        this.console.end();
        return this.emit('exit', report.exit);
      case 'panic':
        return this.emit('panic', report.message);
      case 'halt':
        return this.emit('halt', undefined);
    }
  }

  on(event: string, listener: (detail: unknown) => void): () => void {
    let listeners = this.listeners.get(event);
    if (!listeners) {
      listeners = new Set();
      this.listeners.set(event, listeners);
    }
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  private emit(event: string, detail: unknown): void {
    for (const listener of [...(this.listeners.get(event) ?? [])]) listener(detail);
  }

  private close(error: BraidError): void {
    this.closed ??= error;
    for (const id of [...this.pending.keys()]) this.settle(id)?.reject(this.closed);
    this.console.end();
  }

  dispose(): Promise<void> {
    this.disposing ??= this.shutDown();
    return this.disposing;
  }

  private async shutDown(): Promise<void> {
    if (this.closed) return;
    const limit = AbortSignal.timeout(DISPOSE_MS);
    const disposed = this.call('dispose', {}, { signal: limit });
    this.free = false;
    try {
      await disposed;
    } finally {
      await this.terminate();
    }
  }

  async terminate(): Promise<void> {
    this.close(new BraidError('ERR_BRAID_DISPOSED', 'the machine has been disposed of'));
    await this.worker.terminate();
  }
}

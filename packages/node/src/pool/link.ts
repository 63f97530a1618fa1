/** The main thread's end of a machine: requests in batches, answers to whom they belong, wherever in the pool the machine is. */

import type { ExecExit } from '@braid/core/agent/client.ts';
import { BraidError, fromRecord } from '../errors.ts';
import { tell, warn } from '../listeners.ts';
import { OutputQueue } from '../output.ts';
import type { ProgramKey } from '../runner/conditions.ts';
import type { CallName, Calls, LeftDisk, Report, Request, Spawn } from './protocol.ts';

export interface WaitOptions {
  /** Ends the wait with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** How a program ended. */
export interface ProgramExit {
  /** Its exit code, or 128 and the number of the signal that ended it. */
  readonly exitCode: number;
  readonly signal?: number;
  /** Steps of the machine from the request to the end. */
  readonly steps: bigint;
}

/** The thread that a machine is in. */
export interface Place {
  send(machine: number, requests: readonly Request[], transfer: ArrayBuffer[]): void;
  /** Whether somebody waits for the machine, which keeps the process alive; `standing`: it stands still all the same. */
  busy(machine: number, busy: boolean, standing?: boolean): void;
  /** The machine is gone for good. */
  gone(machine: number): void;
  /** Disks are being written for a machine, or not any more: that is no reason to give the thread up. */
  writing(machine: number, writing: boolean): void;
  /** It has not answered for long: ends the thread with all its machines, unless it writes disks. */
  giveUp(): void;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export interface ProgramOutputs {
  readonly stdout: OutputQueue;
  readonly stderr: OutputQueue;
}

/** Console output that is kept while nobody reads it. */
const CONSOLE_KEPT = 64 * 1024;
/** How long a thread may take to begin with the end of a machine. Runs take milliseconds, the longest looks at a state seconds. */
const ANSWER_MS = 5000;
/** Calls that make a machine run, besides `spawn`. */
const RUNNING: ReadonlySet<CallName> = new Set([
  'boot',
  'run',
  'step',
  'runUntil',
  'readFile',
  'writeFile',
  'reseed',
  'killAll',
  'shutdown',
  'wait',
  'complete',
]);

export class Link {
  readonly id: number;
  readonly console: OutputQueue;
  private place: Place;
  private readonly pending = new Map<number, Pending>();
  private readonly programs = new Map<number, ProgramOutputs>();
  private readonly listeners = new Map<string, Set<(detail: unknown) => void>>();
  private outbox: Request[] = [];
  private transfers: ArrayBuffer[] = [];
  private counter = 0;
  private taken = 0;
  /** Runs by itself. */
  private free = false;
  /** The call for which disks are being written. */
  private writing: number | undefined;
  private held = false;
  /** Stands still until `resume` or a call that runs it, whoever waits. */
  private standing = false;
  /** Asked when the machine is about to run again after it stood still: it may be moved then. */
  onActivate: (() => void) | undefined;
  /** Told when the machine has been moved. */
  onMoved: (() => void) | undefined;
  /** Whether the machine has been made, so that it can be moved. */
  made = false;
  private closed: BraidError | undefined;
  private disposing: Promise<readonly LeftDisk[]> | undefined;

  /** `id` is the machine's number in its pool. */
  constructor(id: number, place: Place) {
    this.id = id;
    this.place = place;
    this.console = new OutputQueue((bytes) => this.acknowledge(bytes), CONSOLE_KEPT);
  }

  /** Whether somebody waits for the machine, or it runs on its own. */
  get active(): boolean {
    return this.pending.size > 0 || this.free;
  }

  /** From now on the machine is somewhere else. */
  moveTo(place: Place): void {
    this.place.busy(this.id, false);
    this.place = place;
    this.tellPlace();
  }

  /** Keeps requests back while the machine is under way between two places; but for those of `callNow`. */
  hold(held: boolean): void {
    this.held = held;
    this.send();
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
        this.transfers.push(value.buffer);
      }
    }
  }

  private send(now = false): void {
    if (this.closed || (this.held && !now) || this.outbox.length === 0) return;
    if (this.taken > 0) this.outbox.unshift({ type: 'taken', bytes: this.taken });
    this.taken = 0;
    const requests = this.outbox;
    const { transfers } = this;
    this.transfers = [];
    this.outbox = [];
    try {
      this.place.send(this.id, requests, transfers);
    } catch {
      // One of them holds what no thread can be sent: only that one fails.
      for (const request of requests) this.sendAlone(request);
    }
  }

  private sendAlone(request: Request): void {
    try {
      this.place.send(this.id, [request], []);
    } catch (error) {
      const why = `what the call was given cannot be sent to the machine's thread: ${(error as Error).message}`;
      const id = 'reply' in request ? request.reply : 'id' in request ? request.id : undefined;
      if (typeof id === 'number') this.settle(id)?.reject(new BraidError('ERR_BRAID_OPTION', why, { cause: error }));
    }
  }

  private acknowledge(bytes: number): void {
    // Few messages: the rest goes with the next one.
    this.taken += bytes;
    if (this.taken >= 64 * 1024) this.post({ type: 'taken', bytes: 0 });
  }

  call<K extends CallName>(name: K, args: Calls[K][0], options: WaitOptions = {}): Promise<Calls[K][1]> {
    if (name === 'pause') this.free = false;
    const runs = RUNNING.has(name) && !('standing' in args);
    if (runs && !this.active) this.onActivate?.();
    if (runs || name === 'resume') this.standing = false;
    if (name === 'run') this.free = true;
    const { promise } = this.wait(options, (id) => ({ type: 'call', id, name, args }) as Request);
    if (name === 'pause' || ('hold' in args && args.hold)) promise.then(() => this.stand()).catch(() => {});
    return promise as Promise<Calls[K][1]>;
  }

  private stand(): void {
    this.standing = true;
    this.tellPlace();
  }

  /** A call that no hold keeps back. What has been asked before goes first, unless it is held. */
  callNow<K extends CallName>(name: K, args: Calls[K][0]): Promise<Calls[K][1]> {
    this.send();
    const before = this.outbox;
    this.outbox = [];
    const answer = this.call(name, args);
    this.send(true);
    this.outbox = before;
    return answer;
  }

  type(bytes: Uint8Array, more = false): Promise<void> {
    return this.wait({}, (reply) => ({ type: 'console', bytes, more, reply })).promise as Promise<void>;
  }

  input(program: ProgramKey, bytes: Uint8Array | undefined): Promise<void> {
    return this.wait({}, (reply) => ({ type: 'input', id: program, bytes, reply })).promise as Promise<void>;
  }

  spawn(args: Spawn, options: WaitOptions): { id: number; outputs: ProgramOutputs; exited: Promise<ProgramExit> } {
    const outputs: ProgramOutputs = {
      stdout: new OutputQueue((bytes) => this.acknowledge(bytes)),
      stderr: new OutputQueue((bytes) => this.acknowledge(bytes)),
    };
    if (!this.active) this.onActivate?.();
    this.standing = false;
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
      this.tellPlace();
      this.post(request(id));
    });
    return { id, promise };
  }

  private settle(id: number): Pending | undefined {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    this.tellPlace();
    return pending;
  }

  private tellPlace(): void {
    this.place.busy(this.id, this.active, this.standing);
  }

  receive(report: Report): void {
    if ((report.type === 'result' || report.type === 'error') && report.id === this.writing) {
      this.writing = undefined;
      this.place.writing(this.id, false);
    }
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
        this.tellPlace();
        this.console.end();
        return this.emit('exit', report.exit);
      case 'panic':
        return this.emit('panic', report.message);
      case 'halt':
        return this.emit('halt', undefined);
      case 'writing':
        this.writing = report.id;
        return this.place.writing(this.id, true);
      case 'progress':
        return this.emit('progress', report);
      case 'hooked':
        return this.emit('hooked', report.hit);
      case 'overheard':
        return this.emit('overheard', report);
      case 'replay-only':
        return this.emit('replay-only', report.run);
      case 'recorded':
        return this.emit('recorded', report.item);
      case 'hint':
        if (report.hint.kind === 'mark') this.emit('mark', report.hint.name);
        return this.emit('hint', report.hint);
      case 'lost':
        return this.close(fromRecord(report.error));
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
    const failed = event === 'error' ? warn : (error: unknown) => this.fault(error);
    for (const listener of [...(this.listeners.get(event) ?? [])]) tell(listener, detail, failed);
  }

  /** A function of the caller's has failed for which no call waits: `error` is told, or there is a warning. */
  fault(error: unknown): void {
    if (this.listeners.get('error')?.size) this.emit('error', error);
    else warn(error);
  }

  /** The machine is not there any more, for this reason: all calls fail with it. */
  close(error: BraidError): void {
    if (this.closed) return;
    this.closed = error;
    this.free = false;
    for (const id of [...this.pending.keys()]) this.settle(id)?.reject(error);
    this.console.end();
    this.place.gone(this.id);
    this.emit('closed', error);
  }

  /**
   * Ends the machine; and its thread, with whatever else runs there, if it does not answer for `ANSWER_MS`: the call rejects with
   * `ERR_BRAID_WORKER` then, as do all others that wait for a machine of the thread. Resolves when what it wrote to its disks is safe: `frozen`, while others read the images, with what is needed to
   * bring these up to date.
   */
  dispose(frozen = false): Promise<readonly LeftDisk[]> {
    this.disposing ??= this.end(frozen);
    return this.disposing;
  }

  private async end(frozen: boolean): Promise<readonly LeftDisk[]> {
    if (this.closed) return [];
    this.free = false;
    const patience = setInterval(() => this.place.giveUp(), ANSWER_MS);
    try {
      return await this.call('dispose', { frozen });
    } finally {
      clearInterval(patience);
      this.close(new BraidError('ERR_BRAID_DISPOSED', 'the machine has been disposed of'));
    }
  }
}

/**
 * A pool: the memory that a machine and its forks live in, and the threads that run them, one a core. A thread runs its machines by
 * turns; a machine that stood still is moved from a busy thread to an idle one before it runs again.
 *
 * A machine in which an unexpected error is thrown ends alone. A thread that dies takes its machines along, and says so to whoever waits for
 * one of them; the others go on.
 */

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type ForkPoint, freeForkPoint, shareForkPoint } from '@braid/core/branch/fork-point.ts';
import { argument } from '@braid/core/check/calls.ts';
import { integer, optional, record } from '@braid/core/check/schema.ts';
import type { PortableModule } from '@braid/core/engine/translator/installer.ts';
import { MAX_WORKERS, PAGE } from '@braid/core/memory/layout.ts';
import { Pool as Frames } from '@braid/core/memory/pool.ts';
import { requireArguments } from '../check.ts';
import { BraidError } from '../errors.ts';
import { Link, type Place } from './link.ts';
import type { Arrival, FromWorker, Holdings, Made, Request, ToWorker, WorkerStart } from './protocol.ts';

/** The engine makes little garbage: a small nursery saves 4 MiB of resident memory. */
const LIMITS = { maxYoungGenerationSizeMb: 4 };
/** Bytes of translations kept for threads that are started later. */
const MODULES_KEPT = 32 * 2 ** 20;

export interface PoolOptions {
  /** Bytes that all machines of the pool may hold together, in frames of 4 KiB; what fits into 4 GiB by default. */
  readonly memory?: number;
  /** Threads that run machines, at most; one a core by default. */
  readonly threads?: number;
}

const POOL_ARGUMENTS = [
  argument(
    'options',
    optional(record<PoolOptions>({ memory: optional(integer(2 ** 24)), threads: optional(integer(1)) })),
  ),
] as const;

interface KeptPoint {
  readonly point: ForkPoint;
  /** Threads that have been told of it. */
  readonly known: Set<Thread>;
  retired: boolean;
}

/** A thread of the pool. */
class Thread implements Place {
  readonly area: number;
  readonly machines = new Set<number>();
  readonly worker: Worker;
  private readonly posted: Int32Array;
  private readonly working = new Set<number>();
  /** Of these, those that stand still whoever waits. */
  private readonly standing = new Set<number>();
  /** Machines whose disks are being written. */
  private readonly writers = new Set<number>();
  /** It was ended because it did not answer. */
  gaveUp = false;
  private readonly ended: (machine: number) => void;
  private rootsWanted: ((holdings: Holdings) => void) | undefined;

  constructor(start: WorkerStart, ended: (machine: number) => void) {
    this.area = start.area;
    this.posted = start.posted;
    this.ended = ended;
    this.worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData: start, resourceLimits: LIMITS });
  }

  /** How many of its machines want to run. */
  get load(): number {
    return this.working.size - this.standing.size;
  }

  post(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    Atomics.add(this.posted, 0, 1);
    this.worker.postMessage(message, transfer);
  }

  send(machine: number, requests: readonly Request[], transfer: ArrayBuffer[]): void {
    this.post({ machine, requests }, transfer);
  }

  busy(machine: number, busy: boolean, standing = false): void {
    if (busy) this.working.add(machine);
    else this.working.delete(machine);
    if (busy && standing) this.standing.add(machine);
    else this.standing.delete(machine);
    if (this.working.size > 0) this.worker.ref();
    else this.worker.unref();
  }

  writing(machine: number, writing: boolean): void {
    if (writing) this.writers.add(machine);
    else this.writers.delete(machine);
  }

  giveUp(): void {
    if (this.writers.size > 0 || this.gaveUp) return;
    this.gaveUp = true;
    void this.worker.terminate();
  }

  gone(machine: number): void {
    this.busy(machine, false);
    this.writers.delete(machine);
    this.machines.delete(machine);
    this.ended(machine);
  }

  /** Has the thread say what it holds, and stand still until the first word of `gate` changes. None if it dies meanwhile. */
  quiesce(gate: Int32Array): Promise<Holdings> {
    return new Promise((resolve) => {
      this.rootsWanted = resolve;
      this.worker.ref();
      this.post({ gate });
    });
  }

  holds(holdings: Holdings): void {
    this.rootsWanted?.(holdings);
    this.rootsWanted = undefined;
    this.busy(-1, false);
  }
}

export class Pool implements AsyncDisposable {
  private readonly frames: Frames;
  private readonly limit: number;
  private readonly threads = new Set<Thread>();
  private readonly links = new Map<number, { readonly link: Link; thread: Thread }>();
  /** Fork points that are in nobody's hands but the main thread's. */
  private readonly points = new Set<ForkPoint>();
  private readonly kept = new Map<number, KeptPoint>();
  private modules: PortableModule[] = [];
  private counter = 0;
  private recovering: Promise<void> = Promise.resolve();
  private disposed = false;

  constructor(options: PoolOptions = {}) {
    requireArguments(POOL_ARGUMENTS, options);
    const { memory, threads = availableParallelism() } = options;
    this.limit = Math.min(threads, MAX_WORKERS);
    this.frames = new Frames(memory === undefined ? undefined : Math.floor(memory / PAGE));
    this.startThread();
  }

  /** Frames of 4 KiB that its machines hold, and how many they may. */
  get memory(): { readonly used: number; readonly limit: number } {
    return { used: this.frames.used, limit: this.frames.limit };
  }

  /** Threads that it may have. */
  get threadLimit(): number {
    return this.limit;
  }

  /** The frames themselves, to look at. @internal */
  get view(): Frames {
    return this.frames;
  }

  /** Starts all threads that the pool may have; otherwise each is started when there is something for it to do. */
  warmUp(): void {
    while (this.threads.size < this.limit) this.startThread();
  }

  private startThread(): Thread {
    const used = new Set([...this.threads].map((thread) => thread.area));
    let area = 0;
    while (used.has(area)) area++;
    const posted = new Int32Array(new SharedArrayBuffer(4));
    const thread = new Thread({ memory: this.frames.memory, area, posted }, (machine) => this.links.delete(machine));
    let failure: Error | undefined;
    thread.worker.on('message', (message: FromWorker) => this.receive(thread, message));
    thread.worker.on('error', (error) => {
      failure = error as Error;
    });
    thread.worker.on('exit', () => this.died(thread, failure));
    // Only then: to listen keeps the process alive.
    thread.worker.unref();
    this.threads.add(thread);
    for (const module of this.modules) thread.post({ module });
    return thread;
  }

  private receive(from: Thread, message: FromWorker): void {
    if ('report' in message) {
      this.links.get(message.machine)?.link.receive(message.report);
      if (message.report.type === 'lost') this.recovering = this.recovering.then(() => this.recover());
    } else if ('module' in message) this.share(from, message.module);
    else from.holds(message);
  }

  /** Hands a translation to all other threads. */
  private share(from: Thread, module: PortableModule): void {
    this.modules.push(module);
    let bytes = this.modules.reduce((sum, one) => sum + one.bytes, 0);
    while (bytes > MODULES_KEPT) bytes -= this.modules.shift()!.bytes;
    for (const thread of this.threads) if (thread !== from) thread.post({ module });
  }

  /** A link to a machine to come, in the thread with least to do. */
  link(): Link {
    return this.linkIn(this.idlest());
  }

  /** Links to machines to come, one in each thread but that of another machine. */
  linksBeside(link: Link): Link[] {
    this.warmUp();
    const own = this.links.get(link.id)?.thread;
    return [...this.threads].filter((thread) => thread !== own).map((thread) => this.linkIn(thread));
  }

  private linkIn(thread: Thread): Link {
    if (this.disposed) throw new BraidError('ERR_BRAID_DISPOSED', 'the pool has been disposed of');
    const link = new Link(++this.counter, thread);
    thread.machines.add(link.id);
    this.links.set(link.id, { link, thread });
    link.onActivate = () => this.activate(link);
    return link;
  }

  private idlest(): Thread {
    if (this.threads.size === 0) return this.startThread();
    const weight = (thread: Thread) => thread.load * 1000 + thread.machines.size;
    const best = [...this.threads].reduce((a, b) => (weight(b) < weight(a) ? b : a));
    return best.machines.size > 0 && this.threads.size < this.limit ? this.startThread() : best;
  }

  /** A machine that stands still is to run: in an idle thread, if its own is busy with others. */
  private activate(link: Link): void {
    const entry = this.links.get(link.id);
    if (!entry || !link.made || entry.thread.load === 0) return;
    const idle = [...this.threads].find((thread) => thread.load === 0);
    if (idle) this.move(link, idle).catch(() => {}); // whoever waits for the machine hears of it
  }

  private async move(link: Link, to: Thread): Promise<void> {
    const entry = this.links.get(link.id)!;
    const leaving = link.callNow('leave', { for: 'move' });
    link.hold(true);
    try {
      const departed = this.hold(await leaving);
      entry.thread.machines.delete(link.id);
      entry.thread = to;
      to.machines.add(link.id);
      link.moveTo(to);
      await this.arrive(link, { ...departed, clone: false });
      link.onMoved?.();
    } finally {
      link.hold(false);
    }
  }

  /** Makes the machine of a link from a fork point, which is used up. */
  async arrive(link: Link, arrival: Arrival): Promise<Made> {
    try {
      const made = await link.callNow('arrive', arrival);
      link.made = true;
      return made;
    } finally {
      this.points.delete(arrival.point);
    }
  }

  /** Notes that a fork point has come out of a thread, until it has gone into one. */
  hold<T extends { readonly point: ForkPoint }>(with_: T): T {
    this.points.add(with_.point);
    return with_;
  }

  release(point: ForkPoint): void {
    this.points.delete(point);
  }

  // Fork points that are kept: the main thread holds them, threads know them by their numbers.

  keep(point: ForkPoint): number {
    const id = ++this.counter;
    this.kept.set(id, { point, known: new Set(), retired: false });
    return id;
  }

  /** Whether a machine's thread knows a point; from now on it does. */
  knows(link: Link, id: number): boolean {
    const { known } = this.point(id);
    const { thread } = this.links.get(link.id)!;
    if (known.has(thread)) return true;
    known.add(thread);
    return false;
  }

  /** Another fork point of the same state, to be used up. */
  copy(id: number): ForkPoint {
    return shareForkPoint(this.frames, this.point(id).point);
  }

  /** Nobody begins to use a point any more. */
  retire(id: number): void {
    const kept = this.kept.get(id);
    if (kept) kept.retired = true;
  }

  forget(id: number): void {
    const kept = this.kept.get(id);
    if (!kept) return;
    this.kept.delete(id);
    for (const thread of kept.known) thread.post({ forget: id });
    freeForkPoint(this.frames, kept.point);
  }

  private point(id: number): KeptPoint {
    const kept = this.kept.get(id);
    if (!kept || kept.retired) throw new BraidError('ERR_BRAID_OPTION', 'the fork point has been disposed of');
    return kept;
  }

  private died(thread: Thread, failure: Error | undefined): void {
    this.threads.delete(thread);
    thread.holds({ roots: [], frames: [] });
    if (this.disposed) return;
    const why = failure
      ? `failed: ${failure.message}`
      : thread.gaveUp
        ? 'did not answer and was ended; what the guest wrote last may not be on its disks'
        : 'has ended';
    const error = new BraidError('ERR_BRAID_WORKER', `the machine's thread ${why}`, failure ? { cause: failure } : {});
    for (const machine of [...thread.machines]) this.links.get(machine)?.link.close(error);
    this.recovering = this.recovering.then(() => this.recover());
  }

  /** After a thread's death: counts anew what the others hold, while they stand still, so that what it held is free again. */
  private async recover(): Promise<void> {
    const gate = new Int32Array(new SharedArrayBuffer(4));
    try {
      const all = await Promise.all([...this.threads].map((thread) => thread.quiesce(gate)));
      const held = [...this.points, ...[...this.kept.values()].map(({ point }) => point)];
      const under = held.flatMap(({ ram, disks }) => [...ram, ...disks.flatMap((disk) => disk ?? [])]);
      this.frames.rebuild(
        [...all.flatMap(({ roots }) => roots), ...under],
        all.flatMap(({ frames }) => frames),
      );
    } finally {
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
    }
  }

  /** Ends a thread as a fault would end it, for tests; the machines that go with it, by their numbers. */
  async killThread(n: number): Promise<readonly number[]> {
    const thread = [...this.threads][n];
    if (!thread) return [];
    const lost = [...thread.machines];
    await thread.worker.terminate();
    return lost;
  }

  /** Has a thread answer nobody any more, for tests. @internal */
  stallThread(n: number): void {
    [...this.threads][n]?.post({ gate: new Int32Array(new SharedArrayBuffer(4)) });
  }

  /** Resolves when nothing of a thread that has died is left. */
  async recovered(): Promise<void> {
    await this.recovering;
  }

  /** Ends all machines of the pool, and its threads. */
  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    const ends = await Promise.allSettled([...this.links.values()].map(({ link }) => link.dispose()));
    await Promise.all([...this.threads].map(({ worker }) => worker.terminate()));
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

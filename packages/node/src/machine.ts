/**
 * A machine, as programs use it. It runs in a thread of its own; what is here are its controls.
 *
 * In virtual time (the default) the machine runs while a call waits for it and stands still in between, exactly where the last
 * call ended: the same calls, one after the other, with the same seed, give the same machine every time. `run` lets it run on
 * its own.
 */

import type { Decision } from '@braid/core/branch/decision.ts';
import type { InputEvent, Position } from '@braid/core/machine/log.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { Branches, type BranchHost, type BranchOptions } from './branch/branches.ts';
import { type CopyOptions, copy, forgetMerges, type Merged, type MergeOptions, merge } from './branch/converge.ts';
import { type Decided, type DecideOptions, decide } from './branch/decide.ts';
import { heldOf, lineOf } from './branch/lineage.ts';
import { checked, instanceOf } from './check.ts';
import type { DiskStamp } from './disk/stamp.ts';
import { DiskUsers } from './disk/users.ts';
import { BraidError } from './errors.ts';
import type { ForkPoint } from './fork-point.ts';
import { Forks } from './forks.ts';
import type { GdbListener, GdbServeOptions } from './gdb/listener.ts';
import { serveGdb } from './gdb/serve.ts';
import { machineCalls, STATIC_CALLS } from './machine-calls.ts';
import {
  attachmentsOf,
  type CreateOptions,
  type DivertOptions,
  type ForkOptions,
  type RestoreOptions,
  setupOf,
} from './options.ts';
import { bytesOf, type Sink } from './output.ts';
import { type InputPieces, isPieces, PieceReader } from './pieces.ts';
import { Family } from './pool/family.ts';
import type { Link, WaitOptions } from './pool/link.ts';
import type { Pool } from './pool/pool.ts';
import type { Calls, ConsoleDevice, Goal, Made, Stats, TimeMode } from './pool/protocol.ts';
import { nextPool } from './pool/thread.ts';
import { type ExecOptions, type ExecResult, type Program, Programs, type SpawnOptions } from './programs.ts';
import { MachineRecording, type RecordMachineOptions } from './replay/machine-recording.ts';
import type { Conditions, ProgramKey, Reached } from './runner/conditions.ts';

export interface MachineEvents {
  /** The machine is over. */
  exit: Exit;
  /** The guest's kernel has panicked: what it said of it. */
  panic: string;
  /** Every hart waits, and nothing in the machine will wake one. */
  halt: undefined;
  /** A program has named this position (`braid_mark`), within the quota of the option `hints`. Print it with `escapeGuestText` only. */
  mark: string;
  /**
   * A listener, or the sink of the console, has thrown or rejected; with what. It ends nothing: a sink is not called again, a listener is.
   * Without a listener to this it is a warning of the process.
   */
  error: unknown;
}

export interface SavedMachine {
  readonly version: 2;
  readonly console: ConsoleDevice;
  /** By which its disks are recognised. */
  readonly disks: readonly DiskStamp[];
  readonly machine: unknown;
}

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
  /** The pool that the machine and its forks are in. */
  readonly pool: Pool;
  private readonly link: Link;
  private readonly family: Family;
  /** What it was forked from. */
  readonly parent: Machine | undefined;
  /** The machine that has become what this one was. */
  adoptedBy: Machine | undefined;
  private readonly programs: Programs;
  private readonly forks: Forks;
  private branching: Branches | undefined;
  private recording: MachineRecording | undefined;
  private recordingBegins = false;
  private disposing: Promise<void> | undefined;
  /** Of the images of its disks; the original's. */
  private readonly images: DiskUsers;
  /** Says that a clone does not need the images any more. */
  private readonly leaveImages: () => void;

  private constructor(family: Family, link: Link, made: Made, parent?: Machine) {
    this.family = family;
    this.pool = family.pool;
    this.link = link;
    this.parent = parent;
    const commit = made.writesDisks ? () => link.call('commit', {}) : undefined;
    this.images = parent?.images ?? new DiskUsers(commit);
    this.leaveImages = parent ? this.images.join() : () => {};
    this.programs = new Programs(this, link);
    const clone = (to: Link, of: Made) => new Machine(family, to, of, this);
    this.forks = new Forks({ pool: family.pool, link, images: this.images, clone });
    link.onMoved = () => this.images.moved();
    family.joined();
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
    return Machine.make(options.pool, async (link) => {
      const setup = await setupOf(options);
      const read = [options.kernel ?? '', options.initrd ?? '', options.firmware, options.bare];
      // Files that were read here have no other use: they move to the thread.
      if (read.every((file) => !(file instanceof Uint8Array))) link.transfer(Object.values(setup.boot ?? {}));
      return link.call('create', setup);
    });
  }

  /**
   * Makes a machine from a saved one. Its disks are attached again, in the same order. Throws `ERR_BRAID_STATE` for a disk that does not
   * hold what it held then: the guest would work on what it remembers, and damage it.
   */
  static async restore(saved: SavedMachine, options: RestoreOptions = {}): Promise<Machine> {
    const from = { state: saved, memory: 0, harts: 1, seed: 0n, console: 'serial' } as const;
    const { acceptChangedDisks = false } = options;
    const setup = { ...from, acceptChangedDisks, ...attachmentsOf(options) };
    return Machine.make(options.pool, async (link) => link.call('create', setup));
  }

  /** A machine that leaves a replay. @internal */
  static async divert(family: Family, replay: Link, options: DivertOptions): Promise<Machine> {
    const { pool } = family;
    const { seed, time = 'virtual', maxSteps } = options;
    const { point, host } = pool.hold(await replay.call('divert', {}));
    const link = pool.link();
    try {
      const setup = { ...host.setup, time, ...(maxSteps === undefined ? {} : { maxSteps: BigInt(maxSteps) }) };
      const inputs: InputEvent[] = seed === undefined ? [] : [{ kind: 'reseed', seed: BigInt(seed) }];
      const made = await pool.arrive(link, { point, host: { ...host, setup }, inputs, clone: false });
      return new Machine(family, link, made);
    } catch (error) {
      link.close(new BraidError('ERR_BRAID_DISPOSED', 'the machine was not made'));
      throw error;
    }
  }

  /** A machine in a pool that was given, or in one of its own. */
  private static async make(given: Pool | undefined, made: (link: Link) => Promise<Made>): Promise<Machine> {
    const family = new Family(given ?? nextPool(), given === undefined);
    const link = family.pool.link();
    try {
      const machine = new Machine(family, link, await made(link));
      link.made = true;
      return machine;
    } catch (error) {
      link.close(new BraidError('ERR_BRAID_DISPOSED', 'the machine was not made'));
      await family.left();
      throw error;
    }
  }

  // --- Forks

  /**
   * Makes `count` machines that are what this one is here and now, each with options of its own. They run beside it, in its pool; what they
   * send outside is theirs alone until one of them is adopted. For one that cannot be made the result is an error, and the others
   * are there all the same. The machine itself stands still for less than a millisecond.
   */
  async fork(
    count = 1,
    options: ForkOptions | ((index: number) => ForkOptions) = {},
  ): Promise<(Machine | BraidError)[]> {
    return this.forks.make(count, options);
  }

  /**
   * Has the other threads of the pool ready for clones of this machine: starts them, and lets each make some and run one for some
   * milliseconds, that nobody hears of. Takes a second or less. The first thirty clones take three times as long without it.
   */
  prepareForks(): Promise<void> {
    return this.forks.prepare();
  }

  /**
   * Runs to the fork point of a branch in a program's code; from there on clones go both ways ahead of the condition, in other threads, and
   * at the decision the machine takes over what the right one has come to, or goes the way itself. It stands there then, until the next
   * call that has it run: another `decide`, `resume`. See docs/decisions.md.
   */
  async decide(decision: Decision, options: DecideOptions = {}): Promise<Decided> {
    const leave = this.images.join();
    try {
      return await decide({ link: this.link, pool: this.pool }, decision, options);
    } finally {
      leave();
    }
  }

  /** The machine's state here and now, to be forked or come back to as often as one likes. It holds memory until it is disposed of. */
  forkPoint(): Promise<ForkPoint> {
    return this.forks.point();
  }

  /**
   * Back to a fork point of this machine, or of one that it has been forked from or has adopted: at a cost that follows from what was written
   * since. What the machine has sent since stays sent; calls that wait for what has not happened now fail.
   */
  async reset(point: ForkPoint): Promise<Position> {
    if (point.pool !== this.family.pool)
      throw new BraidError('ERR_BRAID_OPTION', 'the fork point is of another pool: its memory is not there');
    const position = await point.use(this.link, (known) => this.link.call('reset', known));
    if (this.branching) await this.branching.abandon();
    await forgetMerges(this);
    return position;
  }

  /**
   * Becomes a clone of itself, or a clone of such a clone: its state, disks and all, at the position where the clone stands. This
   * machine keeps its identity: the handle, the console's streams, programs that wait; and sends on what the clone, and those between
   * the two, have held back, in order. The clone's handle is over.
   */
  async adopt(clone: Machine): Promise<Position> {
    if (!lineOf<Machine>(clone, this))
      throw new BraidError('ERR_BRAID_OPTION', 'only a clone of this machine can be adopted');
    const branching = this.branching?.current;
    const branch = branching?.branches.find(({ machine }) => machine === clone);
    if (branching?.open && branch) return branching.adopt(branch.index);
    const { position } = await this.become(clone);
    if (this.branching) await this.branching.abandon();
    return position;
  }

  /** A hint that the clone waits with waits on, if the clone's branches are heard here. */
  private async become(clone: Machine): Promise<{ position: Position; waits: boolean }> {
    const line = lineOf<Machine>(clone, this)!;
    const { pool } = this.family;
    for (const one of [this, clone]) await forgetMerges(one);
    const { point, host, inputs, events } = pool.hold(await clone.link.call('leave', { for: 'adopt' }));
    try {
      const held = heldOf<Machine>(line, this, host);
      const hint = clone.branching ? undefined : host.hints.pending;
      const position = await this.link.call('adopt', { point, levels: line.length, held, inputs, events, hint });
      return { position, waits: hint !== undefined };
    } finally {
      pool.release(point);
      clone.adoptedBy = this;
      clone.leaveImages();
      clone.link.close(
        new BraidError('ERR_BRAID_ADOPTED', 'the machine has been adopted by its parent, and lives on there'),
      );
    }
  }

  /**
   * Has programs of the guest branch the machine (`braid.h`), within the quotas of the option `hints`: see docs/branching.md. One at a
   * time; `dispose` ends it.
   */
  async branches(options: BranchOptions = {}): Promise<Branches> {
    if (this.branching?.open) throw new BraidError('ERR_BRAID_OPTION', 'somebody hears of the branches already');
    this.branching = new Branches(this.branchHost(), options);
    await this.branching.begin();
    return this.branching;
  }

  /**
   * Merges what another machine has made of a common fork point, `base`, into this one, which may have gone on: files, ranges of processes'
   * memory, disks that nobody has mounted. See docs/branching.md.
   */
  merge(other: Machine, options: MergeOptions): Promise<Merged> {
    return merge({ machine: this, link: this.link }, other, options);
  }

  /** Puts files and ranges of processes' memory in place as another machine has them, whatever is here. */
  copy(other: Machine, options: CopyOptions): Promise<void> {
    return copy(this, other, options);
  }

  /** Lets gdb connect: while it is attached, the machine runs for its commands only. See docs/gdb.md. */
  gdb(options?: GdbServeOptions): Promise<GdbListener> {
    return serveGdb({ machine: this, link: this.link }, options);
  }

  private branchHost(): BranchHost {
    return {
      machine: this,
      link: this.link,
      become: (clone) => this.become(clone),
      fork: async (count, options, inputs) => {
        const made = await this.forks.make(count, options, inputs);
        return made.map((one) => (one instanceof Machine ? one.branchHost() : one));
      },
    };
  }

  /** Runs until the guest is up: its agent answers. */
  boot(options?: WaitOptions): Promise<void> {
    return this.link.call('boot', {}, options);
  }

  /**
   * Records the machine from here on: what comes from outside, and its state now and now and then. It goes on meanwhile, and a replay of the file
   * does all of it again, on any machine (`Replay`). Throws `BraidError` for a file that cannot be written.
   */
  async record(path: string, options: RecordMachineOptions = {}): Promise<MachineRecording> {
    if (this.recording || this.recordingBegins)
      throw new BraidError('ERR_BRAID_OPTION', 'the machine is being recorded already');
    this.recordingBegins = true;
    try {
      return await MachineRecording.begin(this.pool, this.link, path, options, (recording) => {
        this.recording = recording;
      });
    } finally {
      this.recordingBegins = false;
    }
  }

  /** How guest time goes from now on: `wall` for somebody who sits there, `virtual` for calls that wait. */
  setTime(time: TimeMode): Promise<void> {
    return this.link.call('setTime', { time });
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

  /**
   * Runs until one of the conditions holds: which, and where. For all that a clone may be run until, see `complete`. `hold`: the machine
   * stands still then, until `resume` or a call that runs it, even if others wait for it. `standing`: it stands still first, until `resume`.
   */
  runTo(
    conditions: Conditions,
    options: WaitOptions & { readonly hold?: boolean; readonly standing?: boolean } = {},
  ): Promise<Reached> {
    const { signal, ...how } = options;
    return this.link.call('complete', { conditions, ...how }, signal ? { signal } : {});
  }

  /** Ends a `hold`. */
  resume(): Promise<void> {
    return this.link.call('resume', {});
  }

  /** From now on notes what the console waits for, and what the answers are, in bounded memory: for `waits`. */
  watchWaits(options: Calls['watchWaits'][0] = {}): Promise<void> {
    // What is noted is in the machine's thread.
    this.link.onActivate = undefined;
    return this.link.call('watchWaits', options);
  }

  /** The waits of the console since `watchWaits` that were worth guessing at, and the one that it seems to be in now. */
  waits(): Promise<Calls['waits'][1]> {
    return this.link.call('waits', {});
  }

  /** Runs until the machine ends. `live`: somebody may still type, so a guest that only waits for it has not halted. */
  wait(options: WaitOptions & { readonly live?: boolean; readonly passive?: boolean } = {}): Promise<Exit> {
    const { signal, ...args } = options;
    return this.link.call('wait', args, signal ? { signal } : {});
  }

  /** Runs a program to its end and collects its output. */
  exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    return this.programs.exec(argv, options);
  }

  /** Starts a program. Its output has to be read: unread, it holds the machine up. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): Program {
    return this.programs.spawn(argv, options);
  }

  /** Appends to the input of a program that this machine, or one that it was forked from, has started: to what runs here. */
  typeInto(program: Program, input: Uint8Array | string): Promise<void> {
    return this.programs.typeInto(program, input);
  }

  /** What a program is called here: a clone calls it by what it is to its parent. */
  keyOf(program: Program): ProgramKey {
    return this.programs.keyOf(program);
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

  /**
   * Types on the console; resolves when there is room for more. A stream is read as the guest reads, a piece at a time, and the machine
   * stands still while the next is awaited: what the guest does depends on what is typed, and not on when the pieces come.
   */
  async type(input: string | Uint8Array | InputPieces): Promise<void> {
    if (!isPieces(input)) return this.link.type(bytesOf(input));
    const reader = new PieceReader(input);
    try {
      await reader.feed((bytes) => this.link.type(bytes, true).then(() => true));
    } finally {
      reader.close();
      await this.link.type(new Uint8Array(0)).catch(() => {});
    }
  }

  /** Nobody will type any more: a guest that only waits for input has halted. */
  endInput(): void {
    this.link.post({ type: 'input-end' });
  }

  /** Tells the guest the size of its console (the virtio console: a serial line has none). */
  resize(columns: number, rows: number): void {
    this.link.post({ type: 'resize', columns, rows });
  }

  /** Has the console's output go to a function instead of `console.readable`. What it throws goes to the event `error`. */
  onConsole(sink: Sink): void {
    this.link.console.to(sink, (error) => this.link.fault(error));
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

  /** Ends the machine, as it stands. What the guest has written to disks is flushed. Its clones go on. */
  async dispose(): Promise<void> {
    this.disposing ??= this.end();
    return this.disposing;
  }

  private async end(): Promise<void> {
    try {
      await this.branching?.dispose();
      await forgetMerges(this);
      const { recording } = this;
      const left = await this.link.dispose(!this.parent && this.images.frozen);
      if (!this.parent) this.images.ended(left);
      await recording?.ended.catch(() => {}); // whoever looks at it hears of it
    } finally {
      this.leaveImages();
      await this.images.settled();
      await this.family.left();
    }
  }

  /**
   * Brings what has been written to the disks into their images. That happens by itself when no clone or fork point needs them as they
   * were, and is refused before.
   */
  async commit(): Promise<void> {
    if (this.parent) throw new BraidError('ERR_BRAID_DISK', 'a clone has no images of its own; have it adopted first');
    if (this.images.frozen) {
      const why = 'clones or fork points of the machine still need the images as they were; dispose of them first';
      throw new BraidError('ERR_BRAID_DISK', why);
    }
    await this.link.call('commit', {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

checked<typeof Machine, 'divert'>(Machine, STATIC_CALLS);
checked<Machine>(Machine.prototype, machineCalls(instanceOf<Machine>('a Machine', Machine)));

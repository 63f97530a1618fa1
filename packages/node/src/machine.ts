/**
 * A machine, as programs use it. It runs in a thread of its own; what is here are its controls.
 *
 * In virtual time (the default) the machine runs while a call waits for it and stands still in between, exactly where the last
 * call ended: the same calls, one after the other, with the same seed, give the same machine every time. `run` lets it run on
 * its own.
 */

import type { Decision } from '@braid/core/branch/decision.ts';
import type { ForkPoint as CorePoint } from '@braid/core/branch/fork-point.ts';
import { parseMac } from '@braid/core/devices/virtio-net/device.ts';
import type { InputEvent, Position } from '@braid/core/machine/log.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { Branches, type BranchHost, type BranchOptions } from './branch/branches.ts';
import { type CopyOptions, copy, forgetMerges, type Merged, type MergeOptions, merge } from './branch/converge.ts';
import { type Decided, type DecideOptions, decide } from './branch/decide.ts';
import { heldOf, lineOf } from './branch/lineage.ts';
import { DiskUsers } from './disk/users.ts';
import { BraidError, fromRecord } from './errors.ts';
import type { GdbListener, GdbServeOptions } from './gdb/listener.ts';
import { serveGdb } from './gdb/serve.ts';
import { type AttachOptions, attachmentsOf, type CreateOptions, setupOf } from './options.ts';
import type { Sink } from './output.ts';
import { Family } from './pool/family.ts';
import type { Link, ProgramExit, WaitOptions } from './pool/link.ts';
import type { Pool } from './pool/pool.ts';
import type {
  Arrival,
  Calls,
  ConsoleDevice,
  Goal,
  HostState,
  KnownPoint,
  Made,
  Spawn,
  Stats,
  TimeMode,
} from './pool/protocol.ts';
import { UNKNOWN_POINT } from './pool/protocol.ts';
import { nextPool } from './pool/thread.ts';
import { MachineRecording, type RecordMachineOptions } from './replay/machine-recording.ts';
import { RecordingFile } from './replay/recording-file.ts';
import type { Conditions, ProgramKey, Reached } from './runner/conditions.ts';
import { VERSION } from './version.ts';

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

/** Who a fork is. Without options it is exactly its parent, and has the same future; its network card is unplugged. */
export interface ForkOptions {
  /** Where its random numbers come from after the fork. */
  readonly seed?: bigint | number;
  /** Address of its network card. */
  readonly mac?: string;
  /** Keeps its network card plugged in. */
  readonly connected?: boolean;
  /** Told to the guest through its agent, before anything else runs. */
  readonly hostname?: string;
  /** How its guest time goes; as its parent's without it. */
  readonly time?: TimeMode;
  /** It stops for good when it has made so many steps, those before the fork counted; its parent's limit without it. */
  readonly maxSteps?: bigint | number;
  /** A name that no other fork has: goes to /run/braid-generation, and into the guest kernel's random numbers, from its next key on. */
  readonly generation?: string;
}

/** How a machine that leaves a replay differs from the one that was recorded. */
export interface DivertOptions {
  /** Where its random numbers come from. */
  readonly seed?: bigint | number;
  readonly time?: TimeMode;
  /** It stops for good when it has made so many steps, those of the recording counted. */
  readonly maxSteps?: bigint | number;
}

export interface MachineEvents {
  /** The machine is over. */
  exit: Exit;
  /** The guest's kernel said that it panicked. */
  panic: string;
  /** Every hart waits, and nothing in the machine will wake one. */
  halt: undefined;
  /** A program has named this position (`braid_mark`), within the quota of the option `hints`. Print it with `escapeGuestText` only. */
  mark: string;
}

export interface SavedMachine {
  readonly version: 1;
  readonly console: ConsoleDevice;
  readonly machine: unknown;
}

/** Which call of which machine started a program. */
const started = new WeakMap<Program, { readonly machine: Machine; readonly id: number }>();

const MAX_FORKS = 1024;
/** Steps that a thread makes before it is said to be ready: some tens of milliseconds. */
const REHEARSAL = 40_000_000n;
const MAX_OUTPUT = 64 * 2 ** 20;
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
  private branching: Branches | undefined;
  private recording: MachineRecording | undefined;
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

  /** Makes a machine from a saved one. Its disks are attached again, in the same order. */
  static async restore(saved: SavedMachine, options: AttachOptions = {}): Promise<Machine> {
    const from = { state: saved, memory: 0, harts: 1, seed: 0n, console: 'serial' } as const;
    return Machine.make(options.pool, async (link) => link.call('create', { ...from, ...attachmentsOf(options) }));
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
    if (!Number.isInteger(count) || count < 0 || count > MAX_FORKS)
      throw new BraidError('ERR_BRAID_OPTION', `${count} forks: give 0 to ${MAX_FORKS}`);
    return this.forkEach(count, options);
  }

  /** `inputs` are what enters each fork before it runs. */
  private async forkEach(
    count: number,
    options: ForkOptions | ((index: number) => ForkOptions),
    inputs: (index: number) => readonly InputEvent[] = () => [],
  ): Promise<(Machine | BraidError)[]> {
    const { points, host } = await this.capture(count);
    return Promise.all(
      points.map(async (point, index) => {
        if ('code' in point) return fromRecord(point);
        const arrival = { point, host, inputs: inputs(index), clone: true };
        try {
          return await this.clone(arrival, typeof options === 'function' ? options(index) : options);
        } catch (error) {
          return error instanceof BraidError
            ? error
            : new BraidError('ERR_BRAID_WORKER', String(error), { cause: error });
        }
      }),
    );
  }

  /** Fork points; the images of the disks stay as they are until whoever gets these has said that he needs them. */
  private async capture(count: number): Promise<Calls['fork'][1]> {
    const leave = this.images.join();
    try {
      return await this.link.call('fork', { count });
    } finally {
      queueMicrotask(leave);
    }
  }

  /**
   * Has the other threads of the pool ready for clones of this machine: starts them, and lets each run one for some milliseconds, that
   * nobody hears of. The first clones are slower without it.
   */
  async prepareForks(): Promise<void> {
    const links = this.pool.linksBeside(this.link);
    const { points, host } = await this.capture(links.length);
    await Promise.all(
      points.map(async (point, n) => {
        const link = links[n]!;
        try {
          if ('code' in point) return;
          await this.pool.arrive(link, this.pool.hold({ point, host, inputs: [], clone: true }));
          // Where the guest only waits there is nothing to rehearse.
          await link.call('step', { steps: REHEARSAL }).catch(() => {});
        } finally {
          await link.dispose();
        }
      }),
    );
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

  private async clone(arrival: Arrival, options: ForkOptions): Promise<Machine> {
    const { seed, mac, connected, hostname, generation, time, maxSteps } = options;
    const { pool } = this.family;
    pool.hold(arrival);
    const leave = this.images.join();
    const address = mac === undefined ? {} : { mac: macOf(mac) };
    const limit = maxSteps === undefined ? {} : { maxSteps: BigInt(maxSteps) };
    const setup = { ...arrival.host.setup, ...(time === undefined ? {} : { time }), ...limit };
    const link = pool.link();
    try {
      const made = await pool.arrive(link, {
        ...arrival,
        host: { ...arrival.host, setup },
        ...(seed === undefined ? {} : { seed: BigInt(seed) }),
        ...address,
        ...(connected === undefined ? {} : { connected }),
      });
      const machine = new Machine(this.family, link, made, this);
      if (hostname !== undefined || generation !== undefined) await machine.tellIdentity(hostname, generation);
      return machine;
    } catch (error) {
      link.close(new BraidError('ERR_BRAID_DISPOSED', 'the machine was not made'));
      throw error;
    } finally {
      leave();
    }
  }

  /** Tells a clone's guest, through its agent, who it is. */
  private async tellIdentity(hostname: string | undefined, generation: string | undefined): Promise<void> {
    if (hostname !== undefined) await this.exec(['hostname', hostname]);
    if (generation === undefined) return;
    await this.writeFile('/run/braid-generation', `${generation}\n`);
    // What is written there is part of the kernel's next key, a minute later at most.
    await this.writeFile('/dev/urandom', generation);
  }

  /** The machine's state here and now, to be forked or come back to as often as one likes. It holds memory until it is disposed of. */
  async forkPoint(): Promise<ForkPoint> {
    const { points, host } = await this.capture(1);
    const point = points[0]!;
    if ('code' in point) throw fromRecord(point);
    const clone = (arrival: Arrival, options: ForkOptions) => this.clone(arrival, options);
    return new ForkPoint(this.family.pool, point, host, clone, this.images.join());
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
        const made = await this.forkEach(count, options, inputs);
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
    if (this.recording) throw new BraidError('ERR_BRAID_OPTION', 'the machine is being recorded already');
    const { title = '', marks = [], keyframeMs, keyframeBytes, overwrite = false } = options;
    const patterns = marks.map((mark) =>
      typeof mark === 'string' ? new RegExp(mark.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')) : mark,
    );
    const info = { braid: VERSION, title, ...(await this.link.call('recordingInfo', {})) };
    const file = new RecordingFile(path, { overwrite });
    // What is sent is of one thread.
    const { onActivate } = this.link;
    this.link.onActivate = undefined;
    const recording = new MachineRecording(this.pool, this.link, file, info, keyframeBytes, () => {
      this.recording = undefined;
      this.link.onActivate = onActivate;
    });
    this.recording = recording;
    try {
      await this.link.call('record', { patterns, ...(keyframeMs === undefined ? {} : { keyframeMs }) });
    } catch (error) {
      await recording.abandon();
      throw error;
    }
    return recording;
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
    const program: Program = {
      stdin: new WritableStream({ write: (chunk) => send(bytesOf(chunk)), close: () => send(undefined) }),
      stdout: outputs.stdout.readable,
      stderr: outputs.stderr.readable,
      exited,
      kill: (signal = 15) => this.link.post({ type: 'signal', id, signal }),
      resize: (columns, rows) => this.link.post({ type: 'terminal', id, rows, cols: columns }),
    };
    started.set(program, { machine: this, id });
    return program;
  }

  /** Appends to the input of a program that this machine, or one that it was forked from, has started: to what runs here. */
  typeInto(program: Program, input: Uint8Array | string): Promise<void> {
    return this.link.input(this.keyOf(program), bytesOf(input));
  }

  /** What a program is called here: a clone calls it by what it is to its parent. */
  keyOf(program: Program): ProgramKey {
    const start = started.get(program);
    let name = '';
    for (let machine: Machine | undefined = this; start && machine; machine = machine.parent) {
      if (machine === start.machine) return name === '' ? start.id : name.slice(1) + start.id;
      name += '^';
    }
    throw new BraidError('ERR_BRAID_OPTION', 'the program is of another machine');
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

/** See `Machine.forkPoint`. */
export class ForkPoint implements AsyncDisposable {
  readonly pool: Pool;
  private readonly point: CorePoint;
  private readonly host: HostState;
  private readonly clone: (arrival: Arrival, options: ForkOptions) => Promise<Machine>;
  private readonly leaveImages: () => void;
  private readonly id: number;
  private readonly uses = new Set<Promise<unknown>>();
  private disposed = false;

  constructor(
    pool: Pool,
    point: CorePoint,
    host: HostState,
    clone: (arrival: Arrival, options: ForkOptions) => Promise<Machine>,
    leaveImages: () => void,
  ) {
    this.leaveImages = leaveImages;
    this.pool = pool;
    this.point = point;
    this.host = host;
    this.clone = clone;
    this.id = pool.keep(point);
  }

  /** What it was, as the threads of the pool know it. */
  get state(): CorePoint {
    return this.point;
  }

  /** Where the machine stood. */
  get position(): Position {
    const { round, hart, step } = this.point.record.schedule;
    return { round, hart, step };
  }

  /** The steps that the machine may make in all, if there is a limit. */
  get maxSteps(): bigint | undefined {
    return this.host.setup.maxSteps;
  }

  /** A machine in this state. */
  async fork(options: ForkOptions = {}): Promise<Machine> {
    const point = this.pool.copy(this.id);
    return this.clone({ point, host: this.host, inputs: [], clone: true }, options);
  }

  /** Does something with it in the thread of a machine, which may know it already. It stays until that is done. */
  async use<T>(link: Link, work: (known: KnownPoint) => Promise<T>): Promise<T> {
    const { id, point } = this;
    const known = this.pool.knows(link, id) ? { id } : { id, point };
    // A machine that is under way comes to a thread that may not know it.
    const used = work(known).catch((error: BraidError) => {
      if (error.code !== UNKNOWN_POINT) throw error;
      return work({ id, point });
    });
    this.uses.add(used);
    try {
      return await used;
    } finally {
      this.uses.delete(used);
    }
  }

  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    const uses = [...this.uses];
    this.pool.retire(this.id);
    await Promise.allSettled(uses);
    this.pool.forget(this.id);
    this.leaveImages();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

function macOf(text: string): Uint8Array {
  try {
    return parseMac(text);
  } catch (error) {
    throw new BraidError('ERR_BRAID_OPTION', `${(error as Error).message}; give six bytes such as 52:54:00:12:34:57`);
  }
}

function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === 'string' ? new TextEncoder().encode(data) : data.slice();
}

/**
 * What the main thread and the workers of a pool say to each other.
 *
 * Messages travel in batches: what the main thread asks of a machine in one turn of its event loop arrives together, so that a machine
 * that stands still gets it all at one position. Each call is answered once, by `result` or `error`. A machine is known by a number,
 * and is in one worker at a time.
 */

import type { ExecExit } from '@braid/core/agent/client.ts';
import type { Activation, Decision } from '@braid/core/branch/decision.ts';
import type { ForkPoint } from '@braid/core/branch/fork-point.ts';
import type { MergedDisk } from '@braid/core/branch/merge-disk.ts';
import type { PathRefusal, PathResult } from '@braid/core/branch/path.ts';
import type { Refusal, Taken } from '@braid/core/branch/take-over.ts';
import type { WaitOptions as DetectorOptions, WaitProposal } from '@braid/core/branch/waits.ts';
import type { PortableModule } from '@braid/core/engine/translator/installer.ts';
import type { CapturedBlock } from '@braid/core/machine/disk-capture.ts';
import type { Hint, HintQuotas } from '@braid/core/machine/hints.ts';
import type { Input } from '@braid/core/machine/inputs.ts';
import type { LoggedEvent, Patch, Position } from '@braid/core/machine/log.ts';
import type { Boot, Exit } from '@braid/core/machine/options.ts';
import type { MapRoots } from '@braid/core/memory/frame-map.ts';
import type { OutputPiece } from '@braid/core/timeline/captured-output.ts';
import type { Point } from '@braid/core/timeline/points.ts';
import type { Mark, RecordingEnd, RecordingInfo } from '@braid/core/timeline/recording/info.ts';
import type { Moment } from '@braid/core/timeline/recording/moment.ts';
import type { Interval, LastWrite, TimelineStop } from '@braid/core/timeline/timeline.ts';
import type { ErrorRecord } from '../errors.ts';
import type { Conditions, ProgramKey, Reached } from '../runner/conditions.ts';
import type { DebugCall } from '../runner/debug-session.ts';
import type { Decided } from '../runner/decision-watch.ts';
import type { PanicState } from '../runner/panic.ts';
import type { GuestCall, GuestCallResult, HookHit, HookRequest } from '../runner/replay-hooks.ts';

/** How guest time goes while the guest is idle. */
export type TimeMode = 'virtual' | 'wall';

/** A disk by its file, or by its content. */
export type ImageSource =
  | { readonly path: string; readonly readOnly: boolean; readonly raw: boolean }
  | { readonly bytes: Uint8Array; readonly readOnly: boolean };

/** Where a thread finds a disk of a machine. */
export type DiskSource =
  | ImageSource
  /** What a recording has of one, as of a keyframe. What is written to it goes to its overlay. */
  | { readonly recording: string; readonly disk: number; readonly keyframe: number; readonly readOnly: boolean };

/** Which device the guest's main console is, and so where typed input goes. */
export type ConsoleDevice = 'serial' | 'virtio';

export interface Setup {
  readonly boot?: Boot;
  /** Instead of `boot`: a saved machine. */
  readonly state?: unknown;
  /** Whether its disks may hold something else than when it was saved. */
  readonly acceptChangedDisks?: boolean;
  readonly memory: number;
  readonly harts: number;
  readonly slice?: number;
  readonly seed: bigint;
  readonly epoch: bigint;
  readonly time: TimeMode;
  readonly maxSteps?: bigint;
  /** How often guest programs may execute each hint. */
  readonly hints?: Partial<HintQuotas>;
  readonly console: ConsoleDevice;
  readonly disks: readonly ImageSource[];
}

/** What is known of a machine once it is made. */
export interface Made {
  readonly seed: bigint;
  readonly memory: number;
  readonly harts: number;
  readonly console: ConsoleDevice;
  readonly hasSignature: boolean;
  /** Whether it has disks that it writes, and is no clone. */
  readonly writesDisks: boolean;
}

/** What a clone sent outside, in order: who adopts it sends it on. Programs are named as the parent names them. */
export type Held =
  | { readonly kind: 'console'; readonly bytes: Uint8Array; readonly time: bigint }
  | { readonly kind: 'output'; readonly key: string; readonly stream: 'stdout' | 'stderr'; readonly bytes: Uint8Array }
  | {
      readonly kind: 'exit';
      readonly key: string;
      readonly outcome: ExecExit | ErrorRecord;
      /** Steps of the machine at that moment. */
      readonly at: bigint;
    };

/** What the host's side of a machine knows, and takes with it to another worker. */
export interface HostState {
  readonly setup: Omit<Setup, 'boot' | 'state' | 'disks'> & { readonly disks: readonly DiskSource[] };
  readonly inputEnded: boolean;
  readonly panic: PanicState;
  /** Of a machine in wall time: see `WallTime.origin`. */
  readonly wallOrigin: bigint | undefined;
  /** Of a clone. */
  readonly held: readonly Held[] | undefined;
  /** Of the original: what it has the images of its disks by, in their order. */
  readonly locks: readonly (string | undefined)[];
  /** Of a clone of clones: what each of its ancestors held back when it was forked from them, the first of them first. */
  readonly before: readonly (readonly Held[])[];
  readonly hints: HintState;
}

/** Who hears of hints, and the one that waits for its answer. */
export interface HintState {
  readonly heard: boolean;
  readonly pending: Hint | undefined;
}

/** The answer to a hint; see `InputEvent`. */
export interface HintAnswer {
  readonly value: bigint;
  readonly writes?: readonly Patch[];
}

/** A machine that has left its worker. */
export interface Departed {
  readonly point: ForkPoint;
  readonly host: HostState;
  readonly inputs: readonly Input[];
  /** Of a clone that is adopted: what has come in since it was made. */
  readonly events: readonly LoggedEvent[];
}

/** Makes a machine of a fork point, which is used up. */
export interface Arrival {
  readonly point: ForkPoint;
  readonly host: HostState;
  readonly inputs: readonly Input[];
  /** Whether it is a clone, that holds back what it sends, or the machine itself in another place. */
  readonly clone: boolean;
  readonly seed?: bigint;
  readonly mac?: Uint8Array;
  readonly connected?: boolean;
}

/** Code of the error for a fork point that the worker does not know. */
export const UNKNOWN_POINT = 'ERR_BRAID_UNKNOWN_POINT';

/** A fork point that a worker may know already by its number. */
export interface KnownPoint {
  readonly id: number;
  readonly point?: ForkPoint;
}

export interface Spawn {
  readonly argv: readonly string[];
  readonly env?: readonly string[];
  readonly cwd?: string;
  readonly input?: Uint8Array | 'stream';
  /** In virtual time the machine stands still until more of the stream is here, or its end. */
  readonly awaitsInput?: boolean;
  readonly terminal?: { readonly rows: number; readonly cols: number };
  readonly limit?: ExecLimit;
}

/** What a program may take, from where the agent is asked for it. */
export interface ExecLimit {
  /** Of all harts. */
  readonly steps?: bigint;
  /** In ns. */
  readonly guestTime?: bigint;
}

export type Goal =
  /** So many steps of all harts together, since power-on. */
  | { readonly steps: bigint }
  /** Console output from now on. */
  | { readonly pattern: string | RegExp }
  | { readonly position: Position };

export interface RecordOptions {
  /** What the console says that is to be marked; each finds all matches (flag g). */
  readonly patterns: readonly RegExp[];
  /** Milliseconds of running between two keyframes; without it they are as dense as they are cheap. */
  readonly keyframeMs?: number;
}

/** What a machine's recorder sends to be written, in this order. */
export type Recorded =
  | {
      readonly kind: 'events';
      readonly stretch: number;
      readonly events: readonly LoggedEvent[];
      /** Where the machine is. */
      readonly reached: Moment;
      readonly bytes: number;
    }
  | { readonly kind: 'disk'; readonly blocks: readonly CapturedBlock[]; readonly bytes: number }
  | {
      readonly kind: 'keyframe';
      readonly stretch: number;
      readonly at: bigint;
      /** By disk: blocks of 4 KiB written since the keyframe before. */
      readonly written: readonly Uint32Array[];
      readonly point: ForkPoint;
    }
  | { readonly kind: 'marks'; readonly marks: readonly Mark[]; readonly bytes: number }
  | ({ readonly kind: 'end'; readonly point: ForkPoint } & Omit<RecordingEnd, 'hash'>)
  /** The recording cannot go on. */
  | { readonly kind: 'failed'; readonly why: string };

/** Where a replay is to go. */
export type Target =
  | { readonly at: bigint }
  /** Guest time since power-on, in ns. */
  | { readonly time: bigint }
  | { readonly position: Position };

/** What a replay is asked for. All of it may take long, and says how far it is. */
export type ReplayOperation =
  | { readonly kind: 'seek'; readonly to: Target }
  /** `show`: the guest's output is heard. */
  | {
      readonly kind: 'run';
      readonly points: readonly Point[];
      readonly to?: bigint;
      readonly show: boolean;
      /** Replay-only code that is run, in diversions. */
      readonly replayOnly?: readonly bigint[] | 'all';
    }
  | { readonly kind: 'reverse'; readonly points: readonly Point[] }
  | { readonly kind: 'step' | 'reverse-step'; readonly count: bigint; readonly hart?: number }
  | { readonly kind: 'last-hit'; readonly interval: Interval; readonly points: readonly Point[] };

/** A run of replay-only code in a diversion. */
export interface ReplayOnlyReport {
  readonly code: bigint;
  readonly hart: number;
  readonly at: bigint;
  readonly steps: bigint;
  /** In the order in which it was written. */
  readonly output: readonly OutputPiece[];
  readonly truncated: boolean;
  /** Why it did not come to its end. */
  readonly error: string | undefined;
}

/** Where a replay stands. */
export interface Standing {
  readonly at: bigint;
  readonly position: Position;
  readonly time: bigint;
  /** The hart that is next. */
  readonly hart: number;
  readonly pc: bigint;
  /** Keyframes that were found to be as recorded, so far. */
  readonly verified: number;
}

export interface ReplayAnswer {
  readonly stop: TimelineStop;
  readonly standing: Standing;
}

/** Calls, by name: arguments and result. */
export interface Calls {
  create: [Setup, Made];
  /** Waits until the guest's agent answers. */
  boot: [Record<never, never>, undefined];
  /** Lets the machine run while nobody waits for it. */
  run: [Record<never, never>, undefined];
  pause: [Record<never, never>, Position];
  step: [{ readonly steps: bigint }, Position];
  runUntil: [Goal, Position];
  /**
   * Runs until one of the conditions holds. `hold`: the machine stands still there, whoever else waits for it. `standing`: it stands still
   * already, and does so until `resume`.
   */
  complete: [{ readonly conditions: Conditions; readonly hold?: boolean; readonly standing?: boolean }, Reached];
  /** Ends a `hold`. */
  resume: [Record<never, never>, undefined];
  /** Notes from now on what the machine waits for. */
  watchWaits: [Omit<DetectorOptions, 'output'>, undefined];
  waits: [Record<never, never>, { readonly proposals: readonly WaitProposal[]; readonly expected?: WaitProposal }];
  spawn: [Spawn, ExecExit & { readonly steps: bigint }];
  readFile: [{ readonly path: string; readonly limit?: number }, Uint8Array];
  writeFile: [{ readonly path: string; readonly bytes: Uint8Array }, undefined];
  /** Mixes bytes into the random numbers of the guest's kernel, by Braid's agent. */
  reseed: [{ readonly bytes: Uint8Array }, undefined];
  /** Ends a program with every process that it has started; by the number of the call that started it. */
  killAll: [{ readonly program: number }, undefined];
  /** Asks the agent to power the guest off, and waits until it is. */
  shutdown: [{ readonly mode: 'powerdown' | 'reboot' | 'halt' }, Exit];
  /**
   * Waits for the end of the machine. `live`: input may still come from outside, so a guest that only waits for it is no halt.
   * `passive`: idle gaps are not jumped over meanwhile.
   */
  wait: [{ readonly live?: boolean; readonly passive?: boolean }, Exit];
  save: [Record<never, never>, unknown];
  stateHash: [Record<never, never>, string];
  stats: [Record<never, never>, Stats];
  signature: [Record<never, never>, Uint8Array];
  /** So many fork points of the machine as it stands; an error for each for which there was no room. `rehearsal`: nobody is told. */
  fork: [
    { readonly count: number; readonly rehearsal: boolean },
    { readonly points: readonly (ForkPoint | ErrorRecord)[]; readonly host: HostState },
  ];
  /** The machine leaves its worker: for another one, or to be adopted by its parent. */
  leave: [{ readonly for: 'move' | 'adopt' }, Departed];
  arrive: [Arrival, Made];
  /**
   * The machine becomes a clone of its own, so many forks away, whose fork point is used up, and sends on what that one and those
   * in between held back.
   */
  adopt: [
    Pick<Departed, 'point' | 'inputs' | 'events'> & {
      readonly levels: number;
      readonly held: readonly Held[];
      /** What the clone waits with, and waits with on. */
      readonly hint: Hint | undefined;
    },
    Position,
  ];
  /** Instead of a machine: a recording, at its beginning. */
  openReplay: [{ readonly path: string; readonly show: boolean }, Standing];
  replay: [ReplayOperation, ReplayAnswer];
  /** Has a replay stand, and report, where it comes to a place while it runs; the hook's number. */
  hook: [HookRequest, number];
  unhook: [{ readonly hook: number }, undefined];
  /** A replay that stands at a hook goes on. */
  release: [Record<never, never>, undefined];
  /** Calls a function of the guest in a diversion from where a replay stands. */
  callGuest: [GuestCall, GuestCallResult];
  /** Where bytes at a hart's virtual address lie in guest-physical memory. */
  physical: [{ readonly hart: number; readonly address: bigint }, bigint | undefined];
  /** The parts of a recording in which a page may have been written, the last one first; and what was there before all of them. */
  written: [
    { readonly page: number; readonly at: bigint },
    { readonly intervals: readonly Interval[]; readonly before: LastWrite },
  ];
  /** A machine in the state in which a replay stands, to go on from there. */
  divert: [Record<never, never>, { readonly point: ForkPoint; readonly host: HostState }];
  /** What a machine is called that is recorded. */
  recordingInfo: [Record<never, never>, Omit<RecordingInfo, 'braid' | 'title' | 'shows'>];
  /** Sends what is to be recorded from now on, as reports. */
  record: [RecordOptions, undefined];
  /** Names the moment for the recording; where it is. */
  mark: [{ readonly name: string }, bigint];
  stopRecording: [{ readonly why: string }, undefined];
  /** How guest time goes from now on. */
  setTime: [{ readonly time: TimeMode }, undefined];
  /** Whether somebody hears of the guest's hints: each but a mark then has the machine wait for `answer`. */
  hear: [{ readonly heard: boolean }, undefined];
  /** Answers the hint that waits. False when there is none, or what is to be written cannot be: then it still waits. */
  answer: [HintAnswer, boolean];
  /** Merges a disk by blocks, three-way, with its overlays in a fork point and in another machine. */
  mergeDisk: [{ readonly disk: number; readonly base: MapRoots; readonly theirs: MapRoots }, MergedDisk];
  /** Runs the machine to the fork point of a branch that the host has chosen: there are two fork points, one for each way. */
  reach: [
    { readonly decision: Decision; readonly satp?: bigint },
    { readonly activation: Activation; readonly points: readonly ForkPoint[]; readonly host: HostState },
  ];
  /** Runs it on to the decision, where it stands. */
  decided: [Record<never, never>, Decided];
  /** Takes over a clone's result at the decision; without one the machine goes the way itself. Ends the branch in any case. */
  takeOver: [{ readonly result: PathResult | undefined; readonly stackBottom?: bigint }, Taken | Refusal];
  /** Goes one way of a branch, in a clone made of a fork point, which is used up. */
  path: [{ readonly point: ForkPoint; readonly host: HostState; readonly way: Way }, PathResult | PathRefusal];
  /** For a debugger; what comes of it is with `DebugCall`. A replay is looked at only. */
  debug: [DebugCall, unknown];
  /** Back to a fork point, which is kept. */
  reset: [KnownPoint, Position];
  /** Nobody else reads the images of the machine's disks: brings into them what has been written. */
  commit: [Record<never, never>, undefined];
  /** `frozen`: others still read the images. What they need to be brought up to date is the result then: locks by path. */
  dispose: [{ readonly frozen: boolean }, readonly LeftDisk[]];
}

/** One way of a branch. */
export interface Way {
  readonly decision: Decision;
  readonly activation: Activation;
  readonly outcome: 0 | 1;
  readonly limit: number;
  readonly makeCalls: boolean;
  /** Virtual pages whose bytes are told apart. */
  readonly bytes: readonly bigint[];
}

/** A disk that has been left with a journal. */
export interface LeftDisk {
  readonly path: string;
  readonly lock: string;
}

export type CallName = keyof Calls;

/** To the worker. */
export type Request =
  | {
      readonly [K in CallName]: {
        readonly type: 'call';
        readonly id: number;
        readonly name: K;
        readonly args: Calls[K][0];
      };
    }[CallName]
  /** The caller of `id` does not wait any longer. */
  | { readonly type: 'cancel'; readonly id: number }
  /** Something is typed; the machine waits for the next if there will be `more`. */
  | { readonly type: 'console'; readonly bytes: Uint8Array; readonly more: boolean; readonly reply: number }
  /** Of what was recorded so many bytes have been written; and a keyframe, which cost all threads so many ms. `full`: part of its room that is used up. */
  | {
      readonly type: 'written';
      readonly bytes: number;
      readonly keyframeCost: number | undefined;
      readonly full: number;
    }
  /** Nobody will type any more. */
  | { readonly type: 'input-end' }
  | { readonly type: 'resize'; readonly columns: number; readonly rows: number }
  /** So many bytes of output have reached their consumer. */
  | { readonly type: 'taken'; readonly bytes: number }
  | ProgramInput
  | { readonly type: 'signal'; readonly id: ProgramKey; readonly signal: number }
  | { readonly type: 'terminal'; readonly id: ProgramKey; readonly rows: number; readonly cols: number };

/** Input of a program, or its end. */
export interface ProgramInput {
  readonly type: 'input';
  readonly id: ProgramKey;
  readonly bytes: Uint8Array | undefined;
  readonly reply: number;
}

/** To a worker: requests to one of its machines, or something that concerns all. */
export type ToWorker =
  | { readonly machine: number; readonly requests: readonly Request[] }
  /** Another worker has translated something. */
  | { readonly module: PortableModule }
  /** A fork point is gone. */
  | { readonly forget: number }
  /** Says which frames it holds, and stands still until the first word of `gate` changes: see `recover` of the pool. */
  | { readonly gate: Int32Array };

export type FromWorker =
  | { readonly machine: number; readonly report: Report }
  | { readonly module: PortableModule }
  /** Roots of the maps of all machines that are here, and single frames. */
  | Holdings;

export interface Holdings {
  readonly roots: readonly number[];
  readonly frames: readonly number[];
}

/** What a worker is started with. */
export interface WorkerStart {
  readonly memory: WebAssembly.Memory;
  /** Which worker area of the pool is its own. */
  readonly area: number;
  /** Messages sent to it so far: a run in it ends early when that is more than it has taken. */
  readonly posted: Int32Array;
}

/** About a machine. */
export type Report =
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: ErrorRecord }
  | { readonly type: 'console'; readonly bytes: Uint8Array }
  | { readonly type: 'output'; readonly id: number; readonly stream: 'stdout' | 'stderr'; readonly bytes: Uint8Array }
  | { readonly type: 'exit'; readonly exit: Exit }
  | { readonly type: 'panic'; readonly message: string }
  | { readonly type: 'halt' }
  /** What was written is being brought to the disks, for a call: the thread may be long in answering. */
  | { readonly type: 'writing'; readonly id: number }
  | { readonly type: 'hint'; readonly hint: Hint }
  | { readonly type: 'recorded'; readonly item: Recorded }
  /** How far an operation of a replay is. */
  | { readonly type: 'progress'; readonly id: number; readonly at: bigint }
  /** A replay stands at a hook until `release`. */
  | { readonly type: 'hooked'; readonly hit: HookHit }
  /** What a program of the agent wrote in a replay. */
  | { readonly type: 'overheard'; readonly stream: 'stdout' | 'stderr'; readonly bytes: Uint8Array }
  | { readonly type: 'replay-only'; readonly run: ReplayOnlyReport }
  /** An error that nothing expected has ended it, and nothing else in its thread. */
  | { readonly type: 'lost'; readonly error: ErrorRecord };

interface HartStats {
  readonly steps: bigint;
  readonly instructions: bigint;
}

export interface Stats {
  /** Retirements and traps, of all harts. */
  readonly steps: bigint;
  readonly instructions: bigint;
  /** Time that the engine ran. */
  readonly hostSeconds: number;
  readonly guestSeconds: number;
  readonly perHart: readonly HartStats[];
  readonly position: Position;
  readonly exit: Exit | undefined;
  /** What a kernel that panicked said. */
  readonly panic: string | undefined;
  readonly seed: bigint;
}

/** Output under way to a consumer before the machine waits for it. */
export const OUTPUT_AHEAD = 1 << 20;

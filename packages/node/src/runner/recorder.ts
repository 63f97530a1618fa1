/**
 * A machine's recorder, in the machine's thread: collects what has come from outside, takes keyframes when it is time, and sends all of it
 * to the main thread, which writes it. Nothing of that changes what the guest sees.
 */

import type { ForkPoint } from '@braid/core/branch/fork-point.ts';
import { type CapturedBlock, DiskCapture } from '@braid/core/machine/disk-capture.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import { recordMachine } from '@braid/core/machine/save.ts';
import { PoolFullError } from '@braid/core/memory/pool.ts';
import { escapeGuestText } from '@braid/core/text/escape.ts';
import type { Mark } from '@braid/core/timeline/recording/info.ts';
import type { Recorded, RecordOptions, Request } from '../pool/protocol.ts';
import { SearchedText } from './searched-text.ts';

/** Milliseconds of CPU time between keyframes, at least. */
const KEYFRAME_MS = 500;
/** What keyframes may cost of that time; more than this rather than that they are further apart, and never more than the last. */
const COST = 0.008;
const FAR_APART_MS = 6000;
const MOST_COST = 0.25;
/** Frames that have to be free for a keyframe. */
const HEAD_ROOM = 4096;
/** Bytes on the way to the main thread before the machine waits. */
const AHEAD = 32 * 2 ** 20;
/** What is gathered of the disks before it is sent. */
const CAPTURED = 2 * 2 ** 20;
const SEARCHED_TEXT = 4096;
const MAX_MARKS = 100_000;
/** What a mark takes, at most. */
const MARK_BYTES = 800;
/** Marks that are gathered before they are sent. */
const MARKS_GATHERED = 2000;
/** What may be lost with the process, in ms of running. */
const FLUSH_MS = 200;

/** CPU time of this thread, in ms. */
function threadTime(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

export class Recorder {
  private readonly machine: Machine;
  private readonly options: RecordOptions;
  private readonly send: (item: Recorded, bytes: number) => void;
  private readonly capture: DiskCapture;
  private stretch = -1;
  /** Steps since the recording began, at the beginning of the stretch. */
  private from = 0n;
  private firstSteps: bigint;
  /** Steps since the recording began, when something was sent last. */
  private reached = 0n;
  /** Events of the machine's log that have been sent. */
  private sent = 0;
  private keyframes = 0;
  private captured: CapturedBlock[] = [];
  private capturedBytes = 0;
  private marks: Mark[] = [];
  private marked = 0;
  /** Bytes that the main thread has not written yet. */
  private ahead = 0;
  private resting: NodeJS.Timeout | undefined;
  private keyframeUnderWay = false;
  /** Milliseconds by the clock that the machine has run since something was sent. */
  private unsent = 0;
  /** The same since the thread's CPU time was asked for, and what that was. */
  private unasked = 0;
  private threadTime = threadTime();
  /** CPU time (ms) that the machine has used since the last keyframe, and how much there is to be between two. */
  private ran = 0;
  private interval: number;
  private readonly recent = new SearchedText(SEARCHED_TEXT);

  /** Begins: sends the first keyframe. The machine is to stand still. */
  constructor(machine: Machine, options: RecordOptions, send: (item: Recorded) => void) {
    this.machine = machine;
    this.options = options;
    this.interval = options.keyframeMs ?? KEYFRAME_MS;
    this.send = (item, bytes) => {
      this.ahead += bytes;
      send(item);
    };
    this.firstSteps = machine.totalSteps;
    this.settle();
    this.capture = new DiskCapture(
      machine.platform.backends,
      (block) => {
        this.captured.push(block);
        this.capturedBytes += block.content.length;
      },
      (disk, error) => this.send({ kind: 'failed', why: `disk ${disk}: ${(error as Error).message}` }, 0),
    );
    try {
      this.beginStretch('begin', '');
    } catch (error) {
      this.capture.stop();
      throw error;
    }
  }

  /** Steps since the recording began. */
  get at(): bigint {
    return this.from + this.machine.totalSteps - this.firstSteps;
  }

  /** Whether the machine has to wait until more has been written. */
  get behind(): boolean {
    return this.ahead > AHEAD;
  }

  /** Some of it has been written. */
  written({ bytes, keyframeCost: cost, full }: Extract<Request, { type: 'written' }>): void {
    this.ahead -= bytes;
    if (cost === undefined) return;
    this.keyframeUnderWay = false;
    // Each half of what is left of the room makes them twice as rare.
    const rarer = full < 0.5 ? 1 : 2 / Math.max(2 ** -20, 1 - full);
    // The first one has all of the machine, and says little about the next.
    const fair = this.keyframes === 1 ? 0 : Math.min(cost / COST, Math.max(FAR_APART_MS, cost / MOST_COST));
    this.interval = (this.options.keyframeMs ?? Math.max(KEYFRAME_MS, fair)) * rarer;
  }

  /** Before a run: takes a keyframe if it is time. */
  beforeRun(): void {
    // By the clock it is time at the earliest; what counts is CPU time.
    if (this.ran + this.unasked < this.interval || this.keyframeUnderWay || this.machine.exit) return;
    this.count();
    if (this.ran < this.interval || !this.settle() || this.capture.busy) return;
    this.flush();
    this.keyframe();
  }

  /** After a run, which took so many ms by the clock. */
  afterRun(spent: number): void {
    this.unsent += spent;
    this.unasked += spent;
    if (this.unsent >= FLUSH_MS) this.flush();
    // Not while it runs: blocks of one read share an array, which goes to the other thread as a whole.
    else if (this.capturedBytes >= CAPTURED) this.flushCaptured();
  }

  /** The machine stands still, perhaps not for long: what there is is sent soon. */
  rest(): void {
    if (this.unsent === 0 && this.machine.log.length === this.sent && this.marks.length === 0) return;
    this.resting ??= setTimeout(() => this.flush(), FLUSH_MS).unref();
  }

  /** The machine's log is about to be emptied. */
  logDropped(): void {
    this.flush();
    this.sent = 0;
  }

  /** It has been: the recording goes on from the new one. `kind` is how. */
  replaced(kind: 'adopt' | 'reset' | 'takeover' | 'host', name = ''): void {
    // What the log has now is of before, or of the clone that it was.
    this.sent = this.machine.log.length;
    this.settle();
    this.beginStretch(kind, name);
  }

  mark(kind: Mark['kind'], name: string): void {
    // What a guest says may be marked without end.
    if (this.marked++ >= MAX_MARKS && kind !== 'end') return;
    const { machine } = this;
    const at = this.from + machine.stepsNow - this.firstSteps;
    const text = escapeGuestText(name, { limit: 300 });
    this.marks.push({ at, stretch: this.stretch, position: machine.position, time: machine.now, kind, name: text });
    if (this.marks.length >= MARKS_GATHERED) this.flushMarks();
  }

  /** The guest's console says something. True: `markConsole` is to be called where the slice ends. */
  console(bytes: Uint8Array): boolean {
    if (this.options.patterns.length === 0) return false;
    this.recent.see(bytes);
    return true;
  }

  /** Marks what has been said since the last time: where a slice ends, which the host's time does not change. */
  markConsole(): void {
    this.recent.look((text, before) => {
      for (const pattern of this.options.patterns) {
        for (const { index, 0: found } of text.matchAll(pattern)) {
          // Once, when it is completed.
          if (index + found.length > before) this.mark('console', found);
        }
      }
    });
  }

  /** Ends the recording where the machine stands. */
  stop(why: string): void {
    this.markConsole();
    this.settle();
    this.flush();
    this.capture.stop();
    const { machine, at, stretch } = this;
    const point = this.point();
    this.mark('end', why);
    this.flushMarks();
    this.send(
      { kind: 'end', at, stretch, position: machine.position, time: machine.now, exit: machine.exit, why, point },
      0,
    );
  }

  /**
   * Has the machine do what is due where it stands, as every run does first: so that a replay that comes here finds the same. Guest time
   * stands still: what somebody sends before the next run is to come no later than without a recording. False when host data is late.
   */
  private settle(): boolean {
    const { machine } = this;
    const { mayJump } = machine;
    machine.mayJump = () => false;
    try {
      for (;;) {
        const { reason } = machine.run(0);
        if (reason !== 'attention') return reason !== 'stalled';
      }
    } finally {
      machine.mayJump = mayJump;
    }
  }

  private beginStretch(kind: Mark['kind'], name: string): void {
    const { machine } = this;
    this.from = this.reached;
    this.firstSteps = machine.totalSteps;
    this.stretch++;
    this.sent = machine.log.length;
    this.mark(kind, name);
    if (!this.keyframe()) throw new PoolFullError(machine.engine.pool.limit, 'frames of 4 KiB; a recording needs some');
  }

  /** Sends a keyframe; false when there is no room for what its sharing will have copied. */
  private keyframe(): boolean {
    const { machine, at, stretch } = this;
    if (machine.engine.pool.available < HEAD_ROOM) return false;
    this.flushCaptured();
    const first = this.keyframes++ === 0;
    const written = first ? machine.platform.backends.map(() => new Uint32Array(0)) : this.capture.nextEpoch();
    this.send({ kind: 'keyframe', stretch, at, written, point: this.point() }, 0);
    this.keyframeUnderWay = true;
    this.ran = 0;
    this.flushMarks();
    return true;
  }

  private point(): ForkPoint {
    const { machine } = this;
    return { record: recordMachine(machine), link: undefined, ram: machine.ram.share(), disks: [] };
  }

  /** Sends what there is. To be done before the machine's state is replaced, and when the machine stands still. */
  flush(): void {
    const { machine, stretch } = this;
    clearTimeout(this.resting);
    this.resting = undefined;
    this.reached = this.at;
    // First what a replay of the events needs: the file may be cut off anywhere.
    this.flushCaptured();
    const events = machine.log.events.slice(this.sent);
    if (events.length > 0 || this.unsent > 0) {
      this.count();
      this.sent += events.length;
      this.unsent = 0;
      const bytes = events.reduce((sum, { event }) => sum + 32 + ('bytes' in event ? event.bytes.length : 0), 0);
      const reached = { at: this.reached, position: machine.position, time: machine.now };
      this.send({ kind: 'events', stretch, events, reached, bytes }, bytes);
    }
    this.flushMarks();
  }

  /** Adds to `ran` what the thread has used. Now and then only: it costs more than one would think. */
  private count(): void {
    const now = threadTime();
    if (this.unasked > 0) this.ran += now - this.threadTime;
    this.threadTime = now;
    this.unasked = 0;
  }

  private flushCaptured(): void {
    if (this.captured.length === 0) return;
    const { captured, capturedBytes } = this;
    this.captured = [];
    this.capturedBytes = 0;
    this.send({ kind: 'disk', blocks: captured, bytes: capturedBytes }, capturedBytes);
  }

  private flushMarks(): void {
    if (this.marks.length === 0) return;
    const bytes = this.marks.length * MARK_BYTES;
    this.send({ kind: 'marks', marks: this.marks, bytes }, bytes);
    this.marks = [];
  }
}

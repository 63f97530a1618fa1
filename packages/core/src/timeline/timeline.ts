/**
 * A recording as a timeline: one machine that can be brought to any moment of it, forwards and backwards.
 *
 * A moment is `at`, the number of steps since the recording began. To go there is to take the nearest state before it, of a checkpoint in
 * memory or a keyframe in the file, and to run on from there. Close to where somebody has been there are checkpoints, ever
 * denser towards the place, so that the next step back is short. What is run is verified at each keyframe that it passes.
 *
 * Long work is a generator: it yields now and then, so that its caller can show progress, or leave it. Whoever leaves it finds the
 * machine somewhere on the way.
 */

import { OverheardPrograms } from '../agent/overheard.ts';
import {
  becomeForkPoint,
  type ForkPoint,
  forkPoint,
  freeForkPoint,
  machineFrom,
  rootsOf,
} from '../branch/fork-point.ts';
import { DiskError } from '../disk/errors.ts';
import { FrameBlocks } from '../disk/frame-blocks.ts';
import type { Engine } from '../engine/engine.ts';
import { recordedHash } from '../machine/hash.ts';
import type { LinkState } from '../machine/inputs.ts';
import { comparePositions, LogReader, type Position, ReplayError } from '../machine/log.ts';
import type { Machine, Outputs } from '../machine/machine.ts';
import { MachineError, type Stop } from '../machine/options.ts';
import { freeMap, type MapRoots } from '../memory/frame-map.ts';
import { ENTRY_REMOTE, RAM_BASE } from '../memory/layout.ts';
import { PoolFullError } from '../memory/pool.ts';
import { Ram } from '../memory/ram.ts';
import { type Checkpoint, Checkpoints } from './checkpoints.ts';
import { differences } from './differences.ts';
import { DivergenceError } from './divergence.ts';
import { located, stateAt } from './keyframe-state.ts';
import { PageCache } from './page-cache.ts';
import { arm, type Hit, type Point } from './points.ts';
import { RecordedDisk } from './recorded-disk.ts';
import { RecordingError } from './recording/errors.ts';
import type { Keyframe, Recording } from './recording/reader.ts';

/** Who hears what the guest says. */
export interface TimelineOutputs extends Pick<Outputs, 'console' | 'terminal'> {
  /** Programs that the guest's agent runs. */
  program?(stream: 'stdout' | 'stderr', bytes: Uint8Array): void;
}

/** Where a search or a run is. */
export interface Progress {
  readonly at: bigint;
}

/** Why a run along the timeline ended. */
export type TimelineStop =
  | { readonly kind: 'hit'; readonly hit: Hit }
  /** It is where it was to go. */
  | { readonly kind: 'there' }
  /** Of the recording. */
  | { readonly kind: 'begin' }
  | { readonly kind: 'end' };

/** Who wrote to memory last. */
export type LastWrite =
  | { readonly kind: 'write'; readonly hit: Hit }
  /** The machine's state was replaced there (it adopted a clone, or went back to a fork point). */
  | { readonly kind: 'replaced'; readonly at: bigint }
  /** Nobody did since the recording began. */
  | { readonly kind: 'before' };

/** A part of a timeline, from a moment on and up to before another one. */
export interface Interval {
  readonly from: bigint;
  readonly to: bigint;
}

/** Steps between two looks around. */
const TURN = 4_000_000n;
/** How far before a place checkpoints are left on the way there. */
const LADDER = [1_000n, 8_000n, 64_000n, 512_000n, 4_096_000n, 32_768_000n, 262_144_000n] as const;
/** Frames that go at once when the pool is full. */
const DROPPED_FRAMES = 4096;
const HART_SCAN = 50_000_000n;

export class Timeline {
  readonly recording: Recording;
  readonly machine: Machine;
  /** Called where the machine stands while `run` goes on: at the stops of hooks, replay-only code and others. They change nothing. */
  readonly listeners = new Set<(stop: Stop) => void>();
  private readonly engine: Engine;
  private readonly cache: PageCache;
  private readonly checkpoints: Checkpoints;
  private readonly disks: readonly RecordedDisk[];
  private readonly link: LinkState;
  private readonly shown: TimelineOutputs;
  private readonly programs = new OverheardPrograms((stream, bytes) => this.shown.program?.(stream, bytes));
  private showing = false;
  /** Hears of stops while `run` goes on, and says whether it ends. */
  private stopped: ((stop: Stop) => boolean) | undefined;
  private stretch = 0;
  /** What remote pages and disks are based on. */
  private keyframe = 0;
  /** The last keyframe that the machine was at, or has passed. */
  private passed = 0;
  private reader: LogReader;
  /** Idle gaps that end later are not jumped over. */
  private timeLimit = 0n;
  /** Keyframes that were found to be as recorded. */
  private readonly verifiedKeyframes = new Set<number>();
  private endVerified = false;
  /** What the run under way has asked a disk for in vain. */
  private lacking: DiskError | undefined;
  /** A state could not be taken: the machine is nowhere. */
  private lost = false;

  /** A timeline at its beginning. `outputs` hear what the guest says while `show` runs. Throws `StateError` and `RecordingError`. */
  constructor(engine: Engine, recording: Recording, outputs: TimelineOutputs = {}) {
    const { pool } = engine;
    const { info } = recording;
    this.engine = engine;
    this.recording = recording;
    this.shown = outputs;
    this.cache = new PageCache(pool, recording, Math.floor(pool.limit / 4));
    this.checkpoints = new Checkpoints(pool);
    this.disks = info.disks.map(
      ({ size, readOnly }, n) =>
        new RecordedDisk(recording.disks, n, { size, readOnly }, (ref, into) => recording.block(ref, into)),
    );
    for (const disk of this.disks) disk.missing = (error) => void (this.lacking ??= error);
    this.reader = new LogReader(recording.stretches[0]!.log);
    const bases = this.disks.map((backend) => ({ backend }));
    const record = stateAt(recording, recording.keyframes[0]!);
    const point = { record, link: undefined, ...this.mapsOf(0) };
    const shows: Outputs = {
      console: (bytes) => this.showing && this.shown.console?.(bytes),
      terminal: (bytes) => this.showing && this.shown.terminal?.(bytes),
      agent: (bytes) => this.showing && this.programs.receive(bytes),
    };
    const attachments = { disks: bases, epoch: info.epoch };
    try {
      this.machine = located(recording, 0, () =>
        machineFrom(engine, point, attachments, shows, { source: this.cache.source(0) }),
      );
    } catch (error) {
      this.cache.drop(this.cache.size);
      throw error;
    }
    this.link = this.machine.saveLink();
    this.machine.mayJump = (until) => until <= this.timeLimit;
    this.begin(0, 0, 0);
  }

  /** Steps since the recording began. */
  get at(): bigint {
    const { from, firstSteps } = this.recording.stretches[this.stretch]!;
    return from + this.machine.totalSteps - firstSteps;
  }

  /** The same inside a callback of the running machine: before the step under way. */
  get atNow(): bigint {
    const { from, firstSteps } = this.recording.stretches[this.stretch]!;
    return from + this.machine.stepsNow - firstSteps;
  }

  get position(): Position {
    return this.machine.position;
  }

  get end(): bigint {
    return this.recording.end.at;
  }

  /** How many keyframes have been run to, and were the same. */
  get verified(): number {
    return this.verifiedKeyframes.size;
  }

  // --- Going somewhere

  /** Goes to a moment. Throws `MachineError` for one that the recording does not have, and `DivergenceError`. */
  *seek(at: bigint): Generator<Progress, void> {
    if (at < 0n || at > this.end) throw new MachineError(`the recording has steps 0 to ${this.end}, and no step ${at}`);
    this.restoreBefore(at);
    yield* this.forward(at, true);
  }

  /** Goes to the first moment at which so much guest time has passed since power-on, in ns; to the end if there is none. */
  *seekTime(time: bigint): Generator<Progress, void> {
    const { keyframes } = this.recording;
    const later = keyframes.findIndex((one) => one.time >= time);
    const base = keyframes[later < 0 ? keyframes.length - 1 : Math.max(0, later - 1)]!;
    if (this.machine.now >= time || this.at < base.at) yield* this.seek(base.at);
    if (this.machine.now >= time) return;
    yield* this.runUntil(() => this.machine.now >= time);
  }

  /** Goes to the first moment whose position is not before this one, in the last stretch that has it; to the end if there is none. */
  *seekPosition(position: Position): Generator<Progress, void> {
    const { keyframes } = this.recording;
    const base = keyframes.findLast((one) => comparePositions(one.position, position) <= 0) ?? keyframes[0]!;
    yield* this.seek(base.at);
    yield* this.runUntil(() => comparePositions(this.machine.position, position) >= 0);
  }

  /** Runs on to the first moment at which something holds that then goes on to hold; to the end if there is none. */
  private *runUntil(holds: () => boolean): Generator<Progress, void> {
    let low = this.at;
    for (let stretch = 64n; !holds(); stretch = stretch < TURN ? stretch * 4n : stretch) {
      low = this.at;
      if (low === this.end) return;
      const before = this.checkpoint();
      yield* this.forward(this.within(low + stretch), false);
      if (before && holds()) this.checkpoints.add(before);
      else if (before) freeForkPoint(this.engine.pool, before.point);
    }
    let high = this.at;
    while (high - low > 1n) {
      const middle = (low + high) / 2n;
      yield* this.seek(middle);
      if (holds()) high = middle;
      else low = middle;
    }
    yield* this.seek(high);
  }

  /**
   * Runs forwards, to a point, to `to`, or to the recording's end. A point where it stands at the start does not count. `show`: outputs are
   * heard.
   */
  *run(points: readonly Point[] = [], to: bigint = this.end, show = false): Generator<Progress, TimelineStop> {
    const from = this.at;
    let hit: Hit | undefined;
    const disarm = arm(this.machine, points, (point, hart, address) => {
      const at = this.atNow;
      if (at < from || (at === from && points[point]!.kind === 'break')) return false;
      hit ??= { at, hart, point, address };
      return true;
    });
    this.showing = show;
    this.programs.reset();
    this.stopped = (stop) => {
      for (const listener of this.listeners) listener(stop);
      return hit !== undefined;
    };
    try {
      yield* this.forward(to < this.end ? to : this.end, false);
      if (hit) return { kind: 'hit', hit };
      return this.at === this.end ? { kind: 'end' } : { kind: 'there' };
    } finally {
      this.showing = false;
      this.stopped = undefined;
      disarm();
    }
  }

  /** Runs backwards, to before the last time that a point was come to, or to the recording's beginning. */
  *reverse(points: readonly Point[]): Generator<Progress, TimelineStop> {
    for (const interval of this.intervals(this.at)) {
      const hit = yield* this.lastHit(interval, points);
      if (!hit) continue;
      yield* this.seek(hit.at);
      return { kind: 'hit', hit };
    }
    yield* this.seek(0n);
    return { kind: 'begin' };
  }

  /** Makes the next step, or a hart's next step. */
  *step(hart?: number): Generator<Progress, TimelineStop> {
    if (this.at === this.end) return { kind: 'end' };
    const made = hart === undefined ? 0n : this.machine.steps(hart);
    if (hart === undefined) yield* this.forward(this.at + 1n, false);
    else yield* this.runUntil(() => this.machine.steps(hart) > made);
    return this.at === this.end ? { kind: 'end' } : { kind: 'there' };
  }

  /** Goes to before the last step, or before a hart's last step. */
  *reverseStep(hart?: number): Generator<Progress, TimelineStop> {
    if (this.at === 0n) return { kind: 'begin' };
    const target = hart === undefined ? this.at - 1n : yield* this.beforeStepOf(hart);
    if (target === undefined) {
      yield* this.seek(0n);
      return { kind: 'begin' };
    }
    yield* this.seek(target);
    return { kind: 'there' };
  }

  /** The moment before a hart's last step; undefined when it has made none since the recording began. */
  private *beforeStepOf(hart: number): Generator<Progress, bigint | undefined> {
    // As nearly always: it is the one that has just run.
    const end = this.at;
    const made = this.machine.steps(hart);
    yield* this.seek(end - 1n);
    if (this.machine.steps(hart) < made) return end - 1n;
    for (const { from, to } of this.intervals(end - 1n)) {
      for (let low = to > from + HART_SCAN ? to - HART_SCAN : from; ; ) {
        yield* this.seek(low);
        if (this.machine.steps(hart) < made) {
          yield* this.runUntil(() => this.machine.steps(hart) >= made);
          return this.at - 1n;
        }
        if (low === from) break;
        low = low > from + HART_SCAN ? low - HART_SCAN : from;
      }
    }
    return undefined;
  }

  // --- Looking for something

  /** The last hit of points in a part of the timeline. The machine is somewhere in it afterwards. */
  *lastHit({ from, to }: Interval, points: readonly Point[]): Generator<Progress, Hit | undefined> {
    yield* this.seek(from);
    let last: Hit | undefined;
    const disarm = arm(this.machine, points, (point, hart, address) => {
      const at = this.atNow;
      if (at >= from && at < to) last = { at, hart, point, address };
      return false;
    });
    try {
      yield* this.forward(to, false);
    } finally {
      disarm();
    }
    return last;
  }

  /** What is before a moment, in parts that begin where a state is at hand, the last one first. */
  *intervals(at: bigint): Generator<Interval> {
    let to = at;
    while (to > 0n) {
      const state = this.stateBefore(to - 1n);
      yield { from: state.at, to };
      to = state.at;
    }
  }

  /** The parts in which a page of RAM may have been written, as far as the file knows; the last one first. */
  *writtenIntervals(page: number, at: bigint): Generator<Interval> {
    const { keyframes, stretches } = this.recording;
    let to = at;
    for (let k = this.keyframeBefore(at); k >= 0; k--) {
      const { at: from, stretch } = keyframes[k]!;
      const next = keyframes[k + 1];
      const known = next !== undefined && next.at <= at && next.stretch === stretch;
      if (from < to && !(known && !this.recording.mayDiffer(k + 1, page))) yield { from, to };
      to = from;
      // What was before the state was replaced is not the past of what is now there.
      if (k > 0 && stretches[stretch]!.firstKeyframe === k && this.recording.mayDiffer(k, page)) return;
    }
  }

  /** Who last wrote to bytes at a guest-physical address, before here: goes to before that. */
  *lastWrite(address: bigint, length = 1): Generator<Progress, LastWrite> {
    const point: Point = { kind: 'write', address, length, physical: true };
    const page = Number((address - BigInt(RAM_BASE)) / 4096n);
    const here = this.at;
    let from = here;
    for (const interval of this.writtenIntervals(page, here)) {
      from = interval.from;
      const hit = yield* this.lastHit(interval, [point]);
      if (!hit) continue;
      yield* this.seek(hit.at);
      return { kind: 'write', hit };
    }
    yield* this.seek(here);
    return this.replacedAt(page, from);
  }

  /** What it means that nobody has written to a page since a moment: where its content comes from. */
  replacedAt(page: number, at: bigint): LastWrite {
    const { stretches, keyframes } = this.recording;
    const border = stretches.findLast(
      ({ from, firstKeyframe }) =>
        firstKeyframe > 0 && from <= at && this.recording.mayDiffer(keyframes[firstKeyframe]!.index, page),
    );
    return border ? { kind: 'replaced', at: border.from } : { kind: 'before' };
  }

  // --- Leaving

  /** The keyframe on whose disks the machine's overlays are. */
  get base(): number {
    return this.keyframe;
  }

  /** The state here and now, for a machine that leaves the recording. Its pages are all there. Freed by whoever has it. */
  fork(): ForkPoint {
    const { ram } = this.machine;
    for (let page = 0; page < ram.pages; page++) {
      if (ram.entry(page) & ENTRY_REMOTE) this.retrying(() => ram.prepare(page, false));
    }
    return this.retrying(() => forkPoint(this.machine));
  }

  free(): void {
    this.checkpoints.clear();
    this.machine.free();
    this.cache.drop(this.cache.size);
  }

  /** Frames of the maps that it holds: see `Pool.rebuild`. */
  get roots(): readonly number[] {
    return [...rootsOf(this.machine), ...this.checkpoints.roots];
  }

  /** Single frames that it holds, once each. */
  get frames(): readonly number[] {
    return this.cache.held;
  }

  // --- States

  private within(at: bigint): bigint {
    return at < this.end ? at : this.end;
  }

  private stretchAt(at: bigint): number {
    return this.recording.stretches.findLastIndex(({ from }) => from <= at);
  }

  private keyframeBefore(at: bigint): number {
    return this.recording.keyframes.findLastIndex((one) => one.at <= at);
  }

  private stateBefore(at: bigint): {
    readonly at: bigint;
    readonly checkpoint?: Checkpoint;
    readonly keyframe: number;
  } {
    const keyframe = this.keyframeBefore(at);
    const { at: first, stretch } = this.recording.keyframes[keyframe]!;
    const checkpoint = this.checkpoints.before(at);
    if (checkpoint && checkpoint.stretch === stretch && checkpoint.at >= first) {
      return { at: checkpoint.at, checkpoint, keyframe: checkpoint.keyframe };
    }
    return { at: first, keyframe };
  }

  /** Brings the machine to the nearest state that is not behind a moment, if that is not the one that it is in. */
  private restoreBefore(at: bigint): void {
    const state = this.stateBefore(at);
    const here = this.at;
    if (!this.lost && here <= at && here >= state.at && this.stretch === this.stretchAt(at)) return;
    if (state.checkpoint) this.restoreCheckpoint(state.checkpoint);
    else this.restoreKeyframe(state.keyframe);
  }

  private restoreCheckpoint(checkpoint: Checkpoint): void {
    const { stretch, keyframe, events, passed, point } = checkpoint;
    this.checkpoints.used(checkpoint);
    this.become(point, keyframe);
    this.begin(stretch, events, passed);
  }

  private restoreKeyframe(keyframe: number): void {
    const { stretch, events } = this.recording.keyframes[keyframe]!;
    const record = stateAt(this.recording, this.recording.keyframes[keyframe]!);
    const point = { record, link: this.link, ...this.retrying(() => this.mapsOf(keyframe)) };
    try {
      located(this.recording, keyframe, () => this.become(point, keyframe));
    } finally {
      freeForkPoint(this.engine.pool, point);
    }
    this.begin(stretch, events, keyframe);
  }

  private become(point: ForkPoint, keyframe: number): void {
    this.lost = true;
    this.keyframe = keyframe;
    for (const disk of this.disks) disk.keyframe = keyframe;
    this.retrying(() => becomeForkPoint(this.machine, point));
    this.machine.ram.source = this.cache.source(keyframe);
    this.lost = false;
  }

  private begin(stretch: number, events: number, passed: number): void {
    this.stretch = stretch;
    this.passed = passed;
    this.reader = new LogReader(this.recording.stretches[stretch]!.log, events);
    this.machine.follow(this.reader);
  }

  /** A map of RAM as of a keyframe: pages that are in the cache, and others remote. */
  private mapOf(keyframe: number): MapRoots {
    const { recording, cache, engine } = this;
    const ram = new Ram(engine.pool, recording.info.memory);
    try {
      for (const page of recording.pages(keyframe)) {
        const frame = cache.has(recording.version(keyframe, page));
        if (frame === undefined) ram.markRemote(page);
        else {
          engine.pool.retain(frame);
          ram.place(page, frame);
        }
      }
    } catch (error) {
      ram.free();
      throw error;
    }
    return ram.roots;
  }

  /** RAM as of a keyframe, and for each disk that can be written an overlay with nothing in it. */
  private mapsOf(keyframe: number): Pick<ForkPoint, 'ram' | 'disks'> {
    const { pool } = this.engine;
    const ram = this.mapOf(keyframe);
    const disks: (MapRoots | undefined)[] = [];
    try {
      for (const { size, readOnly } of this.recording.info.disks)
        disks.push(readOnly ? undefined : new FrameBlocks(pool, size).roots);
    } catch (error) {
      for (const roots of [ram, ...disks]) if (roots) freeMap(pool, roots);
      throw error;
    }
    return { ram, disks };
  }

  /** The state here; none when the pool has no room for it, and the next seek takes longer. */
  private checkpoint(): Checkpoint | undefined {
    const { at, stretch, keyframe, passed } = this;
    try {
      const point = forkPoint(this.machine);
      return { at, stretch, keyframe, passed, events: this.reader.index, point };
    } catch (error) {
      if (error instanceof PoolFullError) return undefined;
      throw error;
    }
  }

  // --- Running

  /** Runs to a moment that is not behind, unless `stopped` ends it before. `ladder`: leaves checkpoints on the way. */
  private *forward(target: bigint, ladder: boolean): Generator<Progress, void> {
    if (this.lost) this.restoreBefore(target);
    const { end, stretches } = this.recording;
    const rungs = ladder ? LADDER.map((distance) => target - distance).reverse() : [];
    for (;;) {
      const next = stretches[this.stretch + 1];
      const border = next && next.from <= target ? next : undefined;
      const limit = border ? border.from : target;
      const keyframe = this.nextToVerify(limit);
      this.reader.until = keyframe ? keyframe.events : Number.POSITIVE_INFINITY;
      this.timeLimit = keyframe ? keyframe.time : next ? FOREVER : end.time;
      const goal = keyframe ? keyframe.at : limit;
      const rung = rungs.find((at) => at > this.at && at < goal && !this.checkpoints.has(at));
      if (yield* this.toward(rung ?? goal)) return;
      if (rung !== undefined) {
        const checkpoint = this.checkpoint();
        if (checkpoint) this.checkpoints.add(checkpoint);
      } else if (keyframe) {
        this.verify(keyframe.hash, keyframe.index);
        this.passed = keyframe.index;
        this.verifiedKeyframes.add(keyframe.index);
      } else if (border) this.restoreKeyframe(border.firstKeyframe);
      else {
        if (target === end.at && end.hash !== undefined && !this.endVerified) {
          this.verify(end.hash);
          this.endVerified = true;
        }
        return;
      }
      // A file may have any number of these at one moment.
      if (rung === undefined) yield { at: this.at };
    }
  }

  /** The first keyframe ahead, up to a moment of this stretch, that the machine has not been compared with. */
  private nextToVerify(limit: bigint): Keyframe | undefined {
    const { keyframes } = this.recording;
    for (let k = this.passed + 1; k < keyframes.length; k++) {
      const keyframe = keyframes[k]!;
      if (keyframe.stretch !== this.stretch || keyframe.at > limit) return undefined;
      if (!this.verifiedKeyframes.has(k)) return keyframe;
    }
    return undefined;
  }

  /** Runs to a moment of this stretch, and settles there; true when `stopped` ends it before. */
  private *toward(target: bigint): Generator<Progress, boolean> {
    for (;;) {
      const left = target - this.at;
      if (left < 0n) throw this.divergence(`it is behind step ${target}`);
      const stop = this.runMachine(Number(left < TURN ? left : TURN));
      this.machine.log.clear();
      switch (stop.reason) {
        case 'breakpoint':
        case 'watchpoint':
        case 'system-call':
        case 'replay-only':
        case 'hint':
          if (this.stopped?.(stop)) return true;
          break;
        case 'exit':
        case 'idle':
          if (this.at < target) {
            throw this.divergence(
              stop.reason === 'exit' ? 'the machine is over' : 'every hart waits, where the recorded machine went on',
            );
          }
          return false;
        case 'stalled':
          throw new MachineError('a disk of a recording answers late');
        case 'steps':
          if (this.at === target) return false;
      }
      yield { at: this.at };
    }
  }

  private runMachine(steps: number): Stop {
    this.lacking = undefined;
    try {
      const stop = this.retrying(() => this.machine.run(steps));
      // The guest has got an I/O error that the recorded one did not get.
      if (this.lacking) throw this.lacking;
      return stop;
    } catch (error) {
      // It stands within a step for which the file has no page, block or event, or has gone on without one.
      if (error instanceof RecordingError || error instanceof DiskError) this.lost = true;
      // What comes from outside may make no sense to this machine.
      if (error instanceof ReplayError || error instanceof MachineError || error instanceof DiskError)
        throw this.divergence(error.message, { cause: error });
      throw error;
    }
  }

  /** Does something that needs frames; gives up checkpoints and cached pages for it. */
  private retrying<T>(work: () => T): T {
    for (;;) {
      try {
        return work();
      } catch (error) {
        if (!(error instanceof PoolFullError)) throw error;
        if (this.checkpoints.drop()) continue;
        if (this.cache.size === 0) throw error;
        this.cache.drop(DROPPED_FRAMES);
      }
    }
  }

  /** Compares the machine with what was recorded of it at a keyframe, or at the end. */
  private verify(hash: string, keyframe?: number): void {
    if (recordedHash(this.machine) === hash) return;
    throw this.divergence('its state is another one', {}, keyframe);
  }

  private divergence(why: string, options?: ErrorOptions, keyframe?: number): DivergenceError {
    const { at, position } = this;
    const passed = this.recording.keyframes[this.passed]!;
    const found = keyframe === undefined ? [] : this.differencesAt(keyframe);
    return new DivergenceError(
      { from: passed.at, fromPosition: passed.position, at, position, why, differences: found.slice(0, 20) },
      options,
    );
  }

  private differencesAt(keyframe: number): ReturnType<typeof differences> {
    const disks = this.recording.info.disks.map(({ size, readOnly }, n) => ({
      backend: new RecordedDisk(this.recording.disks, n, { size, readOnly }, () => {}),
    }));
    const point = {
      record: this.recording.record(keyframe),
      link: this.link,
      ...this.mapsOf(keyframe),
    };
    const { epoch } = this.recording.info;
    const recorded = machineFrom(this.engine, point, { disks, epoch }, {}, { source: this.cache.source(keyframe) });
    try {
      return differences(recorded, this.machine, { disks: false });
    } finally {
      recorded.free();
    }
  }
}

const FOREVER = 1n << 63n;

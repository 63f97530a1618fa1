/**
 * The main thread's end of a recording: writes what a machine's recorder sends. Keyframes are read out of the pool's frames, which
 * they share with the machine, while it runs on.
 */

import { type ForkPoint, freeForkPoint } from '@braid/core/branch/fork-point.ts';
import { argument } from '@braid/core/check/calls.ts';
import { flag, integer, list, oneOf, optional, record, type Schema, text } from '@braid/core/check/schema.ts';
import { hashOfRecord } from '@braid/core/machine/hash.ts';
import { FrameMap } from '@braid/core/memory/frame-map.ts';
import { FrameHash } from '@braid/core/memory/hash.ts';
import { ENTRY_FRAME, HOST_SCRATCH, PAGE } from '@braid/core/memory/layout.ts';
import type { RecordingInfo } from '@braid/core/timeline/recording/info.ts';
import { RecordingWriter } from '@braid/core/timeline/recording/writer.ts';
import { checked, PATTERN } from '../check.ts';
import { BraidError } from '../errors.ts';
import type { Link } from '../pool/link.ts';
import type { Pool } from '../pool/pool.ts';
import type { Recorded } from '../pool/protocol.ts';
import { VERSION } from '../version.ts';
import { RecordingFile } from './recording-file.ts';

export interface RecordMachineOptions {
  /** What was run, for people. */
  readonly title?: string;
  /** What is shown of it in a replay, if nothing else is asked for: the console (the default), or programs' output. */
  readonly shows?: 'console' | 'programs';
  /** Console output that is to be marked. */
  readonly marks?: readonly (string | RegExp)[];
  /**
   * Milliseconds of running between two keyframes. By default 500, and more where they are large, so that they cost a few percent; with
   * fewer a replay goes backwards faster, and recording costs more.
   */
  readonly keyframeMs?: number;
  /** Bytes that keyframes may take in the file: they get rarer as it fills up. 8 GiB by default. */
  readonly keyframeBytes?: number;
  /** Overwrites a file that is there, whatever it is. */
  readonly overwrite?: boolean;
}

export const RECORD_OPTIONS: Schema<RecordMachineOptions> = record<RecordMachineOptions>({
  title: optional(text),
  shows: optional(oneOf('console', 'programs')),
  marks: optional(list(PATTERN)),
  keyframeMs: optional(integer(1)),
  keyframeBytes: optional(integer(0)),
  overwrite: optional(flag),
});

/** What has been written. */
export interface RecordingStatistics {
  readonly path: string;
  /** Steps recorded. */
  readonly steps: bigint;
  /** Bytes of the file, of what came from outside in it, and of keyframes. */
  readonly bytes: number;
  readonly logBytes: number;
  readonly keyframeBytes: number;
  readonly diskBytes: number;
  /** Bytes of console input, packets and answers of the agent's client: what the log cannot do without. */
  readonly inputBytes: number;
  readonly events: number;
  readonly keyframes: number;
}

const KEYFRAME_BYTES = 8 * 2 ** 30;
/**
 * CPU time (ms) of all threads for a keyframe; for each of its pages, to copy it on write, hash it and look what is new; and for each byte
 * that is, to compress and write it. Measured.
 */
const COST = { each: 5, page: 0.004, byte: 3.5e-6 } as const;

/** A recording under way: see `Machine.record`. */
export class MachineRecording implements AsyncDisposable {
  readonly path: string;
  /** Resolves when the recording is over; rejects when it could not go on. The machine runs on in any case. */
  readonly ended: Promise<RecordingStatistics>;
  private readonly pool: Pool;
  private readonly link: Link;
  private readonly file: RecordingFile;
  private readonly writer: RecordingWriter;
  private readonly hash: FrameHash;
  private readonly room: number;
  private readonly release: () => void;
  private work: Promise<void> = Promise.resolve();
  private failure: BraidError | undefined;
  /** The last of it has come. */
  private ending = false;
  private over = false;
  /** The keyframe before, whose frames the next one is compared with. */
  private before: ForkPoint | undefined;
  private counts = { steps: 0n, events: 0, keyframes: 0, inputBytes: 0 };
  private settle: { resolve(value: RecordingStatistics): void; reject(error: unknown): void };

  /** Has a machine recorded, once the one who asks holds the recording, which he does until it is over. @internal */
  static async begin(
    pool: Pool,
    link: Link,
    path: string,
    options: RecordMachineOptions,
    hold: (recording: MachineRecording | undefined) => void,
  ): Promise<MachineRecording> {
    const { title = '', shows = 'console', marks = [], keyframeMs, keyframeBytes, overwrite = false } = options;
    const patterns = marks.map((mark) =>
      typeof mark === 'string'
        ? new RegExp(mark.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'), 'g')
        : new RegExp(mark.source, `${mark.flags.replace(/[gy]/g, '')}g`),
    );
    const info = { braid: VERSION, title, shows, ...(await link.call('recordingInfo', {})) };
    const file = new RecordingFile(path, { overwrite });
    // What is sent is of one thread.
    const { onActivate } = link;
    link.onActivate = undefined;
    const recording = new MachineRecording(pool, link, file, info, keyframeBytes, () => {
      hold(undefined);
      link.onActivate = onActivate;
    });
    hold(recording);
    try {
      await link.call('record', { patterns, ...(keyframeMs === undefined ? {} : { keyframeMs }) });
    } catch (error) {
      await recording.abandon();
      throw error;
    }
    return recording;
  }

  private constructor(
    pool: Pool,
    link: Link,
    file: RecordingFile,
    info: RecordingInfo,
    room: number = KEYFRAME_BYTES,
    released: () => void,
  ) {
    this.path = file.path;
    this.pool = pool;
    this.link = link;
    this.file = file;
    this.room = room;
    this.writer = new RecordingWriter(file, pool.view);
    this.hash = new FrameHash(pool.view, HOST_SCRATCH);
    const { promise, resolve, reject } = Promise.withResolvers<RecordingStatistics>();
    this.ended = promise;
    this.settle = { resolve, reject };
    promise.catch(() => {}); // whoever looks at it hears of it
    this.release = link.on('recorded', (item) => this.take(item as Recorded));
    this.released = released;
    link.on('closed', () => {
      const why = 'the machine is gone, and was not recorded to its end';
      if (!this.ending) this.fail(new BraidError('ERR_BRAID_RECORDING', why));
    });
    this.enqueue(() => this.writer.start(info));
  }

  private readonly released: () => void;

  /** Names the moment where the machine stands, or is just now; steps since the recording began. */
  mark(name: string): Promise<bigint> {
    return this.link.call('mark', { name });
  }

  /** Ends it: nothing has been sent. @internal */
  async abandon(): Promise<void> {
    await this.work;
    await this.close();
  }

  get statistics(): RecordingStatistics {
    const { counts, file, path } = this;
    const { events, changes, hashes, keyframe, blocks, disk } = file.written;
    const sizes = {
      bytes: file.size,
      logBytes: events,
      keyframeBytes: changes + hashes + keyframe,
      diskBytes: blocks + disk,
    };
    return { path, ...counts, ...sizes };
  }

  /** Ends the recording where the machine stands. */
  async stop(why = 'stopped'): Promise<RecordingStatistics> {
    if (!this.over) await this.link.call('stopRecording', { why });
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  private take(item: Recorded): void {
    if ('point' in item) this.pool.hold(item);
    if (item.kind === 'end') this.ending = true;
    this.enqueue(() => this.write(item));
  }

  private enqueue(task: () => Promise<void>): void {
    this.work = this.work.then(task).catch((error) => this.fail(error));
  }

  private async write(item: Recorded): Promise<void> {
    // After a failure what still comes is let go, so that the machine runs on.
    const { failure } = this;
    switch (item.kind) {
      case 'events':
        if (!failure) await this.writer.events(item.stretch, item.events, item.reached);
        this.counts.events += item.events.length;
        for (const { event } of item.events) this.counts.inputBytes += 'bytes' in event ? event.bytes.length : 0;
        return this.acknowledge(item.bytes);
      case 'disk':
        if (!failure) await this.writer.disk(item.blocks);
        return this.acknowledge(item.bytes);
      case 'marks':
        if (!failure) await this.writer.marks(item.marks);
        return this.acknowledge(item.bytes);
      case 'keyframe':
        return this.keyframe(item);
      case 'end':
        return this.end(item);
      case 'failed':
        throw new BraidError('ERR_BRAID_RECORDING', `the recording ends here: ${item.why}`);
    }
  }

  private acknowledge(bytes: number, keyframeCost?: number): void {
    const full = this.statistics.keyframeBytes / this.room;
    this.link.post({ type: 'written', bytes, keyframeCost, full });
  }

  private async keyframe({ stretch, at, written, point }: Extract<Recorded, { kind: 'keyframe' }>): Promise<void> {
    const { before, pool, writer } = this;
    if (this.over) return this.free(point);
    let cost: number = COST.each;
    const { changed } = writer;
    this.before = point;
    this.counts.steps = at;
    this.counts.keyframes++;
    try {
      if (this.failure) return;
      const { record } = point;
      const map = this.mapOf(point);
      const hash = hashOfRecord(pool.view, this.hash, record, map);
      const pages = [...map.changed(before?.ram)];
      cost += pages.length * COST.page;
      const frame = (page: number) => map.entry(page) & ENTRY_FRAME;
      const last = before && this.mapOf(before);
      const lastFrame = last && ((page: number) => last.entry(page) & ENTRY_FRAME);
      const hashOf = (frame: number) => this.hash.of(frame);
      await writer.keyframe({ stretch, at, record, hash, pages, frame, before: lastFrame, hashOf, written });
      cost += (writer.changed - changed) * COST.byte;
    } finally {
      if (before) this.free(before);
      this.acknowledge(0, cost);
    }
  }

  private async end({ point, kind: _, ...end }: Extract<Recorded, { kind: 'end' }>): Promise<void> {
    try {
      this.counts.steps = end.at;
      const hash = hashOfRecord(this.pool.view, this.hash, point.record, this.mapOf(point));
      if (!this.failure) await this.writer.end({ ...end, hash });
    } finally {
      this.free(point);
      await this.close();
    }
  }

  private mapOf({ record, ram }: ForkPoint): FrameMap {
    return new FrameMap(this.pool.view, record.configuration.memory / PAGE, { roots: ram });
  }

  private free(point: ForkPoint): void {
    this.pool.release(point);
    freeForkPoint(this.pool.view, point);
  }

  private fail(error: unknown): void {
    if (this.over || this.failure) return;
    this.failure =
      error instanceof BraidError
        ? error
        : new BraidError('ERR_BRAID_RECORDING', `recording ${this.path}: ${(error as Error).message}`, {
            cause: error,
          });
    this.link.call('stopRecording', { why: this.failure.message }).then(
      () => {},
      // Not while a keyframe is read out of its frames.
      () => this.enqueue(() => this.close()),
    );
  }

  private async close(): Promise<void> {
    if (this.over) return;
    this.over = true;
    this.release();
    if (this.before) this.free(this.before);
    this.before = undefined;
    try {
      await this.file.close();
    } catch (error) {
      this.failure ??= error as BraidError;
    }
    this.released();
    if (this.failure) this.settle.reject(this.failure);
    else this.settle.resolve(this.statistics);
  }
}

checked<MachineRecording>(MachineRecording.prototype, {
  rejects: { mark: [argument('name', text)], stop: [argument('why', optional(text))] },
  throws: {},
});

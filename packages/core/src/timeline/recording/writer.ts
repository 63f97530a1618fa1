/**
 * Writes a recording, chunk by chunk, to whoever takes them. Calls may follow each other without waiting: what they say is in the file in
 * their order. The first failure ends the recording; every later call fails with the same error.
 */

import { comparePositions, type LoggedEvent } from '../../machine/log.ts';
import type { MachineRecord } from '../../machine/save.ts';
import { CHANGES_SCRATCH, PAGE } from '../../memory/layout.ts';
import type { Pool } from '../../memory/pool.ts';
import { encodeState } from '../../state/encode.ts';
import { Allowance, HELD, heldOfMark } from './allowance.ts';
import { type DiskCaptureItem, encodeCaptures } from './captures.ts';
import { type ChunkSink, HASH, LIMITS } from './chunk.ts';
import { RecordingError } from './errors.ts';
import { encodeEvents } from './events.ts';
import { type Mark, type RecordingEnd, type RecordingInfo, saveEnd, saveInfo, saveMarks } from './info.ts';
import { KeyframeEncoder, momentOf, stepsOf } from './keyframe.ts';
import type { Moment } from './moment.ts';
import { ChangesEncoder, PageBases } from './page-changes.ts';

export interface KeyframeInput {
  /** The one under way, or the next. */
  readonly stretch: number;
  readonly at: bigint;
  readonly record: MachineRecord;
  /** The state's. */
  readonly hash: string;
  /** Guest page numbers, ascending: at least those whose content may differ from the keyframe before; all that may not be zero in the first. */
  readonly pages: Iterable<number>;
  /** The frame of a page, 0 for one that is absent. It has to stay as it is until the call is over. */
  frame(page: number): number;
  /** The frame of a page at the keyframe before, likewise: with it what is written is what differs. */
  before?: ((page: number) => number) | undefined;
  /** The hash of a frame's content: of all frames of a recording, or of none. */
  hashOf?(frame: number): Uint8Array;
  /** For each disk: blocks of 4 KiB written since the keyframe before, ascending. */
  readonly written: readonly Uint32Array[];
}

/** Batches of pages that may be on their way at the same time. */
const UNDER_WAY = 4;
/** Marks of a chunk: with names as long as names may be they are within `LIMITS.text`. */
const MARKS = 1024;

export class RecordingWriter {
  private readonly sink: ChunkSink;
  private readonly pool: Pool;
  private last: Promise<void> = Promise.resolve();
  private readonly encoders: ChangesEncoder[] = [];
  private bases: PageBases | undefined;
  /** What readers have room for. */
  private readonly allowance = new Allowance();
  private logged = 0;
  private contents = 0;
  /** Bytes of changes that keyframes have had so far, before they are compressed. */
  changed = 0;
  private hashes = new Uint8Array(64 * HASH);
  private stretch = -1;
  /** Of the last keyframe. */
  private at = 0n;
  /** Of the stretch under way. */
  private lastEvent: LoggedEvent | undefined;

  constructor(sink: ChunkSink, pool: Pool) {
    this.sink = sink;
    this.pool = pool;
  }

  start(info: RecordingInfo): Promise<void> {
    return this.append('start', () => [encodeState(saveInfo(info))]);
  }

  /**
   * Events of the stretch under way, none of them earlier than those of the calls before. `reached`: a moment behind which the machine
   * is now; a recording that is cut off is known to go up to there.
   */
  events(stretch: number, events: readonly LoggedEvent[], reached?: Moment): Promise<void> {
    return this.append('events', () => {
      if (stretch !== this.stretch) {
        throw new RecordingError(`events of stretch ${stretch} come in stretch ${this.stretch}`);
      }
      const [first, last] = [events[0], this.lastEvent];
      if (first && last && (comparePositions(first.position, last.position) < 0 || first.time < last.time)) {
        throw new RecordingError(`event ${first.event.kind} is earlier than the last one before it`);
      }
      this.lastEvent = events.at(-1) ?? last;
      this.logged += events.length;
      if (this.logged > LIMITS.events) throw full(`${LIMITS.events} events`);
      return events.length === 0 && !reached ? [] : encodeEvents(stretch, events, reached);
    });
  }

  /** All events that the machine has had before, and no later ones, are to be given before. Cost: a look at each page, and a copy of what is new in it. */
  keyframe(input: KeyframeInput): Promise<void> {
    const { stretch, at, record, hash, written } = input;
    return this.enqueue(() => {
      const lists = written.reduce((sum, { length }) => sum + length * HELD.written, 0);
      this.hold(HELD.keyframe + (stretch === this.stretch ? 0 : HELD.stretch) + lists, 'keyframes');
      if (stretch !== this.stretch && stretch !== this.stretch + 1) {
        throw new RecordingError(`a keyframe of stretch ${stretch} comes in stretch ${this.stretch}`);
      }
      if (at < this.at) throw new RecordingError(`a keyframe at ${at} comes after one at ${this.at}`);
      if (stretch !== this.stretch) this.lastEvent = undefined;
      this.stretch = stretch;
      this.at = at;
      const head = { stretch, moment: momentOf(record, at), steps: stepsOf(record), hash };
      const encoder = new KeyframeEncoder(head, written, record);
      return () => this.writeKeyframe(encoder, input);
    });
  }

  /** Contents are copied at once. */
  disk(captures: readonly DiskCaptureItem[]): Promise<void> {
    return this.enqueue(() => {
      this.hold(captures.length * HELD.block, 'blocks');
      const chunks = encodeCaptures(captures);
      return async () => {
        for (const { blocks, disk } of chunks) {
          await Promise.all([this.sink.append('blocks', blocks), this.sink.append('disk', disk)]);
        }
      };
    });
  }

  marks(marks: readonly Mark[]): Promise<void> {
    return this.append('marks', () => {
      this.hold(
        marks.reduce((sum, mark) => sum + heldOfMark(mark), 0),
        'marks',
      );
      const chunks: Uint8Array[] = [];
      for (let from = 0; from < marks.length; from += MARKS) {
        chunks.push(encodeState(saveMarks(marks.slice(from, from + MARKS))));
      }
      return chunks;
    });
  }

  end(end: RecordingEnd): Promise<void> {
    return this.append('end', () => [encodeState(saveEnd(end))]);
  }

  private hold(bytes: number, what: string): void {
    if (!this.allowance.hold(bytes, this.sink.size)) throw full(`readers have room for of ${what}`);
  }

  private append(kind: 'start' | 'events' | 'marks' | 'end', encode: () => Uint8Array[]): Promise<void> {
    return this.enqueue(() => {
      const chunks = encode();
      return async () => {
        for (const chunk of chunks) await this.sink.append(kind, chunk);
      };
    });
  }

  /** Encodes now, and writes when all that came before is written. */
  private enqueue(encode: () => () => Promise<void>): Promise<void> {
    let write: () => Promise<void>;
    try {
      write = encode();
    } catch (error) {
      write = () => Promise.reject(error);
    }
    const done = this.last.then(write);
    // Whoever called hears of it; the next one too.
    done.catch(() => {});
    this.last = done;
    return done;
  }

  private async writeKeyframe(encoder: KeyframeEncoder, input: KeyframeInput): Promise<void> {
    const { pages, frame, before, hashOf, record } = input;
    const bases = (this.bases ??= new PageBases(record.configuration.memory / PAGE));
    const firstContent = this.contents;
    const underWay: Promise<void>[] = [];
    let changes = this.takeEncoder();
    const flush = async () => {
      const full = changes;
      this.changed += full.encoded.length;
      const written = this.sink.append('changes', full.encoded, full.contents).then(() => {
        full.clear();
        this.encoders.push(full);
      });
      // It is waited for below, perhaps after another one that fails too.
      written.catch(() => {});
      underWay.push(written);
      if (underWay.length === UNDER_WAY) await underWay.shift();
      changes = this.takeEncoder();
    };
    for (const page of pages) {
      const number = frame(page);
      this.hold(HELD.page, 'pages');
      const zero = number === 0 || changes.isZero(number);
      encoder.page(page, zero);
      if (zero) {
        bases.set(page);
        continue;
      }
      const old = before?.(page) ?? 0;
      const based = changes.add(number, old === 0 ? 0 : bases.find(page), old);
      bases.set(page, this.contents, based);
      if (hashOf) this.keepHash(this.contents - firstContent, hashOf(number));
      this.contents++;
      if (changes.full) await flush();
    }
    if (changes.contents > 0) await flush();
    this.encoders.push(changes);
    await Promise.all(underWay);
    const hashes = hashOf ? (this.contents - firstContent) * HASH : 0;
    if (hashes > 0) await this.sink.append('hashes', this.hashes.subarray(0, hashes));
    await this.sink.append('keyframe', encoder.finish(firstContent, hashes > 0));
  }

  private keepHash(n: number, hash: Uint8Array): void {
    if ((n + 1) * HASH > this.hashes.length) {
      const larger = new Uint8Array(2 * this.hashes.length);
      larger.set(this.hashes);
      this.hashes = larger;
    }
    this.hashes.set(hash, n * HASH);
  }

  private takeEncoder(): ChangesEncoder {
    return this.encoders.pop() ?? new ChangesEncoder(this.pool, CHANGES_SCRATCH);
  }
}

function full(what: string): RecordingError {
  return new RecordingError(`it is full: more than ${what}; begin another one`);
}

/**
 * A recording that is there to be read: what it says about itself, its events, and its keyframes as tables. Contents of pages and blocks
 * and events are read when they are asked for.
 *
 * Opening costs a look at every chunk's header, and reading all chunks but those of contents. Memory: 4 bytes for each page that a
 * keyframe names, 24 for each block of a disk, 80 MiB of contents that were used last, and the events of a chunk.
 * `allowance.ts` bounds both for made-up files.
 *
 * A chunk that is damaged or makes no sense ends the recording there: what is before it is used, from the first keyframe on.
 */

import { currentRecord, goesOnAsThere, type MachineRecord } from '../../machine/save.ts';
import { PAGE } from '../../memory/layout.ts';
import { decodeState } from '../../state/encode.ts';
import { StateError } from '../../state/errors.ts';
import { DiskHistory } from '../disk-history.ts';
import { Allowance, HELD, heldOfMark } from './allowance.ts';
import { ByteReader } from './bytes.ts';
import { decodeCaptures } from './captures.ts';
import {
  BATCH,
  type ByteSource,
  CHUNK_KINDS,
  type ChunkKind,
  type Codec,
  checkHead,
  HASH,
  HEAD_SIZE,
  HEADER_SIZE,
  LIMITS,
} from './chunk.ts';
import { type ChunkPlace, ChunkReader, type ContentPlace, ContentPlaces, KeptChunks, told } from './chunk-reader.ts';
import { type Crc32, crc32 as ownCrc32 } from './crc32.ts';
import { RecordingError, type Refused } from './errors.ts';
import { EventChunks, StretchLog } from './event-chunks.ts';
import { readEventsHead } from './events.ts';
import {
  type Mark,
  type RecordingEnd,
  type RecordingInfo,
  restoreEnd,
  restoreInfo,
  restoreMarks,
  sortMarks,
} from './info.ts';
import { decodeKeyframe, type KeyframeContent, ZERO_PAGE } from './keyframe.ts';
import type { Moment } from './moment.ts';
import { applyRuns, CHAIN, changeAt, MOST_BYTES, MOST_CONTENTS } from './page-changes.ts';
import { type NamedPages, PageVersions } from './page-versions.ts';

export interface Keyframe extends Moment {
  readonly index: number;
  readonly stretch: number;
  /** The state's. */
  readonly hash: string;
  /** How many of its stretch's events the machine has had: where a `LogReader` goes on. */
  readonly events: number;
}

/** A part of a recording in which the machine is a function of its state at the first keyframe and the events. */
export interface Stretch {
  readonly from: bigint;
  /** Steps that the machine had made there: `Machine.totalSteps`. */
  readonly firstSteps: bigint;
  readonly firstKeyframe: number;
  readonly keyframes: number;
  readonly log: StretchLog;
}

/** How much of a file is what. */
export interface KindSize {
  readonly chunks: number;
  /** Bytes of the file. */
  readonly stored: number;
  /** Bytes of the contents. */
  readonly raw: number;
}

export interface RecordingOptions {
  /** A faster one than the core's own. */
  readonly crc32?: Crc32;
}

const KEPT_PAGES = 32 * 2 ** 20;
const KEPT_HASHES = 32 * 2 ** 20;
const KEPT_BLOCKS = 16 * 2 ** 20;

export class Recording {
  readonly info: RecordingInfo;
  /** Whether its end is known, and it was not cut off. */
  readonly complete: boolean;
  /** The chunk with which it ends for this reader although the file goes on: it is damaged, or refused. */
  readonly stopped: Refused | undefined;
  readonly bytes: Readonly<Record<ChunkKind, KindSize>>;
  readonly stretches: readonly Stretch[];
  /** Ascending by `at`. */
  readonly keyframes: readonly Keyframe[];
  /** Ascending by `at`. */
  readonly marks: readonly Mark[];
  /** Of one that is not complete: the last moment that it says was reached. */
  readonly end: RecordingEnd;
  readonly disks: DiskHistory;
  private readonly reader: ChunkReader;
  /** Whether page contents are said by changes. */
  private readonly coded: boolean;
  private readonly pageContents: ContentPlaces;
  private readonly blockContents: ContentPlaces;
  private readonly versions: PageVersions;
  private readonly places: readonly KeyframePlace[];
  private readonly keptPages: KeptChunks;
  private readonly keptHashes: KeptChunks;
  private readonly keptBlocks: KeptChunks;

  private constructor(scan: Scan) {
    this.info = scan.info!;
    this.stopped = scan.stopped;
    this.complete = scan.end !== undefined;
    this.bytes = scan.bytes;
    this.stretches = scan.stretches;
    this.keyframes = scan.keyframes;
    this.marks = sortMarks(scan.marks);
    this.end = scan.end ?? lastMoment(scan);
    this.disks = scan.disks;
    this.reader = scan.reader;
    this.coded = scan.version > 1;
    this.pageContents = scan.pages;
    this.blockContents = scan.blocks;
    this.places = scan.places;
    this.versions = new PageVersions(this.info.memory / PAGE, scan.named);
    this.keptPages = new KeptChunks(this.reader, KEPT_PAGES);
    this.keptHashes = new KeptChunks(this.reader, KEPT_HASHES);
    this.keptBlocks = new KeptChunks(this.reader, KEPT_BLOCKS);
  }

  /** Throws `RecordingError` for a file that is none, or that ends or is damaged before its first keyframe. */
  static open(source: ByteSource, codecs: readonly Codec[], { crc32 = ownCrc32 }: RecordingOptions = {}): Recording {
    const reader = new ChunkReader(source, codecs, crc32);
    const scan = new Scan(reader);
    scan.run();
    return new Recording(scan);
  }

  /** The machine's state at a keyframe, but for its pages; whoever uses it checks it. Throws `RecordingError`. */
  record(keyframe: number): MachineRecord {
    const { place } = this.place(keyframe);
    const record = currentRecord(told(place, () => decodeState(this.keyframe(keyframe).record))) as MachineRecord;
    if (goesOnAsThere(record)) return record;
    throw new RecordingError(
      `its machine was interrupted in another way than by this build: use the one that made it (${this.info.braid})`,
      place.offset,
    );
  }

  /** What is wrong with a keyframe, said as an error that names its place in the file. */
  damaged(keyframe: number, why: string, options?: ErrorOptions): RecordingError {
    const { number, offset } = this.place(keyframe).place;
    return new RecordingError(
      `chunk ${number} (keyframe): ${why}: the file is damaged, copy it again`,
      offset,
      options,
    );
  }

  /** The number of a page's content as of a keyframe, or -1 of one that is zero. Equal numbers are equal contents. */
  version(keyframe: number, page: number): number {
    this.requirePage(keyframe, page);
    return this.versions.find(keyframe, page);
  }

  /** Pages that are not zero as of a keyframe, ascending. */
  pages(keyframe: number): Uint32Array {
    this.place(keyframe);
    return this.versions.present(keyframe);
  }

  /** Pages that the file says differ from the keyframe before, in the order of the file, ascending. */
  changed(keyframe: number): Uint32Array {
    return this.keyframe(keyframe).pages.map((page) => page & ~ZERO_PAGE);
  }

  /** Whether a page is among those. Fast. */
  mayDiffer(keyframe: number, page: number): boolean {
    this.requirePage(keyframe, page);
    return this.versions.named(keyframe, page);
  }

  /** Fills 4096 bytes with a page's content. Contents of neighbouring numbers are read together. Throws `RecordingError`. */
  content(version: number, into: Uint8Array): void {
    if (!this.coded) return take(this.pageContents, this.keptPages, version, into);
    this.requireContent(version);
    const runs: Uint8Array[] = [];
    const places: ContentPlace[] = [];
    for (let number = version, base: number; ; number = base - 1) {
      const place = this.pageContents.find(number);
      const change = toldContent(place, () => changeAt(this.keptPages.content(place), place.index));
      places.push(place);
      runs.push(change.runs);
      ({ base } = change);
      if (base === 0) break;
      if (base > number || runs.length > CHAIN) {
        const why =
          base > number ? `is made of content ${base - 1}, which is not before it` : `has over ${CHAIN} bases`;
        toldContent(place, () => reject(`content ${number}`, why));
      }
    }
    into.fill(0);
    for (let n = runs.length - 1; n >= 0; n--) toldContent(places[n]!, () => applyRuns(runs[n]!, into));
  }

  /** Page contents that are best read together with one: they are stored beside it. */
  together(version: number): { readonly first: number; readonly count: number } {
    this.requireContent(version);
    const { index, contents } = this.pageContents.find(version);
    const from = index - (index % BATCH);
    return { first: version - index + from, count: Math.min(BATCH, contents - from) };
  }

  /** The hash of a page's content, where the recording has it: a view, as `FrameHash` keeps it. Throws `RecordingError`. */
  pageHash(version: number): Uint8Array | undefined {
    this.requireContent(version);
    // Contents that no keyframe names have none.
    const place = this.places[this.versions.keyframeOf(version)];
    if (!place?.hashes || version < place.firstContent) return undefined;
    const at = (version - place.firstContent) * HASH;
    return this.keptHashes.content(place.hashes).subarray(at, at + HASH);
  }

  /** Fills in what a block of a disk held; `ref` is what `disks` gives. Throws `RecordingError`. */
  block(ref: number, into: Uint8Array): void {
    take(this.blockContents, this.keptBlocks, ref, into);
  }

  private requireContent(version: number): void {
    if (!(version >= 0 && version < this.pageContents.count))
      throw new RangeError(`there is no page content ${version}`);
  }

  private requirePage(keyframe: number, page: number): void {
    this.place(keyframe);
    if (!(page >= 0 && page < this.info.memory / PAGE)) throw new RangeError(`there is no page ${page}`);
  }

  private place(keyframe: number): KeyframePlace {
    const place = this.places[keyframe];
    if (!place) throw new RangeError(`there is no keyframe ${keyframe}`);
    return place;
  }

  private keyframe(keyframe: number): KeyframeContent {
    const { place } = this.place(keyframe);
    const content = this.reader.content(place);
    return told(place, () => decodeKeyframe(new ByteReader(content), this.info.memory / PAGE));
  }
}

function take(places: ContentPlaces, kept: KeptChunks, number: number, into: Uint8Array): void {
  if (!(number >= 0 && number < places.count)) throw new RangeError(`there is no content ${number}`);
  const place = places.find(number);
  const from = place.index * PAGE;
  into.set(kept.content(place).subarray(from, from + Math.min(into.length, PAGE)));
}

function toldContent<T>({ offset, number }: ContentPlace, decode: () => T): T {
  return told({ offset, number, kind: 'changes' }, decode);
}

function reject(where: string, why: string): never {
  throw new StateError(where, why);
}

function lastMoment({ keyframes, reached, marks, stopped }: Scan): RecordingEnd {
  const cut = stopped ? `the file cannot be used from byte ${stopped.offset} on` : 'the recording is cut off';
  let last: RecordingEnd = { ...keyframes.at(-1)!, exit: undefined, why: cut };
  for (const { at, position, time, stretch } of [...reached, ...marks]) {
    if (at > last.at) last = { at, position, time, stretch, hash: undefined, exit: undefined, why: last.why };
  }
  const { at, position, time, stretch, hash, exit, why } = last;
  return { at, position, time, stretch, hash, exit, why };
}

interface KeyframePlace {
  readonly place: ChunkPlace;
  readonly firstContent: number;
  readonly hashes: ChunkPlace | undefined;
}

/** One pass over a file. What a chunk says is taken whole, or not at all. */
class Scan {
  readonly reader: ChunkReader;
  version = 0;
  readonly bytes: Record<ChunkKind, { chunks: number; stored: number; raw: number }>;
  info: RecordingInfo | undefined;
  end: RecordingEnd | undefined;
  stopped: Refused | undefined;
  readonly stretches: (Stretch & { keyframes: number })[] = [];
  readonly keyframes: Keyframe[] = [];
  readonly places: KeyframePlace[] = [];
  readonly named: NamedPages[] = [];
  readonly marks: Mark[] = [];
  /** The last moment of each stretch that was reached. */
  readonly reached: (Moment & { readonly stretch: number })[] = [];
  readonly disks = new DiskHistory();
  readonly pages = new ContentPlaces();
  readonly blocks = new ContentPlaces();
  private hashes: ChunkPlace | undefined;
  private readonly allowance = new Allowance();
  private readonly events: EventChunks;
  private captures = 0;
  private epoch = 0;

  constructor(reader: ChunkReader) {
    this.reader = reader;
    this.events = new EventChunks(reader);
    this.bytes = Object.fromEntries(
      CHUNK_KINDS.map((kind) => [kind, { chunks: 0, stored: 0, raw: 0 }]),
    ) as typeof this.bytes;
  }

  run(): void {
    const { reader } = this;
    const { source } = reader;
    const head = new Uint8Array(Math.min(HEAD_SIZE, source.size));
    reader.read(0, head);
    this.version = checkHead(head);
    let offset = HEAD_SIZE;
    for (let number = 0; ; number++) {
      try {
        const next = this.next(number, offset);
        if (next === undefined) break;
        offset = next;
      } catch (error) {
        if (!(error instanceof RecordingError) || this.keyframes.length === 0) throw error;
        this.stopped = { offset, number, why: error.why };
        return;
      }
    }
    if (this.keyframes.length === 0) {
      throw new RecordingError('the file is cut off before its first keyframe, there is nothing to replay', offset);
    }
  }

  /** Takes chunk `number`, and says where the next one begins. Throws `RecordingError`. */
  private next(number: number, offset: number): number | undefined {
    const place = this.reader.place(number, offset);
    if (!place) return undefined;
    if (number >= LIMITS.chunks) throw new RecordingError('there are too many chunks', offset);
    told(place, () => this.chunk(place));
    const size = this.bytes[place.kind];
    size.chunks++;
    size.stored += HEADER_SIZE + place.stored;
    size.raw += place.size;
    return endOf(place);
  }

  private chunk(place: ChunkPlace): void {
    const fail = (why: string): never => {
      throw new StateError(`chunk ${place.number}`, why);
    };
    if ((place.kind === 'start') !== (this.info === undefined)) fail('the first chunk, and no other, is a start');
    if (this.end) fail('comes after the end');
    switch (place.kind) {
      case 'pages':
        if (this.version > 1) fail('recordings of this version have no pages');
        return this.contents(place, this.pages);
      case 'changes':
        if (this.version === 1) fail('recordings of this version have no changes');
        return this.changes(place);
      case 'blocks':
        return this.contents(place, this.blocks);
      case 'hashes':
        this.hashes = place;
        return;
    }
    if (TEXTS.has(place.kind) && place.size > LIMITS.text) fail(`has ${place.size} bytes, more than ${LIMITS.text}`);
    if (!this.allowance.unpack(place.size, endOf(place)))
      fail('more has been unpacked than a file of this size may hold');
    const content = this.reader.content(place);
    switch (place.kind) {
      case 'start':
        this.info = restoreInfo(decodeState(content));
        return;
      case 'events':
        return this.readEvents(place, new ByteReader(content));
      case 'keyframe':
        return this.readKeyframe(place, content, fail);
      case 'disk':
        return this.readCaptures(place, content, fail);
      case 'marks':
        return this.readMarks(place, content, fail);
      case 'end': {
        const end = restoreEnd(decodeState(content));
        if (end.stretch !== this.stretches.length - 1) fail('ends another stretch than the last one');
        if (end.at < this.keyframes.at(-1)!.at) fail('ends before the last keyframe');
        this.end = end;
        return;
      }
    }
  }

  /** Charges for what is held from now on. Throws `StateError`. */
  private hold(place: ChunkPlace, bytes: number, what: string): void {
    if (this.allowance.hold(bytes, endOf(place))) return;
    throw new StateError(`chunk ${place.number}`, `there are more ${what} than a file of this size may hold`);
  }

  private contents(place: ChunkPlace, places: ContentPlaces): void {
    const count = place.size / PAGE;
    if (!Number.isInteger(count) || count < 1 || count > BATCH) {
      throw new StateError(`chunk ${place.number}`, `has ${place.size} bytes, which are not 1 to ${BATCH} contents`);
    }
    this.add(place, places, count);
  }

  private changes(place: ChunkPlace): void {
    const { number, size, contents } = place;
    if (contents < 1 || contents > MOST_CONTENTS || size > MOST_BYTES) {
      throw new StateError(
        `chunk ${number}`,
        `has ${contents} contents in ${size} bytes, more or less than it may have`,
      );
    }
    this.add(place, this.pages, contents);
  }

  private add(place: ChunkPlace, places: ContentPlaces, count: number): void {
    if (places.count + count > LIMITS.contents) {
      throw new StateError(`chunk ${place.number}`, `there are more than ${LIMITS.contents} contents`);
    }
    places.add(place, count);
  }

  private readMarks(place: ChunkPlace, content: Uint8Array, fail: (why: string) => never): void {
    const marks = restoreMarks(decodeState(content));
    for (const { stretch } of marks) {
      if (stretch >= this.stretches.length) fail(`a mark is in stretch ${stretch}, which is not there`);
    }
    this.hold(
      place,
      marks.reduce((sum, mark) => sum + heldOfMark(mark), 0),
      'marks',
    );
    for (const mark of marks) this.marks.push(mark);
  }

  private readEvents(place: ChunkPlace, reader: ByteReader): void {
    const { stretch, reached } = readEventsHead(reader);
    const current = this.stretches.at(-1);
    if (!current || stretch !== this.stretches.length - 1) return reader.fail(`stretch ${stretch} is not under way`);
    current.log.append(place, reader, LIMITS.events);
    if (!reached) return;
    if (this.reached.at(-1)?.stretch === stretch) this.reached.pop();
    this.reached.push({ ...reached, stretch });
  }

  private readKeyframe(place: ChunkPlace, content: Uint8Array, fail: (why: string) => never): void {
    const limit = this.info!.memory / PAGE;
    const { stretch, moment, steps, hash, firstContent, hashed, pages, written } = decodeKeyframe(
      new ByteReader(content),
      limit,
    );
    const index = this.keyframes.length;
    const last = this.keyframes.at(-1);
    const begun = this.stretches.length;
    if (stretch !== begun && stretch !== begun - 1) fail(`is in stretch ${stretch}, after ${begun} stretches`);
    if (last && moment.at < last.at) fail('is before the keyframe ahead of it');
    if (!last && moment.at !== 0n) fail('is the first one, and not at the beginning');
    const count = pages.reduce((sum, page) => sum + (page & ZERO_PAGE ? 0 : 1), 0);
    const behind = this.named.at(-1);
    const free = behind ? behind.firstContent + behind.contents : 0;
    if (firstContent < free || firstContent + count > this.pages.count) fail('names contents that are not its own');
    if (hashed && this.hashes?.size !== count * HASH) fail(`has no hashes of its ${count} contents`);
    if (written.length !== this.info!.disks.length) fail(`tells of ${written.length} disks`);
    for (const [disk, blocks] of written.entries()) {
      if (blocks.length > 0 && blocks.at(-1)! >= blocksOf(this.info!.disks[disk]!.size))
        fail(`writes beyond disk ${disk}`);
    }
    const lists = pages.length * HELD.page + written.reduce((sum, { length }) => sum + length * HELD.written, 0);
    this.hold(place, HELD.keyframe + (stretch === begun ? HELD.stretch : 0) + lists, 'keyframes');
    // Nothing is refused from here on.
    if (index > 0) for (const [disk, blocks] of written.entries()) this.disks.written(disk, index - 1, blocks);
    if (stretch === begun) {
      this.stretches.push({
        from: moment.at,
        firstSteps: steps,
        firstKeyframe: index,
        keyframes: 0,
        log: new StretchLog(this.events),
      });
    }
    this.stretches[stretch]!.keyframes++;
    this.keyframes.push({ index, stretch, ...moment, hash, events: this.stretches[stretch]!.log.length });
    this.places.push({ place, firstContent, hashes: hashed && count > 0 ? this.hashes : undefined });
    this.named.push({ pages, firstContent, contents: count });
    this.hashes = undefined;
  }

  private readCaptures(place: ChunkPlace, content: Uint8Array, fail: (why: string) => never): void {
    const disks = this.info!.disks.map(({ size }) => blocksOf(size));
    const captures = () => decodeCaptures(new ByteReader(content), disks, this.epoch, this.keyframes.length);
    let count = this.captures;
    for (const _ of captures()) count++;
    if (count > this.blocks.count) fail('names more blocks than there are contents');
    this.hold(place, (count - this.captures) * HELD.block, 'blocks');
    for (const { disk, epoch, block } of captures()) {
      this.epoch = epoch;
      this.disks.captured(disk, epoch, block, this.captures++);
    }
  }
}

/** Kinds whose content is a record as a whole. */
const TEXTS: ReadonlySet<ChunkKind> = new Set(['start', 'marks', 'end']);

function endOf({ offset, stored }: ChunkPlace): number {
  return offset + HEADER_SIZE + stored;
}

function blocksOf(size: bigint): number {
  return Math.ceil(Number(size) / PAGE);
}

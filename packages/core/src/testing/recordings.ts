/** What tests of recordings stand on: recordings in memory, where nothing is compressed, and machines that are recorded as they run. */

import { forkPoint, freeForkPoint } from '../branch/fork-point.ts';
import { recordedHash } from '../machine/hash.ts';
import type { LoggedEvent, LoggedEvents } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import { restoreMachine } from '../machine/save.ts';
import { FrameMap, type MapRoots } from '../memory/frame-map.ts';
import { FrameHash } from '../memory/hash.ts';
import { ENTRY_FRAME, PAGE } from '../memory/layout.ts';
import {
  type ByteSource,
  type ChunkKind,
  type ChunkSink,
  encodeHead,
  encodeHeader,
  HEAD_SIZE,
} from '../timeline/recording/chunk.ts';
import type { RecordingInfo } from '../timeline/recording/info.ts';
import type { Recording } from '../timeline/recording/reader.ts';
import { RecordingWriter } from '../timeline/recording/writer.ts';
import { sharedEngine } from './machines.ts';

export class MemorySink implements ChunkSink {
  private readonly parts: Uint8Array[] = [encodeHead()];
  private chunks = 0;
  size = HEAD_SIZE;

  async append(kind: ChunkKind, content: Uint8Array, contents = 0): Promise<void> {
    const header = encodeHeader(this.chunks++, kind, 0, content, content.length, undefined, contents);
    this.parts.push(header, content.slice());
    this.size += header.length + content.length;
  }

  bytes(): Uint8Array {
    const all = new Uint8Array(this.parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of this.parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

export function memorySource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    read(offset, into) {
      if (offset + into.length > bytes.length) throw new Error('the bytes end here');
      into.set(bytes.subarray(offset, offset + into.length));
    },
  };
}

export function eventsOf(log: LoggedEvents): LoggedEvent[] {
  return Array.from({ length: log.length }, (_, n) => log.at(n)!);
}

export function infoOf({ options }: Machine): RecordingInfo {
  return {
    braid: '0',
    console: 'serial',
    memory: options.memory,
    harts: options.harts,
    seed: options.seed,
    epoch: 0n,
    disks: [],
    time: 'virtual',
    title: 'a test',
    shows: 'console',
  };
}

/** Records keyframes of a machine as it runs, and keeps what each of its pages held. */
export class Recorder {
  readonly writer: RecordingWriter;
  readonly keyframes: { readonly ram: Map<number, Buffer>; readonly hash: string; readonly at: bigint }[] = [];
  private readonly machine: Machine;
  private before: MapRoots | undefined;
  private readonly held: (() => void)[] = [];
  private logged = 0;
  private readonly first: bigint;

  constructor(machine: Machine, sink: ChunkSink) {
    this.machine = machine;
    this.writer = new RecordingWriter(sink, machine.engine.pool);
    this.first = machine.totalSteps;
    this.logged = machine.log.length;
    void this.writer.start(infoOf(machine));
  }

  get at(): bigint {
    return this.machine.totalSteps - this.first;
  }

  events(): Promise<void> {
    const events = this.machine.log.events.slice(this.logged);
    this.logged = this.machine.log.length;
    const { position, now: time } = this.machine;
    return this.writer.events(0, events, { at: this.at, position, time });
  }

  keyframe(): Promise<void> {
    const { machine } = this;
    const hash = recordedHash(machine);
    if (this.keyframes.length > 0) void this.events();
    const { pool } = machine.engine;
    const point = forkPoint(machine);
    const map = new FrameMap(pool, machine.ram.pages, { roots: point.ram });
    this.held.push(() => freeForkPoint(pool, point));
    const frame = (page: number) => map.entry(page) & ENTRY_FRAME;
    const ram = new Map<number, Buffer>();
    for (const page of map.changed()) {
      const bytes = Buffer.from(pool.bytes.slice(frame(page) * PAGE, (frame(page) + 1) * PAGE));
      if (bytes.some((byte) => byte !== 0)) ram.set(page, bytes);
    }
    this.keyframes.push({ ram, hash, at: this.at });
    const frameHash = new FrameHash(pool, machine.engine.scratch);
    const pages = map.changed(this.before);
    const last = this.before && new FrameMap(pool, machine.ram.pages, { roots: this.before });
    this.before = point.ram;
    return this.writer.keyframe({
      stretch: 0,
      at: this.at,
      record: point.record,
      hash,
      pages,
      frame,
      before: last && ((page) => last.entry(page) & ENTRY_FRAME),
      hashOf: (frame) => {
        if (!frameHash.known(frame)) frameHash.keep(frame);
        return frameHash.of(frame);
      },
      written: [],
    });
  }

  free(): void {
    for (const free of this.held) free();
    this.machine.free();
  }
}

/** A machine in the state of a keyframe, made of nothing but the recording. */
export function restored(recording: Recording, keyframe: number): Machine {
  const pages = recording.pages(keyframe);
  const content = new Uint8Array(pages.length * PAGE);
  pages.forEach((page, i) => {
    recording.content(recording.version(keyframe, page), content.subarray(i * PAGE, (i + 1) * PAGE));
  });
  const ram = pages.length === 0 ? [] : [...pieces(pages, content)];
  return restoreMachine(sharedEngine(), { ...recording.record(keyframe), ram });
}

function* pieces(pages: Uint32Array, content: Uint8Array) {
  for (let from = 0; from < pages.length; from += 4096) {
    const part = pages.slice(from, from + 4096);
    yield { pages: part, content: content.subarray(from * PAGE, (from + part.length) * PAGE) };
  }
}

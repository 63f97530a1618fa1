/**
 * The events of a recording by their number, decoded a chunk at a time when they are asked for. However many there are,
 * memory has only the places of their chunks, and the events of the chunk that was asked for last.
 */

import { comparePositions, type LoggedEvent, type LoggedEvents } from '../../machine/log.ts';
import { StateError } from '../../state/errors.ts';
import { ByteReader } from './bytes.ts';
import { type ChunkPlace, type ChunkReader, ContentPlaces, told } from './chunk-reader.ts';
import { readEvents, readEventsHead } from './events.ts';

export class EventChunks {
  private readonly reader: ChunkReader;
  private readonly places = new ContentPlaces();
  private decoded: { readonly first: number; readonly events: readonly LoggedEvent[] } | undefined;

  constructor(reader: ChunkReader) {
    this.reader = reader;
  }

  /** How many events there are. */
  get count(): number {
    return this.places.count;
  }

  /** A chunk with so many events, one at least. */
  add(place: ChunkPlace, events: number): void {
    this.places.add(place, events);
  }

  /** Throws `RecordingError` where the file has changed since it was opened. */
  at(number: number): LoggedEvent | undefined {
    const { decoded } = this;
    if (decoded) {
      const event = decoded.events[number - decoded.first];
      if (event) return event;
    }
    return number < this.count ? this.decode(number) : undefined;
  }

  private decode(number: number): LoggedEvent {
    const place = this.places.find(number);
    const reader = new ByteReader(this.reader.again(place));
    const events = told({ ...place, kind: 'events' }, () => {
      readEventsHead(reader);
      const found = [...readEvents(reader)];
      if (found.length !== place.contents) throw new StateError('the chunk', 'has changed since the file was opened');
      return found;
    });
    this.decoded = { first: number - place.index, events };
    return events[place.index]!;
  }
}

/** The events of a stretch: those of the recording from a number on. */
export class StretchLog implements LoggedEvents {
  length = 0;
  private readonly chunks: EventChunks;
  private readonly first: number;
  private last: Pick<LoggedEvent, 'position' | 'time'> | undefined;

  /** One that begins with the next event of the recording. */
  constructor(chunks: EventChunks) {
    this.chunks = chunks;
    this.first = chunks.count;
  }

  at(index: number): LoggedEvent | undefined {
    return index >= 0 && index < this.length ? this.chunks.at(this.first + index) : undefined;
  }

  /** Adds what a chunk has, all of it or nothing: `reader` is behind the chunk's head. Throws `StateError`. */
  append(place: ChunkPlace, reader: ByteReader, most: number): void {
    let { last } = this;
    let count = 0;
    for (const { position, time } of readEvents(reader)) {
      if (count++ === 0 && last && (comparePositions(last.position, position) > 0 || time < last.time)) {
        reader.fail('its first event is before the last one of the chunk before');
      }
      last = { position, time };
    }
    if (this.chunks.count + count > most) reader.fail(`there are more than ${most} events`);
    if (count > 0) this.chunks.add(place, count);
    this.length += count;
    this.last = last;
  }
}

/**
 * Events as bytes: a few each, for a machine that is paced to real time is corrected many times a second.
 *
 *     events = stretch | 0, or 1 and a moment that the machine has reached | event ...      numbers as in bytes.ts
 *     event  = kind + 16 * hart + 128 * bit, u8 | rounds since the event before | time | what belongs to the kind
 *
 * `time` is the difference to what it would be had no step been made since the event before, 2 * d or -2 * d - 1 of a negative one.
 * The first event of a chunk comes after one of round 0 and time 0. `bit` is the one flag of a kind that has one.
 */

import { type InputEvent, type LoggedEvent, MAX_BYTES, MAX_PATCHES, type Patch, U63 } from '../../machine/log.ts';
import { MAX_HARTS } from '../../memory/layout.ts';
import { type ByteReader, ByteWriter } from './bytes.ts';
import { type Moment, readMoment, writeMoment } from './moment.ts';

/** In the order of their numbers. */
const KINDS = [
  'console',
  'port',
  'port-open',
  'resize',
  'time',
  'skip-idle',
  'frame',
  'link',
  'reseed',
  'address',
  'hint',
] as const satisfies readonly InputEvent['kind'][];

/** Bytes of a chunk's events from which on no other event begins in it. */
const FULL = 2 ** 18;

/** The contents of chunks of events: one at least. */
export function encodeEvents(stretch: number, events: readonly LoggedEvent[], reached?: Moment): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  let writer = new ByteWriter();
  let body = new ByteWriter();
  const begin = (moment: Moment | undefined) => {
    writer.number(stretch);
    writer.u8(moment ? 1 : 0);
    if (moment) writeMoment(writer, moment);
  };
  const finish = (moment: Moment | undefined) => {
    begin(moment);
    writer.raw(body.take());
    chunks.push(writer.take());
    writer = new ByteWriter();
    body = new ByteWriter();
  };
  let round = 0n;
  let time = 0n;
  for (const { position, time: now, event } of events) {
    if (body.length >= FULL) {
      finish(undefined);
      round = 0n;
      time = 0n;
    }
    if (position.step !== 0) throw new RangeError(`event ${event.kind} is inside a slice`);
    body.u8(KINDS.indexOf(event.kind) | (position.hart << 4) | (bitOf(event) ? 128 : 0));
    body.wide(position.round - round);
    const difference = now - time;
    body.wide(difference < 0n ? -2n * difference - 1n : 2n * difference);
    writeEvent(body, event);
    round = position.round;
    time = after(now, event);
  }
  finish(reached);
  return chunks;
}

/** Guest time behind an event at which no step is made. */
function after(time: bigint, event: InputEvent): bigint {
  return event.kind === 'time' && time + event.advance <= U63 ? time + event.advance : time;
}

function bitOf(event: InputEvent): boolean {
  switch (event.kind) {
    case 'port':
    case 'port-open':
      return event.port === 1;
    case 'skip-idle':
      return event.on;
    case 'link':
      return event.up;
    case 'hint':
      return event.writes !== undefined;
    default:
      return false;
  }
}

function writeEvent(writer: ByteWriter, event: InputEvent): void {
  switch (event.kind) {
    case 'console':
    case 'frame':
    case 'port':
      writer.sized(bounded(event.bytes));
      break;
    case 'port-open':
      writer.u8(event.open ? 1 : 0);
      break;
    case 'resize':
      writer.number(event.columns);
      writer.number(event.rows);
      break;
    case 'time':
      writer.wide(event.advance);
      break;
    case 'skip-idle':
    case 'link':
      break;
    case 'reseed':
      writer.wide(event.seed);
      break;
    case 'address':
      writer.raw(event.mac);
      break;
    case 'hint':
      writer.number(event.hart);
      writer.wide(event.value);
      if (!event.writes) break;
      writer.number(event.writes.length);
      for (const { address, bytes } of event.writes) {
        writer.wide(address);
        writer.sized(bounded(bytes));
      }
      break;
  }
}

function bounded(bytes: Uint8Array): Uint8Array {
  if (bytes.length > MAX_BYTES) throw new RangeError(`an event has ${bytes.length} bytes, more than ${MAX_BYTES}`);
  return bytes;
}

/** The stretch of a chunk of events, and a moment that it says was reached; its events are what `readEvents` gives next. */
export function readEventsHead(reader: ByteReader): { readonly stretch: number; readonly reached: Moment | undefined } {
  const stretch = reader.number();
  return { stretch, reached: readFlag(reader) ? readMoment(reader) : undefined };
}

/** Throws `StateError`. That they do not go back against earlier chunks is for the caller to look at. */
export function* readEvents(reader: ByteReader): Generator<LoggedEvent> {
  let round = 0n;
  let hart = 0;
  let time = 0n;
  let least = 0n;
  const whole = reader.left;
  for (let first = true; reader.left > 0; first = false) {
    if (whole - reader.left >= FULL) reader.fail(`an event begins behind the first ${FULL} bytes of its chunk`);
    const head = reader.u8();
    const kind = KINDS[head & 15] ?? reader.fail(`event ${head & 15} is none of this build`);
    const rounds = reader.wide();
    const before = hart;
    hart = (head >>> 4) & (MAX_HARTS - 1);
    round += rounds;
    if (round > U64) reader.fail('an event is later than any round');
    if (!first && rounds === 0n && hart < before) reader.fail('an event is before the one ahead of it');
    const coded = reader.wide();
    const now = time + (coded & 1n ? -(coded + 1n) / 2n : coded / 2n);
    if (now < least || now > U63)
      reader.fail('the time of an event is before that of the one ahead of it, or too late');
    const event = readEvent(reader, kind, head >= 128);
    yield { position: { round, hart, step: 0 }, time: now, event };
    least = now;
    time = after(now, event);
  }
}

const U64 = (1n << 64n) - 1n;

function readFlag(reader: ByteReader): boolean {
  const value = reader.u8();
  if (value > 1) reader.fail(`a flag is ${value}`);
  return value === 1;
}

function readEvent(reader: ByteReader, kind: InputEvent['kind'], bit: boolean): InputEvent {
  switch (kind) {
    case 'console':
    case 'frame':
      return { kind, bytes: reader.sized(MAX_BYTES).slice() };
    case 'port':
      return { kind, port: bit ? 1 : 0, bytes: reader.sized(MAX_BYTES).slice() };
    case 'port-open':
      return { kind, port: bit ? 1 : 0, open: readFlag(reader) };
    case 'resize':
      return { kind, columns: reader.number(0xffff), rows: reader.number(0xffff) };
    case 'time':
      return { kind, advance: reader.wide(U63) };
    case 'skip-idle':
      return { kind, on: bit };
    case 'link':
      return { kind, up: bit };
    case 'reseed':
      return { kind, seed: reader.wide() };
    case 'address':
      return { kind, mac: reader.raw(6).slice() };
    case 'hint': {
      const hart = reader.number(MAX_HARTS - 1);
      const value = reader.wide();
      if (!bit) return { kind, hart, value };
      const writes: Patch[] = [];
      for (let left = reader.number(MAX_PATCHES); left > 0; left--) {
        writes.push({ address: reader.wide(), bytes: reader.sized(MAX_BYTES).slice() });
      }
      return { kind, hart, value, writes };
    }
  }
}

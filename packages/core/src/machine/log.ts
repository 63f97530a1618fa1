/**
 * The event log: everything that came from outside, each at its exact position.
 *
 * A machine with its initial state and this log is a function: replaying them gives every later state again, bit for bit.
 */

import { Fields } from '../state/check.ts';
import { StateError } from '../state/errors.ts';

/** Where a machine stands between steps: `step` of `hart`'s slice in `round`. External events enter where `step` is 0. */
export interface Position {
  readonly round: bigint;
  readonly hart: number;
  readonly step: number;
}

export function comparePositions(a: Position, b: Position): number {
  if (a.round !== b.round) return a.round < b.round ? -1 : 1;
  return a.hart - b.hart || a.step - b.step;
}

export function formatPosition({ round, hart, step }: Position): string {
  return `${round}:${hart}:${step}`;
}

export type InputEvent =
  /** Bytes that the serial port took. */
  | { readonly kind: 'console'; readonly bytes: Uint8Array }
  /** Bytes that a port of the virtio console took. */
  | { readonly kind: 'port'; readonly port: number; readonly bytes: Uint8Array }
  | { readonly kind: 'port-open'; readonly port: number; readonly open: boolean }
  | { readonly kind: 'resize'; readonly columns: number; readonly rows: number }
  /** Guest time goes forward by so many ns: a correction, or an idle gap that somebody outside ended. */
  | { readonly kind: 'time'; readonly advance: bigint }
  /** Whether idle gaps are jumped over from now on. */
  | { readonly kind: 'skip-idle'; readonly on: boolean }
  | { readonly kind: 'frame'; readonly bytes: Uint8Array }
  | { readonly kind: 'link'; readonly up: boolean }
  /** The source of entropy goes on with another stream. */
  | { readonly kind: 'reseed'; readonly seed: bigint }
  /** The network card has another address. */
  | { readonly kind: 'address'; readonly mac: Uint8Array }
  /**
   * The answer to a hint, given before the machine has run on: the bytes are written to the process's memory, and the hart's result
   * register gets the value. Where the process may not write all of them itself nothing is written, and the value is 0.
   */
  | { readonly kind: 'hint'; readonly hart: number; readonly value: bigint; readonly writes?: readonly Patch[] };

/** Bytes for a virtual address. */
export interface Patch {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

export interface LoggedEvent {
  readonly position: Position;
  /** Guest time at which it entered: an idle machine's time goes on while its position stays. */
  readonly time: bigint;
  readonly event: InputEvent;
}

/** Events by number, in their order: in memory, or in a file. */
export interface LoggedEvents {
  /** How many there are; more may come. */
  readonly length: number;
  /** Event `index`, or undefined where there is none. */
  at(index: number): LoggedEvent | undefined;
}

/** Grows with what comes in; about 100 bytes an event besides its payload. */
export class EventLog implements LoggedEvents {
  readonly events: LoggedEvent[] = [];

  private held = 0;

  append(position: Position, time: bigint, event: InputEvent): void {
    this.events.push({ position, time, event });
    if ('bytes' in event) this.held += event.bytes.length;
  }

  /** Bytes of the events' payloads. */
  get bytes(): number {
    return this.held;
  }

  /** Forgets all of them. */
  clear(): void {
    this.events.length = 0;
    this.held = 0;
  }

  /** How many events there are: what a `LogReader` begins with that goes on from here. */
  get length(): number {
    return this.events.length;
  }

  at(index: number): LoggedEvent | undefined {
    return this.events[index];
  }
}

/** Version 1: a log as plain data. */
export interface LogState {
  readonly version: 1;
  readonly events: readonly LoggedEvent[];
}

export function saveLog(log: EventLog, from = 0): LogState {
  return { version: 1, events: log.events.slice(from) };
}

const MAX_EVENTS = 2 ** 26;
export const MAX_BYTES = 2 ** 24;
export const MAX_PATCHES = 2 ** 16;
export const U63 = (1n << 63n) - 1n;

/** A log from a record, which may come from anywhere. Throws `StateError`. */
export function restoreLog(state: unknown): EventLog {
  const record = new Fields(state, 'log');
  record.version(1);
  const log = new EventLog();
  record.list('events', 0, MAX_EVENTS, (item, where) => {
    const logged = new Fields(item, where);
    const at = new Fields(logged.record('position'), `${where}.position`);
    const position = { round: at.u64('round'), hart: at.integer('hart', 0, 7), step: at.integer('step', 0, 0) };
    at.end();
    const time = logged.u64('time', U63);
    const previous = log.events.at(-1);
    const order = previous ? comparePositions(previous.position, position) : -1;
    if (previous && (order > 0 || time < previous.time))
      throw new StateError(where, 'is earlier than the event before it');
    log.append(position, time, restoreEvent(logged.record('event'), `${where}.event`));
    logged.end();
  });
  record.end();
  return log;
}

function restoreEvent(state: unknown, where: string): InputEvent {
  const record = new Fields(state, where);
  const kind = record.record('kind') as InputEvent['kind'];
  const event = ((): InputEvent => {
    switch (kind) {
      case 'console':
      case 'frame':
        return { kind, bytes: record.bytes('bytes', 0, MAX_BYTES) };
      case 'port':
        return { kind, port: record.integer('port', 0, 1), bytes: record.bytes('bytes', 0, MAX_BYTES) };
      case 'port-open':
        return { kind, port: record.integer('port', 0, 1), open: record.flag('open') };
      case 'resize':
        return { kind, columns: record.integer('columns', 0, 0xffff), rows: record.integer('rows', 0, 0xffff) };
      case 'time':
        return { kind, advance: record.u64('advance', U63) };
      case 'skip-idle':
        return { kind, on: record.flag('on') };
      case 'link':
        return { kind, up: record.flag('up') };
      case 'reseed':
        return { kind, seed: record.u64('seed') };
      case 'address':
        return { kind, mac: record.bytes('mac', 6, 6) };
      case 'hint': {
        const writes =
          'writes' in (state as object) ? { writes: record.list('writes', 0, MAX_PATCHES, restorePatch) } : {};
        return { kind, hart: record.integer('hart', 0, 7), value: record.u64('value'), ...writes };
      }
      default:
        throw new StateError(`${where}.kind`, 'is no event of this build');
    }
  })();
  record.end();
  return event;
}

function restorePatch(state: unknown, where: string): Patch {
  const record = new Fields(state, where);
  const patch = { address: record.u64('address'), bytes: record.bytes('bytes', 0, MAX_BYTES) };
  record.end();
  return patch;
}

/** Hands the events of a log out again, each at its position and time. */
export class LogReader {
  readonly log: LoggedEvents;
  /** How many events it may hand out; the rest stays for later. */
  until = Number.POSITIVE_INFINITY;
  private next: number;

  /** `from`: how many events the machine has had already. */
  constructor(log: LoggedEvents, from = 0) {
    this.log = log;
    this.next = from;
  }

  /** How many events have been handed out, those before the first included. */
  get index(): number {
    return this.next;
  }

  /** The next event if it belongs here. Throws when one was passed over: the run is not the one recorded. */
  take(position: Position, time: bigint): InputEvent | undefined {
    const logged = this.log.at(this.next);
    if (!logged || this.next >= this.until) return undefined;
    const order = comparePositions(logged.position, position);
    if (order < 0 || (order === 0 && logged.time < time)) throw new ReplayError(logged, position, time);
    if (order > 0 || logged.time > time) return undefined;
    this.next++;
    return logged.event;
  }

  /** The event taken last could not enter: it is the next one again. */
  putBack(): void {
    this.next--;
  }

  get finished(): boolean {
    return this.next === this.log.length;
  }
}

/** A replay came to places where the recorded run had not been. */
export class ReplayError extends Error {
  readonly code = 'ERR_BRAID_REPLAY';
  constructor(logged: LoggedEvent, position: Position, time: bigint) {
    super(
      `replay passed event ${logged.event.kind} of ${formatPosition(logged.position)} (${logged.time} ns) and is at ` +
        `${formatPosition(position)} (${time} ns): initial state or configuration differ from the recorded run`,
    );
    this.name = 'ReplayError';
  }
}

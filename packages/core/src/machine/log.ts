/**
 * The event log: everything that came from outside, each at its exact position.
 *
 * A machine with its initial state and this log is a function: replaying them gives every later state again, bit for bit.
 */

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
  | { readonly kind: 'link'; readonly up: boolean };

export interface LoggedEvent {
  readonly position: Position;
  readonly event: InputEvent;
}

/** Grows with what comes in; about 100 bytes an event besides its payload. */
export class EventLog {
  readonly events: LoggedEvent[] = [];

  append(position: Position, event: InputEvent): void {
    this.events.push({ position, event });
  }
}

/** Hands the events of a log out again, each at its position. */
export class LogReader {
  private readonly log: EventLog;
  private next = 0;

  constructor(log: EventLog) {
    this.log = log;
  }

  /** The next event if it belongs to this position. Throws when one was passed over: the run is not the one recorded. */
  take(position: Position): InputEvent | undefined {
    const logged = this.log.events[this.next];
    if (!logged) return undefined;
    const order = comparePositions(logged.position, position);
    if (order < 0) throw new ReplayError(logged, position);
    if (order > 0) return undefined;
    this.next++;
    return logged.event;
  }

  get finished(): boolean {
    return this.next === this.log.events.length;
  }
}

/** A replay came to places where the recorded run had not been. */
export class ReplayError extends Error {
  readonly code = 'ERR_BRAID_REPLAY';
  constructor(logged: LoggedEvent, position: Position) {
    super(
      `replay passed event ${logged.event.kind} of ${formatPosition(logged.position)} and is at ` +
        `${formatPosition(position)}: initial state or configuration differ from the recorded run`,
    );
    this.name = 'ReplayError';
  }
}

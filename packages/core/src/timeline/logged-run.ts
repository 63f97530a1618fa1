/**
 * A run in memory: a state, and what came from outside since. `recording/` is the same in a file, with states in between.
 *
 * It costs a copy of the machine's RAM when it begins, then only its events. It can be repeated on any host, to any
 * position, as often as one likes; every repetition is the same to the bit.
 *
 * Disks are not part of it: a replay is given disks that hold what the recorded machine's held when the recording began.
 */

import type { Engine } from '../engine/engine.ts';
import { type EventLog, LogReader, type LogState, restoreLog, saveLog } from '../machine/log.ts';
import type { Machine, Outputs } from '../machine/machine.ts';
import { type Attachments, type MachineState, restoreMachine, saveMachine } from '../machine/save.ts';
import { Fields } from '../state/check.ts';

export interface LoggedRun {
  /** As `saveMachine` gives it. */
  readonly initial: MachineState;
  /** Goes on growing while the recorded machine runs. */
  readonly log: EventLog;
  /** Events of the log that belong to the time before the recording. */
  readonly from: number;
}

/** Version 1: a recording as plain data. */
export interface LoggedRunState {
  readonly version: 1;
  readonly initial: MachineState;
  readonly log: LogState;
}

/** Begins a recording of a machine, where it stands. */
export function record(machine: Machine): LoggedRun {
  return { initial: saveMachine(machine), log: machine.log, from: machine.log.length };
}

/**
 * A machine that repeats a recording: run it. It makes the same steps as the recorded one did; where the log is at its end it goes on
 * as a machine does to which nothing comes from outside. Throws `StateError`; its `run` throws `ReplayError` when the recording does not
 * fit.
 */
export function replay(
  engine: Engine,
  recording: LoggedRun,
  attachments: Attachments = {},
  outputs: Outputs = {},
): Machine {
  const machine = restoreMachine(engine, recording.initial, attachments, outputs);
  machine.follow(new LogReader(recording.log, recording.from));
  return machine;
}

export function saveLoggedRun({ initial, log, from }: LoggedRun): LoggedRunState {
  return { version: 1, initial, log: saveLog(log, from) };
}

/** A recording from a record, which may come from anywhere. Throws `StateError`; the initial state is checked by `replay`. */
export function restoreLoggedRun(state: unknown): LoggedRun {
  const record = new Fields(state, 'recording');
  record.version(1);
  const initial = record.record('initial') as MachineState;
  const log = restoreLog(record.record('log'));
  record.end();
  return { initial, log, from: 0 };
}

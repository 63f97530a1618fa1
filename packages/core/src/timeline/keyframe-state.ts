/**
 * The machine's state at a keyframe, as far as it can be checked before a machine is made of it: a file may come from anywhere, and what its
 * parts say of each other decides how far a replay runs, and with how much memory.
 */

import { comparePositions } from '../machine/log.ts';
import { MachineError } from '../machine/options.ts';
import type { MachineRecord } from '../machine/save.ts';
import { Fields } from '../state/check.ts';
import { StateError } from '../state/errors.ts';
import type { Keyframe, Recording } from './recording/reader.ts';

/** Throws `RecordingError` for a state that is not of the recorded machine, or not of this moment. */
export function stateAt(recording: Recording, keyframe: Keyframe): MachineRecord {
  return located(recording, keyframe.index, () => {
    const state = recording.record(keyframe.index);
    const { memory, harts, disks } = recording.info;
    const configuration = new Fields(new Fields(state, 'machine').record('configuration'), 'machine.configuration');
    configuration.integer('memory', memory, memory);
    configuration.integer('harts', harts, harts);
    configuration.list('disks', disks.length, disks.length, (size, where) => {
      if (!disks.some((disk) => disk.size === size)) throw new StateError(where, 'is of no disk of the recording');
    });
    requireMoment(recording, keyframe, state);
    return state;
  });
}

function requireMoment(recording: Recording, keyframe: Keyframe, state: MachineRecord): void {
  const fields = new Fields(state, 'machine');
  const clock = new Fields(fields.record('clock'), 'machine.clock');
  const schedule = new Fields(fields.record('schedule'), 'machine.schedule');
  const steps = fields.list('harts', 1, 8, (hart, where) => {
    const registers = new Fields(new Fields(hart, where).record('fields'), `${where}.fields`);
    return registers.u64('stepsEnd');
  });
  const position = {
    round: schedule.u64('round'),
    hart: schedule.integer('hart', 0, 7),
    step: schedule.integer('step', 0, 2 ** 30),
  };
  const { from, firstSteps } = recording.stretches[keyframe.stretch]!;
  const at = from + steps.reduce((sum, made) => sum + made, 0n) - firstSteps;
  if (at !== keyframe.at)
    throw new StateError('machine.harts', `have made ${at} steps of the recording, not ${keyframe.at}`);
  if (clock.u64('now') !== keyframe.time || comparePositions(position, keyframe.position) !== 0)
    throw new StateError('machine.schedule', 'is of another moment than the keyframe');
}

/** Does something with a keyframe's state; what is wrong with that is wrong with the file. */
export function located<T>(recording: Recording, keyframe: number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof StateError) && !(error instanceof MachineError)) throw error;
    throw recording.damaged(keyframe, error.message, { cause: error });
  }
}

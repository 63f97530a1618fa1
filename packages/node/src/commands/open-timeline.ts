/** A recording that a command works on in this thread. */

import { Engine } from '@braid/core/engine/engine.ts';
import type { Outputs } from '@braid/core/machine/machine.ts';
import { Pool } from '@braid/core/memory/pool.ts';
import { Timeline } from '@braid/core/timeline/timeline.ts';
import { openRecording } from '../replay/recording-file.ts';
import { destinationOf } from './destination.ts';
import { stoppedText } from './recording-text.ts';
import { tell } from './say.ts';
import { carryOut, type WorkOptions } from './timeline-work.ts';

export interface OpenTimeline extends Disposable {
  readonly timeline: Timeline;
}

/** Opens a recording at its beginning, and tells where it ends before its file does. Throws `BraidError`, and `StateError` for one whose states cannot be. */
export function openTimeline(path: string, outputs: Outputs = {}): OpenTimeline {
  const { recording, close } = openRecording(path);
  if (recording.stopped) tell(`${path}: ${stoppedText(recording.stopped)}`);
  try {
    const timeline = new Timeline(new Engine(new Pool()), recording, outputs);
    return {
      timeline,
      [Symbol.dispose]() {
        timeline.free();
        close();
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** The step of a moment that somebody asks for; the timeline is anywhere afterwards. */
export async function stepOf(timeline: Timeline, text: string, options: WorkOptions = {}): Promise<bigint> {
  const { recording, end } = timeline;
  const destination = destinationOf(text, recording.marks, end);
  if ('at' in destination) return destination.at;
  const work =
    'time' in destination ? timeline.seekTime(destination.time) : timeline.seekPosition(destination.position);
  await carryOut(work, options);
  return timeline.at;
}

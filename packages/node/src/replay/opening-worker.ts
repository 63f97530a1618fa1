/** A process that opens a recording, and says what memory and time that took: see `floods.test.ts`. */

import { writeSync } from 'node:fs';
import { openRecording } from './recording-file.ts';

/** What opening a file came to. */
export interface Opening {
  /** The most memory that was resident, in bytes. */
  readonly resident: number;
  /** CPU time, in ms. */
  readonly cpu: number;
  readonly stopped?: string | undefined;
  readonly error?: string;
  readonly counts?: Readonly<Record<'events' | 'keyframes' | 'marks' | 'stretches', number>>;
}

function opened(path: string): Omit<Opening, 'resident' | 'cpu'> {
  try {
    const { recording, close } = openRecording(path);
    const { stretches, keyframes, marks, stopped } = recording;
    let events = 0;
    for (const { log } of stretches) {
      events += log.length;
      log.at(log.length - 1);
    }
    recording.pages(keyframes.length - 1);
    recording.disks.find(0, 0, 0);
    close();
    const counts = { events, keyframes: keyframes.length, marks: marks.length, stretches: stretches.length };
    return { stopped: stopped?.why, counts };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

if (process.argv[1] === import.meta.filename) {
  const found = opened(process.argv[2]!);
  const { user, system } = process.cpuUsage();
  const opening: Opening = {
    ...found,
    resident: 1024 * process.resourceUsage().maxRSS,
    cpu: (user + system) / 1000,
  };
  writeSync(1, JSON.stringify(opening));
}

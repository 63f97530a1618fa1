/**
 * A process that is there to be killed: records events and keyframes as fast as it can, and says after each few how many are in the
 * file. What it records follows from the numbers.
 */

import { writeSync } from 'node:fs';
import type { LoggedEvent } from '@braid/core/machine/log.ts';
import { type MachineRecord, recordMachine } from '@braid/core/machine/save.ts';
import { recipeMachine, sharedEngine } from '@braid/core/testing/machines.ts';
import { infoOf } from '@braid/core/testing/recordings.ts';
import type { RecordingInfo } from '@braid/core/timeline/recording/info.ts';
import { RecordingWriter } from '@braid/core/timeline/recording/writer.ts';
import { RecordingFile } from './recording-file.ts';

/** A machine to begin with. */
export function startOf(): { readonly info: RecordingInfo; readonly record: MachineRecord } {
  const machine = recipeMachine({ harts: 1, sbi: false, seed: 1, rounds: 1 });
  const start = { info: infoOf(machine), record: recordMachine(machine) };
  machine.free();
  return start;
}

export function eventOf(n: number): LoggedEvent {
  const event = n % 2 === 0 ? ({ kind: 'time', advance: BigInt(n) } as const) : ({ kind: 'link', up: true } as const);
  return { position: { round: BigInt(n), hart: 0, step: 0 }, time: BigInt(n) * 5000n, event };
}

if (process.argv[1] === import.meta.filename) {
  const { pool } = sharedEngine();
  const file = new RecordingFile(process.argv[2]!);
  const writer = new RecordingWriter(file, pool);
  const { info, record } = startOf();
  const frame = pool.allocate();
  void writer.start(info);
  for (let n = 0; ; ) {
    new DataView(pool.memory.buffer).setBigUint64(frame * 4096, BigInt(n) + 1n, true);
    await writer.keyframe({
      stretch: 0,
      at: BigInt(n),
      record,
      hash: `${n}`,
      pages: [3],
      frame: () => frame,
      written: [],
    });
    for (let turn = 0; turn < 10; turn++) {
      await writer.events(
        0,
        Array.from({ length: 5 }, () => eventOf(n++)),
      );
    }
    writeSync(1, `${n}\n`);
  }
}

// Machines of Braid that do the same work with and without being recorded.

import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CreateOptions,
  type ForkPoint,
  Machine,
  type Pool,
  type RecordingStatistics,
  Replay,
} from '../../packages/node/src/index.ts';
import type { RecordSample } from './qemu-record.ts';

/** Work that was recorded: its CPU time has in it what the end of the recording took. */
export interface Recorded extends RecordSample {
  /** By the clock, for the recording to end. */
  readonly endSeconds: number;
  readonly statistics: RecordingStatistics;
}

/** Seconds by the clock, and what all threads of this process have used meanwhile. */
async function measured(work: () => Promise<unknown>): Promise<RecordSample> {
  const cpu = process.cpuUsage();
  const from = performance.now();
  await work();
  const wallSeconds = (performance.now() - from) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { cpuSeconds: (user + system) / 1e6, wallSeconds };
}

/** A booted machine that is brought back to where it was before each piece of work, so that all begin alike. */
export class Subject implements AsyncDisposable {
  readonly machine: Machine;
  private readonly point: ForkPoint;

  private constructor(machine: Machine, point: ForkPoint) {
    this.machine = machine;
    this.point = point;
  }

  static async boot(pool: Pool, options: CreateOptions): Promise<Subject> {
    const machine = await Machine.create({ memory: '256M', seed: 1, ...options, pool });
    await machine.boot();
    return new Subject(machine, await machine.forkPoint());
  }

  /** Has a program do its work, to the end. */
  async work(name: string): Promise<void> {
    const { exitCode, stdout, stderr } = await this.machine.exec([name]);
    if (exitCode !== 0) throw new Error(`${name} ended with ${exitCode}: ${stdout}${stderr}`);
  }

  async plain(name: string): Promise<RecordSample> {
    await this.machine.reset(this.point);
    return measured(() => this.work(name));
  }

  /**
   * The same, recorded. What it costs to begin, which is to write the machine's first state, is not in it; what is written at the
   * end is.
   */
  async recorded(name: string, path: string): Promise<Recorded> {
    await this.machine.reset(this.point);
    rmSync(path, { force: true });
    const recording = await this.machine.record(path);
    // The machine stands still until somebody waits for it.
    for (let size = -1; recording.statistics.bytes !== size; ) {
      size = recording.statistics.bytes;
      await sleep(200);
    }
    const work = await measured(() => this.work(name));
    let statistics: RecordingStatistics | undefined;
    const end = await measured(async () => {
      statistics = await recording.stop();
    });
    return {
      ...work,
      cpuSeconds: work.cpuSeconds + end.cpuSeconds,
      endSeconds: end.wallSeconds,
      statistics: statistics!,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.point.dispose();
    await this.machine.dispose();
  }
}

/** How long a recording's replay takes, when its code is new and when it is translated. */
export async function replayTimes(path: string): Promise<{ cold: RecordSample; warm: RecordSample }> {
  await using replay = await Replay.open(path);
  const cold = await measured(() => replay.run());
  await replay.seek({ at: 0n });
  return { cold, warm: await measured(() => replay.run()) };
}

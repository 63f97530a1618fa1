/** A replay in its thread: one operation at a time, by turns, so that messages are looked at in between and it can be given up. */

import type { Engine } from '@braid/core/engine/engine.ts';
import type { Stop } from '@braid/core/machine/options.ts';
import { ReplayOnly } from '@braid/core/timeline/replay-only.ts';
import type { Progress, TimelineOutputs, TimelineStop } from '@braid/core/timeline/timeline.ts';
import { Timeline } from '@braid/core/timeline/timeline.ts';
import { BraidError } from '../errors.ts';
import type { Calls, ReplayAnswer, ReplayOnlyReport, ReplayOperation, Standing } from '../pool/protocol.ts';
import { type OpenedRecording, openRecording } from '../replay/recording-file.ts';
import { RUN_ALLOWANCE } from './pace.ts';
import { type HookHit, ReplayHooks } from './replay-hooks.ts';

const TURN_MS = 5;
const PROGRESS_MS = 100;

export interface ReplayerHost {
  hooked(hit: HookHit): void;
  replayOnly(run: ReplayOnlyReport): void;
  result(id: number, answer: ReplayAnswer): void;
  failed(id: number, error: unknown): void;
  progress(id: number, at: bigint): void;
  /** Whether more output has to wait until some has been taken. */
  readonly behind: boolean;
}

export class Replayer {
  readonly timeline: Timeline;
  private readonly path: string;
  private readonly file: OpenedRecording;
  private readonly host: ReplayerHost;
  private readonly queue: { readonly id: number; readonly operation: ReplayOperation }[] = [];
  private current: { readonly id: number; readonly work: Generator<Progress, TimelineStop> } | undefined;
  private told = 0;
  readonly hooks: ReplayHooks;
  /** It stands at a hook. */
  private held = false;

  /** Throws `RecordingError` and `BraidError` for a file that cannot be read. */
  constructor(engine: Engine, path: string, outputs: TimelineOutputs, host: ReplayerHost) {
    this.host = host;
    this.path = path;
    this.file = openRecording(path);
    try {
      this.timeline = new Timeline(engine, this.file.recording, outputs);
      this.timeline.machine.account.allowance = RUN_ALLOWANCE;
      this.hooks = new ReplayHooks(this.timeline);
    } catch (error) {
      this.file.close();
      throw error;
    }
  }

  get standing(): Standing {
    const { timeline } = this;
    const { machine } = timeline;
    const { hart } = machine.schedule;
    return {
      at: timeline.at,
      position: machine.position,
      time: machine.now,
      hart,
      pc: machine.hartSet.get(hart, 'pc'),
      verified: timeline.verified,
    };
  }

  /** Does an operation, after those that wait. */
  ask(id: number, operation: ReplayOperation): void {
    this.queue.push({ id, operation });
  }

  /** Nobody waits for an operation any more: it ends where it is. */
  cancel(id: number): void {
    const waiting = this.queue.findIndex((one) => one.id === id);
    if (waiting >= 0) this.queue.splice(waiting, 1);
    if (this.current?.id !== id) return;
    this.current.work.return({ kind: 'there' });
    this.current = undefined;
    this.hooks.hits.length = 0;
    this.held = false;
  }

  /** It goes on from a hook. */
  release(): void {
    this.held = false;
  }

  /** A turn; false when there is nothing to do. */
  step(): boolean {
    if (!this.current) {
      const next = this.queue.shift();
      if (!next) return false;
      this.current = { id: next.id, work: this.operate(next.operation) };
    }
    if (this.held) return false;
    const hit = this.hooks.hits.shift();
    if (hit) {
      this.held = true;
      this.host.hooked(hit);
      return false;
    }
    const { id, work } = this.current;
    const from = performance.now();
    try {
      for (let now = from; now - from < TURN_MS; now = performance.now()) {
        const { done, value } = work.next();
        if (done) {
          this.current = undefined;
          this.host.result(id, { stop: value, standing: this.standing });
          return true;
        }
        if (now - this.told > PROGRESS_MS) {
          this.told = now;
          this.host.progress(id, value.at);
        }
        if (this.hooks.hits.length > 0 || this.host.behind) return true;
      }
    } catch (error) {
      this.current = undefined;
      this.host.failed(id, error);
    }
    return true;
  }

  written({ page, at }: Calls['written'][0]): Calls['written'][1] {
    const { timeline } = this;
    const intervals = [...timeline.writtenIntervals(page, at)];
    return { intervals, before: timeline.replacedAt(page, intervals.at(-1)?.from ?? at) };
  }

  /** The state here, for a machine that goes on from it with disks as far as they were recorded. */
  divert(): Calls['divert'][1] {
    if (this.current) throw new BraidError('ERR_BRAID_OPTION', 'the replay is on its way: await its end');
    const { path, timeline } = this;
    const { info } = timeline.recording;
    const { base: keyframe } = timeline;
    const hints = { heard: false, pending: undefined };
    const setup = {
      memory: info.memory,
      harts: info.harts,
      seed: info.seed,
      epoch: info.epoch,
      time: info.time,
      console: info.console,
      disks: info.disks.map(({ readOnly }, disk) => ({ recording: path, disk, keyframe, readOnly })),
    };
    const host = {
      setup,
      inputEnded: false,
      panic: { message: undefined, suspicion: undefined },
      wallOrigin: undefined,
      held: undefined,
      locks: [],
      before: [],
      hints,
    };
    return { point: timeline.fork(), host };
  }

  free(): void {
    this.timeline.free();
    this.file.close();
  }

  private *operate(operation: ReplayOperation): Generator<Progress, TimelineStop> {
    const { timeline } = this;
    switch (operation.kind) {
      case 'seek': {
        const { to } = operation;
        if ('at' in to) yield* timeline.seek(to.at);
        else if ('time' in to) yield* timeline.seekTime(to.time);
        else yield* timeline.seekPosition(to.position);
        return { kind: 'there' };
      }
      case 'run':
        return yield* this.run(operation);
      case 'reverse':
        return yield* timeline.reverse(operation.points);
      case 'step':
      case 'reverse-step': {
        let stop: TimelineStop = { kind: 'there' };
        for (let n = 0n; n < operation.count && stop.kind === 'there'; n++)
          stop = yield* operation.kind === 'step'
            ? timeline.step(operation.hart)
            : timeline.reverseStep(operation.hart);
        return stop;
      }
      case 'last-hit': {
        const hit = yield* timeline.lastHit(operation.interval, operation.points);
        return hit ? { kind: 'hit', hit } : { kind: 'there' };
      }
    }
  }

  private *run({
    points,
    to,
    show,
    replayOnly,
  }: Extract<ReplayOperation, { kind: 'run' }>): Generator<Progress, TimelineStop> {
    const { timeline, host } = this;
    if (replayOnly === undefined) return yield* timeline.run(points, to, show);
    const code = new ReplayOnly(timeline.machine, { codes: replayOnly });
    const listener = (stop: Stop) => {
      const ran = code.serve(stop);
      if (!ran) return;
      const { hart, steps, output, error } = ran;
      const { pieces, truncated } = output;
      const { at } = timeline;
      host.replayOnly({ code: ran.code, hart, at, steps, output: pieces, truncated, error: error?.message });
    };
    timeline.listeners.add(listener);
    try {
      return yield* timeline.run(points, to, show);
    } finally {
      timeline.listeners.delete(listener);
      code.end();
    }
  }
}

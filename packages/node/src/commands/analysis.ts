/** What is found out from a recording afterwards: an analysis listens to its machine while a part of it is replayed, in this thread. */

import { once } from 'node:events';
import { constants } from 'node:os';
import { KernelError } from '@braid/core/linux/errors.ts';
import { KernelImage } from '@braid/core/linux/tasks.ts';
import type { Machine } from '@braid/core/machine/machine.ts';
import type { Analysis } from '@braid/core/trace/analysis.ts';
import { findKernelEdges, type KernelEdges } from '@braid/core/trace/user-edges.ts';
import { openTimeline, stepOf } from './open-timeline.ts';
import { ProgressLine } from './progress-line.ts';
import { passed, progressText } from './replay-text.ts';
import { safeText, tell } from './say.ts';
import { carryOut } from './timeline-work.ts';

/** Which part of a recording. */
export interface SpanFlags {
  readonly from?: string;
  readonly to?: string;
}

/** What an analysis is made from: the guest's kernel, as it is at the end of the part. */
export interface Guest {
  readonly kernel: KernelImage;
  readonly edges: KernelEdges;
  readonly machine: Machine;
  /** What has to be added to the machine's steps to have the recording's, where the part begins. */
  readonly stepsBefore: bigint;
  /** The step under way, counted from the beginning of the recording. */
  readonly at: () => bigint;
}

/** Steps after which it is looked again whether a kernel has come up. */
const FIRST_LOOK = 500_000n;

/**
 * Replays a part of a recording under an analysis, which writes to `out`, or shows what it has found at the end. The exit code is 0, or that of
 * an interruption. `found` is called once, where the kernel is up, which it need not be where the analysis begins.
 */
export async function analyse<A extends Analysis>(
  path: string,
  flags: SpanFlags,
  out: Lines,
  make: (guest: Guest) => A,
  show: (analysis: A) => void = () => {},
  found: (kernel: KernelImage) => void = () => {},
): Promise<number> {
  using opened = openTimeline(path);
  using line = new ProgressLine(process.stderr);
  const { timeline } = opened;
  const { machine, recording } = timeline;
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  process.once('SIGINT', interrupt);
  const { signal } = interrupted;
  try {
    const to = flags.to === undefined ? timeline.end : await stepOf(timeline, flags.to, { signal });
    const from = flags.from === undefined ? 0n : await stepOf(timeline, flags.from, { signal });
    // The kernel stays where it is; at the beginning it may not be there yet.
    await carryOut(timeline.seek(to), { signal });
    const [kernel, edges] = [KernelImage.find(machine), findKernelEdges(machine)];
    found(kernel);
    const begin = (): A => {
      const analysis = make({
        kernel,
        edges,
        machine,
        stepsBefore: timeline.at - machine.totalSteps,
        at: () => timeline.atNow,
      });
      try {
        analysis.begin(machine);
      } catch (error) {
        analysis.end(machine);
        throw error;
      }
      return analysis;
    };
    let start = from < to ? from : to;
    let analysis: A | undefined;
    for (let further = FIRST_LOOK; !analysis; further *= 2n) {
      await carryOut(timeline.seek(start), { signal });
      try {
        analysis = begin();
      } catch (error) {
        // The kernel is not up yet.
        if (!(error instanceof KernelError) || start + further >= to) throw error;
        start += further;
      }
    }
    const started = performance.now();
    const onProgress = () =>
      line.update(() => {
        const seconds = (performance.now() - started) / 1000;
        return progressText({ at: timeline.at, to, from: start, seconds, ...passed(recording.keyframes, timeline.at) });
      });
    const ready = () => out.flush(() => line.hide());
    try {
      await carryOut(timeline.run([], to), { signal, onProgress, ready });
    } finally {
      analysis.end(machine);
    }
    line.hide();
    show(analysis);
    await out.flush();
    return 0;
  } catch (error) {
    if (!signal.aborted) throw error;
    await out.flush(() => line.hide());
    tell('interrupted');
    return 128 + constants.signals.SIGINT;
  } finally {
    process.off('SIGINT', interrupt);
  }
}

/** Lines for stdout, which are written when there is time, and no faster than they are taken. */
export class Lines {
  private waiting: string[] = [];

  add(line: string): void {
    this.waiting.push(line);
  }

  /** `before` is called first when there is something to write. */
  async flush(before: () => void = () => {}): Promise<void> {
    if (this.waiting.length === 0) return;
    before();
    const text = safeText(`${this.waiting.join('\n')}\n`);
    this.waiting = [];
    if (!process.stdout.write(text)) await once(process.stdout, 'drain');
  }
}

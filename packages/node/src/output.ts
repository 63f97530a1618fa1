/** Output of the guest on its way to a consumer, with back-pressure: what has not been taken holds the machine up. */

import { DATA, requireValue } from './check.ts';
import { isThenable, warn } from './listeners.ts';
import { OUTPUT_AHEAD } from './pool/protocol.ts';

/**
 * Takes bytes; a promise means that it is busy with them until then. A MiB ahead of it the machine waits, so one whose promise never settles
 * holds the machine up until its call is aborted. One that throws or rejects is not called again: see where it is given.
 */
export type Sink = (bytes: Uint8Array) => unknown;

export class OutputQueue {
  private readonly taken: (bytes: number) => void;
  /** Told what the sink throws. */
  private failed: (error: unknown) => void = warn;
  /** What the sink is busy with. None of these rejects. */
  private readonly busy = new Map<Promise<void>, number>();
  private readonly keep: number;
  private queue: Uint8Array[] = [];
  private queued = 0;
  private sink: Sink | undefined;
  private wake: (() => void) | undefined;
  private attached = false;
  private ended = false;
  private stream: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;

  /**
   * `taken` is told of bytes that have reached the consumer. While there is none, the last `keep` bytes are kept and the machine
   * goes on; without `keep` it waits for a consumer.
   */
  constructor(taken: (bytes: number) => void, keep = OUTPUT_AHEAD * 4) {
    this.taken = taken;
    this.keep = keep;
  }

  push(bytes: Uint8Array): void {
    if (this.sink) return this.deliver(this.sink, bytes, bytes.length);
    this.queue.push(bytes);
    this.queued += bytes.length;
    if (this.wake) this.wake();
    else if (!this.attached && this.keep < OUTPUT_AHEAD) this.trim();
  }

  /** Nobody looks: only the newest output is kept, and it holds nothing up. */
  private trim(): void {
    this.taken(this.queue[this.queue.length - 1]!.length);
    while (this.queued > this.keep) {
      const first = this.queue[0]!;
      const over = Math.min(first.length, this.queued - this.keep);
      this.queued -= over;
      if (over === first.length) this.queue.shift();
      else this.queue[0] = first.slice(over);
    }
  }

  /** Gives bytes to the sink; `count` of them are taken when it is done with them. */
  private deliver(sink: Sink, bytes: Uint8Array, count: number): void {
    let work: unknown;
    try {
      work = sink(bytes);
    } catch (error) {
      this.taken(count);
      return this.fail(error);
    }
    if (!isThenable(work)) return this.taken(count);
    const done = () => {
      if (this.busy.delete(settled)) this.taken(count);
    };
    const settled: Promise<void> = Promise.resolve(work).then(done, (error) => {
      done();
      this.fail(error);
    });
    this.busy.set(settled, count);
  }

  /** The sink has failed: it hears nothing more, and what still comes is thrown away. */
  private fail(error: unknown): void {
    this.sink = () => {};
    this.failed(error);
  }

  /** Has the output go to a function, what waited first; `failed` is told what that throws or rejects with. */
  to(sink: Sink, failed: (error: unknown) => void = warn): void {
    const counted = this.keep >= OUTPUT_AHEAD;
    this.sink = sink;
    this.failed = failed;
    this.attached = true;
    for (const bytes of this.queue.splice(0)) this.deliver(this.sink, bytes, counted ? bytes.length : 0);
    this.queued = 0;
  }

  /** Resolves when the sink is done with all that it was given. */
  async drained(): Promise<void> {
    await Promise.all(this.busy.keys());
  }

  /** Waits for the sink no longer: what it is busy with holds nothing up any more. */
  abandon(): void {
    this.sink = () => {};
    for (const [settled, count] of this.busy) if (this.busy.delete(settled)) this.taken(count);
  }

  end(): void {
    this.ended = true;
    this.wake?.();
  }

  /** The output as a stream. There is one; it starts with what was kept. */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    this.stream ??= this.makeStream();
    return this.stream;
  }

  private makeStream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    let free = this.keep < OUTPUT_AHEAD ? this.queued : 0; // counted as taken when it came
    this.attached = true;
    const next = (controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>) => {
      const bytes = this.queue.shift();
      if (bytes) {
        this.queued -= bytes.length;
        const count = Math.max(0, bytes.length - free);
        free = Math.max(0, free - bytes.length);
        controller.enqueue(bytes as Uint8Array<ArrayBuffer>);
        if (count > 0) this.taken(count);
      } else if (this.ended) controller.close();
      else return false;
      return true;
    };
    return new ReadableStream(
      {
        pull: (controller) =>
          new Promise<void>((resolve) => {
            if (next(controller)) return resolve();
            this.wake = () => {
              this.wake = undefined;
              next(controller);
              resolve();
            };
          }),
        cancel: () => {
          // The reader has gone: the rest is thrown away.
          this.to(() => {});
        },
      },
      { highWaterMark: 0 },
    );
  }
}

/** A copy of text or bytes, to be sent. Throws `ERR_BRAID_OPTION` for anything else. */
export function bytesOf(data: Uint8Array | string): Uint8Array {
  requireValue(DATA, data, 'what is sent');
  return typeof data === 'string' ? new TextEncoder().encode(data) : data.slice();
}

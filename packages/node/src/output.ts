/** Output of the guest on its way to a consumer, with back-pressure: what has not been taken holds the machine up. */

import { OUTPUT_AHEAD } from './pool/protocol.ts';

/** Takes bytes; a promise means that it is busy with them until then. */
export type Sink = (bytes: Uint8Array) => unknown;

export class OutputQueue {
  private readonly taken: (bytes: number) => void;
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
    if (this.sink) {
      const busy = this.sink(bytes);
      if (busy instanceof Promise) busy.finally(() => this.taken(bytes.length)).catch(() => {});
      else this.taken(bytes.length);
      return;
    }
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

  /** Has the output go to a function, what waited first. */
  to(sink: Sink): void {
    const counted = this.keep >= OUTPUT_AHEAD;
    this.sink = sink;
    this.attached = true;
    for (const bytes of this.queue.splice(0)) {
      sink(bytes);
      if (counted) this.taken(bytes.length);
    }
    this.queued = 0;
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

/** Text or bytes that somebody may go on to change, as bytes to be sent. */
export function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === 'string' ? new TextEncoder().encode(data) : data.slice();
}

/**
 * A disk's backend as its device sees it: remembers which chunks were written, so that a hash reads only those again, and tells a
 * recording what happens to the content.
 */

import type { BlockBackend } from '../devices/virtio-block/backend.ts';

/**
 * Who follows a disk's content. An answer through a promise holds up the call, which the guest does not see; nor does it see what a call
 * throws, which `broken` hears of.
 */
export interface ContentWatch {
  /** A range has been read, and this is what it holds. */
  read(offset: number, content: Uint8Array): void | Promise<void>;
  /** A range is about to be written or cleared. */
  changing(offset: number, length: number): void | Promise<void>;
  /** It has been, or only a part of it if the call has failed. */
  changed(offset: number, length: number): void;
  /** The host's disk has failed, which is nothing that a machine's state tells in advance. */
  failed(error: unknown): void;
  /** A call of the watch has thrown: it has not followed. Throws nothing. */
  broken(error: unknown): void;
}

type Answer = void | Promise<void>;

export class WrittenBackend implements BlockBackend {
  static readonly chunk = 64 * 1024;
  readonly inner: BlockBackend;
  /** Hears of every call that ends from now on. */
  watch: ContentWatch | undefined;
  /** How often somebody else than the device has changed the content: what was asked before is not what it holds now. */
  replaced = 0;
  private chunks = new Set<number>();
  private underWay = 0;
  readonly discard?: (offset: number, length: number) => Answer;
  readonly zero?: (offset: number, length: number) => Answer;

  constructor(inner: BlockBackend) {
    this.inner = inner;
    const watched = (name: 'discard' | 'zero') => {
      const call = inner[name]?.bind(inner);
      if (!call) return undefined;
      return (offset: number, length: number) => this.change(offset, length, () => call(offset, length));
    };
    const discard = watched('discard');
    const zero = watched('zero');
    if (discard) this.discard = discard;
    if (zero) this.zero = zero;
  }

  get size(): bigint {
    return this.inner.size;
  }

  get readOnly(): boolean {
    return this.inner.readOnly;
  }

  /** A write, a clearing or a flush has not ended. A request of which it is a part is begun anew in a machine made now. */
  get busy(): boolean {
    return this.underWay > 0;
  }

  read(offset: number, into: Uint8Array): Answer {
    const { replaced } = this;
    return this.ended(
      () => this.inner.read(offset, into),
      () => (this.replaced === replaced ? this.tell((watch) => watch.read(offset, into)) : undefined),
    );
  }

  write(offset: number, bytes: Uint8Array): Answer {
    return this.change(offset, bytes.length, () => this.inner.write(offset, bytes));
  }

  flush(): Answer {
    return this.counted(this.ended(() => this.inner.flush()));
  }

  /** Somebody else than the device has changed a range. */
  mark(offset: number, length: number): void {
    this.replaced++;
    this.note(offset, length);
    this.tell((watch) => watch.changed(offset, length));
  }

  /** Numbers of the chunks written since the last call. */
  take(): number[] {
    const chunks = [...this.chunks];
    this.chunks = new Set();
    return chunks;
  }

  /** Gives back what was taken: it has not been looked at. */
  putBack(chunks: readonly number[]): void {
    for (const chunk of chunks) this.chunks.add(chunk);
  }

  private note(offset: number, length: number): void {
    const last = Math.floor((offset + length - 1) / WrittenBackend.chunk);
    for (let chunk = Math.floor(offset / WrittenBackend.chunk); chunk <= last; chunk++) this.chunks.add(chunk);
  }

  private change(offset: number, length: number, call: () => Answer): Answer {
    this.note(offset, length);
    const { watch } = this;
    const over = () => this.tell((watch) => watch.changed(offset, length));
    const done = () => {
      // Whoever came in the middle has not been asked before.
      const late = this.watch === watch ? undefined : this.tell((watch) => watch.changing(offset, length));
      return late === undefined ? over() : late.then(over);
    };
    const go = () => this.ended(call, done, over);
    const before = this.tell((watch) => watch.changing(offset, length));
    return this.counted(before === undefined ? go() : before.then(go));
  }

  /** Makes a call of the inner backend and has `done` follow, or `failed`. */
  private ended(call: () => Answer, done?: () => Answer, failed?: () => void): Answer {
    const fail = (error: unknown): never => {
      failed?.();
      this.tell((watch) => watch.failed(error));
      throw error;
    };
    let answer: Answer;
    try {
      answer = call();
    } catch (error) {
      return fail(error);
    }
    return answer === undefined ? done?.() : answer.then(done, fail);
  }

  /** Calls the watch. Whatever comes of that, the disk's own call goes on. */
  private tell(call: (watch: ContentWatch) => Answer): Answer {
    const { watch } = this;
    if (!watch) return undefined;
    try {
      return call(watch)?.catch((error) => watch.broken(error));
    } catch (error) {
      watch.broken(error);
      return undefined;
    }
  }

  private counted(answer: Answer): Answer {
    if (answer === undefined) return undefined;
    this.underWay++;
    return answer.finally(() => {
      this.underWay--;
    });
  }
}

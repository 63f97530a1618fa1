/** A disk's backend that remembers which chunks were written, so that a hash reads only those again. */

import type { BlockBackend } from '../devices/virtio-block/backend.ts';

export class WrittenBackend implements BlockBackend {
  static readonly chunk = 64 * 1024;
  readonly inner: BlockBackend;
  private chunks = new Set<number>();
  readonly discard?: (offset: number, length: number) => void | Promise<void>;
  readonly zero?: (offset: number, length: number) => void | Promise<void>;

  constructor(inner: BlockBackend) {
    this.inner = inner;
    const marked = (name: 'discard' | 'zero') => {
      const call = inner[name]?.bind(inner);
      if (!call) return undefined;
      return (offset: number, length: number) => {
        this.mark(offset, length);
        return call(offset, length);
      };
    };
    const discard = marked('discard');
    const zero = marked('zero');
    if (discard) this.discard = discard;
    if (zero) this.zero = zero;
  }

  get size(): bigint {
    return this.inner.size;
  }

  get readOnly(): boolean {
    return this.inner.readOnly;
  }

  read(offset: number, into: Uint8Array): void | Promise<void> {
    return this.inner.read(offset, into);
  }

  write(offset: number, bytes: Uint8Array): void | Promise<void> {
    this.mark(offset, bytes.length);
    return this.inner.write(offset, bytes);
  }

  flush(): void | Promise<void> {
    return this.inner.flush();
  }

  /** Notes that a range will have to be read again. */
  mark(offset: number, length: number): void {
    const last = Math.floor((offset + length - 1) / WrittenBackend.chunk);
    for (let chunk = Math.floor(offset / WrittenBackend.chunk); chunk <= last; chunk++) this.chunks.add(chunk);
  }

  /** Numbers of the chunks written since the last call. */
  take(): number[] {
    const chunks = [...this.chunks];
    this.chunks = new Set();
    return chunks;
  }
}

/**
 * The source of entropy (OASIS virtio 1.2, section 5.4): a stream that follows from a seed, so that a run can be had again. It is as
 * good as the seed is secret.
 */

import { BLOCK_SIZE, chacha20Block, KEY_SIZE } from '../chacha20.ts';
import type { DeviceContext } from '../device.ts';
import { VirtioDevice } from '../virtio/device.ts';
import { DriverError, scatter, slice } from '../virtio/queue.ts';
import { checkVirtioEntropy, type VirtioEntropyState } from './state.ts';

/** The most bytes that one chain gets; a device may fill less than it is offered. */
const CHAIN_MAX = 64 * 1024;

/** Units of work of a byte of the stream. */
const BYTE_WORK = 64;

const U64 = (1n << 64n) - 1n;

export class VirtioEntropy extends VirtioDevice<VirtioEntropyState> {
  #key: Uint8Array;
  #position = 0n;

  /** `seed` gives up to 256 bits; bits above are left out. */
  constructor(context: DeviceContext, seed: bigint) {
    super(context, { name: 'entropy', deviceId: 4, features: 0n, queueSizes: [64] });
    this.#key = keyOf(seed);
  }

  /** Goes on with another stream: for a machine that is a copy of one that runs on. An outside event: it belongs in the log. */
  reseed(seed: bigint): void {
    this.#key = keyOf(seed);
    this.#position = 0n;
  }

  override save(): VirtioEntropyState {
    return { version: 1, transport: this.saveTransport(), key: this.#key.slice(), position: this.#position };
  }

  override restore(record: unknown): void {
    const state = checkVirtioEntropy(record, (transport) => this.checkTransport(transport));
    this.#key = state.key;
    this.#position = state.position;
    this.restoreTransport(state.transport);
  }

  // No reset goes back in the stream: a guest must not get the same random numbers twice.

  protected override config(): Uint8Array {
    return new Uint8Array(0);
  }

  protected override serve(queue: number): void {
    for (let chain = this.take(queue); chain !== undefined; chain = this.take(queue)) {
      if (chain.writableLength === 0) throw new DriverError('an entropy buffer that cannot be written');
      const length = Math.min(chain.writableLength, CHAIN_MAX);
      this.charge(BYTE_WORK * length);
      const written = scatter(this.context.memory, slice(chain.writable, 0, length), this.#draw(length));
      this.give(queue, chain.head, written);
    }
  }

  /** The next bytes of the stream. */
  #draw(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    let at = 0;
    while (at < length) {
      const block = chacha20Block(this.#key, this.#position / BigInt(BLOCK_SIZE));
      const piece = block.subarray(Number(this.#position % BigInt(BLOCK_SIZE))).subarray(0, length - at);
      bytes.set(piece, at);
      at += piece.length;
      this.#position = (this.#position + BigInt(piece.length)) & U64;
    }
    return bytes;
  }
}

function keyOf(seed: bigint): Uint8Array {
  const key = new DataView(new ArrayBuffer(KEY_SIZE));
  for (let word = 0; word < 4; word++) key.setBigUint64(8 * word, (seed >> BigInt(64 * word)) & U64, true);
  return new Uint8Array(key.buffer);
}

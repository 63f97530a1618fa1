/**
 * The content hash of frames: 128 bits, at memory speed, in wasm.
 *
 * Four lanes of 64 bits, each multiplied and rotated for every word, folded in two ways at the end. It tells states apart; it is
 * no defence against somebody who looks for a collision. All-zero content hashes to zero, so that an untouched page equals a
 * page of zeros.
 */

import { i32, i64, Module } from '../wasm/index.ts';
import { FRAME_HASHED, FRAME_HASHES, HASH_BYTES, PAGE } from './layout.ts';
import type { Pool } from './pool.ts';
import { POOL_MEMORY } from './routines.ts';

const ODD = [0x9e37_79b9_7f4a_7c15n, 0xc2b2_ae3d_27d4_eb4fn, 0x1656_67b1_9e37_79f9n, 0xd6e8_feb8_6659_fd93n] as const;

/** Changes whenever the same state would hash differently. */
export const HASH_VERSION = 2;

function generate(): Uint8Array<ArrayBuffer> {
  const module = new Module();
  module.importMemory('host', 'memory', POOL_MEMORY);
  const avalanche = module.function('avalanche', ['i64'], ['i64'], (f, x) => {
    f.set(x, i64.mul(i64.xor(x, i64.shrU(x, 32)), ODD[3]));
    f.set(x, i64.mul(i64.xor(x, i64.shrU(x, 29)), ODD[1]));
    f.return(i64.xor(x, i64.shrU(x, 32)));
  });
  /** (address, bytes: a multiple of 32, where 16 bytes of result go) */
  const hash = module.function('hash', ['i32', 'i32', 'i32'], [], (f, address, length, out) => {
    const lanes = ODD.map((seed) => f.let(i64.const(seed)));
    const any = f.let(i64.const(0));
    const words = lanes.map(() => f.local('i64'));
    const end = f.let(i32.add(address, length));
    f.while(
      () => i32.ne(address, end),
      () => {
        for (const [i, word] of words.entries()) f.set(word, i64.load(address, 8 * i));
        f.set(any, i64.or(any, i64.or(i64.or(words[0]!, words[1]!), i64.or(words[2]!, words[3]!))));
        for (const [i, lane] of lanes.entries()) {
          f.set(lane, i64.mul(i64.rotl(i64.add(lane, i64.mul(words[i]!, ODD[1])), 31), ODD[0]));
        }
        f.set(address, i32.add(address, 32));
      },
    );
    // Written once, and nothing else before: another thread may have the same result there, and read it.
    f.if(
      i64.eqz(any),
      () => {
        f.store(8, out, i64.const(0));
        f.store(8, out, i64.const(0), 8);
      },
      () => {
        const [a, b, c, d] = lanes as [typeof any, typeof any, typeof any, typeof any];
        const mixed = lanes.map((lane) => f.let(f.call(avalanche, lane)));
        f.store(
          8,
          out,
          f.call(avalanche, i64.add(i64.add(a, i64.rotl(b, 7)), i64.add(i64.rotl(c, 12), i64.rotl(d, 18)))),
        );
        f.store(
          8,
          out,
          i64.xor(
            i64.add(mixed[0]!, i64.rotl(mixed[1]!, 17)),
            i64.add(i64.rotl(mixed[2]!, 31), i64.rotl(mixed[3]!, 47)),
          ),
          8,
        );
      },
    );
  });
  module.export('hash', hash);
  return module.encode();
}

export class FrameHash {
  private readonly pool: Pool;
  private readonly scratch: number;
  private readonly hash: (address: number, length: number, out: number) => void;

  /** `scratch`: host address of 4 KiB that nobody else uses meanwhile. */
  constructor(pool: Pool, scratch: number) {
    this.pool = pool;
    this.scratch = scratch;
    const instance = new WebAssembly.Instance(new WebAssembly.Module(generate()), { host: { memory: pool.memory } });
    this.hash = instance.exports.hash as typeof this.hash;
  }

  /** Whether what `of` gives is true. */
  known(frame: number): boolean {
    return this.pool.bytes[FRAME_HASHED + frame] === 1;
  }

  /** The hash that is kept for a frame. */
  of(frame: number): Uint8Array {
    const at = FRAME_HASHES + frame * HASH_BYTES;
    return this.pool.bytes.subarray(at, at + HASH_BYTES);
  }

  /** Hashes a frame's content, and keeps that. Threads that share the frame may do so at the same time. */
  keep(frame: number): void {
    this.hash(frame * PAGE, PAGE, FRAME_HASHES + frame * HASH_BYTES);
    this.pool.bytes[FRAME_HASHED + frame] = 1;
  }

  /** Keeps another hash for a frame than that of its bytes: a leaf's, which is that of the pages that it leads to. */
  keepFor(frame: number, hash: Uint8Array): void {
    this.pool.bytes.set(hash, FRAME_HASHES + frame * HASH_BYTES);
    this.pool.bytes[FRAME_HASHED + frame] = 1;
  }

  /** Hash of any bytes: a chain over blocks, each of 16 bytes of what came before, the block's length, and its bytes. */
  digest(bytes: Uint8Array): Uint8Array {
    const { pool, scratch } = this;
    const HEAD = 32;
    const room = PAGE - HEAD - 32;
    const result = scratch + PAGE - 32;
    pool.bytes.fill(0, scratch, scratch + PAGE);
    for (let at = 0; at === 0 || at < bytes.length; at += room) {
      const block = bytes.subarray(at, at + room);
      pool.bytes.copyWithin(scratch, result, result + 16);
      pool.words[(scratch + 16) >>> 2] = block.length;
      pool.words[(scratch + 20) >>> 2] = HASH_VERSION;
      pool.bytes.fill(0, scratch + HEAD, result);
      pool.bytes.set(block, scratch + HEAD);
      this.hash(scratch, PAGE - 32, result);
    }
    return pool.bytes.slice(result, result + 16);
  }
}

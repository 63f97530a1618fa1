/** Loops over frames that every pool view needs, in wasm: several times as fast as over a shared array. */

import { i32, i64, Module } from '../wasm/index.ts';
import { ENTRY_FRAME, FRAME_RECORD, FRAME_RECORDS, LEAF_PAGES, PAGE, POOL_PAGES } from './layout.ts';

export const POOL_MEMORY = { min: POOL_PAGES, max: POOL_PAGES, shared: true } as const;

export interface Routines {
  /** (from, to: frames) */
  copy(from: number, to: number): void;
  clear(frame: number): void;
  /** One more holder for each frame that a leaf holds. */
  retainAll(leaf: number): void;
  /** (leaf, other leaf, from): the first index from there on at which their entries differ; LEAF_PAGES when none does. */
  difference(a: number, b: number, from: number): number;
}

function generate(): Uint8Array<ArrayBuffer> {
  const module = new Module();
  module.importMemory('host', 'memory', POOL_MEMORY);
  module.export(
    'copy',
    module.function('copy', ['i32', 'i32'], [], (f, from, to) => {
      f.memoryCopy(i32.shl(to, 12), i32.shl(from, 12), i32.const(PAGE));
    }),
  );
  module.export(
    'clear',
    module.function('clear', ['i32'], [], (f, frame) => {
      f.memoryFill(i32.shl(frame, 12), i32.const(0), i32.const(PAGE));
    }),
  );
  module.export(
    'retainAll',
    module.function('retainAll', ['i32'], [], (f, leaf) => {
      const at = f.let(i32.shl(leaf, 12));
      const end = f.let(i32.add(at, PAGE));
      const frame = f.local('i32');
      f.while(
        () => i32.ne(at, end),
        () => {
          f.set(frame, i32.and(i32.load(at), ENTRY_FRAME));
          f.if(frame, () => {
            const record = i32.add(i32.mul(frame, FRAME_RECORD.size), FRAME_RECORDS);
            f.drop(i32.atomicAdd(record, 1, FRAME_RECORD.references));
          });
          f.set(at, i32.add(at, 4));
        },
      );
    }),
  );
  module.export(
    'difference',
    module.function('difference', ['i32', 'i32', 'i32'], ['i32'], (f, a, b, from) => {
      const one = f.let(i32.shl(a, 12));
      const other = f.let(i32.shl(b, 12));
      f.while(
        () => i32.ltU(from, LEAF_PAGES),
        () => {
          const at = f.let(i32.shl(from, 2));
          // Two entries at a time, where both are the same.
          const pair = i64.eq(i64.load(i32.add(one, at)), i64.load(i32.add(other, at)));
          f.if(
            i32.and(i32.eqz(i32.and(from, 1)), pair),
            () => f.set(from, i32.add(from, 2)),
            () => {
              const differ = i32.ne(i32.load(i32.add(one, at)), i32.load(i32.add(other, at)));
              f.if(differ, () => f.return(from));
              f.set(from, i32.add(from, 1));
            },
          );
        },
      );
      f.return(i32.const(LEAF_PAGES));
    }),
  );
  return module.encode();
}

let compiled: WebAssembly.Module | undefined;

export function routines(memory: WebAssembly.Memory): Routines {
  compiled ??= new WebAssembly.Module(generate());
  return new WebAssembly.Instance(compiled, { host: { memory } }).exports as unknown as Routines;
}

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
  /**
   * (base: a frame, or 0 for zeros; frame; out: host address; most): writes to `out` what a frame has other than its base, as runs of
   * words: index of the first | how many << 16, and the words. Returns how many words it wrote, or -1 when
   * they are more than `most`, behind which nothing is written. Runs have two words that are the same between them, so 1025 are enough.
   */
  changes(base: number, frame: number, out: number, most: number): number;
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
  module.export(
    'changes',
    module.function('changes', ['i32', 'i32', 'i32', 'i32'], ['i32'], (f, base, frame, out, most) => {
      const now = f.let(i32.shl(frame, 12));
      const end = f.let(i32.add(now, PAGE));
      const begun = f.let(out);
      const limit = f.let(i32.add(out, i32.shl(most, 2)));
      const head = f.local('i32');
      const first = f.local('i32');
      // From a word to its base's; of zeros nothing is read: no bit is taken of what is there.
      const apart = f.local('i32');
      const mask = f.local('i32');
      f.if(base, () => {
        f.set(apart, i32.sub(i32.shl(base, 12), now));
        f.set(mask, i32.const(-1));
      });
      const wide = f.let(i64.extendS(mask));
      const differs = (offset: number) =>
        i32.xor(i32.load(now, offset), i32.and(i32.load(i32.add(now, apart), offset), mask));
      f.while(
        () => i32.ne(now, end),
        () => {
          // Two words at a time, where both are the same.
          const pair = i64.xor(i64.load(now), i64.and(i64.load(i32.add(now, apart)), wide));
          f.if(
            i32.and(i32.eqz(i32.and(now, 4)), i64.eqz(pair)),
            () => f.set(now, i32.add(now, 8)),
            () =>
              f.if(
                i32.eqz(differs(0)),
                () => f.set(now, i32.add(now, 4)),
                () => {
                  f.set(first, i32.shrU(i32.and(now, PAGE - 1), 2));
                  f.set(head, out);
                  f.block((over) => {
                    f.loop((more) => {
                      f.set(out, i32.add(out, 4));
                      f.if(i32.geU(out, limit), () => f.return(i32.const(-1)));
                      f.store(4, out, i32.load(now));
                      f.set(now, i32.add(now, 4));
                      f.brIf(over, i32.eq(now, end));
                      f.brIf(more, differs(0));
                      // One word that is the same belongs to the run: the head of another one would be as long.
                      f.brIf(over, i32.eq(i32.add(now, 4), end));
                      f.brIf(more, differs(4));
                    });
                  });
                  f.set(out, i32.add(out, 4));
                  const count = i32.sub(i32.shrU(i32.sub(out, head), 2), 1);
                  f.store(4, head, i32.or(first, i32.shl(count, 16)));
                },
              ),
          );
        },
      );
      f.return(i32.shrU(i32.sub(out, begun), 2));
    }),
  );
  return module.encode();
}

let compiled: WebAssembly.Module | undefined;

export function routines(memory: WebAssembly.Memory): Routines {
  compiled ??= new WebAssembly.Module(generate());
  return new WebAssembly.Instance(compiled, { host: { memory } }).exports as unknown as Routines;
}

/**
 * The address-space cache group: shadow tables, which table is in use, and what keeps them true.
 *
 * Every hart has ELEMENTS data tables, or twice as many when harts are few (`Engine.attach`), and as many fetch tables. A data table is tagged
 * by satp, effective privilege, SUM and MXR; a fetch table by satp and privilege. A change of any of these selects another
 * table and discards nothing.
 *
 * A table holds only what the guest's page tables say at this moment: frames that were walked are marked IS_TABLE, no
 * shadow entry makes such a frame writable, so every store to one comes through `traceStore`, which drops what the old
 * entry had given. Therefore `sfence.vma` has nothing to do, and a table may be thrown away at any moment (I2).
 */

import { DISABLE, MSTATUS, PRIVILEGE } from '../../hart/state.ts';
import {
  AREA,
  CODE_PAGE,
  DATA,
  ELEMENTS,
  ENTRY_FRAME,
  FETCH,
  FRAME_RECORD,
  FRAME_RECORDS,
  FRAMES_END,
  HAS_CODE,
  IS_TABLE,
  LEVEL_SHIFT,
  MANY_ROOTS,
  MANY_WRITERS,
  MAX_HARTS,
  PAGE,
  RAM_BASE,
  READER,
  SECOND,
  WATCHED,
  WRITER_SLOTS,
} from '../../memory/layout.ts';
import { type Expr, type Fn, type FunctionRef, i32, i64, type Local, select } from '../../wasm/index.ts';
import { attention, has, type Library } from './context.ts';

export interface ShadowFunctions {
  /** Selects the tables for the hart's present state. */
  readonly selectSpace: FunctionRef;
  /** Forgets every table of every hart. */
  readonly flushAll: FunctionRef;
  /** (frame): no table makes the frame writable any more. */
  readonly dropWriters: FunctionRef;
  /** (host address, size, value): what was derived from the bytes is dropped, before they change. */
  readonly traceStore: FunctionRef;
  /** (frame, level, shared): the frame is walked as a page table; whether by any root, for all that is known. */
  readonly becomeTable: FunctionRef;
  /** (frame): forgets the decoded instructions of a frame. */
  readonly dropCode: FunctionRef;
  /** (frame, table index): notes that an entry makes the frame writable. */
  readonly noteWriter: FunctionRef;
  /** (frame, table index): notes that an entry leads to the frame, which others share. */
  readonly noteReader: FunctionRef;
  /** (frame): another frame takes its place. */
  readonly dropFrame: FunctionRef;
  /** (code page): nothing of it is decoded any more. */
  readonly emptyCode: FunctionRef;
  /** (): the second level is empty. */
  readonly dropSecond: FunctionRef;
}

/** The worker's code page of a frame, or 0. */
export const codeOf = (w: Library['w'], frame: Expr): Expr => i32.load(i32.shl(frame, 2), w.area + AREA.codeMap);

/** Record of a frame. */
export const recordOf = (frame: Expr): Expr => i32.add(i32.mul(frame, FRAME_RECORD.size), FRAME_RECORDS);

/** Whether physical memory protection allows S-mode everything, in its first entry. */
export const openToAll = (w: Library['w']): Expr =>
  i32.and(i64.eq(i64.and(w.get('pmpcfg0'), 0xff), 0x1f), i64.geU(w.get('pmpaddr0'), 0x3f_ffff_ffff_ffffn));

const rootPage = (satp: Expr): Expr => i32.wrap(i64.and(satp, 0xfff_ffff_ffffn));

const RECORD = { satp: 0, mode: 8, used: 12, size: 16 };
const IN_USE = 0x100;
/** Data tables of a worker: so many numbers a stamp of the second level leaves room for. */
export const TABLES = MAX_HARTS * ELEMENTS;
const KINDS = {
  data: { records: AREA.dataRecords, tables: AREA.dataTables, layout: DATA },
  fetch: { records: AREA.fetchRecords, tables: AREA.fetchTables, layout: FETCH },
} as const;

/** Behind the records: which table was last selected for each hart and mode. Verified when used. */
const HINTS = { data: 0x3000, fetch: 0x3800 } as const;

/** How often a traced frame may be written, with nothing derived in between, until it is left alone. */
const WRITES_UNTIL_UNTRACED = 48;

export function addShadow(lib: Library): ShadowFunctions {
  const { module, w } = lib;
  const field32 = (record: Expr, offset: number) => i32.load(record, offset);

  /** How many elements of each kind a hart has. */
  const elements = () => w.get32('elements');

  /** Every entry of the second level gets older at once: that is cheaper than to look for the one that has become untrue. */
  const dropSecond = module.function('dropSecond', [], [], (f) => {
    const stamp = f.let(i32.add(w.get32('secondStamp'), TABLES));
    f.if(i32.eqz(stamp), () => {
      f.memoryFill(i32.const(w.area + AREA.second), i32.const(0), i32.const(SECOND.entries * DATA.size));
      f.set(stamp, i32.const(TABLES));
    });
    w.set32(f, 'secondStamp', stamp);
  });

  /** Empties a table: see `layout.ts` for why entry 0 is different. */
  const clear = (kind: 'data' | 'fetch') =>
    module.function(`clear_${kind}`, ['i32'], [], (f, table) => {
      f.memoryFill(table, i32.const(0), i32.const(KINDS[kind].layout.bytes));
      f.store(8, table, i64.const(0x1000), 0);
      if (kind === 'data') {
        f.store(8, table, i64.const(0x1000), DATA.write);
        f.do(dropSecond);
      }
    });
  const clearTable = { data: clear('data'), fetch: clear('fetch') };

  const recordBase = (kind: 'data' | 'fetch', index: Expr) =>
    i32.add(i32.mul(index, RECORD.size), w.area + KINDS[kind].records);
  const tableBase = (kind: 'data' | 'fetch', index: Expr) =>
    i32.add(i32.mul(index, KINDS[kind].layout.bytes), w.area + KINDS[kind].tables);

  /** Runs `body` for every table in use of the machine's harts. */
  const forTables = (f: Fn, kind: 'data' | 'fetch', body: (table: Local, record: Local) => void) => {
    f.scope(() => {
      const count = f.let(i32.mul(w.get32('harts'), elements()));
      const i = f.let(i32.const(0));
      const record = f.local('i32');
      const table = f.local('i32');
      f.while(
        () => i32.ltU(i, count),
        () => {
          f.set(record, recordBase(kind, i));
          f.if(field32(record, RECORD.mode), () => {
            f.set(table, tableBase(kind, i));
            body(table, record);
          });
          f.set(i, i32.add(i, 1));
        },
      );
    });
  };

  /** An empty tag for the entry at `index`. */
  const emptyTag = (index: Expr) => select(i32.eqz(index), i64.const(0x1000), i64.const(0));

  /** Runs `body` for every entry of a table that may hold something. */
  const forEntries = (f: Fn, kind: 'data' | 'fetch', table: Local, body: (entry: Local, index: Local) => void) => {
    const { layout } = KINDS[kind];
    f.scope(() => {
      const index = f.let(i32.const(0));
      const entry = f.let(table);
      f.while(
        () => i32.ltU(index, layout.entries),
        () => {
          f.if(i32.load(entry, layout.source), () => f.scope(() => body(entry, index)));
          f.set(index, i32.add(index, 1));
          f.set(entry, i32.add(entry, layout.size));
        },
      );
    });
  };

  const dropEntry = (f: Fn, kind: 'data' | 'fetch', entry: Expr, index: Expr) => {
    f.store(8, entry, emptyTag(index));
    if (kind === 'data') f.store(8, entry, emptyTag(index), DATA.write);
    f.store(4, entry, i32.const(0), KINDS[kind].layout.source);
    if (kind === 'fetch') attention(lib, f);
  };

  const dropWriterAt = (f: Fn, table: Expr, index: Local, frame: Expr) => {
    const entry = f.let(i32.add(table, i32.shl(index, DATA.shift)));
    const tag = f.let(i64.load(entry, DATA.write));
    const points = i32.eq(i32.shrU(i32.add(i32.wrap(tag), i32.load(entry, DATA.addend)), 12), frame);
    f.if(points, () => f.store(8, entry, emptyTag(index), DATA.write));
  };

  const dropWriters = module.function('dropWriters', ['i32'], [], (f, frame) => {
    const record = f.let(recordOf(frame));
    const index = f.local('i32');
    f.do(dropSecond);
    f.if(
      i32.eq(i32.load16U(record, FRAME_RECORD.writers + 2 * (WRITER_SLOTS - 1)), MANY_WRITERS),
      () =>
        forTables(f, 'data', (table) => {
          f.set(index, i32.const(0));
          f.while(
            () => i32.ltU(index, DATA.entries),
            () => {
              f.scope(() => dropWriterAt(f, table, index, frame));
              f.set(index, i32.add(index, 1));
            },
          );
        }),
      () => {
        for (let slot = 0; slot < WRITER_SLOTS; slot++) {
          f.set(index, i32.load16U(record, FRAME_RECORD.writers + 2 * slot));
          f.if(index, () => {
            f.set(index, i32.sub(index, 1));
            forTables(f, 'data', (table) => f.scope(() => dropWriterAt(f, table, index, frame)));
          });
        }
      },
    );
    f.store(8, record, i64.const(0), FRAME_RECORD.writers);
  });

  const becomeTable = module.function('becomeTable', ['i32', 'i32', 'i32'], [], (f, frame, level, shared) => {
    const record = f.let(recordOf(frame));
    const flags = f.let(field32(record, FRAME_RECORD.flags));
    const root = f.let(select(shared, i32.const(MANY_ROOTS | 0), rootPage(w.get('satp'))));
    f.store(4, record, i32.const(0), FRAME_RECORD.writes);
    f.if(
      i32.and(flags, IS_TABLE),
      () =>
        f.if(i32.ne(field32(record, FRAME_RECORD.root), root), () =>
          f.store(4, record, i32.const(MANY_ROOTS | 0), FRAME_RECORD.root),
        ),
      () => {
        f.if(i32.eqz(i32.wrap(i64.and(w.get('disabled'), DISABLE.trace))), () => f.do(dropWriters, frame));
        f.store(4, record, root, FRAME_RECORD.root);
      },
    );
    const marks = f.let(i32.or(IS_TABLE, i32.shl(i32.const(1), i32.add(level, LEVEL_SHIFT))));
    f.if(i32.ne(i32.and(flags, marks), marks), () => f.drop(i32.atomicOr(record, marks, FRAME_RECORD.flags)));
  });

  /** (satp, or another number that ends with the page of a table) -> its frame, or 0 when it is not there. */
  const frameOfTable = module.function('frameOfTable', ['i64'], ['i32'], (f, satp) => {
    const offset = f.let(i64.sub(i64.and(satp, 0xfff_ffff_ffffn), RAM_BASE >>> 12));
    f.if(i64.geU(offset, w.get('ramPages')), () => f.return(i32.const(0)));
    const page = f.let(i32.wrap(offset));
    const leaf = i32.load(i32.add(w.get32('map'), i32.shl(i32.shrU(page, 10), 2)));
    f.return(i32.and(i32.load(i32.add(i32.shl(leaf, 12), i32.shl(i32.and(page, 1023), 2))), ENTRY_FRAME));
  });

  /**
   * (from, to, satp of `from`): copies to an empty table of the present satp what another table of the same mode holds of
   * the upper half, when the two roots agree there: then the walk of such an address is the same from the second entry
   * on. An operating system gives all its processes one upper half. Tables below the root that lead there count as
   * walked from any root, so a change of one of them finds the copies as well.
   */
  const inherit = (kind: 'data' | 'fetch') =>
    module.function(`inherit_${kind}`, ['i32', 'i32', 'i64'], [], (f, from, to, other) => {
      const { layout } = KINDS[kind];
      const satp = f.let(w.get('satp'));
      const levels = f.let(i32.wrap(i64.shrU(satp, 60)));
      f.if(i32.or(i32.eqz(levels), i64.ne(i64.shrU(i64.xor(satp, other), 60), 0)), () => f.return());
      f.if(i32.eqz(openToAll(w)), () => f.return());
      const own = f.let(f.call(frameOfTable, satp));
      const others = f.let(f.call(frameOfTable, other));
      f.if(i32.or(i32.eqz(own), i32.eqz(others)), () => f.return());
      const i = f.let(i32.const(PAGE / 2));
      const pte = f.local('i64');
      f.while(
        () => i32.ltU(i, PAGE),
        () => {
          f.set(pte, i64.load(i32.add(i32.shl(own, 12), i)));
          // A leaf in the root is the root's own.
          const differs = i64.ne(pte, i64.load(i32.add(i32.shl(others, 12), i)));
          f.if(i32.or(differs, has(pte, 0xen)), () => f.return());
          f.set(i, i32.add(i, 8));
        },
      );
      f.do(becomeTable, own, select(i32.eq(levels, 9), i32.const(3), i32.const(2)), i32.const(0));
      const upper = (tag: Local, index: Local) => select(i64.ltS(tag, 0), tag, emptyTag(index));
      f.set(i, i32.const(0));
      f.while(
        () => i32.ltU(i, layout.entries),
        () => {
          const source = f.let(i32.add(from, i32.shl(i, layout.shift)));
          const tag = f.let(i64.load(source));
          const write = f.let(kind === 'data' ? i64.load(source, DATA.write) : tag);
          f.if(i64.ltS(i64.or(tag, write), 0), () => {
            const entry = f.let(i32.add(to, i32.shl(i, layout.shift)));
            f.store(8, entry, upper(tag, i));
            if (kind === 'data') {
              f.store(8, entry, upper(write, i), DATA.write);
              f.store(8, entry, i64.load(source, DATA.addend), DATA.addend); // and `source`
              f.store(4, entry, i32.load(source, DATA.page), DATA.page);
            } else f.store(8, entry, i64.load(source, FETCH.code), FETCH.code); // and `source`
          });
          f.set(i, i32.add(i, 1));
        },
      );
    });
  const inheritTable = { data: inherit('data'), fetch: inherit('fetch') };

  /** (satp, mode) -> the table, found by its tag, made, or recycled from the least recently selected one. */
  const find = (kind: 'data' | 'fetch') =>
    module.function(`find_${kind}`, ['i64', 'i32'], ['i32'], (f, satp, mode) => {
      w.count(f, 'useClock');
      const hart = f.let(w.get32('hart'));
      const hint = f.let(i32.add(i32.shl(i32.or(i32.shl(hart, 6), i32.and(mode, 63)), 2), w.area + HINTS[kind]));
      const last = f.let(i32.load(hint));
      const isIt = (record: Expr) =>
        i32.and(i32.eq(field32(record, RECORD.mode), mode), i64.eq(i64.load(record, RECORD.satp), satp));
      const found = (index: Expr, record: Expr) => {
        f.store(4, record, w.get32('useClock'), RECORD.used);
        w.count(f, 'hits');
        f.return(tableBase(kind, index));
      };
      const first = f.let(i32.mul(hart, elements()));
      const known = i32.ltU(i32.sub(last, first), elements());
      f.if(i32.and(known, isIt(recordBase(kind, last))), () => found(last, recordBase(kind, last)));
      const count = f.let(elements());
      const i = f.local('i32');
      const victim = f.let(first);
      const oldest = f.let(i32.const(-1));
      const record = f.local('i32');
      f.while(
        () => i32.ltU(i, count),
        () => {
          f.set(record, recordBase(kind, i32.add(first, i)));
          f.if(isIt(record), () => {
            f.store(4, hint, i32.add(first, i));
            found(i32.add(first, i), record);
          });
          const age = f.let(select(i32.eqz(field32(record, RECORD.mode)), i32.const(0), field32(record, RECORD.used)));
          f.if(i32.ltU(age, oldest), () => {
            f.set(oldest, age);
            f.set(victim, i32.add(first, i));
          });
          f.set(i, i32.add(i, 1));
        },
      );
      w.count(f, 'creations');
      f.store(4, hint, victim);
      f.set(record, recordBase(kind, victim));
      f.store(8, record, satp, RECORD.satp);
      f.store(4, record, mode, RECORD.mode);
      f.store(4, record, w.get32('useClock'), RECORD.used);
      f.do(clearTable[kind], tableBase(kind, victim));
      // The table that was last in use for this mode knows what the kernel's pages are.
      const predecessor = recordBase(kind, last);
      const useful = i32.and(i32.and(known, i32.ne(last, victim)), i32.eq(field32(predecessor, RECORD.mode), mode));
      const supervisor = i32.eq(i32.and(mode, 3), PRIVILEGE.supervisor);
      const batched = i64.eqz(i64.and(w.get('disabled'), DISABLE.batch));
      f.if(i32.and(i32.and(useful, supervisor), batched), () =>
        f.do(inheritTable[kind], tableBase(kind, last), tableBase(kind, victim), i64.load(predecessor, RECORD.satp)),
      );
      f.return(tableBase(kind, victim));
    });
  const findTable = { data: find('data'), fetch: find('fetch') };

  const selectSpace = module.function('selectSpace', [], [], (f) => {
    w.count(f, 'switches');
    const status = f.let(w.get('mstatus'));
    const satp = f.let(w.get('satp'));
    const own = f.let(w.get32('privilege'));
    const effective = f.let(select(has(status, MSTATUS.MPRV), i32.and(i32.wrap(i64.shrU(status, 11)), 3), own));
    const spaceOf = (privilege: Expr) => select(i32.eq(privilege, PRIVILEGE.machine), i64.const(0), satp);
    const flags = select(
      i32.eq(effective, PRIVILEGE.supervisor),
      i32.shl(i32.and(i32.wrap(i64.shrU(status, 18)), 3), 4),
      i32.shl(i32.and(i32.wrap(i64.shrU(status, 18)), 2), 4),
    );
    f.if(has(w.get('disabled'), DISABLE.tags), () => {
      // Benchmark: one table a hart, emptied at every switch, as a plain TLB would be.
      for (const kind of ['data', 'fetch'] as const) {
        const first = f.let(i32.mul(w.get32('hart'), elements()));
        f.store(4, recordBase(kind, first), i32.const(IN_USE), RECORD.mode);
        f.do(clearTable[kind], tableBase(kind, first));
        w.set32(f, kind === 'data' ? 'dataTable' : 'fetchTable', tableBase(kind, first));
      }
      f.return();
    });
    const mode = (privilege: Expr) => i32.or(privilege, IN_USE);
    w.set32(f, 'dataTable', f.call(findTable.data, spaceOf(effective), i32.or(mode(effective), flags)));
    w.set32(f, 'fetchTable', f.call(findTable.fetch, spaceOf(own), mode(own)));
  });

  /** Forgets a table; the ones in use stay selected, and empty. */
  const forget = (f: Fn, kind: 'data' | 'fetch', table: Expr, record: Expr) => {
    w.count(f, 'flushes');
    const current = i32.eq(table, w.get32(kind === 'data' ? 'dataTable' : 'fetchTable'));
    f.if(
      current,
      () => {
        f.do(clearTable[kind], table);
        if (kind === 'fetch') attention(lib, f);
      },
      () => f.store(4, record, i32.const(0), RECORD.mode),
    );
  };

  const readerAt = (frame: Expr) => i32.add(i32.shl(frame, 1), w.area + AREA.readers);

  const flushAll = module.function('flushAll', [], [], (f) => {
    forTables(f, 'data', (table, record) => forget(f, 'data', table, record));
    forTables(f, 'fetch', (table, record) => forget(f, 'fetch', table, record));
    const epoch = f.let(i32.add(w.get32('readerEpoch'), 1));
    f.if(i32.eq(epoch, READER.epochs), () => {
      f.memoryFill(readerAt(i32.const(0)), i32.const(0), i32.const(2 * FRAMES_END));
      f.set(epoch, i32.const(1));
    });
    w.set32(f, 'readerEpoch', epoch);
  });

  const noteReader = module.function('noteReader', ['i32', 'i32'], [], (f, frame, index) => {
    const note = f.let(i32.load16U(readerAt(frame)));
    const mark = f.let(i32.shl(w.get32('readerEpoch'), READER.epochShift));
    f.if(i32.eq(note, i32.or(mark, index)), () => f.return());
    const first = i32.ne(i32.shrU(note, READER.epochShift), w.get32('readerEpoch'));
    f.store(2, readerAt(frame), i32.or(mark, select(first, index, i32.const(READER.many))));
  });

  /** (frame): no data table leads to the frame any more. */
  const dropReaders = module.function('dropReaders', ['i32'], [], (f, frame) => {
    const note = f.let(i32.load16U(readerAt(frame)));
    f.if(i32.ne(i32.shrU(note, READER.epochShift), w.get32('readerEpoch')), () => f.return());
    f.do(dropSecond);
    f.store(2, readerAt(frame), i32.const(0));
    const index = f.local('i32');
    const entry = f.local('i32');
    const dropAt = (table: Expr) => {
      f.set(entry, i32.add(table, i32.shl(index, DATA.shift)));
      const to = i32.shrU(i32.add(i32.load(entry, DATA.read), i32.load(entry, DATA.addend)), 12);
      f.if(i32.eq(to, frame), () => dropEntry(f, 'data', entry, index));
    };
    f.if(
      i32.and(note, READER.many),
      () =>
        forTables(f, 'data', (table) => {
          f.set(index, i32.const(0));
          f.while(
            () => i32.ltU(index, DATA.entries),
            () => {
              dropAt(table);
              f.set(index, i32.add(index, 1));
            },
          );
        }),
      () => {
        f.set(index, i32.and(note, READER.many - 1));
        forTables(f, 'data', (table) => dropAt(table));
      },
    );
  });

  /** Runs `body` for every table in use that may hold something of a root: of any for MANY_ROOTS. */
  const forRoot = (f: Fn, kind: 'data' | 'fetch', root: Expr, body: (table: Local, record: Local) => void) =>
    forTables(f, kind, (table, record) => {
      const concerned = i32.or(i32.eq(root, MANY_ROOTS | 0), i32.eq(rootPage(i64.load(record, RECORD.satp)), root));
      f.if(concerned, () => body(table, record));
    });

  /** (root page): forgets the tables of one root, or all for MANY_ROOTS. */
  const flushRoot = module.function('flushRoot', ['i32'], [], (f, root) => {
    for (const kind of ['data', 'fetch'] as const) {
      forRoot(f, kind, root, (table, record) => forget(f, kind, table, record));
    }
  });

  /** (root page): drops what the root's tables hold of the lower half. What supervisors use most is in the upper half. */
  const flushLower = module.function('flushLower', ['i32'], [], (f, root) => {
    f.do(dropSecond);
    for (const kind of ['data', 'fetch'] as const) {
      const { layout } = KINDS[kind];
      forRoot(f, kind, root, (table, record) =>
        f.if(
          i32.eqz(i32.and(field32(record, RECORD.mode), 3)),
          () => forget(f, kind, table, record),
          () => {
            w.count(f, 'flushes');
            forEntries(f, kind, table, (entry, index) => {
              const tag = f.let(i64.load(entry));
              const write = f.let(kind === 'data' ? i64.load(entry, DATA.write) : tag);
              const lower = i64.geS(i64.or(tag, write), 0);
              f.if(i64.geS(tag, 0), () => f.store(8, entry, emptyTag(index)));
              if (kind === 'data') f.if(i64.geS(write, 0), () => f.store(8, entry, emptyTag(index), DATA.write));
              f.if(lower, () => {
                f.store(4, entry, i32.const(0), layout.source);
                if (kind === 'fetch') attention(lib, f);
              });
            });
          },
        ),
      );
    }
  });

  /** (frame of a last-level table, root page): drops what the table gave to tables of the root, or to all for MANY_ROOTS. */
  const dropTable = module.function('dropTable', ['i32', 'i32'], [], (f, frame, root) => {
    w.count(f, 'drops');
    f.do(dropSecond);
    for (const kind of ['data', 'fetch'] as const) {
      const { layout } = KINDS[kind];
      forRoot(f, kind, root, (table) =>
        forEntries(f, kind, table, (entry, index) => {
          f.if(i32.eq(i32.shrU(i32.load(entry, layout.source), 9), frame), () => dropEntry(f, kind, entry, index));
        }),
      );
    }
  });

  /** (frame): drops all that was walked through it as a table. */
  const dropBehind = module.function('dropBehind', ['i32'], [], (f, frame) => {
    const record = f.let(recordOf(frame));
    const root = f.let(field32(record, FRAME_RECORD.root));
    const one = i32.eq(i32.shrU(field32(record, FRAME_RECORD.flags), LEVEL_SHIFT), 1);
    f.if(
      one,
      () => f.do(dropTable, frame, root),
      () =>
        // Below one root only: nothing of the upper half leads through it, unless it is the root.
        f.if(
          i32.or(i32.eq(root, MANY_ROOTS | 0), i32.eq(f.call(frameOfTable, i64.extendU(root)), frame)),
          () => f.do(flushRoot, root),
          () => f.do(flushLower, root),
        ),
    );
  });

  /** (code page): no fetch table leads there any more. */
  const dropFetches = module.function('dropFetches', ['i32'], [], (f, page) => {
    const i = f.local('i32');
    const entry = f.local('i32');
    forTables(f, 'fetch', (table) => {
      f.set(i, i32.const(0));
      f.while(
        () => i32.ltU(i, FETCH.entries),
        () => {
          f.set(entry, i32.add(table, i32.shl(i, FETCH.shift)));
          f.if(i32.eq(i32.load(entry, FETCH.code), page), () => {
            f.store(8, entry, emptyTag(i), FETCH.tag);
            f.store(4, entry, i32.const(0), FETCH.code);
          });
          f.set(i, i32.add(i, 1));
        },
      );
    });
    attention(lib, f);
  });

  const dropFrame = module.function('dropFrame', ['i32'], [], (f, frame) => {
    const flags = f.let(field32(recordOf(frame), FRAME_RECORD.flags));
    f.if(i32.and(flags, IS_TABLE), () => f.do(dropBehind, frame));
    f.if(i32.and(flags, HAS_CODE), () => {
      const page = f.let(codeOf(w, frame));
      f.if(page, () => f.do(dropFetches, page));
    });
    f.do(dropReaders, frame);
  });

  const noteWriter = module.function('noteWriter', ['i32', 'i32'], [], (f, frame, index) => {
    const record = f.let(recordOf(frame));
    const mark = i32.add(index, 1);
    for (let slot = 0; slot < WRITER_SLOTS; slot++) {
      const held = f.let(i32.load16U(record, FRAME_RECORD.writers + 2 * slot));
      f.if(i32.eq(held, mark), () => f.return());
      f.if(i32.eqz(held), () => {
        f.store(2, record, mark, FRAME_RECORD.writers + 2 * slot);
        f.return();
      });
    }
    f.store(2, record, i32.const(MANY_WRITERS), FRAME_RECORD.writers + 2 * (WRITER_SLOTS - 1));
  });

  /** (host address of a page-table entry): drops the entries that it gave. Only for a last-level entry. */
  const dropLeaf = module.function('dropLeaf', ['i32'], [], (f, entryAddress) => {
    const source = f.let(i32.shrU(entryAddress, 3));
    const slot = f.let(i32.and(source, 511));
    const index = f.local('i32');
    const entry = f.local('i32');
    w.count(f, 'drops');
    f.do(dropSecond);
    for (const kind of ['data', 'fetch'] as const) {
      const { layout } = KINDS[kind];
      forTables(f, kind, (table) => {
        // The place in its table gives nine bits of the page number.
        for (let high = 0; high < layout.entries; high += 512) {
          f.set(index, i32.or(slot, high));
          f.set(entry, i32.add(table, i32.shl(index, layout.shift)));
          f.if(i32.eq(i32.load(entry, layout.source), source), () => dropEntry(f, kind, entry, index));
        }
      });
    }
  });

  /** (host address, old entry, new entry) of a page-table entry that changes. */
  const changeEntry = module.function('changeEntry', ['i32', 'i64', 'i64'], [], (f, address, old, next) => {
    const V = 1n;
    const RWX = 0xen;
    const A = 1n << 6n;
    f.if(i64.eqz(i64.and(old, V)), () => f.return());
    const leaf = f.let(has(old, RWX));
    // Bits whose gain makes nothing false that was derived: A, D, G, the software's, and rights of a leaf.
    const gain = f.let(select(leaf, i64.const(0x3e0n | RWX), i64.const(0x3e0n & ~0xd0n)));
    const lost = i64.or(i64.and(i64.xor(old, next), i64.xor(gain, -1)), i64.and(i64.and(old, i64.xor(next, -1)), gain));
    f.if(i64.eqz(lost), () => f.return());
    const record = f.let(recordOf(i32.shrU(address, 12)));
    f.if(has(w.get('disabled'), DISABLE.shootdown), () => {
      f.do(flushAll);
      f.return();
    });
    f.if(leaf, () => {
      f.if(i64.eqz(i64.and(old, A)), () => f.return());
      f.if(i32.eq(i32.shrU(field32(record, FRAME_RECORD.flags), LEVEL_SHIFT), 1), () => {
        f.do(dropLeaf, address);
        f.return();
      });
    });
    f.if(leaf, () => {
      f.do(flushRoot, i32.const(MANY_ROOTS | 0));
      f.return();
    });
    const frame = i32.shrU(address, 12);
    const root = f.let(field32(record, FRAME_RECORD.root));
    // A pointer to a last-level table: just what that gave.
    f.if(i32.eq(i32.shrU(field32(record, FRAME_RECORD.flags), LEVEL_SHIFT), 2), () => {
      const next = f.let(f.call(frameOfTable, i64.shrU(old, 10)));
      f.if(next, () => {
        f.do(dropTable, next, root);
        f.return();
      });
    });
    // The lower half of a root.
    const own = i32.eq(f.call(frameOfTable, i64.extendU(root)), frame);
    f.if(i32.and(own, i32.eqz(i32.and(address, 2048))), () => {
      f.do(flushLower, root);
      f.return();
    });
    f.do(dropBehind, frame);
  });

  /** (code page): nothing of it is decoded any more. */
  const emptyCode = module.function('emptyCode', ['i32'], [], (f, page) => {
    f.memoryFill(page, i32.const(0), i32.const(CODE_PAGE.sentinel));
    f.store(4, page, i32.add(i32.load(page, CODE_PAGE.version), 1), CODE_PAGE.version);
  });

  const dropCode = module.function('dropCode', ['i32'], [], (f, frame) => {
    const record = f.let(recordOf(frame));
    const page = f.let(codeOf(w, frame));
    f.store(4, record, i32.and(field32(record, FRAME_RECORD.flags), ~HAS_CODE), FRAME_RECORD.flags);
    f.store(4, record, i32.add(field32(record, FRAME_RECORD.generation), 1), FRAME_RECORD.generation);
    f.if(i32.eqz(page), () => f.return());
    f.do(dropFetches, page);
    f.do(emptyCode, page);
    f.store(4, page, field32(record, FRAME_RECORD.generation), CODE_PAGE.generation);
  });

  const traceStore = module.function('traceStore', ['i32', 'i32', 'i64'], [], (f, address, size, value) => {
    const frame = f.let(i32.shrU(address, 12));
    const record = f.let(recordOf(frame));
    const flags = f.let(field32(record, FRAME_RECORD.flags));
    w.count(f, 'tracedWrites');
    const writes = f.let(i32.add(field32(record, FRAME_RECORD.writes), 1));
    f.store(4, record, writes, FRAME_RECORD.writes);
    f.if(i32.and(flags, HAS_CODE), () => {
      f.if(
        i32.geU(writes, WRITES_UNTIL_UNTRACED),
        () => f.do(dropCode, frame),
        () => {
          // What the bytes can be part of starts up to three halfwords before: an instruction of four bytes, behind one of
          // four bytes that does the work of both. Such pairs form chains, so if any of it is decoded the whole page goes; data
          // beside code is not, and costs only this look.
          const offset = i32.and(address, 4095);
          const slot = f.let(i32.shrU(offset, 1));
          const end = f.let(i32.shrU(i32.add(offset, i32.sub(size, 1)), 1));
          // What other workers have decoded of the frame is not known here: they see the generation.
          const generation = f.let(i32.add(field32(record, FRAME_RECORD.generation), 1));
          f.store(4, record, generation, FRAME_RECORD.generation);
          const page = f.let(codeOf(w, frame));
          f.if(page, () => f.store(4, page, generation, CODE_PAGE.generation));
          f.set(end, select(page, end, i32.const(-1)));
          f.set(slot, select(i32.ltU(slot, 3), i32.const(0), i32.sub(slot, 3)));
          f.while(
            () => i32.leS(slot, end),
            () => {
              f.if(i32.load(i32.add(page, i32.shl(slot, 3))), () => {
                f.do(emptyCode, page);
                attention(lib, f);
                f.set(slot, end);
              });
              f.set(slot, i32.add(slot, 1));
            },
          );
        },
      );
    });
    f.if(i32.and(flags, IS_TABLE), () => {
      f.if(
        i32.and(i32.eq(size, 8), i32.eqz(i32.and(address, 7))),
        () => f.do(changeEntry, address, i64.load(address), value),
        () => {
          const entry = f.let(i32.and(address, -8));
          const end = i32.add(address, size);
          f.while(
            () => i32.ltU(entry, end),
            () => {
              f.do(changeEntry, entry, i64.load(entry), i64.const(0));
              f.set(entry, i32.add(entry, 8));
            },
          );
        },
      );
      // Many stores and no walk: it is data now. What its other entries gave goes with it.
      f.if(i32.geU(writes, WRITES_UNTIL_UNTRACED), () => {
        f.do(dropBehind, frame);
        f.store(4, record, i32.and(field32(record, FRAME_RECORD.flags), HAS_CODE | WATCHED), FRAME_RECORD.flags);
      });
    });
  });

  // The whole group's size is bounded by the worker's area.
  if (MAX_HARTS * ELEMENTS * (DATA.bytes + FETCH.bytes) + AREA.dataTables > AREA.heat) throw new RangeError('area');
  return {
    selectSpace,
    flushAll,
    dropWriters,
    traceStore,
    becomeTable,
    dropCode,
    noteWriter,
    noteReader,
    dropFrame,
    emptyCode,
    dropSecond,
  };
}

export { DATA, FETCH };

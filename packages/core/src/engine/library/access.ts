/**
 * Memory beyond the inline check: translation, filling of shadow tables, devices, page crossings.
 *
 * Translation follows the privileged specification 4.3.2 (Sv39) and 4.4 (Sv48) step by step. Every function that can trap
 * does so through `trap` and leaves `trapped` set; callers look there.
 */

import { CAUSE, DISABLE, MENVCFG, MSTATUS, PRIVILEGE } from '../../hart/state.ts';
import {
  AREA,
  CODE_PAGE,
  DATA,
  ENTRY_FRAME,
  FETCH,
  FRAME_HASHED,
  FRAME_RECORD,
  HAS_CODE,
  IS_TABLE,
  PAGE,
  RAM_BASE,
  SECOND,
  STRADDLES,
  WALKED,
  WATCHED,
} from '../../memory/layout.ts';
import { type Expr, type Fn, type FunctionRef, i32, i64, type Local, select } from '../../wasm/index.ts';
import { SLOT } from '../slot.ts';
import { has, type Library, stepsLeft } from './context.ts';
import { addProtection } from './protection.ts';
import { codeOf, openToAll, recordOf, type ShadowFunctions, TABLES } from './shadow.ts';

export interface AccessFunctions {
  /** (address, size) -> the value, zero-extended. */
  readonly loadSlow: FunctionRef;
  /** (address, size, value) */
  readonly storeSlow: FunctionRef;
  /** (address, size, access or one of ATOMIC) -> host address of aligned RAM, for atomics; 0 after a trap. Fills no device access. */
  readonly atomicAddress: FunctionRef;
  /** (host address, size, value): a store to RAM whose page may be traced. */
  readonly storeTraced: FunctionRef;
  /** (pc) -> code page for the page of pc, or 0 after a trap. */
  readonly fetchPage: FunctionRef;
  /** (address, access) -> host address of RAM; 0 for a device's address or after a trap. */
  readonly dataAddress: FunctionRef;
  /** (): raises the illegal-instruction exception for the instruction at `pc`. */
  readonly illegal: FunctionRef;
  /** (slot, pc) -> a slot for the instruction at pc, which lies across two pages; 0 after a trap. */
  readonly straddle: FunctionRef;
  /** (slot, pc) -> a slot for the instruction of an armed place; 0 when the run ends before it, or after a trap. */
  readonly armed: FunctionRef;
}

/**
 * `block`: for cache block management, which may do what a load may and faults as a store does. `walk`, of which only the host hears:
 * the hardware sets flags of a page-table entry.
 */
export const ACCESS = { load: 0, store: 1, fetch: 2, block: 4, walk: 8 } as const;

/** Stores that are more: one that reads as well, and one that is made only where the hart holds a reservation. */
export const ATOMIC = { update: 0x100 | ACCESS.store, conditional: 0x200 | ACCESS.store } as const;
/** What an atomic store adds to the size that the host hears of. */
export const ATOMIC_SIZE = { update: 0x100, conditional: 0x200, mask: 0xff } as const;

const PTE = { V: 1n, R: 2n, W: 4n, X: 8n, U: 16n, A: 64n, D: 128n };

/** How many neighbours a miss looks at on each side; a power of two, as a group of page-table entries of one cache line. */
const BATCH = 8;

export function addAccess(lib: Library, shadow: ShadowFunctions, trap: FunctionRef): AccessFunctions {
  const { module, w, imports } = lib;
  const pageRights = addProtection(lib);

  /** Raises the page or access fault of an access type. */
  const fault = (kind: 'page' | 'access') =>
    module.function(`fault_${kind}`, ['i64', 'i32'], [], (f, address, access) => {
      const causes =
        kind === 'page'
          ? [CAUSE.loadPage, CAUSE.storePage, CAUSE.fetchPage]
          : [CAUSE.loadAccess, CAUSE.storeAccess, CAUSE.fetchAccess];
      const cause = select(
        i32.eq(access, ACCESS.load),
        i64.const(causes[0]!),
        select(i32.eq(access, ACCESS.fetch), i64.const(causes[2]!), i64.const(causes[1]!)),
      );
      f.do(trap, cause, address);
    });
  const pageFault = fault('page');
  const accessFault = fault('access');

  /** (host address of a page-table entry, its new flags): notes what a step that is not made has to take back. */
  const noteWalk = module.function('noteWalk', ['i32', 'i64'], [], (f, host, flags) => {
    const step = f.let(i32.wrap(stepsLeft(lib)));
    f.if(i32.ne(w.get32('walkStep'), step), () => {
      w.set32(f, 'walkStep', step);
      w.set32(f, 'walkCount', i32.const(0));
    });
    const count = f.let(w.get32('walkCount'));
    const at = i32.shl(i32.and(count, WALKED.entries - 1), 2);
    f.store(4, at, i32.or(host, i32.wrap(i64.shrU(flags, WALKED.shift))), w.area + AREA.walked);
    w.set32(f, 'walkCount', i32.add(count, 1));
  });

  const leafOf = (page: Expr) => i32.load(i32.add(w.get32('map'), i32.shl(i32.shrU(page, 10), 2)));
  /** (pc) -> whether the run ends before the instruction there. */
  const stopsAt = module.function('stopsAtPc', ['i64'], ['i32'], (f, pc) =>
    f.return(f.call(imports.stopsAt, i32.wrap(pc), i32.wrap(i64.shrU(pc, 32)))),
  );

  /** (guest page) -> address of its leaf entry; the page lies in RAM. */
  const leafEntry = module.function('leafEntry', ['i32'], ['i32'], (f, page) => {
    f.return(i32.add(i32.shl(leafOf(page), 12), i32.shl(i32.and(page, 1023), 2)));
  });

  const references = (frame: Expr) => i32.load(recordOf(frame), FRAME_RECORD.references);

  /** (guest page) -> whether another map has its frame as well. */
  const isShared = module.function('isShared', ['i32'], ['i32'], (f, page) => {
    const frame = i32.and(i32.load(f.call(leafEntry, page)), ENTRY_FRAME);
    f.return(i32.or(i32.gtU(references(leafOf(page)), 1), i32.gtU(references(frame), 1)));
  });

  /** (guest page) -> whether it may be written in place: present, not shared, and not hashed. */
  const isOwn = module.function('isOwn', ['i32'], ['i32'], (f, page) => {
    const leaf = f.let(leafOf(page));
    const frame = f.let(i32.and(i32.load(f.call(leafEntry, page)), ENTRY_FRAME));
    f.if(i32.eqz(frame), () => f.return(i32.const(0)));
    const hashed = i32.or(i32.load8U(leaf, FRAME_HASHED), i32.load8U(frame, FRAME_HASHED));
    f.return(i32.and(i32.eqz(hashed), i32.eqz(f.call(isShared, page))));
  });

  /** (physical address) -> its guest page, or -1 outside RAM. */
  const pageOf = module.function('pageOf', ['i64'], ['i32'], (f, physical) => {
    const page = f.let(i64.shrU(i64.sub(physical, RAM_BASE), 12));
    f.return(select(i64.ltU(page, w.get('ramPages')), i32.wrap(page), i32.const(-1)));
  });

  /**
   * (guest page, write) -> host address of its frame; for a write one that may be written in place. 0 when the host has none to
   * give: then `trapped` is set without a trap.
   */
  const frameAddress = module.function('frameAddress', ['i32', 'i32'], ['i32'], (f, page, write) => {
    const frame = f.let(i32.and(i32.load(f.call(leafEntry, page)), ENTRY_FRAME));
    const ready = f.local('i32');
    f.if(
      write,
      () => f.set(ready, f.call(isOwn, page)),
      () => f.set(ready, frame),
    );
    f.if(ready, () => f.return(i32.shl(frame, 12)));
    f.return(f.call(imports.prepareFrame, page, write));
  });

  const allowed = (physical: Expr, privilege: Expr, right: number) => {
    const machineFree = i32.and(
      i32.eq(privilege, PRIVILEGE.machine),
      i64.eqz(i64.or(w.get('pmpcfg0'), w.get('pmpcfg2'))),
    );
    return { trivial: i32.or(openToAll(w), machineFree), right, physical, privilege };
  };

  /** (physical address, privilege, right) -> whether physical memory protection allows it. */
  const permitted = module.function('permitted', ['i64', 'i32', 'i32'], ['i32'], (f, physical, privilege, right) => {
    f.if(allowed(physical, privilege, 0).trivial, () => f.return(i32.const(1)));
    f.return(i32.ne(i32.and(f.call(pageRights, physical, privilege), right), 0));
  });

  const effectivePrivilege = (access: Expr) =>
    select(
      i32.and(i32.ne(access, ACCESS.fetch), has(w.get('mstatus'), MSTATUS.MPRV)),
      i32.and(i32.wrap(i64.shrU(w.get('mstatus'), 11)), 3),
      w.get32('privilege'),
    );

  /**
   * (virtual address, access) -> physical address, or -1 after a trap. Leaves the PTE's host address / 8 in `source` (0
   * without translation), the bytes that one entry spans in `span`, and in `granted` the PTE's flags.
   */
  const translate = module.function('translate', ['i64', 'i32'], ['i64'], (f, va, access) => {
    const privilege = f.let(effectivePrivilege(access));
    const satp = f.let(w.get('satp'));
    const mode = f.let(i32.wrap(i64.shrU(satp, 60)));
    const right = f.let(i32.shl(i32.const(1), i32.and(access, 3)));
    const refuse = (kind: FunctionRef) => {
      f.do(kind, va, access);
      f.return(i64.const(-1));
    };
    w.count(f, 'walks');
    f.if(i32.or(i32.eq(privilege, PRIVILEGE.machine), i32.eqz(mode)), () => {
      w.set(f, 'source', i64.const(0));
      w.set(f, 'span', i64.const(4096));
      w.set(f, 'granted', i64.const(-1));
      // Nobody answers at the last byte of all, whose address stands for a trap here.
      f.if(i32.or(i64.eq(va, -1), i32.eqz(f.call(permitted, va, privilege, right))), () => refuse(accessFault));
      f.return(va);
    });
    const level = f.let(select(i32.eq(mode, 9), i32.const(3), i32.const(2)));
    // The tables below the root that lead to the upper half: see `inherit`.
    const shared = f.let(i32.const(0));
    // Bits above the translated ones repeat the highest of them.
    const unused = f.let(i64.extendU(select(i32.eq(mode, 9), i32.const(16), i32.const(25))));
    f.if(i64.ne(i64.shrS(i64.shl(va, unused), unused), va), () => refuse(pageFault));
    const table = f.let(i64.shl(i64.and(satp, 0xfff_ffff_ffffn), 12));
    const shift = f.local('i64');
    const entryPhysical = f.local('i64');
    const page = f.local('i32');
    const host = f.local('i32');
    const pte = f.local('i64');
    f.loop((next) => {
      f.set(shift, i64.extendU(i32.add(i32.mul(level, 9), 12)));
      f.set(entryPhysical, i64.add(table, i64.shl(i64.and(i64.shrU(va, shift), 511), 3)));
      f.set(page, f.call(pageOf, entryPhysical));
      f.if(i32.eq(page, -1), () => refuse(accessFault));
      f.if(i32.eqz(f.call(permitted, entryPhysical, i32.const(PRIVILEGE.supervisor), i32.const(1))), () =>
        refuse(accessFault),
      );
      f.set(host, f.call(frameAddress, page, i32.const(0)));
      f.if(i32.eqz(host), () => f.return(i64.const(-1)));
      f.set(host, i32.add(host, i32.and(i32.wrap(entryPhysical), 4095)));
      f.set(pte, i64.load(host));
      // Reserved bits (Svnapot and Svpbmt are not implemented), and write without read.
      const bad = i32.or(
        i32.or(i64.eqz(i64.and(pte, PTE.V)), has(pte, 0xffc0_0000_0000_0000n)),
        i64.eq(i64.and(pte, PTE.R | PTE.W), PTE.W),
      );
      f.if(bad, () => refuse(pageFault));
      // Workers whose machines share the frame have roots of their own.
      f.do(shadow.becomeTable, i32.shrU(host, 12), level, i32.or(shared, f.call(isShared, page)));
      f.if(i64.eqz(i64.and(pte, PTE.R | PTE.X)), () => {
        f.if(i32.or(i32.eqz(level), has(pte, PTE.A | PTE.D | PTE.U)), () => refuse(pageFault));
        f.set(level, i32.sub(level, 1));
        f.set(shared, i32.wrap(i64.shrU(va, 63)));
        f.set(table, i64.shl(i64.and(i64.shrU(pte, 10), 0xfff_ffff_ffffn), 12));
        f.br(next);
      });
    });
    const span = f.let(i64.shl(i64.const(1), shift));
    const status = f.let(w.get('mstatus'));
    const right64 = select(
      i32.eq(access, ACCESS.fetch),
      i64.and(pte, PTE.X),
      select(
        i32.eq(access, ACCESS.store),
        i64.and(pte, PTE.W),
        i64.and(pte, select(has(status, MSTATUS.MXR), i64.const(PTE.R | PTE.X), i64.const(PTE.R))),
      ),
    );
    f.if(i64.eqz(right64), () => refuse(pageFault));
    f.if(
      i32.eq(privilege, PRIVILEGE.user),
      () => f.if(i64.eqz(i64.and(pte, PTE.U)), () => refuse(pageFault)),
      () =>
        f.if(
          i32.and(has(pte, PTE.U), i32.or(i32.eq(access, ACCESS.fetch), i64.eqz(i64.and(status, MSTATUS.SUM)))),
          () => refuse(pageFault),
        ),
    );
    const physicalBase = f.let(i64.shl(i64.and(i64.shrU(pte, 10), 0xfff_ffff_ffffn), 12));
    f.if(has(physicalBase, i64.sub(span, 1)), () => refuse(pageFault));
    const wanted = f.let(select(i32.eq(access, ACCESS.store), i64.const(PTE.A | PTE.D), i64.const(PTE.A)));
    f.if(i64.ne(i64.and(pte, wanted), wanted), () => {
      // Svade behaviour unless Svadu is switched on; then the entry itself is written, with S-mode's rights.
      f.if(i64.eqz(i64.and(w.get('menvcfg'), MENVCFG.ADUE)), () => refuse(pageFault));
      f.if(i32.eqz(f.call(permitted, entryPhysical, i32.const(PRIVILEGE.supervisor), i32.const(2))), () =>
        refuse(accessFault),
      );
      const flags = f.let(i64.and(wanted, i64.xor(pte, -1)));
      f.set(pte, i64.or(pte, wanted));
      f.set(host, f.call(frameAddress, page, i32.const(1)));
      f.if(i32.eqz(host), () => f.return(i64.const(-1)));
      f.if(w.get32('tracing'), () => {
        const [low, high] = [i32.wrap(entryPhysical), i32.wrap(i64.shrU(entryPhysical, 32))];
        f.drop(f.call(imports.touched, low, high, page, i32.const(ACCESS.walk), i32.const(8)));
        f.if(w.get32('trapped'), () => f.return(i64.const(-1)));
      });
      f.set(host, i32.add(host, i32.and(i32.wrap(entryPhysical), 4095)));
      f.do(shadow.becomeTable, i32.shrU(host, 12), level, shared);
      f.if(i32.and(i32.load(recordOf(i32.shrU(host, 12)), FRAME_RECORD.flags), HAS_CODE), () =>
        f.do(shadow.traceStore, host, i32.const(8), pte),
      );
      f.store(8, host, pte);
      f.do(noteWalk, host, flags);
    });
    const physical = f.let(i64.or(physicalBase, i64.and(va, i64.sub(span, 1))));
    w.set(f, 'source', i64.extendU(i32.shrU(host, 3)));
    w.set(f, 'span', span);
    w.set(f, 'granted', pte);
    f.if(i32.eqz(f.call(permitted, physical, privilege, right)), () => refuse(accessFault));
    f.return(physical);
  });

  /** (frame) -> whether a store may go to it unseen. */
  const untraced = (f: Fn, frame: Expr) => {
    const flags = f.let(i32.load(recordOf(frame), FRAME_RECORD.flags));
    const tracing = has(w.get('disabled'), DISABLE.trace);
    return i32.or(
      i32.eqz(i32.and(flags, HAS_CODE | IS_TABLE | WATCHED)),
      i32.and(tracing, i32.eqz(i32.and(flags, HAS_CODE | WATCHED))),
    );
  };

  /** (virtual address, guest page or -1, access) -> whether an entry may be made: an access that the host hears of. */
  const touched = module.function('touchedBy', ['i64', 'i32', 'i32'], ['i32'], (f, va, page, access) =>
    f.return(f.call(imports.touched, i32.wrap(va), i32.wrap(i64.shrU(va, 32)), page, access, w.get32('accessSize'))),
  );

  /** (virtual address) -> the data entry that it maps to. */
  const entryAt = module.function('entryAt', ['i64'], ['i32'], (f, va) => {
    const index = i32.and(i32.wrap(i64.shrU(va, 12)), DATA.entries - 1);
    f.return(i32.add(w.get32('dataTable'), i32.shl(index, DATA.shift)));
  });

  /** Which data table is in use, and what its entries of the second level carry. */
  const tableNumber = () => i32.and(i32.shrU(w.get32('dataTable'), 31 - Math.clz32(DATA.bytes)), TABLES - 1);
  const stamp = () => i32.or(w.get32('secondStamp'), tableNumber());

  /** The entry of the second level for an address. Pages that share an entry of the first one are spread. */
  const secondAt = (f: Fn, va: Expr) => {
    const page = f.let(i32.wrap(i64.shrU(va, 12)));
    const spread = i32.xor(i32.xor(page, i32.shrU(page, 13)), i32.mul(tableNumber(), 1021));
    return i32.add(i32.shl(i32.and(spread, SECOND.entries - 1), DATA.shift), w.area + AREA.second);
  };
  const copyEntry = (f: Fn, from: Expr, to: Expr) => {
    for (let at = 0; at < DATA.size; at += 8) f.store(8, to, i64.load(from, at), at);
  };

  /** (virtual page address, host frame address, guest page, read, write): makes or extends a data entry. */
  const fill = module.function('fill', ['i64', 'i32', 'i32', 'i32', 'i32'], [], (f, va, host, page, read, write) => {
    const index = f.let(i32.and(i32.wrap(i64.shrU(va, 12)), DATA.entries - 1));
    const entry = f.let(i32.add(w.get32('dataTable'), i32.shl(index, DATA.shift)));
    const addend = f.let(i32.sub(host, i32.wrap(va)));
    const empty = f.let(select(i32.eqz(index), i64.const(0x1000), i64.const(0)));
    w.count(f, 'fills');
    // What the entry held for this very mapping stays: its addend and its page can be those of another address as well.
    const same = i32.and(
      i32.and(i32.eq(i32.load(entry, DATA.addend), addend), i32.eq(i32.load(entry, DATA.page), page)),
      i32.eq(i32.load(entry, DATA.source), w.get32('source')),
    );
    f.if(i32.eqz(same), () => {
      f.store(8, entry, empty, DATA.read);
      f.store(8, entry, empty, DATA.write);
    });
    f.store(4, entry, addend, DATA.addend);
    f.store(4, entry, w.get32('source'), DATA.source);
    f.store(4, entry, page, DATA.page);
    f.if(read, () => f.store(8, entry, va, DATA.read));
    f.if(
      write,
      () => {
        f.store(8, entry, va, DATA.write);
        f.do(shadow.noteWriter, i32.shrU(host, 12), index);
      },
      () => f.if(f.call(isShared, page), () => f.do(shadow.noteReader, i32.shrU(host, 12), index)),
    );
    const second = f.let(secondAt(f, va));
    copyEntry(f, entry, second);
    f.store(4, second, stamp(), SECOND.stamp);
  });

  /** (virtual address) -> whether the second level knew its page, whose entry is in the first one then. */
  const recall = module.function('recall', ['i64'], ['i32'], (f, va) => {
    const second = f.let(secondAt(f, va));
    const reads = i64.ltU(i64.xor(va, i64.load(second, DATA.read)), 4096);
    const writes = f.let(i64.ltU(i64.xor(va, i64.load(second, DATA.write)), 4096));
    const known = i32.and(i32.eq(i32.load(second, SECOND.stamp), stamp()), i32.or(reads, writes));
    f.if(i32.or(i32.eqz(known), has(w.get('disabled'), DISABLE.second)), () => f.return(i32.const(0)));
    const entry = f.let(f.call(entryAt, va));
    copyEntry(f, second, entry);
    f.if(writes, () => {
      const host = i32.add(i32.wrap(va), i32.load(entry, DATA.addend));
      f.do(shadow.noteWriter, i32.shrU(host, 12), i32.and(i32.wrap(i64.shrU(va, 12)), DATA.entries - 1));
    });
    w.count(f, 'recalls');
    f.return(i32.const(1));
  });

  /**
   * (page of va, privilege): after a miss that follows one on the page before, enters for reading the pages that come next: those of the
   * same line of page-table entries whose accessed bit is already set and that grant the same rights, or those inside the same
   * superpage; present frames only.
   */
  const fillNeighbours = module.function('fillNeighbours', ['i64', 'i32'], [], (f, va, privilege) => {
    const source = f.let(w.get32('source'));
    const granted = f.let(w.get('granted'));
    const small = f.let(i64.eq(w.get('span'), 4096));
    const own = f.let(i32.and(i32.wrap(i64.shrU(va, 12)), BATCH - 1));
    const i = f.let(i32.add(own, 1));
    const distance = f.local('i32');
    const pte = f.local('i64');
    const page = f.local('i32');
    const ownPage = f.let(i32.load(f.call(entryAt, va), DATA.page));
    // Protection is checked only in its trivial form.
    const RIGHTS = 0x1fn | PTE.A | 0xffc0_0000_0000_0000n;
    f.if(i32.eqz(allowed(va, privilege, 1).trivial), () => f.return());
    w.set(f, 'lastMiss', i64.or(va, (BATCH - 1) << 12));
    f.while(
      () => i32.ltU(i, BATCH),
      () => {
        f.block((skip) => {
          f.set(distance, i32.sub(i, own));
          const other = f.let(i64.add(va, i64.shl(i64.extendS(distance), 12)));
          f.if(
            small,
            () => {
              f.set(pte, i64.load(i32.shl(i32.add(source, distance), 3)));
              f.brIf(skip, i64.ne(i64.and(i64.xor(pte, granted), RIGHTS), 0));
              f.set(page, f.call(pageOf, i64.shl(i64.and(i64.shrU(pte, 10), 0xfff_ffff_ffffn), 12)));
              f.brIf(skip, i32.eq(page, -1));
              w.set(f, 'source', i64.extendU(i32.add(source, distance)));
            },
            () => {
              f.set(page, i32.add(ownPage, distance));
              f.brIf(skip, i32.geU(page, w.get32('ramPages')));
            },
          );
          const leaf = f.let(i32.and(i32.load(f.call(leafEntry, page)), ENTRY_FRAME));
          f.brIf(skip, i32.eqz(leaf));
          f.do(fill, other, i32.shl(leaf, 12), page, i32.const(1), i32.const(0));
          w.count(f, 'batchFills');
        });
        f.set(i, i32.add(i, 1));
      },
    );
  });

  /**
   * (virtual address, access) -> host address of RAM, its entry filled; 0 when the address is a device's (the physical
   * address is then in `mailbox`) or after a trap.
   */
  const dataAddress = module.function('dataAddress', ['i64', 'i32'], ['i32'], (f, va, access) => {
    const physical = f.let(f.call(translate, va, access));
    f.if(i64.eq(physical, -1), () => f.return(i32.const(0)));
    const page = f.let(f.call(pageOf, physical));
    f.if(i32.eq(page, -1), () => {
      w.set(f, 'mailbox', physical);
      f.if(w.get32('tracing'), () => f.drop(f.call(touched, va, page, access)));
      f.return(i32.const(0));
    });
    const store = i32.eq(access, ACCESS.store);
    const frame = f.let(f.call(frameAddress, page, store));
    f.if(i32.eqz(frame), () => f.return(i32.const(0)));
    const pageVa = f.let(i64.and(va, -4096n));
    // Whoever traces hears of reading and writing apart, and of no page that was not touched. An entry that is withheld still says
    // which page it is, for reservations.
    f.if(w.get32('tracing'), () => {
      const mayFill = f.let(f.call(touched, va, page, access));
      f.if(w.get32('trapped'), () => f.return(i32.const(0)));
      const mayWrite = f.let(i32.and(i32.and(mayFill, store), untraced(f, i32.shrU(frame, 12))));
      f.do(fill, pageVa, frame, page, i32.and(mayFill, i32.eqz(store)), mayWrite);
      f.return(i32.add(frame, i32.and(i32.wrap(va), 4095)));
    });
    const granted = f.let(w.get('granted'));
    // A page that is ours already is entered for writing too, when the guest's entry allows it without another walk.
    const mayWrite = f.let(
      select(
        store,
        i32.const(1),
        i32.and(
          i32.and(i64.eq(i64.and(granted, PTE.W | PTE.D), PTE.W | PTE.D), f.call(isOwn, page)),
          i32.and(
            allowed(physical, w.get32('privilege'), 2).trivial,
            i64.eqz(i64.and(w.get('disabled'), DISABLE.lazy)),
          ),
        ),
      ),
    );
    f.if(mayWrite, () => f.set(mayWrite, untraced(f, i32.shrU(frame, 12))));
    // A store says nothing of reading when physical memory protection has its own mind.
    const mayRead = i32.or(
      i32.eqz(store),
      i32.and(has(granted, PTE.R), allowed(physical, w.get32('privilege'), 1).trivial),
    );
    f.do(fill, pageVa, frame, page, mayRead, mayWrite);
    const inOrder = f.let(i64.eq(pageVa, i64.add(w.get('lastMiss'), 4096)));
    w.set(f, 'lastMiss', pageVa);
    const batched = i32.eqz(i32.wrap(i64.and(w.get('disabled'), DISABLE.batch)));
    f.if(i32.and(i32.and(inOrder, i32.eqz(store)), i32.and(i32.ne(w.get32('source'), 0), batched)), () =>
      f.do(fillNeighbours, pageVa, effectivePrivilege(access)),
    );
    f.return(i32.add(frame, i32.and(i32.wrap(va), 4095)));
  });

  /** Loads `size` bytes inside one page of RAM. */
  const loadRam = module.function('loadRam', ['i32', 'i32'], ['i64'], (f, host, size) => {
    f.if(i32.eq(size, 8), () => f.return(i64.load(host)));
    f.if(i32.eq(size, 4), () => f.return(i64.load32U(host)));
    f.if(i32.eq(size, 2), () => f.return(i64.load16U(host)));
    f.return(i64.load8U(host));
  });

  const storeRam = (f: Fn, host: Expr, size: Local, value: Local) => {
    f.if(
      i32.eq(size, 8),
      () => f.store(8, host, value),
      () =>
        f.if(
          i32.eq(size, 4),
          () => f.store(4, host, value),
          () =>
            f.if(
              i32.eq(size, 2),
              () => f.store(2, host, value),
              () => f.store(1, host, value),
            ),
        ),
    );
  };

  const storeTraced = module.function('storeTraced', ['i32', 'i32', 'i64'], [], (f, host, size, value) => {
    const flags = f.let(i32.load(recordOf(i32.shrU(host, 12)), FRAME_RECORD.flags));
    f.if(i32.and(flags, HAS_CODE | IS_TABLE), () => f.do(shadow.traceStore, host, size, value));
    storeRam(f, host, size, value);
    f.if(i32.and(flags, WATCHED), () => f.do(imports.watched));
  });

  /** Bytes of an access that lie in its first page, when it reaches into a second one; else `size`. */
  const firstPart = (va: Expr, size: Expr) => {
    const room = i32.sub(4096, i32.and(i32.wrap(va), 4095));
    return select(i32.ltU(room, size), room, size);
  };

  /** Whether the entry that serves an access is there: translated code and cbo.zero come here without having looked. */
  const isThere = (va: Expr, entry: Expr, tag: number, size: Expr) =>
    i64.ltU(i64.xor(va, i64.load(entry, tag)), i64.extendU(i32.sub(4097, size)));
  const through = (va: Expr, entry: Expr) => i32.add(i32.wrap(va), i32.load(entry, DATA.addend));

  /** (address, bytes, access) -> as `dataAddress`, for bytes of one page whose entry may be there already. */
  const reach = module.function('reach', ['i64', 'i32', 'i32'], ['i32'], (f, va, size, access) => {
    const entry = f.let(f.call(entryAt, va));
    const tag = select(i32.eq(access, ACCESS.store), i64.load(entry, DATA.write), i64.load(entry, DATA.read));
    f.if(i64.ltU(i64.xor(va, tag), 4096), () => f.return(through(va, entry)));
    w.set32(f, 'accessSize', size);
    f.return(f.call(dataAddress, va, access));
  });

  const loadSlow = module.function('loadSlow', ['i64', 'i32'], ['i64'], (f, va, size) => {
    const held = f.let(f.call(entryAt, va));
    const near = () =>
      f.if(isThere(va, held, DATA.read, size), () => f.return(f.call(loadRam, through(va, held), size)));
    near();
    f.if(f.call(recall, va), near);
    w.count(f, 'misses');
    const first = f.let(firstPart(va, size));
    const host = f.let(f.call(reach, va, first, i32.const(ACCESS.load)));
    f.if(w.get32('trapped'), () => f.return(i64.const(0)));
    f.if(i32.eq(first, size), () => {
      f.if(host, () => f.return(f.call(loadRam, host, size)));
      const physical = f.let(w.get('mailbox'));
      const status = f.call(imports.readDevice, i32.wrap(physical), i32.wrap(i64.shrU(physical, 32)), size);
      f.if(status, () => f.do(accessFault, va, i32.const(ACCESS.load)));
      f.return(w.get('mailbox'));
    });
    // Across pages: both have to be there, and be RAM, before anything happens.
    f.if(i32.eqz(host), () => {
      f.do(accessFault, va, i32.const(ACCESS.load));
      f.return(i64.const(0));
    });
    const secondVa = f.let(i64.add(va, i64.extendU(first)));
    const second = f.let(f.call(reach, secondVa, i32.sub(size, first), i32.const(ACCESS.load)));
    f.if(w.get32('trapped'), () => f.return(i64.const(0)));
    f.if(i32.eqz(second), () => {
      f.do(accessFault, secondVa, i32.const(ACCESS.load));
      f.return(i64.const(0));
    });
    const value = f.local('i64');
    const i = f.let(size);
    f.set(value, i64.const(0));
    f.while(
      () => i32.ne(i, 0),
      () => {
        f.set(i, i32.sub(i, 1));
        const address = select(i32.ltU(i, first), i32.add(host, i), i32.add(second, i32.sub(i, first)));
        f.set(value, i64.or(i64.shl(value, 8), i64.load8U(address)));
      },
    );
    f.return(value);
  });

  const storeSlow = module.function('storeSlow', ['i64', 'i32', 'i64'], [], (f, va, size, value) => {
    const held = f.let(f.call(entryAt, va));
    const near = () =>
      f.if(isThere(va, held, DATA.write, size), () => {
        storeRam(f, through(va, held), size, value);
        f.return();
      });
    near();
    f.if(f.call(recall, va), near);
    w.count(f, 'misses');
    const first = f.let(firstPart(va, size));
    const host = f.let(f.call(reach, va, first, i32.const(ACCESS.store)));
    f.if(w.get32('trapped'), () => f.return());
    f.if(i32.eq(first, size), () => {
      f.if(host, () => {
        f.do(storeTraced, host, size, value);
        f.return();
      });
      const physical = f.let(w.get('mailbox'));
      w.set(f, 'mailbox', value);
      const status = f.call(imports.writeDevice, i32.wrap(physical), i32.wrap(i64.shrU(physical, 32)), size);
      f.if(status, () => f.do(accessFault, va, i32.const(ACCESS.store)));
      f.return();
    });
    f.if(i32.eqz(host), () => {
      f.do(accessFault, va, i32.const(ACCESS.store));
      f.return();
    });
    const secondVa = f.let(i64.add(va, i64.extendU(first)));
    const second = f.let(f.call(reach, secondVa, i32.sub(size, first), i32.const(ACCESS.store)));
    f.if(w.get32('trapped'), () => f.return());
    f.if(i32.eqz(second), () => {
      f.do(accessFault, secondVa, i32.const(ACCESS.store));
      f.return();
    });
    const i = f.let(i32.const(0));
    f.while(
      () => i32.ltU(i, size),
      () => {
        const address = select(i32.ltU(i, first), i32.add(host, i), i32.add(second, i32.sub(i, first)));
        f.do(storeTraced, address, i32.const(1), i64.shrU(value, i64.extendU(i32.shl(i, 3))));
        f.set(i, i32.add(i, 1));
      },
    );
  });

  const atomicAddress = module.function('atomicAddress', ['i64', 'i32', 'i32'], ['i32'], (f, va, size, kind) => {
    const access = f.let(i32.and(kind, ATOMIC_SIZE.mask));
    // Atomics are naturally aligned; Zama16b and the like are not implemented.
    f.if(i32.and(i32.wrap(va), i32.sub(size, 1)), () => {
      f.do(
        trap,
        select(i32.eq(access, ACCESS.load), i64.const(CAUSE.loadMisaligned), i64.const(CAUSE.storeMisaligned)),
        va,
      );
      f.return(i32.const(0));
    });
    const index = i32.and(i32.wrap(i64.shrU(va, 12)), DATA.entries - 1);
    const entry = f.let(i32.add(w.get32('dataTable'), i32.shl(index, DATA.shift)));
    const tag = select(i32.eq(access, ACCESS.load), i64.load(entry, DATA.read), i64.load(entry, DATA.write));
    f.if(i64.ltU(i64.xor(va, tag), 4096), () => f.return(i32.add(i32.wrap(va), i32.load(entry, DATA.addend))));
    w.set32(f, 'accessSize', i32.or(size, i32.sub(kind, access)));
    const host = f.let(f.call(dataAddress, va, access));
    f.if(i32.and(i32.eqz(host), i32.eqz(w.get32('trapped'))), () => f.do(accessFault, va, access));
    f.return(host);
  });

  const fetchPage = module.function('fetchPage', ['i64'], ['i32'], (f, pc) => {
    const physical = f.let(f.call(translate, pc, i32.const(ACCESS.fetch)));
    f.if(i64.eq(physical, -1), () => f.return(i32.const(0)));
    const page = f.let(f.call(pageOf, physical));
    f.if(i32.eq(page, -1), () => {
      f.do(accessFault, pc, i32.const(ACCESS.fetch));
      f.return(i32.const(0));
    });
    const frame = f.let(i32.shrU(f.call(frameAddress, page, i32.const(0)), 12));
    f.if(i32.eqz(frame), () => f.return(i32.const(0)));
    f.if(w.get32('tracing'), () => {
      w.set32(f, 'accessSize', i32.const(0));
      f.drop(f.call(touched, pc, page, i32.const(ACCESS.fetch)));
      f.if(w.get32('trapped'), () => f.return(i32.const(0)));
    });
    const record = f.let(recordOf(frame));
    const code = f.let(codeOf(w, frame));
    const generation = i32.load(record, FRAME_RECORD.generation);
    f.if(
      code,
      () =>
        // Another worker has changed the frame's code, or it is another's frame now.
        f.if(i32.ne(i32.load(code, CODE_PAGE.generation), generation), () => {
          f.do(shadow.emptyCode, code);
          f.store(4, code, generation, CODE_PAGE.generation);
        }),
      () => {
        f.set(code, f.call(imports.codePage, frame));
        f.if(i32.eqz(code), () => f.return(i32.const(0)));
      },
    );
    f.if(i32.eqz(i32.and(i32.load(record, FRAME_RECORD.flags), HAS_CODE)), () => {
      f.do(shadow.dropWriters, frame);
      f.drop(i32.atomicOr(record, HAS_CODE, FRAME_RECORD.flags));
      f.store(4, record, i32.const(0), FRAME_RECORD.writes);
    });
    f.if(w.get32('breakpoints'), () => f.do(imports.arm, frame, i32.wrap(pc), i32.wrap(i64.shrU(pc, 32))));
    const index = i32.and(i32.wrap(i64.shrU(pc, 12)), FETCH.entries - 1);
    const entry = f.let(i32.add(w.get32('fetchTable'), i32.shl(index, FETCH.shift)));
    f.store(8, entry, i64.and(pc, -4096n), FETCH.tag);
    f.store(4, entry, code, FETCH.code);
    f.store(4, entry, w.get32('source'), FETCH.source);
    w.count(f, 'fills');
    f.return(code);
  });

  /** (pc) -> the halfword there, or -1 after a trap. */
  const halfword = module.function('halfword', ['i64'], ['i32'], (f, pc) => {
    const physical = f.let(f.call(translate, pc, i32.const(ACCESS.fetch)));
    f.if(i64.eq(physical, -1), () => f.return(i32.const(-1)));
    const frame = f.let(f.call(frameAddress, f.call(pageOf, physical), i32.const(0)));
    f.if(i32.eqz(frame), () => f.return(i32.const(-1)));
    f.return(i32.load16U(i32.add(frame, i32.and(i32.wrap(pc), 4095))));
  });

  const illegal = module.function('illegal', [], [], (f) => {
    const bits = f.let(f.call(halfword, w.get('pc')));
    f.if(i32.eq(bits, -1), () => f.return());
    f.if(i32.eq(i32.and(bits, 3), 3), () => {
      const high = f.let(f.call(halfword, i64.add(w.get('pc'), 2)));
      f.if(i32.eq(high, -1), () => f.return());
      f.set(bits, i32.or(bits, i32.shl(high, 16)));
    });
    f.do(trap, i64.const(CAUSE.illegal), i64.extendU(bits));
  });

  /** (instruction) -> a slot that stands alone, with it. */
  const alone = module.function('alone', ['i32'], ['i32'], (f, bits) => {
    const hash = i32.and(i32.mul(bits, -0x61c8_8647), (STRADDLES.entries - 1) << 20);
    const slot = f.let(i32.add(i32.shrU(hash, 20 - 5), w.area + AREA.straddles));
    const other = i32.ne(i32.load(slot, STRADDLES.bits), bits);
    f.if(i32.or(other, i32.eqz(i32.load(slot))), () => {
      f.store(4, slot, bits, STRADDLES.bits);
      f.do(imports.decodeAlone, bits, slot);
    });
    f.return(slot);
  });

  const straddle = module.function('straddle', ['i32', 'i64'], ['i32'], (f, ip, pc) => {
    const ownFrame = i32.load(i32.sub(ip, (CODE_PAGE.slots - 1) * SLOT.size), CODE_PAGE.frame);
    const bits = f.let(i32.load16U(i32.shl(ownFrame, 12), 4094));
    const rest = f.let(i64.add(pc, 2));
    const index = i32.and(i32.wrap(i64.shrU(rest, 12)), FETCH.entries - 1);
    const entry = f.let(i32.add(w.get32('fetchTable'), i32.shl(index, FETCH.shift)));
    const code = f.local('i32');
    f.if(
      i64.eq(i64.load(entry, FETCH.tag), rest),
      () => f.set(code, i32.load(entry, FETCH.code)),
      () => f.set(code, f.call(fetchPage, rest)),
    );
    f.if(i32.eqz(code), () => f.return(i32.const(0)));
    const high = i32.load16U(i32.shl(i32.load(code, CODE_PAGE.frame), 12));
    f.return(f.call(alone, i32.or(bits, i32.shl(high, 16))));
  });

  const armed = module.function('armed', ['i32', 'i64'], ['i32'], (f, ip, pc) => {
    f.if(f.call(stopsAt, pc), () => f.return(i32.const(0)));
    const offset = f.let(i32.and(i32.wrap(pc), PAGE - 2));
    const page = i32.sub(ip, i32.shl(offset, 2));
    const host = f.let(i32.or(i32.shl(i32.load(page, CODE_PAGE.frame), 12), offset));
    const low = f.let(i32.load16U(host));
    f.if(i32.ne(i32.and(low, 3), 3), () => f.return(f.call(alone, low)));
    f.if(i32.eq(offset, PAGE - 2), () => f.return(f.call(straddle, ip, pc)));
    f.return(f.call(alone, i32.load(host)));
  });

  return { loadSlow, storeSlow, atomicAddress, storeTraced, fetchPage, dataAddress, illegal, straddle, armed };
}

/**
 * The pool: one wasm memory of 4 GiB that every machine of a trust domain lives in. Addresses are byte offsets.
 *
 * ```text
 * 0000_0000  pool header     64 KiB   never mapped to a guest: address 0 stands for "nothing"; HEADER at its start
 * 0001_0000  CSR numbers      4 KiB   csr number -> row of the CSR table, a byte each
 * 0010_0000  worker areas    16 x 16 MiB   hart window, shadow tables, what a worker has made of code
 * 1010_0000  frame records    32 MiB   one of 32 bytes for each 4 KiB of the pool
 * 1210_0000  code pages       96 MiB   decoded instructions, one block for each frame that holds code and worker that ran it
 * 1810_0000  frame hashes     16 MiB   16 bytes for each frame: its content's, or a leaf's; true while the byte below is 1
 * 1910_0000  hashed            1 MiB   a byte for each frame
 * 1920_0000  frames           to the end, 4 KiB each
 * ```
 *
 * Nothing costs host memory until it is touched.
 */

export const PAGE = 4096;
export const POOL_PAGES = 65536;

/** Word indices of what allocation needs, shared by every thread of the pool. */
export const HEADER = {
  /** 1 while a thread changes the words below. */
  lock: 16,
  /** The first frame that was never used; free ones before it are a list, linked through their records' `code`. */
  nextFrame: 17,
  freeFrame: 18,
  freeFrames: 19,
  /** One past the last frame that machines may hold. */
  endFrame: 20,
  /** The same for code pages; free ones are linked through their first word. */
  nextCodePage: 21,
  freeCodePage: 22,
  endCodePage: 23,
  /** Changes when all code pages were taken away from their workers. */
  codeEpoch: 24,
} as const;

/** 4 KiB for whoever computes something outside of the workers: one thread of the pool's process. */
export const HOST_SCRATCH = 0x0000_8000;
/** 8 KiB for a writer of recordings, in the same thread. */
export const CHANGES_SCRATCH = 0x0000_a000;

export const CSR_NUMBERS = 0x0001_0000;

export const WORKER_AREA = 0x0010_0000;
export const WORKER_AREA_SIZE = 0x0100_0000;
export const MAX_WORKERS = 16;

export const FRAME_RECORDS = 0x1010_0000;
/**
 * ```text
 * 0  references  u32   maps and others that hold the frame; 0 = free
 * 4  flags       u32   HAS_CODE, IS_TABLE, WATCHED, from bit 8 on the levels at which it was walked
 * 8  next        u32   the next free frame, while free
 * 12 generation  u32   bumped when bytes change from which some worker may have derived code
 * 16 writers     4xu16 shadow slots (index + 1) through which the frame may be writable; the last MANY = anywhere
 * 24 root        u32   while IS_TABLE: page number of the only root it was walked from, or MANY_ROOTS
 * 28 writes      u32   traced writes since something was last derived
 * ```
 */
export const FRAME_RECORD = {
  size: 32,
  references: 0,
  flags: 4,
  next: 8,
  generation: 12,
  writers: 16,
  root: 24,
  writes: 28,
} as const;
export const HAS_CODE = 1;
export const IS_TABLE = 2;
/** The host wants to know of stores. */
export const WATCHED = 4;
export const LEVEL_SHIFT = 8;
export const MANY_ROOTS = 0xffff_ffff;
export const WRITER_SLOTS = 4;
export const MANY_WRITERS = 0xffff;

export const CODE_PAGES = 0x1210_0000;
export const CODE_PAGES_END = 0x1810_0000;
/**
 * A code page: 2048 slots of 8 bytes (one a halfword), a sentinel slot behind them, then the frame's number (u32), the frame's
 * generation for which the slots are right, and how often they were dropped, which tells a translation whether it still is.
 * Blocks are spread by a cache line more than their size, so that equal offsets do not share cache sets.
 */
export const CODE_PAGE = {
  slots: 2048,
  sentinel: 2048 * 8,
  frame: 2049 * 8,
  generation: 2049 * 8 + 4,
  version: 2049 * 8 + 8,
  size: 2048 * 8 + 192,
} as const;

export const FRAME_HASHES = 0x1810_0000;
export const HASH_BYTES = 16;
export const FRAME_HASHED = 0x1910_0000;

export const FIRST_FRAME = 0x1920_0000 / PAGE;
export const FRAMES_END = 0x1_0000_0000 / PAGE;

/** Guest RAM begins here (QEMU `virt`). */
export const RAM_BASE = 0x8000_0000;

/**
 * A map of pages: directories (one frame each) of leaves (one frame each, 4 MiB of pages), all entries u32. RAM has one directory.
 * A leaf entry: frame number in bits 0..19, 0 when absent. A frame may be written in place when it and its leaf have one holder each
 * and are not hashed.
 */
export const LEAF_PAGES = 1024;
export const DIRECTORY_PAGES = 1024 * LEAF_PAGES;
export const ENTRY_FRAME = 0x000f_ffff;
/** Absent, and its content has to be fetched from the machine's page source. */
export const ENTRY_REMOTE = 0x4000_0000;

/**
 * Shadow tables. Data: 1024 entries of 32 bytes. Fetch: 1024 entries of 16 bytes. Direct-mapped by virtual page number; an
 * empty entry holds the tag of a page that maps to another place, so that no comparison can succeed.
 *
 * ```text
 * data   0 read tag u64 | 8 write tag u64 | 16 addend i32 (host address - low half of va) | 20 source u32 | 24 page u32
 * fetch  0 tag u64      | 8 code page u32 | 12 source u32
 * ```
 * `source` is the physical address of the leaf PTE / 8, or 0 without translation; `page` is the guest page number.
 */
export const DATA = {
  entries: 1024,
  size: 32,
  shift: 5,
  bytes: 32768,
  read: 0,
  write: 8,
  addend: 16,
  source: 20,
  page: 24,
} as const;
/**
 * The second level of the data tables of a worker, all of them together: entries as theirs, by a hash of table and page. `stamp` says
 * whose an entry is, and since when nothing has been dropped; what has an older one is empty.
 */
export const SECOND = { entries: 8192, stamp: 28 } as const;
export const FETCH = { entries: 1024, size: 16, shift: 4, bytes: 16384, tag: 0, code: 8, source: 12 } as const;

/** Elements of the address-space cache group: how many a hart has of each kind. */
export const ELEMENTS = 16;
export const MAX_HARTS = 8;
/** Offsets in a worker area. */
export const AREA = {
  window: 0,
  /** Element records: [kind][hart][element], 16 bytes: satp u64, mode u32 (0 = unused), last use u32. */
  dataRecords: 0x2000,
  fetchRecords: 0x2000 + MAX_HARTS * ELEMENTS * 16,
  straddles: 0x4000,
  /** 4 KiB for whoever computes something between runs. */
  scratch: 0x8000,
  /** 4 KiB: what walks of the step under way have written. See WALKED. */
  walked: 0x9000,
  dataTables: 0x1_0000,
  fetchTables: 0x1_0000 + MAX_HARTS * ELEMENTS * DATA.bytes,
  heat: 0x70_0000,
  targets: 0x72_0000,
  /** Frame number -> the worker's code page for it, u32 each. */
  codeMap: 0x80_0000,
  second: 0xc0_0000,
  regions: 0xd0_0000,
  /** Frame number -> where its shadow entries for reading may be, u16 each, of frames that are shared: see READER. */
  readers: 0xe0_0000,
} as const;

/**
 * Page-table entries that the walks of a step have given accessed and dirty flags, u32 each: the host address, a multiple of 8, and in its
 * low bits which flags are new (the entry's bits from 6 on). A hint that reads a mebibyte needs some 260 of them.
 */
export const WALKED = { entries: 1024, shift: 6, flags: 3 } as const;

/** A note of readers: index of the only entry (of any table) in bits 0..9, or MANY; true in one epoch of the worker's tables. */
export const READER = { many: 1 << 10, epochShift: 11, epochs: 32 } as const;

/**
 * Records of translated regions, by their place in the function table:
 *
 * ```text
 * 0  slot      what the slot held that now leads to the region; sentinels at 8 and 16, where the next instruction would be
 * 24 page      u32  code page of the second page that it covers, 0 without one
 * 28 version   u32  of that code page
 * ```
 */
export const REGION = { entries: 32768, size: 32, shift: 5, slot: 0, page: 24, version: 28 } as const;

/** Counters (u16) of arrivals at code, by a hash of the slot's address. */
export const HEAT = { entries: 65536 } as const;

/** Where computed jumps have led: targets (low half of the address) by a hash of each, by a hash of the jump's slot. */
export const TARGETS = { sites: 512, each: 32, size: 128 } as const;
export const targetsOf = (slot: number): number => AREA.targets + ((slot >>> 3) % TARGETS.sites) * TARGETS.size;

/**
 * Decoded instructions that lie across two pages, direct-mapped by their bits: a slot, a sentinel 16 bytes behind it (where
 * the next instruction would be), and the bits at 24.
 */
export const STRADDLES = { entries: 256, size: 32, bits: 24 } as const;

/**
 * A hart's state as the engine sees it: the *window*, a record at a fixed place of the worker's area, so that generated code
 * reaches every register by a constant address. The hart that runs is copied in and out at slice boundaries.
 *
 * ```text
 * 0    x0..x31   32 x u64   (x0 is never written)
 * 256  f0..f31   32 x u64   bit patterns, singles NaN-boxed
 * 512  FIELDS    u64 each, in the order below: the hart's other state
 * ...  SCRATCH   u64 each: the engine's own, not state
 * ```
 */

export const X = 0;
export const F = 256;

/** x0 to x31 as people call them. */
export const X_NAMES: readonly string[] =
  'zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6'.split(' ');

/** Everything that belongs to the hart and is saved. CSRs hold their specified layout; the rest is explained. */
export const FIELDS = [
  'pc',
  /** 0 U, 1 S, 3 M. */
  'privilege',
  'mstatus',
  /** Pending bits except the external line of SEIP. */
  'mip',
  /** SEIP as the interrupt controller drives it: 0 or 1 << 9. */
  'seipLine',
  'mie',
  'mideleg',
  'medeleg',
  'mtvec',
  'mepc',
  'mcause',
  'mtval',
  'mscratch',
  'mcounteren',
  'mcountinhibit',
  'menvcfg',
  'stvec',
  'sepc',
  'scause',
  'stval',
  'sscratch',
  'scounteren',
  'senvcfg',
  'satp',
  'stimecmp',
  'fflags',
  'frm',
  /** Reserved physical address, 0 without a reservation. */
  'reservation',
  /** minstret = steps - traps + this, or the value itself while inhibited; mcycle = steps + that. */
  'instretOffset',
  'cycleOffset',
  /** Steps of this hart at the end of its budget, and traps that it took. */
  'stepsEnd',
  'traps',
  /** Waits for an interrupt. */
  'waiting',
  'pmpcfg0',
  'pmpcfg2',
  ...Array.from({ length: 16 }, (_, i) => `pmpaddr${i}` as const),
] as const;

export type HartField = (typeof FIELDS)[number];

// The first dozens are read all the time, and share cache lines: two more among them made pipes and context switches 6 % slower.
const SCRATCH = [
  'hart',
  'harts',
  /** Guest time, in steps, at which the budget ends: now = clockEnd - budget (- 1 inside an instruction). */
  'clockEnd',
  /** Guest time of a tick of mtime, in steps. */
  'stepsPerTick',
  /** What the guest has set mtime off by, in ticks. */
  'timeOffset',
  /** Steps left of the run, while code outside the main function may look. */
  'budget',
  /** What a request for attention took from the budget. */
  'heldBudget',
  /** 1 after an exception was delivered, until the main function has seen it. */
  'trapped',
  /** What became of an access beyond the inline check: see UNWIND. */
  'unwind',
  /** Operands of an instruction that translated code has the interpreter do, as a slot. */
  'operands',
  /** Why the run ended, when not by its budget: see EXIT. */
  'exit',
  'dataTable',
  'fetchTable',
  /** Directory of the machine's guest-physical map, and its RAM in pages. */
  'map',
  'ramPages',
  /** Results of a translation. */
  'source',
  'span',
  'granted',
  /** Register access by a device: low and high half. */
  'mailbox',
  'useClock',
  /** Exceptions that leave the machine's own harts: 1 when ecall from S-mode goes to the monitor. */
  'monitorSbi',
  'walks',
  'fills',
  'batchFills',
  /** Page of the last miss, or the last one that was entered with it. */
  'lastMiss',
  'recalls',
  /** What the second level's entries have to carry, but for the number of their table. */
  'secondStamp',
  /** In which notes of readers are true that were made since no table was in use: never 0 once a machine is attached. */
  'readerEpoch',
  'switches',
  'creations',
  'hits',
  'drops',
  'flushes',
  'tracedWrites',
  'misses',
  /** Set bits turn a technique of the shadow tables off (benchmarks only). */
  'disabled',
  /** How many breakpoints the machine has. */
  'breakpoints',
  /** 1 while the host hears of accesses to memory (`EngineHost.trace`), and the bytes of the one under way, with ATOMIC_SIZE. */
  'tracing',
  'accessSize',
  /** What was read that is no memory: bit p for a counter, bit 4 + p for the floating-point flags, at privilege p. */
  'observed',
  /** What the host hears of: HEARS. */
  'hears',
  /** Guest time, in steps, of the next thing that the machine does by itself: a pause does not lead past it. */
  'deadline',
  /** Guest time, in steps, at which the host wants the run back. */
  'timeLimit',
  /** Steps' worth of guest time that a pause takes, and how many pauses the run may still make. */
  'pauseSteps',
  'pausesLeft',
  /** Steps' worth of guest time that pauses have added in this run, and steps that its budget has lost by that. */
  'gained',
  'cut',
  /** The step, by what was left of the budget, whose walks have written page-table entries, and how many: see WALKED. */
  'walkStep',
  'walkCount',
  /** Shadow tables of each kind that a hart has. */
  'elements',
] as const;
export type ScratchField = (typeof SCRATCH)[number];

/** Byte offset of each field in the window. */
export const OFFSET: Readonly<Record<HartField | ScratchField, number>> = Object.fromEntries(
  [...FIELDS, ...SCRATCH].map((name, i) => [name, 512 + 8 * i]),
) as Record<HartField | ScratchField, number>;

/** Bytes of the window that are hart state. */
export const STATE_BYTES = 512 + 8 * FIELDS.length;
export const WINDOW_BYTES = 512 + 8 * (FIELDS.length + SCRATCH.length);

/** Values of `unwind`: go on; leave, the access has trapped; leave, the access is done and somebody asks for attention. */
export const UNWIND = { none: 0, trapped: 1, attention: 2 } as const;

/** What a region gives instead of the budget when it has left everything: `pc`, and `budget` beside it, say where to go on. */
export const LEFT = -1;

/** Values of `exit`. */
export const EXIT = { none: 0, wait: 1, pause: 2, breakpoint: 3, hint: 4 } as const;

/** Bits of `hears`: what the host is asked about before it is done. */
export const HEARS = { systemCalls: 1, replayOnly: 2 } as const;

/** Numbers of the hints that begin and end replay-only code, and never act. */
export const REPLAY_ONLY = { begin: 6, end: 7 } as const;

/** What becomes of a hint: nothing; it is done; the byte at the address in `mailbox` has to be there first. */
export const HINT = { ignored: 0, done: 1, load: 2 } as const;

/**
 * Bits of `disabled`: what is done instead. With any of them a machine is for benchmarks only: it refuses to be hashed, saved or
 * recorded, because with `trace` stale entries live until the guest fences.
 *
 * tags        one table a hart, emptied at every change of address space
 * trace       page tables are not traced; `sfence.vma` empties every table
 * batch       a miss fills one entry
 * lazy        a read never enters a page for writing, even when it is dirty
 * shootdown   a changed entry empties every table of every hart
 * second      a miss always walks
 */
export const DISABLE = { tags: 1, trace: 2, batch: 4, lazy: 8, shootdown: 16, second: 32 } as const;

export const PRIVILEGE = { user: 0, supervisor: 1, machine: 3 } as const;

export const CAUSE = {
  fetchMisaligned: 0,
  fetchAccess: 1,
  illegal: 2,
  breakpoint: 3,
  loadMisaligned: 4,
  loadAccess: 5,
  storeMisaligned: 6,
  storeAccess: 7,
  ecallUser: 8,
  ecallSupervisor: 9,
  ecallMachine: 11,
  fetchPage: 12,
  loadPage: 13,
  storePage: 15,
} as const;

export const MSTATUS = {
  SIE: 1n << 1n,
  MIE: 1n << 3n,
  SPIE: 1n << 5n,
  MPIE: 1n << 7n,
  SPP: 1n << 8n,
  MPP: 3n << 11n,
  FS: 3n << 13n,
  MPRV: 1n << 17n,
  SUM: 1n << 18n,
  MXR: 1n << 19n,
  TVM: 1n << 20n,
  TW: 1n << 21n,
  TSR: 1n << 22n,
  UXL: 2n << 32n,
  SXL: 2n << 34n,
  SD: 1n << 63n,
} as const;

export const IRQ = {
  SSI: 1n << 1n,
  MSI: 1n << 3n,
  STI: 1n << 5n,
  MTI: 1n << 7n,
  SEI: 1n << 9n,
  MEI: 1n << 11n,
} as const;

export const MENVCFG = {
  FIOM: 1n,
  CBIE: 3n << 4n,
  CBCFE: 1n << 6n,
  CBZE: 1n << 7n,
  ADUE: 1n << 61n,
  STCE: 1n << 63n,
} as const;

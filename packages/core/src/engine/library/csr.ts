/**
 * Control and status registers: one row each, and the function that reads and writes them by number.
 *
 * Source: privileged specification, chapters 2 (numbers and access), 3 (machine) and 4 (supervisor), Sstc, Svadu.
 */

import { IRQ, MENVCFG, MSTATUS, PRIVILEGE } from '../../hart/state.ts';
import { CSR_NUMBERS } from '../../memory/layout.ts';
import { type Expr, type Fn, type FunctionRef, i32, i64, select } from '../../wasm/index.ts';
import { has, type Library, stepsLeft } from './context.ts';
import { readProtectionAddress } from './protection.ts';

interface CsrRow {
  readonly name: string;
  readonly number: number;
  read(f: Fn): Expr;
  /** Left out where writes change nothing. */
  write?(f: Fn, value: Expr): void;
  /** A further condition (i32) for access, besides privilege. */
  allowed?(f: Fn): Expr;
  /** A write may enable an interrupt or select other shadow tables: the main function has to look again. */
  readonly sync?: boolean;
  /** What is read is no function of the program's own state: see `observed` in `hart/state.ts`. */
  readonly observed?: 'counter' | 'flags';
}

const SUPERVISOR_INTERRUPTS = IRQ.SSI | IRQ.STI | IRQ.SEI;
const MSTATUS_WRITABLE =
  MSTATUS.SIE |
  MSTATUS.MIE |
  MSTATUS.SPIE |
  MSTATUS.MPIE |
  MSTATUS.SPP |
  MSTATUS.FS |
  MSTATUS.MPRV |
  MSTATUS.SUM |
  MSTATUS.MXR |
  MSTATUS.TVM |
  MSTATUS.TW |
  MSTATUS.TSR;
const SSTATUS = MSTATUS.SIE | MSTATUS.SPIE | MSTATUS.SPP | MSTATUS.FS | MSTATUS.SUM | MSTATUS.MXR;
const MEDELEG = 0xb3ffn;
const ENVCFG = MENVCFG.FIOM | MENVCFG.CBIE | MENVCFG.CBCFE | MENVCFG.CBZE;
/** MXL = 64 bits; A C D F I M S U. */
const MISA = (2n << 62n) | [...'ACDFIMSU'].reduce((bits, c) => bits | (1n << BigInt(c.charCodeAt(0) - 65)), 0n);
const COUNTER = { cycle: 0, time: 1, instret: 2 } as const;

const masked = (old: Expr, value: Expr, mask: bigint): Expr => i64.or(i64.and(old, ~mask), i64.and(value, mask));

function csrRows(lib: Library, selectSpace: FunctionRef): CsrRow[] {
  const { w, imports } = lib;

  // Before the running instruction: it has been taken from the budget already.
  const left = () => i64.add(stepsLeft(lib), 1);
  const steps = () => i64.sub(w.get('stepsEnd'), left());
  const ticks = () => i64.add(i64.divU(i64.sub(w.get('clockEnd'), left()), w.get('stepsPerTick')), w.get('timeOffset'));
  const inhibited = (counter: number) => has(w.get('mcountinhibit'), 1 << counter);
  const retired = () => i64.sub(steps(), w.get('traps'));
  const counters = {
    cycle: { offset: 'cycleOffset', running: steps, bit: COUNTER.cycle },
    instret: { offset: 'instretOffset', running: retired, bit: COUNTER.instret },
  } as const;
  const readCounter = ({ offset, running, bit }: (typeof counters)[keyof typeof counters]) =>
    i64.add(w.get(offset), select(inhibited(bit), i64.const(0), running()));
  /** The instruction that writes a counter does not advance it. */
  const writeCounter = (f: Fn, { offset, running, bit }: (typeof counters)[keyof typeof counters], value: Expr) =>
    w.set(f, offset, i64.sub(value, select(inhibited(bit), i64.const(0), i64.add(running(), 1))));

  /** Whether counter `n` may be read from below M-mode. */
  const counterAllowed = (n: number) => () => {
    const privilege = w.get32('privilege');
    const bit = 1 << n;
    return i32.or(
      i32.eq(privilege, PRIVILEGE.machine),
      i32.and(has(w.get('mcounteren'), bit >>> 0), i32.or(privilege, has(w.get('scounteren'), bit >>> 0))),
    );
  };

  const floatOn = () => has(w.get('mstatus'), MSTATUS.FS);
  const dirtyFloat = (f: Fn) => w.set(f, 'mstatus', i64.or(w.get('mstatus'), MSTATUS.FS));
  const status = () =>
    i64.or(
      i64.or(w.get('mstatus'), MSTATUS.UXL | MSTATUS.SXL),
      select(i64.eq(i64.and(w.get('mstatus'), MSTATUS.FS), MSTATUS.FS), i64.const(MSTATUS.SD), i64.const(0)),
    );
  const pending = () => i64.or(w.get('mip'), w.get('seipLine'));

  const plain = (name: Parameters<typeof w.get>[0], number: number, mask = -1n): CsrRow => ({
    name,
    number,
    read: () => w.get(name),
    write: (f, value) => w.set(f, name, i64.and(value, mask)),
  });
  const constant = (name: string, number: number, value: bigint): CsrRow => ({
    name,
    number,
    read: () => i64.const(value),
  });

  /** CBIE = 2 is reserved: such a write leaves the field as it was. */
  const writeEnvironment = (field: 'menvcfg' | 'senvcfg', mask: bigint) => (f: Fn, value: Expr) => {
    const reserved = i64.eq(i64.and(value, MENVCFG.CBIE), 2n << 4n);
    const kept = select(reserved, i64.const(mask & ~MENVCFG.CBIE), i64.const(mask));
    w.set(f, field, i64.or(i64.and(value, kept), i64.and(w.get(field), i64.and(i64.xor(kept, -1), mask))));
  };

  const protection = (name: string, number: number, read: () => Expr): CsrRow => ({
    name,
    number,
    read,
    write: (f, value) => {
      w.set(f, 'mailbox', value);
      f.do(imports.protectionWrite, i32.const(number));
    },
    sync: true,
  });

  return [
    {
      name: 'fflags',
      number: 0x001,
      observed: 'flags',
      allowed: floatOn,
      read: () => w.get('fflags'),
      write: (f, value) => {
        w.set(f, 'fflags', i64.and(value, 31));
        dirtyFloat(f);
      },
    },
    {
      name: 'frm',
      number: 0x002,
      allowed: floatOn,
      read: () => w.get('frm'),
      write: (f, value) => {
        w.set(f, 'frm', i64.and(value, 7));
        dirtyFloat(f);
      },
    },
    {
      name: 'fcsr',
      number: 0x003,
      observed: 'flags',
      allowed: floatOn,
      read: () => i64.or(w.get('fflags'), i64.shl(w.get('frm'), 5)),
      write: (f, value) => {
        w.set(f, 'fflags', i64.and(value, 31));
        w.set(f, 'frm', i64.and(i64.shrU(value, 5), 7));
        dirtyFloat(f);
      },
    },
    {
      name: 'cycle',
      number: 0xc00,
      allowed: counterAllowed(0),
      read: () => readCounter(counters.cycle),
      observed: 'counter',
    },
    { name: 'time', number: 0xc01, allowed: counterAllowed(1), read: ticks, observed: 'counter' },
    {
      name: 'instret',
      number: 0xc02,
      allowed: counterAllowed(2),
      read: () => readCounter(counters.instret),
      observed: 'counter',
    },
    ...Array.from(
      { length: 29 },
      (_, i): CsrRow => ({
        name: `hpmcounter${i + 3}`,
        number: 0xc03 + i,
        allowed: counterAllowed(i + 3),
        read: () => i64.const(0),
      }),
    ),
    {
      name: 'sstatus',
      number: 0x100,
      read: () => i64.and(status(), SSTATUS | MSTATUS.UXL | MSTATUS.SD),
      write: (f, value) => {
        const before = f.let(w.get('mstatus'));
        w.set(f, 'mstatus', masked(before, value, SSTATUS));
        f.if(has(i64.xor(before, w.get('mstatus')), MSTATUS.SUM | MSTATUS.MXR), () => f.do(selectSpace));
      },
      sync: true,
    },
    {
      name: 'sie',
      number: 0x104,
      read: () => i64.and(w.get('mie'), w.get('mideleg')),
      write: (f, value) =>
        w.set(f, 'mie', i64.or(i64.and(w.get('mie'), i64.xor(w.get('mideleg'), -1)), i64.and(value, w.get('mideleg')))),
      sync: true,
    },
    { ...plain('stvec', 0x105, ~2n) },
    plain('scounteren', 0x106, 0xffff_ffffn),
    { name: 'senvcfg', number: 0x10a, read: () => w.get('senvcfg'), write: writeEnvironment('senvcfg', ENVCFG) },
    plain('sscratch', 0x140),
    plain('sepc', 0x141, ~1n),
    plain('scause', 0x142),
    plain('stval', 0x143),
    {
      name: 'sip',
      number: 0x144,
      read: () => i64.and(pending(), w.get('mideleg')),
      write: (f, value) => {
        const mask = i64.and(w.get('mideleg'), IRQ.SSI);
        w.set(f, 'mip', i64.or(i64.and(w.get('mip'), i64.xor(mask, -1)), i64.and(value, mask)));
      },
      sync: true,
    },
    {
      name: 'stimecmp',
      number: 0x14d,
      allowed: () =>
        i32.or(
          i32.eq(w.get32('privilege'), PRIVILEGE.machine),
          i32.and(has(w.get('mcounteren'), 1 << COUNTER.time), has(w.get('menvcfg'), MENVCFG.STCE)),
        ),
      read: () => w.get('stimecmp'),
      write: (f, value) => {
        w.set(f, 'stimecmp', value);
        f.do(imports.timerChanged);
      },
      sync: true,
    },
    {
      name: 'satp',
      number: 0x180,
      allowed: () =>
        i32.or(i32.eq(w.get32('privilege'), PRIVILEGE.machine), i64.eqz(i64.and(w.get('mstatus'), MSTATUS.TVM))),
      read: () => w.get('satp'),
      write: (f, value) => {
        const mode = f.let(i64.shrU(value, 60));
        // Bare, Sv39 and Sv48; a write with another mode has no effect at all.
        f.if(i32.or(i64.eqz(mode), i32.or(i64.eq(mode, 8), i64.eq(mode, 9))), () => {
          w.set(f, 'satp', value);
          f.do(selectSpace);
        });
      },
      sync: true,
    },
    {
      name: 'mstatus',
      number: 0x300,
      read: status,
      write: (f, value) => {
        const mask = select(
          i64.eq(i64.and(value, MSTATUS.MPP), 2n << 11n),
          i64.const(MSTATUS_WRITABLE),
          i64.const(MSTATUS_WRITABLE | MSTATUS.MPP),
        );
        const keep = i64.and(w.get('mstatus'), i64.xor(mask, -1));
        w.set(f, 'mstatus', i64.or(keep, i64.and(value, mask)));
        f.do(selectSpace);
      },
      sync: true,
    },
    constant('misa', 0x301, MISA),
    plain('medeleg', 0x302, MEDELEG),
    { ...plain('mideleg', 0x303, SUPERVISOR_INTERRUPTS), sync: true },
    { ...plain('mie', 0x304, 0xaaan), sync: true },
    plain('mtvec', 0x305, ~2n),
    plain('mcounteren', 0x306, 0xffff_ffffn),
    {
      name: 'menvcfg',
      number: 0x30a,
      read: () => w.get('menvcfg'),
      write: (f, value) => {
        writeEnvironment('menvcfg', ENVCFG | MENVCFG.ADUE | MENVCFG.STCE)(f, value);
        f.do(imports.timerChanged);
      },
      sync: true,
    },
    {
      name: 'mcountinhibit',
      number: 0x320,
      read: () => w.get('mcountinhibit'),
      write: (f, value) => {
        const next = f.let(i64.and(value, 5));
        for (const counter of [counters.cycle, counters.instret]) {
          // The offset means the value itself while the counter stands still.
          const was = inhibited(counter.bit);
          const will = has(next, 1 << counter.bit);
          const passed = i64.add(counter.running(), 1);
          f.if(i32.and(will, i32.eqz(was)), () => w.set(f, counter.offset, i64.add(w.get(counter.offset), passed)));
          f.if(i32.and(was, i32.eqz(will)), () => w.set(f, counter.offset, i64.sub(w.get(counter.offset), passed)));
        }
        w.set(f, 'mcountinhibit', next);
      },
    },
    ...Array.from({ length: 29 }, (_, i) => constant(`mhpmevent${i + 3}`, 0x323 + i, 0n)),
    plain('mscratch', 0x340),
    plain('mepc', 0x341, ~1n),
    plain('mcause', 0x342),
    plain('mtval', 0x343),
    {
      name: 'mip',
      number: 0x344,
      read: pending,
      write: (f, value) => {
        const mask = select(
          has(w.get('menvcfg'), MENVCFG.STCE),
          i64.const(IRQ.SSI | IRQ.SEI),
          i64.const(IRQ.SSI | IRQ.SEI | IRQ.STI),
        );
        w.set(f, 'mip', i64.or(i64.and(w.get('mip'), i64.xor(mask, -1)), i64.and(value, mask)));
      },
      sync: true,
    },
    protection('pmpcfg0', 0x3a0, () => w.get('pmpcfg0')),
    protection('pmpcfg2', 0x3a2, () => w.get('pmpcfg2')),
    ...Array.from({ length: 16 }, (_, n) => protection(`pmpaddr${n}`, 0x3b0 + n, () => readProtectionAddress(lib, n))),
    // Debug triggers: there are none, as tdata1 = 0 and tinfo = 1 say.
    constant('tselect', 0x7a0, 0n),
    constant('tdata1', 0x7a1, 0n),
    constant('tdata2', 0x7a2, 0n),
    constant('tdata3', 0x7a3, 0n),
    constant('tinfo', 0x7a4, 1n),
    {
      name: 'mcycle',
      number: 0xb00,
      observed: 'counter',
      read: () => readCounter(counters.cycle),
      write: (f, value) => writeCounter(f, counters.cycle, value),
    },
    {
      name: 'minstret',
      number: 0xb02,
      observed: 'counter',
      read: () => readCounter(counters.instret),
      write: (f, value) => writeCounter(f, counters.instret, value),
    },
    ...Array.from({ length: 29 }, (_, i) => constant(`mhpmcounter${i + 3}`, 0xb03 + i, 0n)),
    constant('mvendorid', 0xf11, 0n),
    constant('marchid', 0xf12, 0n),
    constant('mimpid', 0xf13, 0n),
    { name: 'mhartid', number: 0xf14, read: () => w.get('hart') },
    constant('mconfigptr', 0xf15, 0n),
  ];
}

export interface CsrFunctions {
  /**
   * (csr, operation 0 write 1 set 2 clear, operand, writes, 8 x rd) -> 0 done, 1 done and the main function has to look
   * again, 2 no such register for this access.
   */
  readonly csr: FunctionRef;
  /** Row of each number plus 1, to be stored at CSR_NUMBERS. */
  readonly numbers: Uint8Array;
}

export function addCsrs(lib: Library, selectSpace: FunctionRef): CsrFunctions {
  const { module, w } = lib;
  const rows = csrRows(lib, selectSpace);
  const numbers = new Uint8Array(4096);
  rows.forEach((row, i) => {
    numbers[row.number] = i + 1;
  });

  /** Runs `body` of the row that `index` (from 1) names. */
  const dispatch = (f: Fn, index: Expr, body: (row: CsrRow) => void) =>
    f.switch(i32.sub(index, 1), rows.length, (i) => body(rows[i]!));

  const csr = module.function(
    'csr',
    ['i32', 'i32', 'i64', 'i32', 'i32'],
    ['i32'],
    (f, number, operation, operand, writes, rd) => {
      const index = f.let(i32.load8U(number, CSR_NUMBERS));
      const refused = i32.or(
        i32.eqz(index),
        i32.or(
          i32.ltU(w.get32('privilege'), i32.and(i32.shrU(number, 8), 3)),
          i32.and(writes, i32.eq(i32.shrU(number, 10), 3)),
        ),
      );
      f.if(refused, () => f.return(i32.const(2)));
      const old = f.local('i64');
      dispatch(f, index, (row) => {
        if (row.allowed) f.if(i32.eqz(row.allowed(f)), () => f.return(i32.const(2)));
        f.set(old, row.read(f));
        if (!row.observed) return;
        const mark = i64.shl(i64.const(row.observed === 'counter' ? 1 : 16), w.get('privilege'));
        w.set(f, 'observed', i64.or(w.get('observed'), mark));
      });
      f.if(writes, () => {
        // mip's external line is not part of what set and clear start from.
        const before = f.let(select(i32.eq(number, 0x344), w.get('mip'), old));
        const value = f.let(
          select(
            i32.eqz(operation),
            operand,
            select(i32.eq(operation, 1), i64.or(before, operand), i64.and(before, i64.xor(operand, -1))),
          ),
        );
        f.if(rd, () => f.store(8, rd, old, w.base));
        f.set(operand, value);
        dispatch(f, index, (row) => {
          row.write?.(f, operand);
          if (row.sync) f.return(i32.const(1));
        });
        f.return(i32.const(0));
      });
      f.if(rd, () => f.store(8, rd, old, w.base));
      f.return(i32.const(0));
    },
  );
  return { csr, numbers };
}

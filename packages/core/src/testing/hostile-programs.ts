/**
 * Guests that flood their host: a program for every way in which an instruction has the host hold bytes or do work. None ends. What they
 * ask for is as much as the device, the firmware or the monitor takes, again as soon as it is done.
 */

import { PLATFORM } from '../boot/device-tree.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from './assembler.ts';
import { CLINT } from './fragments.ts';

export interface HostileProgram {
  readonly name: string;
  /** Flat, for the beginning of RAM. */
  readonly image: Uint8Array;
  /** It is entered in S-mode and calls the monitor's firmware; others are entered in M-mode. */
  readonly sbi?: boolean;
  /** It needs a disk. */
  readonly disk?: boolean;
  /** It has a host-target interface, at these addresses. */
  readonly symbols?: { readonly tohost: bigint; readonly fromhost: bigint };
}

const [t0, t1, s0, s1, a0, a6, a7, s2, s3] = [5, 6, 8, 9, 10, 16, 17, 18, 19] as const;

/** What the guest sends lies here, and what it receives: nothing else does. */
const BUFFER = RAM_BASE + 0x80_0000;
const TABLE = RAM_BASE + 0x10_0000;
const INDIRECT = RAM_BASE + 0x11_0000;
const AVAILABLE = RAM_BASE + 0x12_0000;
const USED = RAM_BASE + 0x13_0000;

const NEXT = 1;
const WRITE = 2;
const TABLE_ELSEWHERE = 4;

function program(build: (a: Assembler) => void): Uint8Array {
  const a = new Assembler(RAM_BASE);
  build(a);
  // No kernel is shorter.
  if (a.length < 4096) a.org(RAM_BASE + 4096);
  return a.bytes();
}

/** Does the same for ever. */
function loop(setUp: (a: Assembler) => void, body: (a: Assembler) => void): Uint8Array {
  return program((a) => {
    setUp(a);
    a.label('again');
    body(a);
    a.jump(0, 'again');
  });
}

/** Stores a value to a register of a device, and with `count` to so many after it. */
function stores(address: number, value: number, op: 'sb' | 'sw' = 'sw', offsets: readonly number[] = [0]): Uint8Array {
  return loop(
    (a) => {
      a.li(s0, address);
      a.li(t0, value);
    },
    (a) => {
      for (const imm of offsets) a.op(op, { rs1: s0, rs2: t0, imm });
    },
  );
}

/** Calls the firmware with these arguments. */
function calls(extension: number, fn: number, args: readonly (number | bigint)[]): Uint8Array {
  return loop(
    () => {},
    (a) => {
      for (const [n, value] of args.entries()) a.li(a0 + n, value);
      a.li(a7, extension);
      a.li(a6, fn);
      a.op('ecall');
    },
  );
}

/** A descriptor of a buffer. */
interface Buffer {
  readonly address?: number;
  readonly length: number;
  readonly writable?: boolean;
}

interface Queue {
  /** Which of the transport's slots. */
  readonly slot: number;
  readonly queue: number;
  /** Entries. Each is a chain that the guest makes available again as soon as all have come back. */
  readonly size: number;
  readonly buffers: readonly Buffer[];
  /** Chains are in an indirect table, one that all have. */
  readonly indirect?: boolean;
  /** It does not wait for chains to come back before it notifies again. */
  readonly impatient?: boolean;
  /** What lies at the beginning of the buffer. */
  readonly content?: Uint8Array;
}

/** Sets up a queue of a virtio device, and has the device work on all of it, again and again. */
function floodQueue({ slot, queue, size, buffers, indirect = false, impatient = false, content }: Queue): Uint8Array {
  const perChain = indirect ? 1 : buffers.length;
  const chains = Math.floor(size / perChain);
  return program((a) => {
    const set = (offset: number, value: number) => {
      a.li(t0, value);
      a.op('sw', { rs1: s0, rs2: t0, imm: offset });
    };
    a.li(s0, PLATFORM.virtio.base + slot * PLATFORM.virtio.stride);
    for (const status of [0, 1, 3]) set(0x70, status);
    set(0x24, 0);
    set(0x20, indirect ? 1 << 28 : 0);
    set(0x24, 1);
    set(0x20, 1);
    set(0x70, 11);
    set(0x30, queue);
    set(0x38, size);
    for (const [offset, address] of [
      [0x80, TABLE],
      [0x90, AVAILABLE],
      [0xa0, USED],
    ] as const) {
      set(offset, address);
      set(offset + 4, 0);
    }
    set(0x44, 1);
    set(0x70, 15);
    a.li(s1, AVAILABLE);
    a.li(s2, USED);
    a.li(s3, queue);
    a.label('again');
    if (!impatient) {
      // The device may have put some of it off: it is told again meanwhile, which changes nothing.
      a.op('lhu', { rd: t0, rs1: s1, imm: 2 });
      a.op('lhu', { rd: t1, rs1: s2, imm: 2 });
      a.branch('bne', t0, t1, 'notify');
    } else a.op('lhu', { rd: t0, rs1: s2, imm: 2 });
    a.op('addi', { rd: t0, rs1: t0, imm: chains });
    a.op('sh', { rs1: s1, rs2: t0, imm: 2 });
    a.label('notify');
    a.op('sw', { rs1: s0, rs2: s3, imm: 0x50 });
    a.jump(0, 'again');

    const describe = (list: readonly Buffer[], first: number) => {
      for (const [n, { address = BUFFER, length, writable = false }] of list.entries()) {
        const last = n === list.length - 1;
        a.double(BigInt(address));
        a.word(length);
        a.half((writable ? WRITE : 0) | (last ? 0 : NEXT));
        a.half(last ? 0 : first + n + 1);
      }
    };
    a.org(TABLE);
    for (let chain = 0; chain < chains; chain++) {
      if (!indirect) describe(buffers, chain * perChain);
      else {
        a.double(BigInt(INDIRECT));
        a.word(16 * buffers.length);
        a.half(TABLE_ELSEWHERE);
        a.half(0);
      }
    }
    if (indirect) {
      a.org(INDIRECT);
      describe(buffers, 0);
    }
    a.org(AVAILABLE);
    a.word(0);
    for (let entry = 0; entry < size; entry++) a.half((entry % chains) * perChain);
    a.org(USED);
    a.word(0);
    if (content) {
      a.org(BUFFER);
      for (let at = 0; at < content.length; at += 2) a.half(content[at]! | ((content[at + 1] ?? 0) << 8));
    }
  });
}

const MIB = 2 ** 20;
const SLOTS = PLATFORM.virtio.slots;
const [CONSOLE, ENTROPY, NET] = [SLOTS - 3, SLOTS - 2, SLOTS - 1] as const;
const FRAME = 12 + 1514;
const DBCN = 0x4442434e;
const RFENCE = 0x52464e43;
const IPI = 0x735049;
const TIME = 0x54494d45;
const HTIF = RAM_BASE + 0x1000;
const HTIF_CALL = RAM_BASE + 0x1100;

const short = (count: number, buffer: Buffer): readonly Buffer[] => Array.from({ length: count }, () => buffer);

/** Stores to `tohost`, with what a program says to its host. */
function htif(name: string, value: bigint): HostileProgram {
  const image = program((a) => {
    a.li(s0, HTIF);
    a.li(t0, value);
    a.label('again');
    a.op('sd', { rs1: s0, rs2: t0 });
    a.jump(0, 'again');
    a.org(HTIF);
    a.double(0n);
    a.double(0n);
    a.org(HTIF_CALL);
    // write(1, BUFFER, 1 TiB)
    for (const word of [64n, 1n, BigInt(BUFFER), 1n << 40n]) a.double(word);
  });
  return { name, image, symbols: { tohost: BigInt(HTIF), fromhost: BigInt(HTIF + 8) } };
}

/** All of them. Each image is made when it is asked for. */
export function hostilePrograms(): HostileProgram[] {
  return [
    { name: 'serial port: bytes', image: stores(PLATFORM.uart.base, 0x41, 'sb') },
    { name: 'serial port: line feeds and escapes', image: stores(PLATFORM.uart.base, 0x1b, 'sb') },
    { name: 'serial port: interrupt enable', image: stores(PLATFORM.uart.base + 1, 0x0f, 'sb') },
    {
      name: 'console port: chains of 1 MiB',
      image: floodQueue({ slot: CONSOLE, queue: 1, size: 128, buffers: [{ length: MIB }] }),
    },
    {
      name: 'console port: a byte a chain',
      image: floodQueue({ slot: CONSOLE, queue: 1, size: 128, buffers: [{ length: 1 }] }),
    },
    {
      name: 'agent port: chains of 1 MiB',
      image: floodQueue({ slot: CONSOLE, queue: 5, size: 128, buffers: [{ length: MIB }] }),
    },
    {
      name: 'agent port: lines without content',
      image: floodQueue({
        slot: CONSOLE,
        queue: 5,
        size: 128,
        buffers: [{ length: 64 * 1024 }],
        content: new TextEncoder().encode('{}\n'.repeat(22_000)),
      }),
    },
    {
      name: 'control port: chains of 257 descriptors',
      image: floodQueue({
        slot: CONSOLE,
        queue: 3,
        size: 32,
        buffers: short(33, { length: 8 }),
        indirect: true,
      }),
    },
    {
      name: 'entropy: chains of 64 KiB',
      image: floodQueue({ slot: ENTROPY, queue: 0, size: 64, buffers: [{ length: 64 * 1024, writable: true }] }),
    },
    {
      name: 'entropy: chains of 1 MiB, indirect',
      image: floodQueue({
        slot: ENTROPY,
        queue: 0,
        size: 64,
        buffers: short(64, { length: MIB, writable: true }),
        indirect: true,
      }),
    },
    {
      name: 'network: largest frames',
      image: floodQueue({ slot: NET, queue: 1, size: 256, buffers: [{ length: FRAME }] }),
    },
    {
      name: 'network: 256 indirect chains of 256 descriptors',
      image: floodQueue({ slot: NET, queue: 1, size: 256, buffers: short(256, { length: 5 }), indirect: true }),
    },
    {
      name: 'disk: reads of 16 MiB',
      disk: true,
      image: floodQueue({
        slot: 0,
        queue: 0,
        size: 256,
        buffers: [
          { address: BUFFER, length: 16 },
          { address: BUFFER + 4096, length: 16 * MIB, writable: true },
          { address: BUFFER + 64, length: 1, writable: true },
        ],
      }),
    },
    {
      name: 'disk: 256 indirect requests of 256 descriptors',
      disk: true,
      image: floodQueue({
        slot: 0,
        queue: 0,
        size: 256,
        buffers: [
          { address: BUFFER, length: 16 },
          ...short(254, { address: BUFFER + 4096, length: 4096, writable: true }),
          { address: BUFFER + 64, length: 1, writable: true },
        ],
        indirect: true,
      }),
    },
    {
      name: 'notifications of nothing',
      image: floodQueue({
        slot: ENTROPY,
        queue: 0,
        size: 64,
        buffers: [{ length: 0, writable: true }],
        impatient: true,
      }),
    },
    { name: 'interrupt controller: enables and priorities', image: stores(PLATFORM.plic.base, 7, 'sw', [4, 40, 44]) },
    { name: 'interrupt controller: claims', image: stores(PLATFORM.plic.base + 0x20_0004, 10) },
    { name: 'timer: compare', image: stores(CLINT + 0x4000, 1, 'sw', [0, 4]) },
    { name: 'timer: time itself', image: stores(CLINT + 0xb000, 1, 'sw', [0x7f8, 0x7fc]) },
    { name: 'clock: time and alarm', image: stores(PLATFORM.rtc.base, 0x7fff_ffff, 'sw', [0, 4, 12, 8]) },
    { name: 'firmware: debug console, 4 KiB a call', sbi: true, image: calls(DBCN, 0, [3n << 30n, BUFFER, 0]) },
    { name: 'firmware: debug console, a byte a call', sbi: true, image: calls(DBCN, 2, [0x41]) },
    { name: 'firmware: legacy console', sbi: true, image: calls(1, 0, [0x41]) },
    { name: 'firmware: fences of everything', sbi: true, image: calls(RFENCE, 1, [-1n, -1n, 0, -1n]) },
    { name: 'firmware: interrupts', sbi: true, image: calls(IPI, 0, [-1n, -1n]) },
    { name: 'firmware: timer', sbi: true, image: calls(TIME, 0, [-1n]) },
    htif('host interface: characters', (1n << 56n) | (1n << 48n) | 0x41n),
    htif('host interface: writes', BigInt(HTIF_CALL)),
    {
      name: 'traps: instructions that do not exist',
      image: program((a) => {
        a.la(t0, 'trap');
        a.csrw(0x305, t0);
        a.label('trap');
        a.word(0);
      }),
    },
    {
      // A run is as long as it gets when its steps become slow.
      name: 'traps: many after steps that cost nothing',
      image: program((a) => {
        a.la(t0, 'trap');
        a.csrw(0x305, t0);
        a.label('fast');
        a.li(t1, 100_000_000);
        a.label('spin');
        a.op('addi', { rd: t1, rs1: t1, imm: -1 });
        a.branch('bne', t1, 0, 'spin');
        a.li(t1, 2_000_000);
        a.label('slow');
        a.word(0);
        a.label('trap');
        a.op('addi', { rd: t1, rs1: t1, imm: -1 });
        a.branch('bne', t1, 0, 'slow');
        a.jump(0, 'fast');
      }),
    },
    {
      name: 'memory protection: changes',
      image: loop(
        (a) => {
          a.li(t0, -1n);
          a.li(t1, 0x1f);
        },
        (a) => {
          a.csrw(0x3b0, t0);
          a.csrw(0x3a0, t1);
          a.csrw(0x3a0, 0);
        },
      ),
    },
    {
      name: 'code that changes itself',
      image: loop(
        (a) => {
          a.la(s0, 'target');
          a.li(t0, 0x0000_0013);
        },
        (a) => {
          a.op('sw', { rs1: s0, rs2: t0 });
          a.op('fence.i');
          a.label('target');
          a.word(0x0000_0013);
        },
      ),
    },
  ];
}

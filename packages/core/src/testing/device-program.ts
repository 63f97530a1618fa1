/**
 * Random programs for the devices of `virt`, with nothing but loads and stores, in M-mode with interrupts disabled.
 *
 * A program is a row of steps. Each does one thing to one device and then writes a record: what the step read, the
 * pending bits of hart 0's `mip`, what the interrupt controller has pending, and, where the step asks for it, what a
 * claim gave. So a record shows each edge of an interrupt line that the step made. Two machines are alike when their
 * records are.
 *
 * Programs keep out of the differences that docs/devices.md lists, and each place says which. Waits are in guest time,
 * so the other machine needs a clock that follows its instructions (QEMU: `-icount`).
 */

import { PLATFORM } from '../boot/device-tree.ts';
import { Assembler } from './assembler.ts';
import type { Random } from './random.ts';

export const DEVICE_LOG = 0x8100_0000;
/** What a step read, `mip`, the first word of pending bits, the claim. */
export const DEVICE_LOG_WORDS = 4;

export type DeviceKind = 'uart' | 'plic' | 'clint' | 'rtc' | 'virtio';

const UART = PLATFORM.uart.base;
const PLIC = PLATFORM.plic.base;
const CLINT = PLATFORM.clint.base;
const RTC = PLATFORM.rtc.base;
const FINISHER = PLATFORM.test.base;
/** The entropy device has the seventh slot. */
const VIRTIO_SLOT = 6;
const VIRTIO = PLATFORM.virtio.base + VIRTIO_SLOT * PLATFORM.virtio.stride;
const SOURCES = { uart: PLATFORM.uart.irq, rtc: PLATFORM.rtc.irq, virtio: PLATFORM.virtio.irq + VIRTIO_SLOT };
const RING = 0x8180_0000;
/** Four characters of 12 bits at the highest speed, in microseconds. */
const FIFO_TIMEOUT = 150;

// Registers of the program.
const [VALUE, A, B, C, LOG, CLAIM, COUNT] = [10, 5, 6, 7, 8, 11, 9] as const;
/** MSIP, MTIP, SEIP and MEIP: SSIP and STIP belong to software. */
const MIP_LINES = 0xa88;
const MIP = 0x344;
const TIME = 0xc01;
const MHARTID = 0xf14;

export class DeviceProgram {
  /** What each step does, for messages. */
  readonly steps: string[] = [];
  private readonly random: Random;
  private readonly code = new Assembler(0x8000_0000n);
  /** Of the interrupt controller's contexts. */
  private readonly thresholds = [0, 0, 0, 0];
  /** Of the serial port: loopback and FIFO are on. */
  private loopback = false;
  private fifo = false;

  constructor(random: Random, kind: DeviceKind, count: number) {
    this.random = random;
    const { code } = this;
    code.csrr(A, MHARTID);
    code.branch('beq', A, 0, 'first');
    code.label('park');
    code.op('wfi');
    code.jump(0, 'park');
    code.label('first');
    code.csrw(0x304, 0);
    code.li(LOG, DEVICE_LOG);
    // Out of reset OUT2 and the timers' interrupts are on there, and off here.
    this.store(UART + 4, 0, 'sb');
    for (const hart of [0, 1]) for (const half of [0, 4]) this.store(CLINT + 0x4000 + 8 * hart + half, -1);
    // The divisor's highest speed.
    this.store(UART + 3, 0x83, 'sb');
    this.store(UART, 1, 'sb');
    this.store(UART + 3, 3, 'sb');
    if (kind === 'plic') this.prepareLines();
    else if (kind !== 'clint') this.enableSource(SOURCES[kind]);
    if (kind === 'virtio') this.startVirtio();
    for (let n = 0; n < count; n++) this[kind]();
    code.li(A, FINISHER);
    code.li(B, 0x5555);
    code.op('sw', { rs1: A, rs2: B });
    code.jump(0, 'park');
  }

  image(): Uint8Array {
    return this.code.bytes();
  }

  // --- Pieces of programs

  private store(address: number, value: number, op = 'sw'): void {
    this.code.li(A, address);
    this.code.li(B, value | 0);
    this.code.op(op, { rs1: A, rs2: B });
  }

  private load(address: number, op = 'lwu', rd: number = VALUE): void {
    this.code.li(A, address);
    this.code.op(op, { rd, rs1: A });
  }

  /** Guest time passes. */
  private wait(microseconds: number): void {
    const again = this.code.newLabel();
    this.code.csrr(A, TIME);
    this.code.li(B, microseconds * 10);
    this.code.op('add', { rd: A, rs1: A, rs2: B });
    this.code.label(again);
    this.code.csrr(B, TIME);
    this.code.branch('bltu', B, A, again);
  }

  /** Ends a step: what is in VALUE, the lines, and a claim at a context, if one is given. */
  private record(what: string, claim?: number): void {
    const { code } = this;
    code.op('sd', { rs1: LOG, rs2: VALUE });
    code.csrr(A, MIP);
    code.li(B, MIP_LINES);
    code.op('and', { rd: A, rs1: A, rs2: B });
    code.op('sd', { rs1: LOG, rs2: A, imm: 8 });
    this.load(PLIC + 0x1000, 'lwu', CLAIM);
    code.op('sd', { rs1: LOG, rs2: CLAIM, imm: 16 });
    code.li(CLAIM, 0);
    if (claim !== undefined) this.load(claimRegister(claim), 'lwu', CLAIM);
    code.op('sd', { rs1: LOG, rs2: CLAIM, imm: 24 });
    code.op('addi', { rd: LOG, rs1: LOG, imm: 8 * DEVICE_LOG_WORDS });
    code.li(VALUE, 0);
    this.steps.push(claim === undefined ? what : `${what}, claim at ${claim}`);
  }

  private enableSource(source: number): void {
    this.store(PLIC + 4 * source, 1);
    for (const context of [0, 1, 3]) this.store(PLIC + 0x2000 + 0x80 * context, 1 << source);
  }

  /** Ends a step of a device; services begin and end now and then. */
  private served(what: string, source: number): void {
    const { random } = this;
    this.record(what, random.chance(0.4) ? random.pick([0, 1, 3]) : undefined);
    if (!random.chance(0.3)) return;
    this.store(claimRegister(random.below(4)), source);
    this.record('complete');
  }

  // --- The serial port

  private uart(): void {
    const { random } = this;
    const put = (register: number, value: number) => {
      this.store(UART + register, value, 'sb');
      return `uart[${register}] = 0x${value.toString(16)}`;
    };
    const get = (register: number) => {
      this.load(UART + register, 'lbu');
      return `uart[${register}]`;
    };
    let what: string;
    // Four characters later a FIFO there announces what is below its trigger level: ours does so at once.
    let settles = false;
    switch (random.below(16)) {
      case 0:
      case 1:
      case 2:
        what = put(0, random.below(256));
        settles = this.loopback && this.fifo;
        break;
      case 3:
      case 4:
        // Not the modem's interrupt: only ours has changes of its lines in loopback.
        what = put(1, random.below(8));
        break;
      case 5: {
        // Without the enable bit the others count there, and not here.
        const value = random.pick([0, 1, 1, 1, 3, 5, 7]) | (random.below(4) << 6);
        this.fifo = (value & 1) !== 0;
        what = put(2, value);
        settles = true;
        break;
      }
      case 6: {
        // The divisor latch: it is read back, and set to the speed for which the waits are long enough.
        const low = random.below(256);
        put(3, 0x83);
        put(0, low);
        put(1, random.below(256));
        what = `${get(random.below(2))} as the divisor ${low}`;
        put(0, 1);
        put(1, 0);
        put(3, random.below(128));
        break;
      }
      case 7:
      case 8: {
        const value = random.below(32);
        this.loopback = (value & 16) !== 0;
        what = put(4, value);
        break;
      }
      case 9:
        what = put(7, random.below(256));
        break;
      case 10:
      case 11: {
        // A timeout and a reached trigger level are one cause here: which it is depends on the wait.
        what = get(2);
        const other = this.code.newLabel();
        this.code.op('andi', { rd: A, rs1: VALUE, imm: 15 });
        this.code.li(B, 12);
        this.code.branch('bne', A, B, other);
        this.code.op('andi', { rd: VALUE, rs1: VALUE, imm: ~8 });
        this.code.label(other);
        break;
      }
      case 12:
      case 13: {
        // An empty receiver reads as zero here, and as its last byte there.
        const empty = this.code.newLabel();
        this.load(UART + 5, 'lbu', C);
        this.load(UART, 'lbu');
        this.code.op('andi', { rd: C, rs1: C, imm: 1 });
        this.code.branch('bne', C, 0, empty);
        this.code.li(VALUE, 0);
        this.code.label(empty);
        what = 'uart[0]';
        settles = this.fifo;
        break;
      }
      default:
        what = get(random.pick([1, 3, 4, 5, 6, 7]));
        if (what === 'uart[6]') this.code.op('andi', { rd: VALUE, rs1: VALUE, imm: 0xf0 });
    }
    if (settles) this.wait(FIFO_TIMEOUT);
    this.served(what, SOURCES.uart);
  }

  // --- The interrupt controller, with lines that are raised and never fall

  private prepareLines(): void {
    this.store(UART + 1, 2, 'sb');
    this.store(RTC + 0x10, 1);
    this.enableSource(SOURCES.uart);
    this.enableSource(SOURCES.rtc);
    for (const context of [0, 1, 3]) {
      this.store(PLIC + 0x2000 + 0x80 * context, (1 << SOURCES.uart) | (1 << SOURCES.rtc));
    }
  }

  private plic(): void {
    const { random } = this;
    const source = random.pick([SOURCES.uart, SOURCES.rtc, SOURCES.uart, SOURCES.rtc, 1 + random.below(95)]);
    const context = random.below(4);
    // There a claim gives nothing that is not above the threshold.
    const claim = (this.thresholds[context] as number) === 0 && random.chance(0.4) ? context : undefined;
    switch (random.below(10)) {
      case 0:
      case 1:
        this.store(UART, 0x20, 'sb');
        return this.record('the serial port asks', claim);
      case 2:
      case 3:
        this.store(RTC + 8, 0);
        return this.record('the clock asks', claim);
      case 4: {
        const value = random.pick([0, 1, 2, 7, 9, -1]);
        this.store(PLIC + 4 * source, value);
        this.load(PLIC + 4 * source);
        return this.record(`priority ${source} = ${value}`, claim);
      }
      case 5: {
        // Source 0 does not exist: its enable bit cannot be set here.
        const value = random.pick([
          0,
          -2,
          (1 << SOURCES.uart) | (1 << SOURCES.rtc),
          1 << SOURCES.uart,
          1 << SOURCES.rtc,
        ]);
        this.store(PLIC + 0x2000 + 0x80 * context, value);
        // There the lines do not follow before something else happens: a completion of nothing.
        this.store(claimRegister(context), 0);
        this.load(PLIC + 0x2000 + 0x80 * context);
        return this.record(`enables of ${context} = 0x${(value >>> 0).toString(16)}`, claim);
      }
      case 6: {
        const value = random.pick([0, 0, 0, 1, 2, 6, 8, -1]);
        this.thresholds[context] = value & 7;
        this.store(PLIC + 0x20_0000 + 0x1000 * context, value);
        this.load(PLIC + 0x20_0000 + 0x1000 * context);
        return this.record(`threshold of ${context} = ${value}`);
      }
      case 7:
        this.load(PLIC + 0x1000 + 4 * random.below(3));
        return this.record('a word of pending bits', claim);
      default: {
        const done = random.pick([source, source, source, 0, 96, -1]);
        this.store(claimRegister(context), done);
        return this.record(`complete ${done} at ${context}`, claim);
      }
    }
  }

  // --- The interruptor

  private clint(): void {
    const { random } = this;
    switch (random.below(7)) {
      case 0:
      case 1: {
        const hart = random.below(2);
        const value = random.pick([0, 1, 2, 3, -1]);
        this.store(CLINT + 4 * hart, value);
        this.load(CLINT + 4 * hart);
        return this.record(`msip ${hart} = ${value}`);
      }
      case 2: {
        this.store(CLINT + 0x4000, random.pick([0, 5]));
        this.store(CLINT + 0x4004, 0);
        this.load(CLINT + 0x4000, 'ld');
        return this.record('mtimecmp in the past');
      }
      case 3: {
        this.store(CLINT + 0x4004, -1);
        this.load(CLINT + 0x4004);
        return this.record('mtimecmp never');
      }
      case 4: {
        // The time goes on from another value.
        this.load(CLINT + 0xbff8, 'ld', C);
        this.code.li(B, random.below(100_000));
        this.code.op('add', { rd: C, rs1: C, rs2: B });
        this.code.li(A, CLINT + 0xbff8);
        this.code.op('sd', { rs1: A, rs2: C });
        return this.record('mtime goes on');
      }
      case 5: {
        this.load(CLINT + 0xbff8, 'ld', C);
        this.code.li(B, 1000 + random.below(1000));
        this.code.op('add', { rd: C, rs1: C, rs2: B });
        this.code.li(A, CLINT + 0x4000);
        this.code.op('sd', { rs1: A, rs2: C });
        return this.record('mtimecmp a moment ahead');
      }
      default:
        this.wait(210);
        return this.record('time passes');
    }
  }

  // --- The clock

  private rtc(): void {
    const { random } = this;
    let what: string;
    switch (random.below(8)) {
      case 0:
        what = 'an alarm in the past';
        this.store(RTC + 0xc, 0);
        this.store(RTC + 8, random.below(10));
        break;
      case 1:
        // The time is read, and the alarm set that much later; the upper half first, as the lower one arms it.
        what = 'an alarm a moment ahead';
        this.load(RTC, 'lwu', C);
        this.load(RTC + 4, 'lwu', COUNT);
        this.code.op('slli', { rd: COUNT, rs1: COUNT, imm: 32 });
        this.code.op('add', { rd: C, rs1: C, rs2: COUNT });
        this.code.li(B, 100_000 + random.below(100_000));
        this.code.op('add', { rd: C, rs1: C, rs2: B });
        this.code.op('srli', { rd: B, rs1: C, imm: 32 });
        this.code.li(A, RTC);
        this.code.op('sw', { rs1: A, rs2: B, imm: 0xc });
        this.code.op('sw', { rs1: A, rs2: C, imm: 8 });
        break;
      case 2:
        what = 'time passes';
        this.wait(210);
        break;
      case 3:
      case 4: {
        const value = random.below(4);
        what = `interrupt enabled = ${value}`;
        this.store(RTC + 0x10, value);
        this.load(RTC + 0x10);
        break;
      }
      case 5:
        what = 'clear the alarm';
        this.store(RTC + 0x14, 1);
        break;
      case 6:
        what = 'clear the interrupt';
        this.store(RTC + 0x1c, 1);
        break;
      default:
        what = 'whether it is armed';
        this.load(RTC + 0x18);
    }
    this.served(what, SOURCES.rtc);
  }

  // --- A virtio device: the entropy device, of which any number of bytes may come

  private startVirtio(): void {
    const { code } = this;
    const put = (register: number, value: number) => this.store(VIRTIO + register, value);
    put(0x70, 0);
    put(0x70, 1);
    put(0x70, 3);
    put(0x24, 1);
    put(0x20, 1); // version 1 of the specification
    put(0x24, 0);
    put(0x20, 0);
    put(0x70, 11);
    put(0x30, 0);
    put(0x38, 8);
    for (const [n, register] of [0x80, 0x90, 0xa0].entries()) {
      put(register, RING + 0x1000 * n);
      put(register + 4, 0);
    }
    // Descriptor 0: 8 bytes to write to. The driver's index goes up with each request.
    code.li(A, RING);
    code.li(B, RING + 0x4000);
    code.op('sd', { rs1: A, rs2: B });
    code.li(B, 8);
    code.op('sw', { rs1: A, rs2: B, imm: 8 });
    code.li(B, 2);
    code.op('sw', { rs1: A, rs2: B, imm: 12 });
    this.store(RING + 0x1000, 0);
    this.store(RING + 0x2000, 0);
    code.li(COUNT, 0);
    put(0x44, 1);
    put(0x70, 15);
    this.load(VIRTIO + 0x70);
    this.record('started');
  }

  private virtio(): void {
    const { random, code } = this;
    let what: string;
    switch (random.below(6)) {
      case 0:
      case 1: {
        what = 'a request';
        code.op('addi', { rd: COUNT, rs1: COUNT, imm: 1 });
        code.li(A, RING + 0x1000);
        code.op('sh', { rs1: A, rs2: COUNT, imm: 2 });
        this.store(VIRTIO + 0x50, 0);
        // It is done when the device's index is the driver's.
        const again = code.newLabel();
        code.label(again);
        this.load(RING + 0x2002, 'lhu', C);
        code.op('slli', { rd: B, rs1: COUNT, imm: 48 });
        code.op('srli', { rd: B, rs1: B, imm: 48 });
        code.branch('bne', C, B, again);
        this.wait(20);
        this.load(VIRTIO + 0x60);
        break;
      }
      case 2: {
        const value = random.pick([1, 1, 1, 2, 3, 0]);
        what = `acknowledge ${value}`;
        this.store(VIRTIO + 0x64, value);
        this.load(VIRTIO + 0x60);
        break;
      }
      case 3: {
        const register = random.pick([0, 4, 8, 0x34, 0x44, 0x60, 0x70, 0xfc]);
        what = `virtio[0x${register.toString(16)}]`;
        this.load(VIRTIO + register);
        // How long a queue may be is up to the device.
        if (register === 0x34) code.op('sltu', { rd: VALUE, rs1: 0, rs2: VALUE });
        break;
      }
      case 4: {
        const select = random.below(3);
        what = `queue ${select} of one`;
        this.store(VIRTIO + 0x30, select);
        this.load(VIRTIO + 0x44);
        this.store(VIRTIO + 0x30, 0);
        break;
      }
      default:
        what = 'a reset';
        this.store(VIRTIO + 0x70, 0);
        this.load(VIRTIO + 0x60);
        this.served(what, SOURCES.virtio);
        return this.startVirtio();
    }
    this.served(what, SOURCES.virtio);
  }
}

function claimRegister(context: number): number {
  return PLIC + 0x20_0004 + 0x1000 * context;
}

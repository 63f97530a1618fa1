/**
 * Random programs for the devices of `virt`: rows of accesses to one of them, in any order.
 *
 * They keep out of the differences that docs/devices.md lists, and each place says which.
 */

import {
  A,
  B,
  C,
  CLINT,
  COUNT,
  DeviceAccesses,
  PLIC,
  QUEUE_SIZE,
  RING,
  RTC,
  SOURCES,
  UART,
  VALUE,
  VIRTIO,
} from './device-access.ts';
import type { Random } from './random.ts';

export type DeviceKind = 'uart' | 'plic' | 'clint' | 'rtc' | 'virtio';

/** Four characters of 12 bits at the highest speed, in microseconds. */
const FIFO_TIMEOUT = 150;

/** Of one byte, two and four; registers of the serial port take all of them alike. */
const LOADS = ['lbu', 'lhu', 'lwu'];
const STORES = ['sb', 'sh', 'sw'];
/** How many of these are aligned at an address. */
const sizes = (address: number) => (address % 4 === 0 ? 3 : address % 2 === 0 ? 2 : 1);

export class DeviceProgram extends DeviceAccesses {
  private readonly random: Random;
  /** Of the interrupt controller's contexts. */
  private readonly thresholds = [0, 0, 0, 0];
  /** Of the serial port: loopback and FIFO are on. */
  private loopback = false;
  private fifo = false;

  constructor(random: Random, kind: DeviceKind, count: number) {
    super();
    this.random = random;
    this.quiet();
    if (kind === 'plic') this.prepareLines();
    else if (kind !== 'clint') this.enable(SOURCES[kind]);
    if (kind === 'virtio') this.startVirtio();
    for (let n = 0; n < count; n++) this[kind]();
  }

  /** Ends a step of a device; services begin and end now and then. */
  private served(what: string, source: number): void {
    const { random } = this;
    this.record(what, random.chance(0.4) ? random.pick([0, 1, 3]) : undefined);
    if (!random.chance(0.3)) return;
    this.complete(random.below(4), source);
    this.record('complete');
  }

  // --- The serial port

  private uart(): void {
    const { random } = this;
    const put = (register: number, value: number) => {
      this.store(UART + register, value, random.pick(STORES.slice(0, sizes(register))));
      return `uart[${register}] = 0x${value.toString(16)}`;
    };
    const get = (register: number) => {
      this.load(UART + register, random.pick(LOADS.slice(0, sizes(register))));
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
    this.enable(SOURCES.uart, SOURCES.rtc);
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
        this.complete(context, 0);
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
        this.complete(context, done);
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
    switch (random.below(9)) {
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
      case 5: {
        const [low, high] = [random.below(2 ** 32), 0x7000_0000 + random.below(2 ** 24)];
        const half = random.pick([8, 0xc]);
        what = `half ${half} of an alarm that does not come`;
        this.store(RTC + 0xc, high);
        this.store(RTC + 8, low);
        this.load(RTC + half);
        break;
      }
      case 6:
        what = 'clear the alarm';
        this.store(RTC + 0x14, 1);
        break;
      case 7:
        what = 'clear the interrupt';
        this.store(RTC + 0x1c, 1);
        break;
      default:
        what = 'whether it is armed';
        this.load(RTC + 0x18);
    }
    this.served(what, SOURCES.rtc);
  }

  // --- A virtio device

  private startVirtio(): void {
    // With event indices, or without.
    const indices = this.random.chance(0.5);
    this.startEntropy(indices ? 1 << 29 : 0);
    // There the first request interrupts whatever the index says.
    this.askEntropy();
    this.load(VIRTIO + 0x60);
    this.record(`started with${indices ? '' : 'out'} indices`);
  }

  private virtio(): void {
    const { random, code } = this;
    let what: string;
    switch (random.below(8)) {
      case 0:
      case 1:
        what = 'a request';
        this.askEntropy();
        this.load(VIRTIO + 0x60);
        break;
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
      case 5: {
        const flags = random.below(2);
        what = `the driver wants ${flags === 1 ? 'no ' : ''}interrupts`;
        this.store(RING.driver, flags, 'sh');
        break;
      }
      case 6: {
        // Behind the driver's ring: an interrupt is wanted when this many more have been used.
        const ahead = random.below(3);
        what = `an interrupt after ${ahead} more`;
        this.code.op('addi', { rd: C, rs1: COUNT, imm: ahead });
        this.code.li(A, RING.driver + 4 + 2 * QUEUE_SIZE);
        this.code.op('sh', { rs1: A, rs2: C });
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

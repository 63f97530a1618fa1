/**
 * Programs that access the devices of `virt` in M-mode with interrupts disabled, and write down what becomes of it.
 *
 * A program is a row of steps. Each ends with a record: what the step read, the pending bits of hart 0's `mip`, what
 * the interrupt controller has pending, and, where the step asks for it, what a claim gave. So a record shows each edge
 * of an interrupt line that the step made. Two machines are alike when their records are.
 *
 * Waits are in guest time, so a machine needs a clock that follows its instructions (QEMU: `-icount`).
 */

import { PLATFORM } from '../boot/device-tree.ts';
import { Assembler } from './assembler.ts';

const LOG = 0x8100_0000;
/** Of a record: what the step read, `mip`, the first word of pending bits, the claim. */
const WORDS = 4;

export const UART = PLATFORM.uart.base;
export const PLIC = PLATFORM.plic.base;
export const CLINT = PLATFORM.clint.base;
export const RTC = PLATFORM.rtc.base;
/** The entropy device has the seventh slot. */
export const ENTROPY_SLOT = 6;
export const VIRTIO = PLATFORM.virtio.base + ENTROPY_SLOT * PLATFORM.virtio.stride;
/** Interrupts by device. */
export const SOURCES = {
  uart: PLATFORM.uart.irq,
  rtc: PLATFORM.rtc.irq,
  virtio: PLATFORM.virtio.irq + ENTROPY_SLOT,
} as const;
/** The three parts of the entropy device's queue, and its buffer, a page each. */
export const RING = {
  descriptors: 0x8180_0000,
  driver: 0x8180_1000,
  device: 0x8180_2000,
  buffer: 0x8180_3000,
} as const;
export const QUEUE_SIZE = 8;

/** Registers that steps may use: VALUE is what they read, the others are for between, COUNT stays. */
export const [VALUE, A, B, C, COUNT] = [10, 5, 6, 7, 9] as const;
const [CLAIMED, AT] = [11, 8] as const;

/** MSIP, MTIP, SEIP and MEIP: SSIP and STIP belong to software. */
const MIP_LINES = 0xa88;
const MIE = 0x304;
const MIP = 0x344;
const TIME = 0xc01;
const MHARTID = 0xf14;

export interface DeviceRecord {
  readonly value: bigint;
  readonly mip: bigint;
  readonly pending: bigint;
  readonly claim: bigint;
}

/** Its four numbers in hexadecimal. */
export function recordText({ value, mip, pending, claim }: DeviceRecord): string {
  return [value, mip, pending, claim].map((word) => word.toString(16)).join(' ');
}

export class DeviceAccesses {
  /** What each step does, for messages. */
  readonly steps: string[] = [];
  readonly code = new Assembler(PLATFORM.ram.base);

  constructor() {
    const { code } = this;
    code.csrr(A, MHARTID);
    code.branch('beq', A, 0, 'first');
    code.label('park');
    code.op('wfi');
    code.jump(0, 'park');
    code.label('first');
    code.csrw(MIE, 0);
    code.li(AT, LOG);
  }

  /** The program as far as it has got, with an end. */
  image(): Uint8Array {
    this.store(PLATFORM.test.base, 0x5555);
    this.code.jump(0, 'park');
    return this.code.bytes();
  }

  /** The records that a run of the program has left in RAM. */
  records(ram: { read(address: number, length: number): Uint8Array }): DeviceRecord[] {
    const words = new BigUint64Array(ram.read(LOG, this.steps.length * WORDS * 8).buffer);
    return this.steps.map((_, n) => {
      const [value, mip, pending, claim] = words.subarray(n * WORDS) as unknown as [bigint, bigint, bigint, bigint];
      return { value, mip, pending, claim };
    });
  }

  store(address: number, value: number, op = 'sw'): void {
    this.code.li(A, address);
    this.code.li(B, value | 0);
    this.code.op(op, { rs1: A, rs2: B });
  }

  load(address: number, op = 'lwu', rd: number = VALUE): void {
    this.code.li(A, address);
    this.code.op(op, { rd, rs1: A });
  }

  /** Guest time passes. */
  wait(microseconds: number): void {
    const again = this.code.newLabel();
    this.code.csrr(A, TIME);
    this.code.li(B, microseconds * 10);
    this.code.op('add', { rd: A, rs1: A, rs2: B });
    this.code.label(again);
    this.code.csrr(B, TIME);
    this.code.branch('bltu', B, A, again);
  }

  /** Ends a step, with a claim at a context if one is given. */
  record(what: string, claim?: number): void {
    const { code } = this;
    code.op('sd', { rs1: AT, rs2: VALUE });
    code.csrr(A, MIP);
    code.li(B, MIP_LINES);
    code.op('and', { rd: A, rs1: A, rs2: B });
    code.op('sd', { rs1: AT, rs2: A, imm: 8 });
    this.load(PLIC + 0x1000, 'lwu', CLAIMED);
    code.op('sd', { rs1: AT, rs2: CLAIMED, imm: 16 });
    code.li(CLAIMED, 0);
    if (claim !== undefined) this.load(claimRegister(claim), 'lwu', CLAIMED);
    code.op('sd', { rs1: AT, rs2: CLAIMED, imm: 24 });
    code.op('addi', { rd: AT, rs1: AT, imm: 8 * WORDS });
    code.li(VALUE, 0);
    this.steps.push(claim === undefined ? what : `${what}, claim at ${claim}`);
  }

  complete(context: number, source: number): void {
    this.store(claimRegister(context), source);
  }

  /** Lets sources interrupt, with priority 1, both modes of hart 0, and hart 1's S-mode. */
  enable(...sources: readonly number[]): void {
    for (const source of sources) this.store(PLIC + 4 * source, 1);
    for (const context of [0, 1, 3]) this.enableAt(context, ...sources);
  }

  enableAt(context: number, ...sources: readonly number[]): void {
    this.store(
      PLIC + 0x2000 + 0x80 * context,
      sources.reduce((bits, source) => bits | (1 << source), 0),
    );
    // On QEMU the lines do not follow before something else happens: a completion of nothing.
    this.complete(context, 0);
  }

  /** Sets what differs out of reset: OUT2 and the timers. The serial port gets its highest speed. */
  quiet(): void {
    this.store(UART + 4, 0, 'sb');
    for (const hart of [0, 1]) for (const half of [0, 4]) this.store(CLINT + 0x4000 + 8 * hart + half, -1);
    this.store(UART + 3, 0x83, 'sb');
    this.store(UART, 1, 'sb');
    this.store(UART + 3, 3, 'sb');
  }

  /** Sets the entropy device up with the feature bits below 32 that are given. */
  startEntropy(features = 0): void {
    const put = (register: number, value: number) => this.store(VIRTIO + register, value);
    for (const status of [0, 1, 3]) put(0x70, status);
    put(0x24, 1);
    put(0x20, 1); // version 1 of the specification
    put(0x24, 0);
    put(0x20, features);
    put(0x70, 11);
    put(0x30, 0);
    put(0x38, QUEUE_SIZE);
    for (const [register, part] of [
      [0x80, RING.descriptors],
      [0x90, RING.driver],
      [0xa0, RING.device],
    ] as const) {
      put(register, part);
      put(register + 4, 0);
    }
    // Descriptor 0: 8 bytes to write to. The driver's index goes up with each request.
    for (const [word, value] of [RING.buffer, 0, 8, 2].entries()) this.store(RING.descriptors + 4 * word, value);
    for (let offset = 0; offset < 8 + 2 * QUEUE_SIZE; offset += 4) this.store(RING.driver + offset, 0);
    this.store(RING.device, 0);
    this.code.li(COUNT, 0);
    put(0x44, 1);
    put(0x70, 15);
    this.load(VIRTIO + 0x70);
  }

  /** Asks the entropy device for bytes and waits until they are there. */
  askEntropy(): void {
    const { code } = this;
    code.op('addi', { rd: COUNT, rs1: COUNT, imm: 1 });
    code.li(A, RING.driver);
    code.op('sh', { rs1: A, rs2: COUNT, imm: 2 });
    this.store(VIRTIO + 0x50, 0);
    // It is done when the device's index is the driver's.
    const again = code.newLabel();
    code.label(again);
    this.load(RING.device + 2, 'lhu', C);
    code.op('slli', { rd: B, rs1: COUNT, imm: 48 });
    code.op('srli', { rd: B, rs1: B, imm: 48 });
    code.branch('bne', C, B, again);
    this.wait(20);
  }
}

function claimRegister(context: number): number {
  return PLIC + 0x20_0004 + 0x1000 * context;
}

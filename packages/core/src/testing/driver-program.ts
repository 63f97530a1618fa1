/**
 * A program whose harts drive the devices as drivers do: queues that work, interrupts through the PLIC, timers of both
 * kinds, the clock's alarm, software interrupts, waits of every length. Each hart goes round a sequence of its own at
 * random; queues belong to one hart each. What they hear of devices, and when, adds up in s10. It never ends; it may
 * fall asleep until something comes from outside.
 *
 * ```text
 * +0       code
 * +180000  queues, a page each: descriptors at +0, available ring at +400, used ring at +800
 * +200000  buffers; most of their pages are touched first by a device
 * ```
 */

import { PLATFORM } from '../boot/device-tree.ts';
import { MENVCFG } from '../hart/state.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from './assembler.ts';
import { CSR } from './csr.ts';
import { CLINT } from './fragments.ts';
import type { Random } from './random.ts';

const QUEUES = RAM_BASE + 0x18_0000;
const BUFFERS = RAM_BASE + 0x20_0000;
const BUFFER_BYTES = 0x80_0000;
const SIZE = 8;
const AVAILABLE = 0x400;
const USED = 0x800;
const [t0, t1, t2, s0, s8, s9, s10, s11] = [5, 6, 7, 8, 24, 25, 26, 27] as const;
const { plic, uart, rtc, virtio } = PLATFORM;
const MTIME = CLINT + 0xbff8;

/** The devices of a machine with one disk, by slot, and how many queues of each are used. */
const DEVICES = { disk: [0, 1], console: [5, 6], entropy: [6, 1], net: [7, 2] } as const;
type DeviceName = keyof typeof DEVICES;
const NAMES = Object.keys(DEVICES) as DeviceName[];

interface Buffer {
  readonly address: number;
  readonly length: number;
  readonly writable: boolean;
}

export interface DriverRecipe {
  readonly harts: number;
  /** What each hart does in a round. */
  readonly length: number;
}

export function driverProgram(random: Random, recipe: DriverRecipe): Uint8Array {
  return new Writer(random, recipe).write();
}

class Writer {
  private readonly a = new Assembler(RAM_BASE);
  private readonly random: Random;
  private readonly recipe: DriverRecipe;

  constructor(random: Random, recipe: DriverRecipe) {
    this.random = random;
    this.recipe = recipe;
  }

  write(): Uint8Array {
    const { a, recipe, random } = this;
    a.csrr(s0, CSR.mhartid);
    for (let hart = 1; hart < recipe.harts; hart++) {
      a.li(t1, hart);
      a.branch('beq', s0, t1, `far${hart}`);
    }
    a.jump(0, 'hart0');
    for (let hart = 1; hart < recipe.harts; hart++) {
      a.label(`far${hart}`);
      a.jump(0, `hart${hart}`);
    }
    for (let hart = 0; hart < recipe.harts; hart++) {
      a.label(`hart${hart}`);
      this.setup(hart);
      for (const name of NAMES) if (this.owned(hart, name)) this.begin(name);
      a.label(`again${hart}`);
      for (let n = 0; n < recipe.length; n++) this.step(hart);
      a.jump(0, `again${hart}`);
      a.org((a.here + 3n) & ~3n);
      a.label(`handler${hart}`);
      this.handler(hart, random.pick([0, 7, 100]));
    }
    return a.bytes();
  }

  private owned(hart: number, name: DeviceName): boolean {
    return NAMES.indexOf(name) % this.recipe.harts === hart;
  }

  private store(op: 'sb' | 'sw' | 'sd' | 'sh', address: number, value: number | bigint): void {
    const { a } = this;
    a.li(t0, address);
    a.li(t1, value);
    a.op(op, { rs1: t0, rs2: t1 });
  }

  private load(op: 'lw' | 'lbu' | 'ld', address: number): void {
    const { a } = this;
    a.li(t0, address);
    a.op(op, { rd: t2, rs1: t0 });
    this.add(t2);
  }

  private add(register: number): void {
    const { a } = this;
    a.op('add', { rd: s10, rs1: s10, rs2: register });
    a.op('slli', { rd: s11, rs1: s10, imm: 7 });
    a.op('xor', { rd: s10, rs1: s10, rs2: s11 });
  }

  private csr(csr: number, value: number | bigint): void {
    const { a } = this;
    a.li(t0, value);
    a.csrw(csr, t0);
  }

  /** Interrupts of all devices come to all harts; the first to claim one serves it. */
  private setup(hart: number): void {
    const { a, random } = this;
    a.la(t0, `handler${hart}`);
    a.csrw(CSR.mtvec, t0);
    this.csr(CSR.menvcfg, MENVCFG.STCE | MENVCFG.ADUE);
    this.csr(CSR.mie, random.pick([0x8aan, 0x888n, 0x880n, 0x8a8n]));
    for (let irq = 1; irq <= 11; irq++) this.store('sw', plic.base + 4 * irq, random.pick([1, 1, 1, 2]));
    this.store('sw', plic.base + 0x2000 + 0x80 * 2 * hart, random.chance(0.8) ? 0xffe : 0x400);
    if (hart === 0) {
      this.store('sb', uart.base + 2, 1);
      this.store('sb', uart.base + 1, 1);
      this.store('sw', rtc.base + 0x10, 1);
    }
    if (random.chance(0.8)) a.op('csrrsi', { csr: CSR.mstatus, imm: 8 });
  }

  private register(name: DeviceName, offset: number): number {
    return virtio.base + DEVICES[name][0] * virtio.stride + offset;
  }

  private queue(name: DeviceName, queue: number): number {
    return QUEUES + 4096 * (8 * DEVICES[name][0] + queue);
  }

  /** Resets a device and sets its queues up. */
  private begin(name: DeviceName): void {
    const { random } = this;
    const set = (offset: number, value: number) => this.store('sw', this.register(name, offset), value);
    set(0x70, 0);
    if (random.chance(0.1)) return;
    for (const status of [1, 3]) set(0x70, status);
    set(0x24, 0);
    const common = random.pick([0, 1 << 29, 1 << 29]);
    set(0x20, common | (name === 'console' ? 2 : name === 'disk' ? 0x6200 : 0));
    set(0x24, 1);
    set(0x20, 1 | random.pick([0, 1 << 8]));
    set(0x70, 0xb);
    for (let n = 0; n < DEVICES[name][1]; n++) {
      const at = this.queue(name, n);
      this.store('sw', at + AVAILABLE, 0);
      this.store('sw', at + USED, 0);
      set(0x30, n);
      set(0x38, SIZE);
      for (const [offset, address] of [
        [0x80, at],
        [0x90, at + AVAILABLE],
        [0xa0, at + USED],
      ] as const) {
        set(offset, address);
        set(offset + 4, 0);
      }
      set(0x44, 1);
    }
    set(0x70, 0xf);
    if (name !== 'console') return;
    for (const [port, event] of [
      [0, 0],
      [0, 3],
      [1, 3],
      [0, 6],
      [1, 6],
    ] as const) {
      const message = this.address(8);
      this.store('sw', message, port);
      this.store('sw', message + 4, 0x1_0000 | event);
      this.submit('console', 3, [{ address: message, length: 8, writable: false }]);
    }
  }

  /** Where a buffer may be. */
  private address(length: number): number {
    return BUFFERS + ((8 * this.random.below((BUFFER_BYTES - length) / 8)) & -8);
  }

  private buffer(length: number, writable: boolean): Buffer {
    return { address: this.address(length), length, writable };
  }

  /** Makes a chain of buffers available, and mostly says so. */
  private submit(name: DeviceName, queue: number, chain: readonly Buffer[]): void {
    const { a, random } = this;
    const at = this.queue(name, queue);
    const head = random.below(SIZE - chain.length + 1);
    for (const [n, { address, length, writable }] of chain.entries()) {
      const more = n < chain.length - 1;
      const flags = (writable ? 2 : 0) | (more ? 1 : 0);
      this.store('sd', at + 16 * (head + n), address);
      this.store(
        'sd',
        at + 16 * (head + n) + 8,
        (BigInt(head + n + 1) << 48n) | (BigInt(flags) << 32n) | BigInt(length),
      );
    }
    a.li(t0, at + AVAILABLE);
    a.op('lhu', { rd: t1, rs1: t0, imm: 2 });
    a.op('andi', { rd: t2, rs1: t1, imm: SIZE - 1 });
    a.op('slli', { rd: t2, rs1: t2, imm: 1 });
    a.op('add', { rd: t2, rs1: t2, rs2: t0 });
    a.li(s11, head);
    a.op('sh', { rs1: t2, rs2: s11, imm: 4 });
    a.op('addi', { rd: t1, rs1: t1, imm: 1 });
    a.op('sh', { rs1: t0, rs2: t1, imm: 2 });
    if (random.chance(0.9)) this.store('sw', this.register(name, 0x50), queue);
  }

  private request(name: DeviceName): void {
    const { random } = this;
    const length = random.pick([1, 8, 60, 700, 5000, 20_000]);
    switch (name) {
      case 'entropy':
        this.submit(name, 0, [this.buffer(length, true), ...(random.chance(0.3) ? [this.buffer(40, true)] : [])]);
        break;
      case 'console': {
        const queue = random.pick([0, 1, 1, 2, 3, 4, 5, 5]);
        if (queue !== 3) this.submit(name, queue, [this.buffer(Math.min(length, 5000), queue % 2 === 0)]);
        break;
      }
      case 'net': {
        const queue = random.below(2);
        this.submit(name, queue, [this.buffer(12, queue === 0), this.buffer(random.between(14, 1514), queue === 0)]);
        break;
      }
      case 'disk': {
        const header = this.buffer(16, false);
        const type = random.pick([0, 0, 0, 1, 1, 1, 4, 8, 11, 13]);
        this.store('sd', header.address, type);
        this.store('sd', header.address + 8, random.below(128));
        if (type >= 11) {
          const range = this.buffer(16, false);
          this.store('sd', range.address, random.below(100));
          this.store('sd', range.address + 8, random.below(28));
          this.submit(name, 0, [header, range, this.buffer(1, true)]);
          break;
        }
        const data = this.buffer(type === 8 ? 20 : 512 * random.between(1, 16), type === 0 || type === 8);
        if (type === 1 && random.chance(0.7)) {
          this.store('sd', data.address, random.u64());
          this.store('sd', data.address + data.length - 8, random.u64());
        }
        this.submit(name, 0, type === 4 ? [header, this.buffer(1, true)] : [header, data, this.buffer(1, true)]);
        break;
      }
    }
  }

  /** A comparator is set, so many ticks from now. */
  private timer(hart: number): void {
    const { a, random } = this;
    const ticks = random.pick([0, 1, 2, 3, 9, 40, 300, 5000]);
    a.li(t0, MTIME);
    a.op('ld', { rd: t2, rs1: t0 });
    a.li(t1, ticks);
    a.op('add', { rd: t2, rs1: t2, rs2: t1 });
    if (random.chance(0.6)) a.csrw(CSR.stimecmp, t2);
    else {
      a.li(t0, CLINT + 0x4000 + 8 * (random.chance(0.9) ? hart : random.below(this.recipe.harts)));
      a.op('sd', { rs1: t0, rs2: t2 });
    }
  }

  private step(hart: number): void {
    const { a, random, recipe } = this;
    const mine = NAMES.filter((name) => this.owned(hart, name));
    const what = random.below(100);
    if (what < 25 && mine.length > 0) return this.request(random.pick(mine));
    if (what < 37) return this.timer(hart);
    if (what < 47) {
      if (random.chance(0.8)) this.timer(hart);
      a.op('wfi');
      return this.clock();
    }
    if (what < 52) return this.store('sw', CLINT + 4 * random.below(recipe.harts), random.chance(0.8) ? 1 : 0);
    if (what < 57) return this.csr(CSR.mie, random.pick([0x8aan, 0x888n, 0x880n, 0x8a8n, 0x800n, 0x80n, 0x20n]));
    if (what < 62) {
      a.op(random.chance(0.7) ? 'csrrsi' : 'csrrci', { csr: CSR.mstatus, imm: 8 });
      return;
    }
    if (what < 66) return this.load('lbu', uart.base + random.pick([0, 2, 5, 5, 6]));
    if (what < 70) return this.store('sb', uart.base + random.pick([0, 0, 1, 2, 4]), random.pick([0, 1, 3, 0x61]));
    if (what < 74) {
      // The alarm, some time from now.
      this.load('lw', rtc.base);
      a.li(t1, random.pick([0, 200, 3000, 100_000]));
      a.op('add', { rd: t2, rs1: t2, rs2: t1 });
      a.li(t0, rtc.base + 8);
      a.op('sw', { rs1: t0, rs2: t2 });
      return;
    }
    if (what < 78) {
      const context = plic.base + 0x20_0000 + 0x1000 * random.below(2 * recipe.harts);
      if (random.chance(0.4)) return this.store('sw', context, random.pick([0, 0, 1]));
      if (random.chance(0.5)) return this.load('lw', context + 4);
      const enable = plic.base + 0x2000 + 0x80 * 2 * hart;
      return this.store('sw', enable, random.pick([0xffe, 0xffe, 0x400, 0]));
    }
    if (what < 82)
      return this.load('lw', this.register(random.pick(NAMES), random.pick([0x60, 0x70, 0xfc, 0x44, 0x100])));
    if (what < 84 && mine.length > 0) return this.begin(random.pick(mine));
    if (what < 86) {
      a.op('pause');
      return;
    }
    if (what < 90) {
      const address = this.address(8);
      a.li(t0, address);
      a.op('lr.d', { rd: t1, rs1: t0 });
      if (random.chance(0.4)) this.clock();
      a.li(t0, address);
      a.op('sc.d', { rd: t2, rs1: t0, rs2: s10 });
      return this.add(t2);
    }
    if (what < 93) {
      const again = a.newLabel();
      a.li(t1, random.between(2, 60));
      a.label(again);
      this.clock();
      a.op('addi', { rd: t1, rs1: t1, imm: -1 });
      a.branch('bne', t1, 0, again);
      return;
    }
    if (what < 96) return this.load('ld', random.chance(0.5) ? this.queue('disk', 0) + USED : this.address(8));
    a.csrr(t2, random.pick([CSR.mip, CSR.sip, CSR.stimecmp]));
    this.add(t2);
  }

  private clock(): void {
    const { a, random } = this;
    a.csrr(t2, random.pick([CSR.cycle, CSR.time, CSR.instret, CSR.mcycle, CSR.mip]));
    this.add(t2);
  }

  /** Has s8, s9 and the sum. An exception is left behind its instruction; `again` is the timer's period, or 0. */
  private handler(hart: number, again: number): void {
    const { a } = this;
    const [software, timer, other, external, back] = [1, 2, 3, 4, 5].map(() => a.newLabel()) as [
      string,
      string,
      string,
      string,
      string,
    ];
    a.csrw(CSR.mscratch, s11);
    a.csrr(s8, CSR.mcause);
    this.add(s8);
    a.csrr(s9, CSR.mcycle);
    this.add(s9);
    a.branch('blt', s8, 0, other);
    a.csrr(s8, CSR.mepc);
    a.op('addi', { rd: s8, rs1: s8, imm: 4 });
    a.csrw(CSR.mepc, s8);
    a.jump(0, back);
    a.label(other);
    a.op('andi', { rd: s8, rs1: s8, imm: 15 });
    a.li(s9, 3);
    a.branch('beq', s8, s9, software);
    a.li(s9, 7);
    a.branch('beq', s8, s9, timer);
    a.li(s9, 11);
    a.branch('beq', s8, s9, external);
    // Those of the supervisor.
    a.li(s8, -1);
    a.csrw(CSR.stimecmp, s8);
    a.li(s8, 2);
    a.op('csrrc', { csr: CSR.mip, rs1: s8 });
    a.jump(0, back);
    a.label(software);
    a.li(s8, CLINT + 4 * hart);
    a.op('sw', { rs1: s8, rs2: 0 });
    a.jump(0, back);
    a.label(timer);
    a.li(s8, MTIME);
    a.op('ld', { rd: s9, rs1: s8 });
    a.op('addi', { rd: s9, rs1: s9, imm: again });
    if (again === 0) a.li(s9, -1);
    a.li(s8, CLINT + 0x4000 + 8 * hart);
    a.op('sd', { rs1: s8, rs2: s9 });
    a.jump(0, back);
    a.label(external);
    this.external(hart, back);
    a.label(back);
    a.csrr(s11, CSR.mscratch);
    a.op('mret');
  }

  private external(hart: number, back: string): void {
    const { a } = this;
    const claim = plic.base + 0x20_0000 + 0x1000 * 2 * hart + 4;
    const [serial, clock, complete] = [1, 2, 3].map(() => a.newLabel()) as [string, string, string];
    a.li(s8, claim);
    a.op('lw', { rd: s9, rs1: s8 });
    this.add(s9);
    a.branch('beq', s9, 0, back);
    a.li(s8, uart.irq);
    a.branch('beq', s9, s8, serial);
    a.li(s8, rtc.irq);
    a.branch('beq', s9, s8, clock);
    // A virtio device: acknowledge what it says.
    a.op('slli', { rd: s11, rs1: s9, imm: 12 });
    a.li(s8, virtio.base - virtio.stride * virtio.irq);
    a.op('add', { rd: s8, rs1: s8, rs2: s11 });
    a.op('lw', { rd: s11, rs1: s8, imm: 0x60 });
    a.op('sw', { rs1: s8, rs2: s11, imm: 0x64 });
    a.jump(0, complete);
    a.label(serial);
    a.li(s8, uart.base);
    a.op('lbu', { rd: s11, rs1: s8, imm: 2 });
    a.op('lbu', { rd: s11, rs1: s8, imm: 0 });
    a.op('add', { rd: s10, rs1: s10, rs2: s11 });
    a.jump(0, complete);
    a.label(clock);
    a.li(s8, rtc.base);
    a.op('sw', { rs1: s8, rs2: 0, imm: 0x1c });
    a.label(complete);
    a.li(s8, claim);
    a.op('sw', { rs1: s8, rs2: s9 });
  }
}

/**
 * A program for each hart that reads and writes registers at random: every CSR by number, those that there are and those that there are
 * not, and every window of the devices at every size. What it reads adds up in s0, time stamps between. It never ends, and an exception
 * goes on behind its instruction; an interrupt turns interrupts off, until the next write of `mie`.
 */

import { PLATFORM } from '../boot/device-tree.ts';
import { csrNames } from '../isa/csr-names.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from './assembler.ts';
import { CSR } from './csr.ts';
import type { Random } from './random.ts';

const [t0, t1, t2, s0] = [5, 6, 7, 8] as const;
/** What writes of them do would end the program. */
const KEPT = /^(mtvec|pmp.*)$/;
/** Where queues and buffers are said to be. */
const BUFFERS = RAM_BASE + 0x10_0000;

export function registerProgram(random: Random, accesses: number): Uint8Array {
  const a = new Assembler(RAM_BASE);
  const names = [...csrNames];
  a.la(t0, 'handler');
  a.csrw(CSR.mtvec, t0);
  a.li(t0, 0x808);
  a.op('csrrs', { csr: CSR.mstatus, rs1: t0 });
  a.label('again');
  for (let n = 0; n < accesses; n++) {
    if (random.chance(0.5)) {
      const [number, name] = random.chance(0.9) ? random.pick(names) : [random.below(4096), ''];
      a.li(t1, random.pick([0n, -1n, 2n, 0xaan, random.u64(), BigInt(BUFFERS)]));
      const writes = name !== '' && !KEPT.test(name) && random.chance(0.6);
      if (writes) a.op(random.pick(['csrrw', 'csrrs', 'csrrc']), { rd: t2, csr: number, rs1: t1 });
      else a.csrr(t2, number);
    } else device(a, random);
    a.op('add', { rd: s0, rs1: s0, rs2: t2 });
    if (random.chance(0.3)) a.csrr(t2, random.pick([CSR.cycle, CSR.time, CSR.instret]));
  }
  a.jump(0, 'again');
  a.org((a.here + 3n) & ~3n);
  a.label('handler');
  a.csrr(t0, CSR.mcause);
  a.branch('blt', t0, 0, 'interrupt');
  a.csrr(t0, CSR.mepc);
  a.op('addi', { rd: t0, rs1: t0, imm: 4 });
  a.csrw(CSR.mepc, t0);
  a.op('mret');
  a.label('interrupt');
  a.csrw(CSR.mie, 0);
  a.op('mret');
  return a.bytes();
}

/** An access to a device's window, at an offset that means something or at any. */
function device(a: Assembler, random: Random): void {
  const { rtc, clint, plic, uart, virtio, test } = PLATFORM;
  const slot = virtio.base + random.below(virtio.slots) * virtio.stride;
  const address = random.pick([
    () => rtc.base + 4 * random.below(12),
    () => clint.base + random.pick([0, 4, 0x4000, 0x4004, 0x4008, 0xbff8, 0xbffc, random.below(clint.size)]),
    () =>
      plic.base +
      random.pick([
        4 * random.below(128),
        0x1000,
        0x2000 + 0x80 * random.below(4),
        0x20_0000 + 0x1000 * random.below(4) + 4 * random.below(2),
      ]),
    () => uart.base + random.below(8),
    () => slot + random.pick([4 * random.below(64), 0x100 + random.below(0x40)]),
    () => slot + random.pick([0x30, 0x38, 0x44, 0x50, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4]),
    // Commands that the finisher does not know.
    () => test.base,
  ])();
  a.li(t0, address);
  const value = random.pick([0, 1, 2, 3, 4, 7, 8, 0xf, random.u32(), BUFFERS + random.below(0x1000)]);
  a.li(t1, address === test.base ? random.below(0x1000) : value);
  const name = random.pick(['sw', 'sw', 'sw', 'sb', 'sh', 'sd', 'lw', 'lw', 'lbu', 'ld', 'amoadd.w']);
  a.op(name, { rd: t2, rs1: t0, rs2: t1 });
}

/**
 * A kernel image whose harts come and go over the monitor's SBI: hart 0 starts the others, they work, wait, suspend themselves and stop;
 * then all of them are away and hart 0 sleeps. Waits are storms of `wfi` behind short timers and of interrupts between harts. Each hart
 * adds up what it reads of the time, so a machine that lost a nanosecond somewhere ends in another state.
 */

import { buildImage } from '../boot/testing.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from './assembler.ts';
import { CSR } from './csr.ts';

const BASE = RAM_BASE + 0x20_0000;
/** 4 KiB a hart: sums of what it has read. */
const PAGES = BASE + 0x10_0000;
const [t0, t1, t2, s0, s1, a0, a1, a2, a6, a7, s2, s3] = [5, 6, 7, 8, 9, 10, 11, 12, 16, 17, 18, 19] as const;
const HSM = { extension: 0x48534d, start: 0, stop: 1, status: 2, suspend: 3, STOPPED: 1 } as const;
const IPI = 0x735049;
const RESET = 0x53525354;
/** Begin again at an address, instead of returning. */
const NON_RETENTIVE = 0x8000_0000;

export interface HotplugRecipe {
  readonly harts: number;
  /** How often the others come and go; then the power is turned off. */
  readonly rounds: number;
  /** Turns of a loop between two waits. */
  readonly work: number;
}

export function hotplugProgram({ harts, rounds, work }: HotplugRecipe): Uint8Array {
  const a = new Assembler(BASE);
  const sbi = (extension: number, call: number) => {
    a.li(a7, extension);
    a.li(a6, call);
    a.op('ecall');
  };
  /** Adds the time, in steps and in ticks, to the hart's sum. */
  const clock = () => {
    for (const csr of [CSR.cycle, CSR.time, CSR.instret]) {
      a.csrr(t0, csr);
      a.op('add', { rd: s1, rs1: s1, rs2: t0 });
      a.op('slli', { rd: t0, rs1: s1, imm: 5 });
      a.op('xor', { rd: s1, rs1: s1, rs2: t0 });
    }
  };
  const wait = (ticks: number) => {
    a.csrr(t0, CSR.time);
    a.li(t1, ticks);
    a.op('add', { rd: t0, rs1: t0, rs2: t1 });
    a.csrw(CSR.stimecmp, t0);
    a.op('wfi');
    a.op('csrrci', { csr: CSR.sip, imm: 2 });
    clock();
  };
  const storm = (waits: number) => {
    const again = a.newLabel();
    const spin = a.newLabel();
    a.li(s3, waits);
    a.label(again);
    a.li(t2, work);
    a.label(spin);
    a.op('addi', { rd: t2, rs1: t2, imm: -1 });
    a.branch('bne', t2, 0, spin);
    wait(1);
    wait(37);
    a.op('addi', { rd: s3, rs1: s3, imm: -1 });
    a.branch('bne', s3, 0, again);
  };
  /** s2: the page of the hart whose number is in a0. */
  const findPage = () => {
    a.op('slli', { rd: t0, rs1: a0, imm: 12 });
    a.li(s2, PAGES);
    a.op('add', { rd: s2, rs1: s2, rs2: t0 });
    a.op('ld', { rd: s1, rs1: s2, imm: 0 });
    a.li(t0, 0x22);
    a.csrw(CSR.sie, t0);
  };

  // A kernel image has its header here.
  a.jump(0, 'entry');
  a.org(BASE + 64);
  a.label('entry');
  a.li(a0, 0);
  findPage();
  a.li(s0, rounds);
  a.label('round');
  for (let hart = 1; hart < harts; hart++) {
    a.li(a0, hart);
    a.la(a1, 'worker');
    a.li(a2, 0);
    sbi(HSM.extension, HSM.start);
  }
  storm(3);
  a.label('others');
  for (let hart = 1; hart < harts; hart++) {
    const gone = a.newLabel();
    a.li(a0, hart);
    sbi(HSM.extension, HSM.status);
    a.li(t0, HSM.STOPPED);
    a.branch('beq', a1, t0, gone);
    wait(11);
    a.jump(0, 'others');
    a.label(gone);
  }
  // A long gap, with nobody else there.
  wait(100_000);
  a.op('sd', { rs1: s2, rs2: s1, imm: 0 });
  a.op('addi', { rd: s0, rs1: s0, imm: -1 });
  a.branch('bne', s0, 0, 'round');
  a.li(a0, 0);
  a.li(a1, 0);
  sbi(RESET, 0);
  a.label('end');
  a.jump(0, 'end');

  a.label('worker');
  findPage();
  clock();
  storm(2);
  a.li(a0, (1 << harts) - 1);
  a.li(a1, 0);
  sbi(IPI, 0);
  wait(3);
  a.li(a0, 0);
  sbi(HSM.extension, HSM.suspend);
  clock();
  a.op('sd', { rs1: s2, rs2: s1, imm: 0 });
  // Wakes up at another place, with nothing but its number and what it gave.
  a.csrr(t0, CSR.time);
  a.op('addi', { rd: t0, rs1: t0, imm: 29 });
  a.csrw(CSR.stimecmp, t0);
  a.li(a0, NON_RETENTIVE);
  a.la(a1, 'resumed');
  a.li(a2, 0);
  sbi(HSM.extension, HSM.suspend);
  a.jump(0, 'end');
  a.label('resumed');
  findPage();
  clock();
  a.op('sd', { rs1: s2, rs2: s1, imm: 0 });
  sbi(HSM.extension, HSM.stop);
  a.jump(0, 'end');

  const code = a.bytes();
  const image = buildImage(0x20_0000, { textOffset: 0x20_0000n });
  image.set(code.subarray(64), 64);
  image.set(code.subarray(0, 4), 0);
  return image;
}

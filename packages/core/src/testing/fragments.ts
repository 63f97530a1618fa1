/** Pieces of code that bare-metal programs share. */

import { PLATFORM } from '../boot/device-tree.ts';
import type { Assembler } from './assembler.ts';
import { CSR } from './csr.ts';

export const CLINT = PLATFORM.clint.base;
/** What the test finisher takes for a good end. */
const PASS = 0x5555;

/** Turns the power off; t0 and t1 are lost. */
export function powerOff(a: Assembler): void {
  a.li(5, PLATFORM.test.base);
  a.li(6, PASS);
  a.op('sw', { rs1: 5, rs2: 6 });
}

/** Ends the program; t0 and t1 are lost. */
export function finish(a: Assembler): void {
  powerOff(a);
  const forever = a.newLabel();
  a.label(forever);
  a.jump(0, forever);
}

/** Begins a program: every hart but the first sleeps; t0 is lost. */
export function start(a: Assembler): void {
  const go = a.newLabel();
  a.csrr(5, CSR.mhartid);
  a.branch('beq', 5, 0, go);
  const forever = a.newLabel();
  a.label(forever);
  a.op('wfi');
  a.jump(0, forever);
  a.label(go);
}

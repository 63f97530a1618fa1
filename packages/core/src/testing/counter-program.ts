/**
 * A program in which every page begins with an instruction that tells the time: at its first byte, or two bytes before, so that it lies
 * across the two pages. What all of them told adds up in s0. With `paged` it runs in S-mode under page tables without accessed flags,
 * which the walks set and which it clears each time around.
 */

import { PLATFORM } from '../boot/device-tree.ts';
import { MENVCFG, MSTATUS } from '../hart/state.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { Assembler } from './assembler.ts';
import { CSR } from './csr.ts';
import { CLINT } from './fragments.ts';
import { PTE, pte } from './page-tables.ts';

/** What tells the time. */
export const COUNTERS = ['cycle', 'time', 'instret', 'mtime', 'rtc'] as const;
export type Counter = (typeof COUNTERS)[number];

const PAGES = 24;
const FIRST = RAM_BASE + 0x1000;
const TABLES = RAM_BASE + 0x10_0000;
const DEVICES = 0x4000_0000;
const MTIME = 0xbff8;
const [t0, s0, s1, t1] = [5, 8, 9, 6] as const;

export function counterProgram({ counter, paged }: { counter: Counter; paged: boolean }): Uint8Array {
  const a = new Assembler(RAM_BASE);
  const device = counter === 'mtime' ? CLINT + (MTIME & ~4095) : PLATFORM.rtc.base;
  const read = () => {
    if (counter === 'mtime') a.op('ld', { rd: t0, rs1: s1, imm: 0 });
    else if (counter === 'rtc') a.op('lw', { rd: t0, rs1: s1, imm: 0 });
    else a.csrr(t0, CSR[counter]);
  };
  const add = () => a.op('add', { rd: s0, rs1: s0, rs2: t0 });

  a.li(s1, (paged ? DEVICES : device) + (counter === 'mtime' ? MTIME & 4095 : 0));
  if (paged) {
    for (const [csr, value] of [
      [CSR.pmpaddr0, -1n],
      [CSR.pmpcfg0, 0x1fn],
      [CSR.menvcfg, MENVCFG.ADUE],
      [CSR.mcounteren, 7n],
      [CSR.mstatus, MSTATUS.MPP & (1n << 11n)],
      [CSR.satp, (8n << 60n) | BigInt(TABLES / 4096)],
    ] as const) {
      a.li(t0, value);
      a.csrw(csr, t0);
    }
    a.la(t0, 'page0');
    a.csrw(CSR.mepc, t0);
    a.li(t0, 0);
    a.op('mret');
  } else a.jump(0, 'page0');

  for (let page = 0; page < PAGES; page++) {
    const start = FIRST + page * 4096;
    // Every other page begins with the second half of an instruction.
    if (page % 2 === 0) {
      a.org(start);
      a.label(`page${page}`);
      read();
    }
    add();
    if (page === PAGES - 1) break;
    if (page % 2 === 1) a.jump(0, `page${page + 1}`);
    else {
      a.jump(0, `end${page}`);
      a.org(start + 4090);
      a.label(`end${page}`);
      a.op('addi', { rd: s0, rs1: s0, imm: 1 });
      read();
    }
  }
  if (paged) {
    a.li(t1, TABLES + 0x2000);
    for (let page = 0; page < PAGES; page++) {
      a.li(t0, leaf(FIRST + page * 4096));
      a.op('sd', { rs1: t1, rs2: t0, imm: 8 * (1 + page) });
    }
  }
  a.jump(0, 'page0');
  if (!paged) return a.bytes();

  // The root; below it the tables of RAM, and that of one device.
  const root = new Map([
    [RAM_BASE >>> 30, pte(TABLES + 0x1000, PTE.V)],
    [DEVICES >>> 30, pte(TABLES + 0x3000, PTE.V)],
  ]);
  const last = new Map(Array.from({ length: 512 }, (_, page) => [page, leaf(RAM_BASE + page * 4096)] as const));
  last.set(TABLES / 4096 + 2 - RAM_BASE / 4096, pte(TABLES + 0x2000, PTE.V | PTE.R | PTE.W | PTE.A | PTE.D));
  const tables = [
    root,
    new Map([[0, pte(TABLES + 0x2000, PTE.V)]]),
    last,
    new Map([[0, pte(TABLES + 0x4000, PTE.V)]]),
    new Map([[0, pte(device, PTE.V | PTE.R | PTE.W)]]),
  ];
  a.org(TABLES);
  for (const table of tables) for (let at = 0; at < 512; at++) a.double(table.get(at) ?? 0n);
  return a.bytes();
}

/** A page of code that has not been walked to. */
const leaf = (physical: number) => pte(physical, PTE.V | PTE.R | PTE.X);

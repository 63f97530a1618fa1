// `npm run bench -- traps`: instructions that leave the straight line, one row each, against QEMU.
//
// Each row is a bare-metal program (programs/traps.S) that does one thing in a loop: a trap and the way back, a `pause`, a delay,
// a fence, a CSR, an access to a device, a call of the firmware. What is timed is the loop, between two markers on the serial
// port; an eighth of it has run before. The unit is nanoseconds of the host for one turn. Of a delay that is the whole delay, so
// a machine whose time is its own may need less than the delay says.
//
// Arguments name the groups or rows to run; without any it is all.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Engine, Machine, Pool } from '../packages/core/src/index.ts';
import { alternate, findPeer, findQemu, quick, Report, Watched } from './harness.ts';
import { CROSS_COMPILER, ROOT, Scratch } from './lib/guest.ts';

const REPS = 3;
const SOURCE = join(ROOT, 'bench', 'programs', 'traps.S');
const LIMIT_S = 60;

interface RowProgram {
  readonly group: string;
  /** Assembly: the loop's instructions, and those before it. */
  readonly body: string;
  readonly setup?: string;
  /** Turns, in thousands. */
  readonly thousands: number;
  readonly mode?: 'U' | 'S';
  /** Traps go to S-mode. */
  readonly delegated?: boolean;
  readonly handler?: 'back';
  readonly paged?: boolean;
  /** Physical memory protection takes a region away, as a firmware's. */
  readonly guarded?: boolean;
  readonly sbi?: boolean;
}

const PAUSE = '.word 0x0100000f';
const delay = (ticks: number, within: string) =>
  `rdtime t0; 9: ${within}; rdtime t1; sub t1, t1, t0; li t2, ${ticks}; bltu t1, t2, 9b`;
const call = (extension: number, fn: number) => `li a7, ${extension}; li a6, ${fn}; ecall`;
const at = (address: number) => `li s4, ${address}`;

/** A region taken away by physical memory protection, as a firmware takes its own. */
const GUARDED = { guarded: true, thousands: 400 } as const;

const trap = (body: string, rest: Partial<RowProgram> = {}): RowProgram => ({
  group: 'traps',
  body,
  thousands: 1600,
  ...rest,
});
const wait = (body: string, thousands: number, setup?: string): RowProgram => ({
  group: 'waits',
  body,
  thousands,
  ...(setup && { setup }),
});
const csr = (body: string, rest: Partial<RowProgram> = {}): RowProgram => ({
  group: 'csrs',
  body,
  thousands: 10_000,
  ...rest,
});
const order = (body: string, rest: Partial<RowProgram> = {}): RowProgram => ({
  group: 'memory',
  body,
  thousands: 60_000,
  ...rest,
});
const device = (address: number, body: string): RowProgram => ({
  group: 'devices',
  body,
  thousands: 2000,
  setup: at(address),
});
const firmware = (body: string): RowProgram => ({ group: 'sbi', body, thousands: 600, mode: 'S', sbi: true });

const PAGED = { mode: 'S', paged: true } as const;
const ACROSS = { setup: 'li t0, 4092; add s4, s2, t0' };

const ROWS: Readonly<Record<string, RowProgram>> = {
  'fetch page fault, S to S': trap('jalr ra, (s1)', { ...PAGED, delegated: true, handler: 'back' }),
  'fetch page fault, S to M': trap('jalr ra, (s1)', { ...PAGED, handler: 'back' }),
  'fetch access fault, M to M': trap('jalr ra, (s1)', { handler: 'back' }),
  'illegal instruction, M to M': trap('.word 0xffffffff'),
  'illegal instruction, U to S': trap('.word 0xffffffff', { mode: 'U', paged: true, delegated: true }),
  'no such CSR, S to M': trap('csrr t1, 0x5c0', { mode: 'S' }),
  'ecall, U to S': trap('ecall', { mode: 'U', paged: true, delegated: true }),
  'ecall, U to M': trap('ecall', { mode: 'U' }),
  'ecall, S to M': trap('ecall', PAGED),
  'ecall, M to M': trap('ecall'),
  'ebreak, U to S': trap('ebreak', { mode: 'U', paged: true, delegated: true }),
  'load page fault, S to S': trap('ld t1, (s1)', { ...PAGED, delegated: true }),
  'store page fault, S to S': trap('sd t1, (s1)', { ...PAGED, delegated: true }),
  'load access fault, M to M': trap('ld t1, (s1)'),
  'misaligned amo, M to M': trap('amoadd.d t1, x0, (s4)', { setup: 'addi s4, s2, 1' }),

  'fetch page fault, S to S, guarded': trap('jalr ra, (s1)', {
    ...PAGED,
    delegated: true,
    handler: 'back',
    ...GUARDED,
  }),
  'illegal instruction, U to S, guarded': trap('.word 0xffffffff', {
    mode: 'U',
    paged: true,
    delegated: true,
    ...GUARDED,
  }),
  'ecall, S to M, guarded': trap('ecall', { ...PAGED, ...GUARDED }),
  'load page fault, S to S, guarded': trap('ld t1, (s1)', { ...PAGED, delegated: true, ...GUARDED }),

  pause: wait(PAUSE, 4000),
  'delay of 1 us with pause': wait(delay(10, PAUSE), 100),
  'delay of 100 us with pause': wait(delay(1000, PAUSE), 10),
  'delay of 1 us without': wait(delay(10, 'nop'), 100),
  'wfi, pending': wait('wfi', 4000, 'li t0, 8; csrw mie, t0; li t0, 0x2000000; li t1, 1; sw t1, (t0)'),
  'wfi, timer of 1 us': wait(
    'ld t0, (s5); addi t0, t0, 10; sd t0, (s4); wfi',
    20,
    'li t0, 128; csrw mie, t0; li s4, 0x2004000; li s5, 0x200bff8',
  ),

  time: csr('rdtime t1'),
  cycle: csr('rdcycle t1'),
  instret: csr('rdinstret t1'),
  'mscratch, swapped': csr('csrrw t1, mscratch, t1'),
  'mstatus, read': csr('csrr t1, mstatus'),
  'mstatus, a bit set and cleared': csr('csrsi mstatus, 2; csrci mstatus, 2'),
  'sstatus, SUM set and cleared': csr('csrs sstatus, s5; csrc sstatus, s5', {
    ...PAGED,
    setup: 'li s5, 1 << 18',
    thousands: 400,
  }),
  'sie, written': csr('csrw sie, x0', PAGED),
  'satp, written': csr('csrw satp, t1', { ...PAGED, setup: 'csrr t1, satp' }),
  'fflags, written': csr('csrw fflags, x0'),
  'mip, read': csr('csrr t1, mip'),
  'pmpaddr15, read': csr('csrr t1, pmpaddr15'),

  fence: order('fence'),
  'fence.i': order('fence.i', { thousands: 4000 }),
  'sfence.vma': order('sfence.vma', { ...PAGED, thousands: 300 }),
  'sfence.vma, one page': order('sfence.vma s2, x0', { ...PAGED, thousands: 300 }),
  'misaligned load in a page': order('ld t1, 1(s2)', PAGED),
  'misaligned store in a page': order('sd t1, 1(s2)', PAGED),
  'load across pages': order('ld t1, (s4)', { ...PAGED, ...ACROSS, thousands: 10_000 }),
  'store across pages': order('sd t1, (s4)', { ...PAGED, ...ACROSS, thousands: 10_000 }),
  'amoadd.d': order('amoadd.d t1, t2, (s2)', PAGED),
  'lr.d, sc.d': order('lr.d t1, (s2); sc.d t2, t1, (s2)', { ...PAGED, thousands: 20_000 }),

  'CLINT mtime': device(0x200bff8, 'ld t1, (s4)'),
  'CLINT msip, set and cleared': device(0x2000000, 'sw s4, (s4); sw x0, (s4)'),
  'UART line status': device(0x10000000, 'lbu t1, 5(s4)'),
  'PLIC claim': device(0xc200004, 'lw t1, (s4)'),
  'virtio register': device(0x10001000, 'lw t1, (s4)'),

  'SBI base': firmware(call(0x10, 0)),
  'SBI timer': firmware(`li a0, -1; ${call(0x54494d45, 0)}`),
  'SBI IPI to itself': firmware(`li a0, 1; li a1, 0; ${call(0x735049, 0)}; csrw sip, x0`),
  'SBI hart status': firmware(`li a0, 0; ${call(0x48534d, 2)}`),
};

/** Builds the program of a row; its path. */
function build(compiler: string, scratch: Scratch, row: RowProgram, turns: number, n: number): string {
  const path = join(scratch.folder, `row-${n}`);
  const { body, setup = '', mode = 'M', delegated, handler = 'skip', paged, guarded, sbi } = row;
  const defines = {
    BODY: body,
    SETUP: setup,
    COUNT: turns,
    MODE: { U: 0, S: 1, M: 3 }[mode],
    TO: delegated ? 1 : 3,
    HANDLER: handler,
    ...(paged && { PAGED: 1 }),
    ...(guarded && { GUARDED: 1 }),
    ...(sbi && { SBI: 1 }),
  };
  const args = Object.entries(defines).map(([name, value]) => `-D${name}=${value}`);
  const start = sbi ? '0x80200000' : '0x80000000';
  const link = ['-nostdlib', '-static', '-no-pie', `-Wl,-Ttext=${start},-N,--build-id=none`];
  const { status, stderr } = spawnSync(
    compiler,
    ['-march=rv64gc_zicsr_zifencei', '-mabi=lp64d', '-mcmodel=medany', ...args, ...link, '-o', path, SOURCE],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`cannot build ${body}: ${stderr}`);
  return path;
}

/** Nanoseconds of a turn in Braid. */
function inBraid(engine: Engine, program: string, { sbi }: RowProgram, turns: number): number {
  const image = readFileSync(program);
  const times: number[] = [];
  const machine: Machine = new Machine(
    engine,
    { boot: sbi ? { kind: 'linux', kernel: image } : { kind: 'bare', image }, memory: 64 << 20, harts: 1, seed: 1n },
    { console: (bytes) => times.push(...Array.from(bytes, () => performance.now())) },
  );
  machine.input({ kind: 'skip-idle', on: true });
  const from = performance.now();
  while (!machine.exit) {
    // What it prints comes at the end of a run, so these are short.
    const { reason } = machine.run(50_000);
    if (reason === 'idle') throw new Error(`the program waits for ever: ${program}`);
    if (performance.now() - from > LIMIT_S * 1000) throw new Error(`the program does not end: ${program}`);
  }
  machine.free();
  return ((times[1]! - times[0]!) * 1e6) / turns;
}

/** Nanoseconds of a turn in QEMU. */
async function inQemu(qemu: string, program: string, { sbi }: RowProgram, turns: number): Promise<number> {
  const machine = ['-M', 'virt', '-m', '64M', '-display', 'none', '-monitor', 'none', '-serial', 'stdio'];
  await using child = new Watched(qemu, [...machine, ...(sbi ? [] : ['-bios', 'none']), '-kernel', program]);
  const from = await child.until(/<(?=>?$)/, LIMIT_S);
  const to = await child.until('>', LIMIT_S);
  return ((to - from) * 1e9) / turns;
}

async function main(): Promise<void> {
  const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
  const known = [...new Set(Object.entries(ROWS).flatMap(([name, { group }]) => [group, name]))];
  const unknown = named.find((name) => !known.includes(name));
  if (unknown) throw new Error(`There is no group or row "${unknown}": they are ${known.join(', ')}.`);
  const compiler = findPeer(CROSS_COMPILER);
  if (!compiler) throw new Error('This benchmark compiles its programs: apt-get install gcc-riscv64-linux-gnu');

  using scratch = new Scratch();
  using report = new Report('traps', 'Nanoseconds of the host for one turn of a loop with that in it.');
  const qemu = findQemu();
  const engine = new Engine(new Pool());
  for (const [n, [name, row]] of Object.entries(ROWS).entries()) {
    if (named.length > 0 && !named.includes(row.group) && !named.includes(name)) continue;
    const turns = Math.ceil((row.thousands * 1000) / (quick ? 4 : 1));
    const program = build(compiler, scratch, row, turns, n);
    const results = await alternate(REPS, {
      braid: () => inBraid(engine, program, row, turns),
      qemu: qemu ? () => inQemu(qemu, program, row, turns) : undefined,
    });
    report.add({ name, unit: 'ns', better: 'lower', results, group: row.group });
  }
  report.print();
}

await main();

/**
 * Programs with a branch whose condition a slow function computes, both of random code over two pages of data, for M-mode and for user
 * mode. What they hold at the end they store.
 */

import { buildElf } from '../boot/testing.ts';
import { type Decision, decisionOf } from '../branch/decision.ts';
import { functionAt } from '../branch/flow.ts';
import { type BranchPoint, branchPointAt } from '../branch/points.ts';
import { ProgramCode } from '../branch/program-code.ts';
import type { Engine } from '../engine/engine.ts';
import { PRIVILEGE } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';
import { Assembler } from './assembler.ts';
import { plainMachine } from './bare.ts';
import { ALL, PTE, pte } from './page-tables.ts';
import { Random } from './random.ts';

const PHYSICAL = 0x8000_0000;
const TABLES = 0x8080_0000;
const HANDLER = 0x80f0_0000;
const [RA, SP, GP, TP, T0, T1, T2, S0, S1, A0, A1] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] as const;
const [S10, S11] = [26, 27] as const;
/** What random code computes with. */
const POOL = [T0, T1, T2, S0, S1, A0, A1, 12, 13, 18, 19, 28];
const DATA_BYTES = 96;

export type Special = 'device' | 'counter' | 'trap' | 'flags';

export interface DecisionRecipe {
  readonly seed: number;
  readonly user: boolean;
  /** Also operations that no clone may make. */
  readonly specials: boolean;
  /** How often random code goes to the data that both sides use. */
  readonly sharing: number;
}

export interface DecisionProgram {
  readonly decision: Decision;
  readonly point: BranchPoint;
  /** Of the ways: taken, not taken. */
  readonly specials: readonly [ReadonlySet<Special>, ReadonlySet<Special>];
  readonly stack: { readonly bottom: bigint; readonly top: bigint };
  /** Guest-physical pages of data, and of the stack. */
  readonly pages: readonly number[];
  machine(engine: Engine): Machine;
  /** Where an address of the program is. */
  physical(address: bigint): number;
  /** Whether the program is at its end. */
  ended(machine: Machine): boolean;
}

export function decisionProgram({ seed, user, specials, sharing }: DecisionRecipe): DecisionProgram {
  const random = new Random(seed);
  // Code, then two pages of data, then the stack: as far apart as in a process.
  const base = user ? 0x1_0000n : BigInt(PHYSICAL);
  const data = base + 0x4000n;
  const stack = { bottom: base + 0x8000n, top: base + 0xa000n };
  const a = new Assembler(base);
  const made: Record<'taken' | 'notTaken' | 'slow', Set<Special>> = {
    taken: new Set(),
    notTaken: new Set(),
    slow: new Set(),
  };
  let labels = 0;

  const operation = (where: 'taken' | 'notTaken' | 'slow', own: bigint): void => {
    const reg = () => random.pick(POOL);
    const shared = random.chance(sharing);
    const at = () => (shared ? random.below(DATA_BYTES) : Number(own) + random.below(DATA_BYTES));
    const dataBase = () => random.pick([S10, S11]);
    switch (random.below(14)) {
      case 0:
      case 1:
      case 2:
        return a.op(random.pick(['add', 'sub', 'xor', 'mul', 'sltu', 'srl']), { rd: reg(), rs1: reg(), rs2: reg() });
      case 3:
        return a.op('addi', { rd: reg(), rs1: reg(), imm: random.below(2048) - 1024 });
      case 4:
      case 5:
        return a.op(random.pick(['lb', 'lhu', 'lw', 'ld']), { rd: reg(), rs1: dataBase(), imm: at() });
      case 6:
      case 7:
      case 8:
        return a.op(random.pick(['sb', 'sh', 'sw', 'sd']), { rs2: reg(), rs1: dataBase(), imm: at() });
      case 9: {
        // Across the end of the first page.
        const imm = -random.below(12);
        return random.chance(0.5)
          ? a.op('sd', { rs2: reg(), rs1: S11, imm })
          : a.op('ld', { rd: reg(), rs1: S11, imm });
      }
      case 10: {
        a.op('addi', { rd: 30, rs1: dataBase(), imm: at() & ~7 });
        return a.op(random.pick(['amoadd.d', 'amoswap.d', 'amoor.d']), { rd: reg(), rs1: 30, rs2: reg() });
      }
      case 11:
        return a.jump(RA, random.pick(['leaf', 'deep']));
      case 12: {
        const label = `loop${labels++}`;
        a.li(31, 1 + random.below(6));
        a.label(label);
        a.op('sw', { rs2: 31, rs1: dataBase(), imm: at() });
        a.op('add', { rd: S1, rs1: S1, rs2: 31 });
        a.op('addi', { rd: 31, rs1: 31, imm: -1 });
        return a.branch('bne', 31, 0, label);
      }
      default: {
        a.op('fcvt.d.l', { rd: 2, rs1: reg(), rm: 7 });
        a.op('fadd.d', { rd: where === 'slow' ? 10 : random.pick([1, 8, 9, 10]), rs1: 2, rs2: 9, rm: 7 });
        if (!specials || !random.chance(0.5)) return;
        const special = random.pick(['device', 'counter', 'trap', 'flags'] as const);
        if (special === 'device' && user) return;
        made[where].add(special);
        if (special === 'counter') return a.csrr(T0, 0xc00 + random.below(3));
        if (special === 'flags') return a.csrr(T0, 1);
        if (special === 'trap') return a.op('ecall');
        a.li(30, 0x1000_0005);
        return a.op('lbu', { rd: T0, rs1: 30 });
      }
    }
  };
  const code = (where: 'taken' | 'notTaken' | 'slow', length: number, own: bigint) => {
    // As a compiler would have it: nothing is expected in registers that a call may change.
    if (where !== 'slow' && random.chance(0.8)) {
      for (const register of [T0, T1, T2, A0, A1, 12, 13, 28]) a.op('addi', { rd: register, rs1: S1, imm: register });
    }
    for (let n = 0; n < length; n++) operation(where, own);
  };

  // The program.
  a.li(SP, stack.top);
  a.li(GP, 0x77);
  a.li(TP, 0x55);
  a.li(S10, data);
  a.li(S11, data + 0x1000n);
  for (const register of POOL) a.li(register, random.u64());
  for (let n = 0; n < 3; n++) a.jump(RA, 'leaf');
  a.jump(RA, 'f');
  // What is live now.
  for (const [n, register] of [S0, S1, 18, 19, A0].entries())
    a.op('sd', { rs2: register, rs1: S10, imm: 1024 + 8 * n });
  a.op('fsd', { rs2: 9, rs1: S10, imm: 1096 });
  a.label('end');
  a.jump(0, 'end');

  a.label('f');
  a.op('addi', { rd: SP, rs1: SP, imm: -48 });
  a.op('sd', { rs2: RA, rs1: SP, imm: 40 });
  a.op('sd', { rs2: S0, rs1: SP, imm: 32 });
  a.op('sd', { rs2: S1, rs1: SP, imm: 24 });
  for (const n of [18, 19]) a.op('sd', { rs2: n, rs1: SP, imm: 8 * (n - 18) });
  const early = random.chance(0.3);
  a.label('fork');
  a.jump(RA, 'slow');
  // Now and then the result is kept, so that the way may depend on it.
  if (early) a.op('addi', { rd: S0, rs1: A0, imm: 3 });
  a.op('andi', { rd: 15, rs1: A0, imm: 1 });
  a.label('decision');
  const ways = random.chance(0.8) ? 'both' : 'one';
  a.branch('bne', 15, 0, ways === 'both' ? 'taken' : 'join');
  code('notTaken', 1 + random.below(14), 256n);
  if (ways === 'both') {
    a.jump(0, 'join');
    a.label('taken');
    code('taken', 1 + random.below(14), 384n);
  }
  a.label('join');
  a.op('add', { rd: A0, rs1: S0, rs2: S1 });
  const kept = random.chance(0.5);
  if (kept) for (const n of [18, 19]) a.op('sd', { rs2: n, rs1: S10, imm: 1200 + n * 8 });
  for (const n of [18, 19]) a.op('ld', { rd: n, rs1: SP, imm: 8 * (n - 18) });
  a.op('ld', { rd: S1, rs1: SP, imm: 24 });
  a.op('ld', { rd: S0, rs1: SP, imm: 32 });
  a.op('ld', { rd: RA, rs1: SP, imm: 40 });
  a.op('addi', { rd: SP, rs1: SP, imm: 48 });
  a.op('jalr', { rs1: RA });

  a.label('slow');
  a.op('addi', { rd: SP, rs1: SP, imm: -64 });
  for (const [n, register] of [RA, S0, S1, 18, 19].entries()) a.op('sd', { rs2: register, rs1: SP, imm: 8 * n });
  code('slow', random.below(8), 512n);
  a.op('ld', { rd: A0, rs1: S10, imm: 16 });
  a.op('xori', { rd: A0, rs1: A0, imm: random.below(2) });
  for (const [n, register] of [RA, S0, S1, 18, 19].entries()) a.op('ld', { rd: register, rs1: SP, imm: 8 * n });
  a.op('addi', { rd: SP, rs1: SP, imm: 64 });
  a.op('jalr', { rs1: RA });

  a.label('leaf');
  a.op('xor', { rd: A0, rs1: A1, rs2: T0 });
  a.op('sd', { rs2: A0, rs1: SP, imm: -16 });
  a.op('jalr', { rs1: RA });
  a.label('deep');
  a.op('addi', { rd: SP, rs1: SP, imm: -32 });
  a.op('sd', { rs2: RA, rs1: SP, imm: 24 });
  a.op('sd', { rs2: S0, rs1: SP, imm: 16 });
  a.op('addi', { rd: S0, rs1: A1, imm: 5 });
  a.jump(RA, 'leaf');
  a.op('add', { rd: A1, rs1: A0, rs2: S0 });
  a.op('ld', { rd: S0, rs1: SP, imm: 16 });
  a.op('ld', { rd: RA, rs1: SP, imm: 24 });
  a.op('addi', { rd: SP, rs1: SP, imm: 32 });
  a.op('jalr', { rs1: RA });

  const image = a.bytes();
  const end = a.addressOf('end');
  const elf = buildElf({ segments: [{ address: base, data: image }], symbols: { f: a.addressOf('f') } });
  const point = branchPointAt(elf, {
    decisionPoint: a.addressOf('decision'),
    forkPoint: a.addressOf('fork'),
    function: { address: a.addressOf('f') },
  });
  const program = new ProgramCode(elf);
  const decision = decisionOf(functionAt(program, { address: a.addressOf('f') }), point, program);
  const content = new Uint8Array(0x2000);
  const words = new DataView(content.buffer);
  for (let n = 0; n < content.length; n += 4) words.setUint32(n, random.u32(), true);
  const offset = Number(base) - (user ? 0 : PHYSICAL);
  const place = (address: bigint) => PHYSICAL + offset + Number(address - base);

  const machine = (engine: Engine): Machine => {
    const machine = plainMachine(image, {}, engine);
    const record = machine.hartSet.record(0);
    record.set('mstatus', 1n << 13n);
    machine.ram.write(HANDLER, Uint8Array.of(0x6f, 0, 0, 0));
    record.set('mtvec', BigInt(HANDLER));
    machine.ram.write(place(data), content);
    if (!user) return machine;
    machine.ram.write(place(base), image);
    const write = (address: number, value: bigint) => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value, true);
      machine.ram.write(address, bytes);
    };
    write(TABLES, pte(TABLES + 0x1000, 1n));
    write(TABLES + 0x1000, pte(TABLES + 0x2000, 1n));
    // Accessed and dirty are the hardware's to set.
    const flags = (ALL | PTE.U) & ~(PTE.A | PTE.D);
    for (let page = 0; page < 16; page++) {
      const virtual = base + BigInt(page * 4096);
      write(TABLES + 0x2000 + 8 * Number(virtual >> 12n), pte(place(virtual), flags));
    }
    const hart = machine.hartSet.record(0);
    hart.set('pmpaddr0', (1n << 54n) - 1n);
    hart.set('pmpcfg0', 0x1fn);
    hart.set('satp', (8n << 60n) | BigInt(TABLES >>> 12));
    hart.set('mcounteren', 7n);
    hart.set('scounteren', 7n);
    hart.set('privilege', BigInt(PRIVILEGE.user));
    hart.set('pc', base);
    return machine;
  };
  return {
    decision,
    point,
    specials: [made.taken, made.notTaken],
    stack,
    pages: [4, 5, 8, 9].map((n) => Math.floor((place(base) - PHYSICAL) / 4096) + n),
    machine,
    physical: place,
    ended: (machine) => {
      const pc = machine.hartSet.get(0, 'pc');
      return pc === end || pc === BigInt(HANDLER);
    },
  };
}

/**
 * Random privileged sequences in M-, S- and U-mode. Each case starts from random registers and CSRs, runs some snippets
 * (CSR accesses, traps, returns, loads and stores that fault, jumps to nowhere), and leaves a record: every trap that was
 * taken, in which mode and through which vector, and what registers and CSRs hold at the end.
 *
 * ```text
 * 8000_0000  handlers and the runner
 * 8000_8000  context: pointer to the case that runs
 * 8001_0000  cases, CASE_SIZE bytes each: code, registers, CSRs
 * 8010_0000  code of the cases
 * 8080_0000  records, RECORD_SIZE bytes each
 * ```
 *
 * Conventions in a case: x5 to x15 are random, x1 is where a failed fetch goes on, x16 points to a scratch page, x17 is 0
 * unless the case wants to end, x28 to x31 belong to the handlers. Every instruction has four bytes, so that a handler may
 * skip one that faulted without reading it. An interrupt's handler takes the enable bit away. Supervisor `ecall` is never
 * delegated, because it is the way to the end of the case.
 *
 * What the two machines may do differently is left out of what programs write; `operand` says why, register by register.
 */

import { csrName } from '../isa/csr-names.ts';
import { disassemble } from '../isa/print.ts';
import { Assembler, encode, rowOf } from './assembler.ts';
import { CSR } from './csr.ts';
import { CLINT, finish, start } from './fragments.ts';
import type { Random } from './random.ts';

const CONTEXT = 0x8000_8000;
const CASES = 0x8001_0000;
const CODE = 0x8010_0000;
const SCRATCH = 0x8000_c000;
export const RECORDS = 0x8080_0000;

const MAX_TRAPS = 14;
/** Doublewords: vector and mode, cause, epc, tval, status. */
const TRAP_WORDS = 5;
const FINAL_AT = MAX_TRAPS * TRAP_WORDS * 8 + 16;
const END = 0x77;

const REGISTERS = Array.from({ length: 11 }, (_, n) => 5 + n);

/** Set before a case, in this order; mstatus comes last, with the first privilege in MPP. */
const INITIAL = [
  CSR.mideleg,
  CSR.medeleg,
  CSR.mcounteren,
  CSR.scounteren,
  CSR.menvcfg,
  CSR.senvcfg,
  CSR.mcountinhibit,
  CSR.sscratch,
  CSR.sepc,
  CSR.scause,
  CSR.stval,
  CSR.mscratch,
  CSR.mcause,
  CSR.mtval,
  CSR.mtvec,
  CSR.stvec,
  CSR.mip,
  CSR.mie,
];

/** Looked at when a case is over, mstatus first; the vectors are the handlers' own. */
const FINAL = [
  CSR.mstatus,
  ...INITIAL.filter((csr) => csr !== CSR.mtvec && csr !== CSR.stvec),
  CSR.mepc,
  CSR.sip,
  CSR.sie,
  CSR.sstatus,
  CSR.satp,
];

const CASE_WORDS = 2 + REGISTERS.length + INITIAL.length + 1;
const CASE_SIZE = CASE_WORDS * 8;
const RECORD_WORDS = FINAL_AT / 8 + REGISTERS.length + FINAL.length;
export const RECORD_SIZE = (RECORD_WORDS * 8 + 63) & ~63;

/** Numbers that random accesses leave alone, and why. */
const DIFFERENT = new Set([
  // Debug triggers: ours has registers that say that there are none.
  ...[0x7a0, 0x7a1, 0x7a2, 0x7a3, 0x7a4, 0x7a5, 0x7a8],
  // Values and resolution of counters are the machine's own; accessibility is tested with the value thrown away.
  ...Array.from({ length: 32 }, (_, n) => 0xc00 + n),
  ...Array.from({ length: 32 }, (_, n) => 0xb00 + n),
  ...Array.from({ length: 32 }, (_, n) => 0x320 + n),
  // A register of the hypervisor extension that QEMU 7.2 has even without it.
  0x24d,
  // Identity.
  ...[0xf11, 0xf12, 0xf13, CSR.misa],
  // Physical memory protection keeps the memory that the case runs in accessible; it has a test of its own.
  ...Array.from({ length: 16 }, (_, n) => 0x3a0 + n),
  ...Array.from({ length: 64 }, (_, n) => 0x3b0 + n),
]);

/** Written by snippets of their own. */
const SPECIAL = new Set([CSR.mtvec, CSR.stvec, CSR.satp, CSR.medeleg, CSR.stimecmp, CSR.mepc]);

/** What random accesses prefer: registers that can be written. */
const KNOWN = Object.values(CSR).filter((csr) => csr < 0xc00 && !DIFFERENT.has(csr) && !SPECIAL.has(csr));

const FLOAT_STATUS = 3n << 13n;

interface Case {
  readonly privilege: 0 | 1 | 3;
  readonly code: readonly number[];
  readonly registers: readonly bigint[];
  readonly csrs: readonly bigint[];
  readonly status: bigint;
}

type Kind = 'write' | 'set' | 'clear';

/** A value to be written to a register: anything, but for bits whose treatment is the implementation's choice. */
function operand(random: Random, csr: number, kind: Kind): bigint {
  const any = random.chance(0.2) ? BigInt.asUintN(64, BigInt(random.between(-4, 31))) : random.u64() & random.u64();
  switch (csr) {
    case CSR.mstatus:
    case CSR.sstatus: {
      // MPP = 2 is reserved (never reached by setting or clearing these values); QEMU 7.2 lets UXL, MPV and GVA change.
      const mpp = random.pick(kind === 'clear' ? [0n, 3n] : [0n, 1n, 3n]);
      return (any & ((1n << 23n) - 1n) & ~(3n << 11n) & ~(3n << 9n)) | (mpp << 11n);
    }
    case CSR.menvcfg:
    case CSR.senvcfg:
      // CBIE = 2 is reserved; ADUE and PBMTE exist on one side only; only Sstc adds a bit to menvcfg.
      return (any & (csr === CSR.menvcfg ? (1n << 63n) | 0xc1n : 0xc1n)) | (random.chance(0.5) ? 0x30n : 0n);
    case CSR.mcountinhibit:
      return any & 5n;
    case CSR.mcounteren:
    case CSR.scounteren:
      return any & 0xffff_ffffn;
    case CSR.medeleg:
      return any & 0xb1ffn;
    case CSR.mideleg:
    case CSR.sie:
    case CSR.sip:
    case CSR.mie:
    case CSR.mip:
      return csr === CSR.mideleg ? any & 0x222n : (any | random.u64()) & 0xaaan;
    case CSR.mepc:
    case CSR.sepc:
      // Bit 0 is always clear; QEMU 7.2 keeps it.
      return any & ~1n;
    case CSR.mtvec:
    case CSR.stvec:
      // Modes 2 and 3 are reserved: kept out by one, the whole write ignored by the other.
      return any & ~2n;
    case CSR.frm:
      return any & 7n;
    default:
      return any;
  }
}

class CaseMaker {
  private readonly random: Random;
  private readonly code: number[] = [];
  private privilege: 0 | 1 | 3 = 3;
  private waitTraps = false;
  /** Some mret or sret may have left the first privilege. */
  private returned = false;
  /** The one interrupt that may be enabled: of several that are pending, QEMU 7.2 takes the one with the lowest number. */
  private interrupt = 0n;

  constructor(random: Random) {
    this.random = random;
  }

  private op(name: string, fields: Parameters<typeof encode>[1] = {}): void {
    this.code.push(encode(rowOf(name), fields));
  }

  private li(rd: number, value: bigint | number): void {
    const a = new Assembler(0n);
    a.li(rd, value);
    const bytes = a.bytes();
    this.code.push(...new Uint32Array(bytes.buffer, 0, bytes.length / 4));
  }

  private register(): number {
    return this.random.pick(REGISTERS);
  }

  make(): Case {
    const { random } = this;
    this.privilege = random.pick([0, 1, 1, 3, 3]);
    this.interrupt = 1n << BigInt(random.pick([1, 3, 5, 7, 9, 11]));
    const initial = (csr: number): bigint => {
      switch (csr) {
        case CSR.medeleg:
          return operand(random, csr, 'write') & ~(1n << 9n);
        case CSR.mie:
        case CSR.mip:
          return random.chance(0.6) ? 0n : this.operand(csr, 'write');
        case CSR.mtvec:
        case CSR.stvec:
          return BigInt(random.below(2));
        default:
          return operand(random, csr, 'write');
      }
    };
    const csrs = INITIAL.map(initial);
    // MIE stays clear until mret moves MPIE there.
    let status = (operand(random, CSR.mstatus, 'write') & ~(3n << 11n) & ~8n) | (BigInt(this.privilege) << 11n);
    if (random.chance(0.3)) status |= FLOAT_STATUS;
    if (this.privilege !== 3) status &= ~(1n << 17n);
    this.waitTraps = this.privilege === 0 || (this.privilege === 1 && (status & (1n << 21n)) !== 0n);
    for (let n = random.between(4, 14); n > 0; n--) this.snippet();
    this.li(17, END);
    this.op('ecall');
    return { privilege: this.privilege, code: this.code, registers: REGISTERS.map(() => random.u64()), csrs, status };
  }

  private csrOp(csr: number, kind: Kind, given?: bigint): void {
    let value = given;
    const { random } = this;
    const rd = random.chance(0.2) ? 0 : this.register();
    const stem = { write: 'csrrw', set: 'csrrs', clear: 'csrrc' }[kind];
    if (value === undefined) {
      this.op(`${stem}i`, { rd, csr, imm: random.below(32) & this.immediateMask(csr) });
      return;
    }
    // QEMU 7.2 does not count it as a write when no bit is to be set or cleared, so FS stays as it was.
    if (csr <= CSR.fcsr && kind !== 'write') value |= 1n;
    const rs1 = this.register();
    this.li(rs1, value);
    this.op(stem, { rd, csr, rs1 });
  }

  /** As `operand`, for the five bits of an immediate. */
  private immediateMask(csr: number): number {
    switch (csr) {
      case CSR.menvcfg:
      case CSR.senvcfg:
        return 0x0c;
      case CSR.sepc:
        return 0x1e;
      case CSR.mideleg:
      case CSR.mip:
      case CSR.sip:
        return 0x0a;
      case CSR.mie:
      case CSR.sie:
        return Number(this.interrupt) & 0x0a;
      default:
        return 0x1d;
    }
  }

  private operand(csr: number, kind: Kind): bigint {
    const value = operand(this.random, csr, kind);
    // Ours clears a STIP that software had set when the comparator takes it over, QEMU 7.2 at the next comparison.
    if (csr === CSR.menvcfg) return value & ~(1n << 63n);
    return csr === CSR.mie || csr === CSR.sie ? value & this.interrupt : value;
  }

  private randomCsr(): void {
    const { random } = this;
    const csr = random.chance(0.9) ? random.pick(KNOWN) : random.below(4096);
    if (DIFFERENT.has(csr)) return;
    if (SPECIAL.has(csr)) {
      this.op('csrrs', { rd: this.register(), csr });
      return;
    }
    const kind = random.pick(['write', 'set', 'clear'] as const);
    const how = random.below(5);
    const status = csr === CSR.mstatus || csr === CSR.sstatus;
    if (how === 0) this.op('csrrs', { rd: this.register(), csr });
    else if (how === 1 && !status) this.csrOp(csr, kind);
    else this.csrOp(csr, kind, this.operand(csr, kind));
  }

  /** Writes a register that the case depends on, looks, and puts it right again before anything can trap. */
  private special(): void {
    const { random } = this;
    const rd = this.register();
    switch (random.below(7)) {
      case 6: {
        // Entries that never matter, because the first one covers everything: nothing that the grain of 4 KiB shows in.
        const config = Array.from({ length: 8 }, () => random.pick([0, 1, 3, 4, 5, 7]) | random.pick([0, 8]));
        const packed = config.reduce((sum, byte, i) => sum | (BigInt(byte) << BigInt(8 * i)), 0n);
        const address = random.chance(0.7);
        // QEMU 7.2 keeps bits above the 54 of an address.
        this.li(30, address ? (random.u64() >> 10n) & ~1023n : packed);
        this.op('csrrw', { rd, csr: address ? CSR.pmpaddr0 + random.between(1, 15) : CSR.pmpcfg2, rs1: 30 });
        return;
      }
      case 0:
      case 1: {
        const csr = random.pick([CSR.mtvec, CSR.stvec]);
        // A trap in between would go astray, so only where the register is accessible.
        if (this.privilege !== 3) return this.op('csrrw', { rd, csr: CSR.mtvec, rs1: this.register() });
        this.li(30, operand(random, csr, 'write'));
        this.op('csrrw', { rd: 29, csr, rs1: 30 });
        this.op('csrrw', { rd, csr, rs1: 29 });
        return;
      }
      case 2: {
        // Not the modes that would take the ground away, nor Sv57, which QEMU has.
        const mode = random.pick(this.privilege === 3 && !this.returned ? [0, 1, 7, 8, 9, 11, 15] : [0, 1, 7, 11, 15]);
        this.li(30, (BigInt(mode) << 60n) | (random.u64() >> 4n));
        this.op('csrrw', { rd: this.register(), csr: CSR.satp, rs1: 30 });
        this.op('csrrs', { rd, csr: CSR.satp });
        this.op('csrrw', { csr: CSR.satp });
        return;
      }
      case 3:
        this.li(30, operand(random, CSR.medeleg, 'write'));
        this.op('csrrw', { rd: this.register(), csr: CSR.medeleg, rs1: 30 });
        this.li(30, 1 << 9);
        this.op('csrrc', { rd, csr: CSR.medeleg, rs1: 30 });
        return;
      case 4:
        // Never due: the time at which it would be is the machine's own. QEMU 7.2 clears STIP even without STCE.
        if (this.privilege === 3) {
          this.li(30, 0x20);
          this.op('csrrc', { csr: CSR.mip, rs1: 30 });
        }
        this.li(30, (1n << 63n) | random.u64());
        this.op('csrrw', { rd, csr: CSR.stimecmp, rs1: 30 });
        return;
      default: {
        // Whether a counter may be read, not what it says.
        const csr = 0xc00 + (random.chance(0.6) ? random.below(3) : random.below(32));
        this.op('csrrs', { rd, csr });
        this.op('addi', { rd });
      }
    }
  }

  private snippet(): void {
    const { random } = this;
    const kind = random.below(100);
    const rd = this.register();
    if (kind < 45) return this.randomCsr();
    if (kind < 58) return this.special();
    if (kind < 62) return this.op('ecall');
    if (kind < 64) return this.op('ebreak');
    if (kind < 67) {
      this.code.push(
        random.pick([0xffffffff, 0x0000000b | (random.u32() & ~0x7f), 0xc0001073, 0x00200073, 0x7b200073]) >>> 0,
      );
      return;
    }
    if (kind < 76) {
      // The way back is the next instruction, whichever mode it leads to.
      const machine = this.privilege === 3 ? random.chance(0.6) : random.chance(0.2);
      if (this.privilege === 3) {
        // QEMU 7.2 leaves MPRV set when mret or sret leaves M-mode.
        this.li(30, 1 << 17);
        this.op('csrrc', { csr: CSR.mstatus, rs1: 30 });
      }
      this.returned = true;
      this.op('auipc', { rd });
      this.op('addi', { rd, rs1: rd, imm: 16 });
      this.op('csrrw', { csr: machine ? CSR.mepc : CSR.sepc, rs1: rd });
      this.op(machine ? 'mret' : 'sret');
      return;
    }
    if (kind < 78) {
      if (this.waitTraps) this.op('wfi');
      return;
    }
    if (kind < 81) return this.op('sfence.vma', { rs1: random.pick([0, 5]), rs2: random.pick([0, 6]) });
    if (kind < 85) {
      const row = random.pick(['fadd.s', 'fmv.w.x', 'fmv.x.w', 'fsgnj.d', 'fcvt.d.w', 'flw', 'fsd']);
      return this.op(row, { rd: 5 + random.below(11), rs1: 16, rs2: 6, rm: random.pick([0, 7, 5]), imm: 8 });
    }
    if (kind < 92) return this.access();
    if (kind < 95) return this.wildFetch();
    this.op('addi', { rd, rs1: this.register(), imm: random.between(-2048, 2047) });
  }

  /** Nobody answers at these physical addresses. */
  private hole(): bigint {
    return this.random.pick([0x20n, 0x0800_0000n, 0x8200_0000n, 0xffff_f000n, 1n << 40n, (1n << 55n) + 64n]);
  }

  private access(): void {
    const { random } = this;
    const pointer = this.register();
    if (random.chance(0.15)) {
      // Misaligned in memory; QEMU 7.2 has its own idea of lr and sc.
      this.op('addi', { rd: pointer, rs1: 16, imm: random.pick([1, 2, 3, 6, 61, 66]) });
      this.op(random.pick(['amoadd.w', 'amoor.d', 'amomax.d']), { rd: this.register(), rs1: pointer, rs2: 5 });
      return;
    }
    const hole = random.chance(0.5);
    if (hole) this.li(pointer, this.hole());
    else this.op('addi', { rd: pointer, rs1: 16, imm: 8 * random.below(64) });
    // QEMU 7.2 says that an AMO to nowhere is a failed load.
    const atomics = hole ? [] : ['amoadd.d', 'amoswap.w'];
    const name = random.pick(['ld', 'lw', 'lbu', 'sd', 'sb', 'sh', 'lr.d', 'fld', ...atomics]);
    this.op(name, { rd: this.register(), rs1: pointer, rs2: this.register() });
  }

  private wildFetch(): void {
    this.op('auipc', { rd: 1 });
    const at = this.code.length;
    this.op('addi');
    this.li(30, this.hole());
    this.op('jalr', { rs1: 30 });
    this.code[at] = encode(rowOf('addi'), { rd: 1, rs1: 1, imm: 4 * (this.code.length - at + 1) });
  }
}

export class PrivilegedProgram {
  readonly cases: readonly Case[];

  constructor(random: Random, count: number) {
    this.cases = Array.from({ length: count }, () => new CaseMaker(random).make());
  }

  image(): Uint8Array {
    const a = new Assembler(0x8000_0000);
    this.runtime(a);
    a.org(CONTEXT);
    a.double(BigInt(CASES));
    a.double(BigInt(RECORDS));
    a.org(CASES);
    let at = CODE;
    for (const { code, registers, csrs, status } of this.cases) {
      a.double(BigInt(at));
      a.double(0n);
      for (const value of [...registers, ...csrs, status]) a.double(value);
      at += code.length * 4;
    }
    a.org(CODE);
    for (const { code } of this.cases) for (const bits of code) a.word(bits);
    return a.bytes();
  }

  private runtime(a: Assembler): void {
    start(a);
    // All of memory for everybody, in the first entry; timers that are never due.
    a.li(5, -1);
    a.csrw(CSR.pmpaddr0, 5);
    a.li(5, 0x1f);
    a.csrw(CSR.pmpcfg0, 5);
    a.li(5, CLINT + 0x4000);
    a.li(6, -1);
    a.op('sd', { rs1: 5, rs2: 6 });
    a.jump(0, 'case');

    this.handler(a, 'machine');
    this.handler(a, 'supervisor');

    a.label('case');
    a.li(30, CONTEXT);
    a.op('ld', { rd: 27, rs1: 30 });
    a.op('ld', { rd: 31, rs1: 30, imm: 8 });
    a.op('ld', { rd: 29, rs1: 27 });
    const done = a.newLabel();
    a.branch('bne', 29, 0, done);
    finish(a);
    a.label(done);
    a.csrw(CSR.mie, 0);
    a.csrw(CSR.mideleg, 0);
    a.csrw(CSR.satp, 0);
    a.li(28, 1n << 63n);
    a.csrw(CSR.menvcfg, 28);
    a.li(28, -1);
    a.csrw(CSR.stimecmp, 28);
    a.csrw(CSR.mepc, 29);
    INITIAL.forEach((csr, i) => {
      a.op('ld', { rd: 28, rs1: 27, imm: 16 + 8 * (REGISTERS.length + i) });
      if (csr === CSR.mtvec || csr === CSR.stvec) {
        a.la(29, csr === CSR.mtvec ? 'machine' : 'supervisor');
        a.op('or', { rd: 28, rs1: 28, rs2: 29 });
      }
      a.csrw(csr, 28);
    });
    a.li(16, SCRATCH);
    for (let n = 0; n < 16; n++) a.op('sd', { rs1: 16, imm: 8 * n });
    a.op('addi', { rd: 17 });
    a.li(28, FLOAT_STATUS);
    a.op('csrrs', { csr: CSR.mstatus, rs1: 28 });
    a.csrw(CSR.fcsr, 0);
    for (let n = 0; n < 32; n++) a.op('fmv.d.x', { rd: n });
    a.op('ld', { rd: 28, rs1: 27, imm: CASE_SIZE - 8 });
    for (const [i, rd] of REGISTERS.entries()) a.op('ld', { rd, rs1: 27, imm: 16 + 8 * i });
    a.csrw(CSR.mstatus, 28);
    a.op('mret');

    a.label('end');
    a.csrr(28, CSR.mstatus);
    a.csrw(CSR.mie, 0);
    a.li(30, CONTEXT);
    a.op('ld', { rd: 29, rs1: 30, imm: 8 });
    a.op('sub', { rd: 31, rs1: 31, rs2: 29 });
    a.op('addi', { rd: 29, rs1: 29, imm: FINAL_AT });
    a.op('sd', { rs1: 29, rs2: 31, imm: -8 });
    for (const [i, rs2] of REGISTERS.entries()) a.op('sd', { rs1: 29, rs2, imm: 8 * i });
    FINAL.forEach((csr, i) => {
      if (i > 0) a.csrr(28, csr);
      a.op('sd', { rs1: 29, rs2: 28, imm: 8 * (REGISTERS.length + i) });
    });
    a.op('ld', { rd: 27, rs1: 30 });
    a.op('addi', { rd: 27, rs1: 27, imm: CASE_SIZE });
    a.op('sd', { rs1: 30, rs2: 27 });
    a.li(28, RECORD_SIZE - FINAL_AT);
    a.op('add', { rd: 29, rs1: 29, rs2: 28 });
    a.op('sd', { rs1: 30, rs2: 29, imm: 8 });
    // Traps of what follows are nobody's.
    a.li(28, 0x1_ffff);
    a.op('csrrc', { csr: CSR.mstatus, rs1: 28 });
    a.li(28, 1 << 17);
    a.op('csrrc', { csr: CSR.mstatus, rs1: 28 });
    a.jump(0, 'case');
  }

  /** A table of vectors, each leaving its address in x28, then what they share. */
  private handler(a: Assembler, mode: 'machine' | 'supervisor'): void {
    const machine = mode === 'machine';
    const csr = machine
      ? { status: CSR.mstatus, cause: CSR.mcause, epc: CSR.mepc, tval: CSR.mtval, enable: CSR.mie }
      : { status: CSR.sstatus, cause: CSR.scause, epc: CSR.sepc, tval: CSR.stval, enable: CSR.sie };
    while (a.length % 64 !== 0) a.word(0);
    a.label(mode);
    for (let n = 0; n < 16; n++) a.jump(28, `${mode}Common`);
    a.label(`${mode}Common`);
    a.csrr(30, csr.cause);
    if (machine) {
      // The end of the case: an ecall with the magic number in x17.
      a.op('addi', { rd: 29, rs1: 17, imm: -END });
      a.branch('bne', 29, 0, 'machineRecord');
      a.op('addi', { rd: 29, rs1: 30, imm: -8 });
      a.branch('beq', 29, 0, 'end');
      a.op('addi', { rd: 29, rs1: 30, imm: -9 });
      a.branch('beq', 29, 0, 'end');
      a.op('addi', { rd: 29, rs1: 30, imm: -11 });
      a.branch('beq', 29, 0, 'end');
    } else {
      a.op('addi', { rd: 29, rs1: 17, imm: -END });
      a.branch('bne', 29, 0, 'supervisorRecord');
      a.op('addi', { rd: 29, rs1: 30, imm: -8 });
      a.branch('bne', 29, 0, 'supervisorRecord');
      a.op('ecall');
    }
    a.label(`${mode}Record`);
    a.op('sd', { rs1: 31, rs2: 28 });
    a.op('sd', { rs1: 31, rs2: 30, imm: 8 });
    a.csrr(29, csr.epc);
    a.op('sd', { rs1: 31, rs2: 29, imm: 16 });
    // A breakpoint leaves its address in tval, or 0 in QEMU 7.2: either is right.
    a.op('addi', { rd: 28, rs1: 30, imm: -3 });
    a.branch('bne', 28, 0, `${mode}Value`);
    a.csrw(csr.tval, 0);
    a.label(`${mode}Value`);
    a.csrr(28, csr.tval);
    a.op('sd', { rs1: 31, rs2: 28, imm: 24 });
    a.csrr(28, csr.status);
    a.op('sd', { rs1: 31, rs2: 28, imm: 32 });
    a.op('addi', { rd: 31, rs1: 31, imm: TRAP_WORDS * 8 });
    // Too many: the case is over.
    a.li(28, CONTEXT);
    a.op('ld', { rd: 28, rs1: 28, imm: 8 });
    a.op('sub', { rd: 28, rs1: 31, rs2: 28 });
    a.op('addi', { rd: 28, rs1: 28, imm: -(MAX_TRAPS - 1) * TRAP_WORDS * 8 });
    a.branch('blt', 28, 0, `${mode}GoOn`);
    if (machine) {
      a.jump(0, 'end');
    } else {
      a.li(17, END);
      a.op('ecall');
    }
    a.label(`${mode}GoOn`);
    a.branch('blt', 30, 0, `${mode}Interrupt`);
    // A failed fetch goes on at x1, everything else behind the instruction.
    a.op('addi', { rd: 28, rs1: 30, imm: -1 });
    a.branch('beq', 28, 0, `${mode}Fetch`);
    a.op('addi', { rd: 29, rs1: 29, imm: 4 });
    a.csrw(csr.epc, 29);
    a.op(machine ? 'mret' : 'sret');
    a.label(`${mode}Fetch`);
    a.csrw(csr.epc, 1);
    a.op(machine ? 'mret' : 'sret');
    a.label(`${mode}Interrupt`);
    a.li(28, 1);
    a.op('sll', { rd: 28, rs1: 28, rs2: 30 });
    a.op('csrrc', { csr: csr.enable, rs1: 28 });
    a.op(machine ? 'mret' : 'sret');
  }

  /** How many traps a case's record holds. */
  traps(record: BigUint64Array): bigint {
    return record[FINAL_AT / 8 - 1]! / BigInt(TRAP_WORDS * 8);
  }

  /** A case and the two records of it, in words. */
  describe(index: number, ours: BigUint64Array, theirs: BigUint64Array): string {
    const { privilege, code, csrs, status } = this.cases[index]!;
    const hex = (value: bigint | number) => value.toString(16);
    let address = CODE;
    for (const other of this.cases.slice(0, index)) address += other.code.length * 4;
    const lines = [`case ${index}, privilege ${privilege}, mstatus ${hex(status)}`];
    lines.push(INITIAL.map((csr, i) => `${csrName(csr)}=${hex(csrs[i]!)}`).join(' '));
    lines.push(...code.map((bits, i) => `  ${hex(address + 4 * i)}  ${disassemble(bits)}`));
    const fields = ['vector', 'cause', 'epc', 'tval', 'status'];
    const nameOf = (i: number): string => {
      if (i < FINAL_AT / 8) return `trap ${Math.floor(i / TRAP_WORDS)} ${fields[i % TRAP_WORDS]}`;
      const n = i - FINAL_AT / 8;
      return n < REGISTERS.length ? `x${REGISTERS[n]}` : csrName(FINAL[n - REGISTERS.length] ?? 0);
    };
    for (let i = 0; i < RECORD_WORDS; i++) {
      if (ours[i] !== theirs[i]) lines.push(`${nameOf(i)}: braid ${hex(ours[i]!)}, qemu ${hex(theirs[i]!)}`);
    }
    return lines.join('\n');
  }
}

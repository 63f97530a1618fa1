/**
 * The C extension (unprivileged specification, chapter "C"): each 16-bit instruction of RV64C is an abbreviation of a
 * 32-bit one, so it has no row of its own.
 *
 * Zcb is not implemented: its encodings are reserved.
 */

const NOP = 0x00000013;

/** The field `bits[high:low]` of the halfword. */
const field = (bits: number, high: number, low: number): number => (bits >>> low) & ((1 << (high - low + 1)) - 1);

const typeI = (opcode: number, funct3: number, rd: number, rs1: number, imm: number): number =>
  ((imm << 20) | (rs1 << 15) | (funct3 << 12) | (rd << 7) | opcode) >>> 0;

const typeR = (opcode: number, funct3: number, funct7: number, rd: number, rs1: number, rs2: number): number =>
  ((funct7 << 25) | (rs2 << 20) | (rs1 << 15) | (funct3 << 12) | (rd << 7) | opcode) >>> 0;

const typeS = (opcode: number, funct3: number, rs1: number, rs2: number, imm: number): number =>
  (((imm >> 5) << 25) | (rs2 << 20) | (rs1 << 15) | (funct3 << 12) | ((imm & 31) << 7) | opcode) >>> 0;

const typeB = (funct3: number, rs1: number, imm: number): number => {
  const high = (((imm >> 12) & 1) << 6) | ((imm >> 5) & 63);
  const low = (imm & 0x1e) | ((imm >> 11) & 1);
  return ((high << 25) | (rs1 << 15) | (funct3 << 12) | (low << 7) | 0x63) >>> 0;
};

/** `jal x0, imm`. */
const jump = (imm: number): number => {
  const low = (imm & 0x7fe) << 20;
  return ((((imm >> 20) & 1) << 31) | low | (((imm >> 11) & 1) << 20) | (imm & 0xff000) | 0x6f) >>> 0;
};

const LOAD = 0x03;
const LOAD_FP = 0x07;
const OP_IMM = 0x13;
const OP_IMM_32 = 0x1b;
const STORE = 0x23;
const STORE_FP = 0x27;
const OP = 0x33;
const LUI = 0x37;
const OP_32 = 0x3b;
const JALR = 0x67;
const EBREAK = 0x00100073;

/** imm[5|4:0] of the CI format. */
const immCI = (c: number): number => ((field(c, 12, 12) ? -1 : 0) << 5) | field(c, 6, 2);
const uimmLW = (c: number): number => (field(c, 12, 10) << 3) | (field(c, 6, 6) << 2) | (field(c, 5, 5) << 6);
const uimmLD = (c: number): number => (field(c, 12, 10) << 3) | (field(c, 6, 5) << 6);
const uimmLWSP = (c: number): number => (field(c, 12, 12) << 5) | (field(c, 6, 4) << 2) | (field(c, 3, 2) << 6);
const uimmLDSP = (c: number): number => (field(c, 12, 12) << 5) | (field(c, 6, 5) << 3) | (field(c, 4, 2) << 6);
const uimmSWSP = (c: number): number => (field(c, 12, 9) << 2) | (field(c, 8, 7) << 6);
const uimmSDSP = (c: number): number => (field(c, 12, 10) << 3) | (field(c, 9, 7) << 6);

const immJ = (c: number): number =>
  ((field(c, 12, 12) ? -1 : 0) << 11) |
  (field(c, 11, 11) << 4) |
  (field(c, 10, 9) << 8) |
  (field(c, 8, 8) << 10) |
  (field(c, 7, 7) << 6) |
  (field(c, 6, 6) << 7) |
  (field(c, 5, 3) << 1) |
  (field(c, 2, 2) << 5);

const immB = (c: number): number =>
  ((field(c, 12, 12) ? -1 : 0) << 8) |
  (field(c, 11, 10) << 3) |
  (field(c, 6, 5) << 6) |
  (field(c, 4, 3) << 1) |
  (field(c, 2, 2) << 5);

/** Quadrant 0: loads and stores through a pointer, in the eight popular registers. */
function quadrant0(c: number): number {
  const low = 8 + field(c, 4, 2);
  const base = 8 + field(c, 9, 7);
  switch (field(c, 15, 13)) {
    case 0: {
      const imm = (field(c, 12, 11) << 4) | (field(c, 10, 7) << 6) | (field(c, 6, 6) << 2) | (field(c, 5, 5) << 3);
      return imm === 0 ? 0 : typeI(OP_IMM, 0, low, 2, imm); // c.addi4spn
    }
    case 1:
      return typeI(LOAD_FP, 3, low, base, uimmLD(c)); // c.fld
    case 2:
      return typeI(LOAD, 2, low, base, uimmLW(c)); // c.lw
    case 3:
      return typeI(LOAD, 3, low, base, uimmLD(c)); // c.ld
    case 5:
      return typeS(STORE_FP, 3, base, low, uimmLD(c)); // c.fsd
    case 6:
      return typeS(STORE, 2, base, low, uimmLW(c)); // c.sw
    case 7:
      return typeS(STORE, 3, base, low, uimmLD(c)); // c.sd
    default:
      return 0;
  }
}

/** The arithmetic part of quadrant 1, rd = rs1 in the eight popular registers. */
function arithmetic(c: number): number {
  const rd = 8 + field(c, 9, 7);
  const rs2 = 8 + field(c, 4, 2);
  const shamt = (field(c, 12, 12) << 5) | field(c, 6, 2);
  switch (field(c, 11, 10)) {
    // A shift by 0 is a HINT, but it also does what it says: nothing.
    case 0:
      return shamt === 0 ? NOP : typeI(OP_IMM, 5, rd, rd, shamt); // c.srli
    case 1:
      return shamt === 0 ? NOP : typeI(OP_IMM, 5, rd, rd, 0x400 | shamt); // c.srai
    case 2:
      return typeI(OP_IMM, 7, rd, rd, immCI(c)); // c.andi
  }
  switch ((field(c, 12, 12) << 2) | field(c, 6, 5)) {
    case 0:
      return typeR(OP, 0, 0x20, rd, rd, rs2); // c.sub
    case 1:
      return typeR(OP, 4, 0, rd, rd, rs2); // c.xor
    case 2:
      return typeR(OP, 6, 0, rd, rd, rs2); // c.or
    case 3:
      return typeR(OP, 7, 0, rd, rd, rs2); // c.and
    case 4:
      return typeR(OP_32, 0, 0x20, rd, rd, rs2); // c.subw
    case 5:
      return typeR(OP_32, 0, 0, rd, rd, rs2); // c.addw
    default:
      return 0;
  }
}

/** Quadrant 1: arithmetic with immediates, and jumps. */
function quadrant1(c: number): number {
  const rd = field(c, 11, 7);
  const imm = immCI(c);
  switch (field(c, 15, 13)) {
    case 0:
      return rd === 0 || imm === 0 ? NOP : typeI(OP_IMM, 0, rd, rd, imm); // c.addi, c.nop
    case 1:
      return rd === 0 ? 0 : typeI(OP_IMM_32, 0, rd, rd, imm); // c.addiw
    case 2:
      return rd === 0 ? NOP : typeI(OP_IMM, 0, rd, 0, imm); // c.li
    case 3: {
      if (imm === 0) return 0;
      if (rd !== 2) return rd === 0 ? NOP : ((imm << 12) | (rd << 7) | LUI) >>> 0; // c.lui
      const step =
        ((field(c, 12, 12) ? -1 : 0) << 9) |
        (field(c, 6, 6) << 4) |
        (field(c, 5, 5) << 6) |
        (field(c, 4, 3) << 7) |
        (field(c, 2, 2) << 5);
      return typeI(OP_IMM, 0, 2, 2, step); // c.addi16sp
    }
    case 4:
      return arithmetic(c);
    case 5:
      return jump(immJ(c)); // c.j
    case 6:
      return typeB(0, 8 + field(c, 9, 7), immB(c)); // c.beqz
    default:
      return typeB(1, 8 + field(c, 9, 7), immB(c)); // c.bnez
  }
}

/** c.jr, c.mv, c.ebreak, c.jalr and c.add share one code. */
function registers(c: number): number {
  const rd = field(c, 11, 7);
  const rs2 = field(c, 6, 2);
  if (field(c, 12, 12) === 0) {
    if (rs2 === 0) return rd === 0 ? 0 : typeI(JALR, 0, 0, rd, 0); // c.jr
    return rd === 0 ? NOP : typeR(OP, 0, 0, rd, 0, rs2); // c.mv
  }
  if (rs2 === 0) return rd === 0 ? EBREAK : typeI(JALR, 0, 1, rd, 0); // c.ebreak, c.jalr
  return rd === 0 ? NOP : typeR(OP, 0, 0, rd, rd, rs2); // c.add
}

/** Quadrant 2: loads and stores on the stack, and the forms with two full register fields. */
function quadrant2(c: number): number {
  const rd = field(c, 11, 7);
  const rs2 = field(c, 6, 2);
  switch (field(c, 15, 13)) {
    case 0: {
      const shamt = (field(c, 12, 12) << 5) | rs2;
      return rd === 0 || shamt === 0 ? NOP : typeI(OP_IMM, 1, rd, rd, shamt); // c.slli
    }
    case 1:
      return typeI(LOAD_FP, 3, rd, 2, uimmLDSP(c)); // c.fldsp
    case 2:
      return rd === 0 ? 0 : typeI(LOAD, 2, rd, 2, uimmLWSP(c)); // c.lwsp
    case 3:
      return rd === 0 ? 0 : typeI(LOAD, 3, rd, 2, uimmLDSP(c)); // c.ldsp
    case 4:
      return registers(c);
    case 5:
      return typeS(STORE_FP, 3, 2, rs2, uimmSDSP(c)); // c.fsdsp
    case 6:
      return typeS(STORE, 2, 2, rs2, uimmSWSP(c)); // c.swsp
    default:
      return typeS(STORE, 3, 2, rs2, uimmSDSP(c)); // c.sdsp
  }
}

/**
 * The 32-bit encoding of a 16-bit instruction: HINTs become a nop, and 0 (which is no instruction) stands for what is
 * illegal or reserved. `bits` is a halfword whose two low bits are not 11.
 */
export function expand(bits: number): number {
  switch (bits & 3) {
    case 0:
      return quadrant0(bits);
    case 1:
      return quadrant1(bits);
    case 2:
      return quadrant2(bits);
    default:
      return 0;
  }
}

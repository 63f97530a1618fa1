/**
 * Random programs over the unprivileged instructions, made so that what they compute can be compared block by block.
 *
 * A program is a number of blocks of random instructions and a small run-time system. A pass runs every block once; before
 * a block every register comes from a pool of telling values (a window into it that a linear congruential generator picks),
 * after it every register, fcsr, and the traps it took are folded into a rolling checksum, and the checksum is appended to a
 * log. The arena, which blocks load from and store to, is folded after every pass.
 *
 * ```text
 * 8000_0000  run-time system, table of blocks
 * 8000_8000  context: registers of the block that ended, generator, checksum, counters
 * 8001_0000  pool of values
 * 8002_8000  arena, 16 KiB
 * 8004_0000  blocks
 * 8080_0000  log of checksums, 8 bytes each
 * ```
 *
 * In a block x2, x8 and x9 point into the arena (x9 to an odd address before a page boundary) and are never written.
 * Branches go forward; a loop is one snippet that nobody can jump into; so every block ends. An instruction that is illegal
 * is skipped by the trap handler, which folds cause, address and value.
 */

import { decode, expand, operands, type Row, rows } from '../isa/index.ts';
import { disassemble } from '../isa/print.ts';
import { Assembler, encode, type Fields, rowOf } from './assembler.ts';
import { CSR } from './csr.ts';
import { finish, start } from './fragments.ts';
import type { Random } from './random.ts';

export const LOG = 0x8080_0000;
export const CONTEXT = 0x8000_8000;
const TABLE = 0x8000_4000;
const POOL = 0x8001_0000;
const POOL_VALUES = 8192 + 64;
const ARENA = 0x8002_8000;
const ARENA_SIZE = 0x4000;
const BLOCKS = 0x8004_0000;

/** Offsets in the context. x, f and fcsr are folded in this order. */
export const AT = {
  x: 0,
  f: 256,
  fcsr: 512,
  /** Folded causes, addresses and values of the traps of the block. */
  traps: 520,
  folded: 528,
  generator: 528,
  checksum: 536,
  log: 544,
  block: 552,
  pass: 560,
  /** Pass and block after which the program ends early. */
  lastPass: 568,
  lastBlock: 576,
  /** Instructions of blocks, by minstret; means nothing on QEMU. */
  executed: 584,
  trapCount: 592,
  /** 1: the arena is folded after every block. */
  always: 600,
  spill: 608,
} as const;

const SP = 2;
const S0 = 8;
const S1 = 9;
const FIXED: ReadonlySet<number> = new Set([SP, S0, S1]);

/** Part of a block: instructions that belong together, the last of which may jump to a later snippet. */
interface Snippet {
  readonly bits: readonly number[];
  /** A jump behind them, to the start of another snippet. */
  readonly jump?: { readonly size: 2 | 4; readonly over: number; encode(distance: number): number };
}

const sizeOf = (bits: number) => ((bits & 3) === 3 ? 4 : 2);
const snippetSize = (s: Snippet) => s.bits.reduce((sum, bits) => sum + sizeOf(bits), 0) + (s.jump?.size ?? 0);

const EXCLUDED = new Set(['ecall', 'ebreak', 'jal', 'jalr', 'ctzw']);
const plainRows = rows.filter(
  (row) =>
    !['Privileged', 'Zicond', 'Zicbom', 'Zicboz'].includes(row.extension) &&
    !['L', 'S', 'FL', 'FS', 'A', 'AL', 'B', 'CSR', 'CSRI'].includes(row.format) &&
    !EXCLUDED.has(row.name),
);
const byFormat = (...formats: string[]) => rows.filter((row) => formats.includes(row.format));
const memoryRows = byFormat('L', 'S', 'FL', 'FS');
const amoRows = byFormat('A').filter((row) => !row.name.startsWith('sc.'));
const branchRows = byFormat('B');
const csrRows = byFormat('CSR', 'CSRI');

/** The rows that programs are made of. */
export const coveredRows: readonly Row[] = [
  ...plainRows,
  ...memoryRows,
  ...branchRows,
  ...csrRows,
  ...rows.filter((row) => row.extension === 'A' || ['jal', 'jalr', 'ctzw'].includes(row.name)),
];

const writesX = (row: Row) =>
  !['S', 'FS', 'FL', 'B', 'N', 'FR', 'FRM', 'FR1M', 'FR4', 'XF', 'XFM'].includes(row.format);

class Generator {
  private readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  /** A register that may be written; `avoid` too is left alone. */
  private target(avoid = 0): number {
    for (;;) {
      const n = this.random.below(32);
      if (!FIXED.has(n) && (n === 0 || n !== avoid)) return n;
    }
  }

  /** A register that may be written and is not x0. */
  private temporary(): number {
    return this.target() || 5;
  }

  private fields(row: Row, avoid = 0): Fields {
    const { random } = this;
    const imm = random.chance(0.3) ? random.between(-8, 8) : random.u32() | 0;
    return {
      rd: writesX(row) ? this.target(avoid) : random.below(32),
      rs1: random.below(32),
      rs2: random.below(32),
      rs3: random.below(32),
      imm,
      rm: random.chance(0.5) ? 7 : random.chance(0.97) ? random.below(5) : random.between(5, 6),
    };
  }

  private plain(avoid = 0): number {
    const row = this.random.pick(plainRows);
    return encode(row, this.fields(row, avoid));
  }

  /** A halfword that neither jumps nor writes a fixed register nor leaves the arena; reserved ones are among them. */
  private compressed(avoid = 0): number {
    for (;;) {
      const bits = this.random.below(0x10000);
      if ((bits & 3) === 3) continue;
      const full = expand(bits);
      const row = full === 0 ? undefined : decode(full);
      if (!row) return bits;
      const { rd, rs1, rs2 } = operands(row, full);
      if (['B', 'J'].includes(row.format) || row.name === 'jalr' || row.name === 'ebreak') continue;
      if (['L', 'S', 'FL', 'FS'].includes(row.format) && !FIXED.has(rs1)) continue;
      if (writesX(row) && (FIXED.has(rd) || (avoid !== 0 && rd === avoid))) continue;
      if (row.format === 'S' && rs2 === rs1 && this.random.chance(0.5)) continue;
      return bits;
    }
  }

  private memory(avoid = 0): number[] {
    const { random } = this;
    const row = random.pick(memoryRows);
    const fields = this.fields(row, avoid);
    if (random.chance(0.6)) {
      fields.rs1 = random.pick([SP, S0, S1]);
      return [encode(row, fields)];
    }
    const { bits, pointer } = this.pointer(random.chance(0.5) ? 0x7f8 : 0x7ff);
    fields.rs1 = pointer;
    fields.imm = random.between(-16, 16);
    return [...bits, encode(row, fields)];
  }

  /** Makes a pointer into the arena of some register's bits. */
  private pointer(mask: number): { bits: number[]; pointer: number } {
    const pointer = this.temporary();
    const bits = [
      encode(rowOf('andi'), { rd: pointer, rs1: this.random.below(32), imm: mask }),
      encode(rowOf('add'), { rd: pointer, rs1: pointer, rs2: S0 }),
    ];
    return { bits, pointer };
  }

  private atomic(): number[] {
    const { random } = this;
    if (random.chance(0.6)) {
      const row = random.pick(amoRows);
      const { bits, pointer } = this.pointer(row.name.endsWith('.d') ? 0x7f8 : 0x7fc);
      return [...bits, encode(row, { ...this.fields(row), rs1: pointer }) | (random.below(4) << 25)];
    }
    const suffix = random.pick(['w', 'd']);
    const { bits, pointer } = this.pointer(suffix === 'd' ? 0x7f8 : 0x7fc);
    const reserve = encode(rowOf(`lr.${suffix}`), { rd: this.target(pointer), rs1: pointer });
    const between = random.chance(0.5) ? [this.plainInteger(pointer)] : [];
    // Now and then to another place than the reserved one: that fails.
    const move = random.chance(0.2) ? [encode(rowOf('xori'), { rd: pointer, rs1: pointer, imm: 8 })] : [];
    const conditional = encode(rowOf(`sc.${suffix}`), { rd: this.target(), rs1: pointer, rs2: random.below(32) });
    // Without a reservation it fails too.
    const alone = random.chance(0.2) ? [encode(rowOf(`sc.${suffix}`), { rd: this.target(), rs1: S0, rs2: 1 })] : [];
    return [...bits, reserve, ...between, ...move, conditional, ...alone];
  }

  private plainInteger(avoid: number): number {
    const row = this.random.pick(['add', 'sub', 'xor', 'sltu', 'srai']);
    return encode(rowOf(row), { ...this.fields(rowOf(row), avoid) });
  }

  /** QEMU 7.2 gives a wrong result of ctzw when the word is 0, so some bit is set first. */
  private trailingZeros(): number[] {
    const word = this.temporary();
    return [
      encode(rowOf('bseti'), { rd: word, rs1: this.random.below(32), imm: this.random.below(32) }),
      encode(rowOf('ctzw'), { rd: this.target(), rs1: word }),
    ];
  }

  private csr(): number {
    const row = this.random.pick(csrRows);
    return encode(row, { ...this.fields(row), csr: this.random.between(1, 3) });
  }

  private loop(): number[] {
    const { random } = this;
    const counter = this.temporary();
    const body: number[] = [];
    for (let n = random.between(1, 6); n > 0; n--) {
      const kind = random.below(4);
      if (kind === 0) {
        body.push(this.compressed(counter));
      } else if (kind === 1) {
        const row = random.pick(memoryRows);
        body.push(encode(row, { ...this.fields(row, counter), rs1: random.pick([SP, S0, S1]) }));
      } else {
        body.push(this.plain(counter));
      }
    }
    const size = body.reduce((sum, bits) => sum + sizeOf(bits), 0);
    return [
      encode(rowOf('addi'), { rd: counter, imm: random.between(1, 5) }),
      ...body,
      encode(rowOf('addi'), { rd: counter, rs1: counter, imm: -1 }),
      encode(rowOf('bne'), { rs1: counter, imm: -(size + 4) }),
    ];
  }

  private jump(): Snippet {
    const { random } = this;
    const over = random.below(6);
    switch (random.below(5)) {
      case 0: {
        const rd = this.target();
        return { bits: [], jump: { size: 4, over, encode: (imm) => encode(rowOf('jal'), { rd, imm }) } };
      }
      case 1: {
        const pointer = this.temporary();
        const rd = this.target();
        const bits = [encode(rowOf('auipc'), { rd: pointer })];
        const jump = {
          size: 4 as const,
          over,
          encode: (d: number) => encode(rowOf('jalr'), { rd, rs1: pointer, imm: d + 4 }),
        };
        return { bits, jump };
      }
      case 2: {
        // c.j, c.beqz, c.bnez
        const kind = random.pick([5, 6, 7]);
        const register = random.below(8);
        return {
          bits: [],
          jump: {
            size: 2,
            over,
            encode: (d) => (kind === 5 ? compressedJump(d) : compressedBranch(kind, register, d)),
          },
        };
      }
      default: {
        const row = random.pick(branchRows);
        const fields = this.fields(row);
        if (random.chance(0.2)) fields.rs2 = fields.rs1!;
        return { bits: [], jump: { size: 4, over, encode: (imm) => encode(row, { ...fields, imm }) } };
      }
    }
  }

  /** A word that is no instruction, as far as our table knows. */
  private undefinedWord(): number {
    for (;;) {
      const row = this.random.pick(rows);
      const bits = (encode(row, this.fields(row)) ^ (1 << this.random.between(12, 31))) >>> 0;
      if (!decode(bits)) return bits;
    }
  }

  private snippet(): Snippet {
    const { random } = this;
    const kind = random.below(100);
    if (kind < 44) return { bits: [this.plain()] };
    if (kind < 45) return { bits: this.trailingZeros() };
    if (kind < 62) return { bits: [this.compressed()] };
    if (kind < 77) return { bits: this.memory() };
    if (kind < 82) return { bits: this.atomic() };
    if (kind < 86) return { bits: [this.csr()] };
    if (kind < 89) return { bits: this.loop() };
    if (kind < 90) return { bits: [this.undefinedWord()] };
    return this.jump();
  }

  block(snippets: number): Snippet[] {
    return Array.from({ length: snippets }, () => this.snippet());
  }

  /** Values that instructions react to. */
  value(): bigint {
    const { random } = this;
    const single = (): bigint => {
      const exponent = random.pick([0, 1, 2, 23, 100, 126, 127, 128, 150, 158, 190, 253, 254, 255, random.below(256)]);
      const fraction = random.pick([
        0,
        1,
        0x400000,
        0x7fffff,
        0x3fffff,
        random.below(0x800000),
        random.below(0x800000),
      ]);
      return (BigInt(random.below(2)) << 31n) | (BigInt(exponent) << 23n) | BigInt(fraction);
    };
    switch (random.below(10)) {
      case 0:
        return random.u64();
      case 1:
        return BigInt.asUintN(64, BigInt(random.between(-40, 40)));
      case 2:
        return BigInt.asUintN(64, (1n << BigInt(random.below(64))) + BigInt(random.between(-1, 1)));
      case 3:
        return random.u64() >> BigInt(random.below(64));
      case 4:
        return random.pick([
          0n,
          1n << 63n,
          (1n << 63n) - 1n,
          (1n << 64n) - 1n,
          0x7fff_ffffn,
          0x8000_0000n,
          0xffff_ffff_8000_0000n,
        ]);
      case 5:
      case 6:
        return (0xffff_ffffn << 32n) | single();
      case 7:
        // Not boxed, or not quite.
        return (BigInt(random.u32() | (random.chance(0.5) ? 0xffff0000 : 0)) << 32n) | single();
      default: {
        const near = 1023 + random.between(-70, 70);
        const exponent = random.pick([
          0,
          1,
          52,
          897,
          1022,
          1023,
          1024,
          1075,
          1086,
          1150,
          2045,
          2046,
          2047,
          near,
          random.below(2048),
        ]);
        const fraction = random.pick([
          0n,
          1n,
          1n << 51n,
          (1n << 52n) - 1n,
          (1n << 29n) - 1n,
          1n << 28n,
          random.u64() >> 12n,
          random.u64() >> 12n,
        ]);
        return (BigInt(random.below(2)) << 63n) | (BigInt(exponent) << 52n) | fraction;
      }
    }
  }
}

function compressedJump(d: number): number {
  const bit = (n: number, at: number) => ((d >> n) & 1) << at;
  return (
    0xa001 |
    bit(11, 12) |
    bit(4, 11) |
    bit(9, 10) |
    bit(8, 9) |
    bit(10, 8) |
    bit(6, 7) |
    bit(7, 6) |
    (((d >> 1) & 7) << 3) |
    bit(5, 2)
  );
}

function compressedBranch(funct3: number, register: number, d: number): number {
  const at = (n: number, count: number, to: number) => ((d >> n) & ((1 << count) - 1)) << to;
  return (funct3 << 13) | at(8, 1, 12) | at(3, 2, 10) | (register << 7) | at(6, 2, 5) | at(1, 2, 3) | at(5, 1, 2) | 1;
}

const C_NOP = 1;

export interface Cut {
  readonly block: number;
  /** From this snippet on the block is nothing but nops. */
  readonly snippet: number;
}

export class IsaProgram {
  readonly blocks: Snippet[][];
  private readonly pool: bigint[];
  private readonly passes: number;

  constructor(random: Random, size: { blocks: number; snippets: number; passes: number }) {
    const generator = new Generator(random);
    this.pool = Array.from({ length: POOL_VALUES }, () => generator.value());
    this.blocks = Array.from({ length: size.blocks }, () => generator.block(size.snippets));
    this.passes = size.passes;
  }

  get checkpoints(): number {
    return this.blocks.length * this.passes;
  }

  /** Snippets of a block, disassembled. */
  listing(block: number, snippet: number): string {
    const { bits, jump } = this.blocks[block]![snippet]!;
    const all = jump ? [...bits, jump.encode(jump.size)] : bits;
    return all.map((b) => `${(b >>> 0).toString(16).padStart(sizeOf(b) * 2, '0')}  ${disassemble(b)}`).join('; ');
  }

  /** The image; it ends behind checkpoint `last`. `always`: every checkpoint covers the arena, which is slow. */
  image(last = this.checkpoints - 1, always = false, cut?: Cut): Uint8Array {
    const a = new Assembler(0x8000_0000);
    this.runtime(a);
    a.org(TABLE);
    const blockAddresses: number[] = [];
    const code = new Assembler(BLOCKS);
    this.blocks.forEach((block, n) => {
      blockAddresses.push(BLOCKS + code.length);
      this.emitBlock(code, block, Number(a.addressOf('epilogue')), cut?.block === n ? cut.snippet : block.length);
    });
    for (const address of blockAddresses) a.double(BigInt(address));
    a.org(CONTEXT + AT.generator);
    a.double(0x1234_5678_9abc_def1n);
    a.double(0n);
    a.double(BigInt(LOG));
    a.double(0n);
    a.double(0n);
    a.double(BigInt(Math.floor(last / this.blocks.length)));
    a.double(BigInt(last % this.blocks.length));
    a.double(0n);
    a.double(0n);
    a.double(always ? 1n : 0n);
    a.org(POOL);
    for (const value of this.pool) a.double(value);
    a.org(ARENA);
    for (let i = 0; i < ARENA_SIZE / 8; i++) a.double(this.pool[(i * 7) % this.pool.length]!);
    a.org(BLOCKS);
    const bytes = code.bytes();
    const head = a.bytes();
    const image = new Uint8Array(head.length + bytes.length);
    image.set(head);
    image.set(bytes, head.length);
    return image;
  }

  /** Registers from the window at x31, then the instructions, then the way out. */
  private emitBlock(a: Assembler, block: readonly Snippet[], epilogue: number, end: number): void {
    for (let n = 0; n < 32; n++) a.op('fld', { rd: n, rs1: 31, imm: 256 + 8 * n });
    for (let n = 1; n < 32; n++) if (!FIXED.has(n)) a.op('ld', { rd: n, rs1: 31, imm: 8 * n });
    const starts = [0];
    for (const snippet of block) starts.push(starts.at(-1)! + snippetSize(snippet));
    const origin = a.length;
    block.forEach((snippet, i) => {
      const size = snippetSize(snippet);
      if (i >= end) {
        for (let done = 0; done < size; done += 2) a.half(C_NOP);
        return;
      }
      for (const bits of snippet.bits) sizeOf(bits) === 4 ? a.word(bits) : a.half(bits);
      if (snippet.jump) {
        const { size: jumpSize, over, encode: jump } = snippet.jump;
        const target = starts[Math.min(i + 1 + over, block.length)]!;
        const bits = jump(target - (a.length - origin));
        jumpSize === 4 ? a.word(bits) : a.half(bits);
      }
    });
    // Execution never falls through to what is behind this jump.
    a.op('jal', { imm: epilogue - (BLOCKS + a.length) });
  }

  private runtime(a: Assembler): void {
    const context = 31;
    const ld = (rd: number, at: number) => a.op('ld', { rd, rs1: context, imm: at });
    const sd = (rs2: number, at: number) => a.op('sd', { rs1: context, rs2, imm: at });
    const PRIME = 0x9e37_79b9_7f4a_7c15n;
    /** h = mix(h ^ v), with the multiplier in `k` and `t` lost. */
    const fold = (h: number, v: number, k: number, t: number) => {
      a.op('xor', { rd: h, rs1: h, rs2: v });
      a.op('mul', { rd: h, rs1: h, rs2: k });
      a.op('srli', { rd: t, rs1: h, imm: 29 });
      a.op('xor', { rd: h, rs1: h, rs2: t });
    };

    start(a);
    a.la(5, 'trap');
    a.csrw(CSR.mtvec, 5);
    a.li(5, 3 << 13);
    a.op('csrrs', { csr: CSR.mstatus, rs1: 5 });
    a.li(5, CONTEXT);
    a.csrw(CSR.mscratch, 5);

    a.label('next');
    a.csrr(context, CSR.mscratch);
    // generator = generator * A + C; its upper bits choose the window and fcsr.
    ld(5, AT.generator);
    a.li(6, 6364136223846793005n);
    a.op('mul', { rd: 5, rs1: 5, rs2: 6 });
    a.li(6, 1442695040888963407n);
    a.op('add', { rd: 5, rs1: 5, rs2: 6 });
    sd(5, AT.generator);
    a.op('srli', { rd: 6, rs1: 5, imm: 60 });
    a.li(7, 5);
    a.op('remu', { rd: 6, rs1: 6, rs2: 7 });
    a.op('slli', { rd: 6, rs1: 6, imm: 5 });
    a.csrw(CSR.fcsr, 6);
    a.op('srli', { rd: 5, rs1: 5, imm: 40 });
    a.li(6, 8191);
    a.op('and', { rd: 5, rs1: 5, rs2: 6 });
    a.op('slli', { rd: 5, rs1: 5, imm: 3 });
    a.li(6, POOL);
    a.op('add', { rd: 5, rs1: 5, rs2: 6 });
    ld(6, AT.block);
    a.op('slli', { rd: 6, rs1: 6, imm: 3 });
    a.li(7, TABLE);
    a.op('add', { rd: 6, rs1: 6, rs2: 7 });
    a.op('ld', { rd: 6, rs1: 6 });
    sd(0, AT.traps);
    a.li(SP, ARENA + 0xf00);
    a.li(S0, ARENA + 0x2000);
    a.li(S1, ARENA + 0x1ffd);
    a.csrr(7, CSR.minstret);
    sd(7, AT.spill + 24);
    a.op('addi', { rd: 31, rs1: 5 });
    a.op('jalr', { rs1: 6 });

    a.label('epilogue');
    a.op('csrrw', { rd: context, rs1: context, csr: CSR.mscratch });
    for (let n = 1; n < 31; n++) sd(n, AT.x + 8 * n);
    a.csrr(7, CSR.minstret);
    // The true x31 comes back from mscratch, which is the context's address again.
    a.op('csrrw', { rd: 5, rs1: context, csr: CSR.mscratch });
    sd(5, AT.x + 8 * 31);
    for (let n = 0; n < 32; n++) a.op('fsd', { rs2: n, rs1: context, imm: AT.f + 8 * n });
    a.csrr(5, CSR.fcsr);
    sd(5, AT.fcsr);
    ld(6, AT.spill + 24);
    a.op('sub', { rd: 7, rs1: 7, rs2: 6 });
    // What is not of the block: around its loads, the way in and out.
    a.op('addi', { rd: 7, rs1: 7, imm: -(60 + 3 + 1 + 32) });
    ld(6, AT.executed);
    a.op('add', { rd: 7, rs1: 7, rs2: 6 });
    sd(7, AT.executed);
    a.li(10, PRIME);
    ld(11, AT.checksum);
    a.op('addi', { rd: 12, rs1: context });
    a.op('addi', { rd: 13, rs1: context, imm: AT.folded });
    a.label('fold');
    a.op('ld', { rd: 14, rs1: 12 });
    fold(11, 14, 10, 15);
    a.op('addi', { rd: 12, rs1: 12, imm: 8 });
    a.branch('bne', 12, 13, 'fold');
    ld(16, AT.block);
    a.op('addi', { rd: 17, rs1: 16, imm: 1 });
    a.li(18, this.blocks.length);
    ld(12, AT.always);
    a.branch('bne', 12, 0, 'foldMemory');
    a.branch('bne', 17, 18, 'log');
    a.label('foldMemory');
    a.li(12, ARENA);
    a.li(13, ARENA + ARENA_SIZE);
    a.label('foldArena');
    a.op('ld', { rd: 14, rs1: 12 });
    fold(11, 14, 10, 15);
    a.op('addi', { rd: 12, rs1: 12, imm: 8 });
    a.branch('bne', 12, 13, 'foldArena');
    a.label('log');
    sd(11, AT.checksum);
    ld(12, AT.log);
    a.op('sd', { rs1: 12, rs2: 11 });
    a.op('addi', { rd: 12, rs1: 12, imm: 8 });
    sd(12, AT.log);
    ld(19, AT.pass);
    ld(13, AT.lastPass);
    ld(14, AT.lastBlock);
    a.branch('bne', 13, 19, 'goOn');
    a.branch('bne', 14, 16, 'goOn');
    finish(a);
    a.label('goOn');
    a.branch('bne', 17, 18, 'samePass');
    a.op('addi', { rd: 17 });
    a.op('addi', { rd: 19, rs1: 19, imm: 1 });
    sd(19, AT.pass);
    a.label('samePass');
    sd(17, AT.block);
    a.jump(0, 'next');

    a.label('trap');
    a.op('csrrw', { rd: context, rs1: context, csr: CSR.mscratch });
    sd(28, AT.spill);
    sd(29, AT.spill + 8);
    sd(30, AT.spill + 16);
    a.li(28, PRIME);
    ld(29, AT.traps);
    for (const csr of [CSR.mcause, CSR.mepc, CSR.mtval]) {
      a.csrr(30, csr);
      fold(29, 30, 28, 30);
    }
    sd(29, AT.traps);
    ld(29, AT.trapCount);
    a.op('addi', { rd: 29, rs1: 29, imm: 1 });
    sd(29, AT.trapCount);
    a.csrr(30, CSR.mepc);
    a.op('lhu', { rd: 29, rs1: 30 });
    a.op('andi', { rd: 29, rs1: 29, imm: 3 });
    a.op('addi', { rd: 30, rs1: 30, imm: 2 });
    a.op('addi', { rd: 28, imm: 3 });
    a.branch('bne', 29, 28, 'short');
    a.op('addi', { rd: 30, rs1: 30, imm: 2 });
    a.label('short');
    a.csrw(CSR.mepc, 30);
    ld(28, AT.spill);
    ld(29, AT.spill + 8);
    ld(30, AT.spill + 16);
    a.op('csrrw', { rd: context, rs1: context, csr: CSR.mscratch });
    a.op('mret');
  }
}

/**
 * The decoder, the disassembler and the expansion of compressed instructions against GNU binutils, an independent
 * reading of the specification.
 */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Random } from '../testing/random.ts';
import { csrNames } from './csr-names.ts';
import { decode, expand, operands, type Row, rows } from './index.ts';
import { disassemble } from './print.ts';

const OBJDUMP = 'riscv64-linux-gnu-objdump';
// Versions are what objdump's own reader of architecture strings expects.
const BASE = 'rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_zicsr2p0_zifencei2p0_zihintpause2p0_zba1p0_zbb1p0_zbs1p0';
const EXTRAS = ['zicbom1p0_zicboz1p0', 'zicond1p0'];

/**
 * A relocatable object with `code` as its text and the architecture as an attribute, which tells objdump what to
 * accept.
 */
function elf(arch: string, code: Uint8Array): Buffer {
  const subsection = Buffer.concat([Buffer.from([5]), Buffer.from(`${arch}\0`)]);
  const file = Buffer.alloc(5);
  file[0] = 1;
  file.writeUInt32LE(5 + subsection.length, 1);
  const vendor = Buffer.from('riscv\0');
  const length = Buffer.alloc(4);
  length.writeUInt32LE(4 + vendor.length + file.length + subsection.length);
  const attributes = Buffer.concat([Buffer.from('A'), length, vendor, file, subsection]);
  const names = Buffer.from('\0.text\0.riscv.attributes\0.shstrtab\0');

  const contents = [Buffer.alloc(0), Buffer.from(code), attributes, names];
  const header = Buffer.alloc(64);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  header.writeUInt16LE(1, 16); // ET_REL
  header.writeUInt16LE(243, 18); // EM_RISCV
  header.writeUInt32LE(1, 20);
  header.writeUInt32LE(5, 48); // RVC, double-float ABI
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(64, 58);
  header.writeUInt16LE(4, 60);
  header.writeUInt16LE(3, 62);

  const sections = Buffer.alloc(4 * 64);
  const entries = [
    { name: 0, type: 0, flags: 0 },
    { name: 1, type: 1, flags: 6 }, // PROGBITS, ALLOC and EXECINSTR
    { name: 7, type: 0x70000003, flags: 0 }, // RISCV_ATTRIBUTES
    { name: 25, type: 3, flags: 0 }, // STRTAB
  ];
  let offset = 64;
  entries.forEach(({ name, type, flags }, n) => {
    const at = n * 64;
    sections.writeUInt32LE(name, at);
    sections.writeUInt32LE(type, at + 4);
    sections.writeBigUInt64LE(BigInt(flags), at + 8);
    sections.writeBigUInt64LE(BigInt(n === 0 ? 0 : offset), at + 24);
    sections.writeBigUInt64LE(BigInt(contents[n]!.length), at + 32);
    sections.writeBigUInt64LE(2n, at + 48);
    offset += contents[n]!.length;
  });
  header.writeBigUInt64LE(BigInt(offset), 40);
  return Buffer.concat([header, ...contents, sections]);
}

/** What objdump prints for each instruction of `code`, by address. */
function objdump(arch: string, code: Uint8Array): Map<number, string> {
  const folder = mkdtempSync(join(tmpdir(), 'braid-isa-'));
  try {
    const path = join(folder, 'code.o');
    writeFileSync(path, elf(arch, code));
    const out = execFileSync(OBJDUMP, ['-d', '-z', '-M', 'no-aliases', path], {
      encoding: 'utf8',
      maxBuffer: 1 << 30,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const lines = new Map<number, string>();
    for (const line of out.split('\n')) {
      const match = /^\s*([0-9a-f]+):\t[0-9a-f ]+?\s*\t(.*)$/.exec(line);
      if (match) lines.set(Number.parseInt(match[1]!, 16), normal(match[2]!));
    }
    return lines;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** One space after the mnemonic, no symbols and comments, targets of branches with 0x as everything else. */
function normal(text: string): string {
  return text
    .replace(/\s*#.*$/, '')
    .replace(/([0-9a-f]+) <.*>$/, '0x$1')
    .replace(/\t/, ' ')
    .trim();
}

function present(): boolean {
  try {
    execFileSync(OBJDUMP, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const skip = !present() && `${OBJDUMP} is not installed`;

/** The architecture string with those extensions that this objdump knows, and a note about the rest. */
function architecture(): { arch: string; missing: string[] } {
  const missing: string[] = [];
  let arch = BASE;
  const probes: Record<string, number> = { [EXTRAS[0]!]: 0x0015200f, [EXTRAS[1]!]: 0x0ec5d533 };
  for (const extra of EXTRAS) {
    const code = new Uint8Array(4);
    new DataView(code.buffer).setUint32(0, probes[extra]!, true);
    const text = objdump(`${arch}_${extra}`, code).get(0) ?? '';
    if (/^(cbo|czero)\./.test(text)) arch += `_${extra}`;
    else missing.push(...extra.split('_').map((name) => name.slice(0, -3)));
  }
  return { arch, missing };
}

const seed = Number(process.env.BRAID_SEED ?? 1) >>> 0;

/**
 * Fields that the specification reserves for later use and tells implementations to ignore, where objdump wants the one
 * value that is defined today.
 */
const RESERVED: Readonly<Record<string, number>> = {
  fence: 0xf00f8f80,
  'fence.tso': 0x000f8f80,
  'fence.i': 0xffff8f80,
  'fcvt.d.w': 0x7000,
  'fcvt.d.wu': 0x7000,
  'fcvt.d.s': 0x7000,
};

/**
 * objdump knows every CSR that has ever had a name, RV32's among them; where either side has only a number there is no
 * doubt.
 */
function csrAgrees(row: Row, bits: number, ours: string, theirs: string): boolean {
  if (row.format !== 'CSR' && row.format !== 'CSRI') return false;
  const { csr } = operands(row, bits);
  const number = `0x${csr.toString(16)}`;
  const [a, b] = [ours.split(','), theirs.split(',')];
  if (a[0] !== b[0] || a[2] !== b[2]) return false;
  return csrNames.has(csr) ? b[1] === number : a[1] === number;
}

function compare(arch: string, words: Uint32Array, unknown: (text: string, bits: number) => boolean): number {
  const theirs = objdump(arch, new Uint8Array(words.buffer));
  let compared = 0;
  words.forEach((bits, n) => {
    const text = theirs.get(4 * n);
    assert.ok(text !== undefined, `objdump lost ${bits.toString(16)}`);
    const row = decode(bits);
    const ours = disassemble(bits, BigInt(4 * n));
    const what = `${bits.toString(16)} (${row?.name}): ours "${ours}", objdump "${text}", seed ${seed}`;
    if (!row) {
      assert.ok(unknown(text, bits), what);
      return;
    }
    compared++;
    if (ours !== text && !csrAgrees(row, bits, ours, text)) assert.fail(what);
  });
  return compared;
}

test('every row with random operands prints as objdump prints it', { skip }, (t) => {
  const { arch, missing } = architecture();
  const known = rows.filter((row) => !missing.includes(row.extension.toLowerCase()));
  if (missing.length) t.diagnostic(`not compared, unknown to this objdump: ${missing.join(', ')}`);
  const random = new Random(seed);
  const words = new Uint32Array(1500 * known.length);
  for (let n = 0; n < words.length; n++) {
    const row = known[n % known.length]!;
    let bits = ((random.u32() & ~row.mask) | row.match) >>> 0;
    // Another row may be nested in this one: its reserved bits count.
    const name = decode(bits)!.name;
    bits &= ~(RESERVED[name] ?? 0) | row.match;
    words[n] = bits;
  }
  const compared = compare(arch, words, () => false);
  t.diagnostic(`${compared} encodings, seed ${seed}`);
});

/** What objdump prints whatever the architecture is, and Braid does not implement. */
const ABSENT = /^(\.4byte|\.insn|uret|dret|hret|mnret|hfence|hlv|hlvx|hsv|sinval|hinval|sfence\.(vm\b|w|inval))/;

test('random words are the same instructions, or none, for objdump', { skip }, (t) => {
  const { arch, missing } = architecture();
  const random = new Random(seed ^ 0x5eed);
  const words = new Uint32Array(300_000);
  for (let n = 0; n < words.length; n++) {
    for (;;) {
      const bits = (random.u32() | 3) >>> 0;
      // 0b11111 in bits 4..2 begins a longer encoding, which would shift everything behind it.
      if ((bits & 0x1c) === 0x1c) continue;
      const row = decode(bits);
      if (row && (missing.includes(row.extension.toLowerCase()) || bits & (RESERVED[row.name] ?? 0))) continue;
      words[n] = bits;
      break;
    }
  }
  const compared = compare(arch, words, (text) => ABSENT.test(text));
  t.diagnostic(`${words.length} words, ${compared} of them instructions, seed ${seed}`);
});

/** `c.addi4spn` and so on, as objdump prints their operands, in terms of the instruction that they stand for. */
const COMPRESSED: Readonly<Record<string, (a: string, b: string, c: string) => string>> = {
  'c.addi4spn': (d, s, i) => `addi ${d},${s},${i}`,
  'c.fld': (d, m) => `fld ${d},${m}`,
  'c.lw': (d, m) => `lw ${d},${m}`,
  'c.ld': (d, m) => `ld ${d},${m}`,
  'c.fsd': (d, m) => `fsd ${d},${m}`,
  'c.sw': (d, m) => `sw ${d},${m}`,
  'c.sd': (d, m) => `sd ${d},${m}`,
  'c.nop': () => 'addi zero,zero,0',
  'c.addi': (d, i) => `addi ${d},${d},${i}`,
  'c.addiw': (d, i) => `addiw ${d},${d},${i}`,
  'c.li': (d, i) => `addi ${d},zero,${i}`,
  'c.addi16sp': (d, i) => `addi ${d},${d},${i}`,
  'c.lui': (d, i) => `lui ${d},${i}`,
  'c.srli': (d, i) => `srli ${d},${d},${i}`,
  'c.srai': (d, i) => `srai ${d},${d},${i}`,
  'c.slli': (d, i) => `slli ${d},${d},${i}`,
  'c.andi': (d, i) => `andi ${d},${d},${i}`,
  'c.sub': (d, s) => `sub ${d},${d},${s}`,
  'c.xor': (d, s) => `xor ${d},${d},${s}`,
  'c.or': (d, s) => `or ${d},${d},${s}`,
  'c.and': (d, s) => `and ${d},${d},${s}`,
  'c.subw': (d, s) => `subw ${d},${d},${s}`,
  'c.addw': (d, s) => `addw ${d},${d},${s}`,
  'c.j': (p) => `jal zero,${p}`,
  'c.beqz': (s, p) => `beq ${s},zero,${p}`,
  'c.bnez': (s, p) => `bne ${s},zero,${p}`,
  'c.fldsp': (d, m) => `fld ${d},${m}`,
  'c.lwsp': (d, m) => `lw ${d},${m}`,
  'c.ldsp': (d, m) => `ld ${d},${m}`,
  'c.jr': (s) => `jalr zero,0(${s})`,
  'c.mv': (d, s) => `add ${d},zero,${s}`,
  'c.ebreak': () => 'ebreak',
  'c.jalr': (s) => `jalr ra,0(${s})`,
  'c.add': (d, s) => `add ${d},${d},${s}`,
  'c.fsdsp': (s, m) => `fsd ${s},${m}`,
  'c.swsp': (s, m) => `sw ${s},${m}`,
  'c.sdsp': (s, m) => `sd ${s},${m}`,
};

/** Nothing is left of these: no destination, or a step or distance of 0. */
function isHint(name: string, a: string, b: string): boolean {
  if (name === 'c.slli64' || name === 'c.srli64' || name === 'c.srai64') return true;
  if (name === 'c.addi' && b === '0') return true;
  if ((name === 'c.slli' || name === 'c.srli' || name === 'c.srai') && b === '0x0') return true;
  return a === 'zero' && ['c.addi', 'c.li', 'c.lui', 'c.slli', 'c.mv', 'c.add'].includes(name);
}

test('every halfword expands to what objdump says it is', { skip }, (t) => {
  const halfwords = new Uint16Array(65536).map((_, n) => n).filter((bits) => (bits & 3) !== 3);
  const theirs = objdump(BASE, new Uint8Array(halfwords.buffer));
  let valid = 0;
  halfwords.forEach((bits, n) => {
    const text = theirs.get(2 * n)!;
    const full = expand(bits);
    const ours = full === 0 ? 'nothing' : disassemble(full, BigInt(2 * n));
    const [name, rest = ''] = text.split(' ');
    const [a = '', b = '', c = ''] = rest.split(',');
    let expected = 'nothing';
    // A step of 0 is reserved by the specification, which objdump overlooks.
    if (text === 'c.addi16sp sp,0') expected = 'nothing';
    else if (isHint(name!, a, b)) expected = 'addi zero,zero,0';
    else if (COMPRESSED[name!]) expected = COMPRESSED[name!]!(a, b, c);
    else assert.match(text, /^(\.2byte|\.insn|c\.unimp)/, `${bits.toString(16)}: ${text}`);
    assert.equal(ours, expected, `${bits.toString(16)}: ${text}`);
    assert.equal(
      disassemble(bits | 0x12340000, BigInt(2 * n)),
      full === 0 ? `.2byte 0x${bits.toString(16).padStart(4, '0')}` : ours,
    );
    if (full !== 0) valid++;
  });
  t.diagnostic(`${valid} of ${halfwords.length} are instructions`);
});

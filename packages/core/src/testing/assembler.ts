/**
 * An assembler for test programs, on the encodings of the instruction table: so a program needs no compiler, and every
 * instruction that the table knows can be written.
 *
 *     const a = new Assembler(0x8000_0000n);
 *     a.label('again');
 *     a.op('addi', { rd: 5, rs1: 5, imm: -1 });
 *     a.branch('bne', 5, 0, 'again');
 *     const image = a.bytes();
 */

import { type Row, rows } from '../isa/index.ts';

export interface Fields {
  rd?: number;
  rs1?: number;
  rs2?: number;
  rs3?: number;
  /** As the instruction is written: an upper immediate is already shifted. */
  imm?: number;
  csr?: number;
  rm?: number;
}

const byName = new Map<string, Row>(rows.map((row) => [row.name, row]));

/** The row with a name; a name that is not in the table is an error of the test. */
export function rowOf(name: string): Row {
  const row = byName.get(name);
  if (!row) throw new TypeError(`no instruction ${name}`);
  return row;
}

const immS = (imm: number) => ((imm & 31) << 7) | ((imm >> 5) << 25);
const immB = (imm: number) =>
  (((imm >> 12) & 1) << 31) | (((imm >> 5) & 63) << 25) | (((imm >> 1) & 15) << 8) | (((imm >> 11) & 1) << 7);
const immJ = (imm: number) =>
  (((imm >> 20) & 1) << 31) | (((imm >> 1) & 1023) << 21) | (((imm >> 11) & 1) << 20) | (imm & 0xff000);

/** The 32-bit encoding of an instruction. Fields that its format does not have are not looked at. */
export function encode(row: Row, fields: Fields): number {
  const { rd = 0, rs1 = 0, rs2 = 0, rs3 = 0, imm = 0, csr = 0, rm = 0 } = fields;
  const d = rd << 7;
  const s = rs1 << 15;
  const t = rs2 << 20;
  const variable = (() => {
    switch (row.format) {
      case 'R':
      case 'A':
      case 'FR':
      case 'FC':
        return d | s | t;
      case 'R1':
      case 'AL':
      case 'FX':
      case 'XF':
        return d | s;
      case 'I':
      case 'L':
      case 'FL':
        return d | s | (imm << 20);
      case 'SH':
        return d | s | ((imm & 63) << 20);
      case 'SHW':
        return d | s | ((imm & 31) << 20);
      case 'S':
      case 'FS':
        return s | t | immS(imm);
      case 'B':
        return s | t | immB(imm);
      case 'U':
        return d | (imm & 0xfffff000);
      case 'J':
        return d | immJ(imm);
      case 'CSR':
        return d | s | (csr << 20);
      case 'CSRI':
        return d | ((imm & 31) << 15) | (csr << 20);
      case 'N':
        return 0;
      case 'F2':
        return s | t;
      case 'CB':
        return s;
      case 'FRM':
        return d | s | t | (rm << 12);
      case 'FR1M':
      case 'FXM':
      case 'XFM':
        return d | s | (rm << 12);
      case 'FR4':
        return d | s | t | (rs3 << 27) | (rm << 12);
    }
  })();
  return (row.match | (variable & ~row.mask)) >>> 0;
}

interface Reference {
  readonly at: number;
  readonly label: string;
  patch(word: number, distance: number): number;
}

export class Assembler {
  readonly base: bigint;
  private data = new Uint8Array(4096);
  private view = new DataView(this.data.buffer);
  private readonly labels = new Map<string, number>();
  private readonly references: Reference[] = [];
  private fresh = 0;
  length = 0;

  constructor(base: bigint | number) {
    this.base = BigInt(base);
  }

  get here(): bigint {
    return this.base + BigInt(this.length);
  }

  private room(size: number): number {
    if (this.length + size > this.data.length) {
      const bigger = new Uint8Array(Math.max(this.data.length * 2, this.length + size));
      bigger.set(this.data);
      this.data = bigger;
      this.view = new DataView(bigger.buffer);
    }
    const at = this.length;
    this.length += size;
    return at;
  }

  half(bits: number): void {
    const at = this.room(2);
    this.view.setUint16(at, bits, true);
  }

  word(bits: number): void {
    const at = this.room(4);
    this.view.setUint32(at, bits, true);
  }

  double(value: bigint): void {
    const at = this.room(8);
    this.view.setBigUint64(at, BigInt.asUintN(64, value), true);
  }

  /** Goes on at an address further up; what lies between is zero. */
  org(address: bigint | number): void {
    const distance = Number(BigInt(address) - this.here);
    if (distance < 0) throw new RangeError(`0x${this.here.toString(16)} is already behind 0x${address.toString(16)}`);
    this.room(distance);
  }

  label(name: string): void {
    if (this.labels.has(name)) throw new TypeError(`two labels ${name}`);
    this.labels.set(name, this.length);
  }

  /** A label that nobody else has. */
  newLabel(): string {
    return `.${this.fresh++}`;
  }

  addressOf(label: string): bigint {
    const at = this.labels.get(label);
    if (at === undefined) throw new TypeError(`no label ${label}`);
    return this.base + BigInt(at);
  }

  op(name: string, fields: Fields = {}): void {
    this.word(encode(rowOf(name), fields));
  }

  branch(name: string, rs1: number, rs2: number, label: string): void {
    const row = rowOf(name);
    this.refer(label, (_, imm) => encode(row, { rs1, rs2, imm }));
    this.word(0);
  }

  jump(rd: number, label: string): void {
    this.refer(label, (_, imm) => encode(rowOf('jal'), { rd, imm }));
    this.word(0);
  }

  private refer(label: string, patch: (word: number, distance: number) => number): void {
    this.references.push({ at: this.length, label, patch });
  }

  /** The address of a label. */
  la(rd: number, label: string): void {
    const high = (distance: number) => (distance + 0x800) & ~0xfff;
    this.refer(label, (_, distance) => encode(rowOf('auipc'), { rd, imm: high(distance) }));
    this.word(0);
    this.refer(label, (_, distance) => encode(rowOf('addi'), { rd, rs1: rd, imm: distance + 4 - high(distance + 4) }));
    this.word(0);
  }

  /** Any constant. */
  li(rd: number, value: bigint | number): void {
    const wanted = BigInt.asIntN(64, BigInt(value));
    if (wanted >= -2048n && wanted < 2048n) {
      this.op('addi', { rd, imm: Number(wanted) });
      return;
    }
    if (wanted >= -(1n << 31n) && wanted < (1n << 31n) - 2048n) {
      const low = Number(BigInt.asIntN(12, wanted));
      this.op('lui', { rd, imm: Number(wanted - BigInt(low)) });
      if (low !== 0) this.op('addiw', { rd, rs1: rd, imm: low });
      return;
    }
    const low = Number(BigInt.asIntN(12, wanted));
    let rest = (wanted - BigInt(low)) >> 12n;
    let shift = 12;
    while ((rest & 1n) === 0n) {
      rest >>= 1n;
      shift++;
    }
    this.li(rd, BigInt.asIntN(64 - shift, rest));
    this.op('slli', { rd, rs1: rd, imm: shift });
    if (low !== 0) this.op('addi', { rd, rs1: rd, imm: low });
  }

  csrw(csr: number, rs1: number): void {
    this.op('csrrw', { csr, rs1 });
  }

  csrr(rd: number, csr: number): void {
    this.op('csrrs', { rd, csr });
  }

  /** The program, its references resolved. */
  bytes(): Uint8Array {
    for (const { at, label, patch } of this.references) {
      const target = this.labels.get(label);
      if (target === undefined) throw new TypeError(`no label ${label}`);
      this.view.setUint32(at, patch(this.view.getUint32(at, true), target - at), true);
    }
    return this.data.slice(0, this.length);
  }
}

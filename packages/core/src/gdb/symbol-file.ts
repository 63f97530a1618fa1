/**
 * A symbol file for gdb: an ELF that holds nothing but names and addresses, made for example of a guest's /proc/kallsyms. gdb then shows
 * names for addresses and sets breakpoints at names; there are no lines and no types.
 *
 * ```text
 * ELF header | symbols, 24 bytes each, the first empty | their names | section names | 5 section headers: none .text .symtab .strtab .shstrtab
 * ```
 *
 * Source: the generic ELF specification, chapters 4 (headers, sections) and "Symbol Table".
 */

import { GdbError } from './errors.ts';

export interface FileSymbol {
  readonly name: string;
  readonly address: bigint;
  /** Whether it is code, which it is unless told otherwise. */
  readonly code?: boolean;
}

const HEADER = 64;
const SYMBOL = 24;
const SECTION = 64;
const MAX_SYMBOLS = 4_000_000;
const SECTION_NAMES = '\0.text\0.symtab\0.strtab\0.shstrtab\0';

const STT = { object: 1, function: 2 } as const;
const GLOBAL = 1 << 4;

/** The file's bytes. Throws `GdbError` for more symbols than anybody has, or none. */
export function symbolFile(symbols: readonly FileSymbol[]): Uint8Array {
  if (symbols.length === 0) throw new GdbError('there are no symbols: may the reader of /proc/kallsyms see addresses?');
  if (symbols.length > MAX_SYMBOLS) throw new GdbError(`${symbols.length} symbols: at most ${MAX_SYMBOLS} make a file`);
  const sorted = symbols.toSorted((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  const names = new TextEncoder().encode(`\0${sorted.map(({ name }) => `${name}\0`).join('')}`);
  const sectionNames = new TextEncoder().encode(SECTION_NAMES);
  const namesAt = HEADER + SYMBOL * (sorted.length + 1);
  const sectionNamesAt = namesAt + names.length;
  const sectionsAt = (sectionNamesAt + sectionNames.length + 7) & ~7;
  const bytes = new Uint8Array(sectionsAt + 5 * SECTION);
  const view = new DataView(bytes.buffer);
  writeHeader(view, sectionsAt);

  const code = sorted.filter((symbol) => symbol.code !== false);
  const text = { from: code[0]?.address ?? 0n, to: code.at(-1)?.address ?? 0n };
  let nameAt = 1;
  const encoder = new TextEncoder();
  sorted.forEach((symbol, n) => {
    const at = HEADER + SYMBOL * (n + 1);
    const next = sorted[n + 1]?.address;
    const isCode = symbol.code !== false;
    view.setUint32(at, nameAt, true);
    view.setUint8(at + 4, GLOBAL | (isCode ? STT.function : STT.object));
    // In .text, or absolute.
    view.setUint16(at + 6, isCode ? 1 : 0xfff1, true);
    view.setBigUint64(at + 8, symbol.address, true);
    // Up to the one behind it; the last one's end is not known.
    view.setBigUint64(
      at + 16,
      isCode && next !== undefined && next - symbol.address < 1n << 20n ? next - symbol.address : 0n,
      true,
    );
    nameAt += encoder.encode(symbol.name).length + 1;
  });
  bytes.set(names, namesAt);
  bytes.set(sectionNames, sectionNamesAt);

  const section = (index: number, name: string, fields: Partial<SectionFields>) =>
    writeSection(view, sectionsAt + SECTION * index, { ...fields, name: SECTION_NAMES.indexOf(`\0${name}\0`) + 1 });
  // Code that has its addresses and no bytes here, as in a file of debugging information.
  section(1, '.text', { type: 8, flags: 6n, address: text.from, size: text.to - text.from + 4n, align: 4n });
  section(2, '.symtab', {
    type: 2,
    offset: HEADER,
    size: BigInt(namesAt - HEADER),
    link: 3,
    info: 1,
    align: 8n,
    entry: SYMBOL,
  });
  section(3, '.strtab', { type: 3, offset: namesAt, size: BigInt(names.length), align: 1n });
  section(4, '.shstrtab', { type: 3, offset: sectionNamesAt, size: BigInt(sectionNames.length), align: 1n });
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  return bytes;
}

/** What /proc/kallsyms says, modules left out; lines that are no symbol are passed over, and so are addresses that are hidden. */
export function parseKallsyms(text: string): FileSymbol[] {
  const symbols: FileSymbol[] = [];
  for (const match of text.matchAll(/^([0-9a-f]{16}) ([a-z]) (\S+)$/gim)) {
    const [, address, type, name] = match;
    const value = BigInt(`0x${address}`);
    if (value !== 0n) symbols.push({ name: name!, address: value, code: /[tw]/i.test(type!) });
  }
  return symbols;
}

function writeHeader(view: DataView, sectionsAt: number): void {
  view.setUint16(16, 2, true); // executable
  view.setUint16(18, 243, true); // RISC-V
  view.setUint32(20, 1, true);
  view.setBigUint64(40, BigInt(sectionsAt), true);
  view.setUint32(48, 5, true); // compressed instructions, doubles in registers
  view.setUint16(52, HEADER, true);
  view.setUint16(58, SECTION, true);
  view.setUint16(60, 5, true);
  view.setUint16(62, 4, true);
}

interface SectionFields {
  readonly name: number;
  readonly type: number;
  readonly flags: bigint;
  readonly address: bigint;
  readonly offset: number;
  readonly size: bigint;
  readonly link: number;
  readonly info: number;
  readonly align: bigint;
  readonly entry: number;
}

function writeSection(view: DataView, at: number, fields: Partial<SectionFields>): void {
  const { name = 0, type = 0, flags = 0n, address = 0n, offset = 0, size = 0n, link = 0, info = 0 } = fields;
  const { align = 0n, entry = 0 } = fields;
  view.setUint32(at, name, true);
  view.setUint32(at + 4, type, true);
  view.setBigUint64(at + 8, flags, true);
  view.setBigUint64(at + 16, address, true);
  view.setBigUint64(at + 24, BigInt(offset), true);
  view.setBigUint64(at + 32, size, true);
  view.setUint32(at + 40, link, true);
  view.setUint32(at + 44, info, true);
  view.setBigUint64(at + 48, align, true);
  view.setBigUint64(at + 56, BigInt(entry), true);
}

/**
 * The code and the symbols of a 64-bit RISC-V executable or shared object, for analysis (System V gABI chapters 4 and 5,
 * RISC-V psABI chapter "ELF Object Files").
 *
 * The file is hostile input: every offset, size and count is checked before use, names are compared in place, and the one
 * error thrown is `AnalysisError`. Contents are views of the file, not copies. Opening costs one pass over the symbols.
 */

import { isElf } from '../boot/elf.ts';
import { decodeText } from '../text/guest-text.ts';
import { AnalysisError, hex } from './analysis-error.ts';

/** A symbol in the program's code. Addresses have the load bias in them. */
export interface CodeSymbol {
  readonly address: bigint;
  /** 0 when the symbol does not say. */
  readonly size: bigint;
  /** Marked as a function; other symbols of code are labels. */
  readonly isFunction: boolean;
  readonly isLocal: boolean;
  /** Where the name is in the file. */
  readonly nameAt: number;
  readonly nameEnd: number;
}

interface Segment {
  readonly address: bigint;
  readonly end: bigint;
  readonly data: Uint8Array;
  readonly executable: boolean;
  readonly writable: boolean;
}

const HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;
const SECTION_HEADER_SIZE = 64;
const SYMBOL_SIZE = 24;
const RELOCATION_SIZE = 24;
const MAX_SEGMENTS = 128;
const MAX_SECTIONS = 65_535;
/** Entries of all tables of symbols and relocations together: many sections may be the same bytes. */
const MAX_SYMBOLS = 2 ** 22;
const MAX_NAME = 1024;
/** How many symbols of one address, or of functions around one, are looked at. */
const MAX_ALIASES = 16;
const PAGE = 4096n;

const ET_EXEC = 2;
const ET_DYN = 3;
const EM_RISCV = 243;
const PT_LOAD = 1;
const PF_X = 1;
const PF_W = 2;
const SHT_SYMTAB = 2;
const SHT_RELA = 4;
const SHT_DYNSYM = 11;
const SHF_EXECINSTR = 4n;
const STT_NOTYPE = 0;
const STT_FUNC = 2;
const STT_GNU_IFUNC = 10;
const SHN_UNDEF = 0;
const R_RISCV_JUMP_SLOT = 5;

const damaged = (why: string) => new AnalysisError('elf', `the ELF file is truncated or corrupt: ${why}`);

/** What was read of one section header. */
interface Section {
  readonly type: number;
  readonly flags: bigint;
  readonly address: bigint;
  readonly offset: bigint;
  readonly size: bigint;
  readonly link: number;
}

export class ProgramCode {
  /** What is added to addresses of the file. */
  readonly bias: bigint;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly segments: Segment[] = [];
  /** Sections of code: what bounds a function whose symbol has no size. */
  private readonly sections: { address: bigint; end: bigint }[] = [];
  /** Symbols of code, by ascending address; the largest first of those at one address. */
  private readonly symbols: CodeSymbol[] = [];
  /** Those of the symbols that are functions. */
  readonly functions: readonly CodeSymbol[];
  /** Name of the function that a slot of the procedure linkage table leads to, by the slot's address. */
  private readonly imports = new Map<bigint, { nameAt: number; nameEnd: number }>();
  private entries = 0;

  /** Reads the file as it is loaded `bias` bytes above its own addresses. Throws `AnalysisError`. */
  constructor(bytes: Uint8Array, bias = 0n) {
    this.bytes = bytes;
    this.bias = bias;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const { view } = this;
    if (!isElf(bytes)) throw new AnalysisError('elf', 'the file does not start with the ELF magic number');
    if (bytes.length < HEADER_SIZE) throw damaged(`it has ${bytes.length} bytes, less than its header`);
    if (bytes[4] !== 2 || bytes[5] !== 1 || view.getUint16(18, true) !== EM_RISCV) {
      throw new AnalysisError('elf', 'the ELF file is not for 64-bit little-endian RISC-V');
    }
    const type = view.getUint16(16, true);
    if (type !== ET_EXEC && type !== ET_DYN) {
      throw new AnalysisError('elf', `the ELF file is of type ${type}, neither an executable nor a shared object`);
    }
    if (bias % PAGE !== 0n || bias < 0n || bias >= 1n << 64n) {
      throw new AnalysisError('bias', `the load bias ${hex(bias)} is not a page address`);
    }
    if (bias !== 0n && type === ET_EXEC) {
      throw new AnalysisError('bias', 'the executable is linked to fixed addresses, so its load bias is 0');
    }
    this.readSegments();
    this.readSections();
    this.symbols.sort((a, b) => compare(a.address, b.address) || compare(b.size, a.size));
    this.functions = this.symbols.filter((symbol) => symbol.isFunction);
  }

  /** The 16 bits of code at an address, or undefined where there is no code. */
  half(address: bigint): number | undefined {
    return this.read(address, 2, (segment) => segment.executable)?.getUint16(0, true);
  }

  /** So many bytes of code at an address, or undefined where that is not all code. */
  code(address: bigint, length: number): Uint8Array | undefined {
    const view = this.read(address, length, (segment) => segment.executable);
    return view && new Uint8Array(view.buffer, view.byteOffset, length);
  }

  /** The 32 bits at an address that the program does not write, or undefined. */
  constant(address: bigint): number | undefined {
    return this.read(address, 4, (segment) => !segment.writable)?.getInt32(0, true);
  }

  /** The symbol that a name means; a global one wins over local ones. */
  symbol(name: string): CodeSymbol {
    const wanted = new TextEncoder().encode(name);
    const found = this.symbols.filter((symbol) => this.isCalled(symbol, wanted));
    const preferred = found.some((symbol) => symbol.isFunction) ? found.filter((symbol) => symbol.isFunction) : found;
    const chosen = preferred.find((symbol) => !symbol.isLocal) ?? preferred[0];
    if (!chosen) throw new AnalysisError('unknown-symbol', `the program has no code called ${name}`);
    if (chosen.isLocal && preferred.some((symbol) => symbol.address !== chosen.address)) {
      const where = [...new Set(preferred.map((symbol) => hex(symbol.address)))].slice(0, 8).join(', ');
      throw new AnalysisError('ambiguous-symbol', `${name} is at each of ${where}: give the address`);
    }
    return chosen;
  }

  /** The symbols that begin at an address, functions first. */
  at(address: bigint): CodeSymbol[] {
    const found: CodeSymbol[] = [];
    const from = firstAbove(this.symbols, address) - 1;
    for (let n = from; n >= 0 && n > from - MAX_ALIASES && this.symbols[n]!.address === address; n--) {
      found.push(this.symbols[n]!);
    }
    return found.sort((a, b) => Number(b.isFunction) - Number(a.isFunction));
  }

  /** The function whose range an address is in. */
  covering(address: bigint): CodeSymbol | undefined {
    // Symbols within a function (a second entry, an alias of a part) are passed over for the one that covers all of it.
    let best: CodeSymbol | undefined;
    const from = firstAbove(this.functions, address) - 1;
    for (let n = from; n >= 0 && n > from - MAX_ALIASES; n--) {
      const symbol = this.functions[n]!;
      if (address < this.endOf(symbol) && (!best || this.endOf(symbol) >= this.endOf(best))) best = symbol;
    }
    return best;
  }

  /** Where the code of a symbol ends: by its size, or where the next function or the section begins or ends. */
  endOf(symbol: CodeSymbol): bigint {
    const limit = this.limit(symbol.address);
    if (symbol.size > 0n) return symbol.address + symbol.size < limit ? symbol.address + symbol.size : limit;
    return this.nextFunction(symbol.address, limit);
  }

  /** Where code that begins at an address without a symbol may at most go to. */
  endFrom(address: bigint): bigint {
    return this.nextFunction(address, this.limit(address));
  }

  private nextFunction(address: bigint, limit: bigint): bigint {
    const next = this.functions[firstAbove(this.functions, address)];
    return next && next.address < limit ? next.address : limit;
  }

  nameOf(symbol: { nameAt: number; nameEnd: number }): string {
    return decodeText(this.bytes.subarray(symbol.nameAt, Math.min(symbol.nameEnd, symbol.nameAt + MAX_NAME)));
  }

  /** The name of the imported function whose address the program takes from this place when it calls it. */
  importThrough(slot: bigint): string | undefined {
    const found = this.imports.get(slot);
    return found && this.nameOf(found);
  }

  private isCalled(symbol: CodeSymbol, name: Uint8Array): boolean {
    if (symbol.nameEnd - symbol.nameAt !== name.length) return false;
    return name.every((byte, n) => this.bytes[symbol.nameAt + n] === byte);
  }

  /** The end of the section of code, or of the executable segment where no section says it. */
  private limit(address: bigint): bigint {
    const section = this.sections[firstAbove(this.sections, address) - 1];
    if (section && address < section.end) return section.end;
    const home = this.segments.find(
      ({ executable, address: start, end }) => executable && address >= start && address < end,
    );
    return home ? home.end : address;
  }

  private read(address: bigint, size: number, accept: (segment: Segment) => boolean): DataView | undefined {
    for (const segment of this.segments) {
      if (address < segment.address || address + BigInt(size) > segment.end || !accept(segment)) continue;
      const { data } = segment;
      return new DataView(data.buffer, data.byteOffset + Number(address - segment.address), size);
    }
    return undefined;
  }

  /** `[offset, offset + length)` of the file, checked; the offset as a number. */
  private range(offset: bigint, length: bigint, what: string): number {
    if (offset + length > BigInt(this.bytes.length)) {
      throw damaged(`${what} needs ${hex(length)} bytes at offset ${hex(offset)} of ${hex(BigInt(this.bytes.length))}`);
    }
    return Number(offset);
  }

  private readSegments(): void {
    const { view } = this;
    const count = view.getUint16(56, true);
    const stride = view.getUint16(54, true);
    if (count === 0 || count > MAX_SEGMENTS) throw damaged(`it has ${count} program headers`);
    if (stride < PROGRAM_HEADER_SIZE) throw damaged(`its program headers are ${stride} bytes each, less than 56`);
    const table = this.range(view.getBigUint64(32, true), BigInt(count * stride), 'the program header table');
    for (let n = 0, at = table; n < count; n++, at += stride) {
      if (view.getUint32(at, true) !== PT_LOAD) continue;
      const length = view.getBigUint64(at + 32, true);
      if (length === 0n) continue;
      const from = this.range(view.getBigUint64(at + 8, true), length, `segment ${n}`);
      const start = view.getBigUint64(at + 16, true) + this.bias;
      if (start + length > 1n << 64n) throw damaged(`segment ${n} wraps around the address space`);
      const flags = view.getUint32(at + 4, true);
      this.segments.push({
        address: start,
        end: start + length,
        data: this.bytes.subarray(from, from + Number(length)),
        executable: (flags & PF_X) !== 0,
        writable: (flags & PF_W) !== 0,
      });
    }
    if (!this.segments.some(({ executable }) => executable)) throw new AnalysisError('elf', 'the ELF file has no code');
  }

  private readSections(): void {
    const { view } = this;
    const offset = view.getBigUint64(40, true);
    const count = view.getUint16(60, true);
    const stride = view.getUint16(58, true);
    if (offset === 0n || count === 0) return; // stripped of its sections
    if (stride < SECTION_HEADER_SIZE) throw damaged(`its section headers are ${stride} bytes each, less than 64`);
    if (count > MAX_SECTIONS) throw damaged(`it has ${count} sections`);
    const table = this.range(offset, BigInt(count * stride), 'the section header table');
    const all = Array.from({ length: count }, (_, n): Section => {
      const at = table + n * stride;
      return {
        type: view.getUint32(at + 4, true),
        flags: view.getBigUint64(at + 8, true),
        address: view.getBigUint64(at + 16, true),
        offset: view.getBigUint64(at + 24, true),
        size: view.getBigUint64(at + 32, true),
        link: view.getUint32(at + 40, true),
      };
    });
    for (const { type, flags, address, size } of all) {
      if ((flags & SHF_EXECINSTR) === 0n || type === 0 || size === 0n) continue;
      const start = address + this.bias;
      if (this.segments.some((s) => s.executable && start >= s.address && start + size <= s.end)) {
        this.sections.push({ address: start, end: start + size });
      }
    }
    this.sections.sort((a, b) => compare(a.address, b.address));
    // What only the dynamic linker needs is nearly always in the other table too.
    const tables = all.filter(({ type }) => type === SHT_SYMTAB);
    for (const symbols of tables.length > 0 ? tables : all.filter(({ type }) => type === SHT_DYNSYM)) {
      this.readSymbols(symbols, all);
    }
    for (const relocations of all) if (relocations.type === SHT_RELA) this.readImports(relocations, all);
  }

  /** Where entries and names of a symbol table are in the file. */
  private symbolTable(table: Section, all: readonly Section[]) {
    const strings = all[table.link];
    if (!strings) throw damaged('a symbol table names a string table that does not exist');
    const from = this.range(table.offset, table.size, 'a symbol table');
    const namesFrom = this.range(strings.offset, strings.size, 'a string table');
    const count = Math.floor(Number(table.size) / SYMBOL_SIZE);
    return { from, count, namesFrom, namesEnd: namesFrom + Number(strings.size) };
  }

  /** Charges for entries that are looked at one by one. */
  private charge(entries: number): void {
    this.entries += entries;
    if (this.entries > MAX_SYMBOLS) throw damaged(`its tables have more than ${MAX_SYMBOLS} symbols and relocations`);
  }

  /** Where a name is; undefined when the string table has no such place. */
  private nameRange(offset: number, namesFrom: number, namesEnd: number) {
    const nameAt = namesFrom + offset;
    if (nameAt >= namesEnd) return undefined;
    // No longer than what is ever compared or shown: many symbols may share one endless name.
    const nameEnd = this.bytes.subarray(nameAt, Math.min(namesEnd, nameAt + MAX_NAME)).indexOf(0);
    return nameEnd < 0 ? undefined : { nameAt, nameEnd: nameAt + nameEnd };
  }

  private readSymbols(table: Section, all: readonly Section[]): void {
    const { view, bytes } = this;
    const { from, count, namesFrom, namesEnd } = this.symbolTable(table, all);
    this.charge(count);
    for (let n = 0, at = from; n < count; n++, at += SYMBOL_SIZE) {
      const info = bytes[at + 4]!;
      const type = info & 15;
      const isFunction = type === STT_FUNC || type === STT_GNU_IFUNC;
      if ((!isFunction && type !== STT_NOTYPE) || view.getUint16(at + 6, true) === SHN_UNDEF) continue;
      const address = view.getBigUint64(at + 8, true) + this.bias;
      if (this.half(address) === undefined) continue;
      const name = this.nameRange(view.getUint32(at, true), namesFrom, namesEnd);
      // A name that begins with $ marks a stretch of code or data (psABI, "Mapping Symbol"): it names nothing.
      if (!name || name.nameAt === name.nameEnd || bytes[name.nameAt] === 0x24) continue;
      const size = view.getBigUint64(at + 16, true);
      this.symbols.push({ address, size, isFunction, isLocal: info >> 4 === 0, ...name });
    }
  }

  private readImports(table: Section, all: readonly Section[]): void {
    const { view } = this;
    const symbols = all[table.link];
    if (symbols?.type !== SHT_DYNSYM) return;
    const from = this.range(table.offset, table.size, 'a relocation table');
    const { from: symbolsFrom, count, namesFrom, namesEnd } = this.symbolTable(symbols, all);
    const entries = Math.floor(Number(table.size) / RELOCATION_SIZE);
    this.charge(entries);
    for (let n = 0, at = from; n < entries; n++, at += RELOCATION_SIZE) {
      const symbol = view.getUint32(at + 12, true);
      if (view.getUint32(at + 8, true) !== R_RISCV_JUMP_SLOT || symbol >= count) continue;
      const name = this.nameRange(view.getUint32(symbolsFrom + symbol * SYMBOL_SIZE, true), namesFrom, namesEnd);
      if (name) this.imports.set(view.getBigUint64(at, true) + this.bias, name);
    }
  }
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The index of the first one above an address. */
function firstAbove(symbols: readonly { address: bigint }[], address: bigint): number {
  let low = 0;
  let high = symbols.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (symbols[middle]!.address <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

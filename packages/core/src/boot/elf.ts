/**
 * Reader of ELF executables for 64-bit little-endian RISC-V (System V gABI chapters 4 and 5, RISC-V psABI chapter "ELF
 * Object Files").
 *
 * It takes what a boot loader needs: the entry, the loadable segments by physical address, and a few symbols. The file is
 * hostile input: every offset and size is checked before use, and the one error thrown is `BootError`. Segment data are views
 * of the file, not copies.
 */

import { BootError, hex, size } from './errors.ts';

export interface ElfSegment {
  /** Its place among the program headers, for messages. */
  readonly index: number;
  /** Where the segment goes in guest-physical memory (`p_paddr`). */
  readonly physical: bigint;
  /** Where the program sees it once it has mapped itself (`p_vaddr`). */
  readonly virtual: bigint;
  /** What the file holds of it; what is missing up to `memorySize` is zero. */
  readonly data: Uint8Array;
  readonly memorySize: bigint;
}

export interface ElfImage {
  /** Whether it runs anywhere (`ET_DYN`): where it was linked says only how its parts lie to each other. */
  readonly relocatable: boolean;
  /** The entry as a physical address: `e_entry` through the segment that holds it. */
  readonly entry: bigint;
  /** The loadable segments that are not empty, by ascending physical address; at least one, none overlapping. */
  readonly segments: readonly ElfSegment[];
  /**
   * The physical address of a defined symbol, or undefined. The symbol table is searched at each call. Throws `BootError` when
   * the symbol table is damaged.
   */
  lookup(name: string): bigint | undefined;
}

const HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;
const SECTION_HEADER_SIZE = 64;
const SYMBOL_SIZE = 24;

const ET_EXEC = 2;
const ET_DYN = 3;
const EM_RISCV = 243;
const PT_LOAD = 1;
const PT_INTERP = 3;
const SHT_SYMTAB = 2;
const SHN_UNDEF = 0;
/** `e_phnum` of a file whose number of program headers does not fit there. */
const PN_XNUM = 0xffff;
/** Linkers make fewer than ten; the bound limits the work of placing them. */
const MAX_SEGMENTS = 1024;

/** Names of `e_machine` that somebody may well pass by mistake. */
const MACHINES = new Map([
  [2, 'SPARC'],
  [3, 'x86 (32 bits)'],
  [8, 'MIPS'],
  [20, 'PowerPC (32 bits)'],
  [21, 'PowerPC (64 bits)'],
  [22, 'S/390'],
  [40, 'Arm (32 bits)'],
  [43, 'SPARC (64 bits)'],
  [62, 'x86-64'],
  [183, 'Arm (64 bits)'],
  [258, 'LoongArch'],
]);

/** Whether the file starts as an ELF file does. */
export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/** A segment as messages show it: `segment 1 (0x80001000..0x80002000)`. */
export function segmentText(segment: ElfSegment, shift = 0n): string {
  const start = segment.physical + shift;
  return `segment ${segment.index} (${hex(start)}..${hex(start + segment.memorySize)})`;
}

/**
 * Reads an executable; `what` names it in messages. Throws `BootError` for everything that is not one, or not one for this
 * machine.
 */
export function parseElf(bytes: Uint8Array, what = 'ELF file'): ElfImage {
  const { truncated, corrupt, wrong, range } = faultsOf(what, bytes);
  if (!isElf(bytes)) throw wrong('it does not start with the ELF magic number', 'give an ELF executable');
  if (bytes.length < HEADER_SIZE) {
    throw truncated(`its header takes ${HEADER_SIZE} bytes but the file has ${size(bytes.length)}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[4] === 1) throw wrong('it is for a 32-bit machine', 'compile it for rv64');
  if (bytes[4] !== 2) throw corrupt(`its class byte is ${bytes[4]}`);
  if (bytes[5] === 2) throw wrong('it is big-endian', 'compile it for little-endian RISC-V');
  if (bytes[5] !== 1) throw corrupt(`its data encoding byte is ${bytes[5]}`);
  const machine = view.getUint16(18, true);
  if (machine !== EM_RISCV) {
    throw wrong(`it is for ${MACHINES.get(machine) ?? `machine number ${machine}`}`, 'compile it for riscv64');
  }
  const type = view.getUint16(16, true);
  if (type !== ET_EXEC && type !== ET_DYN) {
    const what = type === 1 ? 'it is a relocatable object' : type === 4 ? 'it is a core dump' : `its type is ${type}`;
    throw wrong(`${what}, not an executable`, 'link it');
  }
  const count = view.getUint16(56, true);
  const stride = view.getUint16(54, true);
  if (count === PN_XNUM) throw wrong(`it has ${PN_XNUM} program headers or more`, 'link it with fewer segments');
  if (count === 0) throw wrong('it has no program headers, so nothing to load', 'link it as an executable');
  if (stride < PROGRAM_HEADER_SIZE) throw corrupt(`its program headers are ${stride} bytes each, less than 56`);
  const table = range(view.getBigUint64(32, true), BigInt(count * stride), 'the program header table');

  const segments: ElfSegment[] = [];
  let entry = view.getBigUint64(24, true);
  for (let i = 0, at = table; i < count; i++, at += stride) {
    const kind = view.getUint32(at, true);
    if (kind === PT_INTERP) throw wrong('it is dynamically linked', 'link it with -static');
    if (kind !== PT_LOAD) continue;
    const memorySize = view.getBigUint64(at + 40, true);
    if (memorySize === 0n) continue;
    if (segments.length === MAX_SEGMENTS) {
      throw wrong(`it has more than ${MAX_SEGMENTS} loadable segments`, 'link it with fewer');
    }
    const fileSize = view.getBigUint64(at + 32, true);
    const physical = view.getBigUint64(at + 24, true);
    if (fileSize > memorySize) {
      const sizes = `${hex(fileSize)} bytes in the file, more than its ${hex(memorySize)} in memory`;
      throw corrupt(`segment ${i} at ${hex(physical)} has ${sizes}`);
    }
    const start = range(view.getBigUint64(at + 8, true), fileSize, `segment ${i} at ${hex(physical)}`);
    const virtual = view.getBigUint64(at + 16, true);
    if (physical + memorySize > 1n << 64n || virtual + memorySize > 1n << 64n) {
      throw corrupt(`segment ${i} (${hex(memorySize)} bytes at ${hex(physical)}) wraps around the address space`);
    }
    segments.push({ index: i, physical, virtual, data: bytes.subarray(start, start + Number(fileSize)), memorySize });
  }
  if (segments.length === 0) throw wrong('it has no loadable segment', 'link it as an executable');
  segments.sort((a, b) => (a.physical < b.physical ? -1 : a.physical > b.physical ? 1 : 0));
  for (let i = 1; i < segments.length; i++) {
    const before = segments[i - 1]!;
    if (segments[i]!.physical < before.physical + before.memorySize) {
      throw wrong(
        `its ${segmentText(before)} and ${segmentText(segments[i]!)} overlap in memory`,
        'link it with physical addresses of their own',
      );
    }
  }

  /** A linked address as a physical one; addresses outside every segment stay as they are. */
  const toPhysical = (address: bigint) => {
    const home = segments.find((s) => address >= s.virtual && address < s.virtual + s.memorySize);
    return home === undefined ? address : home.physical + (address - home.virtual);
  };
  entry = toPhysical(entry);
  return {
    relocatable: type === ET_DYN,
    entry,
    segments,
    lookup(name) {
      const value = findSymbol(bytes, view, new TextEncoder().encode(name), what);
      return value === undefined ? undefined : toPhysical(value);
    },
  };
}

/** The value of a defined symbol; a global one wins over a local one of the same name. */
function findSymbol(bytes: Uint8Array, view: DataView, name: Uint8Array, what: string): bigint | undefined {
  const { corrupt, range } = faultsOf(what, bytes);
  const offset = view.getBigUint64(40, true);
  const count = view.getUint16(60, true);
  const stride = view.getUint16(58, true);
  if (offset === 0n || count === 0) return undefined; // stripped of sections
  if (stride < SECTION_HEADER_SIZE) throw corrupt(`its section headers are ${stride} bytes each, less than 64`);
  const table = range(offset, BigInt(count * stride), 'the section header table');
  for (let i = 0; i < count; i++) {
    const at = table + i * stride;
    if (view.getUint32(at + 4, true) !== SHT_SYMTAB) continue;
    let local: bigint | undefined;
    const link = view.getUint32(at + 40, true);
    if (link >= count) throw corrupt('its symbol table names a string table that does not exist');
    const symbolBytes = view.getBigUint64(at + 32, true);
    const symbols = range(view.getBigUint64(at + 24, true), symbolBytes, 'the symbol table');
    const stringsAt = table + link * stride;
    const stringBytes = view.getBigUint64(stringsAt + 32, true);
    const strings = range(view.getBigUint64(stringsAt + 24, true), stringBytes, 'the string table');
    const stringsEnd = strings + Number(stringBytes);
    const symbolsEnd = symbols + Number(symbolBytes) - SYMBOL_SIZE;
    for (let symbol = symbols; symbol <= symbolsEnd; symbol += SYMBOL_SIZE) {
      if (view.getUint16(symbol + 6, true) === SHN_UNDEF) continue;
      const text = strings + view.getUint32(symbol, true);
      if (text + name.length + 1 > stringsEnd || bytes[text + name.length] !== 0) continue;
      let same = 0;
      while (same < name.length && bytes[text + same] === name[same]) same++;
      if (same < name.length) continue;
      const value = view.getBigUint64(symbol + 8, true);
      if (bytes[symbol + 4]! >> 4 !== 0) return value;
      local ??= value;
    }
    // A file has one (gABI, "Sections"): more of them, all of the same bytes, would cost without bound.
    return local;
  }
  return undefined;
}

/** What may be wrong with a file, as errors that name it. */
function faultsOf(what: string, { length: fileSize }: Uint8Array) {
  const again = 'copy or build it again';
  const truncated = (why: string) => new BootError(what, `it is truncated or corrupt (${why})`, again);
  return {
    truncated,
    corrupt: (why: string) => new BootError(what, `it is corrupt (${why})`, again),
    wrong: (why: string, remedy: string) => new BootError(what, why, remedy),
    /** `[offset, offset + length)` of the file, checked; the offset as a number. */
    range(offset: bigint, length: bigint, part: string): number {
      if (offset + length > BigInt(fileSize)) {
        throw truncated(
          `${part} needs ${hex(length)} bytes at offset ${hex(offset)} but the file has ${size(fileSize)}`,
        );
      }
      return Number(offset);
    },
  };
}

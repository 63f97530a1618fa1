/**
 * The functions of a program, or of a kernel: where they begin, and where they return.
 *
 * A return is found by reading a function's instructions in order. Data among them may be taken for one, which only costs time.
 */

import { ProgramCode } from '../branch/program-code.ts';
import { TraceError } from './errors.ts';

export interface TracedFunction {
  readonly name: string;
  readonly address: bigint;
  /** Behind its last byte. */
  readonly end: bigint;
}

/** A function whose code has been read. */
export interface MappedFunction extends TracedFunction {
  /** It never lowers the stack pointer by a constant: what it calls is entered with its own. */
  readonly frameless: boolean;
}

export interface FunctionMap {
  /** By ascending address, one an address. */
  readonly functions: readonly MappedFunction[];
  /** Addresses of instructions that return through ra. */
  readonly returns: readonly bigint[];
}

/** What is read of a function's code: its returns, and whether it ever makes room on the stack. */
interface Read {
  readonly bytes: bigint;
  readonly returns: readonly bigint[];
  readonly frameless: boolean;
}

/** More would take a machine's breakpoints some hundreds of MB. */
const MAX_PLACES = 2 ** 19;
/** Bytes of code that are read: functions of a forged file may all lie over one another. */
const MAX_CODE = 2n ** 26n;
const RET = 0x00008067;
const SHORT_RET = 0x8082;
/** Additions to the stack pointer, without their constants. */
const ADDI_SP = 0x10113;
const C_ADDI_SP = 0x0101;
const C_ADDI16_SP = 0x6101;

/** The map of functions in any order; `half` gives 16 bits of code. Throws `TraceError`. */
export function functionMap(
  list: readonly TracedFunction[],
  half: (address: bigint) => number | undefined,
): FunctionMap {
  const byAddress = new Map<bigint, TracedFunction>();
  for (const one of list) {
    const before = byAddress.get(one.address);
    if (!before || one.end > before.end) byAddress.set(one.address, one);
  }
  const functions: MappedFunction[] = [];
  const returns = new Set<bigint>();
  let left = MAX_CODE;
  for (const one of [...byAddress.values()].sort((a, b) => (a.address < b.address ? -1 : 1))) {
    const read = readCode(one, half, left);
    left -= read.bytes;
    functions.push({ ...one, frameless: read.frameless });
    for (const at of read.returns) returns.add(at);
    if (functions.length + returns.size > MAX_PLACES) {
      throw new TraceError('program', `more than ${MAX_PLACES} functions and returns: choose fewer of them`);
    }
  }
  if (functions.length === 0) {
    throw new TraceError('program', 'the file names no functions: use one that is not stripped of its symbols');
  }
  return { functions, returns: [...returns] };
}

function readCode({ address, end }: TracedFunction, half: (address: bigint) => number | undefined, most: bigint): Read {
  const returns: bigint[] = [];
  let frameless = true;
  let at = address;
  while (at < end) {
    if (at - address >= most) {
      throw new TraceError('program', `its functions have more than ${MAX_CODE} bytes of code: choose fewer of them`);
    }
    const low = half(at);
    if (low === undefined) break;
    if ((low & 3) !== 3) {
      if (low === SHORT_RET) returns.push(at);
      if ((low & 0xef83) === C_ADDI_SP || (low & 0xef83) === C_ADDI16_SP) frameless = false;
      at += 2n;
      continue;
    }
    const high = half(at + 2n);
    if (high === undefined) break;
    const word = low + high * 65536;
    if (word === RET) returns.push(at);
    if ((word & 0xfffff) === ADDI_SP) frameless = false;
    at += 4n;
  }
  return { returns, frameless, bytes: at - address };
}

/** A program's file, wherever it is loaded. */
export class TracedProgram {
  /** As the file is linked. */
  readonly map: FunctionMap;
  /** It may be loaded anywhere. */
  readonly movable: boolean;
  readonly entry: bigint;
  private readonly code: ProgramCode;

  /** Throws `AnalysisError` when it is no program for this machine, `TraceError` when it names no functions. */
  constructor(elf: Uint8Array, select: (name: string) => boolean = () => true) {
    this.code = new ProgramCode(elf);
    const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
    this.movable = view.getUint16(16, true) === ET_DYN;
    this.entry = view.getBigUint64(24, true);
    const { code } = this;
    const functions = code.functions.map((symbol) => ({
      name: code.nameOf(symbol),
      address: symbol.address,
      end: code.endOf(symbol),
    }));
    this.map = functionMap(
      functions.filter(({ name }) => select(name)),
      (address) => code.half(address),
    );
  }

  /** The file's code at an address as it is linked; undefined where that is not all code. */
  bytes(address: bigint, length: number): Uint8Array | undefined {
    return this.code.code(address, length);
  }

  /**
   * Whether memory holds this file's code, loaded `bias` above its own addresses: that of the function at `address`, where the program is
   * about to execute, and of some others as far as they are there.
   */
  isAt(address: bigint, bias: bigint, memory: (address: bigint, length: number) => Uint8Array): boolean {
    const { functions } = this.map;
    const linked = BigInt.asUintN(64, address - bias);
    const own = functions.find((one) => linked >= one.address && linked < one.end);
    if (!own) return false;
    const stride = Math.max(1, Math.floor(functions.length / SAMPLES));
    const others = functions.filter((_, n) => n % stride === 0);
    return this.isThere(own, bias, memory) === true && others.every((one) => this.isThere(one, bias, memory) !== false);
  }

  /** Undefined when nobody can tell, as it is not all mapped. */
  private isThere(
    { address, end }: TracedFunction,
    bias: bigint,
    memory: (address: bigint, length: number) => Uint8Array,
  ): boolean | undefined {
    const length = end - address < 4096n ? Number(end - address) : 4096;
    const expected = this.bytes(address, length);
    const found = memory(BigInt.asUintN(64, address + bias), length);
    if (!expected || found.length < 2) return undefined;
    return found.every((byte, n) => byte === expected[n]);
  }

  /**
   * How far above its own addresses the file is loaded, by what the kernel has told the program when it started it: the auxiliary vector,
   * which lies at the upper end of the first thread's stack. Undefined where it is not found.
   *
   * ```text
   *   sp ... | argc | argv, 0 | envp, 0 | (type, value) pairs: ... AT_PAGESZ (6) = 4096 ... AT_ENTRY (9) = where it begins ... 0, 0 | ...
   * ```
   */
  findBias(sp: bigint, memory: (address: bigint, length: number) => Uint8Array): bigint | undefined {
    for (let from = sp & ~15n, done = 0; done < MAX_STACK; done += PIECE) {
      // Pairs may be at 8 bytes' offset; a piece overlaps the next one by a vector's length.
      const bytes = memory(from + BigInt(done), PIECE + VECTOR);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let at = 0; at + 16 <= bytes.length; at += 8) {
        if (view.getBigUint64(at, true) !== AT_PAGESZ || view.getBigUint64(at + 8, true) !== PAGE) continue;
        for (let pair = at + 16; pair + 16 <= bytes.length && pair < at + VECTOR; pair += 16) {
          if (view.getBigUint64(pair, true) !== AT_ENTRY) continue;
          const bias = BigInt.asUintN(64, view.getBigUint64(pair + 8, true) - this.entry);
          if (bias % PAGE === 0n) return bias;
        }
      }
      if (bytes.length < PIECE) return undefined;
    }
    return undefined;
  }
}

const ET_DYN = 3;
/** Functions whose code is compared. */
const SAMPLES = 256;
const PAGE = 4096n;
const PIECE = 65536;
const MAX_STACK = 2 ** 20;
const VECTOR = 512;
const AT_PAGESZ = 6n;
const AT_ENTRY = 9n;

/**
 * What is where in RAM when the harts start, and how they start.
 *
 * Linux, entered in S-mode above the monitor's SBI:
 *
 *     0x8000_0000 + text_offset   kernel (2 MiB above the start of RAM, for a 64-bit one)
 *             ...
 *     below the device tree       initial RAM disk
 *     top, rounded down to 2 MiB  device tree
 *
 * Firmware, entered in M-mode, with everything where QEMU puts it:
 *
 *     0x8000_0000                 firmware (flat, or an ELF by its physical addresses; a position-independent one
 *                                 that was linked elsewhere goes here)
 *     next multiple of 2 MiB      kernel (flat, or an ELF by its physical addresses)
 *     below the device tree       initial RAM disk, then the page of struct fw_dynamic_info
 *     top, rounded down to 2 MiB  device tree
 *
 * The top is the end of RAM, but not above 0xc000_0000, which any 32-bit code can still reach. A plan holds views of the
 * caller's files, not copies.
 */

import type { Boot, MachineOptions } from '../machine/options.ts';
import { PLATFORM, type PlatformTreeConfig, platformTree } from './device-tree.ts';
import { type ElfImage, isElf, parseElf, segmentText } from './elf.ts';
import { BootError, hex, size } from './errors.ts';
import { isLinuxImage, parseLinuxImage, refuseCompressed, refuseForeign } from './linux.ts';

/** Bytes to be put into RAM at power-on; all other RAM is zero. */
export interface BootWrite {
  /** What it is, for messages. */
  readonly what: string;
  /** Guest-physical. */
  readonly address: number;
  readonly data: Uint8Array;
}

/** The state in which harts start; a0 is the hart's number, and every register that is not named here is 0. */
export interface BootStart {
  readonly mode: 'M' | 'S';
  readonly pc: bigint;
  /** The address of the device tree. */
  readonly a1: bigint;
  /** The address of `struct fw_dynamic_info` for firmware, otherwise 0. */
  readonly a2: bigint;
  /** `first`: hart 0 starts and the others are stopped in the sense of SBI HSM. `all`: every hart starts at `pc`. */
  readonly harts: 'first' | 'all';
}

/** Symbols of a bare-metal ELF that its test environment shares with us, as addresses in RAM. */
export interface BootSymbols {
  /** Eight bytes each: the host-target interface. */
  readonly tohost?: number;
  readonly fromhost?: number;
  /** What `--signature` writes out: `[begin, end)`. */
  readonly signature?: { readonly begin: number; readonly end: number };
}

export interface BootPlan {
  readonly writes: readonly BootWrite[];
  readonly start: BootStart;
  readonly symbols: BootSymbols;
}

const RAM: number = PLATFORM.ram.base;
const REACH = 0xc000_0000;
const PAGE = 0x1000;
const HUGE_PAGE = 0x20_0000;
/** Kept free behind the device tree: firmware adds nodes to it where it lies. */
const TREE_HEADROOM = 0x1_0000;
/** What a kernel keeps of its command line (Linux, arch/riscv/include/uapi/asm/setup.h), the zero included. */
const COMMAND_LINE_SIZE = 1024;

/** Plans a start. Throws `BootError` when something is not what it should be or does not fit. */
export function planBoot(options: Pick<MachineOptions, 'boot' | 'memory' | 'harts' | 'seed'>): BootPlan {
  const { boot } = options;
  const ram = new Ram(options.memory);
  const tree = { memory: options.memory, harts: options.harts, rngSeed: rngSeed(options.seed) };
  switch (boot.kind) {
    case 'linux':
      return planLinux(boot, ram, tree);
    case 'firmware':
      return planFirmware(boot, ram, tree);
    case 'bare':
      return planBare(boot, ram, tree);
  }
}

type TreeBase = Pick<PlatformTreeConfig, 'memory' | 'harts' | 'rngSeed'>;

function planLinux(boot: Extract<Boot, { kind: 'linux' }>, ram: Ram, tree: TreeBase): BootPlan {
  let pc: number;
  if (boot.flat) {
    refuseEmpty(boot.kernel, 'kernel');
    pc = ram.place('kernel', RAM + HUGE_PAGE, boot.kernel);
  } else if (isElf(boot.kernel)) pc = placeKernelElf(ram, parseElf(boot.kernel, 'kernel'), RAM + HUGE_PAGE);
  else pc = placeImage(ram, boot.kernel, undefined);
  checkCommandLine(boot.append, COMMAND_LINE_SIZE - 1);
  const { dtb } = placeHigh(ram, { ...tree, reader: 'supervisor', ...bootargs(boot.append) }, boot.initrd, undefined);
  return {
    writes: ram.writes,
    start: { mode: 'S', pc: BigInt(pc), a1: BigInt(dtb), a2: 0n, harts: 'first' },
    symbols: {},
  };
}

function planFirmware(boot: Extract<Boot, { kind: 'firmware' }>, ram: Ram, tree: TreeBase): BootPlan {
  let pc = RAM;
  let end: number;
  if (isElf(boot.firmware)) {
    const elf = parseElf(boot.firmware, 'firmware');
    const shift = shiftOf(elf, ram, RAM);
    end = placeElf(ram, 'firmware', elf, shift);
    pc = entryOf('firmware', elf, shift);
  } else {
    refuseEmpty(boot.firmware, 'firmware');
    refuseCompressed(boot.firmware, 'firmware');
    ram.place('firmware', RAM, boot.firmware);
    end = RAM + boot.firmware.length;
  }
  let next = 0;
  if (boot.kernel !== undefined) {
    const address = Math.ceil(end / HUGE_PAGE) * HUGE_PAGE;
    if (boot.flat) {
      refuseEmpty(boot.kernel, 'kernel');
      next = ram.place('kernel', address, boot.kernel);
    } else if (isElf(boot.kernel)) next = placeKernelElf(ram, parseElf(boot.kernel, 'kernel'), address);
    else if (isLinuxImage(boot.kernel)) next = placeImage(ram, boot.kernel, address);
    else {
      // What runs in S-mode above firmware may be another loader, a flat file of any form.
      refuseForeign(boot.kernel);
      next = ram.place('kernel', address, boot.kernel);
    }
  }
  checkCommandLine(boot.append, 0xffff);
  const { dtb, info } = placeHigh(
    ram,
    { ...tree, reader: 'machine', ...bootargs(boot.append) },
    boot.initrd,
    dynamicInfo(next),
  );
  return {
    writes: ram.writes,
    start: { mode: 'M', pc: BigInt(pc), a1: BigInt(dtb), a2: BigInt(info), harts: 'all' },
    symbols: {},
  };
}

function planBare(boot: Extract<Boot, { kind: 'bare' }>, ram: Ram, tree: TreeBase): BootPlan {
  let pc = RAM;
  let symbols: BootSymbols = {};
  if (isElf(boot.image)) {
    const elf = parseElf(boot.image, 'program');
    const shift = shiftOf(elf, ram, RAM);
    placeElf(ram, 'program', elf, shift);
    pc = entryOf('program', elf, shift);
    symbols = symbolsOf(elf, ram, shift);
  } else {
    refuseEmpty(boot.image, 'program');
    refuseCompressed(boot.image, 'program');
    ram.place('program', RAM, boot.image);
  }
  const { dtb } = placeHigh(ram, { ...tree, reader: 'machine' }, undefined, undefined);
  return {
    writes: ram.writes,
    start: { mode: 'M', pc: BigInt(pc), a1: BigInt(dtb), a2: 0n, harts: 'all' },
    symbols,
  };
}

/** A Linux image at an address, or where its header asks to be. */
function placeImage(ram: Ram, bytes: Uint8Array, address: number | undefined): number {
  const image = parseLinuxImage(bytes);
  return ram.place('kernel', address ?? RAM + image.textOffset, image.data, image.imageSize);
}

/**
 * A kernel as ELF. Linux's own `vmlinux` has physical addresses that count from 0 because it runs anywhere: it goes to
 * `address`. The start is the lowest address and not the ELF entry: that is where flat kernels start, and kernels have another
 * entry for other loaders in the ELF header (QEMU, hw/riscv/boot.c).
 */
function placeKernelElf(ram: Ram, elf: ElfImage, address: number): number {
  const lowest = elf.segments[0]!.physical;
  const shift = lowest === 0n ? BigInt(address) : shiftOf(elf, ram, address);
  placeElf(ram, 'kernel', elf, shift);
  const start = lowest + shift;
  if (start % 2n !== 0n) throw new BootError('kernel', `it starts at the odd address ${hex(start)}`, 'link it again');
  return Number(start);
}

/**
 * How far from where it was linked an ELF goes: one that runs anywhere and was not linked for RAM goes to `base`, a multiple of 2 MiB. No
 * segment asks for a larger alignment.
 */
function shiftOf(elf: ElfImage, ram: Ram, base: number): bigint {
  const lowest = elf.segments[0]!.physical;
  if (!elf.relocatable || (lowest >= BigInt(RAM) && lowest < BigInt(ram.end))) return 0n;
  return BigInt(base) - (lowest & ~BigInt(HUGE_PAGE - 1));
}

/** An ELF's segments; returns the address after the last. */
function placeElf(ram: Ram, what: string, elf: ElfImage, shift: bigint): number {
  for (const segment of elf.segments) {
    const address = segment.physical + shift;
    if (address < BigInt(RAM) || address + segment.memorySize > BigInt(ram.end)) {
      throw new BootError(
        what,
        `its ${segmentText(segment, shift)} of ${size(segment.memorySize)} lies outside RAM (${ram.extent()})`,
        'link it for RAM or give the machine more memory',
      );
    }
    ram.place(what, Number(address), segment.data, Number(segment.memorySize));
  }
  const last = elf.segments[elf.segments.length - 1]!;
  return Number(last.physical + last.memorySize + shift);
}

/** Where a placed ELF starts. */
function entryOf(what: string, elf: ElfImage, shift: bigint): number {
  const { entry, segments } = elf;
  const start = entry + shift;
  if (!segments.some(({ physical, memorySize }) => entry >= physical && entry < physical + memorySize)) {
    const shown = segments.slice(0, 4).map((segment) => segmentText(segment, shift));
    const rest = segments.length > shown.length ? ` and ${segments.length - shown.length} more` : '';
    throw new BootError(
      what,
      `its entry ${hex(start)} lies outside its segments: ${shown.join(', ')}${rest}`,
      'link it with an entry in one of them (ld -e)',
    );
  }
  if (start % 2n !== 0n) throw new BootError(what, `its entry ${hex(start)} is odd`, 'link it again');
  return Number(start);
}

function symbolsOf(elf: ElfImage, ram: Ram, shift: bigint): BootSymbols {
  const address = (name: string, length: number) => {
    const linked = elf.lookup(name);
    if (linked === undefined) return undefined;
    const value = linked + shift;
    if (value < BigInt(RAM) || value + BigInt(length) > BigInt(ram.end)) {
      throw new BootError(
        'program',
        `its symbol ${name} (${hex(value)}) lies outside RAM (${ram.extent()})`,
        'link it again',
      );
    }
    return Number(value);
  };
  const tohost = address('tohost', 8);
  const fromhost = address('fromhost', 8);
  const begin = address('begin_signature', 0);
  const end = address('end_signature', 0);
  if (begin !== undefined && end !== undefined && begin > end) {
    throw new BootError('program', 'its end_signature comes before its begin_signature', 'link it again');
  }
  return {
    ...(tohost === undefined ? {} : { tohost }),
    ...(fromhost === undefined ? {} : { fromhost }),
    ...(begin === undefined || end === undefined ? {} : { signature: { begin, end } }),
  };
}

/** Places what goes to the top of RAM: device tree, firmware's parameters, initial RAM disk. */
function placeHigh(
  ram: Ram,
  tree: PlatformTreeConfig,
  initrd: Uint8Array | undefined,
  parameters: Uint8Array | undefined,
): { dtb: number; info: number } {
  const top = Math.min(ram.end, REACH);
  if (initrd !== undefined && initrd.length === 0) refuseEmpty(initrd, 'initial RAM disk');
  // The size does not depend on where the RAM disk goes, only on whether there is one.
  const draft = platformTree({ ...tree, ...(initrd === undefined ? {} : { initrd: { start: 0, end: 0 } }) });
  const dtb = Math.floor((top - draft.length - TREE_HEADROOM) / HUGE_PAGE) * HUGE_PAGE;
  let floor = dtb;
  let info = 0;
  if (parameters !== undefined) floor = info = floor - PAGE;
  let where: PlatformTreeConfig['initrd'];
  if (initrd !== undefined) {
    const start = Math.floor((floor - initrd.length) / PAGE) * PAGE;
    where = { start, end: start + initrd.length };
  }
  const blob = platformTree({ ...tree, ...(where === undefined ? {} : { initrd: where }) });
  ram.place('device tree', dtb, blob, blob.length + TREE_HEADROOM);
  if (parameters !== undefined) ram.place('firmware parameters', info, parameters);
  if (initrd !== undefined) ram.place('initial RAM disk', where!.start, initrd);
  return { dtb, info };
}

/** OpenSBI's `struct fw_dynamic_info`, version 2: six 64-bit numbers. */
function dynamicInfo(next: number): Uint8Array {
  const bytes = new Uint8Array(48);
  const view = new DataView(bytes.buffer);
  const supervisor = 1;
  const fields = [0x4942534f, 2, next, supervisor, 0 /* options */, 0 /* boot hart */];
  for (const [i, field] of fields.entries()) view.setBigUint64(i * 8, BigInt(field), true);
  return bytes;
}

function bootargs(append: string | undefined): { bootargs?: string } {
  return append === undefined ? {} : { bootargs: append };
}

function checkCommandLine(append: string | undefined, limit: number): void {
  if (append === undefined) return;
  if (append.includes('\0'))
    throw new BootError('kernel command line', 'it contains a zero character', 'leave that out');
  const { length } = new TextEncoder().encode(append);
  if (length > limit) {
    throw new BootError('kernel command line', `it has ${length} bytes and at most ${limit} are kept`, 'shorten it');
  }
}

function refuseEmpty(bytes: Uint8Array, what: string): void {
  if (bytes.length === 0) throw new BootError(what, 'it is empty', 'copy or build it again');
}

/** 32 bytes drawn from the machine's seed (splitmix64), apart from what other users of the seed draw. */
function rngSeed(seed: bigint): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  let state = BigInt.asUintN(64, seed) ^ 0x726e672d73656564n; // "rng-seed"
  for (let i = 0; i < 4; i++) {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let z = state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    view.setBigUint64(i * 8, z ^ (z >> 31n), true);
  }
  return bytes;
}

/** RAM as it fills up: refuses what lies outside it or over something else. */
class Ram {
  readonly end: number;
  readonly writes: BootWrite[] = [];
  readonly #memory: number;
  readonly #taken: { what: string; start: number; end: number }[] = [];

  constructor(memory: number) {
    this.#memory = memory;
    this.end = RAM + memory;
  }

  extent(): string {
    return `${size(this.#memory)} at ${hex(RAM)}..${hex(this.end)}`;
  }

  /** Takes `length` bytes at `address` and has `data` written at their start; returns the address. */
  place(what: string, address: number, data: Uint8Array, length = data.length): number {
    const end = address + length;
    const span = `${size(length)} at ${hex(Math.max(address, 0))}`;
    const more = 'give the machine more memory';
    if (address < RAM || end > this.end) {
      throw new BootError(what, `it does not fit (${span}, and RAM is ${this.extent()})`, more);
    }
    const other = this.#taken.find((range) => address < range.end && range.start < end);
    if (other !== undefined) {
      const theirs = `${other.what} (${size(other.end - other.start)} at ${hex(other.start)})`;
      throw new BootError(what, `it does not fit (${span}) beside the ${theirs} in RAM of ${size(this.#memory)}`, more);
    }
    this.#taken.push({ what, start: address, end });
    if (data.length > 0) this.writes.push({ what, address, data });
    return address;
  }
}

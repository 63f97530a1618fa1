/**
 * Reader of the RISC-V Linux boot image header (Linux, Documentation/arch/riscv/boot-image-header.rst).
 *
 *      0  u32 code0            an instruction, or "MZ" and one when the image is also an EFI application
 *      4  u32 code1
 *      8  u64 text_offset      where the image goes, from the start of RAM (little-endian)
 *     16  u64 image_size       what it takes in memory, its zeroed part included
 *     24  u64 flags            bit 0: the kernel is big-endian
 *     32  u32 version          of the header: major in the high half, minor in the low half
 *     36  u32, u64             reserved
 *     48  u64 magic            "RISCV", deprecated
 *     56  u32 magic2           "RSC\x05"
 *     60  u32 pe_offset        of the PE header, in an image that is also an EFI application
 */

import { BootError, hex, size } from './errors.ts';

export interface LinuxImage {
  /** Where the image goes, in bytes from the start of RAM: a multiple of 2 MiB. */
  readonly textOffset: number;
  /** What it takes in memory: at least the size of the file, which may end with a signature that the header does not count. */
  readonly imageSize: number;
  readonly data: Uint8Array;
}

const WHERE = 'kernel image';
const HEADER_SIZE = 64;
const MAGIC2 = 0x05435352;
const HUGE_PAGE = 0x20_0000;
/** No kernel is as large as this; a header that says so is damaged. */
const LARGEST = 1n << 31n;

/** Whether the file has the boot image header. */
export function isLinuxImage(bytes: Uint8Array): boolean {
  return bytes.length >= HEADER_SIZE && word(bytes, 56) === MAGIC2;
}

/** Reads the header. Throws `BootError`, with the name of what the file is instead when it can be told. */
export function parseLinuxImage(bytes: Uint8Array): LinuxImage {
  refuseForeign(bytes);
  if (!isLinuxImage(bytes)) {
    if (bytes.length < HEADER_SIZE) {
      throw new BootError(WHERE, `it is only ${size(bytes.length)} long`, 'copy or build it again');
    }
    throw new BootError(
      WHERE,
      'it has no RISC-V boot image header',
      'give arch/riscv/boot/Image, Image.gz or an ELF file; a flat binary that starts at 0x80200000 has to be called flat',
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if ((view.getBigUint64(24, true) & 1n) !== 0n) {
    throw new BootError(WHERE, 'it is a big-endian kernel', 'build a little-endian one');
  }
  const textOffset = view.getBigUint64(8, true);
  if (textOffset % BigInt(HUGE_PAGE) !== 0n || textOffset >= LARGEST) {
    throw corrupt(`its text offset is ${hex(textOffset)}`);
  }
  const imageSize = view.getBigUint64(16, true);
  if (imageSize >= LARGEST) throw corrupt(`its header asks for ${hex(imageSize)} bytes`);
  checkSections(bytes, view);
  return { textOffset: Number(textOffset), imageSize: Math.max(Number(imageSize), bytes.length), data: bytes };
}

/** An image that is also an EFI application says in its PE section table how long the file must be. */
function checkSections(bytes: Uint8Array, view: DataView): void {
  if (bytes[0] !== 0x4d || bytes[1] !== 0x5a) return;
  const pe = view.getUint32(60, true);
  if (pe + 24 > bytes.length) throw corrupt('its PE header lies outside the file');
  if (view.getUint32(pe, true) !== 0x4550) return;
  const sections = view.getUint16(pe + 6, true);
  const table = pe + 24 + view.getUint16(pe + 20, true);
  if (table + sections * 40 > bytes.length) throw corrupt('its PE section table lies outside the file');
  for (let i = 0; i < sections; i++) {
    const end = view.getUint32(table + i * 40 + 16, true) + view.getUint32(table + i * 40 + 20, true);
    if (end > bytes.length) throw corrupt(`the file has ${size(bytes.length)} but a section of it ends at ${hex(end)}`);
  }
}

/** Compressed formats by their first bytes, and the command that undoes each. */
const COMPRESSED: readonly (readonly [readonly number[], string, string])[] = [
  [[0x1f, 0x8b], 'gzip', 'gunzip'],
  [[0x28, 0xb5, 0x2f, 0xfd], 'zstd', 'unzstd'],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], 'xz', 'unxz'],
  [[0x42, 0x5a, 0x68], 'bzip2', 'bunzip2'],
  [[0x02, 0x21, 0x4c, 0x18], 'lz4', 'unlz4'],
  [[0x04, 0x22, 0x4d, 0x18], 'lz4', 'unlz4'],
  [[0x5d, 0x00, 0x00], 'lzma', 'unlzma'],
  [[0x89, 0x4c, 0x5a, 0x4f], 'lzo', 'lzop -d'],
];

/** Throws `BootError` for a compressed file: nothing that can be executed starts in such a way. */
export function refuseCompressed(bytes: Uint8Array, where: string): void {
  for (const [magic, name, command] of COMPRESSED) {
    if (magic.every((byte, i) => bytes[i] === byte)) {
      throw new BootError(where, `it is compressed with ${name}`, `decompress it first (${command})`);
    }
  }
}

/** Throws `BootError` for files that people pass as kernels by mistake. */
export function refuseForeign(bytes: Uint8Array): void {
  refuseCompressed(bytes, WHERE);
  const refuse = (what: string, remedy: string) => {
    throw new BootError(WHERE, `it is ${what}`, remedy);
  };
  if (bytes.length === 0) refuse('empty', 'copy or build it again');
  const text = (at: number, expected: string) => {
    for (let i = 0; i < expected.length; i++) if (bytes[at + i] !== expected.charCodeAt(i)) return false;
    return true;
  };
  const riscv = 'give a riscv64 kernel';
  if (text(0, 'MZ') && text(4, 'zimg')) {
    refuse('an EFI self-decompressing kernel (zboot)', 'give arch/riscv/boot/Image instead');
  }
  if (text(0x202, 'HdrS')) refuse('an x86 kernel (bzImage)', riscv);
  if (text(56, 'ARM\x64')) refuse('a 64-bit Arm kernel', riscv);
  if (word(bytes, 0x24) === 0x016f2818) refuse('a 32-bit Arm kernel (zImage)', riscv);
  if (text(0, '\x27\x05\x19\x56')) refuse('a U-Boot image (uImage)', 'give the Image inside');
  if (text(0, '\xd0\x0d\xfe\xed')) refuse('a flattened device tree or a FIT image', 'give the Image inside');
  if (text(0, 'ANDROID!')) refuse('an Android boot image', 'give the Image inside');
  if (text(0, '07070')) refuse('a cpio archive', 'give it as the initial RAM disk');
  if (text(0, 'QFI\xfb')) refuse('a qcow2 disk image', 'give it as a disk');
  if (text(0x8001, 'CD001')) refuse('an ISO 9660 image', 'give it as a disk');
  if (text(0, 'MZ') && !isLinuxImage(bytes)) refuse('an EFI or DOS program, not a riscv64 kernel', riscv);
}

function word(bytes: Uint8Array, at: number): number {
  if (at + 4 > bytes.length) return 0;
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

function corrupt(why: string) {
  return new BootError(WHERE, `it is truncated or corrupt (${why})`, 'copy or build it again');
}

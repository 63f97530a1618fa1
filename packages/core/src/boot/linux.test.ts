import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BootError } from './errors.ts';
import { parseLinuxImage } from './linux.ts';
import { buildImage } from './testing.ts';

function refused(bytes: Uint8Array, pattern: RegExp) {
  assert.throws(
    () => parseLinuxImage(bytes),
    (error) => error instanceof BootError && pattern.test(error.message),
  );
}

const starting = (...bytes: number[]) => Uint8Array.of(...bytes, ...new Uint8Array(1024));
const text = (at: number, value: string) => {
  const bytes = new Uint8Array(0x8100);
  for (let i = 0; i < value.length; i++) bytes[at + i] = value.charCodeAt(i);
  return bytes;
};

test('the header says where the image goes and what it takes', () => {
  const image = parseLinuxImage(buildImage(4096, { imageSize: 8192n }));
  assert.equal(image.textOffset, 0x200000);
  assert.equal(image.imageSize, 8192);
  assert.equal(image.data.length, 4096);
  assert.equal(parseLinuxImage(buildImage(4096, { imageSize: 0n })).imageSize, 4096);
});

test('a header that cannot be true is refused', () => {
  refused(buildImage(4096, { flags: 1n }), /big-endian/);
  refused(buildImage(4096, { textOffset: 4096n }), /text offset/);
  refused(buildImage(4096, { textOffset: 1n << 62n }), /text offset/);
  refused(buildImage(4096, { imageSize: 1n << 40n }), /asks for/);
});

test('a file may hold little of what its image takes, and more than that', () => {
  assert.equal(parseLinuxImage(buildImage(4096, { imageSize: 1n << 24n })).imageSize, 2 ** 24);
  assert.equal(parseLinuxImage(buildImage(4096, { imageSize: 100n })).imageSize, 4096);
});

test('an EFI application is as long as its sections say', () => {
  const bytes = buildImage(4096);
  const view = new DataView(bytes.buffer);
  bytes.set([0x4d, 0x5a]);
  view.setUint32(60, 64, true);
  view.setUint32(64, 0x4550, true);
  view.setUint16(64 + 6, 1, true);
  view.setUint32(64 + 24 + 16, 4096, true);
  assert.equal(parseLinuxImage(bytes).imageSize, 4096);
  view.setUint32(64 + 24 + 20, 64, true);
  refused(bytes, /a section of it ends/);
  view.setUint32(60, 0xffff_fff0, true);
  refused(bytes, /PE header/);
});

test('what people pass by mistake is called by its name', () => {
  refused(new Uint8Array(0), /empty/);
  refused(new Uint8Array(10), /10 bytes long/);
  refused(starting(1), /no RISC-V boot image header/);
  refused(starting(0x1f, 0x8b), /gzip.*gunzip/);
  refused(starting(0x28, 0xb5, 0x2f, 0xfd), /zstd/);
  refused(starting(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0), /xz/);
  refused(text(0, 'MZ\0\0zimg'), /zboot/);
  refused(text(0x202, 'HdrS'), /x86/);
  refused(text(56, 'ARMd'), /64-bit Arm/);
  refused(text(0, '070701'), /cpio.*initial RAM disk/);
  refused(text(0x8001, 'CD001'), /ISO 9660/);
  refused(text(0, 'MZ'), /EFI or DOS/);
});

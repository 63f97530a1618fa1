/** Images are recognised as the tools see them that make such. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { conversion, HEAD_BYTES, imageFormat, TAIL_BYTES } from './image-format.ts';

const formatOf = (bytes: Uint8Array) =>
  imageFormat(bytes.subarray(0, HEAD_BYTES), bytes.subarray(Math.max(0, bytes.length - TAIL_BYTES)));
const installed = (program: string) => !spawnSync(program, ['--version']).error;

/** A raw disk, every byte of it different from its neighbours. */
const RAW = Uint8Array.from({ length: 2 ** 20 }, (_, n) => (n * 7 + (n >>> 8)) & 0xff);

/** By the name of a format: what makes an image of it from `raw` at `to`. */
const MADE: Readonly<Record<string, readonly string[]>> = {
  qcow2: ['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', 'raw', 'to'],
  QED: ['qemu-img', 'convert', '-f', 'raw', '-O', 'qed', 'raw', 'to'],
  VHDX: ['qemu-img', 'convert', '-f', 'raw', '-O', 'vhdx', 'raw', 'to'],
  VHD: ['qemu-img', 'convert', '-f', 'raw', '-O', 'vpc', 'raw', 'to'],
  'VHD, fixed': ['qemu-img', 'convert', '-f', 'raw', '-O', 'vpc', '-o', 'subformat=fixed', 'raw', 'to'],
  VMDK: ['qemu-img', 'convert', '-f', 'raw', '-O', 'vmdk', 'raw', 'to'],
  'VMDK, described': ['qemu-img', 'convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=monolithicFlat', 'raw', 'to'],
  VDI: ['qemu-img', 'convert', '-f', 'raw', '-O', 'vdi', 'raw', 'to'],
  Parallels: ['qemu-img', 'convert', '-f', 'raw', '-O', 'parallels', 'raw', 'to'],
  gzip: ['sh', '-c', 'gzip -c raw >to'],
  xz: ['sh', '-c', 'xz -c raw >to'],
  bzip2: ['sh', '-c', 'bzip2 -c raw >to'],
  zstd: ['sh', '-c', 'zstd -qc raw >to'],
};

describe('formats of images', () => {
  for (const [name, [program, ...args]] of Object.entries(MADE)) {
    const tool = program === 'sh' ? name : program!;
    test(name, { skip: !installed(tool) && `${tool} is not installed` }, (t) => {
      const folder = mkdtempSync(join(tmpdir(), 'braid-image-'));
      t.after(() => rmSync(folder, { recursive: true }));
      writeFileSync(join(folder, 'raw'), RAW);
      execFileSync(program!, args, { cwd: folder, stdio: 'pipe' });
      const format = formatOf(readFileSync(join(folder, 'to')));
      assert.equal(format?.name, name.split(',')[0]);
      // And the way back is the one that the message shows.
      execFileSync('sh', ['-c', conversion(format!, 'to')], { cwd: folder, stdio: 'pipe' });
      assert.deepEqual(readFileSync(join(folder, 'to.raw')).subarray(0, RAW.length), Buffer.from(RAW));
    });
  }

  test('raw disks, small ones and those with partitions and file systems, are none of them', () => {
    assert.equal(formatOf(RAW), undefined);
    assert.equal(formatOf(new Uint8Array(0)), undefined);
    assert.equal(formatOf(Uint8Array.of(0x51)), undefined);
    const partitioned = RAW.slice();
    partitioned.set([0x55, 0xaa], 510);
    partitioned.set(new TextEncoder().encode('EFI PART'), 512);
    assert.equal(formatOf(partitioned), undefined);
  });

  test('any bytes are looked at without harm, and a command quotes any path', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1100 }), fc.string({ unit: 'grapheme', minLength: 1 }), (bytes, path) => {
        formatOf(bytes);
        const name = path.replaceAll(/[\0/]/g, '_');
        const command = conversion({ name: 'gzip', unpack: 'printf "%s\\n"' }, name).split(' > ')[0]!;
        assert.equal(execFileSync('sh', ['-c', command]).toString(), `${name}\n`);
      }),
      { numRuns: 50 },
    );
  });
});

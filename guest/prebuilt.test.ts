// The committed guest: whole, as its checksums say, and small.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';

const folder = join(import.meta.dirname, 'prebuilt');

test('the committed guest is what its checksums say', () => {
  const lines = readFileSync(join(folder, 'SHA256SUMS'), 'utf8').trim().split('\n');
  const names = lines.map((line) => line.split('  ')[1]!);
  assert.deepEqual(names, ['Image.gz', 'initramfs.cpio.gz']);
  for (const line of lines) {
    const [sum, name] = line.split('  ');
    assert.equal(
      createHash('sha256')
        .update(readFileSync(join(folder, name!)))
        .digest('hex'),
      sum,
      name,
    );
  }
});

test('it takes at most 6 MB in the repository, and what is inside looks right', () => {
  const sizes = readdirSync(folder).map((name) => statSync(join(folder, name)).size);
  assert.ok(sizes.reduce((sum, size) => sum + size, 0) <= 6_000_000);
  const image = gunzipSync(readFileSync(join(folder, 'Image.gz')));
  assert.equal(image.toString('latin1', 0x38, 0x3c), 'RSC\x05');
  assert.equal(gunzipSync(readFileSync(join(folder, 'initramfs.cpio.gz'))).toString('latin1', 0, 6), '070701');
});

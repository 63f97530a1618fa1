/** Symbol files, as binutils read them. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseKallsyms, symbolFile } from './symbol-file.ts';

const KALLSYMS = `ffffffff80001000 T _stext
ffffffff80001020 t local
ffffffff80002000 W weak
ffffffff80a00000 D some_data
0000000000000000 T hidden
ffffffff02000000 t of_module	[virtio]
nonsense
`;

test('what /proc/kallsyms says', () => {
  assert.deepEqual(
    parseKallsyms(KALLSYMS).map(({ name, address, code }) => `${name} ${address.toString(16)} ${code}`),
    [
      '_stext ffffffff80001000 true',
      'local ffffffff80001020 true',
      'weak ffffffff80002000 true',
      'some_data ffffffff80a00000 false',
    ],
  );
  assert.throws(() => symbolFile(parseKallsyms('0000000000000000 T hidden\n')), /there are no symbols/);
});

const NM = 'riscv64-linux-gnu-nm';
const missing = spawnSync(NM, ['--version']).error ? `${NM} is not installed (binutils-riscv64-linux-gnu)` : false;

test('binutils find the symbols in the file', { skip: missing }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'braid-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'symbols');
  writeFileSync(path, symbolFile([...parseKallsyms(KALLSYMS), { name: 'ünïcode', address: 0xffff_ffff_8000_3000n }]));
  const { stdout, stderr } = spawnSync(NM, ['--numeric-sort', '--print-size', path], { encoding: 'utf8' });
  assert.equal(stderr, '');
  assert.deepEqual(stdout.trim().split('\n'), [
    'ffffffff80001000 0000000000000020 T _stext',
    'ffffffff80001020 0000000000000fe0 T local',
    'ffffffff80002000 0000000000001000 T weak',
    'ffffffff80003000 T ünïcode',
    'ffffffff80a00000 A some_data',
  ]);
});

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { encodeTree, node, type PlatformTreeConfig, platformTree } from './device-tree.ts';
import { decodeTree, find, printTree } from './testing.ts';

const rngSeed = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
const CONFIGS: Record<string, PlatformTreeConfig> = {
  'supervisor-2': {
    memory: 256 * 2 ** 20,
    harts: 2,
    reader: 'supervisor',
    bootargs: 'console=ttyS0',
    initrd: { start: 0x8fcf_a000, end: 0x8fdf_f3eb },
    rngSeed,
  },
  'machine-1': { memory: 3 * 2 ** 30, harts: 1, reader: 'machine' },
};

const hasDtc = spawnSync('dtc', ['--version']).status === 0;

for (const [name, config] of Object.entries(CONFIGS)) {
  test(`platform tree ${name} is as in golden/${name}.dts (BLESS=1 rewrites it)`, () => {
    const path = new URL(`golden/${name}.dts`, import.meta.url);
    const actual = printTree(decodeTree(platformTree(config)));
    if (process.env.BLESS === '1') writeFileSync(path, actual);
    assert.equal(actual, readFileSync(path, 'utf8'));
  });

  test(`platform tree ${name} is accepted by dtc`, { skip: hasDtc ? false : 'dtc is not installed' }, () => {
    const options = [
      '-I',
      'dtb',
      '-O',
      'dts',
      '-W',
      'no-interrupt_provider',
      '-E',
      'reg_format',
      '-E',
      'ranges_format',
    ];
    const source = execFileSync('dtc', options, {
      input: platformTree(config),
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    assert.match(source, /compatible = "riscv-virtio"/);
    const again = execFileSync('dtc', ['-q', '-I', 'dts', '-O', 'dtb'], { input: source });
    assert.equal(printTree(decodeTree(again)), printTree(decodeTree(platformTree(config))));
  });
}

test('an operating system in S-mode sees nothing of M-mode', () => {
  const tree = decodeTree(platformTree(CONFIGS['supervisor-2']!));
  assert.throws(() => find(tree, 'soc/clint@2000000'));
  const contexts = find(tree, 'soc/plic@c000000').properties.get('interrupts-extended')!;
  const view = new DataView(contexts.buffer, contexts.byteOffset, contexts.byteLength);
  assert.deepEqual(
    [4, 12, 20, 28].map((at) => view.getUint32(at)),
    [0xffffffff, 9, 0xffffffff, 9],
  );
});

test('every form of a value', () => {
  const root = decodeTree(
    encodeTree(
      node(
        '',
        { flag: true, text: 'a', texts: ['a', 'bc'], cell: 0xffffffff, cells: [1, 2], long: 1n << 33n, raw: rngSeed },
        [node('child@0', {})],
      ),
    ),
  );
  const bytes = (name: string) => [...root.properties.get(name)!];
  assert.deepEqual(bytes('flag'), []);
  assert.deepEqual(bytes('text'), [97, 0]);
  assert.deepEqual(bytes('texts'), [97, 0, 98, 99, 0]);
  assert.deepEqual(bytes('cell'), [255, 255, 255, 255]);
  assert.deepEqual(bytes('cells'), [0, 0, 0, 1, 0, 0, 0, 2]);
  assert.deepEqual(bytes('long'), [0, 0, 0, 2, 0, 0, 0, 0]);
  assert.deepEqual(bytes('raw'), [...rngSeed]);
  assert.equal(root.children[0]!.name, 'child@0');
});

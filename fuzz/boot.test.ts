/** Files that are not what they seem: whatever is done to a program or a kernel, `BootError` is all that may come of it. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseElf } from '../packages/core/src/boot/elf.ts';
import { BootError } from '../packages/core/src/boot/errors.ts';
import { planBoot } from '../packages/core/src/boot/layout.ts';
import { buildElf, buildImage } from '../packages/core/src/boot/testing.ts';
import type { Boot } from '../packages/core/src/machine/options.ts';

const RAM = 0x8000_0000;
const MEMORY = 32 * 2 ** 20;
const RUNS = Number(process.env.FUZZ_RUNS ?? 3000);

const elf = buildElf({
  segments: [
    { address: 0x8000_0000n, data: new Uint8Array(64).fill(0x13), memorySize: 128 },
    { address: 0x8000_1000n, data: new Uint8Array(32), memorySize: 0x100 },
  ],
  symbols: { tohost: 0x8000_1000n, fromhost: 0x8000_1008n, begin_signature: 0x8000_1010n, end_signature: 0x8000_1020n },
});
const image = buildImage(512);
/** Position-independent, linked at 0. */
const pie = buildElf({
  relocatable: true,
  segments: [
    { address: 0x1000n, data: new Uint8Array(32), memorySize: 0x100 },
    { address: 0n, data: new Uint8Array(64).fill(0x13), memorySize: 0x1000 },
  ],
  symbols: { tohost: 0x1000n },
});

/** Changes that make the most of a small file: single bytes, and whole fields of telling values. */
const mutations = fc.array(
  fc.record({
    at: fc.nat(1200),
    value: fc.oneof(
      fc.integer({ min: 0, max: 255 }).map((byte) => Uint8Array.of(byte)),
      fc
        .constantFrom(0n, 1n, 0xffffn, 0x7fff_ffffn, 0xffff_ffffn, 1n << 63n, 0xffff_ffff_ffff_ffffn, 0x8000_0000n)
        .map((field) => new Uint8Array(BigUint64Array.of(field).buffer)),
    ),
  }),
  { maxLength: 6 },
);

function mutate(from: Uint8Array, changes: readonly { at: number; value: Uint8Array }[], length: number): Uint8Array {
  const bytes = from.slice();
  for (const { at, value } of changes) {
    const start = at % bytes.length;
    bytes.set(value.subarray(0, bytes.length - start), start);
  }
  return bytes.subarray(0, length % (bytes.length + 1));
}

/** Plans the start; checks that a plan, if there is one, stays in RAM and does not write one thing over another. */
function plan(boot: Boot): void {
  let made: ReturnType<typeof planBoot>;
  try {
    made = planBoot({ boot, memory: MEMORY, harts: 1, seed: 0n });
  } catch (error) {
    assert.ok(error instanceof BootError, String(error));
    assert.ok(error.message.length < 500);
    return;
  }
  const writes = made.writes.toSorted((a, b) => a.address - b.address);
  let end = RAM;
  for (const write of writes) {
    assert.ok(write.address >= end);
    end = write.address + write.data.length;
  }
  assert.ok(end <= RAM + MEMORY);
  assert.ok(made.start.pc >= BigInt(RAM) && made.start.pc < BigInt(RAM + MEMORY));
}

function planAll(file: Uint8Array): void {
  plan({ kind: 'bare', image: file });
  plan({ kind: 'linux', kernel: file });
  plan({ kind: 'firmware', firmware: file, kernel: file });
  plan({ kind: 'firmware', firmware: file, kernel: file, flat: true });
}

test('truncated at every length', () => {
  for (const file of [elf, pie, image])
    for (let length = 0; length <= file.length; length++) planAll(file.subarray(0, length));
});

test('mutated and truncated', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(elf, pie, image),
      mutations,
      fc.oneof(fc.constant(-1), fc.nat()),
      (file, changes, length) => {
        planAll(mutate(file, changes, length < 0 ? file.length : length));
      },
    ),
    { numRuns: RUNS },
  );
});

/** Addresses where something is: the ends of RAM, of the address space, of 2 MiB; and what lies near. */
const address = fc
  .tuple(
    fc.constantFrom(0n, 0x1000n, 0x20_0000n, 0x8000_0000n, 0x8020_0000n, 0x81e0_0000n, 0x8200_0000n, 1n << 63n),
    fc.integer({ min: -0x2000, max: 0x2000 }),
  )
  .map(([near, distance]) => BigInt.asUintN(64, near + BigInt(distance)));
const segment = fc.record({
  address,
  virtual: address,
  data: fc.uint8Array({ maxLength: 16 }),
  memorySize: fc.oneof(fc.nat(0x3000), fc.constantFrom(2 ** 20, 2 ** 25, 2 ** 33, 2 ** 52)),
});

test('well-formed files with segments, entries and symbols anywhere', () => {
  let planned = 0;
  fc.assert(
    fc.property(
      fc.array(segment, { maxLength: 5 }),
      address,
      address,
      fc.boolean(),
      (segments, entry, tohost, relocatable) => {
        const file = buildElf({ segments, entry, symbols: { tohost }, relocatable });
        planAll(file);
        planned++;
      },
    ),
    { numRuns: RUNS },
  );
  assert.equal(planned, RUNS);
});

test('random bytes after each magic number', () => {
  const starts = [elf.subarray(0, 20), image.subarray(0, 64), new Uint8Array(0)];
  fc.assert(
    fc.property(fc.constantFrom(...starts), fc.uint8Array({ maxLength: 400 }), (start, rest) => {
      planAll(Uint8Array.of(...start, ...rest));
    }),
    { numRuns: RUNS },
  );
});

test('a real executable: read, then mutated and truncated', (t) => {
  const compiler = 'riscv64-linux-gnu-gcc';
  if (spawnSync(compiler, ['--version']).status !== 0) return t.skip(`${compiler} is not installed`);
  const folder = mkdtempSync(join(tmpdir(), 'braid-boot-'));
  try {
    const source = '.globl _start, tohost\n_start: j _start\n.data\n.balign 64\ntohost: .dword 0\n';
    const out = join(folder, 'program');
    const options = [
      '-nostdlib',
      '-static',
      '-Wl,--build-id=none,-N,-Ttext=0x80000000',
      '-x',
      'assembler',
      '-',
      '-o',
      out,
    ];
    const built = spawnSync(compiler, options, { input: source, encoding: 'utf8' });
    assert.equal(built.status, 0, built.stderr);
    const file = new Uint8Array(readFileSync(out));
    const program = parseElf(file);
    assert.equal(program.entry, 0x8000_0000n);
    const { symbols } = planBoot({ boot: { kind: 'bare', image: file }, memory: MEMORY, harts: 1, seed: 0n });
    assert.equal(BigInt(symbols.tohost!), program.lookup('tohost'));
    for (let length = 0; length < file.length; length += 61) plan({ kind: 'bare', image: file.subarray(0, length) });
    fc.assert(
      fc.property(mutations, (changes) => plan({ kind: 'bare', image: mutate(file, changes, file.length) })),
      { numRuns: RUNS },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Boot } from '../machine/options.ts';
import { BootError } from './errors.ts';
import { type BootPlan, planBoot } from './layout.ts';
import { buildElf, buildImage, decodeTree, find } from './testing.ts';

const MiB = 2 ** 20;
const plan = (boot: Boot, memory = 64 * MiB, harts = 2) => planBoot({ boot, memory, harts, seed: 42n });
const write = (of: BootPlan, what: string) => of.writes.find((candidate) => candidate.what === what)!;
const code = Uint8Array.of(0x6f, 0, 0, 0);

function refused(boot: Boot, pattern: RegExp, memory = 64 * MiB) {
  assert.throws(
    () => plan(boot, memory),
    (error) => error instanceof BootError && pattern.test(error.message),
  );
}

test('linux: kernel at 2 MiB, device tree at the top, initial RAM disk below it', () => {
  const initrd = new Uint8Array(5000).fill(3);
  const made = plan({ kind: 'linux', kernel: buildImage(4096), initrd, append: 'quiet' });
  assert.equal(write(made, 'kernel').address, 0x8020_0000);
  const tree = write(made, 'device tree');
  assert.equal(tree.address, 0x83e0_0000);
  assert.deepEqual(made.start, { mode: 'S', pc: 0x8020_0000n, a1: 0x83e0_0000n, a2: 0n, harts: 'first' });
  const disk = write(made, 'initial RAM disk');
  assert.equal(disk.address, 0x83dfe000);
  const { properties } = find(decodeTree(tree.data), 'chosen');
  const number = (name: string) => Number(new DataView(properties.get(name)!.slice().buffer).getBigUint64(0));
  assert.equal(number('linux,initrd-start'), disk.address);
  assert.equal(number('linux,initrd-end'), disk.address + 5000);
  assert.equal(new TextDecoder().decode(properties.get('bootargs')), 'quiet\0');
  assert.equal(properties.get('rng-seed')!.length, 32);
});

test('linux: nothing goes above 3 GiB', () => {
  const made = plan({ kind: 'linux', kernel: buildImage(4096), initrd: code }, 3072 * MiB);
  for (const { address, data } of made.writes) assert.ok(address + data.length <= 0xc000_0000);
});

test('linux: vmlinux, whose physical addresses count from 0, goes where the image would', () => {
  const virtual = 0xffff_ffff_8000_0000n;
  const kernel = buildElf({
    segments: [
      { address: 0n, virtual, data: code },
      { address: 0x1000n, data: code },
    ],
  });
  const made = plan({ kind: 'linux', kernel });
  assert.deepEqual(made.writes.map((w) => w.address).slice(0, 2), [0x8020_0000, 0x8020_1000]);
  assert.equal(made.start.pc, 0x8020_0000n);
});

test('the seed alone decides the random numbers of the tree', () => {
  const seeded = (seed: bigint) => {
    const made = planBoot({ boot: { kind: 'linux', kernel: buildImage(4096) }, memory: 64 * MiB, harts: 1, seed });
    return find(decodeTree(write(made, 'device tree').data), 'chosen').properties.get('rng-seed');
  };
  assert.deepEqual(seeded(1n), seeded(1n));
  assert.notDeepEqual(seeded(1n), seeded(2n));
});

test('firmware: as QEMU lays it out, with fw_dynamic_info in a2', () => {
  const made = plan({ kind: 'firmware', firmware: new Uint8Array(1000), kernel: buildImage(4096), initrd: code });
  assert.equal(write(made, 'firmware').address, 0x8000_0000);
  assert.equal(write(made, 'kernel').address, 0x8020_0000);
  const info = write(made, 'firmware parameters');
  assert.deepEqual(made.start, {
    mode: 'M',
    pc: 0x8000_0000n,
    a1: BigInt(write(made, 'device tree').address),
    a2: BigInt(info.address),
    harts: 'all',
  });
  assert.deepEqual([...new BigUint64Array(info.data.buffer)], [0x4942534fn, 2n, 0x8020_0000n, 1n, 0n, 0n]);
  assert.ok(write(made, 'initial RAM disk').address + 4 <= info.address);
});

test('firmware larger than 2 MiB moves the kernel; any flat kernel or none will do', () => {
  const large = plan({ kind: 'firmware', firmware: new Uint8Array(2 * MiB + 1), kernel: new Uint8Array(64) });
  assert.equal(write(large, 'kernel').address, 0x8040_0000);
  const alone = plan({ kind: 'firmware', firmware: code });
  assert.equal(new DataView(write(alone, 'firmware parameters').data.buffer).getBigUint64(16, true), 0n);
});

test('firmware and kernel as ELF', () => {
  const firmware = buildElf({
    entry: 0x8000_0002n,
    segments: [{ address: 0x8000_0000n, data: code, memorySize: 0x1000 }],
  });
  const kernel = buildElf({ entry: 0x8030_0004n, segments: [{ address: 0x8030_0000n, data: new Uint8Array(8) }] });
  const made = plan({ kind: 'firmware', firmware, kernel });
  assert.equal(made.start.pc, 0x8000_0002n);
  assert.equal(new DataView(write(made, 'firmware parameters').data.buffer).getBigUint64(16, true), 0x8030_0000n);
});

test('bare: flat at the start of RAM, ELF by its addresses, with the symbols of its test environment', () => {
  const flat = plan({ kind: 'bare', image: code });
  assert.deepEqual(flat.start.pc, 0x8000_0000n);
  assert.equal(flat.start.harts, 'all');
  assert.deepEqual(flat.symbols, {});
  const symbols = {
    tohost: 0x8000_1000n,
    fromhost: 0x8000_1040n,
    begin_signature: 0x8000_2000n,
    end_signature: 0x8000_2010n,
  };
  const image = buildElf({ segments: [{ address: 0x8000_0000n, data: code, memorySize: 0x3000 }], symbols });
  const made = plan({ kind: 'bare', image });
  assert.deepEqual(made.symbols, {
    tohost: 0x8000_1000,
    fromhost: 0x8000_1040,
    signature: { begin: 0x8000_2000, end: 0x8000_2010 },
  });
  assert.equal(made.start.mode, 'M');
});

test('an ELF that runs anywhere goes to RAM when it was linked elsewhere', () => {
  const segments = [
    { address: 0x1000n, data: code, memorySize: 3 * MiB },
    { address: 0x40_0000n, data: code },
  ];
  const entry = 0x1002n;
  const symbols = { tohost: 0x40_0000n };
  const anywhere = buildElf({ segments, entry, symbols, relocatable: true });
  const firmware = plan({ kind: 'firmware', firmware: anywhere, kernel: code });
  assert.deepEqual(
    firmware.writes.slice(0, 3).map(({ address }) => address),
    [0x8000_1000, 0x8040_0000, 0x8060_0000],
  );
  assert.equal(firmware.start.pc, 0x8000_1002n);
  const bare = plan({ kind: 'bare', image: anywhere });
  assert.equal(bare.start.pc, 0x8000_1002n);
  assert.deepEqual(bare.symbols, { tohost: 0x8040_0000 });
  const there = { address: 0x8100_0000n, data: code };
  assert.equal(
    plan({ kind: 'bare', image: buildElf({ segments: [there], relocatable: true }) }).start.pc,
    0x8100_0000n,
  );
  // One that does not run anywhere is refused.
  refused(
    { kind: 'bare', image: buildElf({ segments, entry }) },
    /program: its segment 0 \(0x1000\.\.0x301000\) of 3 MiB lies outside RAM/,
  );
  refused({ kind: 'firmware', firmware: anywhere }, /its segment 0 .* of 3 MiB lies outside/, 2 * MiB);
});

test('with firmware, a kernel that is called flat is taken as it is', () => {
  const elf = buildElf({ segments: [{ address: 0x8100_0000n, data: code }] });
  for (const kernel of [elf, buildImage(64, { textOffset: 1n << 40n }), Uint8Array.of(0x1f, 0x8b, 8)]) {
    const made = plan({ kind: 'firmware', firmware: code, kernel, flat: true });
    assert.equal(write(made, 'kernel').address, 0x8020_0000);
    assert.deepEqual(write(made, 'kernel').data, kernel);
  }
  refused({ kind: 'firmware', firmware: code, kernel: new Uint8Array(0), flat: true }, /kernel: it is empty/);
});

test('what does not fit is refused with its size and what is in its way', () => {
  const kernel = buildImage(4 * MiB, { imageSize: 12n * 2n ** 20n });
  refused(
    { kind: 'linux', kernel, initrd: new Uint8Array(20 * MiB) },
    /RAM disk.*20 MiB.*kernel \(12 MiB.*32 MiB/,
    32 * MiB,
  );
  refused({ kind: 'linux', kernel: buildImage(31 * MiB) }, /kernel: it does not fit \(31 MiB at 0x80200000/, 32 * MiB);
  refused({ kind: 'linux', kernel: buildImage(30 * MiB - 4096) }, /device tree: it does not fit/, 32 * MiB);
  refused({ kind: 'linux', kernel, initrd: new Uint8Array(0) }, /initial RAM disk: it is empty/);
  const outside = (address: bigint) => buildElf({ segments: [{ address, data: code }] });
  refused(
    { kind: 'bare', image: outside(0x1000n) },
    /program: its segment 0 \(0x1000\.\.0x1004\) of 4 bytes lies outside RAM/,
  );
  refused({ kind: 'bare', image: outside(0x8400_0000n) }, /outside RAM \(64 MiB/);
  refused({ kind: 'linux', kernel: outside(0x1000n) }, /outside RAM/);
  refused(
    { kind: 'bare', image: outside(0x8100_0000n).fill(0, 24, 32) },
    /entry 0x0 lies outside its segments: segment 0 \(0x81000000\.\.0x81000004\)/,
  );
  refused({ kind: 'bare', image: new Uint8Array(0) }, /empty/);
  refused({ kind: 'bare', image: Uint8Array.of(0x1f, 0x8b, 8) }, /gzip/);
  refused({ kind: 'firmware', firmware: Uint8Array.of(0x1f, 0x8b, 8) }, /gzip/);
});

test('memory that a file does not hold counts, wherever the next one would go', () => {
  const bss = (address: bigint, memorySize: number) => buildElf({ segments: [{ address, data: code, memorySize }] });
  const moved = plan({ kind: 'firmware', firmware: bss(0x8000_0000n, 5 * MiB), kernel: code, flat: true });
  assert.equal(write(moved, 'kernel').address, 0x8060_0000);
  assert.equal(write(moved, 'kernel').data.length, 4);
  refused(
    { kind: 'firmware', firmware: bss(0x8000_0000n, 3 * MiB), kernel: bss(0x8020_0000n, 64) },
    /kernel: it does not fit \(64 bytes at 0x80200000\) beside the firmware \(3 MiB at 0x80000000\)/,
  );
  const large = buildImage(4096, { imageSize: BigInt(40 * MiB) });
  assert.equal(write(plan({ kind: 'linux', kernel: large }), 'kernel').data.length, 4096);
  refused({ kind: 'linux', kernel: large, initrd: new Uint8Array(30 * MiB) }, /RAM disk.*30 MiB.*kernel \(40 MiB/);
  refused({ kind: 'linux', kernel: large }, /kernel: it does not fit \(40 MiB/, 32 * MiB);
  refused({ kind: 'bare', image: bss(0x8000_0000n, 64 * MiB) }, /device tree: it does not fit.*program \(64 MiB/);
  // Firmware adds to the tree where it lies: what comes after it stays away from there.
  const near = bss(0xbfe0_f000n, 64);
  refused({ kind: 'bare', image: near }, /device tree.*beside the program/, 3072 * MiB);
});

test('command lines and symbols that cannot be right are refused', () => {
  const kernel = buildImage(4096);
  refused({ kind: 'linux', kernel, append: 'x'.repeat(1024) }, /1024 bytes and at most 1023/);
  refused({ kind: 'linux', kernel, append: 'a\0b' }, /zero character/);
  const segments = [{ address: 0x8000_0000n, data: code }];
  refused({ kind: 'bare', image: buildElf({ segments, symbols: { tohost: 4n } }) }, /tohost.*outside/);
  const symbols = { begin_signature: 0x8000_0010n, end_signature: 0x8000_0000n };
  refused({ kind: 'bare', image: buildElf({ segments, symbols }) }, /end_signature/);
});

test('a flat kernel is taken as it is when it is called flat, and refused otherwise', () => {
  const kernel = Uint8Array.of(0x13, 0, 0, 0, 0x6f, 0, 0, 0);
  const options = { memory: 64 * 2 ** 20, harts: 1, seed: 1n };
  const plan = planBoot({ ...options, boot: { kind: 'linux', kernel, flat: true } });
  assert.equal(plan.start.pc, 0x8020_0000n);
  assert.equal(plan.start.mode, 'S');
  assert.deepEqual(plan.writes.find(({ what }) => what === 'kernel')?.data, kernel);
  assert.throws(() => planBoot({ ...options, boot: { kind: 'linux', kernel } }), BootError);
  assert.throws(
    () => planBoot({ ...options, boot: { kind: 'linux', kernel: new Uint8Array(0), flat: true } }),
    BootError,
  );
});

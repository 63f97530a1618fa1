/** OpenSBI with kernels of every form, and the same files on QEMU: what the kernel finds in its device tree. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { buildElf, buildImage, decodeTree, find } from '@braid/core/boot/testing.ts';
import { Assembler } from '@braid/core/testing/assembler.ts';
import { type CreateOptions, Machine, Pool } from './index.ts';
import { temporaryFolder } from './testing.ts';

const RAM = 0x8000_0000n;
const KERNEL = 0x8020_0000n;
const [T0, T1, A0, A1, A2] = [5, 6, 10, 11, 12] as const;
const [UART, FINISHER, PASS] = [0x1000_0000, 0x10_0000, 0x5555] as const;

/** What every hart enters in M-mode parks all but the first, by a0. */
function park(code: Assembler): void {
  code.branch('beq', A0, 0, 'first');
  code.label('park');
  code.op('wfi');
  code.jump(0, 'park');
  code.label('first');
}

function say(code: Assembler, letter: string): void {
  code.li(T0, UART);
  code.li(T1, letter.charCodeAt(0));
  code.op('sb', { rs1: T0, rs2: T1, imm: 0 });
}

function powerOff(code: Assembler): void {
  code.li(T0, FINISHER);
  code.li(T1, PASS);
  code.op('sw', { rs1: T0, rs2: T1, imm: 0 });
  code.label('end');
  code.jump(0, 'end');
}

/** Says `K` and the bytes of the device tree, and powers off. Position-independent; one hart enters it. */
const kernel = (() => {
  const code = new Assembler(KERNEL);
  say(code, 'K');
  const [AT, LEFT] = [28, 29];
  code.op('lbu', { rd: LEFT, rs1: A1, imm: 6 });
  code.op('slli', { rd: LEFT, rs1: LEFT, imm: 8 });
  code.op('lbu', { rd: T1, rs1: A1, imm: 7 });
  code.op('add', { rd: LEFT, rs1: LEFT, rs2: T1 });
  code.op('addi', { rd: AT, rs1: A1, imm: 0 });
  code.label('byte');
  code.op('lbu', { rd: T1, rs1: T0, imm: 5 });
  code.op('andi', { rd: T1, rs1: T1, imm: 0x20 });
  code.branch('beq', T1, 0, 'byte');
  code.op('lbu', { rd: T1, rs1: AT, imm: 0 });
  code.op('sb', { rs1: T0, rs2: T1, imm: 0 });
  code.op('addi', { rd: AT, rs1: AT, imm: 1 });
  code.op('addi', { rd: LEFT, rs1: LEFT, imm: -1 });
  code.branch('bne', LEFT, 0, 'byte');
  powerOff(code);
  return code.bytes();
})();

/** Says `F` and starts, in S-mode, what `struct fw_dynamic_info` names, or powers off. Position-independent too. */
const firmware = (() => {
  const code = new Assembler(RAM);
  park(code);
  say(code, 'F');
  code.op('ld', { rd: A2, rs1: A2, imm: 16 });
  code.branch('bne', A2, 0, 'start');
  powerOff(code);
  code.label('start');
  code.csrw(0x341, A2); // mepc
  code.li(T1, -1n);
  code.csrw(0x3b0, T1); // pmpaddr0
  code.li(T1, 0x1f);
  code.csrw(0x3a0, T1); // pmpcfg0
  code.li(T1, 0x800);
  code.csrw(0x300, T1); // mstatus.MPP = S
  code.op('mret');
  return code.bytes();
})();

const elf = (address: bigint, data: Uint8Array) =>
  buildElf({ segments: [{ address, data, memorySize: data.length + 0x10_0000 }] });
const pie = (data: Uint8Array) => buildElf({ segments: [{ address: 0n, data }], relocatable: true });
/** A boot image: its header begins with a jump over itself. Most of its memory is not in the file. */
const image = (() => {
  const bytes = new Uint8Array(64 + kernel.length);
  bytes.set(buildImage(64, { imageSize: 0x40_0000n }));
  new DataView(bytes.buffer).setUint32(0, 0x0400_006f, true); // j .+64
  bytes.set(kernel, 64);
  return bytes;
})();

const initrd = new Uint8Array(5000).fill(7);

const KERNELS: readonly (readonly [form: string, options: CreateOptions])[] = [
  ['Image', { kernel: image }],
  ['Image.gz', { kernel: new Uint8Array(gzipSync(image)) }],
  ['ELF', { kernel: elf(KERNEL, kernel) }],
  ['PIE', { kernel: pie(kernel) }],
  ['flat', { kernel, flat: true }],
];

/** All that the machine says until it powers off, a character a byte. */
async function said(options: CreateOptions): Promise<string> {
  await using machine = await Machine.create({ memory: '32M', seed: 1n, ...options });
  let text = '';
  machine.onConsole((bytes) => {
    text += Buffer.from(bytes).toString('latin1');
  });
  assert.deepEqual(await machine.wait(), { kind: 'poweroff', code: 0 });
  return text;
}

/** Holds what the kernel says against the options that it was started with. */
function check(name: string, options: CreateOptions, text: string): void {
  const under = options.firmware === undefined ? '' : 'F';
  if (under !== '' && options.kernel === undefined) return assert.equal(text, under, name);
  assert.equal(text.slice(0, under.length + 1), `${under}K`, name);
  const tree = decodeTree(new Uint8Array(Buffer.from(text.slice(under.length + 1), 'latin1')));
  const { properties } = find(tree, 'chosen');
  const number = (property: string) => {
    const bytes = properties.get(property);
    // One cell or two: QEMU's versions differ.
    return bytes && Number(`0x${Buffer.from(bytes).toString('hex')}`);
  };
  const line = properties.get('bootargs');
  assert.equal(line && Buffer.from(line).toString(), options.append && `${options.append}\0`, name);
  const start = number('linux,initrd-start');
  assert.equal(start && number('linux,initrd-end')! - start, options.initrd && initrd.length, name);
  const harts = find(tree, 'cpus').children.filter((child) => child.name.startsWith('cpu@')).length;
  assert.equal(harts, options.harts ?? 1, name);
  const memory = find(tree, 'memory@80000000').properties.get('reg')!;
  const size = Number(new DataView(memory.slice().buffer).getBigUint64(8));
  assert.equal(size, (options.memory === '48M' ? 48 : 32) * 2 ** 20, name);
}

const OPENSBI = '/usr/lib/riscv64-linux-gnu/opensbi/generic';
const opensbi = { skip: existsSync(`${OPENSBI}/fw_dynamic.bin`) ? false : 'opensbi is not installed' };

// fw_jump copies the device tree to 0x82200000, whatever the machine's memory: 32 MiB are not enough for it.
test('OpenSBI starts a kernel of every form', opensbi, async () => {
  await using pool = new Pool();
  for (const name of ['fw_dynamic.bin', 'fw_dynamic.elf', 'fw_jump.bin', 'fw_jump.elf']) {
    for (const [form, kernelOptions] of KERNELS) {
      const options: CreateOptions = { ...kernelOptions, initrd, append: 'a=b', harts: 2, memory: '48M' };
      const text = await said({ ...options, firmware: `${OPENSBI}/${name}`, pool });
      assert.match(text, /^\s*OpenSBI v/);
      check(`${name} + ${form}`, { ...options, kernel }, text.slice(text.indexOf('K\xd0\x0d\xfe\xed')));
    }
  }
});

const qemu = spawnSync('qemu-system-riscv64', ['--version']).status === 0;

test("QEMU's virt starts the same files", { skip: qemu ? false : 'qemu is not installed' }, async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const file = (name: string, bytes: Uint8Array) => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const disk = file('initrd', initrd);
  const serial = join(folder, 'serial');
  const on = (...args: string[]) => {
    const machine = ['-M', 'virt', '-m', '32', '-display', 'none', '-monitor', 'none', '-serial', `file:${serial}`];
    spawnSync('qemu-system-riscv64', [...machine, ...args], { timeout: 30_000 });
    return readFileSync(serial, 'latin1');
  };
  const forms = [
    ['flat', firmware, kernel],
    ['ELF', elf(RAM, firmware), elf(KERNEL, kernel)],
    ['Image', firmware, image],
  ] as const;
  for (const [form, below, above] of forms) {
    const args = ['-bios', file('firmware', below), '-kernel', file('kernel', above), '-initrd', disk];
    check(`QEMU: ${form}`, { firmware, kernel, initrd, append: 'x=y' }, on(...args, '-append', 'x=y'));
  }
  assert.equal(on('-bios', file('firmware', firmware)), 'F');
});

/** The options that say what a machine starts: every pair of them either starts what both ask for or is refused by name. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { buildElf } from '@braid/core/boot/testing.ts';
import { Assembler } from '@braid/core/testing/assembler.ts';
import type { BraidError } from './errors.ts';
import { Machine } from './machine.ts';
import { type CreateOptions, setupOf } from './options.ts';
import { Pool } from './pool/pool.ts';
import { MAIN, temporaryFolder } from './testing.ts';

const MIB = 2 ** 20;
const [RA, T0, T1, T2, A1, A2] = [1, 5, 6, 7, 11, 12] as const;

/** Code that runs wherever it is put: the programs below say who they are, a letter each, and where they were started. */
function program(build: (code: Assembler) => void, { header = false } = {}): Uint8Array {
  const code = new Assembler(0n);
  if (header) {
    code.jump(0, 'start');
    code.org(8n);
    code.double(4n * BigInt(MIB));
    code.double(1024n);
    code.org(56n);
    code.word(0x0543_5352);
    code.org(64n);
  }
  code.label('start');
  code.op('auipc', { rd: T2, imm: 0 });
  build(code);
  return code.bytes();
}

function say(code: Assembler, letter: string): void {
  code.li(T0, 0x1000_0000);
  code.li(T1, letter.charCodeAt(0));
  code.op('sb', { rs1: T0, rs2: T1, imm: 0 });
}

/** How many MiB above the start of RAM it runs, as a digit. */
function sayPlace(code: Assembler): void {
  code.op('srli', { rd: T1, rs1: T2, imm: 20 });
  code.op('andi', { rd: T1, rs1: T1, imm: 15 });
  code.op('addi', { rd: T1, rs1: T1, imm: 0x30 });
  code.op('sb', { rs1: T0, rs2: T1, imm: 0 });
}

function powerOff(code: Assembler): void {
  code.li(T0, 0x10_0000);
  code.li(T1, 0x5555);
  code.op('sw', { rs1: T0, rs2: T1, imm: 0 });
  code.label('end');
  code.jump(0, 'end');
}

/** Says `K` when there is a device tree in a1, and where it is. */
const kernelCode = (header: boolean) =>
  program(
    (code) => {
      code.op('lwu', { rd: RA, rs1: A1, imm: 0 });
      code.li(T1, 0xedfe_0dd0);
      code.branch('bne', RA, T1, 'off');
      say(code, 'K');
      sayPlace(code);
      code.label('off');
      powerOff(code);
    },
    { header },
  );
const KERNEL = kernelCode(false);
const IMAGE = kernelCode(true);

/** Says `F`, and starts what `struct fw_dynamic_info` names in S-mode. */
const FIRMWARE = program((code) => {
  say(code, 'F');
  sayPlace(code);
  code.op('ld', { rd: T2, rs1: A2, imm: 16 });
  code.branch('beq', T2, 0, 'alone');
  code.csrw(0x341, T2);
  code.li(T1, -1);
  code.csrw(0x3b0, T1);
  code.li(T1, 0x1f);
  code.csrw(0x3a0, T1);
  code.li(T1, 0x800);
  code.csrw(0x300, T1);
  code.op('mret');
  code.label('alone');
  powerOff(code);
});
const BARE = program((code) => {
  say(code, 'B');
  sayPlace(code);
  powerOff(code);
});

/** As a linker leaves it for an address; bss is larger than the rest. */
const linked = (address: bigint, data: Uint8Array, relocatable = false) =>
  buildElf({ segments: [{ address, data, memorySize: MIB }], relocatable });

interface Choice {
  readonly options: CreateOptions;
  /** What the program says, wherever it is behind a firmware or not. */
  readonly says?: string;
}

/** By option: its kinds. */
const CHOICES: Readonly<Record<string, Readonly<Record<string, Choice>>>> = {
  kernel: {
    'Linux image': { options: { kernel: IMAGE }, says: 'K' },
    'packed image': { options: { kernel: gzipSync(IMAGE) }, says: 'K' },
    'flat kernel': { options: { kernel: KERNEL, flat: true }, says: 'K2' },
    'flat kernel that looks like an image': { options: { kernel: IMAGE, flat: true }, says: 'K2' },
    'packed flat kernel': { options: { kernel: gzipSync(KERNEL), flat: true }, says: 'K2' },
    'kernel as ELF': { options: { kernel: linked(0x8060_0000n, KERNEL) }, says: 'K6' },
    'kernel as ELF from 0': { options: { kernel: linked(0n, KERNEL) }, says: 'K2' },
    'kernel as ELF for anywhere': { options: { kernel: linked(0x9_0000_0000n, KERNEL, true) }, says: 'K2' },
  },
  firmware: {
    'flat firmware': { options: { firmware: FIRMWARE }, says: 'F0' },
    'firmware as ELF': { options: { firmware: linked(0x8000_0000n, FIRMWARE) }, says: 'F0' },
    'firmware as ELF for anywhere': { options: { firmware: linked(0n, FIRMWARE, true) }, says: 'F0' },
  },
  bare: {
    'flat program': { options: { bare: BARE }, says: 'B0' },
    'program as ELF': { options: { bare: linked(0x8050_0000n, BARE) }, says: 'B5' },
    'program as ELF for anywhere': { options: { bare: linked(0n, BARE, true) }, says: 'B0' },
  },
  flat: { 'flat alone': { options: { flat: true } }, 'not flat': { options: { flat: false } } },
  initrd: { 'initial RAM disk': { options: { initrd: Uint8Array.of(1, 2, 3) } } },
  append: { 'command line': { options: { append: 'console=ttyS0' } } },
  disks: { disk: { options: { disks: [new Uint8Array(MIB)] } } },
  memory: { 'little memory': { options: { memory: '32M' } }, 'much memory': { options: { memory: '3G' } } },
  harts: { 'two harts': { options: { harts: 2 } } },
};

/** Why options do not go together, or what the machine says; undefined: Linux starts. */
function expected(options: CreateOptions): RegExp | string | undefined {
  const { bare, firmware, kernel, flat, initrd, append } = options;
  if (bare !== undefined) {
    const other = Object.entries({ firmware, kernel, flat: flat || undefined, initrd, append }).find(
      ([, given]) => given,
    );
    if (other) return new RegExp(`a bare program has no ${other[0]}; give one or the other`);
  }
  if (flat && kernel === undefined) return /flat says how a kernel is read; give the kernel/;
  return undefined;
}

const pool = new Pool({ threads: 1 });
after(() => pool.dispose());

async function saidBy(options: CreateOptions): Promise<string> {
  await using machine = await Machine.create({ memory: '64M', ...options, pool, seed: 1n, maxSteps: 200_000 });
  let said = '';
  machine.onConsole((bytes) => {
    said += Buffer.from(bytes).toString('latin1');
  });
  assert.deepEqual(await machine.wait(), { kind: 'poweroff', code: 0 });
  return said;
}

const all = Object.entries(CHOICES).flatMap(([option, kinds]) =>
  Object.entries(kinds).map(([name, choice]) => ({ option, name, ...choice })),
);
for (const [n, one] of all.entries()) {
  describe(`a machine with: ${one.name}`, () => {
    for (const other of all.slice(n).filter((other) => other === one || other.option !== one.option)) {
      const options = { ...one.options, ...other.options };
      // A kernel with `flat`, and an ELF called flat, are other choices.
      if (other.option === 'flat' && (one.options.flat || one.name.includes('ELF'))) continue;
      const refused = expected(options);
      test(other === one ? 'alone' : `and ${other.name}`, async () => {
        if (refused) {
          const error = (error: BraidError) =>
            error.code === 'ERR_BRAID_OPTION' && (refused as RegExp).test(error.message);
          return assert.rejects(setupOf(options), error);
        }
        const says = [one, other]
          .filter(({ says }, n, pair) => says && pair.indexOf(pair[n]!) === n)
          .sort((a) => (a.option === 'firmware' ? -1 : 1));
        if (says.length === 0) return void (await setupOf(options));
        const said = await saidBy(options);
        // Harts of a program start all at once, and each says so.
        const heard = options.harts === 2 ? [...new Set(said)].join('') : said;
        const wanted = says
          .map(({ says }) => (says === 'K' ? (options.firmware || options.flat ? 'K2' : 'K4') : says))
          .join('');
        assert.equal(heard, wanted);
      });
    }
  });
}

test('the flags of the command say the same', (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const file = (name: string, bytes: Uint8Array) => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const [firmware, kernel, bare] = [file('firmware', FIRMWARE), file('kernel', IMAGE), file('bare', BARE)];
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'run', '--seed', '1', ...args], {
      encoding: 'latin1',
      input: '',
    });
    return { status, stdout, stderr };
  };
  const said = (stdout: string) => ({ status: 0, stdout, stderr: '' });
  assert.deepEqual(run('--firmware', firmware, '--kernel', `${kernel},flat`), said('F0K2'));
  assert.deepEqual(run('--firmware', firmware, '--kernel', kernel, '--initrd', bare), said('F0K2'));
  assert.deepEqual(run('--kernel', kernel), said('K4'));
  const refused = run('--bare', bare, '--kernel', `${kernel},flat`);
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /a bare program has no kernel/);
});

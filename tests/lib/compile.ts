/** Programs of `tests/programs`, without Linux. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const COMPILER = 'riscv64-unknown-elf-gcc';

/** Why nothing can be compiled here, or false. */
export const compilerMissing: string | false =
  spawnSync(COMPILER, ['--version']).status !== 0 && `${COMPILER} is not installed`;

/** Compiles a program for the start of RAM. */
export function compile(name: string): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'braid-program-'));
  try {
    const source = fileURLToPath(new URL(`../programs/${name}`, import.meta.url));
    const out = join(folder, 'program');
    const flags = [
      '-O2',
      '-Wall',
      '-Werror',
      '-march=rv64imac_zicsr',
      '-mabi=lp64',
      '-mcmodel=medany',
      '-ffreestanding',
      '-nostdlib',
    ];
    const link = ['-static', '-Wl,-n', '-Wl,--section-start=.init=0x80000000', '-Wl,--no-warn-rwx-segments'];
    const made = spawnSync(COMPILER, [...flags, ...link, source, '-o', out], { encoding: 'utf8' });
    assert.equal(made.status, 0, made.stderr);
    return readFileSync(out);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// A program of the benchmarks that is linked dynamically, with the linker and the C library of the cross compiler: as most
// programs of a distribution are, and as none of the default guest is.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CROSS_COMPILER, ROOT, type Scratch } from './guest.ts';

const LINKER = 'ld-linux-riscv64-lp64d.so.1';
const LIBRARY = 'libc.so.6';

/** Builds bench/programs/NAME.c as NAME-dynamic. These files, all in the guest's /bin, are what it needs. */
export function compileDynamic(name: string, scratch: Scratch): Record<string, Uint8Array> {
  const run = (...args: string[]): string => {
    const { status, stdout, stderr, error } = spawnSync(CROSS_COMPILER, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${CROSS_COMPILER} ${args.join(' ')}: ${error?.message ?? stderr}`);
    return stdout.trim();
  };
  const output = join(scratch.folder, `${name}-dynamic`);
  const source = join(ROOT, 'bench', 'programs', `${name}.c`);
  run('-O2', '-march=rv64gc', '-s', `-Wl,--dynamic-linker=/bin/${LINKER},-rpath=/bin`, '-o', output, source);
  const files = [LINKER, LIBRARY].map((file) => [file, readFileSync(run(`-print-file-name=${file}`))] as const);
  return { [`${name}-dynamic`]: readFileSync(output), ...Object.fromEntries(files) };
}

/** C programs for tests, and the default guest booted into one of them instead of its init. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Machine } from '../machine/machine.ts';
import type { MachineOptions } from '../machine/options.ts';
import { defaultGuest, guestMissing, linuxMachine } from './machines.ts';

const COMPILER = 'riscv64-linux-gnu-gcc';
const INCLUDE = fileURLToPath(new URL('../../../../guest/include/', import.meta.url));

/** Why programs cannot be built and run, or false. */
export const programsMissing: string | false =
  spawnSync(COMPILER, ['--version']).status === 0 ? guestMissing : `${COMPILER} is not installed`;

/** For programs without a library, that begin at `_start`. */
export const FREESTANDING = ['-nostdlib', '-ffreestanding', '-fno-stack-protector', '-Wl,--build-id=none'];

/** A static executable; `braid.h` is there to be included. */
export function compileProgram(text: string, flags: readonly string[] = []): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'braid-program-'));
  try {
    const [source, program] = [join(folder, 'program.c'), join(folder, 'program')];
    writeFileSync(source, text);
    const kind = flags.includes('-static-pie') ? [] : ['-static'];
    const built = spawnSync(COMPILER, ['-O2', ...kind, '-I', INCLUDE, ...flags, '-o', program, source], {
      encoding: 'utf8',
    });
    assert.equal(built.status, 0, built.stderr);
    return readFileSync(program);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** One file more for the root file system: archives may follow each other (Linux, initramfs-buffer-format). */
function withFile(initrd: Uint8Array, name: string, content: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [initrd];
  const pad = (length: number) => parts.push(new Uint8Array((4 - (length % 4)) % 4));
  const entry = (path: string, mode: number, data: Uint8Array) => {
    const fields = [1, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, path.length + 1, 0];
    const head = `070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}${path}\0`;
    parts.push(new TextEncoder().encode(head));
    pad(head.length);
    parts.push(data);
    pad(data.length);
  };
  pad(initrd.length);
  entry(name, 0o100755, content);
  entry('TRAILER!!!', 0, new Uint8Array(0));
  return Buffer.concat(parts);
}

/** A machine that boots into a program, which is its first and only one. */
export function bootInto(
  program: Uint8Array,
  options: Partial<MachineOptions> = {},
  say: (text: string) => void = () => {},
): Machine {
  const { kernel, initrd } = defaultGuest();
  const append = 'console=ttyS0 quiet rdinit=/program';
  return linuxMachine(
    { boot: { kind: 'linux', kernel, initrd: withFile(initrd, 'program', program), append }, ...options },
    { console: (bytes) => say(new TextDecoder().decode(bytes)) },
  );
}

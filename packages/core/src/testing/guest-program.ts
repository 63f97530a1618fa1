/** C programs as the default guest's first and only one. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Machine } from '../machine/machine.ts';
import { defaultGuest, linuxMachine } from './machines.ts';

const COMPILER = 'riscv64-linux-gnu-gcc';

/** Why there is no compiler for guests, or false. */
export const compilerMissing: string | false =
  spawnSync(COMPILER, ['--version']).status !== 0 && `${COMPILER} is not installed`;

/** Compiles and links a program. */
export function compileProgram(source: string, flags: readonly string[]): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'braid-program-'));
  try {
    const [text, program] = [join(folder, 'program.c'), join(folder, 'program')];
    writeFileSync(text, source);
    const built = spawnSync(COMPILER, [...flags, '-w', '-Wl,--build-id=none', '-o', program, text], {
      encoding: 'utf8',
    });
    assert.equal(built.status, 0, built.stderr);
    return readFileSync(program);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** One file more for the root file system: archives may follow each other (Linux, initramfs-buffer-format). */
export function withFile(initrd: Uint8Array, name: string, content: Uint8Array): Uint8Array {
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

/** A machine that boots into a program. */
export function bootProgram(program: Uint8Array, harts: number, say: (text: string) => void = () => {}): Machine {
  const { kernel, initrd } = defaultGuest();
  const append = 'console=ttyS0 quiet rdinit=/program';
  return linuxMachine(
    { harts, boot: { kind: 'linux', kernel, initrd: withFile(initrd, 'program', program), append } },
    { console: (bytes) => say(new TextDecoder().decode(bytes)) },
  );
}

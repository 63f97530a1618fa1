/** gdb itself, scripted, and programs for it. */

import { execFile, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Why a test that needs these commands cannot run, or false. */
export function missing(...commands: readonly string[]): string | false {
  const absent = commands.filter((command) => spawnSync(command, ['--version']).error);
  return absent.length > 0 && `${absent.join(', ')} not installed`;
}

/** Runs gdb with commands, one after the other; what it printed. */
export function gdb(commands: readonly string[], file?: string): Promise<string> {
  const options = [
    'set width 0',
    'set height 0',
    'set pagination off',
    'set confirm off',
    'set tcp connect-timeout 10',
  ];
  const args = [...options, ...commands].flatMap((command) => ['-ex', command]);
  return new Promise((resolve, reject) => {
    const all = ['-nx', '-batch', ...args, ...(file === undefined ? [] : [file])];
    execFile(
      'gdb-multiarch',
      all,
      { timeout: 50_000, killSignal: 'SIGKILL', env: { ...process.env, LC_ALL: 'C' } },
      (error, stdout, stderr) => {
        // With -batch gdb's exit code is that of its last command.
        if (error?.killed) reject(new Error(`gdb does not end:\n${stdout}${stderr}`));
        else resolve(stdout + stderr);
      },
    );
  });
}

/** Compiles a C program for bare metal or for Linux; its path and its bytes. */
export function compile(folder: string, name: string, source: string, kind: 'bare' | 'linux') {
  const c = join(folder, `${name}.c`);
  const path = join(folder, name);
  writeFileSync(c, source);
  const common = ['-g', '-O0', '-o', path, c];
  const [command, args] =
    kind === 'linux'
      ? ['riscv64-linux-gnu-gcc', ['-static', ...common]]
      : [
          'riscv64-unknown-elf-gcc',
          [
            '-nostdlib',
            '-nostartfiles',
            '-ffreestanding',
            '-mcmodel=medany',
            '-march=rv64gc',
            '-mabi=lp64d',
            '-Wl,-Ttext=0x80000000,--build-id=none,-n',
            ...common,
          ],
        ];
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
  return { path, bytes: new Uint8Array(readFileSync(path)) };
}

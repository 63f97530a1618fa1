/** gdb, started for somebody who debugs: which one, and how it gets to what it debugs. */

import { spawn, spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import { BraidError } from '../errors.ts';

/** Those that know RISC-V, the usual names first. */
const PROGRAMS = ['gdb-multiarch', 'riscv64-linux-gnu-gdb', 'riscv64-unknown-linux-gnu-gdb', 'riscv64-elf-gdb', 'gdb'];
/** How long gdb waits for an answer, in s: a seek to the other end of a long recording takes a while. */
const PATIENCE = 3600;

/** The first of the programs that is installed and knows RISC-V; `GDB` of the environment names another one. */
export function findGdb(named: string | undefined): string {
  if (named !== undefined && named !== '') {
    if (knowsRiscv(named)) return named;
    throw new BraidError('ERR_BRAID_OPTION', `GDB=${named} is no gdb for RISC-V; set GDB to one, or leave it unset`);
  }
  const found = PROGRAMS.find(knowsRiscv);
  if (found !== undefined) return found;
  throw new BraidError(
    'ERR_BRAID_OPTION',
    'there is no gdb for RISC-V; install gdb-multiarch, set GDB to the one to use, or leave --run out',
  );
}

function knowsRiscv(program: string): boolean {
  const args = ['-nx', '-batch', '-ex', 'set architecture riscv:rv64'];
  const { status, stdout } = spawnSync(program, args, { encoding: 'utf8', timeout: 20_000 });
  return status === 0 && /riscv:rv64/.test(stdout);
}

/** gdb's command line: it connects (`remote`, what one would type) first, then does what its own arguments say. */
export function gdbArguments(remote: string, own: readonly string[]): string[] {
  return ['-q', '-iex', `set remotetimeout ${PATIENCE}`, '-ex', remote, ...own];
}

/** Runs gdb on this terminal; its exit code. */
export async function runGdb(program: string, args: readonly string[]): Promise<number> {
  // Ctrl-C is for gdb, which is in our process group.
  const ignore = () => {};
  process.on('SIGINT', ignore);
  try {
    return await new Promise((resolve, reject) => {
      const child = spawn(program, args, { stdio: 'inherit' });
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
    });
  } finally {
    process.off('SIGINT', ignore);
  }
}

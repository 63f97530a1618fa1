/** What the tests of this package share: programs for bare machines, and the command as a child process. */

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildElf } from '@braid/core/boot/testing.ts';
import { Assembler } from '@braid/core/testing/assembler.ts';

const RAM = 0x8000_0000n;
const UART = 0x1000_0000;
const A0 = 10;
const T0 = 5;
const T1 = 6;

export const MAIN: string = fileURLToPath(new URL('./main.ts', import.meta.url));

/** A folder that goes away with the test. */
export function temporaryFolder(after: (cleanUp: () => void) => void): string {
  const folder = mkdtempSync(join(tmpdir(), 'braid-test-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A bare ELF that writes `exit` to `tohost` and leaves the words of `signature`. */
export function exitProgram(exit: number, signature: readonly number[] = []): Uint8Array {
  const code = new Assembler(RAM);
  code.la(T0, 'tohost');
  code.li(A0, BigInt(exit) * 2n + 1n);
  code.op('sd', { rs1: T0, rs2: A0, imm: 0 });
  code.label('end');
  code.jump(0, 'end');
  code.org(RAM + 0x1000n);
  code.label('tohost');
  code.double(0n);
  code.label('fromhost');
  code.double(0n);
  code.label('begin');
  for (const word of signature) code.word(word);
  code.label('finish');
  return elf(code, {
    tohost: code.addressOf('tohost'),
    fromhost: code.addressOf('fromhost'),
    begin_signature: code.addressOf('begin'),
    end_signature: code.addressOf('finish'),
  });
}

/** Never ends: `quiet` makes steps only, otherwise it fills the serial line. */
export function endlessProgram(kind: 'quiet' | 'flood' | 'wait'): Uint8Array {
  const code = new Assembler(RAM);
  code.li(T0, UART);
  code.li(T1, 0x41);
  code.label('loop');
  if (kind === 'flood') code.op('sb', { rs1: T0, rs2: T1, imm: 0 });
  if (kind === 'wait') code.op('wfi');
  code.jump(0, 'loop');
  return elf(code, {});
}

/** Sends back what is typed, one up in the alphabet, until it reads `q`. */
export function echoProgram(): Uint8Array {
  const code = new Assembler(RAM);
  code.li(T0, UART);
  code.label('loop');
  code.op('lbu', { rd: T1, rs1: T0, imm: 5 });
  code.op('andi', { rd: T1, rs1: T1, imm: 1 });
  code.branch('beq', T1, 0, 'loop');
  code.op('lbu', { rd: A0, rs1: T0, imm: 0 });
  code.li(T1, 0x71);
  code.branch('beq', A0, T1, 'quit');
  code.op('addi', { rd: A0, rs1: A0, imm: 1 });
  code.op('sb', { rs1: T0, rs2: A0, imm: 0 });
  code.jump(0, 'loop');
  code.label('quit');
  code.li(T0, 0x10_0000);
  code.li(A0, 0x5555);
  code.op('sw', { rs1: T0, rs2: A0, imm: 0 });
  code.label('end');
  code.jump(0, 'end');
  return elf(code, {});
}

/** Where `askingProgram` counts the lines that it has read. */
export const LINES_READ: bigint = RAM + 0x1000n;

/**
 * Says `> ` and reads a line, again and again; after each it works on what it has read so far, and says what came of it. A line with a `q`
 * turns the machine off. While it waits its hart waits too (`sleeps`), or looks again and again.
 */
export function askingProgram({ work = 2000, sleeps = true }: { work?: number; sleeps?: boolean } = {}): Uint8Array {
  const code = new Assembler(RAM);
  const [PLIC, BYTE, SUM, COUNT, LINES] = [7, 28, 18, 19, 20] as const;
  code.li(T0, UART);
  if (sleeps) {
    // The line's interrupt (10) goes to hart 0 and wakes it, but is not taken.
    code.li(PLIC, 0x0c00_0000);
    code.li(T1, 1);
    code.op('sw', { rs1: PLIC, rs2: T1, imm: 40 });
    code.op('sb', { rs1: T0, rs2: T1, imm: 1 });
    code.li(PLIC, 0x0c00_2000);
    code.li(T1, 1 << 10);
    code.op('sw', { rs1: PLIC, rs2: T1, imm: 0 });
    code.li(PLIC, 0x0c20_0000);
    code.li(T1, 1 << 11);
    code.csrw(0x304, T1);
  }
  code.la(LINES, 'lines');
  code.label('prompt');
  for (const character of '> ') {
    code.li(T1, character.charCodeAt(0));
    code.op('sb', { rs1: T0, rs2: T1, imm: 0 });
  }
  code.label('read');
  code.op('lbu', { rd: T1, rs1: T0, imm: 5 });
  code.op('andi', { rd: T1, rs1: T1, imm: 1 });
  code.branch('bne', T1, 0, 'byte');
  if (sleeps) {
    code.op('wfi');
    code.op('lw', { rd: T1, rs1: PLIC, imm: 4 });
    code.op('sw', { rs1: PLIC, rs2: T1, imm: 4 });
  }
  code.jump(0, 'read');
  code.label('byte');
  code.op('lbu', { rd: BYTE, rs1: T0, imm: 0 });
  code.li(T1, 0x71);
  code.branch('beq', BYTE, T1, 'quit');
  code.op('slli', { rd: T1, rs1: SUM, imm: 5 });
  code.op('add', { rd: SUM, rs1: SUM, rs2: T1 });
  code.op('add', { rd: SUM, rs1: SUM, rs2: BYTE });
  code.li(T1, 0x0a);
  code.branch('bne', BYTE, T1, 'read');
  code.li(COUNT, work);
  code.label('work');
  code.op('slli', { rd: T1, rs1: SUM, imm: 13 });
  code.op('xor', { rd: SUM, rs1: SUM, rs2: T1 });
  code.op('srli', { rd: T1, rs1: SUM, imm: 7 });
  code.op('xor', { rd: SUM, rs1: SUM, rs2: T1 });
  code.op('addi', { rd: COUNT, rs1: COUNT, imm: -1 });
  code.branch('bne', COUNT, 0, 'work');
  code.op('lw', { rd: T1, rs1: LINES, imm: 0 });
  code.op('addi', { rd: T1, rs1: T1, imm: 1 });
  code.op('sw', { rs1: LINES, rs2: T1, imm: 0 });
  code.op('andi', { rd: T1, rs1: SUM, imm: 15 });
  code.op('addi', { rd: T1, rs1: T1, imm: 0x61 });
  code.op('sb', { rs1: T0, rs2: T1, imm: 0 });
  code.li(T1, 0x0a);
  code.op('sb', { rs1: T0, rs2: T1, imm: 0 });
  code.jump(0, 'prompt');
  code.label('quit');
  code.li(T0, 0x10_0000);
  code.li(A0, 0x5555);
  code.op('sw', { rs1: T0, rs2: A0, imm: 0 });
  code.label('end');
  code.jump(0, 'end');
  code.org(RAM + 0x1000n);
  code.label('lines');
  code.double(0n);
  return elf(code, {});
}

function elf(code: Assembler, symbols: Readonly<Record<string, bigint>>): Uint8Array {
  return buildElf({ segments: [{ address: RAM, data: code.bytes() }], symbols });
}

export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `braid` with arguments; without input its standard input is empty. */
export function braid(
  args: readonly string[],
  options: { readonly input?: string | Uint8Array } = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
  });
}

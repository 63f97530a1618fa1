/** gdb itself, scripted, and programs for it; and a debugger's end of a connection. */

import { execFile, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { bytesText, frame, PacketReader, textBytes } from '@braid/core/gdb/packet.ts';
import type { GdbListener } from './listener.ts';

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
export function compile(
  folder: string,
  name: string,
  source: string,
  kind: 'bare' | 'linux',
  options: readonly string[] = [],
) {
  const c = join(folder, `${name}.c`);
  const path = join(folder, name);
  writeFileSync(c, source);
  const common = ['-g', '-O0', '-o', path, c, ...options];
  const [command, args] =
    kind === 'linux'
      ? // Where no other program of the guest has code: a breakpoint counts in every address space.
        ['riscv64-linux-gnu-gcc', ['-static', '-Wl,-Ttext-segment=0x20000000', ...common]]
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

/** A debugger's end. */
export class Client {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  private readonly reader = new PacketReader();
  private readonly replies: string[] = [];
  private heard: (() => void) | undefined;

  constructor({ socket, port }: Pick<GdbListener, 'socket' | 'port'>) {
    this.socket = socket === undefined ? connect(port!, '127.0.0.1') : connect(socket);
    this.socket.on('error', () => {});
    this.socket.on('data', (bytes: Buffer) => {
      for (const item of this.reader.push(bytes))
        if (item.kind === 'packet') this.replies.push(bytesText(item.payload));
      this.heard?.();
    });
    this.closed = new Promise((resolve) => this.socket.on('close', () => resolve()));
    this.closed.then(() => this.heard?.());
  }

  /** The reply; undefined at the end of the connection. */
  async ask(packet: string): Promise<string | undefined> {
    this.socket.write(frame(textBytes(packet)));
    return this.reply();
  }

  async reply(): Promise<string | undefined> {
    while (this.replies.length === 0 && !this.socket.destroyed) {
      await new Promise<void>((resolve) => {
        this.heard = resolve;
      });
    }
    return this.replies.shift();
  }
}

/** A bare program for two harts that squares numbers and sums them up, for ever. */
export const SQUARES = `
volatile long total;
double half = 0.5;
static long square(long n) { return n * n; }
void run(void) {
  for (long i = 1;; i++) {
    long s = square(i);
    total += s;
    half = half + 1;
  }
}
__attribute__((naked, section(".text.start"))) void _start(void) {
  __asm__("li t0, 0x2000; csrs mstatus, t0; csrr t0, mhartid; slli t0, t0, 12; la sp, _start + 0x100000; sub sp, sp, t0; j run");
}
`;

/** A program for Linux: a list that is walked. */
export const WALK = `
#include <stdio.h>
struct item { int id; const char *name; struct item *next; };
static int walk(struct item *item) {
  int sum = 0;
  while (item) {
    sum += item->id;
    item = item->next;
  }
  return sum;
}
int main(void) {
  struct item last = {30, "last", 0}, first = {12, "first", &last};
  printf("sum %d\\n", walk(&first));
  return 0;
}
`;

/** A program for Linux whose every other instruction meets a page that is not there yet, or calls the kernel. */
export const TOUCH = `
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
static volatile char *page;
__attribute__((noinline)) static void touch(void) {
  for (int i = 0; i < 12; i++) {
    page[i * 4096L] = i;
    register long a7 __asm__("a7") = SYS_getppid;
    register long a0 __asm__("a0");
    __asm__ volatile("ecall" : "=r"(a0) : "r"(a7) : "memory");
  }
}
int main(void) {
  page = mmap(0, 12 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  touch();
  return 0;
}
`;

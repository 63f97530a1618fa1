// What the benchmarks that boot Linux share: the default guest, programs for it, and the commands that start a machine in
// Braid and the same machine in QEMU.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { findPeer } from '../harness.ts';

export const ROOT: string = fileURLToPath(new URL('../..', import.meta.url));
const PREBUILT = join(ROOT, 'guest', 'prebuilt');
export const CROSS_COMPILER = 'riscv64-linux-gnu-gcc';

/** The end of the default guest's shell prompt. */
export const PROMPT = ':~# ';
/** The kernel's command line in `braid run` of the default guest. */
export const DEFAULT_APPEND = 'console=hvc0 earlycon=sbi quiet panic=-1';

/** A folder that goes away with its scope. */
export class Scratch implements Disposable {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'braid-bench-'));

  /** Writes a file into it; its path. */
  write(name: string, bytes: Uint8Array): string {
    const path = join(this.folder, name);
    writeFileSync(path, bytes);
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The default guest's kernel, unpacked. */
export const readKernel = (): Uint8Array => gunzipSync(readFileSync(join(PREBUILT, 'Image.gz')));

/** The default guest's root file system, unpacked, with more programs in its /bin. */
export function readInitramfs(programs: Readonly<Record<string, Uint8Array>> = {}): Uint8Array {
  const root = gunzipSync(readFileSync(join(PREBUILT, 'initramfs.cpio.gz')));
  const padding = Buffer.alloc(-root.length & 511);
  return Buffer.concat([root, padding, cpio(programs)]); // the kernel takes any number of archives
}

/** An archive (cpio, "newc") of programs in /bin. */
function cpio(programs: Readonly<Record<string, Uint8Array>>): Buffer {
  const parts: Buffer[] = [];
  const pad = (bytes: Uint8Array) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
  const add = (name: string, mode: number, content: Uint8Array) => {
    //              inode, mode, uid, gid, links, time, size, device (2), special device (2), length of the name, checksum
    const fields = [parts.length, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
    parts.push(pad(Buffer.from(header, 'latin1')), pad(content));
  };
  for (const [name, content] of Object.entries(programs)) add(`bin/${name}`, 0o100755, content);
  add('TRAILER!!!', 0, new Uint8Array(0));
  return Buffer.concat(parts);
}

/** Builds bench/programs/NAME.c for the guest; undefined, with a note on stderr, where there is no cross compiler. */
export function compileProgram(name: string, scratch: Scratch): Uint8Array | undefined {
  const path = compile(CROSS_COMPILER, name, join(scratch.folder, name), '-march=rv64gc');
  return path === undefined ? undefined : readFileSync(path);
}

/** The same for this machine; its path. */
export const compileNative = (name: string, scratch: Scratch): string | undefined =>
  compile('gcc', name, join(scratch.folder, `native-${name}`));

function compile(command: string, name: string, output: string, ...target: string[]): string | undefined {
  const compiler = findPeer(command);
  if (!compiler) return undefined;
  const source = join(ROOT, 'bench', 'programs', `${name}.c`);
  // Floating point is what the source says, so that its bits are the same everywhere.
  const exact = ['-ffp-contract=off', '-fno-math-errno'];
  const args = ['-O2', ...exact, ...target, '-static', '-s', '-o', output, source];
  const { status, stderr, error } = spawnSync(compiler, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`cannot compile ${source}: ${error?.message ?? stderr}`);
  return output;
}

/** A machine that QEMU is to have as Braid has it. */
export interface Guest {
  /** Paths. */
  readonly kernel: string;
  readonly initrd: string;
  readonly append: string;
  readonly harts: number;
  /** MiB. */
  readonly memory: number;
  /** Path of a raw image. */
  readonly disk?: string;
}

/** QEMU's arguments, with the devices that Braid's machine has. The kernel's console is our standard input and output. */
export function qemuArguments({ kernel, initrd, append, harts, memory, disk }: Guest): string[] {
  const virtio = append.includes('console=hvc0');
  return [
    ...['-M', 'virt', '-display', 'none', '-monitor', 'none', '-no-reboot', '-smp', `${harts}`, '-m', `${memory}M`],
    ...['-kernel', kernel, '-initrd', initrd, '-append', append],
    ...['-chardev', 'stdio,id=console', '-chardev', 'null,id=agent', '-device', 'virtio-serial-device'],
    ...(virtio ? ['-serial', 'null', '-device', 'virtconsole,chardev=console'] : ['-serial', 'chardev:console']),
    ...['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0', '-device', 'virtio-rng-device'],
    ...(disk ? ['-drive', `file=${disk},format=raw,if=none,id=disk`, '-device', 'virtio-blk-device,drive=disk'] : []),
  ];
}

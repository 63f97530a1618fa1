/**
 * Runs a bare-metal program on Braid and on QEMU's `virt` machine and gives back what it left in RAM.
 *
 * A program is a flat image for the start of RAM, entered in M-mode with a0 = hart and a1 = device tree; it ends by a
 * store to the test finisher. QEMU's RAM is a file that both sides see, so results cost nothing to get, however large.
 */

import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Outcome, runBraid } from '../../packages/core/src/testing/bare.ts';
import { MEMORY } from '../../packages/core/src/testing/machines.ts';

const RAM = 0x8000_0000;
const QEMU = 'qemu-system-riscv64';

/** Without the extensions that Braid does not have; what QEMU 7.2 lacks is said where it matters. */
const CPU =
  'rv64,priv_spec=v1.12.0,debug=off,pmu-num=29,h=off,zba=on,zbb=on,zbs=on,zbc=off,sstc=on,svinval=off,svnapot=off,svpbmt=off';

let checked: string | false | undefined;

/** Why programs cannot be run on QEMU, or false. */
export function qemuMissing(): string | false {
  if (checked === undefined) {
    const found = spawnSync(QEMU, ['--version'], { encoding: 'utf8' });
    const version = /version (\S+)/.exec(found.stdout ?? '')?.[1];
    if (version === undefined) checked = `${QEMU} is not installed`;
    // The programs keep out of what this version does otherwise; another one does other things.
    else checked = version.startsWith('7.2.') ? false : `${QEMU} is ${version}, not 7.2`;
  }
  return checked;
}

/** Runs to the end on QEMU, with `more` arguments. */
export async function runQemu(image: Uint8Array, timeout = 100_000, more: readonly string[] = []): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'braid-bare-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  try {
    const program = join(folder, 'program');
    const ram = join(folder, 'ram');
    writeFileSync(program, image);
    const args = [
      // With one hart QEMU splits an AMO into a load and a store, and a fault becomes the load's.
      ...['-M', 'virt,memory-backend=ram', '-cpu', CPU, '-m', `${MEMORY >> 20}M`, '-smp', '2'],
      ...['-object', `memory-backend-file,id=ram,size=${MEMORY},mem-path=${ram},share=on`],
      ...['-bios', program, '-display', 'none', '-serial', 'null', '-monitor', 'none', '-net', 'none'],
      ...more,
    ];
    let errors = '';
    const child = spawn(QEMU, args, { stdio: ['ignore', 'ignore', 'pipe'], timeout });
    child.stderr.on('data', (data) => {
      errors += data;
    });
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (...how) => resolve(how));
    });
    if (code !== 0) throw new Error(`the program does not end on QEMU (${signal ?? code}): ${errors}`);
    const file = openSync(ram, 'r');
    return {
      read(address, length) {
        const bytes = new Uint8Array(length);
        readSync(file, bytes, 0, length, address - RAM);
        return bytes;
      },
      [Symbol.dispose]() {
        closeSync(file);
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}

/** On both; QEMU runs beside us, always with two harts. */
export async function runBoth(
  image: Uint8Array,
  options: { readonly harts?: number; readonly qemu?: readonly string[] } = {},
): Promise<{ braid: Outcome; qemu: Outcome }> {
  const other = runQemu(image, undefined, options.qemu);
  // Let the child start before we are busy.
  await new Promise((resolve) => setImmediate(resolve));
  let braid: Outcome;
  try {
    braid = runBraid(image, options);
  } catch (error) {
    (await other)[Symbol.dispose]();
    throw error;
  }
  return { braid, qemu: await other };
}

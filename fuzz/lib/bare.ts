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
import { Engine } from '../../packages/core/src/engine/engine.ts';
import { Machine } from '../../packages/core/src/machine/machine.ts';
import { Pool } from '../../packages/core/src/memory/pool.ts';
import type { Assembler } from './assembler.ts';

export const RAM = 0x8000_0000;
export const MEMORY = 32 * 2 ** 20;
const QEMU = 'qemu-system-riscv64';
const FINISHER = 0x10_0000;
const PASS = 0x5555;

/** Without the extensions that Braid does not have; what QEMU 7.2 lacks is said where it matters. */
const CPU =
  'rv64,priv_spec=v1.12.0,debug=off,pmu-num=29,h=off,zba=on,zbb=on,zbs=on,zbc=off,sstc=on,svinval=off,svnapot=off,svpbmt=off';

let checked: string | false | undefined;

/** Why programs cannot be run on QEMU, or false. */
export function qemuMissing(): string | false {
  if (checked === undefined) {
    const found = spawnSync(QEMU, ['--version'], { encoding: 'utf8' });
    checked = found.status === 0 ? false : `${QEMU} is not installed`;
  }
  return checked;
}

/** What a program left behind. */
export interface Outcome {
  /** A copy of guest-physical memory. */
  read(address: number, length: number): Uint8Array;
  /** Instructions that retired, where that is known. */
  readonly instructions: bigint;
  [Symbol.dispose](): void;
}

/** Ends the program; t0 and t1 are lost. */
export function finish(a: Assembler): void {
  a.li(5, FINISHER);
  a.li(6, PASS);
  a.op('sw', { rs1: 5, rs2: 6 });
  const forever = a.newLabel();
  a.label(forever);
  a.jump(0, forever);
}

/** Begins a program: every hart but the first sleeps; t0 is lost. */
export function start(a: Assembler): void {
  const go = a.newLabel();
  a.csrr(5, 0xf14);
  a.branch('beq', 5, 0, go);
  const forever = a.newLabel();
  a.label(forever);
  a.op('wfi');
  a.jump(0, forever);
  a.label(go);
}

let engine: Engine | undefined;

/** The engine of this process; making one takes a while. */
export function sharedEngine(): Engine {
  engine ??= new Engine(new Pool(), 0);
  return engine;
}

/** A machine with one hart, about to start the image. Slices are long, because their ends break reservations. */
export function bareMachine(image: Uint8Array, options: { harts?: number; slice?: number } = {}): Machine {
  const { harts = 1, slice = 2 ** 30 } = options;
  return new Machine(sharedEngine(), { boot: { kind: 'bare', image }, memory: MEMORY, harts, slice, seed: 1n });
}

/** Runs to the end on Braid; `chunk` steps at a time. */
export function runBraid(image: Uint8Array, limit = 4e9, chunk = 1e8): Outcome {
  const machine = bareMachine(image);
  for (let left = limit; ; left -= chunk) {
    const stop = machine.run(chunk);
    if (stop.reason === 'exit') break;
    if (stop.reason !== 'steps' || left <= 0) {
      const pc = machine.hartSet.get(0, 'pc').toString(16);
      machine.free();
      throw new Error(`the program does not end on Braid (${stop.reason}, pc 0x${pc})`);
    }
  }
  return {
    instructions: machine.instructions(0),
    read(address, length) {
      const bytes = new Uint8Array(length);
      if (!machine.ram.read(address, bytes)) throw new RangeError(`0x${address.toString(16)} is outside RAM`);
      return bytes;
    },
    [Symbol.dispose]: () => machine.free(),
  };
}

/** Runs to the end on QEMU. */
export async function runQemu(image: Uint8Array, timeout = 100_000): Promise<Outcome> {
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
      instructions: 0n,
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

/** On both; QEMU runs beside us. */
export async function runBoth(image: Uint8Array): Promise<{ braid: Outcome; qemu: Outcome }> {
  const other = runQemu(image);
  // Let the child start before we are busy.
  await new Promise((resolve) => setImmediate(resolve));
  let braid: Outcome;
  try {
    braid = runBraid(image);
  } catch (error) {
    (await other)[Symbol.dispose]();
    throw error;
  }
  return { braid, qemu: await other };
}

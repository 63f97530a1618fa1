/** Running a bare-metal program: a flat image for the start of RAM, entered in M-mode, that `finish` ends. */

import { Machine } from '../machine/machine.ts';
import { MEMORY, sharedEngine } from './machines.ts';

/** What a program left behind. */
export interface Outcome {
  /** A copy of guest-physical memory. */
  read(address: number, length: number): Uint8Array;
  [Symbol.dispose](): void;
}

/** A machine about to start the image. Slices are long, because their ends break reservations; idle gaps are not jumped over. */
export function plainMachine(
  image: Uint8Array,
  options: { harts?: number; slice?: number } = {},
  engine = sharedEngine(),
): Machine {
  const { harts = 1, slice = 2 ** 30 } = options;
  return new Machine(engine, { boot: { kind: 'bare', image }, memory: MEMORY, harts, slice, seed: 1n });
}

/** Runs to the end on Braid; `chunk` steps at a time. */
export function runBraid(image: Uint8Array, options: { harts?: number } = {}, limit = 1e10, chunk = 1e8): Outcome {
  const machine = plainMachine(image, options);
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
    read(address, length) {
      const bytes = new Uint8Array(length);
      if (!machine.ram.read(address, bytes)) throw new RangeError(`0x${address.toString(16)} is outside RAM`);
      return bytes;
    },
    [Symbol.dispose]: () => machine.free(),
  };
}

/** What calls ask about a machine, and its answer. */

import type { Machine } from '@braid/core/machine/machine.ts';
import { BraidError } from '../errors.ts';
import type { Calls, Stats } from '../pool/protocol.ts';

/** What the machine itself knows of the statistics. */
export function stats(machine: Machine): Omit<Stats, 'hostSeconds' | 'panic'> {
  const perHart = Array.from({ length: machine.harts }, (_, hart) => ({
    steps: machine.steps(hart),
    instructions: machine.instructions(hart),
  }));
  return {
    steps: machine.totalSteps,
    instructions: perHart.reduce((sum, hart) => sum + hart.instructions, 0n),
    guestSeconds: Number(machine.now) / 1e9,
    perHart,
    position: machine.position,
    exit: machine.exit,
    seed: machine.options.seed,
  };
}

/** The memory between the symbols of a conformance test's signature. */
export function signature(machine: Machine): Uint8Array {
  const symbols = machine.symbols.signature;
  if (!symbols) {
    throw new BraidError('ERR_BRAID_OPTION', 'the program has no symbols begin_signature and end_signature');
  }
  const bytes = new Uint8Array(symbols.end - symbols.begin);
  machine.ram.read(symbols.begin, bytes);
  return bytes;
}

/** Where a hart's virtual address lies in guest-physical memory. */
export function physical(machine: Machine, { hart, address }: Calls['physical'][0]): Calls['physical'][1] {
  if (!(hart >= 0 && hart < machine.harts)) throw new BraidError('ERR_BRAID_OPTION', `there is no hart ${hart}`);
  return machine.physical(hart, address);
}

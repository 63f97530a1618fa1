/** A write to a PMP register of the hart in the engine's window, which generated code leaves to the host. */

import type { Engine } from '../engine/engine.ts';
import { type ProtectionRegisters, writeAddress, writeConfig } from '../hart/protection.ts';
import type { HartField } from '../hart/state.ts';

const PMPADDR0 = 0x3b0;
const PMPCFG0 = 0x3a0;

function registersOf(engine: Engine): ProtectionRegisters {
  const config = new Uint8Array(16);
  const view = new DataView(config.buffer);
  view.setBigUint64(0, engine.get('pmpcfg0'), true);
  view.setBigUint64(8, engine.get('pmpcfg2'), true);
  const address = BigUint64Array.from({ length: 16 }, (_, i) => engine.get(`pmpaddr${i}` as HartField));
  return { config, address };
}

/** Writes a CSR, from the mailbox. */
export function writeProtection(engine: Engine, csr: number): void {
  const registers = registersOf(engine);
  const value = engine.get('mailbox');
  if (csr >= PMPADDR0) writeAddress(registers, csr - PMPADDR0, value);
  else writeConfig(registers, (csr - PMPCFG0) * 4, value);
  const view = new DataView(registers.config.buffer);
  engine.set('pmpcfg0', view.getBigUint64(0, true));
  engine.set('pmpcfg2', view.getBigUint64(8, true));
  for (const [i, address] of registers.address.entries()) engine.set(`pmpaddr${i}` as HartField, address);
  engine.dropShadows();
}

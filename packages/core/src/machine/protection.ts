/** The PMP registers of the hart in the engine's window, as generated code reads and writes them. */

import type { Engine } from '../engine/engine.ts';
import { type ProtectionRegisters, pageRights, readAddress, writeAddress, writeConfig } from '../hart/protection.ts';
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

/** Rights on the page with this number, for M-mode or below. */
export function protectionOf(engine: Engine, page: bigint, machine: boolean): number {
  return pageRights(registersOf(engine), page, machine);
}

/** What a CSR reads as: to the mailbox. */
export function readProtection(engine: Engine, csr: number): void {
  const value =
    csr >= PMPADDR0
      ? readAddress(registersOf(engine), csr - PMPADDR0)
      : engine.get(csr === PMPCFG0 ? 'pmpcfg0' : 'pmpcfg2');
  engine.set('mailbox', value);
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

/**
 * What every step of a machine does to memory, found out without the engine's help: the instruction is decoded before it is executed, and
 * page tables are compared before and after. For machines without devices that write memory.
 */

import { MSTATUS } from '../hart/state.ts';
import { walk } from '../hart/walk.ts';
import { decode, expand, lengthOf, operands } from '../isa/index.ts';
import type { Machine } from '../machine/machine.ts';
import { runSteps } from './machines.ts';

export interface Part {
  /** The hardware's writes have none. */
  readonly va: bigint | undefined;
  readonly pa: bigint;
  readonly length: number;
  readonly access: 'read' | 'write' | 'update';
}

export interface StepAccesses {
  /** Of all harts before it. */
  readonly steps: bigint;
  readonly hart: number;
  /** What the hart's data addresses are translated with, and that of every hart, before the step. */
  readonly satp: bigint;
  readonly spaces: readonly bigint[];
  readonly parts: readonly Part[];
  /** Entries of page tables whose flags the hardware has set; also where the instruction trapped then. */
  readonly walks: readonly Part[];
}

/** With every right. */
export function lookUp(machine: Machine, satp: bigint, address: bigint): bigint | undefined {
  const rights = { satp, privilege: 1n, mstatus: MSTATUS.SUM | MSTATUS.MXR };
  return walk({ get: (field) => rights[field], word: (at) => word(machine, at, 8) }, address);
}

function word(machine: Machine, address: bigint, size: 2 | 8): bigint | undefined {
  const bytes = new Uint8Array(8);
  if (address >= 1n << 52n || !machine.ram.read(Number(address), bytes.subarray(0, size))) return undefined;
  return new DataView(bytes.buffer).getBigUint64(0, true);
}

function dataSpace(machine: Machine, hart: number): bigint {
  const { hartSet } = machine;
  const status = hartSet.get(hart, 'mstatus');
  const privilege = status & MSTATUS.MPRV ? (status >> 11n) & 3n : hartSet.get(hart, 'privilege');
  return privilege === 3n ? 0n : hartSet.get(hart, 'satp');
}

/** The instruction that the hart is about to execute. */
function instruction(machine: Machine, hart: number): number | undefined {
  const { hartSet } = machine;
  const satp = hartSet.get(hart, 'privilege') === 3n ? 0n : hartSet.get(hart, 'satp');
  const half = (pc: bigint) => {
    const physical = lookUp(machine, satp, pc);
    const bits = physical === undefined ? undefined : word(machine, physical, 2);
    return bits === undefined ? undefined : Number(bits);
  };
  const pc = hartSet.get(hart, 'pc');
  const low = half(pc);
  if (low === undefined) return undefined;
  if (lengthOf(low) === 2) return expand(low);
  const high = half(pc + 2n);
  return high === undefined ? undefined : low | (high << 16);
}

const SIZES: Readonly<Record<string, number>> = {
  ...{ lb: 1, lbu: 1, lh: 2, lhu: 2, lw: 4, lwu: 4, ld: 8, flw: 4, fld: 8 },
  ...{ sb: 1, sh: 2, sw: 4, sd: 8, fsw: 4, fsd: 8 },
};

/** What the instruction will access if it does not trap: address, bytes, how. */
function accessOf(machine: Machine, hart: number, satp: bigint): [bigint, number, Part['access']] | undefined {
  const bits = instruction(machine, hart);
  const row = bits ? decode(bits) : undefined;
  if (!row) return undefined;
  const o = operands(row, bits!);
  const base = machine.hartSet.getX(hart, o.rs1);
  const size = row.name.endsWith('.d') ? 8 : 4;
  switch (row.format) {
    case 'L':
    case 'FL':
      return [BigInt.asUintN(64, base + BigInt(o.imm)), SIZES[row.name]!, 'read'];
    case 'S':
    case 'FS':
      return [BigInt.asUintN(64, base + BigInt(o.imm)), SIZES[row.name]!, 'write'];
    case 'AL':
      return [base, size, 'read'];
    case 'A': {
      if (!row.name.startsWith('sc')) return [base, size, 'update'];
      const reserved = machine.hartSet.get(hart, 'reservation');
      return reserved !== 0n && reserved === lookUp(machine, satp, base) ? [base, size, 'write'] : undefined;
    }
    case 'CB':
      return row.name === 'cbo.zero' ? [base & -64n, 64, 'write'] : undefined;
    default:
      return undefined;
  }
}

/** Every step that accesses memory, of so many steps or up to the machine's end. `tables`: where page tables are. */
export function accesses(
  machine: Machine,
  steps: number,
  tables: { readonly address: number; readonly length: number },
): StepAccesses[] {
  const { hartSet } = machine;
  const found: StepAccesses[] = [];
  let before = new BigUint64Array(tables.length / 8);
  let after = new BigUint64Array(tables.length / 8);
  while (machine.totalSteps < steps) {
    // To the next hart that makes a step.
    if (runSteps(machine, 0).reason !== 'steps') break;
    const { hart } = machine.position;
    const { totalSteps } = machine;
    const spaces = Array.from({ length: machine.harts }, (_, n) => dataSpace(machine, n));
    const satp = spaces[hart]!;
    const access = accessOf(machine, hart, satp);
    const traps = hartSet.get(hart, 'traps');
    let parts: Part[] = [];
    if (access) {
      const [va, length, kind] = access;
      const first = Math.min(length, 4096 - Number(va & 4095n));
      for (const [at, part] of [[va, first] as const, [va + BigInt(first), length - first] as const]) {
        const pa = part > 0 ? lookUp(machine, satp, at) : undefined;
        if (pa !== undefined) parts.push({ va: at, pa, length: part, access: kind });
      }
    }
    machine.ram.read(tables.address, new Uint8Array(before.buffer));
    if (runSteps(machine, 1).reason === 'stalled' || machine.totalSteps === totalSteps) break;
    machine.ram.read(tables.address, new Uint8Array(after.buffer));
    if (hartSet.get(hart, 'traps') !== traps) parts = [];
    const walks: Part[] = [];
    if (Buffer.compare(new Uint8Array(before.buffer), new Uint8Array(after.buffer)) !== 0) {
      for (const [n, value] of after.entries()) {
        const pa = BigInt(tables.address + 8 * n);
        const stored = parts.some((part) => part.pa < pa + 8n && part.pa + BigInt(part.length) > pa);
        if (value !== before[n] && !stored) walks.push({ va: undefined, pa, length: 8, access: 'write' });
      }
    }
    [before, after] = [after, before];
    if (parts.length + walks.length > 0) found.push({ steps: totalSteps, hart, satp, spaces, parts, walks });
  }
  return found;
}

/**
 * A core machine under a debugger's eyes, between runs: registers, and memory as a hart sees it or by guest-physical addresses. Looking
 * changes nothing, not even an accessed flag. Changes are those of somebody from outside: they are no events, so that a recording
 * has to begin anew behind one.
 */

import { HartRecord, restoreHart, saveHart } from '../hart/record.ts';
import { type HartField, IRQ, MSTATUS, PRIVILEGE, X_NAMES } from '../hart/state.ts';
import { copyOut, pagesOf, translate, wholeView } from '../machine/guest-memory.ts';
import type { Machine } from '../machine/machine.ts';
import { GdbError } from './errors.ts';
import { byName, floatIndex, REGISTERS } from './registers.ts';
import type { MemoryOptions, RegisterValues } from './target.ts';

/** CSRs that are a field of the hart, and may be written as one. */
const FIELD_CSRS: ReadonlySet<string> = new Set(
  (
    'stvec scounteren senvcfg sscratch sepc scause stval stimecmp satp medeleg mideleg mie mtvec mcounteren menvcfg ' +
    'mscratch mepc mcause mtval fflags frm'
  ).split(' '),
);

/** MXL = 64 bits; A C D F I M S U. */
const MISA = [...'ACDFIMSU'].reduce((bits, c) => bits | (1n << BigInt(c.charCodeAt(0) - 65)), 2n << 62n);
const SSTATUS = MSTATUS.SIE | MSTATUS.SPIE | MSTATUS.SPP | MSTATUS.FS | MSTATUS.SUM | MSTATUS.MXR;
const INHIBIT = { cycle: 1n, instret: 4n } as const;

/** All registers of a hart. */
export function readRegisters(machine: Machine, hart: number): RegisterValues {
  const values: Record<string, bigint> = {};
  const record = machine.hartSet.record(hart);
  for (const register of REGISTERS) {
    const { name, number } = register;
    const f = floatIndex(register);
    if (number < 32) values[name] = record.getX(number);
    else if (f !== undefined) values[name] = record.getF(f);
    else values[name] = readOther(machine, hart, record, name);
  }
  return values;
}

function readOther(machine: Machine, hart: number, record: HartRecord, name: string): bigint {
  const get = (field: HartField) => record.get(field);
  const status = () => {
    const value = get('mstatus') | MSTATUS.UXL | MSTATUS.SXL;
    return (value & MSTATUS.FS) === MSTATUS.FS ? value | MSTATUS.SD : value;
  };
  const counter = (field: 'cycleOffset' | 'instretOffset', bit: bigint, running: bigint) =>
    BigInt.asUintN(64, get(field) + ((get('mcountinhibit') & bit) === 0n ? running : 0n));
  switch (name) {
    case 'priv':
      return get('privilege');
    case 'fcsr':
      return get('fflags') | (get('frm') << 5n);
    case 'cycle':
    case 'mcycle':
      return counter('cycleOffset', INHIBIT.cycle, machine.steps(hart));
    case 'instret':
    case 'minstret':
      return counter('instretOffset', INHIBIT.instret, machine.instructions(hart));
    case 'time':
      return BigInt.asUintN(64, machine.clock.ticksAt(machine.now));
    case 'sstatus':
      return status() & (SSTATUS | MSTATUS.UXL | MSTATUS.SD);
    case 'mstatus':
      return status();
    case 'sie':
      return get('mie') & get('mideleg');
    case 'sip':
      return (get('mip') | get('seipLine')) & get('mideleg');
    case 'mip':
      return get('mip') | get('seipLine');
    case 'misa':
      return MISA;
    case 'mhartid':
      return BigInt(hart);
    default:
      return get(name as HartField);
  }
}

/** Changes a register. Throws `GdbError` for one that cannot be changed, or not to this value. */
export function writeRegister(machine: Machine, hart: number, name: string, value: bigint): void {
  const register = byName.get(name);
  if (!register) throw new GdbError(`there is no register ${name}`);
  const record = machine.hartSet.record(hart);
  const f = floatIndex(register);
  if (register.number < 32) return record.setX(X_NAMES.indexOf(name), value);
  if (f !== undefined) return record.setF(f, value);
  const fields = fieldsFor(record, name, value);
  if (!fields) throw new GdbError(`the register ${name} cannot be changed from outside`);
  requireLegal(record, fields, name);
  for (const [field, bits] of Object.entries(fields) as [HartField, bigint][]) record.set(field, bits);
}

/** The fields that a register is, with their new values. */
function fieldsFor(record: HartRecord, name: string, value: bigint): Partial<Record<HartField, bigint>> | undefined {
  const merge = (field: HartField, mask: bigint) => ({ [field]: (record.get(field) & ~mask) | (value & mask) });
  switch (name) {
    case 'pc':
      return { pc: value };
    case 'priv':
      return { privilege: value };
    case 'fcsr':
      return { fflags: value & 31n, frm: value >> 5n };
    case 'sstatus':
      return merge('mstatus', SSTATUS);
    case 'mstatus':
      // What is shown of it and not kept: the widths, and that there is something dirty.
      return { mstatus: value & ~(MSTATUS.UXL | MSTATUS.SXL | MSTATUS.SD) };
    case 'sie':
      return merge('mie', record.get('mideleg'));
    case 'sip':
      return merge('mip', record.get('mideleg') & IRQ.SSI);
    default:
      return FIELD_CSRS.has(name) ? { [name]: value } : undefined;
  }
}

/** Throws where no hart's record holds such values. */
function requireLegal(record: HartRecord, fields: Partial<Record<HartField, bigint>>, name: string): void {
  const state = saveHart(record);
  try {
    restoreHart({ ...state, fields: { ...state.fields, ...fields } }, 'hart', new HartRecord());
  } catch {
    const [value] = Object.values(fields);
    throw new GdbError(`the register ${name} cannot be 0x${value!.toString(16)}`);
  }
}

/** What is at an address, up to the first byte that is not mapped, or not in RAM. */
export function readMemory(machine: Machine, address: bigint, length: number, options: MemoryOptions): Uint8Array {
  const bytes = new Uint8Array(length);
  return bytes.subarray(0, copyOut(machine.ram, address, bytes, physicalOf(machine, options)));
}

/** Writes all of the bytes, whatever the page tables grant, or throws `GdbError` and has written nothing. */
export function writeMemory(machine: Machine, address: bigint, bytes: Uint8Array, options: MemoryOptions): void {
  const { ram, hartSet, schedule } = machine;
  const parts = [...pieces(machine, address, bytes.length, options)];
  const there = parts.reduce((sum, { physical, part }) => (ram.contains(physical, part) ? sum + part : sum), 0);
  if (there < bytes.length) {
    const at = address + BigInt(there);
    throw new GdbError(`there is no memory to write at 0x${BigInt.asUintN(64, at).toString(16)}`);
  }
  // As with a device's write, no reservation outlives it.
  hartSet.set(schedule.hart, 'reservation', 0n);
  let done = 0;
  for (const { physical, part } of parts) {
    ram.write(physical, bytes.subarray(done, done + part));
    done += part;
  }
}

/** The range by guest-physical addresses, each piece within a page; ends before the first page that is not mapped. */
function* pieces(machine: Machine, address: bigint, length: number, options: MemoryOptions) {
  const find = physicalOf(machine, options);
  for (const { address: at, part } of pagesOf(address, length)) {
    const physical = find(at);
    if (physical === undefined || physical >= 1n << 52n) return;
    yield { physical: Number(physical), part };
  }
}

/** Finds addresses of the hart's address space, whoever may read there: a debugger sees what a kernel does that reads everything. */
function physicalOf({ hartSet, ram }: Machine, { hart, satp, physical }: MemoryOptions) {
  if (physical) return (address: bigint) => address;
  // In M-mode nothing is translated.
  const inMachine = Number(hartSet.get(hart, 'privilege')) === PRIVILEGE.machine;
  const view = wholeView(satp ?? (inMachine ? 0n : hartSet.get(hart, 'satp')));
  return (address: bigint) => translate(ram, view, address);
}

/**
 * A hart's registers as gdb knows them: names, numbers, widths, groups. From this table come the target description and the
 * layout of packets.
 *
 * Numbers are gdb's own for RISC-V (`riscv-tdep.h`): x 0 to 31, pc 32, f 33 to 64, the CSR n 65 + n, the privilege level 4161. Those
 * up to the last f register are in the packet `g`; the others are asked for one at a time.
 */

import { X_NAMES } from '../hart/state.ts';
import { csrNames } from '../isa/csr-names.ts';

export interface Register {
  readonly name: string;
  readonly number: number;
  /** 64, or 32 for those of the floating-point unit. */
  readonly bits: number;
  readonly feature: 'cpu' | 'fpu' | 'virtual' | 'csr';
}

export const PC = 32;
const FIRST_F = 33;
const FIRST_CSR = 65;
const PRIVILEGE_NUMBER = FIRST_CSR + 4096;
/** Registers in the packet `g`. */
export const GENERAL = FIRST_CSR;

const F_NAMES =
  'ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11';

const FLOAT_CSRS = ['fflags', 'frm', 'fcsr'];

/** Those that are worth a look; hpm counters and their events are always 0. */
const CSRS = [
  ...'cycle time instret'.split(' '),
  ...'sstatus sie stvec scounteren senvcfg sscratch sepc scause stval sip stimecmp satp'.split(' '),
  ...'mstatus misa medeleg mideleg mie mtvec mcounteren menvcfg mcountinhibit'.split(' '),
  ...'mscratch mepc mcause mtval mip pmpcfg0 pmpcfg2'.split(' '),
  ...Array.from({ length: 16 }, (_, n) => `pmpaddr${n}`),
  ...'mcycle minstret mhartid'.split(' '),
];

const csrNumbers = new Map([...csrNames].map(([number, name]) => [name, number]));

function csr(name: string, feature: 'fpu' | 'csr', bits: number): Register {
  return { name, number: FIRST_CSR + csrNumbers.get(name)!, bits, feature };
}

/** All of them, by rising number within their features. */
export const REGISTERS: readonly Register[] = [
  ...X_NAMES.map((name, number): Register => ({ name, number, bits: 64, feature: 'cpu' })),
  { name: 'pc', number: PC, bits: 64, feature: 'cpu' },
  ...F_NAMES.split(' ').map((name, n): Register => ({ name, number: FIRST_F + n, bits: 64, feature: 'fpu' })),
  ...FLOAT_CSRS.map((name) => csr(name, 'fpu', 32)),
  { name: 'priv', number: PRIVILEGE_NUMBER, bits: 64, feature: 'virtual' },
  ...CSRS.map((name) => csr(name, 'csr', 64)),
];

export const byNumber: ReadonlyMap<number, Register> = new Map(
  REGISTERS.map((register) => [register.number, register]),
);
export const byName: ReadonlyMap<string, Register> = new Map(REGISTERS.map((register) => [register.name, register]));

/** Which f register a name is; undefined for others. */
export function floatIndex({ number }: Register): number | undefined {
  return number >= FIRST_F && number < FIRST_CSR ? number - FIRST_F : undefined;
}

/** A value as packets have it, little-endian; of one that is not known, as many `x`. */
export function registerHex({ bits }: Register, value: bigint | undefined): string {
  if (value === undefined) return 'x'.repeat(bits / 4);
  let text = '';
  for (let shift = 0n; shift < BigInt(bits); shift += 8n) {
    text += ((value >> shift) & 255n).toString(16).padStart(2, '0');
  }
  return text;
}

/** The value that stands in a packet; undefined where it is none. */
export function registerValue({ bits }: Register, hex: string): bigint | undefined {
  if (hex.length !== bits / 4 || !/^[0-9a-f]*$/i.test(hex)) return undefined;
  let value = 0n;
  for (let at = hex.length - 2; at >= 0; at -= 2)
    value = (value << 8n) | BigInt(Number.parseInt(hex.slice(at, at + 2), 16));
  return value;
}

/**
 * The description that gdb reads (`qXfer:features:read:target.xml`). It says that there is no operating system, unless the debugged file says
 * so: for Linux gdb makes steps by breakpoints, which other harts come to as well.
 */
export function targetDescription(): string {
  const features = (['cpu', 'fpu', 'virtual', 'csr'] as const).map((feature) => {
    const lines = REGISTERS.filter((register) => register.feature === feature).map(describe);
    const union = feature === 'fpu' ? FLOAT_TYPE : '';
    return `<feature name="org.gnu.gdb.riscv.${feature}">\n${union}${lines.join('')}</feature>\n`;
  });
  return `<?xml version="1.0"?>
<!DOCTYPE target SYSTEM "gdb-target.dtd">
<target version="1.0">
<architecture>riscv:rv64</architecture>
<osabi>none</osabi>
${features.join('')}</target>
`;
}

const FLOAT_TYPE = `<union id="riscv_double">
<field name="float" type="ieee_single"/>
<field name="double" type="ieee_double"/>
</union>
`;

function describe(register: Register): string {
  const { name, number, bits } = register;
  const pointer: Record<string, string> = {
    pc: 'code_ptr',
    ra: 'code_ptr',
    sp: 'data_ptr',
    gp: 'data_ptr',
    tp: 'data_ptr',
  };
  const type = floatIndex(register) === undefined ? (pointer[name] ?? 'int') : 'riscv_double';
  return `<reg name="${name}" bitsize="${bits}" type="${type}" regnum="${number}"/>\n`;
}

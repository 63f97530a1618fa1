/** The numbers of the control and status registers that test programs use, by name and in the order of the numbers. */

import { csrNames } from '../isa/csr-names.ts';

const USED = [
  ...(['fflags', 'frm', 'fcsr'] as const),
  ...(['sstatus', 'sie', 'stvec', 'scounteren', 'senvcfg'] as const),
  ...(['sscratch', 'sepc', 'scause', 'stval', 'sip', 'stimecmp', 'satp'] as const),
  ...(['mstatus', 'misa', 'medeleg', 'mideleg', 'mie', 'mtvec', 'mcounteren', 'menvcfg', 'mcountinhibit'] as const),
  ...(['mscratch', 'mepc', 'mcause', 'mtval', 'mip'] as const),
  ...(['pmpcfg0', 'pmpcfg2', 'pmpaddr0'] as const),
  ...(['mcycle', 'minstret', 'cycle', 'time', 'instret', 'mhartid'] as const),
];
type Used = (typeof USED)[number];

const numbers = new Map([...csrNames].map(([number, name]) => [name, number]));

export const CSR = Object.fromEntries(USED.map((name) => [name, numbers.get(name)])) as Readonly<Record<Used, number>>;

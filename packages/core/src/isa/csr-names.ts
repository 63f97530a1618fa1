/**
 * The names of the control and status registers, for printing only: that a name is here does not mean that the machine
 * has the register.
 *
 * Sources: unprivileged specification (chapters "Zicsr", "F", "V", "Zkr", "Zcmt", "Zicfiss"); privileged specification,
 * chapter "CSRs", with Smaia, Smstateen, Smcsrind, Smctr, Smcntrpmf, Smrnmi, Ssqosid and Sstc; debug specification,
 * chapter "Core Debug". The upper halves that only RV32 has are left out.
 */

const NAMES = new Map<number, string>();

/** Names the registers from `first` on; `-` leaves a gap. */
function at(first: number, names: string): void {
  names.split(' ').forEach((name, n) => {
    if (name !== '-') NAMES.set(first + n, name);
  });
}

/** Names a numbered series: `pmpaddr0` to `pmpaddr63`. */
function series(first: number, stem: string, from: number, to: number, step = 1): void {
  for (let n = from; n <= to; n += step) NAMES.set(first + n - from, `${stem}${n}`);
}

// Unprivileged.
at(0x001, 'fflags frm fcsr');
at(0x008, 'vstart vxsat vxrm');
at(0x00f, 'vcsr');
at(0x011, 'ssp');
at(0x015, 'seed');
at(0x017, 'jvt');
at(0xc00, 'cycle time instret');
series(0xc03, 'hpmcounter', 3, 31);
at(0xc20, 'vl vtype vlenb');

// Supervisor.
at(0x100, 'sstatus');
at(0x104, 'sie stvec scounteren');
at(0x10a, 'senvcfg');
series(0x10c, 'sstateen', 0, 3);
at(0x120, 'scountinhibit');
at(0x140, 'sscratch sepc scause stval sip');
at(0x14d, 'stimecmp sctrctl sctrstatus');
at(0x150, 'siselect sireg sireg2 sireg3 - sireg4 sireg5 sireg6');
at(0x15c, 'stopei - - sctrdepth');
at(0x180, 'satp srmcfg');
at(0x5a8, 'scontext');
at(0xda0, 'scountovf');
at(0xdb0, 'stopi');

// Hypervisor and virtual supervisor.
at(0x600, 'hstatus - hedeleg hideleg hie htimedelta hcounteren hgeie hvien hvictl henvcfg');
series(0x60c, 'hstateen', 0, 3);
at(0x643, 'htval hip hvip hviprio1 hviprio2');
at(0x64a, 'htinst');
at(0x680, 'hgatp');
at(0x6a8, 'hcontext');
at(0xe12, 'hgeip');
at(0x200, 'vsstatus');
at(0x204, 'vsie vstvec');
at(0x240, 'vsscratch vsepc vscause vstval vsip');
at(0x24d, 'vstimecmp vsctrctl');
at(0x250, 'vsiselect vsireg vsireg2 vsireg3 - vsireg4 vsireg5 vsireg6');
at(0x25c, 'vstopei');
at(0x280, 'vsatp');
at(0xeb0, 'vstopi');

// Machine.
at(0xf11, 'mvendorid marchid mimpid mhartid mconfigptr');
at(0x300, 'mstatus misa medeleg mideleg mie mtvec mcounteren - mvien mvip menvcfg');
series(0x30c, 'mstateen', 0, 3);
at(0x320, 'mcountinhibit mcyclecfg minstretcfg');
series(0x323, 'mhpmevent', 3, 31);
at(0x340, 'mscratch mepc mcause mtval mip');
at(0x34a, 'mtinst mtval2');
at(0x34e, 'mctrctl');
at(0x350, 'miselect mireg mireg2 mireg3 - mireg4 mireg5 mireg6');
at(0x35c, 'mtopei');
series(0x3a0, 'pmpcfg', 0, 14, 2);
series(0x3b0, 'pmpaddr', 0, 63);
at(0x740, 'mnscratch mnepc mncause - mnstatus');
at(0x747, 'mseccfg');
at(0xb00, 'mcycle - minstret');
series(0xb03, 'mhpmcounter', 3, 31);
at(0xfb0, 'mtopi');

// Debug and trace.
at(0x7a0, 'tselect tdata1 tdata2 tdata3 tinfo tcontrol');
at(0x7a8, 'mcontext');
at(0x7b0, 'dcsr dpc dscratch0 dscratch1');

export const csrNames: ReadonlyMap<number, string> = NAMES;

export function csrName(number: number): string {
  return NAMES.get(number) ?? `0x${number.toString(16)}`;
}

/**
 * Signals whose handlers the kernel has just set up: what it has left on the program's stack (the kernel's
 * `arch/riscv/kernel/signal.c`; `siginfo_t` and `ucontext_t` are the program's interface and do not change).
 *
 * ```text
 *   sp, a1 -> siginfo_t    128 bytes: si_signo, si_errno, si_code (32 bits each), at 16 what depends on the signal
 *       a2 -> ucontext_t   at 176: pc, ra, sp, ... the registers x0 to x31 with pc in place of x0, as they were
 * ```
 */

import { signalName } from './errno.ts';
import type { ReadMemory } from './syscall-arguments.ts';

export interface SignalInfo {
  readonly number: number;
  /** Who sent it, and how: `si_code`. */
  readonly code: number;
  /** The bytes of `siginfo_t` that depend on the signal. */
  readonly fields: {
    readonly first: number;
    readonly second: number;
    readonly third: number;
    readonly address: bigint;
  };
}

/** What a program goes on with. */
interface Registers {
  readonly pc: bigint;
  readonly sp: bigint;
  readonly a0: bigint;
  readonly a1: bigint;
  readonly a2: bigint;
}

export interface Delivery {
  /** In the order in which the kernel has set them up: the last one's handler runs first. */
  readonly signals: readonly SignalInfo[];
  /** Where the program was interrupted, and its a0 there. */
  readonly pc: bigint;
  readonly a0: bigint;
}

const INFO = 128;
const CONTEXT = 176;
const FRAME = CONTEXT + 8 * 13;
const MAX_SIGNAL = 64;

/** What has been delivered to a program that is about to go on with these registers; undefined where no handler begins. */
export function deliveredAt(registers: Registers, memory: ReadMemory): Delivery | undefined {
  const signals: SignalInfo[] = [];
  let now = registers;
  while (signals.length < MAX_SIGNAL) {
    const found = frameAt(now, memory);
    if (!found) break;
    signals.unshift(found.info);
    now = found.before;
  }
  return signals.length === 0 ? undefined : { signals, pc: now.pc, a0: now.a0 };
}

/** Where a handler that returns has been put in the way of, by its frame on the stack. */
export function interruptedAt(sp: bigint, memory: ReadMemory): bigint | undefined {
  const bytes = memory(sp + BigInt(INFO + CONTEXT), 8);
  return bytes.length < 8 ? undefined : new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
}

function frameAt(
  { sp, a0, a1, a2 }: Registers,
  memory: ReadMemory,
): { info: SignalInfo; before: Registers } | undefined {
  if (a1 !== sp || a2 !== sp + BigInt(INFO) || a0 < 1n || a0 > BigInt(MAX_SIGNAL)) return undefined;
  const bytes = memory(sp, INFO + FRAME);
  if (bytes.length < INFO + FRAME) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const number = view.getInt32(0, true);
  if (BigInt(number) !== a0) return undefined;
  const register = (n: number) => view.getBigUint64(INFO + CONTEXT + 8 * n, true);
  const fields = {
    first: view.getInt32(16, true),
    second: view.getInt32(20, true),
    third: view.getInt32(24, true),
    address: view.getBigUint64(16, true),
  };
  return {
    info: { number, code: view.getInt32(8, true), fields },
    before: { pc: register(0), sp: register(2), a0: register(10), a1: register(11), a2: register(12) },
  };
}

const SENT: Readonly<Record<number, string>> = {
  0: 'SI_USER',
  128: 'SI_KERNEL',
  [-1]: 'SI_QUEUE',
  [-2]: 'SI_TIMER',
  [-3]: 'SI_MESGQ',
  [-4]: 'SI_ASYNCIO',
  [-5]: 'SI_SIGIO',
  [-6]: 'SI_TKILL',
};
const BY_SIGNAL: Readonly<Record<string, readonly string[]>> = {
  SIGCHLD: ['', 'CLD_EXITED', 'CLD_KILLED', 'CLD_DUMPED', 'CLD_TRAPPED', 'CLD_STOPPED', 'CLD_CONTINUED'],
  SIGSEGV: ['', 'SEGV_MAPERR', 'SEGV_ACCERR'],
  SIGBUS: ['', 'BUS_ADRALN', 'BUS_ADRERR', 'BUS_OBJERR'],
  SIGILL: ['', 'ILL_ILLOPC', 'ILL_ILLOPN', 'ILL_ILLADR', 'ILL_ILLTRP', 'ILL_PRVOPC'],
  SIGFPE: ['', 'FPE_INTDIV', 'FPE_INTOVF', 'FPE_FLTDIV', 'FPE_FLTOVF', 'FPE_FLTUND', 'FPE_FLTRES', 'FPE_FLTINV'],
  SIGTRAP: ['', 'TRAP_BRKPT', 'TRAP_TRACE'],
};

/** `SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=12, si_uid=0, si_status=3}`. */
export function signalText({ number, code, fields }: SignalInfo): string {
  const name = signalName(number);
  const known = code > 0 ? BY_SIGNAL[name]?.[code] : undefined;
  const parts = [`si_signo=${name}`, `si_code=${known ?? SENT[code] ?? code}`];
  if (code === 0 || code === -1 || code === -6) parts.push(`si_pid=${fields.first}`, `si_uid=${fields.second >>> 0}`);
  else if (known && name === 'SIGCHLD') {
    const status = code === 1 ? `${fields.third}` : signalName(fields.third);
    parts.push(`si_pid=${fields.first}`, `si_uid=${fields.second >>> 0}`, `si_status=${status}`);
  } else if (known) parts.push(`si_addr=${fields.address === 0n ? 'NULL' : `0x${fields.address.toString(16)}`}`);
  return `${name} {${parts.join(', ')}}`;
}

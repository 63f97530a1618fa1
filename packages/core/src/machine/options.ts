/** What a machine is made from, and how a run of it ends. Plain data: it travels to workers and into saved states. */

import type { BlockBackend } from '../devices/virtio-block/backend.ts';
import type { NetBackend } from '../devices/virtio-net/backend.ts';
import { HINT_NAMES, type Hint, type HintName, type HintQuotas, MAX_QUOTA } from './hints.ts';
import { MAX_PAUSE, type PauseRule } from './schedule.ts';

/** What the harts start with. */
export type Boot =
  /**
   * A Linux `Image` (uncompressed) or ELF, entered in S-mode; SBI is the monitor's own. `flat`: a binary without any header that is
   * loaded, and entered, 2 MiB above the start of RAM.
   */
  | {
      readonly kind: 'linux';
      readonly kernel: Uint8Array;
      readonly flat?: boolean;
      readonly initrd?: Uint8Array;
      readonly append?: string;
    }
  /** An M-mode firmware at the start of RAM (OpenSBI's fw_dynamic or fw_jump), which finds kernel and initrd as on QEMU. */
  | {
      readonly kind: 'firmware';
      readonly firmware: Uint8Array;
      readonly kernel?: Uint8Array;
      readonly initrd?: Uint8Array;
      readonly append?: string;
    }
  /** A bare-metal ELF or flat binary, entered in M-mode. */
  | { readonly kind: 'bare'; readonly image: Uint8Array };

export interface DiskOptions {
  readonly backend: BlockBackend;
  /** At most 20 bytes, as virtio-blk's GET_ID gives it. */
  readonly serial?: string;
}

export interface MachineOptions {
  readonly boot: Boot;
  /** Bytes of RAM: a multiple of 4 KiB, 32 MiB to 3 GiB. */
  readonly memory: number;
  /** 1 to 8. */
  readonly harts: number;
  /** Steps of a full slice of the schedule. */
  readonly slice?: number;
  /**
   * Steps that make a nanosecond of guest time, 1 to 16; 1 unless given. Paced to real time a machine makes at most so many in a
   * nanosecond, since guest time never goes back.
   */
  readonly stepsPerNanosecond?: number;
  /** What `pause` costs and when it ends a slice; `DEFAULT_PAUSE` unless given. */
  readonly pause?: PauseRule;
  /** Everything random in the machine comes from here: 64 bits. */
  readonly seed: bigint;
  /** Wall-clock time at power-on that the RTC shows, in ns since 1970. */
  readonly epoch?: bigint;
  readonly disks?: readonly DiskOptions[];
  readonly net?: { readonly backend: NetBackend; readonly mac?: string };
  /** How often guest programs may have each hint act, up to 2^32 - 1; 0 unless given. */
  readonly hints?: Partial<HintQuotas>;
}

/** What a machine keeps of its options: all but the files that it was started from. */
export type Configuration = Omit<MachineOptions, 'boot'>;

/** Why a machine is over. */
export interface Exit {
  readonly kind: 'poweroff' | 'reboot' | 'fail' | 'tohost';
  /** 0 is success. */
  readonly code: number;
}

/** What was done to watched memory; `update` is both, by one instruction. */
export type WatchAccess = 'read' | 'write' | 'update';

/** Why `Machine.run` came back. */
export type Stop =
  /** The position or the number of steps asked for is reached. */
  | { readonly reason: 'steps' }
  /** `Machine.interrupt()` was called, or a callback asked for attention: at a slice boundary. */
  | { readonly reason: 'attention' }
  /** Every hart waits for an interrupt; `until` is the guest time (ns) of the next one that is known, if any. */
  | { readonly reason: 'idle'; readonly until: bigint | undefined }
  /** The host's data is late; run again when the promise has settled. */
  | { readonly reason: 'stalled'; readonly until: Promise<void> }
  /** A hart stands before the instruction of a breakpoint; `ids` are those that it has hit. The next run executes it. */
  | { readonly reason: 'breakpoint'; readonly hart: number; readonly address: bigint; readonly ids: readonly number[] }
  /**
   * Memory of watchpoints was accessed: the machine stands behind the instruction. `hart` did it, or a device, the firmware or an event
   * where there is none. `address` is where the first such access was, virtual for a watchpoint that is.
   */
  | {
      readonly reason: 'watchpoint';
      readonly hart: number | undefined;
      readonly address: bigint;
      readonly access: WatchAccess;
      readonly ids: readonly number[];
    }
  /** A program in U-mode is about to make a system call; `ids` are the interceptions that want to know. The next run makes it. */
  | { readonly reason: 'system-call'; readonly hart: number; readonly ids: readonly number[] }
  /** A program is about to begin or to end replay-only code `code`; `ids` are the interceptions that want to know. */
  | {
      readonly reason: 'replay-only';
      readonly hart: number;
      readonly phase: 'begin' | 'end';
      readonly code: bigint;
      readonly ids: readonly number[];
    }
  /** A guest program has executed a hint that acts; nothing runs until the next call. In a replay the log has the answer. */
  | { readonly reason: 'hint'; readonly hint: Hint }
  | { readonly reason: 'exit'; readonly exit: Exit };

/** Options of a machine, or calls on it, that cannot work. */
export class MachineError extends Error {
  readonly code = 'ERR_BRAID_MACHINE';
  constructor(message: string) {
    super(message);
    this.name = 'MachineError';
  }
}

export const MIN_MEMORY = 32 * 2 ** 20;
export const MAX_MEMORY = 3 * 2 ** 30;
export const MAX_HARTS = 8;
export const MAX_STEPS_PER_NANOSECOND = 16;

/** Throws `MachineError` for a configuration that no machine has. */
export function checkOptions(
  options: Pick<MachineOptions, 'memory' | 'harts' | 'slice' | 'stepsPerNanosecond' | 'pause' | 'seed' | 'hints'>,
): void {
  const { memory, harts, slice, stepsPerNanosecond, pause, seed, hints = {} } = options;
  if (!Number.isInteger(memory) || memory % 4096 !== 0 || memory < MIN_MEMORY || memory > MAX_MEMORY) {
    throw new MachineError(`memory of ${memory} bytes: give a multiple of 4 KiB from 32 MiB to 3 GiB`);
  }
  if (!Number.isInteger(harts) || harts < 1 || harts > MAX_HARTS) {
    throw new MachineError(`${harts} harts: give 1 to ${MAX_HARTS}`);
  }
  if (slice !== undefined && (!Number.isInteger(slice) || slice < 1 || slice > 2 ** 30)) {
    throw new MachineError(`a slice of ${slice} steps: give 1 to 2^30`);
  }
  if (
    stepsPerNanosecond !== undefined &&
    (!Number.isInteger(stepsPerNanosecond) || stepsPerNanosecond < 1 || stepsPerNanosecond > MAX_STEPS_PER_NANOSECOND)
  ) {
    throw new MachineError(`${stepsPerNanosecond} steps per nanosecond: give 1 to ${MAX_STEPS_PER_NANOSECOND}`);
  }
  for (const name of ['steps', 'spins', 'turn'] as const) {
    const value = pause?.[name] ?? 0;
    if (!Number.isInteger(value) || value < 0 || value > MAX_PAUSE[name]) {
      throw new MachineError(`a pause with ${name} of ${value}: give 0 to ${MAX_PAUSE[name]}`);
    }
  }
  if (seed < 0n || seed >= 1n << 64n) throw new MachineError('a seed has 64 bits');
  for (const [name, quota] of Object.entries(hints)) {
    if (!HINT_NAMES.includes(name as HintName)) throw new MachineError(`there is no hint named ${name}`);
    if (!Number.isInteger(quota) || quota < 0 || quota > MAX_QUOTA) {
      throw new MachineError(`${quota} hints named ${name}: give 0 to ${MAX_QUOTA}`);
    }
  }
}

/** Throws `MachineError` where a state is asked for that benchmarks' switches may have falsified. */
export function requireExact(engine: { readonly exact: boolean }): void {
  if (!engine.exact)
    throw new MachineError('techniques of the shadow tables are turned off: such a machine has no state to keep');
}

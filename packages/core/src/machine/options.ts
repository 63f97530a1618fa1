/** What a machine is made from, and how a run of it ends. Plain data: it travels to workers and into saved states. */

import { type Fields, integer, optional, record, refined, type Schema, wide } from '../check/schema.ts';
import type { BlockBackend } from '../devices/virtio-block/backend.ts';
import type { NetBackend } from '../devices/virtio-net/backend.ts';
import { type Hint, type HintQuotas, MAX_QUOTA } from './hints.ts';
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
      /** The kernel is a flat binary, whatever it looks like. */
      readonly flat?: boolean;
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
  /** `Machine.interrupt()` was called, at a slice boundary; or the run has used up its allowance (`Machine.account`), anywhere. */
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

const QUOTA: Schema<number | undefined> = optional(integer(0, MAX_QUOTA));

/** What the numbers of a configuration may be. */
export const CONFIGURATION: Fields<
  Required<Pick<MachineOptions, 'memory' | 'harts' | 'slice' | 'stepsPerNanosecond' | 'pause' | 'seed' | 'hints'>>
> = {
  memory: refined(
    integer(MIN_MEMORY, MAX_MEMORY),
    'a multiple of 4 KiB from 32 MiB to 3 GiB',
    (memory) => memory % 4096 === 0,
  ),
  harts: integer(1, MAX_HARTS),
  slice: integer(1, 2 ** 30),
  stepsPerNanosecond: integer(1, MAX_STEPS_PER_NANOSECOND),
  pause: record<PauseRule>({
    steps: integer(0, MAX_PAUSE.steps),
    spins: integer(0, MAX_PAUSE.spins),
    turn: integer(0, MAX_PAUSE.turn),
  }),
  seed: wide(0n, (1n << 64n) - 1n),
  hints: record<Partial<HintQuotas>>({ branch: QUOTA, result: QUOTA, done: QUOTA, take: QUOTA, mark: QUOTA }),
};

const { memory, harts, slice, stepsPerNanosecond, pause, seed, hints } = CONFIGURATION;
const CHECKED = record<Parameters<typeof checkOptions>[0]>({
  memory,
  harts,
  slice: optional(slice),
  stepsPerNanosecond: optional(stepsPerNanosecond),
  pause: optional(pause),
  seed,
  hints: optional(hints),
});

/** Throws `MachineError` for a configuration that no machine has. */
export function checkOptions(
  options: Pick<MachineOptions, 'memory' | 'harts' | 'slice' | 'stepsPerNanosecond' | 'pause' | 'seed' | 'hints'>,
): void {
  const { memory, harts, slice, stepsPerNanosecond, pause, seed, hints } = options;
  const given = { memory, harts, slice, stepsPerNanosecond, pause, seed, hints };
  const wrong = CHECKED.complaint(given, 'options');
  if (wrong !== undefined) throw new MachineError(wrong);
}

/** Throws `MachineError` where a state is asked for that benchmarks' switches may have falsified. */
export function requireExact(engine: { readonly exact: boolean }): void {
  if (!engine.exact)
    throw new MachineError('techniques of the shadow tables are turned off: such a machine has no state to keep');
}

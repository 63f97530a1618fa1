/** Options of a machine as callers give them, and the setup that the worker gets. */

import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import {
  bytes,
  callback,
  either,
  type Fields,
  flag,
  guestText,
  list,
  oneOf,
  optional,
  record,
  refined,
  type Schema,
  value,
  wide,
} from '@braid/core/check/schema.ts';
import { parseMac } from '@braid/core/devices/virtio-net/device.ts';
import type { HintQuotas } from '@braid/core/machine/hints.ts';
import { type Boot, CONFIGURATION } from '@braid/core/machine/options.ts';
import { COUNT, HOST_PATH, instance, requireValue, SEED } from './check.ts';
import { BraidError } from './errors.ts';
import { readWhole, unpack } from './files.ts';
import { Pool } from './pool/pool.ts';
import type { ConsoleDevice, ImageSource, Setup, TimeMode } from './pool/protocol.ts';

/** A file by its path, or its content. */
export type FileOption = string | Uint8Array;

/** Bytes, or a size such as `'512M'` (K, M, G: powers of 1024). */
export type SizeOption = string | number | bigint;

/**
 * A path (read and written), a path with how it is used, or the content. An array over shared memory shows what is written. An image
 * that looks like another format than a raw disk is refused, unless it is said to be `raw`.
 */
export type DiskOption =
  | FileOption
  | { readonly path: string; readonly readOnly?: boolean; readonly raw?: boolean }
  | { readonly bytes: Uint8Array; readonly readOnly?: boolean };

/** Who a fork is. Without options it is exactly its parent, and has the same future; its network card is unplugged. */
export interface ForkOptions {
  /** Where its random numbers come from after the fork. */
  readonly seed?: bigint | number;
  /** Address of its network card. */
  readonly mac?: string;
  /** Keeps its network card plugged in. */
  readonly connected?: boolean;
  /** Told to the guest through its agent, before anything else runs. */
  readonly hostname?: string;
  /** How its guest time goes; as its parent's without it. */
  readonly time?: TimeMode;
  /** It stops for good when it has made so many steps, those before the fork counted; its parent's limit without it. */
  readonly maxSteps?: bigint | number;
  /**
   * A name that no other fork has: goes to /run/braid-generation, and into the random numbers of the guest's kernel, from the first
   * one on that is drawn after the fork.
   */
  readonly generation?: string;
}

/** How a machine that leaves a replay differs from the one that was recorded. */
export interface DivertOptions {
  /** Where its random numbers come from. */
  readonly seed?: bigint | number;
  readonly time?: TimeMode;
  /** It stops for good when it has made so many steps, those of the recording counted. */
  readonly maxSteps?: bigint | number;
}

export interface AttachOptions {
  /** The pool that the machine is in; by default one of its own, which goes with the last of its forks. */
  readonly pool?: Pool;
  readonly disks?: readonly DiskOption[];
  /** How guest time goes while the guest is idle. `virtual` (the default): jumped over while somebody waits for the machine. */
  readonly time?: TimeMode;
  /** What the guest's clock shows at power-on, in ns since 1970. In wall time the host's clock, else 2026-01-01. */
  readonly epoch?: bigint | Date;
  /** The machine stops for good after so many steps. */
  readonly maxSteps?: bigint | number;
}

export interface RestoreOptions extends AttachOptions {
  /** Attaches disks that have been changed since the machine was saved, or of which that is not known: the guest may damage them. */
  readonly acceptChangedDisks?: boolean;
}

export interface CreateOptions extends AttachOptions {
  /** A Linux image or ELF, possibly packed with gzip. Without it, and without `bare`, Braid's own. */
  readonly kernel?: FileOption;
  /**
   * The kernel is a flat binary for S-mode, whatever it looks like: it goes 2 MiB above the start of RAM, or to the next multiple of
   * 2 MiB behind a firmware.
   */
  readonly flat?: boolean;
  /** Without it and without `kernel`, Braid's own. */
  readonly initrd?: FileOption;
  /** The kernel's command line; for Braid's own kernel, what is added to it. */
  readonly append?: string;
  /** An M-mode firmware, which starts the kernel. */
  readonly firmware?: FileOption;
  /** An ELF or flat binary for M-mode, instead of firmware and kernel. */
  readonly bare?: FileOption;
  /** By default 256 MiB. */
  readonly memory?: SizeOption;
  /** 1 to 8; by default 1. */
  readonly harts?: number;
  /** Where everything random in the machine comes from: 64 bits, by default drawn by the host. */
  readonly seed?: bigint | number;
  /** Steps of a slice of the schedule. */
  readonly slice?: number;
  /** Which hints guest programs may give, and how often: see docs/hints.md. None by default. */
  readonly hints?: Partial<HintQuotas>;
}

export const TIME: Schema<TimeMode> = oneOf('virtual', 'wall');
export const POOL: Schema<Pool> = instance('a Pool', Pool);

const MAC: Schema<string> = value('six bytes such as 52:54:00:12:34:57, no group address', (given) => {
  try {
    return typeof given === 'string' && parseMac(given).length > 0;
  } catch {
    return false;
  }
});

/** What a host may be called: as the guest's kernel has it. */
const HOST_NAME: Schema<string> = refined(
  guestText,
  'a string of 1 to 64 bytes',
  (name) => name !== '' && Buffer.byteLength(name) <= 64,
);

export const FORK_OPTIONS: Schema<ForkOptions> = record<ForkOptions>({
  seed: optional(SEED),
  mac: optional(MAC),
  connected: optional(flag),
  hostname: optional(HOST_NAME),
  time: optional(TIME),
  maxSteps: optional(COUNT),
  generation: optional(guestText),
});

/** The same for all forks, or for each by its index. */
export const FORK_CHOICE: Schema<ForkOptions | ((index: number) => ForkOptions)> = either(FORK_OPTIONS, callback);

export const DIVERT_OPTIONS: Schema<DivertOptions> = record<DivertOptions>({
  seed: optional(SEED),
  time: optional(TIME),
  maxSteps: optional(COUNT),
});

const DISK: Schema<DiskOption> = either(
  HOST_PATH,
  bytes,
  record<{ readonly path: string; readonly readOnly?: boolean; readonly raw?: boolean }>({
    path: HOST_PATH,
    readOnly: optional(flag),
    raw: optional(flag),
  }),
  record<{ readonly bytes: Uint8Array; readonly readOnly?: boolean }>({ bytes, readOnly: optional(flag) }),
);

const ATTACHMENTS: Fields<AttachOptions> = {
  pool: optional(POOL),
  disks: optional(list(DISK)),
  time: optional(TIME),
  epoch: optional(
    either(
      wide(0n, (1n << 63n) - 1n),
      value<Date>('a Date from 1970 to 2261', (given) => {
        const ms = given instanceof Date ? given.getTime() : -1;
        return ms >= 0 && ms * 1e6 < 2 ** 63;
      }),
    ),
  ),
  maxSteps: optional(COUNT),
};

export const RESTORE_OPTIONS: Schema<RestoreOptions> = record<RestoreOptions>({
  ...ATTACHMENTS,
  acceptChangedDisks: optional(flag),
});

const FILE: Schema<FileOption> = either(HOST_PATH, bytes);
const MEMORY: Schema<SizeOption> = value(
  'bytes, or text such as "512M": a multiple of 4 KiB from 32 MiB to 3 GiB',
  (given) => {
    const size = typeof given === 'string' || typeof given === 'bigint' ? sizeOf(given) : given;
    return CONFIGURATION.memory.complaint(size, 'memory') === undefined;
  },
);

export const CREATE_OPTIONS: Schema<CreateOptions> = record<CreateOptions>({
  ...ATTACHMENTS,
  kernel: optional(FILE),
  flat: optional(flag),
  initrd: optional(FILE),
  append: optional(guestText),
  firmware: optional(FILE),
  bare: optional(FILE),
  memory: optional(MEMORY),
  harts: optional(CONFIGURATION.harts),
  seed: optional(SEED),
  slice: optional(CONFIGURATION.slice),
  hints: optional(CONFIGURATION.hints),
});

/** Bytes of a file, where the machine's memory is smaller: an ELF may have debug information that is not loaded. */
const LARGEST_FILE = 2 ** 30;
/** The same for what gzip packed. */
const LARGEST_UNPACKED = 2 ** 28;
const DEFAULT_MEMORY = 256 * 2 ** 20;
/** 2026-01-01, where virtual time begins. */
const VIRTUAL_EPOCH = 1_767_225_600_000_000_000n;
const GUEST = new URL('../../../guest/prebuilt/', import.meta.url);
/**
 * `quiet` comes before what it is to silence. A kernel that panics asks for a reset at once. Three levels of page tables
 * instead of four make 6 % less work of starting processes.
 */
const DEFAULT_APPEND = 'quiet earlycon=sbi console=ttyS0 panic=-1 no4lvl';

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** A size in bytes; not a number for text that says none. */
function sizeOf(size: SizeOption): number {
  if (typeof size !== 'string') return Number(size);
  const match = /^(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?$/i.exec(size.trim());
  return match ? Number(match[1]) * UNITS[match[2]!.toUpperCase()]! : Number.NaN;
}

export async function setupOf(options: CreateOptions): Promise<Setup> {
  requireValue(CREATE_OPTIONS, options, 'options');
  const memory = sizeOf(options.memory ?? DEFAULT_MEMORY);
  const harts = options.harts ?? 1;
  const seed = options.seed === undefined ? randomBytes(8).readBigUInt64LE() : BigInt(options.seed);
  const slice = options.slice === undefined ? {} : { slice: options.slice };
  const hints = options.hints === undefined ? {} : { hints: options.hints };
  const attached = attachmentsOf(options);
  const { boot, console } = await bootOf(options, memory);
  return { boot, console, memory, harts, seed, ...slice, ...hints, ...attached };
}

export function attachmentsOf(options: AttachOptions): Pick<Setup, 'disks' | 'time' | 'epoch' | 'maxSteps'> {
  const time = options.time ?? 'virtual';
  const now = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));
  const epoch =
    options.epoch === undefined
      ? time === 'wall'
        ? now()
        : VIRTUAL_EPOCH
      : typeof options.epoch === 'bigint'
        ? options.epoch
        : BigInt(options.epoch.getTime()) * 1_000_000n;
  const maxSteps = options.maxSteps === undefined ? {} : { maxSteps: BigInt(options.maxSteps) };
  return { disks: (options.disks ?? []).map(diskOf), time, epoch, ...maxSteps };
}

function diskOf(disk: DiskOption): ImageSource {
  if (typeof disk === 'string') return { path: disk, readOnly: false, raw: false };
  if (disk instanceof Uint8Array) return { bytes: disk, readOnly: false };
  const { readOnly = false } = disk;
  return 'path' in disk ? { path: disk.path, readOnly, raw: disk.raw ?? false } : { bytes: disk.bytes, readOnly };
}

async function bootOf(options: CreateOptions, memory: number): Promise<{ boot: Boot; console: ConsoleDevice }> {
  const { bare, firmware, kernel, initrd, append, flat } = options;
  const file = async (what: string, source: FileOption) =>
    typeof source === 'string' ? await readWhole(what, source, Math.max(memory, LARGEST_FILE)) : source;
  const packed = async (what: string, source: FileOption) => {
    const name = typeof source === 'string' ? `${what} ${source}` : what;
    return unpack(name, await file(what, source), Math.max(memory, LARGEST_UNPACKED));
  };
  if (flat && bare === undefined && kernel === undefined)
    throw new BraidError('ERR_BRAID_OPTION', 'flat says how a kernel is read; give the kernel, or leave flat out');
  if (bare !== undefined) {
    const others = { firmware, kernel, flat: flat || undefined, initrd, append };
    const other = Object.entries(others).find(([, value]) => value !== undefined);
    if (other) throw new BraidError('ERR_BRAID_OPTION', `a bare program has no ${other[0]}; give one or the other`);
    return { boot: { kind: 'bare', image: await file('program', bare) }, console: 'serial' };
  }
  const line = append === undefined ? {} : { append };
  if (firmware !== undefined) {
    const [firmwareBytes, kernelBytes, initrdBytes] = await Promise.all([
      file('firmware', firmware),
      kernel === undefined ? undefined : packed('kernel', kernel),
      initrd === undefined ? undefined : file('initial RAM disk', initrd),
    ]);
    const boot: Boot = {
      kind: 'firmware',
      firmware: firmwareBytes,
      ...(kernelBytes ? { kernel: kernelBytes } : {}),
      ...(flat ? { flat } : {}),
      ...(initrdBytes ? { initrd: initrdBytes } : {}),
      ...line,
    };
    return { boot, console: consoleOf(append) };
  }
  if (kernel !== undefined) {
    const [kernelBytes, initrdBytes] = await Promise.all([
      packed('kernel', kernel),
      initrd === undefined ? undefined : file('initial RAM disk', initrd),
    ]);
    const boot: Boot = {
      kind: 'linux',
      kernel: kernelBytes,
      ...(flat ? { flat } : {}),
      ...(initrdBytes ? { initrd: initrdBytes } : {}),
      ...line,
    };
    return { boot, console: consoleOf(append) };
  }
  // Unpacked here, as the guest would take as long for it as for all the rest of its start.
  const guest = (name: string) => packed(name, fileURLToPath(new URL(name, GUEST)));
  const [kernelBytes, initrdBytes] = await Promise.all([
    guest('Image.gz'),
    initrd === undefined ? guest('initramfs.cpio.gz') : file('initial RAM disk', initrd),
  ]);
  const full = append === undefined ? DEFAULT_APPEND : `${DEFAULT_APPEND} ${append}`;
  return { boot: { kind: 'linux', kernel: kernelBytes, initrd: initrdBytes, append: full }, console: consoleOf(full) };
}

/** Where the guest's main console is, by the last `console=` of its command line. */
function consoleOf(append: string | undefined): ConsoleDevice {
  const last = append?.split(/\s+/).findLast((word) => word.startsWith('console='));
  return last?.startsWith('console=hvc') ? 'virtio' : 'serial';
}

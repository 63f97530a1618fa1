/**
 * What the main thread and the worker of a machine say to each other.
 *
 * Messages travel in batches: what the main thread asks for in one turn of its event loop arrives together, so that a machine
 * that stands still gets it all at one position. Each call is answered once, by `result` or `error`.
 */

import type { ExecExit } from '@braid/core/agent/client.ts';
import type { Position } from '@braid/core/machine/log.ts';
import type { Boot, Exit } from '@braid/core/machine/options.ts';
import type { ErrorRecord } from './errors.ts';

/** How guest time goes while the guest is idle. */
export type TimeMode = 'virtual' | 'wall';

/** A disk by its file, or by its content. */
export type DiskSource =
  | { readonly path: string; readonly readOnly: boolean }
  | { readonly bytes: Uint8Array; readonly readOnly: boolean };

/** Which device the guest's main console is, and so where typed input goes. */
export type ConsoleDevice = 'serial' | 'virtio';

export interface Setup {
  readonly boot?: Boot;
  /** Instead of `boot`: a saved machine. */
  readonly state?: unknown;
  readonly memory: number;
  readonly harts: number;
  readonly slice?: number;
  readonly seed: bigint;
  readonly epoch: bigint;
  readonly time: TimeMode;
  readonly maxSteps?: bigint;
  readonly console: ConsoleDevice;
  readonly disks: readonly DiskSource[];
}

/** What is known of a machine once it is made. */
export interface Made {
  readonly seed: bigint;
  readonly memory: number;
  readonly harts: number;
  readonly console: ConsoleDevice;
  readonly hasSignature: boolean;
}

export interface Spawn {
  readonly argv: readonly string[];
  readonly env?: readonly string[];
  readonly cwd?: string;
  readonly input?: Uint8Array | 'stream';
  readonly terminal?: { readonly rows: number; readonly cols: number };
}

export type Goal =
  /** So many steps of all harts together, since power-on. */
  | { readonly steps: bigint }
  /** Console output from now on. */
  | { readonly pattern: string | RegExp }
  | { readonly position: Position };

/** Calls, by name: arguments and result. */
export interface Calls {
  create: [Setup, Made];
  /** Waits until the guest's agent answers. */
  boot: [Record<never, never>, undefined];
  /** Lets the machine run while nobody waits for it. */
  run: [Record<never, never>, undefined];
  pause: [Record<never, never>, Position];
  step: [{ readonly steps: bigint }, Position];
  runUntil: [Goal, Position];
  spawn: [Spawn, ExecExit & { readonly steps: bigint }];
  readFile: [{ readonly path: string; readonly limit?: number }, Uint8Array];
  writeFile: [{ readonly path: string; readonly bytes: Uint8Array }, undefined];
  /** Asks the agent to power the guest off, and waits until it is. */
  shutdown: [{ readonly mode: 'powerdown' | 'reboot' | 'halt' }, Exit];
  /**
   * Waits for the end of the machine. `live`: input may still come from outside, so a guest that only waits for it is no halt.
   * `passive`: idle gaps are not jumped over meanwhile.
   */
  wait: [{ readonly live?: boolean; readonly passive?: boolean }, Exit];
  save: [Record<never, never>, unknown];
  stateHash: [Record<never, never>, string];
  stats: [Record<never, never>, Stats];
  signature: [Record<never, never>, Uint8Array];
  dispose: [Record<never, never>, undefined];
}

export type CallName = keyof Calls;

/** To the worker. */
export type Request =
  | {
      readonly [K in CallName]: {
        readonly type: 'call';
        readonly id: number;
        readonly name: K;
        readonly args: Calls[K][0];
      };
    }[CallName]
  /** The caller of `id` does not wait any longer. */
  | { readonly type: 'cancel'; readonly id: number }
  | { readonly type: 'console'; readonly bytes: Uint8Array; readonly reply: number }
  /** Nobody will type any more. */
  | { readonly type: 'input-end' }
  | { readonly type: 'resize'; readonly columns: number; readonly rows: number }
  /** So many bytes of output have reached their consumer. */
  | { readonly type: 'taken'; readonly bytes: number }
  | { readonly type: 'input'; readonly id: number; readonly bytes: Uint8Array | undefined; readonly reply: number }
  | { readonly type: 'signal'; readonly id: number; readonly signal: number }
  | { readonly type: 'terminal'; readonly id: number; readonly rows: number; readonly cols: number };

/** From the worker. */
export type Report =
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: ErrorRecord }
  | { readonly type: 'console'; readonly bytes: Uint8Array }
  | { readonly type: 'output'; readonly id: number; readonly stream: 'stdout' | 'stderr'; readonly bytes: Uint8Array }
  | { readonly type: 'exit'; readonly exit: Exit }
  | { readonly type: 'panic'; readonly message: string }
  | { readonly type: 'halt' };

interface HartStats {
  readonly steps: bigint;
  readonly instructions: bigint;
}

export interface Stats {
  /** Retirements and traps, of all harts. */
  readonly steps: bigint;
  readonly instructions: bigint;
  /** Time that the engine ran. */
  readonly hostSeconds: number;
  readonly guestSeconds: number;
  readonly perHart: readonly HartStats[];
  readonly position: Position;
  readonly exit: Exit | undefined;
  /** What a kernel that panicked said. */
  readonly panic: string | undefined;
  readonly seed: bigint;
}

/** Output under way to a consumer before the machine waits for it. */
export const OUTPUT_AHEAD = 1 << 20;

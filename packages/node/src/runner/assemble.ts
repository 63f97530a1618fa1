/** A machine made of what `create` brings: files opened, a new machine started, or a saved one restored. */

import type { ExecHandlers } from '@braid/core/agent/client.ts';
import { type ForkPoint, freeForkPoint, machineFrom } from '@braid/core/branch/fork-point.ts';
import { BranchPath } from '@braid/core/branch/path.ts';
import { checkReader, type UartReader } from '@braid/core/devices/uart/device.ts';
import { type BlockBackend, MemoryBackend } from '@braid/core/devices/virtio-block/backend.ts';
import { FrameBlocks } from '@braid/core/disk/frame-blocks.ts';
import { OverlayBackend } from '@braid/core/disk/overlay.ts';
import type { Engine } from '@braid/core/engine/engine.ts';
import { Machine, type Outputs } from '@braid/core/machine/machine.ts';
import type { DiskOptions } from '@braid/core/machine/options.ts';
import { restoreMachine } from '@braid/core/machine/save.ts';
import { RecordedDisk } from '@braid/core/timeline/recorded-disk.ts';
import { FileBackend } from '../disk/file-backend.ts';
import { type DiskStamp, requireSame, restoreStamps } from '../disk/stamp.ts';
import { BraidError } from '../errors.ts';
import type { ConsoleDevice, DiskSource, HostState, Setup, Way } from '../pool/protocol.ts';
import { openRecording } from '../replay/recording-file.ts';
import { PACED_STEPS_PER_NANOSECOND } from './pace.ts';

export const MAIN_PORT = 0;

/** What a disk is read from, and has to be closed. */
export interface DiskFile {
  readonly path: string;
  /** Closes it; a lock that somebody else is to go on with. */
  handOver(): string | undefined;
  close(): string | undefined;
}

export interface Assembled {
  readonly machine: Machine;
  readonly console: ConsoleDevice;
  /** To be closed when the machine is disposed of. */
  readonly files: readonly DiskFile[];
  /** What a machine that is not new was last told about idle gaps. */
  readonly skipIdle: boolean | undefined;
  /** The disks, as a clone of the machine finds them in any thread. */
  readonly disks: readonly DiskSource[];
  /** Of a machine that was saved in wall time: see `WallTime.epoch`. */
  readonly wallEpoch?: bigint | undefined;
}

/** A new machine, or one from its saved state. */
export function assemble(engine: Engine, setup: Setup, outputs: Outputs): Assembled {
  return withDisks(setup.disks.map(shared), {}, (bases, files, sources) => {
    const disks = bases.map(({ backend }) => {
      if (backend.readOnly) return { backend };
      const blocks = new FrameBlocks(engine.pool, backend.size);
      return { backend: new OverlayBackend(backend, blocks, journalOf(backend)) };
    });
    const { memory, harts, seed, epoch } = setup;
    if (setup.state !== undefined) {
      const saved = checkSaved(setup.state);
      const machine = restoreMachine(engine, saved.machine, { disks, epoch }, outputs);
      try {
        if (!setup.acceptChangedDisks)
          for (const [n, disk] of disks.entries()) requireSame(saved.disks[n], disk.backend, n);
      } catch (error) {
        machine.free();
        throw error;
      }
      const { wallEpoch } = saved;
      if (saved.reader) machine.platform.uart.reader = saved.reader;
      return { machine, console: saved.console, files, skipIdle: machine.skipIdle, disks: sources, wallEpoch };
    }
    const slice = setup.slice === undefined ? {} : { slice: setup.slice };
    const hints = setup.hints === undefined ? {} : { hints: setup.hints };
    const stepsPerNanosecond = setup.time === 'wall' ? PACED_STEPS_PER_NANOSECOND : 1;
    const options = { boot: setup.boot!, memory, harts, seed, epoch, stepsPerNanosecond, disks, ...slice, ...hints };
    const machine = new Machine(engine, options, outputs);
    // The files are in the machine's memory now.
    options.boot = { kind: 'bare', image: new Uint8Array(0) };
    machine.watchHostInterface();
    if (setup.console === 'virtio') machine.input({ kind: 'port-open', port: MAIN_PORT, open: true });
    return { machine, console: setup.console, files, skipIdle: undefined, disks: sources };
  });
}

const journalOf = (backend: BlockBackend) => (backend instanceof FileBackend ? { journal: backend } : {});

/** A machine from a fork point, which is used up. A clone only reads the files of its disks; the original has their locks. */
export function reassemble(
  engine: Engine,
  setup: HostState['setup'],
  point: ForkPoint,
  outputs: Outputs,
  options: {
    readonly clone: boolean;
    readonly locks: readonly (string | undefined)[];
    readonly handlersOf: (key: string) => ExecHandlers | undefined;
  },
): Assembled {
  const { clone, locks, handlersOf } = options;
  try {
    return withDisks(setup.disks, { readOnly: clone, locks }, (disks, files, sources) => {
      const attachments = { disks, epoch: setup.epoch };
      const machine = machineFrom(engine, point, attachments, outputs, {
        handlersOf,
        journalOf: (n) => (clone ? undefined : journalOf(disks[n]!.backend).journal),
      });
      return { machine, console: setup.console, files, skipIdle: machine.skipIdle, disks: sources };
    });
  } catch (error) {
    if (error instanceof BraidError) freeForkPoint(engine.pool, point);
    throw error;
  }
}

/** A clone that goes one way of a branch. It only reads the files of its disks. */
export function assemblePath(
  engine: Engine,
  setup: HostState['setup'],
  point: ForkPoint,
  { decision, activation, outcome, limit, makeCalls, bytes }: Way,
): { readonly path: BranchPath; readonly files: readonly DiskFile[] } {
  const pages = new Set(bytes);
  const byBytes = (page: bigint) => pages.has(page);
  return withDisks(setup.disks, { readOnly: true }, (disks, files) => {
    const options = { attachments: { disks, epoch: setup.epoch }, limit, makeCalls, byBytes };
    return { path: new BranchPath(engine, point, decision, activation, outcome, options), files };
  });
}

/** Opens the disks; those that have been opened are closed if something goes wrong. */
function withDisks<T>(
  sources: readonly DiskSource[],
  { readOnly = false, locks = [] }: { readonly readOnly?: boolean; readonly locks?: readonly (string | undefined)[] },
  use: (disks: DiskOptions[], files: DiskFile[], sources: readonly DiskSource[]) => T,
): T {
  const files: DiskFile[] = [];
  try {
    const disks = sources.map((source, n) => ({
      backend: openDisk(readOnly ? { ...source, readOnly } : source, files, locks[n]),
    }));
    return use(disks, files, sources);
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
}

/** A disk that other threads find as well: content goes to shared memory. */
function shared(source: DiskSource): DiskSource {
  if (!('bytes' in source) || source.bytes.buffer instanceof SharedArrayBuffer) return source;
  const bytes = new Uint8Array(new SharedArrayBuffer(source.bytes.length));
  bytes.set(source.bytes);
  return { ...source, bytes };
}

function openDisk(source: DiskSource, files: DiskFile[], lock: string | undefined): BlockBackend {
  if ('bytes' in source) {
    const { length } = source.bytes;
    if (length === 0 || length % 512 !== 0) {
      throw new BraidError('ERR_BRAID_OPTION', `a disk of ${length} bytes: give a multiple of 512`);
    }
    return new MemoryBackend(source.bytes, source.readOnly);
  }
  if ('recording' in source) return openRecordedDisk(source, files);
  const file = new FileBackend(source.path, source.readOnly, {
    raw: source.raw,
    ...(lock === undefined ? {} : { lock }),
  });
  files.push(file);
  return file;
}

function openRecordedDisk(
  { recording: path, disk, keyframe }: Extract<DiskSource, { recording: string }>,
  files: DiskFile[],
): BlockBackend {
  const { recording, close } = openRecording(path);
  const end = () => {
    close();
    return undefined;
  };
  files.push({ path, close: end, handOver: end });
  const backend = new RecordedDisk(recording.disks, disk, recording.info.disks[disk]!, (ref, into) =>
    recording.block(ref, into),
  );
  backend.keyframe = keyframe;
  return backend;
}

/** A record of `save`, as far as it is ours; the rest is checked by the core. */
function checkSaved(value: unknown): {
  machine: unknown;
  disks: readonly DiskStamp[];
  console: ConsoleDevice;
  wallEpoch: bigint | undefined;
  reader: UartReader | undefined;
} {
  const record = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const { version, console, machine, wallEpoch } = record;
  const reader = record.reader === undefined ? undefined : checkReader(record.reader, 'saved machine: reader');
  if (version !== 1 && version !== 2)
    throw new BraidError('ERR_BRAID_STATE', 'this is no saved machine of this version of Braid');
  if (console !== 'serial' && console !== 'virtio')
    throw new BraidError('ERR_BRAID_STATE', 'saved machine: console is unknown');
  if (wallEpoch !== undefined && (typeof wallEpoch !== 'bigint' || BigInt.asUintN(63, wallEpoch) !== wallEpoch))
    throw new BraidError('ERR_BRAID_STATE', 'saved machine: wallEpoch is no time from 1970 to 2261');
  // Version 1 knew nothing of what disks hold.
  return { machine, disks: version === 1 ? [] : restoreStamps(record.disks), console, wallEpoch, reader };
}

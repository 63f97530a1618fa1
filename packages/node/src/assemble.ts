/** A machine made of what `create` brings: files opened, a new machine started, or a saved one restored. */

import { MemoryBackend } from '@braid/core/devices/virtio-block/backend.ts';
import type { Engine } from '@braid/core/engine/engine.ts';
import { Machine, type Outputs } from '@braid/core/machine/machine.ts';
import type { DiskOptions } from '@braid/core/machine/options.ts';
import { restoreMachine } from '@braid/core/machine/save.ts';
import { BraidError } from './errors.ts';
import { FileBackend } from './files.ts';
import { PACED_STEPS_PER_NANOSECOND } from './pace.ts';
import type { ConsoleDevice, Setup } from './protocol.ts';

export const MAIN_PORT = 0;

export interface Assembled {
  readonly machine: Machine;
  readonly consoleDevice: ConsoleDevice;
  /** To be closed when the machine is disposed of. */
  readonly files: readonly FileBackend[];
  /** What a restored machine was last told about idle gaps. */
  readonly skipIdle: boolean | undefined;
}

export function assemble(engine: Engine, setup: Setup, outputs: Outputs): Assembled {
  const files: FileBackend[] = [];
  try {
    const disks: DiskOptions[] = setup.disks.map((source) => ({ backend: openDisk(source, files) }));
    const { memory, harts, seed, epoch } = setup;
    if (setup.state !== undefined) {
      const saved = checkSaved(setup.state);
      const machine = restoreMachine(engine, saved.machine, { disks, epoch }, outputs);
      return { machine, consoleDevice: saved.console, files, skipIdle: machine.skipIdle };
    }
    const slice = setup.slice === undefined ? {} : { slice: setup.slice };
    const stepsPerNanosecond = setup.time === 'wall' ? PACED_STEPS_PER_NANOSECOND : 1;
    const options = { boot: setup.boot!, memory, harts, seed, epoch, stepsPerNanosecond, disks, ...slice };
    const machine = new Machine(engine, options, outputs);
    // The files are in the machine's memory now.
    options.boot = { kind: 'bare', image: new Uint8Array(0) };
    machine.watchHostInterface();
    if (setup.console === 'virtio') machine.input({ kind: 'port-open', port: MAIN_PORT, open: true });
    return { machine, consoleDevice: setup.console, files, skipIdle: undefined };
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
}

function openDisk(source: Setup['disks'][number], files: FileBackend[]) {
  if ('bytes' in source) {
    const { length } = source.bytes;
    if (length === 0 || length % 512 !== 0) {
      throw new BraidError('ERR_BRAID_OPTION', `a disk of ${length} bytes: give a multiple of 512`);
    }
    return new MemoryBackend(source.bytes, source.readOnly);
  }
  const file = new FileBackend(source.path, source.readOnly);
  files.push(file);
  return file;
}

/** A record of `save`, as far as it is ours; the rest is checked by the core. */
function checkSaved(value: unknown): { machine: unknown; console: ConsoleDevice } {
  const record = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const { version, console, machine } = record;
  if (version !== 1) throw new BraidError('ERR_BRAID_STATE', 'this is no saved machine of this version of Braid');
  if (console !== 'serial' && console !== 'virtio')
    throw new BraidError('ERR_BRAID_STATE', 'saved machine: console is unknown');
  return { machine, console };
}
